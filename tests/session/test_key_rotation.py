"""Keys in a file that changes under running middlewares: accepted, promoted, dropped, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.crypto.keyring import KeyRing, new_key
from beaker.crypto.tokens import BadToken
from beaker.exceptions import CorruptRecord
from beaker.session.records import NAMESPACE
from beaker.session.snapshot import Snapshot
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import COOKIE, OTHER_SECRET, SessionHarness, Tab
from tests.session.places import opened

PLACES = ("memory", "revocable cookie", "hybrid in cookie", "hybrid in store", "encrypted file")
OLD, NEW = new_key(), new_key()
REREAD = 6.0
"""Seconds after which a changed file is noticed: it is checked every 5."""


class Fleet:
    """Two instances of a deployment: each reads its own copy of the key file, as volumes are updated one by one."""

    def __init__(self, place: str, directory: Path, clock: FakeClock) -> None:
        self.clock = clock
        self.files = [directory / "a.key", directory / "b.key"]
        self.instances: list[Tab] = []
        self.write(0, OLD)
        self.write(1, OLD)
        for file in self.files:
            more: dict[str, Any] = {"validate_key": f"file:{file}", "secret": None, "revocation_check_interval": 0}
            self.instances.append(opened(place, directory, clock=clock, timeout=10_000, **more))

    def write(self, instance: int, *keys: str) -> None:
        self.files[instance].write_text("\n".join(keys) + "\n")
        self.settle()

    def settle(self) -> None:
        """Every instance checks its file twice: a change is used once the file was left alone in between."""
        for _ in range(2):
            self.clock.advance(REREAD)
            for tab in self.instances:
                assert tab.middleware.context.ring is not None
                assert tab.middleware.context.ring.kids

    def visit(self, instance: int, cookies: dict[str, str]) -> Any:
        """A request with these cookies, which its response updates."""
        tab = self.instances[instance]
        tab.cookies = dict(cookies)
        answer = tab.do(lambda s: s.get("a"))
        cookies.clear()
        cookies.update(tab.cookies)
        return answer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(autouse=True)
def _counters() -> Iterator[None]:
    counters.reset()
    yield
    counters.reset()


def tokens() -> dict[str, int]:
    """The counters about tokens."""
    return {name: number for name, number in counters.snapshot().events.items() if "token" in name}


def key_ids(place: str) -> list[str]:
    encrypt = OTHER_SECRET if place == "encrypted file" else None
    return [KeyRing.combine(validate=key, encrypt=encrypt).current.kid.hex() for key in (OLD, NEW)]


@pytest.mark.parametrize("place", PLACES)
def test_a_rotation_in_three_steps_logs_nobody_out(place: str, tmp_path: Path, clock: FakeClock) -> None:
    """Accept, promote, drop, instance by instance: whichever responds has the session; then the old key is dead."""
    fleet = Fleet(place, tmp_path, clock)
    fleet.instances[0].do(SessionHarness.put(a=1))
    jar = dict(fleet.instances[0].cookies)
    kept = dict(jar)
    for keys in ((OLD, NEW), (NEW, OLD)):
        for instance in (0, 1):
            fleet.write(instance, *keys)
            for answering in (0, 1, 0):
                assert fleet.visit(answering, jar) == 1
    assert jar[COOKIE] != kept[COOKIE], "sealed with the new key by now"
    fleet.write(0, NEW)
    fleet.write(1, NEW)
    assert fleet.visit(0, jar) == 1
    assert fleet.visit(1, jar) == 1
    assert fleet.visit(0, kept) is None


@pytest.mark.parametrize("place", PLACES)
def test_counters_tell_when_a_key_may_go(place: str, tmp_path: Path, clock: FakeClock) -> None:
    """tokens_by_key counts valid cookies by the key they came with, bad_token{kid} those whose key is gone."""
    old, new = key_ids(place)
    fleet = Fleet(place, tmp_path, clock)
    fleet.instances[0].do(SessionHarness.put(a=1))
    jar = dict(fleet.instances[0].cookies)
    kept = dict(jar)
    fleet.visit(0, jar)
    assert tokens() == {f"tokens_by_key{{{old}}}": 1}
    fleet.write(0, NEW, OLD)
    fleet.visit(0, jar)
    fleet.visit(0, jar)
    assert tokens() == {f"tokens_by_key{{{old}}}": 2, f"tokens_by_key{{{new}}}": 1}
    fleet.write(0, NEW)
    fleet.visit(0, kept)
    assert tokens()["bad_token{kid}"] == 1


def test_a_key_file_that_breaks_logs_nobody_out(tmp_path: Path, clock: FakeClock) -> None:
    """Empty, or gone in the middle of an update: the keys read before stay."""
    fleet = Fleet("revocable cookie", tmp_path, clock)
    fleet.instances[0].do(SessionHarness.put(a=1))
    jar = dict(fleet.instances[0].cookies)
    fleet.write(0, "")
    assert fleet.visit(0, jar) == 1
    fleet.files[0].unlink()
    clock.advance(REREAD)
    assert fleet.visit(0, jar) == 1
    fleet.write(0, NEW, OLD)
    assert fleet.visit(0, jar) == 1


def test_what_was_verified_is_verified_again_when_its_key_is_gone(tmp_path: Path, clock: FakeClock) -> None:
    """A record and a token that this process has just written, or opened before, are nothing once their key is gone."""
    fleet = Fleet("file", tmp_path, clock)
    tab = fleet.instances[0]
    tab.do(SessionHarness.put(a=1))
    context = tab.middleware.context
    token = tab.cookies[COOKIE]
    for _ in range(2):
        id = context.ids.open(token).id
        assert isinstance(context.records.load(id), Snapshot)
    fleet.write(0, NEW)
    with pytest.raises(BadToken):
        context.ids.open(token)
    with pytest.raises(CorruptRecord):
        context.records.load(id)


def test_a_remembered_record_that_was_changed_is_corrupt(open_tab: Callable[..., Tab]) -> None:
    """Whatever a process remembers of a record concerns those very bytes: one that differs in a bit is refused."""
    tab = open_tab("memory", secret=OLD)
    tab.do(SessionHarness.put(a=1))
    records = tab.middleware.context.records
    id = tab.middleware.context.ids.open(tab.cookies[COOKIE]).id
    snapshot = records.load(id)
    assert isinstance(snapshot, Snapshot)
    data = records.store.get(NAMESPACE, snapshot.key)
    records.store.set(NAMESPACE, snapshot.key, data[:-20] + bytes((data[-20] ^ 1,)) + data[-19:], ttl=None)
    with pytest.raises(CorruptRecord):
        records.load(id)
