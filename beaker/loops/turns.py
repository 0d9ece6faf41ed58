"""Creation locks as coroutines take them: no event loop is blocked, and no worker thread is kept waiting."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from beaker.exceptions import LockError
from beaker.locking import background
from beaker.locking.api import Lock, pauses, poll
from beaker.locking.creation import CreationLock, LayeredLock, LoopHolder
from beaker.locking.factories import NullLock
from beaker.locking.flag import Flag
from beaker.loops.hops import Hops
from beaker.loops.signals import here, pause, signal

__all__ = ["LoopLock"]

Question = Callable[[], Awaitable[bool]]

_LOOK = 1.0
"""Seconds after which a coroutine that waits looks again, for a loop may have been closed."""
_CEILING = 0.05
"""Seconds between two tries for a lock outside this process at most."""


class LoopLock:
    """``lock``, to be taken once by the running coroutine.

    A :class:`CreationLock`, alone or in front of another lock, is taken in the event loop, and waited for without a
    thread. A lock outside of the process is tried in worker threads. One that may belong to the thread that takes it
    (it does not say ``thread_bound = False``) gets a thread of its own for as long as it is held, and ``front`` in
    front of it.
    """

    def __init__(self, lock: Lock, front: Callable[[], CreationLock], hops: Hops) -> None:
        self._front: CreationLock | None = None
        self._back: Any = None
        if isinstance(lock, CreationLock):
            self._front = lock
        elif isinstance(lock, LayeredLock) and isinstance(lock.first, CreationLock):
            self._front, self._back = lock.first, lock.second
        elif not isinstance(lock, NullLock):
            self._front, self._back = front(), lock
        if self._back is not None:
            kind = _OwnThread if getattr(self._back, "thread_bound", True) else _Tried
            self._back = kind(self._back, hops)
        self._holder = LoopHolder(*here())

    @property
    def front(self) -> CreationLock | None:
        """The lock in this process; ``None`` where nothing is excluded."""
        return self._front

    async def attempt(self) -> bool:
        """Take it, if it is free now."""
        if self._front is None:
            return True
        return self._front.acquire_for(self._holder) and await self._complete(_never, 0.0)

    async def wait(self, timeout: float, passed: Question, settled: Question) -> bool:
        """Take it, waiting so many seconds at most (-1: no limit). ``False``: not held.

        The waiting ends, too, when ``passed()``, asked whenever the holder in this process ended, is true, and when
        ``settled()`` is, asked between two tries for a lock outside of it.

        Of the calls of this process whose time runs out while one creation hangs, one gives up; while that may create
        in its place, other calls wait for it, for ``timeout`` seconds more at most.
        """
        front = self._front
        if front is None:
            return True
        begun = time.monotonic()
        if not await self._wait_in_front(front, timeout, begun, passed):
            return False
        return await self._complete(settled, -1.0 if timeout < 0 else max(0.0, begun + timeout - time.monotonic()))

    async def _wait_in_front(self, front: CreationLock, timeout: float, begun: float, passed: Question) -> bool:
        given = signal()
        front.await_by(given, self._holder)
        try:
            end = None if timeout < 0 else begun + timeout
            while not await passed():
                if front.acquire_for(self._holder):
                    return True
                left = _LOOK if end is None else end - time.monotonic()
                if left <= 0:
                    if front.replaced is None or front.replaced < begun:
                        front.replaced = time.monotonic()
                        return False
                    if end == (end := front.replaced + timeout):
                        return False
                    continue
                await given.wait(min(left, _LOOK))
        finally:
            front.leave(given)
        return False

    async def _complete(self, settled: Question, timeout: float) -> bool:
        if self._back is None:
            return True
        taken: bool = False
        try:
            taken = await self._back.acquire(settled, timeout)
        finally:
            if not taken:
                self._release_front()
        return taken

    def leave(self, left: Callable[[], object] | None) -> None:
        """What has to be done if this event loop is closed while the lock is held."""
        self._holder.left = left

    def release(self) -> None:
        """Give it up. Never waits."""
        try:
            if self._back is not None:
                self._back.release()
        finally:
            self._release_front()

    def _release_front(self) -> None:
        if self._front is not None:
            self._front.release_for(self._holder)


async def _never() -> bool:
    return False


class _Tried:
    """A lock that any thread may take and release."""

    def __init__(self, lock: Any, hops: Hops) -> None:
        self._lock = lock
        self._hops = hops

    async def acquire(self, settled: Question, timeout: float) -> bool:
        naps = pauses(timeout=timeout, ceiling=_CEILING)
        while not await self._hops.obtain(partial(self._lock.acquire, False), self._undo):
            nap = next(naps, None)
            if nap is None:
                return False
            await pause(nap)
            if await settled():
                return False
        return True

    def _undo(self, taken: bool) -> None:
        if taken:
            self._lock.release()

    def release(self) -> None:
        self._lock.release()


class _OwnThread:
    """A lock that is taken, held and released by one thread of its own."""

    def __init__(self, lock: Any, hops: Hops) -> None:
        self._lock = lock
        self._hold: _Hold | None = None

    async def acquire(self, settled: Question, timeout: float) -> bool:
        hold = _Hold(self._lock, timeout)
        try:
            while not hold.tried.is_set():
                await hold.signal.wait(_CEILING)
                if not hold.tried.is_set() and await settled():
                    # If it is taken this moment, its thread releases it.
                    hold.unwanted.set()
                    return False
        except BaseException:
            hold.unwanted.set()
            raise
        if hold.error is not None:
            raise hold.error
        self._hold = hold
        return hold.taken

    def release(self) -> None:
        if self._hold is not None:
            self._hold.unwanted.set()


class _Hold:
    """A thread that tries to take a lock, and holds it until it is unwanted."""

    def __init__(self, lock: Any, timeout: float) -> None:
        self.signal = signal()
        self.tried = Flag()
        self.unwanted = Flag()
        self.taken = False
        self.error: BaseException | None = None
        self._lock = lock
        if not background.begin("beaker-lock", partial(self._run, timeout)):
            raise LockError(
                "no thread can be had that holds the lock: let the process have more of them", code="lock.no-thread"
            )

    def _run(self, timeout: float) -> None:
        try:
            self.taken = poll(
                lambda: self._lock.acquire(False), timeout=timeout, done=self.unwanted.is_set, ceiling=_CEILING
            )
        except BaseException as err:
            self.error = err
        self.tried.set()
        self.signal.set()
        if self.taken:
            self.unwanted.wait()
            self._lock.release()
