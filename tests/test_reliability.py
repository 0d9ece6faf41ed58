"""The reliability run finds what a broken store loses, and runs on one that is not broken."""

from __future__ import annotations

import contextlib
import random
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from beaker import backends
from beaker.caching.store_manager import StoreNamespaceManager
from beaker.storage.memcached import MemcachedStore
from beaker.storage.memory import MemoryStore
from benchmarks.reliability import page
from benchmarks.reliability.actor import Actor, Door, content
from benchmarks.reliability.damage import damage, spoiled
from benchmarks.reliability.faults import ALL, SCENARIOS, run_scenario
from benchmarks.reliability.oracle import Fault, History, Write
from benchmarks.reliability.place import Place
from benchmarks.reliability.soak import growing
from tests.servers import Server

SECRET = "tests-only-thirty-two-bytes-of-nothing-0"


class Broken(MemoryStore):
    """Right until it is told to be ``wrong``: it then loses, swaps or revives records, and says all is well."""

    wrong: ClassVar[str] = ""

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        if self.wrong == "lost" and self.get(namespace, key) is not None:
            return
        super().set(namespace, key, data, ttl=ttl)

    def get(self, namespace: str, key: str) -> bytes | None:
        if self.wrong == "gone":
            return None
        return super().get(namespace, key)

    def replace(self, namespace: str, key: str, data: bytes, version: Any, *, ttl: float | None) -> Any:
        if self.wrong == "resurrected":
            return True
        return super().replace(namespace, key, data, version, ttl=ttl)

    def remove(self, namespace: str, key: str, version: Any) -> bool:
        return self.wrong == "resurrected" or super().remove(namespace, key, version)


class BrokenManager(StoreNamespaceManager):
    """Each test has a store of its own, in ``store``."""

    store_in_use: ClassVar[MemoryStore]

    def __init__(self, namespace: str, **options: Any) -> None:
        super().__init__(namespace, self.store_in_use, **options)


@pytest.fixture
def history() -> History:
    return History()


@pytest.fixture
def actor(history: History, monkeypatch: pytest.MonkeyPatch) -> Actor:
    """An actor on a store that can be broken; what it reports is in ``history``."""
    backends.register_backend("broken", BrokenManager)
    monkeypatch.setattr(BrokenManager, "store_in_use", Broken(), raising=False)
    monkeypatch.setattr(Broken, "wrong", "")
    options = {"type": "broken"}
    made = Actor("w0", "w0.0", Door({**options, "secret": SECRET}, options), history.add, {})
    made.prepare()
    return made


def test_a_store_that_keeps_everything_is_sound(actor: Actor, history: History) -> None:
    """Several hundred operations of every kind: no finding."""
    for _ in range(300):
        actor.step()
    verdict = history.judge()
    assert verdict.sound(), verdict
    assert verdict.acknowledged > 150
    assert not verdict.evidence


def test_a_lost_write_is_found(actor: Actor, history: History) -> None:
    """A store that acknowledges a put and keeps the older value."""
    actor.write_cache("k")
    Broken.wrong = "lost"
    actor.write_cache("k")
    actor.read_cache("k")
    verdict = history.judge()
    assert (verdict.lost, verdict.foreign) == (1, 0)
    assert verdict.evidence == ["cache k value held 3, which is older than the last"]


def test_a_value_that_is_gone_is_lost_unless_a_fault_excuses_it(actor: Actor, history: History) -> None:
    """The same absence counts as forgotten where the store was restarted in between and may forget."""
    actor.write_cache("k")
    Broken.wrong = "gone"
    actor.read_cache("k")
    assert history.judge().lost == 1
    written = history.writes["cache k value"][3]
    history.faults.append(Fault("earlier", 0.0, written.begun - 1, forgets=True))
    history.faults.append(Fault("elsewhere", written.begun, written.begun, forgets=True, only="session "))
    assert history.judge().lost == 1
    history.faults.append(Fault("restart", written.begun, written.begun, forgets=True))
    assert (history.judge().lost, history.judge().forgotten) == (0, 1)


def test_a_foreign_value_is_found(actor: Actor, history: History) -> None:
    """A cookie that opens the session of another user."""
    actor.login()
    actor.login()
    (ann, _), (_, other) = actor.own.items()
    actor.read_session(ann, other, "value")
    verdict = history.judge()
    assert verdict.foreign == 1
    assert "held a value of session w0.0-1" in verdict.evidence[0]


