"""What creation locks are, the one among threads, and one in front of another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from beaker.exceptions import LockError
from beaker.forks import ForkAware, notice_patch
from beaker.locking.api import Lock, poll

__all__ = ["CreationLock", "LayeredLock"]


class CreationLock(ForkAware):
    """A lock among threads that also passes a creator's failure on to those who waited for it.

    The holder reports with :meth:`fail`. A waiter that remembered :attr:`failures` before it waited and
    finds another number once it holds the lock knows that :attr:`error` is the result of its own call.
    Not re-entrant: LockError when the thread that holds it waits for it.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.error: BaseException | None = None
        self._inherited = False
        self._renew()
        super().__init__()

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._waiting: set[int] = set()

    def _after_fork(self) -> None:
        # The forking thread lives on in the child and will still release what it held in the parent.
        self._inherited = self._holder == threading.get_ident()
        self.error = None
        self._renew()

    def _renew_locks(self) -> None:
        if self._holder is None:
            self._renew()

    def acquire(self, wait: bool = True, timeout: float = -1) -> bool:
        notice_patch()
        me = threading.get_ident()
        taken = self._lock.acquire(False)
        if not taken and wait:
            if self._holder == me:
                raise LockError("the creation of this value waits for itself", code="lock.waits-for-itself")
            self._waiting.add(me)
            try:
                taken = self._lock.acquire(True, timeout)
            finally:
                self._waiting.discard(me)
        if taken:
            self._holder = me
        return taken

    def release(self) -> None:
        """Give it up, from any thread. LockError when it is not held."""
        if self._inherited and self._holder != threading.get_ident():
            self._inherited = False
            return
        if self._holder is None:
            raise LockError("release of a lock that is not held")
        self._holder = None
        if not self._waiting:
            # No waiter is left to take it; the exception would keep the creator's frames alive.
            self.error = None
        self._lock.release()

    @property
    def is_awaited(self) -> bool:
        """Whether a thread waits for it."""
        return bool(self._waiting)

    def fail(self, error: BaseException) -> None:
        """Called by the holder: the creation ended with ``error``."""
        self.error = error
        self.failures += 1


class LayeredLock:
    """Both locks of a pair, ``first`` before ``second``; what is half taken is undone."""

    def __init__(self, first: Lock, second: Lock, timer: Callable[[], float] = time.monotonic) -> None:
        self.first = first
        self.second = second
        self.poll_interval: float = getattr(second, "poll_interval", 0.1)
        self._timer = timer

    @property
    def failures(self) -> int:
        """How many creations failed under ``first``, as far as it counts them."""
        return getattr(self.first, "failures", 0)

    @property
    def error(self) -> BaseException | None:
        """What the last failure under ``first`` was."""
        return getattr(self.first, "error", None)

    def fail(self, error: BaseException) -> None:
        """Report the failure to the waiters of ``first``, if it knows any."""
        report = getattr(self.first, "fail", None)
        if report is not None:
            report(error)

    def acquire(self, wait: bool = True, timeout: float = -1) -> bool:
        if not wait:
            return self.first.acquire(False) and self._complete(lambda: self.second.acquire(False))
        end = self._timer() + timeout
        if not (self.first.acquire(True, timeout) if timeout >= 0 else self.first.acquire()):
            return False
        return self._complete(lambda: self.second.acquire(True, self._left(timeout, end)))

    def acquire_unless(self, done: Callable[[], bool], timeout: float = -1) -> bool:
        """See :class:`PollingLock`. Who waited for ``first`` asks ``done`` before it tries ``second``."""
        end = self._timer() + timeout
        waited = not self.first.acquire(False)
        if waited and not (self.first.acquire(True, timeout) if timeout >= 0 else self.first.acquire()):
            return False
        return self._complete(lambda: not (waited and done()) and self._second_unless(done, self._left(timeout, end)))

    def _second_unless(self, done: Callable[[], bool], timeout: float) -> bool:
        second = self.second
        # isinstance() with a protocol takes longer than many a lock.
        acquire_unless = getattr(second, "acquire_unless", None)
        if acquire_unless is not None:
            return bool(acquire_unless(done, timeout))
        return poll(lambda: second.acquire(False), timeout=timeout, done=done, timer=self._timer)

    def _left(self, timeout: float, end: float) -> float:
        return -1 if timeout < 0 else max(0.0, end - self._timer())

    def _complete(self, take_second: Callable[[], bool]) -> bool:
        taken = False
        try:
            taken = take_second()
        finally:
            if not taken:
                self.first.release()
        return taken

    def release(self) -> None:
        """Give up ``second``, then ``first``, whatever the former raises."""
        try:
            self.second.release()
        finally:
            self.first.release()
