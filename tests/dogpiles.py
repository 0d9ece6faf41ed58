"""One cached key with everything around it that the tests of the dogpile algorithm look at."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from beaker.caching.dogpile import Terms, aget_or_create, get_or_create
from beaker.caching.entry import Entry
from beaker.caching.freshness import Patience
from beaker.caching.marks import Begun, Creation, LocalMarks, Mode
from beaker.caching.ways import InLoop
from beaker.locking.api import poll
from beaker.locking.creation import CreationLock
from beaker.locking.factories import LayeredLocks, Lock, LockFactory, ThreadLocks
from beaker.storage.lease import LeaseLocks
from beaker.storage.memory import MemoryStore
from beaker.testing import FakeClock
from beaker.testing.lock import PATIENCE


class Cache:
    """One key: where its entry is kept, what is asked of it, and how it is created."""

    def __init__(self, locks: LockFactory | None = None, *, loops: bool = False) -> None:
        self.loops = loops
        self.front = CreationLock()
        self.clock = FakeClock()
        self.locks = locks or ThreadLocks()
        self.entry: Entry | None = None
        self.expiretime: float | None = 10.0
        self.cost = 0.0
        self.reads = 0
        self.creations = 0
        self.create: Callable[[], Any] = lambda: "new"
        self.on_read: Callable[[], object] = lambda: None
        self.marks = LocalMarks()
        self.patience = Patience(self.clock)
        self.limit: float | None = None

    def put(self, value: Any, age: float = 0.0) -> None:
        self.entry = Entry(value, self.clock() - age, self.expiretime, self.cost)

    def write(self, value: Any) -> None:
        self.put(value)

    def get(self, **options: Any) -> Any:
        """The value; with ``loops`` in an event loop of this call's own."""
        if self.loops:
            return asyncio.run(self.aget(**options))
        return get_or_create(self, self._create, self.lock, clock=self.clock, timer=self.clock, **options)

    async def aget(self, **options: Any) -> Any:
        def way() -> InLoop:
            return InLoop(self.lock(), lambda: self.front, blocks=False)

        return await aget_or_create(self, self._create, way, Terms(self.clock, self.clock, **options), self.read())

    def lock(self) -> Lock:
        return self.locks.creation("n", "k")

    # beaker.caching.dogpile.Place

    def read(self) -> Entry | None:
        self.reads += 1
        entry = self.entry
        self.on_read()
        return entry

    def begin(self, good: Callable[[Any], bool], *, absent: bool, mode: Mode) -> Begun:
        entry = self.read()
        if entry is not None and good(entry):
            return Begun(entry, None)
        return Begun(entry, self.marks.begin("k", lambda entry: self.write(entry.value), lambda: None))

    def store(self, creation: Creation, value: Any, cost: float) -> Entry | None:
        entry = Entry(value, self.clock(), self.expiretime, cost)
        return entry if creation.store(entry) else None

    origin = ("n", "k")

    def copies(self, entry: Any) -> Callable[[], Entry]:
        return lambda: entry

    def is_taken(self, entry: Any) -> bool:
        return False

    def is_overdue(self, entry: Any) -> bool:
        return self.patience.ended("k", entry.stored, self.limit)

    def void(self) -> None:
        """What an invalidation does."""
        self.marks.void("k")
        self.entry = None

    def _create(self) -> Any:
        self.creations += 1
        return self.create()

    @property
    def is_free(self) -> bool:
        lock = self.lock()
        # What a coroutine held outside this process is released by a thread, a moment later.
        if not poll(lambda: lock.acquire(False), timeout=0.5 if self.loops else 0):
            return False
        lock.release()
        return True


class Plain:
    """The same ``threading.Lock`` for every key."""

    def __init__(self) -> None:
        self.only = threading.Lock()

    def creation(self, namespace: str, key: str) -> Lock:
        return self.only


class Gate:
    """A creation that signals that it runs, and ends on request."""

    def __init__(self, cache: Cache, outcome: Any = "new") -> None:
        self.running = threading.Event()
        self.may_end = threading.Event()
        self.outcome = outcome
        cache.create = self

    def __call__(self) -> Any:
        self.running.set()
        assert self.may_end.wait(PATIENCE)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Call:
    """A thread that gets the value."""

    def __init__(self, cache: Cache, **options: Any) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

        def work() -> None:
            try:
                self.value = cache.get(**options)
            except Exception as err:
                self.error = err

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def end(self) -> Any:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.error or self.value


LOCKS: dict[str, Callable[[], LockFactory]] = {
    "threads": ThreadLocks,
    "leases": lambda: LayeredLocks(ThreadLocks(), LeaseLocks(MemoryStore(), renew=False)),
    "plain": Plain,
}
"""A lock among threads, a lease behind it, and the standard library's."""

WAYS = [pytest.param((kind, loops), id=f"{kind}{' in loops' * loops}") for kind in LOCKS for loops in (False, True)]
"""Each kind of lock for calls in threads, and for calls in event loops of their own."""


def waiting(lock: Any) -> int:
    """How many calls wait for a creation lock, or for the first of a pair."""
    front = getattr(lock, "first", lock)
    return len(front._waiting) + len(front._signals)