def test_a_session_that_comes_back_is_found(actor: Actor, history: History) -> None:
    """A store that acknowledges the end of a session and keeps it."""
    actor.login()
    Broken.wrong = "resurrected"
    actor.logout(next(iter(actor.own)))
    verdict = history.judge()
    assert verdict.lost == 1
    assert verdict.evidence[0].endswith("which came back after its end")


def written(register: str, number: int, begun: float, ended: float | None, outcome: str = "") -> list[list[Any]]:
    begin: list[Any] = ["begin", "w0", register, number, begun, False]
    return [begin, *([["end", register, number, ended, outcome, ""]] if ended is not None else [])]


@pytest.mark.parametrize(
    ("second", "read", "finding"),
    [
        (written("cache k v", 2, 3, 4, "acknowledged"), 2, ""),
        (written("cache k v", 2, 3, 4, "acknowledged"), 1, "lost"),
        (written("cache k v", 2, 3, None), 1, ""),
        (written("cache k v", 2, 3, None), 2, ""),
        (written("cache k v", 2, 3, 4, "unknown"), 2, ""),
        (written("cache k v", 2, 3, 4, "failed"), 1, ""),
        (written("cache k v", 2, 3, 4, "failed"), 2, "lost"),
        (written("cache k v", 2, 3, 4, "acknowledged"), None, "lost"),
        (written("cache k v", 2, 3, 4, "acknowledged"), 3, "foreign"),
        (written("cache k v", 2, 3, 4, "acknowledged"), -1, "foreign"),
        (written("cache k v", 2, 7, 8, "acknowledged"), 2, "foreign"),
    ],
)
def test_what_may_be_read(second: list[list[Any]], read: int | None, finding: str) -> None:
    """Between 5 and 6, after an acknowledged write and a second one: what the oracle says of each value."""
    history = History()
    for line in [*written("cache k v", 1, 1, 2, "acknowledged"), *second]:
        history.add(line)
    history.add(["read", "cache k v", None if read is None else "cache k", read, 5, 6])
    verdict = history.judge()
    assert {"lost": verdict.lost, "foreign": verdict.foreign} == {"lost": 0, "foreign": 0, finding: 1} or (
        not finding and verdict.sound()
    )


def test_the_work_of_judging_a_read_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A register that is written and read for an hour is judged in an hour's share of the time, not in its square."""
    looks: list[int] = []
    for turns in (100, 1_000):
        history = History()
        for turn in range(turns):
            for line in written("cache k v", turn, turn, turn + 0.4, "acknowledged"):
                history.add(line)
            history.add(["read", "cache k v", "cache k", turn, turn + 0.5, turn + 0.6])
        looks.append(0)

        def count(write: Write, name: str) -> Any:
            looks[-1] += 1
            return object.__getattribute__(write, name)

        monkeypatch.setattr(Write, "__getattribute__", count)
        assert history.judge().sound()
        monkeypatch.undo()
    assert looks[1] < 20 * looks[0]


def test_an_old_unacknowledged_write_may_arrive_late_in_a_cache_only() -> None:
    """A plain put that was sent may overtake a later one; the write of a session is conditional."""
    for register, late, lost in (("cache k v", 1, 0), ("session k v", 0, 1)):
        history = History()
        for line in [*written(register, 1, 1, 2, "unknown"), *written(register, 2, 3, 4, "acknowledged")]:
            history.add(line)
        history.add(["read", register, register[:-2], 1, 5, 6])
        verdict = history.judge()
        assert (verdict.late, verdict.lost) == (late, lost)


@pytest.mark.parametrize(("register", "lost"), [("cache k v", 0), ("session k v", 1)])
def test_an_unacknowledged_put_may_cost_the_value_of_before(register: str, lost: int) -> None:
    """The next read of a cache removes what a failed put may have left; a session keeps what it had."""
    history = History()
    for line in (*written(register, 1, 1, 2, "acknowledged"), *written(register, 2, 3, 4, "unknown")):
        history.add(line)
    history.add(["read", register, None, None, 5, 6])
    verdict = history.judge()
    assert (verdict.late, verdict.lost) == (0, lost)


