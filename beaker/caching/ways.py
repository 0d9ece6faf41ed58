"""The two ways in which a call does what may wait: in its thread, and in an event loop.

Decisions are written once, as coroutines, and wait through a :class:`Way` only. :class:`InThread` never suspends, so
that :func:`run` can finish such a coroutine on the spot; :class:`InLoop` leaves the event loop free.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Protocol, TypeVar

from beaker.caching.lifetime import Unkept
from beaker.caching.marks import Begun, Creation
from beaker.locking.api import Lock, PollingLock, pauses, poll
from beaker.locking.creation import CreationLock, Passed
from beaker.loops.hops import Hops
from beaker.loops.signals import pause
from beaker.loops.turns import LoopLock

__all__ = ["InLoop", "InThread", "Way", "run"]

T = TypeVar("T")

_PAUSE = 0.1
"""Seconds between two looks at most, for a creation of another process."""


class Waiting(Protocol):
    """What a call that waits for a lock asks meanwhile."""

    @property
    def timeout(self) -> float:
        """Seconds it waits at most; -1: no limit."""
        ...

    def is_settled(self) -> bool:
        """Asked between two tries for a lock outside this process: whether it is not needed any more."""
        ...

    def takes(self, passed: Passed) -> bool:
        """Whether what the holder passes on is what this call waits for."""
        ...

    def shared_error(self) -> BaseException | None:
        """The holder's failure, if it is this call's result, too."""
        ...


class Source(Protocol):
    """Where a value that is passed on comes from."""

    @property
    def origin(self) -> Hashable:
        """Equal for those who would read that value."""
        ...

    def copies(self, entry: Any) -> Callable[[], Any] | None:
        """What returns copies of ``entry``, as a read would; ``None``: nothing but a read can."""
        ...


class Way(Protocol):
    """How one call waits; it may hold one lock."""

    @property
    def front(self) -> CreationLock | None:
        """Where values are passed on, if the lock has such a part."""
        ...

    @property
    def lock(self) -> Any:
        """Where failures are shared: ``failures``, ``error``, ``failed`` and ``fail(error, origin)``, as far as it has
        them."""
        ...

    async def call(self, work: Callable[[], T]) -> T:
        """``work()``, which may wait for a store."""
        ...

    async def begin(self, work: Callable[[], Begun], timeout: float = 0.0) -> Begun:
        """The same for a beginning, which is abandoned where the caller is cancelled meanwhile. It is tried again for
        ``timeout`` seconds (-1: no limit) as long as another has the key."""
        ...

    async def abandon(self, creation: Creation, error: BaseException) -> bool:
        """Abandon ``creation`` because of ``error``, which may be the caller's own end."""
        ...

    async def create(self, create: Callable[[], Any]) -> Any:
        """What ``create()`` returns."""
        ...

    async def store(self, work: Callable[[], Any], source: Source) -> None:
        """``work()``, which stores and returns the entry of ``source``, or ``None``."""
        ...

    async def attempt(self) -> bool:
        """Take the lock, if it is free now."""
        ...

    async def wait(self, waiting: Waiting) -> bool:
        """Take the lock; ``False`` when the time runs out, or it is not needed any more."""
        ...

    def release(self) -> None:
        """Give the lock up."""
        ...


