"""Near readers, creators, what invalidates and the clock in every order, by the code that runs.

The promise: a call of a process with a near tier that begins ``near`` seconds or more after an invalidation was done
does not return what was the value before it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from beaker.caching.entry import Entry
from beaker.caching.near import Near
from beaker.caching.object_pool import LivePool
from beaker.caching.stamps import NAMESPACE, Stamp, StampBook, name_of
from beaker.caching.store_manager import StoreNamespaceManager
from beaker.caching.stored_marks import StoredMarks
from beaker.caching.value import Value
from beaker.locking.factories import NullLocks
from beaker.storage.api import Spanning, Store, Versioned, Written
from tests.caching.explorer import Actor, World, explore
from tests.caching.test_interleavings import CODEC

pytestmark = pytest.mark.usefixtures("quiet")

NEAR = 10.0
FIRST = b"first token."
Name = tuple[str, str]


@dataclass(frozen=True)
class Records(World):
    """A store of several records, and what the values are computed from."""

    records: tuple[tuple[Name, bytes, tuple[str, int]], ...] = ()
    source: str = "old"


class ModelStore(Store, Versioned, Spanning):
    """The world's records; a batch is as many reads, in an order of its own."""

    backend = "model"
    trusted = True
    max_value: int | None = None
    stamps_first = False

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.writes = 0

    def read(self, namespace: str, key: str) -> Any:
        found: Any = self.actor.step(lambda world: (world, _find(world, (namespace, key))))
        return found

    def get(self, namespace: str, key: str) -> bytes | None:
        found = self.read(namespace, key)
        return None if found is None else found[0]

    def get_across(self, names: Iterable[Name]) -> dict[Name, bytes]:
        wanted = sorted(names, key=lambda name: (name[0] == NAMESPACE) is not self.stamps_first)
        found = {name: self.get(*name) for name in wanted}
        return {name: data for name, data in found.items() if data is not None}

    def _write(self, name: Name, data: bytes | None, allowed: Callable[[Any], bool]) -> bool | Written:
        self.writes += 1
        version = (self.actor.name, self.writes)

        def act(world: Any) -> tuple[World, bool]:
            if not allowed(_find(world, name)):
                return world, False
            others = tuple(record for record in world.records if record[0] != name)
            added = () if data is None else ((name, data, version),)
            return replace(world, records=tuple(sorted(others + added))), True

        return Written(version) if self.actor.step(act) else False

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        self._write((namespace, key), data, lambda found: True)

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> bool | Written:
        return self._write((namespace, key), data, lambda found: found is None)

    def replace(self, namespace: str, key: str, data: bytes, version: Any, *, ttl: float | None) -> bool | Written:
        return self._write((namespace, key), data, lambda found: found is not None and found[1] == version)

    def remove(self, namespace: str, key: str, version: Any) -> bool:
        return bool(self._write((namespace, key), None, lambda found: found is not None and found[1] == version))

    def delete(self, namespace: str, key: str) -> None:
        self._write((namespace, key), None, lambda found: True)

    def clear(self, namespace: str) -> None:
        self.delete(namespace, "k")


def _find(world: Any, name: Name) -> tuple[bytes, Any] | None:
    return next(((data, version) for other, data, version in world.records if other == name), None)


class Process:
    """What one process does: ``act`` gets the value of ``k`` behind a near tier of its own."""

    def __init__(self, name: str, act: Callable[[Process], Any], tags: tuple[str, ...] = ()) -> None:
        self.actor = Actor(name, self)
        self.store = ModelStore(self.actor)
        self.act = act
        self.tags = tags

    def now(self) -> float:
        now: float = self.actor.beside(lambda world: (world, world.now))
        return now

    def _token(self) -> bytes:
        self.tokens += 1
        return f"{self.actor.name}{self.tokens}".encode().ljust(16)

    def __call__(self, actor: Actor) -> Any:
        self.tokens = self.store.writes = 0
        manager = StoreNamespaceManager("n", self.store, clock=_still, locks=NullLocks(), lock="none")
        manager.codec = CODEC
        manager._book = self.book = StampBook(self.store, _still, lambda: self._token()[:12])
        manager._stored_marks = StoredMarks(self.store, CODEC, "n", clock=_still, keep=manager.keep, token=self._token)
        pool = LivePool(100, 10**6, _still)
        timing: Any = {"seconds": NEAR, "clock": _still, "timer": self.now}
        manager.near = Near(self.book, self.store, "n", CODEC, objects=True, pool=pool, **timing)
        self.value = Value("k", manager.view(self.tags) if self.tags else manager, None, 1_000.0)
        return self.act(self)


