"""What creation locks are, the one among threads, and one in front of another."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

from beaker.exceptions import BeakerException, LockError
from beaker.forks import ForkAware, notice_patch
from beaker.locking import background
from beaker.locking.api import Lock, poll
from beaker.locking.turn import Turn

__all__ = ["CreationLock", "LayeredLock", "LoopHolder", "Passed"]

_LOOK = 1.0
"""Seconds between two looks at whether the holder's event loop was closed."""


class _ThreadHolder:
    """A thread that holds a :class:`CreationLock`. One object for each time."""

    __slots__ = ("thread",)

    def __init__(self) -> None:
        self.thread = threading.get_ident()

    def stops_for(self, thread: int) -> bool:
        return thread == self.thread


class LoopHolder:
    """A coroutine that may hold a :class:`CreationLock`: the ``loop`` it runs in, as far as that is known, and its
    ``task``. One object for each lock it takes."""

    __slots__ = ("_held", "left", "loop", "task", "thread")

    def __init__(self, loop: Any, task: Any) -> None:
        self.thread = threading.get_ident()
        self.loop = loop
        self.task = task
        self.left: Callable[[], object] | None = None
        """What has to be done, in a thread of its own, if its loop is closed now."""
        self._held: list[bool] = []

    @property
    def is_gone(self) -> bool:
        """Whether its loop was closed before the coroutine ended."""
        return self.loop is not None and bool(self.loop.is_closed())

    def stops_for(self, thread: int) -> bool:
        """Whether its loop stands still while ``thread`` waits."""
        return thread == self.thread and (self.loop is None or bool(self.loop.is_running()))

    def begin(self) -> None:
        self._held.append(True)

    def end(self) -> bool:
        """Whether it held the lock until now; true once, whatever threads ask."""
        try:
            return self._held.pop()
        except IndexError:
            return False


class Signal(Protocol):
    """What wakes a coroutine that waits; see :class:`beaker.loops.signals.Signal`."""

    def set(self) -> bool: ...


class Passed(NamedTuple):
    """What a holder created, for those that waited for it; ``copy()`` returns one entry for each of them."""

    number: int
    """Above :attr:`CreationLock.passing` as it was when the waiting call began: that would read what was stored."""
    origin: Hashable
    """Whose value it is; calls for other values may share the lock."""
    entry: Any
    copy: Callable[[], Any]

    def __repr__(self) -> str:
        return f"<passed on, number {self.number}>"


class CreationLock(ForkAware):
    """A lock among threads, and coroutines of event loops, that also passes a creator's failure on to those who waited
    for it.

    The holder reports with :meth:`fail`. A waiter that remembered :attr:`failures` before it waited and
    finds another number once it holds the lock knows that :attr:`error` is the result of its own call, if
    :attr:`failed` is what it asks for.
    Not re-entrant: LockError when the thread that holds it waits for it. What a coroutine of a loop that was closed
    holds is free.
    """

    def __init__(self, watcher: ForkAware | None = None) -> None:
        """``watcher`` calls its hooks at forks and patches; without one it is registered itself."""
        self.failures = 0
        self.error: BaseException | None = None
        self.failed: Hashable = None
        """Whose creation ended with :attr:`error`."""
        self.passing = 0
        """How many values began to be stored for those who wait."""
        self.passed: Passed | None = None
        self.replaced: float | None = None
        """When a call last gave up waiting for the holder, by :func:`time.monotonic`."""
        self._inherited = False
        self._renew()
        # Kept: it has to live as long as the lock.
        self._watcher = watcher
        if watcher is None:
            super().__init__()

    def _renew(self) -> None:
        self._turn = Turn()
        self._waiting: set[int] = set()
        self._signals: dict[Signal, None] = {}

    @property
    def _holder(self) -> Any:
        return self._turn.holder

    @property
    def is_mine(self) -> bool:
        """Whether this thread has it by :meth:`acquire`."""
        holder = self._holder
        return isinstance(holder, _ThreadHolder) and holder.thread == threading.get_ident()

    def _after_fork(self) -> None:
        # The forking thread lives on in the child and will still release what it held in the parent.
        self._inherited = self.is_mine
        self.error = self.failed = self.passed = self.replaced = None
        self._renew()

    def _renew_locks(self) -> None:
        if self._holder is None:
            self._renew()

    def acquire(self, wait: bool = True, timeout: float = -1) -> bool:
        notice_patch()
        me = _ThreadHolder()
        try:
            return self._turn.take(me) or self._take(me) or (wait and self._wait(me, timeout))
        except BaseException:
            self._free(me)
            raise

    def _take(self, place: _ThreadHolder | LoopHolder) -> bool:
        if self._turn.take(place):
            return True
        holder = self._holder
        if isinstance(holder, LoopHolder) and holder.is_gone:
            left = holder.left
            if self.release_for(holder) and left is not None:
                background.begin("beaker-left", left)
            return self._turn.take(place)
        return False

    def _wait(self, place: _ThreadHolder, timeout: float) -> bool:
        holder, me = self._holder, place.thread
        if holder is not None and holder.stops_for(me):
            raise _waits_for_itself()
        self._waiting.add(me)
        try:
            end = None if timeout < 0 else time.monotonic() + timeout
            while True:
                left = _LOOK if end is None else max(0.0, end - time.monotonic())
                # Whether a loop was closed has to be asked again and again.
                if self._turn.wait(place, min(left, _LOOK)) or self._take(place):
                    return True
                if left <= _LOOK and end is not None:
                    return False
        finally:
            self._waiting.discard(me)

    def release(self) -> None:
        """Give it up, from any thread. LockError when it is not held."""
        if self._inherited and not self.is_mine:
            self._inherited = False
            return
        holder: Any = self._turn.holder
        if holder is None:
            raise LockError("release of a lock that is not held")
        try:
            self._free(holder)
        except BaseException:
            self._free(holder)
            raise

    def _free(self, holder: Any) -> None:
        if self._turn.holder is holder:
            self.replaced = None
            if self.error is not None or self.passed is not None:
                self._forget()
        self._turn.free(holder)
        if self._signals:
            self._wake_one()

    def _forget(self) -> None:
        if not (self._waiting or self._signals):
            # No waiter is left to take it; the exception would keep the creator's frames alive.
            self.error = self.failed = self.passed = None

    @property
    def is_awaited(self) -> bool:
        """Whether a thread or a coroutine waits for it."""
        return bool(self._waiting or self._signals)

    def fail(self, error: BaseException, origin: Hashable = None) -> None:
        """Called by the holder: the creation of the value of ``origin`` ended with ``error``."""
        self.error = error
        self.failed = origin
        self.failures += 1
        self._wake_all()

    # For event loops

    def acquire_for(self, holder: LoopHolder) -> bool:
        """Take it for a coroutine, if it is free now."""
        notice_patch()
        taken = self._take(holder)
        if taken:
            holder.begin()
        return taken

    def release_for(self, holder: LoopHolder) -> bool:
        """Give it up, if ``holder`` has it: in a forked child, and after its loop was closed, it has not."""
        held = self._holder is holder and holder.end()
        if held:
            self._free(holder)
        return held

    def await_by(self, signal: Signal, holder: LoopHolder) -> None:
        """Give ``signal`` when it may be free, or when there is something to :meth:`pass_on`. LockError when the task
        of ``holder`` holds it."""
        other = self._holder
        if isinstance(other, LoopHolder) and other.task is not None and other.task is holder.task:
            raise _waits_for_itself()
        self._signals[signal] = None

    def leave(self, signal: Signal) -> None:
        """Undo :meth:`await_by`; another is given in its place."""
        self._signals.pop(signal, None)
        if self._holder is None:
            self._forget()
            self._wake_one()

    def will_pass_on(self) -> int:
        """The number of a value that is about to be stored, for :meth:`pass_on`."""
        self.passing += 1
        return self.passing

    @property
    def has_coroutines(self) -> bool:
        """Whether a coroutine waits for it."""
        return bool(self._signals)

    def pass_on(self, passed: Passed) -> None:
        """A value was created and stored; for the coroutines that wait."""
        self.passed = passed
        self._wake_all()

    def _wake_one(self) -> None:
        for signal in list(self._signals):
            if signal.set():
                return
            self._signals.pop(signal, None)

    def _wake_all(self) -> None:
        for signal in list(self._signals):
            if not signal.set():
                self._signals.pop(signal, None)