class InThread:
    """The calling thread waits."""

    def __init__(self, lock: Lock) -> None:
        self.lock: Any = lock
        front = getattr(lock, "first", lock)
        self.front = front if isinstance(front, CreationLock) else None
        self.stopped: BaseException | None = None

    async def call(self, work: Callable[[], T]) -> T:
        return work()

    async def begin(self, work: Callable[[], Begun], timeout: float = 0.0) -> Begun:
        begun = work()
        if not (begun.taken and timeout):
            return begun
        tries = [begun]

        def free() -> bool:
            tries[0] = work()
            return not tries[0].taken

        poll(free, timeout=timeout, ceiling=_PAUSE)
        return tries[0]

    async def abandon(self, creation: Creation, error: BaseException) -> bool:
        return creation.abandon()

    async def create(self, create: Callable[[], Any]) -> Any:
        try:
            return create()
        except StopIteration as err:
            self.stopped = err
            raise

    async def store(self, work: Callable[[], Any], source: Source) -> None:
        # Threads that wait read for themselves; coroutines may be many.
        if self.front is not None:
            _store(self.front, work, source)
        else:
            work()

    async def attempt(self) -> bool:
        taken: bool = self.lock.acquire(False)
        return taken

    async def wait(self, waiting: Waiting) -> bool:
        lock, timeout = self.lock, waiting.timeout
        if isinstance(lock, PollingLock):
            return lock.acquire_unless(waiting.is_settled, timeout)
        if timeout < 0:
            taken: bool = lock.acquire(True)
        elif _takes_timeout(lock.acquire):
            taken = lock.acquire(True, timeout)
        else:
            taken = poll(lambda: lock.acquire(False), timeout=timeout, done=waiting.is_settled)
        return taken

    def release(self) -> None:
        self.lock.release()


def run(way: InThread, steps: Coroutine[Any, Any, T]) -> T:
    """What ``steps`` return, which wait in this thread."""
    try:
        steps.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    except RuntimeError as err:
        # No coroutine can raise StopIteration; a creation function may.
        if way.stopped is not None and err.__cause__ is way.stopped:
            raise way.stopped from None
        raise
    steps.close()
    raise RuntimeError("a call in a thread was suspended")


class InLoop:
    """An event loop goes on; with ``blocks``, stores are called in worker threads. ``front`` returns the lock before
    one that other processes or other kinds of callers hold, for the calls of this process."""

    def __init__(self, lock: Lock, front: Callable[[], CreationLock], *, blocks: bool) -> None:
        self._hops = Hops(blocks)
        self._lock = LoopLock(lock, front, self._hops)
        self.lock: CreationLock | None = self._lock.front
        self.front = self.lock

    async def call(self, work: Callable[[], T]) -> T:
        return await self._hops.call(work)

    async def begin(self, work: Callable[[], Begun], timeout: float = 0.0) -> Begun:
        naps = pauses(timeout=timeout, ceiling=_PAUSE)
        while True:
            begun = await self._hops.obtain(work, _abandon)
            if begun.creation is not None and self._hops.blocks:
                self._lock.leave(begun.creation.abandon)
            nap = next(naps, None) if begun.taken and timeout else None
            if nap is None:
                return begun
            await pause(nap)

    async def abandon(self, creation: Creation, error: BaseException) -> bool:
        return bool(await self._hops.surely(creation.abandon, error))

    async def create(self, create: Callable[[], Any]) -> Any:
        value = create()
        return await value if inspect.isawaitable(value) else value

    async def store(self, work: Callable[[], Any], source: Source) -> None:
        await self._hops.call(work if self.lock is None else partial(_store, self.lock, work, source))

    async def attempt(self) -> bool:
        return await self._lock.attempt()

    async def wait(self, waiting: Waiting) -> bool:
        async def settled() -> bool:
            return await self._hops.call(waiting.is_settled)

        async def passed() -> bool:
            lock = self.lock
            found = None if lock is None else lock.passed
            if found is not None and waiting.takes(found):
                return True
            return waiting.shared_error() is not None and await settled()

        return await self._lock.wait(waiting.timeout, passed, settled)

    def release(self) -> None:
        self._lock.release()


def _store(lock: CreationLock, work: Callable[[], Any], source: Source) -> None:
    number = lock.will_pass_on()
    entry = work()
    if entry is not None and (lock.has_coroutines or (isinstance(entry, Unkept) and lock.is_awaited)):
        copy = source.copies(entry)
        if copy is not None:
            lock.pass_on(Passed(number, source.origin, entry, copy))


def _abandon(begun: Begun) -> None:
    if begun.creation is not None:
        begun.creation.abandon()


def _takes_timeout(acquire: Callable[..., Any]) -> bool:
    # The manual's creation locks know acquire(wait) only; locks written in C do not say.
    try:
        inspect.signature(acquire).bind(True, 1.0)
    except TypeError:
        return False
    except ValueError:
        return True
    return True
