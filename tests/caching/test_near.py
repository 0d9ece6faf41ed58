"""The near tier: hits cost nothing, and no process serves what another changed for longer than ``near`` seconds."""

from __future__ import annotations

# over 320 lines because every way to change a value is held to one promise
import asyncio
import copy
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import cache as module
from beaker.cache import Cache, CacheManager
from beaker.caching.near import LIVES
from beaker.caching.stamps import NAMESPACE, name_of
from beaker.caching.value import Value
from beaker.config.parse import parse_cache
from beaker.exceptions import ConfigError, ConfigWarning, StoreUnavailable
from beaker.storage.datastore import DatastoreStore
from beaker.storage.memory import MemoryStore
from beaker.testing import FakeClock
from beaker.testing.lock import PATIENCE
from tests.caching import near_process
from tests.caching.test_tags import Calls, CallsManager
from tests.managers import DictManager
from tests.processes import CONTEXT, fresh
from tests.storage.datastore_fake import FakeDatastore
from tests.storage.shared import SHARED, open_store

NEAR = 5.0


class View(Calls):
    """One process's own way to a store that is shared: ``world`` is what all of them see."""

    def __init__(self, world: Any, clock: Any) -> None:
        super().__init__(clock)
        self.world = world


def _through(name: str) -> Any:
    def call(store: View, *args: Any, **kwargs: Any) -> Any:
        if store.down:
            raise StoreUnavailable("down", backend="memory", operation=name)
        store.calls.append(name)
        return getattr(store.world, name)(*args, **kwargs)

    return call


for _name in (
    "get", "set", "delete", "clear", "read", "insert", "replace", "remove", "keys", "get_many", "set_many",
    "delete_many", "get_across",
):  # fmt: skip
    setattr(View, _name, _through(_name))