def _still() -> float:
    return 1_000.0


def read(process: Process) -> None:
    """Three calls, each with when it began; what is not there is computed."""
    _read(process, 3)


def read_again(process: Process) -> None:
    """Two calls of a process that has read the namespace's stamp before."""
    known, name = process.book.known, name_of("n", "n")
    known.note({name: Stamp(FIRST, 10**9)}, process.now(), known.tick())
    _read(process, 2)


def _read(process: Process, calls: int) -> None:
    actor = process.actor
    for _ in range(calls):
        begun = actor.step(lambda world: (world, (world.now, len(world.events))))
        value = process.value.get_or_create(lambda: actor.step(lambda world: (world, world.source)))  # type: ignore[attr-defined]
        _check(actor, value, *begun)


def _check(actor: Actor, value: str, now: float, before: int) -> None:
    def act(world: World) -> tuple[World, None]:
        done = [float(event[1]) for event in world.events[:before] if event[0] == "done"]
        assert not (value == "old" and done and now - done[0] >= NEAR), "an old value was served"
        return world, None

    actor.beside(act)


def change(how: str) -> Callable[[Process], None]:
    def act(process: Process) -> None:
        actor = process.actor
        actor.step(lambda world: (replace(world, source="new"), None))  # type: ignore[call-arg]
        if how == "put":
            process.value.set_value("new")
        elif how == "remove":
            process.value.clear_value()
        elif how == "refresh":
            process.value.refresh(lambda: "new")
        else:
            process.book.move_tags(["t"])
        actor.beside(lambda world: (replace(world, events=(*world.events, ("done", str(world.now)))), None))

    return act


def tick(actor: Actor) -> None:
    actor.step(lambda world: (replace(world, now=world.now + NEAR), None))


def _world(tags: tuple[str, ...], *, empty: bool) -> Records:
    stamps = {name_of("n", "n"): FIRST, **{name_of("t", tag): FIRST for tag in tags}}
    records = [((NAMESPACE, name), Stamp(token, 10**9).pack(), ("first", 0)) for name, token in stamps.items()]
    if not empty:
        entry = Entry("old", 1_000.0, 1_000.0)
        if tags:
            from beaker.caching.stamped import with_stamps

            entry = with_stamps(entry, [(name_of("t", tag), stamps[name_of("t", tag)]) for tag in tags])
        records.append((("n", "k"), CODEC.encode("n", "k", entry), ("first", 0)))
    return Records(records=tuple(sorted(records)))


def explored(how: str, *, empty: bool) -> int:
    tags = ("t",) if how == "tag" else ()
    reading = read_again if tags or empty else read
    actors = [Process("r", reading, tags).actor, Process("w", change(how), tags).actor, Actor("clock", tick)]
    return sum(1 for _ in explore(_world(tags, empty=empty), actors))


@pytest.mark.parametrize(
    ("how", "empty", "stamps_first"),
    [
        ("put", False, False),
        ("put", False, True),
        ("put", True, False),
        ("remove", False, False),
        ("refresh", False, False),
        ("tag", False, False),
    ],
)
def test_every_order(how: str, empty: bool, stamps_first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The promise holds in every order of the steps, whatever comes first in a batch; ``empty``: the value of before is
    created in the process that reads, too."""
    monkeypatch.setattr(ModelStore, "stamps_first", stamps_first)
    assert explored(how, empty=empty)


def test_the_stamp_must_move_after_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved before it, the stamp lets an old value be kept under the new token."""

    @contextlib.contextmanager
    def moved_first(near: Near) -> Iterator[None]:
        near._book.move((near._name,))
        yield

    monkeypatch.setattr(Near, "changing", moved_first)
    with pytest.raises(AssertionError, match="an old value was served"):
        explored("put", empty=False)


def test_the_token_must_be_known_before_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken as it was after the value was read, the token lets an old value be kept under the new one."""
    monkeypatch.setattr(Near, "_belong", staticmethod(lambda before, now: True))
    with pytest.raises(AssertionError, match="an old value was served"):
        explored("put", empty=False)
