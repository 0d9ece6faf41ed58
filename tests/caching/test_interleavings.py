"""Creations, invalidations, writes, refreshes, deaths and clocks in every order, by the code that runs.

The promise: a call that begins after a key was voided (removed, written, refreshed) never returns a value whose
creation began before. And: no creation stores over a value that is newer than its beginning, and no mark stays behind.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import replace
from typing import Any

import pytest

from beaker.caching.dogpile import Freshness
from beaker.caching.entry import MARK_RECORD, Entry, EntryCodec
from beaker.caching.store_manager import StoreNamespaceManager
from beaker.caching.stored_marks import Lease, StoredMarks
from beaker.caching.value import Value
from beaker.crypto.envelope import Envelope
from beaker.storage.api import Store, Versioned, Written
from tests.caching.explorer import Actor, World, explore

pytestmark = pytest.mark.usefixtures("quiet")

TTL = 10.0


class MemoCodec(EntryCodec):
    """Sealing and opening the same again and again would take most of the time."""

    def __init__(self) -> None:
        super().__init__(Envelope(backend="model", compress=None), "json")
        for name in ("encode", "encode_mark", "open", "mark_in"):
            setattr(self, name, functools.cache(getattr(self, name)))
        self.kind = functools.cache(lambda data: self._envelope.open("n", "k", data).kind)


CODEC = MemoCodec()


class ModelStore(Store, Versioned):
    """One record, in the world of the actor that is running."""

    backend = "model"
    trusted = True
    max_value: int | None = None

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.writes = 0
        self.started = False

    def begin(self) -> None:
        self.writes = 0
        self.started = False

    def _step(self, act: Callable[[World], tuple[World, Any]]) -> Any:
        # A call begins when it first looks: a later beginning makes the promise stronger.
        if not self.started:
            self.started = True
            return self.actor.step(lambda world: act(_noted(world, "start", self.actor.name)))
        return self.actor.step(act)

    def _version(self) -> Hashable:
        self.writes += 1
        return (self.actor.name, self.writes)

    def get(self, namespace: str, key: str) -> bytes | None:
        found = self.read(namespace, key)
        return None if found is None else found[0]

    def read(self, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        def act(world: World) -> tuple[World, Any]:
            record = _live(world)
            return world, None if record is None else record[:2]

        found: tuple[bytes, Hashable] | None = self._step(act)
        return found

    def _write(self, data: bytes, ttl: float | None, allowed: Callable[[Any], bool], *event: str) -> bool | Written:
        version = self._version()

        def act(world: World) -> tuple[World, bool]:
            before = _live(world)
            if not allowed(before):
                return world, False
            _check_order(world, before, data)
            ends = float("inf") if ttl is None else world.now + ttl
            after = replace(world, record=(data, version, ends) if ends > world.now else None)
            return (_noted(after, *event, self.actor.name) if event else after), True

        return Written(version) if self._step(act) else False

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        self._write(data, ttl, lambda record: True, "void")

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> bool | Written:
        return self._write(data, ttl, lambda record: record is None)

    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> bool | Written:
        return self._write(data, ttl, lambda record: record is not None and record[1] == version)

    def remove(self, namespace: str, key: str, version: Hashable) -> bool:
        return bool(self._write(b"", 0.0, lambda record: record is not None and record[1] == version))

    def delete(self, namespace: str, key: str) -> None:
        self._write(b"", 0.0, lambda record: True, "void")

    def clear(self, namespace: str) -> None:
        self.delete(namespace, "k")


class Never:
    """Patience that never, or always, ends."""

    def __init__(self, actor: Actor, ended: bool) -> None:
        self.timer = lambda: 0.0
        self.ended = lambda key, stored, limit: ended


def _noted(world: World, *event: str) -> World:
    return replace(world, events=(*world.events, event))


def _live(world: World) -> tuple[bytes, Hashable, float] | None:
    record = world.record
    return record if record is not None and record[2] > world.now else None


def _value(data: bytes) -> Any:
    """The value in a record, ``None`` for a mark."""
    if not data or CODEC.kind(data) == MARK_RECORD:
        return None
    entry = CODEC.decode("n", "k", data)
    assert entry is not None
    return entry.value


def _check_order(world: World, before: tuple[bytes, Hashable, float] | None, data: bytes) -> None:
    """A creation that was voided stores nothing; no creation stores over a value that is newer than its beginning."""
    new, old = _value(data), None if before is None else _value(before[0])
    if new is None or new == "old" or new.startswith("put"):
        return
    began = world.events.index(("create", new))
    assert all(event[0] not in ("void", "refresh") for event in world.events[began:]), f"{new}: {world.events}"
    if old in (None, "old"):
        return
    stored = world.events.index(("void", old[3:])) if old.startswith("put") else world.events.index(("create", old))
    assert began > stored, f"{new} over {old}: {world.events}"


class Program:
    """What an actor does: ``act`` gets the value, and the manager behind it."""

    def __init__(self, name: str, act: Callable[[Value, Actor], Any], lease: bool, options: dict[str, Any]) -> None:
        self.actor = Actor(name, self, mortal=options.pop("mortal", False))
        self.store = ModelStore(self.actor)
        self.tokens = 0
        self.act = act
        overdue = options.pop("overdue", False)
        self.manager = StoreNamespaceManager("n", self.store, clock=self._clock, lock="thread", lock_timeout=0)
        self.manager.blocks = False
        self.manager.codec = CODEC
        self.manager.freshness = Freshness(**options)
        self.manager.patience = Never(self.actor, overdue)  # type: ignore[assignment]
        self.manager._stored_marks = StoredMarks(
            self.store,
            CODEC,
            "n",
            clock=self._clock,
            keep=self.manager.keep,
            lease=Lease(TTL, None, False) if lease else None,
            token=self._token,
        )

    def _clock(self) -> float:
        now: float = self.actor.beside(lambda world: (world, world.now))
        return now

    def _token(self) -> bytes:
        self.tokens += 1
        return f"{self.actor.name}{self.tokens}".encode().ljust(16)

    def __call__(self, actor: Actor) -> Any:
        self.tokens = 0
        self.store.begin()
        return self.act(Value("k", self.manager, None, 5.0), actor)


def _created(actor: Actor) -> str:
    # As early as it can be: right after its mark.
    value = f"by {actor.name}"
    actor.beside(lambda world: (_noted(world, "create", value), None))
    return value


def get(value: Value, actor: Actor) -> Any:
    return value.get_or_create(lambda: _created(actor))


def fail(value: Value, actor: Actor) -> Any:
    def broken() -> Any:
        _created(actor)
        raise ValueError

    try:
        return value.get_or_create(broken)
    except ValueError:
        return "failed"


def refresh(value: Value, actor: Actor) -> Any:
    def create() -> Any:
        actor.beside(lambda world: (_noted(world, "refresh", actor.name), None))
        return _created(actor)

    return value.refresh(create)


def _driven(steps: Coroutine[Any, Any, Any]) -> Any:
    # Nothing that a coroutine of these actors awaits has to be waited for.
    try:
        steps.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("suspended")


def aget(value: Value, actor: Actor) -> Any:
    async def create() -> Any:
        return _created(actor)

    return _driven(value.aget_or_create(create))


def cancelled(value: Value, actor: Actor) -> Any:
    async def create() -> Any:
        _created(actor)
        raise asyncio.CancelledError

    try:
        return _driven(value.aget_or_create(create))
    except asyncio.CancelledError:
        return "failed"


def arefresh(value: Value, actor: Actor) -> Any:
    async def create() -> Any:
        actor.beside(lambda world: (_noted(world, "refresh", actor.name), None))
        return _created(actor)

    return _driven(value.arefresh(create))


def put(value: Value, actor: Actor) -> Any:
    value.set_value(f"put{actor.name}")


def invalidate(value: Value, actor: Actor) -> Any:
    value.clear_value()


def wait(value: Value, actor: Actor) -> Any:
    """The clock goes on until leases have run out."""
    actor.step(lambda world: (replace(world, now=world.now + TTL + 1), None))


def check(events: tuple[tuple[str, ...], ...], caller: str, result: Any) -> None:
    """The promise, for the call of ``caller``."""
    if not isinstance(result, str) or result in ("dead", "failed"):
        return
    start = events.index(("start", caller))
    voids = [place for place, event in enumerate(events) if event[0] == "void" and place < start]
    if result.startswith("put"):
        began = events.index(("void", result[3:]))
    elif result == "old":
        began = -1
    else:
        began = events.index(("create", result))
    assert all(began >= place for place in voids), f"{caller} began after a void and got {result}: {events}"


SCENARIOS: dict[str, tuple[tuple[Callable[[Value, Actor], Any], dict[str, Any]], ...]] = {
    "two creators, an invalidation, a write": ((get, {}), (get, {}), (invalidate, {}), (put, {})),
    "two creators, an invalidation, a lease that runs out": ((get, {}), (get, {}), (invalidate, {}), (wait, {})),
    "two creators, a write, a lease that runs out": ((get, {}), (get, {}), (put, {}), (wait, {})),
    "a creator that may die": ((get, {"mortal": True}), (get, {}), (invalidate, {})),
    "a creator that may die, and its lease that runs out": ((get, {"mortal": True}), (get, {}), (wait, {})),
    "a creator that raises": ((fail, {}), (get, {}), (invalidate, {})),
    "one that takes over": ((get, {}), (get, {"overdue": True}), (invalidate, {}), (put, {})),
    "a refresh": ((get, {}), (refresh, {}), (invalidate, {}), (put, {})),
    "two refreshes": ((refresh, {}), (refresh, {}), (invalidate, {})),
    "a refresh beside a write and a lease that runs out": ((get, {}), (refresh, {}), (put, {}), (wait, {})),
    "everybody creates": (
        (get, {"on_expired": "recompute"}), (get, {"on_expired": "recompute"}), (invalidate, {}), (put, {}),
    ),
    "two coroutines, an invalidation, a write": ((aget, {}), (aget, {}), (invalidate, {}), (put, {})),
    "a coroutine that is cancelled": ((cancelled, {}), (get, {}), (invalidate, {})),
    "a coroutine that takes over": ((get, {}), (aget, {"overdue": True}), (invalidate, {})),
    "a coroutine that refreshes": ((aget, {}), (arefresh, {}), (put, {})),
    "everybody waits": ((get, {"on_expired": "wait"}), (get, {"on_expired": "wait"}), (invalidate, {}), (put, {})),
}  # fmt: skip


@pytest.mark.parametrize("lease", [True, False], ids=["lease", "no lease"])
@pytest.mark.parametrize("old", [False, True], ids=["absent", "old"])
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_every_interleaving(scenario: str, old: bool, lease: bool) -> None:
    """The promise holds for every call in every order, and for one that comes last; no mark stays behind."""
    programs = [
        Program(name, act, lease, dict(options))
        for name, (act, options) in zip("ABCD", SCENARIOS[scenario], strict=False)
    ]
    last = Program("Z", get, lease, {})
    world = World()
    if old:
        record = CODEC.encode("n", "k", Entry("old", world.now - 10.0, 5.0))
        world = replace(world, record=(record, 0, world.now + 60.0))
    ends = 0
    for after, results in explore(world, [program.actor for program in programs]):
        ends += 1
        for program, result in zip(programs, results, strict=True):
            check(after.events, program.actor.name, result)
        left = _live(after)
        if left is not None and "dead" not in results:
            assert _value(left[0]) is not None, f"a mark stays: {after.events}"
        for finished, (result,) in explore(after, [last.actor]):
            check(finished.events, "Z", result)
    assert ends > 20