def test_a_value_created_before_an_invalidation_is_found() -> None:
    """A call that began after an invalidation had returned got what was created before it."""
    history = History()
    for line in (["creation", "k", 7, 1.0], ["void", "k", 2.0, 3.0], ["created", "k", 7, 2.5, 4.0]):
        history.add(line)
    assert history.judge().sound()
    history.add(["created", "k", 7, 3.5, 4.0])
    history.add(["created", "k", 8, 3.5, 4.0])
    verdict = history.judge()
    assert (verdict.lost, verdict.foreign) == (1, 1)


def test_more_gone_than_was_damaged_is_lost() -> None:
    """Damaged records may be missing, no others."""
    history = History()
    for key in ("a", "b"):
        history.add(written(f"cache {key} v", 1, 1, 2, "acknowledged")[0])
        history.add(written(f"cache {key} v", 1, 1, 2, "acknowledged")[1])
        history.add(["read", f"cache {key} v", None, None, 3, 4])
    history.damage = 2
    assert (history.judge().lost, history.judge().damaged) == (0, 2)
    history.damage = 1
    assert history.judge().lost == 1


def test_a_damaged_ledger_ends_every_session_or_none() -> None:
    """More sessions gone than records damaged: excused when none opens any more, lost when another one does."""
    history = History()
    history.damage, history.damaged_at = 1, 2.5
    for name in ("a", "b", "c"):
        for line in written(f"session {name} v", 1, 1, 2, "acknowledged"):
            history.add(line)
    for name in ("a", "b"):
        history.add(["read", f"session {name} v", None, None, 3, 4])
    assert (history.judge().lost, history.judge().damaged) == (0, 2)
    history.add(["read", "session c v", "session c", 1, 3, 4])
    assert history.judge().lost == 1


def test_records_of_a_server_are_damaged_where_they_lie(memcached_server: Server) -> None:
    """A flipped or cut record of a place on memcached is a miss; a neighbour's is left alone."""
    store, neighbour = (
        MemcachedStore(memcached_server.address, prefix="spoil"),
        MemcachedStore(memcached_server.address, prefix="other"),
    )
    with contextlib.closing(store), contextlib.closing(neighbour):
        for each in (store, neighbour):
            each.set("n", "k", b"v" * 60, ttl=None)
        for n in range(100):  # more keys than a server lists in one piece
            neighbour.set("n", str(n), b"v" * 60, ttl=None)
        place = Place("memcached", {"url": memcached_server.address, "prefix": "spoil"}, memcached_server, ours=True)
        assert damage(place, 9, random.Random(1)) == 1
        assert store.get("n", "k") != b"v" * 60
        assert neighbour.get("n", "k") == b"v" * 60


def test_memory_that_grows_is_seen() -> None:
    """The first third warms up; from the second to the last neither memory nor descriptors may grow."""
    flat = [{"kB": 50_000.0 + 2_000 * (n < 10), "descriptors": 20.0 + n % 3} for n in range(30)]
    assert growing(flat) == []
    assert len(growing([{**each, "kB": 50_000 + 1_000.0 * n} for n, each in enumerate(flat)])) == 1
    assert len(growing([{**each, "descriptors": 20.0 + n} for n, each in enumerate(flat)])) == 1


def test_a_killed_worker_loses_nothing_on_files(tmp_path: Path) -> None:
    """The shortest run there is: two processes on files, one of them killed in mid-work, everything read back."""
    kill = next(scenario for scenario in SCENARIOS if scenario.name == "kill")
    place = Place("file", {"type": "file", "data_dir": str(tmp_path)}, None, ours=True)
    verdict = run_scenario(kill, place, sys.executable, 0.4, 2)
    assert verdict.sound(), verdict
    assert verdict.acknowledged
    assert verdict.reads


def test_scenarios_are_for_stores_there_are() -> None:
    """Names are distinct, stores known, and a value that was spoiled is another one."""
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert all(set(scenario.stores) <= set(ALL) for scenario in SCENARIOS)
    assert content("a", 1) != content("a", 2) != content("b", 2)
    source = random.Random(1)
    assert all(spoiled(b"abc" * 20, source) != b"abc" * 20 for _ in range(50))
    assert len(page.cells("file", [])) == len(page.TITLES)