def _waits_for_itself() -> LockError:
    return LockError("the creation of this value waits for itself", code="lock.waits-for-itself")


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

    @property
    def failed(self) -> Hashable:
        """Whose creation that was."""
        return getattr(self.first, "failed", None)

    def fail(self, error: BaseException, origin: Hashable = None) -> None:
        """Report the failure to the waiters of ``first``, if it knows any."""
        report = getattr(self.first, "fail", None)
        if report is not None:
            report(error, origin)

    def acquire(self, wait: bool = True, timeout: float = -1) -> bool:
        if not wait:
            return self._both(lambda: self.first.acquire(False), lambda: self.second.acquire(False))
        end = self._timer() + timeout
        return self._both(
            lambda: self._wait_for_first(timeout), lambda: self.second.acquire(True, self._left(timeout, end))
        )

    def acquire_unless(self, done: Callable[[], bool], timeout: float = -1) -> bool:
        """See :class:`PollingLock`. Who waited for ``first`` asks ``done`` before it tries ``second``."""
        end = self._timer() + timeout
        waited = False

        def take_first() -> bool:
            nonlocal waited
            waited = not self.first.acquire(False)
            return not waited or self._wait_for_first(timeout)

        return self._both(
            take_first, lambda: not (waited and done()) and self._second_unless(done, self._left(timeout, end))
        )

    def _wait_for_first(self, timeout: float) -> bool:
        return self.first.acquire(True, timeout) if timeout >= 0 else self.first.acquire()

    def _second_unless(self, done: Callable[[], bool], timeout: float) -> bool:
        second = self.second
        # isinstance() with a protocol takes longer than many a lock.
        acquire_unless = getattr(second, "acquire_unless", None)
        if acquire_unless is not None:
            return bool(acquire_unless(done, timeout))
        return poll(lambda: second.acquire(False), timeout=timeout, done=done, timer=self._timer)

    def _left(self, timeout: float, end: float) -> float:
        return -1 if timeout < 0 else max(0.0, end - self._timer())

    def _both(self, take_first: Callable[[], bool], take_second: Callable[[], bool]) -> bool:
        has_first = has_second = False
        try:
            has_first = take_first()
            if has_first:
                has_second = take_second()
                if not has_second:
                    self.first.release()
            return has_second
        except BaseException:
            if has_second:
                self.second.release()
            if has_first:
                _release_again(self.first)
            raise

    def release(self) -> None:
        """Give up ``second``, then ``first``, whatever the former raises."""
        try:
            self.second.release()
        except BeakerException:
            raise
        except BaseException:
            # It may have come from outside, before the release began.
            _release_again(self.second)
            raise
        finally:
            self.first.release()


def _release_again(lock: Lock) -> None:
    # Another may have it by now.
    if getattr(lock, "is_mine", True):
        # It was released already; of locks of the standard library RuntimeError says so.
        with contextlib.suppress(LockError, RuntimeError):
            lock.release()