@pytest.fixture(autouse=True)
def nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cache_regions", {})
    module.cache_managers.clear()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def world(clock: FakeClock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
def processes(world: MemoryStore, clock: FakeClock) -> Iterator[list[CacheManager]]:
    """Two processes' managers; ``stores[i]`` is what each asks."""
    stores = [View(world, clock), View(world, clock)]
    return [
        CacheManager(namespace_class=CallsManager, client=store, clock=clock, near=NEAR, expire=1_000, lock="thread")
        for store in stores
    ]  # type: ignore[return-value]


def store_of(cache: Cache) -> View:
    store: View = cache.namespace.store  # type: ignore[attr-defined]
    return store


def warm(cache: Cache, *keys: str) -> None:
    """Read what makes later reads near hits: the stamp, then the values."""
    for _ in range(3):
        for key in keys:
            cache.get(key)
    store_of(cache).take()


def test_hits_cost_nothing(processes: list[CacheManager], clock: FakeClock) -> None:
    """A hit asks the store nothing; the stamp is read once in ``near`` seconds, for all keys together."""
    cache, writer = (manager.get_cache("cost") for manager in processes)
    writer.put_many({"a": 1, "b": [2]})
    assert [cache.get("a"), cache.get("a"), cache.get("a")] == [1, 1, 1]
    # Created the stamp, or found it by the first read; the second is kept.
    assert store_of(cache).take() == ["get_across", "get"]
    warm(cache, "a", "b")
    hits = cache.stats().near_hits
    for _ in range(10):
        assert (cache.get("a"), cache.get("b")) == (1, [2])
    assert store_of(cache).take() == []
    assert cache.stats().near_hits == hits + 20
    clock.advance(NEAR)
    for _ in range(10):
        assert (cache.get("a"), cache.get("b")) == (1, [2])
    assert store_of(cache).take() == ["get"]
    assert cache.get_many(["a", "b"]) == {"a": 1, "b": [2]}
    assert store_of(cache).take() == []
    clock.advance(NEAR)
    assert cache.get_many(["a", "b"]) == {"a": 1, "b": [2]}
    assert store_of(cache).take() == ["get_across"]
    value = cache.get("b")
    value.append("changed by a caller")
    assert cache.get("b") == [2]


CHANGES = {
    "put": lambda cache: cache.put("k", "new"),
    "put_many": lambda cache: cache.put_many({"k": "new"}),
    "remove": lambda cache: cache.remove("k"),
    "remove_many": lambda cache: cache.remove_many(["k"]),
    "clear": lambda cache: cache.clear(),
    "refresh": lambda cache: Value("k", cache.namespace, expiretime=60).refresh(lambda: "new"),
    "tag": lambda cache: cache.namespace.stamp_home.move_tags(["t"]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_bound(change: str, processes: list[CacheManager], clock: FakeClock) -> None:
    """What another process changes is seen within ``near`` seconds; what this one changes, at once."""
    cache, writer = (manager.get_cache(f"bound {change}") for manager in processes)
    writer.put("k", "old", tags=("t",))
    writer.put("other", "old", tags=("t",))
    for reader in (cache, writer):
        warm(reader, "k", "other")
        assert reader.get("k") == "old"
    assert not store_of(cache).take()
    clock.advance(NEAR / 2)
    CHANGES[change](writer)
    expected = {"put": "new", "put_many": "new", "refresh": "new"}.get(change)
    assert writer.namespace.get("k") == expected
    assert cache.get("k") == "old"
    clock.advance(NEAR / 2)
    assert cache.namespace.get("k") == expected
    assert cache.namespace.get("k") == expected
    gone = change in ("clear", "tag")
    assert ("other" in cache, "other" in writer) == (not gone, not gone)


def test_operations_of_writers(processes: list[CacheManager]) -> None:
    """What changes a value is one write more, of the stamp, after the value's."""
    cache = processes[0].get_cache("writers")
    for call, expected in (
        (lambda: cache.put("k", 1), ["set", "set"]),
        (lambda: cache.remove("k"), ["delete", "set"]),
        (lambda: cache.clear(), ["clear", "set"]),
        (lambda: cache.put_many({"a": 1, "b": 2}), ["set_many", "set"]),
    ):
        call()
        assert store_of(cache).take() == expected
    for _ in range(4):
        assert cache.get("new", createfunc=lambda: 1) == 1
    # Looked for with the stamp, created, read once more.
    assert store_of(cache).take() == ["get_across", "insert", "replace", "get"]


def test_a_stamp_that_moves_between_the_reads(processes: list[CacheManager], world: MemoryStore) -> None:
    """A value that was read before its stamp moved, in one batch, is not kept under the new token."""
    cache, writer = (manager.get_cache("between") for manager in processes)
    writer.put("k", "old")
    cache.get("k")
    original = world.get_across

    def overtaken(names: Any) -> Any:
        pairs = list(names)
        values = original([pair for pair in pairs if pair[0] != NAMESPACE])
        world.get_across = original  # type: ignore[method-assign]
        writer.put("k", "new")
        return {**values, **original([pair for pair in pairs if pair[0] == NAMESPACE])}

    world.get_across = overtaken  # type: ignore[method-assign]
    cache.namespace.near._known._seen.clear()  # type: ignore[attr-defined]
    assert cache.get("k") == "old"
    assert [cache.get("k") for _ in range(3)] == ["new"] * 3


def test_a_reader_that_a_local_change_overtakes(processes: list[CacheManager], world: MemoryStore) -> None:
    """What a thread read before this process changed the value is never served after the change."""
    cache = processes[0].get_cache("overtaken")
    cache.put_many({"k": "old", "read before": 1})
    cache.get("read before")
    original = world.get

    def overtaken(namespace: str, key: str) -> Any:
        found = original(namespace, key)
        world.get = original  # type: ignore[method-assign]
        cache.put("k", "new")
        return found

    world.get = overtaken  # type: ignore[method-assign]
    assert cache.get("k") == "old"
    assert world.get == original
    assert [cache.get("k") for _ in range(3)] == ["new"] * 3


def test_an_evicted_stamp(processes: list[CacheManager], world: MemoryStore, clock: FakeClock) -> None:
    """A generation that is lost is created anew, and no copy of before is served by it."""
    cache, writer = (manager.get_cache("evicted") for manager in processes)
    writer.put("k", "old")
    warm(cache, "k")
    world.delete(NAMESPACE, name_of("n", "evicted"))
    world.clear("evicted")
    clock.advance(NEAR)
    assert "k" not in cache


def test_objects(world: MemoryStore, clock: FakeClock) -> None:
    """With near_copy = objects the callers of a process share the value."""
    manager = CacheManager(
        namespace_class=CallsManager, client=View(world, clock), clock=clock, near=NEAR, near_copy="objects"
    )
    cache = manager.get_cache("objects")
    cache.put("k", ["v"])
    warm(cache, "k")
    assert cache.get("k") is cache.get("k")


def test_two_managers_of_one_namespace(world: MemoryStore, clock: FakeClock) -> None:
    """Managers of one process with other options: what one changes the other sees at once, each by its own ``near``."""
    store = View(world, clock)
    options = {"namespace_class": CallsManager, "client": store, "clock": clock}
    short, long, objects = (
        CacheManager(**options, **more).get_cache("two")
        for more in ({"near": 1}, {"near": 100}, {"near": 50, "near_copy": "objects", "max_entries": 10})
    )
    short.put("k", "old")
    for cache in (short, long, objects):
        warm(cache, "k")
    clock.advance(1)
    assert [long.get("k"), objects.get("k")] == ["old", "old"]
    assert store.take() == []
    assert short.get("k") == "old"
    assert store.take() == ["get"]
    long.put("k", "new")
    assert [cache.get("k") for cache in (short, long, objects)] == ["new"] * 3


def test_without_the_store(processes: list[CacheManager], clock: FakeClock) -> None:
    """Copies are served while their stamps are confirmed; then it is as without a near tier."""
    cache = processes[0].get_cache("down")
    cache.put("k", "v")
    warm(cache, "k")
    store_of(cache).down = True
    assert cache.get("k") == "v"
    clock.advance(NEAR)
    with pytest.raises(StoreUnavailable):
        cache.get("k")
    assert cache.get("k", createfunc=lambda: "created") == "created"
    with pytest.raises(StoreUnavailable):
        cache.put("k", "new")
    store_of(cache).down = False
    # What the put was to replace is made good first (auto_recovery).
    assert "k" not in cache
    assert cache.get("k", createfunc=lambda: "newer") == cache.get("k") == "newer"


def test_expiry_and_a_writer_without_near(world: MemoryStore, clock: FakeClock) -> None:
    """A copy is served no longer than its value, nor than ten times ``near`` where a writer moves no stamp."""
    options = {"namespace_class": CallsManager, "clock": clock}
    near = CacheManager(**options, client=View(world, clock), near=NEAR).get_cache("life")
    plain = CacheManager(**options, client=View(world, clock)).get_cache("life")
    plain.put("short", 1, expire=2)
    plain.put("k", "old")
    warm(near, "short", "k")
    clock.advance(2)
    assert "short" not in near
    plain.put("k", "new")
    clock.advance(NEAR * LIVES - 3)
    assert near.get("k") == "old"
    clock.advance(1)
    assert near.get("k") == "new"


def test_an_early_refresh_replaces_the_copy(world: MemoryStore, clock: FakeClock) -> None:
    """Once a value was renewed before its end, this process serves the new one."""
    manager = CacheManager(
        namespace_class=CallsManager, client=View(world, clock), clock=clock, near=NEAR, early_refresh=1e9
    )
    cache = manager.get_cache("early")
    values = iter("abc")

    def create() -> str:
        clock.advance(0.1)
        return next(values)

    assert cache.get("k", createfunc=create, expire=100) == "a"
    while cache.get("k", createfunc=create, expire=100) == "a":
        pass
    assert cache.namespace.get("k") in ("b", "c")


def test_event_loops_take_no_thread(
    processes: list[CacheManager], clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A near hit in an event loop is found without a worker thread."""
    manager = processes[0]

    @manager.cache("loop", tags="t:{n}")
    async def load(n: int) -> int:
        return n

    async def main() -> None:
        cache = manager.get_cache("aget")
        await cache.aput("k", 1)
        for _ in range(4):
            assert (await load(1), await cache.aget("k")) == (1, 1)
        monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", None)
        assert (await load(1), await load.get(1), await cache.aget("k")) == (1, 1, 1)
        assert await cache.aget("k", createfunc=lambda: 2) == 1

    asyncio.run(main())


def test_one_thread_reads_the_stamp(processes: list[CacheManager], world: MemoryStore, clock: FakeClock) -> None:
    """Calls that come while the stamp is read wait for that reading, and share its failure."""
    cache = processes[0].get_cache("threads")
    cache.put("k", "v")
    warm(cache, "k")
    clock.advance(NEAR)
    near: Any = cache.namespace.near  # type: ignore[attr-defined]
    reading, may_end, original = threading.Event(), threading.Event(), world.get
    outcomes: list[Any] = []

    def slow(namespace: str, key: str) -> Any:
        reading.set()
        assert may_end.wait(10)
        raise StoreUnavailable("down", backend="memory", operation="get")

    def call() -> None:
        try:
            outcomes.append(cache.get("k"))
        except StoreUnavailable:
            outcomes.append("down")

    world.get = slow  # type: ignore[method-assign]
    threads = [threading.Thread(target=call, daemon=True) for _ in range(4)]
    threads[0].start()
    assert reading.wait(10)
    failures = near._shared.failures
    for thread in threads[1:]:
        thread.start()
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert outcomes == ["down"] * 4
    world.get = original  # type: ignore[method-assign]
    assert near._shared.failures > failures
    assert cache.get("k") == "v"


def test_options() -> None:
    """near is a time and near_copy one of two words, also of a region; a manager without a store warns."""
    with pytest.raises(ConfigError, match="near_copy"):
        CacheManager(type="file", near=1, near_copy="references")
    with pytest.raises(ConfigError, match="near"):
        CacheManager(type="memory", cache_regions={"r": {"near": -1}})
    assert parse_cache({"cache.regions": "r", "cache.near": "5s"})["cache_regions"]["r"]["near"] == 5.0
    with pytest.warns(ConfigWarning, match="near has no effect on DictManager"):
        Cache("near", type=DictManager, near=5)
    Cache("near", type="memory", near=5).put("k", 1)


@pytest.mark.parametrize("name", SHARED)
def test_every_store(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """On each store: what one process changes another serves for ``near`` seconds at most, and tags with it."""
    clock = FakeClock()
    store = open_store(name, request, clock, tmp_path)
    # A store of its own to all who remember what they read of one.
    options = {"namespace_class": CallsManager, "clock": clock, "near": NEAR, "expire": 600}
    cache, writer = (CacheManager(**options, client=each).get_cache("every") for each in (store, copy.copy(store)))
    writer.put_many({"k": "old", "other": "old"}, tags=("t",))
    for _ in range(3):
        assert cache.get_many(["k", "other"]) == {"k": "old", "other": "old"}
        assert cache.get("k") == "old"
    hits = cache.stats().near_hits
    assert cache.get("k") == "old"
    assert cache.stats().near_hits == hits + 1
    writer.put("k", "new", tags=("t",))
    assert cache.get("k") == "old"
    clock.advance(NEAR)
    assert [cache.get("k") for _ in range(3)] == ["new"] * 3
    assert cache.get("other") == "old"
    writer.namespace.stamp_home.move_tags(["t"])  # type: ignore[union-attr]
    clock.advance(NEAR)
    assert cache.get_many(["k", "other"]) == {}


def test_processes(tmp_path: Path) -> None:
    """Of real processes on one clock: the one that invalidates sees it at once, the others after ``near`` seconds."""
    time = CONTEXT.Value("d", 1_000_000.0)
    pipes, started = [], []
    for _ in range(2):
        here, there = CONTEXT.Pipe()
        process = fresh(near_process.serve, there, time, str(tmp_path), NEAR)
        process.start()
        pipes.append(here)
        started.append(process)

    def ask(number: int, *command: Any) -> Any:
        pipes[number].send(command)
        assert pipes[number].poll(PATIENCE)
        return pipes[number].recv()

    try:
        ask(0, "put", "old")
        for number in (0, 1):
            assert [ask(number, "get") for _ in range(3)] == ["old"] * 3
        for round_, change in enumerate(("put", "invalidate_tags", "remove", "invalidate_region", "clear")):
            ask(0, "put", f"old {round_}")
            time.value += NEAR
            assert [ask(number, "get") for number in (0, 1) for _ in range(3)] == [f"old {round_}"] * 6
            time.value += NEAR / 2
            ask(0, change, "new")
            expected = "new" if change == "put" else None
            assert (ask(0, "get"), ask(1, "get")) == (expected, f"old {round_}")
            time.value += NEAR / 2
            assert (ask(0, "get"), ask(1, "get")) == (expected, expected)
    finally:
        for pipe in pipes:
            pipe.send(None)
        for process in started:
            process.join(PATIENCE)
    assert [process.exitcode for process in started] == [0, 0]


def test_datastore_operations(clock: FakeClock) -> None:
    """The charge: a tagged hit one Lookup, an invalidation one Commit, a near hit nothing, its stamp one Lookup."""
    store = DatastoreStore(gateway=FakeDatastore().gateway(), clock=clock)
    calls = store.gateway.calls
    manager = CacheManager(namespace_class=CallsManager, client=store, clock=clock, expire=60)

    def spent() -> dict[str, int]:
        counted = dict(calls)
        calls.clear()
        return counted

    @manager.cache("charged", tags=("a:{n}", "b"))
    def tagged(n: int) -> int:
        return n

    @manager.cache("charged", "near", near=NEAR, tags=("a:{n}", "b"))
    def near(n: int) -> int:
        return n

    tagged(1)
    spent()
    tagged(1)
    assert spent() == {"Lookup": 1}
    manager.invalidate_tags("a:1", "b")
    assert spent() == {"Commit": 1}
    for _ in range(3):
        near(1)
    spent()
    for _ in range(10):
        near(1)
    assert spent() == {}
    clock.advance(NEAR)
    for _ in range(10):
        near(1)
    assert spent() == {"Lookup": 1}


def test_a_forked_child() -> None:
    """A child that was forked while a thread read and noted stamps has locks of its own, and what was known."""
    store = Calls(FakeClock())
    cache = CacheManager(namespace_class=CallsManager, client=store, near=NEAR).get_cache("fork")
    cache.put("k", "v")
    warm(cache, "k")
    near: Any = cache.namespace.near  # type: ignore[attr-defined]
    with near._known._mutex, near._shared.lock:
        pid = os.fork()
        if pid == 0:
            served = cache.get("k") == "v" and not store.calls
            near._known._seen.clear()
            os._exit(0 if served and cache.get("k") == "v" else 1)
    assert os.waitpid(pid, 0)[1] == 0
