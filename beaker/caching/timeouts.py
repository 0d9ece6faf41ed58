"""Calls that do not wait for a creation longer than they were told to, while it goes on.

The whole turn of such a call (waiting for its lock, creating, storing, releasing) is done by a thread, or a task, of
its own, and the call waits for that one. So whatever the turn holds is released by whoever took it.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import suppress
from contextvars import ContextVar, copy_context
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from beaker import counters
from beaker.exceptions import ConfigWarning, CreationTimeout, LockError, warn
from beaker.forks import ForkAware
from beaker.locking import background
from beaker.locking.api import poll
from beaker.locking.flag import Flag
from beaker.loops.signals import Signal, here, signal
from beaker.runtime import current

__all__ = ["Fallback", "Timeouts", "timeouts_of"]

_MOST = 64
"""Threads that create for calls with timeouts in this process, those that hang among them."""
_LONG = 3_600.0

log = logging.getLogger("beaker.cache")


class Fallback(Protocol):
    """What a call may return in place of a new value. Raises what reading raises."""

    def stale(self) -> tuple[Any] | None:
        """The old value as it is stored now, or a newer one."""
        ...

    def in_place_of_error(self) -> tuple[Any] | None:
        """The same, where it may be returned in place of an exception."""
        ...


class Timeouts(NamedTuple):
    """Seconds after which a call returns the old value (``soft``), and after which it raises (``hard``)."""

    soft: float | None
    hard: float | None

    def __repr__(self) -> str:
        return f"<timeouts: soft={self.soft}, hard={self.hard}>"

    def run(self, origin: Hashable, work: Callable[[Outcome], Any], has_old: bool, fallback: Fallback) -> Any:
        """What ``work(outcome)`` returns or raises, or what ``fallback`` has once the time is over; CreationTimeout."""
        wait = self._waits(has_old)
        outcome = Outcome(origin, None if self.hard is None else wait.begun + self.hard)
        if not outcome.begin_in_thread(work, wait.first):
            if wait.first is None or (outcome.is_threadless and not wait.is_soft):
                return work(outcome)
        elif outcome.ended.wait(_most(wait.first)):
            return outcome.result()
        if wait.is_soft:
            found = fallback.stale()
            if found is not None and not outcome.leave():
                return found[0]
            rest = None if self.hard is None else wait.left()
            if outcome.begun or outcome.begin_in_thread(work, rest):
                if outcome.ended.wait(_most(None if rest is None else wait.left())):
                    return outcome.result()
            elif rest is None or outcome.is_threadless:
                return work(outcome)
        return self._late(outcome, fallback.in_place_of_error())

    async def arun(
        self,
        origin: Hashable,
        work: Callable[[Outcome], Awaitable[Any]],
        has_old: bool,
        fallback: Fallback,
        call: Callable[[Callable[[], tuple[Any] | None]], Awaitable[tuple[Any] | None]],
    ) -> Any:
        """:meth:`run` for an event loop; ``call`` asks ``fallback``."""
        wait = self._waits(has_old)
        outcome = Outcome(origin, None if self.hard is None else wait.begun + self.hard)
        outcome.begin_in_loop(work)
        try:
            if await outcome.wait_in_loop(wait.first):
                return outcome.result()
            if wait.is_soft:
                found = await call(fallback.stale)
                if found is not None and not outcome.leave():
                    return found[0]
                if await outcome.wait_in_loop(None if self.hard is None else wait.left()):
                    return outcome.result()
            found = await call(fallback.in_place_of_error)
        except BaseException:
            # The caller's own end, after which another call creates; what the turn raised has ended it.
            outcome.cancel()
            raise
        return self._late(outcome, found)

    def _waits(self, has_old: bool) -> _Wait:
        is_soft = has_old and self.soft is not None and (self.hard is None or self.soft < self.hard)
        return _Wait(self.soft if is_soft else self.hard, is_soft, self.hard, time.monotonic())

    def _late(self, outcome: Outcome, found: tuple[Any] | None) -> Any:
        if outcome.leave():
            return outcome.result()
        counters.count("creation_timeout")
        if found is not None:
            return found[0]
        raise CreationTimeout(self.hard or 0.0)


class _Wait(NamedTuple):
    first: float | None
    is_soft: bool
    hard: float | None
    begun: float

    def left(self) -> float:
        return max(0.0, self.begun + (self.hard or 0.0) - time.monotonic())


def _most(seconds: float | None) -> float | None:
    return None if seconds is None else min(seconds, threading.TIMEOUT_MAX)


class Outcome:
    """What becomes of one turn, which may go on when nothing waits for it any more."""

    def __init__(self, origin: Hashable, until: float | None) -> None:
        self.begun = False
        self.is_threadless = False
        """Neither now nor soon a thread can be had: to create late is better than not to."""
        self.ended = Flag()
        self._left = False
        self._until = until
        self._origin = origin
        self._guard = threading.Lock()
        self._value: Any = None
        self._error: BaseException | None = None
        self._signal: Signal | None = None
        self._cancel: Callable[[], object] | None = None
        if any(other._origin == origin and not other.ended.is_set() for other in _inside.get()):
            raise LockError("the creation of this value waits for itself", code="lock.waits-for-itself")

    def begin_in_thread(self, work: Callable[[Outcome], Any], patience: float | None) -> bool:
        """Begin ``work`` in a daemon thread, in a copy of this context. ``False``: none was free within ``patience``
        seconds (``None``: at once)."""
        slots, running, before = _slots, False, sys.exc_info()[1]
        context, most = copy_context(), 0.0 if patience is None else min(patience, threading.TIMEOUT_MAX)

        def run() -> None:
            nonlocal running
            running = True
            try:
                _inside.set((*_inside.get(), self))
                self._end(work(self), None)
            except BaseException as err:
                self._end(None, err)
            finally:
                slots.free(self)

        thread = threading.Thread(target=context.run, args=(run,), name="beaker-creation", daemon=True)
        try:
            if not poll(lambda: slots.take(self), timeout=most):
                counters.count("creation_threads_exhausted")
                return False
            self.begun = True
            if sys.is_finalizing():
                raise RuntimeError("a thread started while the interpreter ends never runs")
            thread.start()
        except BaseException as err:
            starting, self.begun = self.begun, running
            if not running:
                # What has not begun frees nothing by itself.
                slots.free(self)
            if not (starting and background.is_refusal(err, before)):
                raise
            if not running:
                self.is_threadless = True
                log.warning("a call waits beyond its timeouts, because there is no thread for its creation: %s", err)
        return self.begun

    def begin_in_loop(self, work: Callable[[Outcome], Awaitable[Any]]) -> None:
        """Begin ``work`` as a task of the running loop, in a copy of this context."""
        self._signal = signal()
        self.begun = True

        async def run() -> None:
            _inside.set((*_inside.get(), self))
            try:
                self._end(await work(self), None)
            except Exception as err:
                self._end(None, err)
            except BaseException as err:
                self._end(None, err)
                raise

        loop, _ = here()
        if loop is not None:
            task = loop.create_task(run())
            _hold(loop, task)
            self._cancel = task.cancel
            return
        trio = import_module("trio")
        scope = trio.CancelScope()
        self._cancel = scope.cancel

        async def scoped() -> None:
            with scope:
                await run()

        trio.lowlevel.spawn_system_task(scoped, context=copy_context())

    async def wait_in_loop(self, seconds: float | None) -> bool:
        """Wait until it has ended, ``seconds`` at most."""
        end = None if seconds is None else time.monotonic() + seconds
        while not self.ended.is_set():
            left = _LONG if end is None else end - time.monotonic()
            if left <= 0 or self._signal is None:
                return False
            await self._signal.wait(min(left, _LONG))
        return True

    def has_left(self) -> bool:
        """Whether the call has gone, or is about to."""
        return self._left or (self._until is not None and time.monotonic() >= self._until)

    def cancel(self) -> None:
        """End the task; that of a closed loop ends when it is collected."""
        if not self.leave() and self._cancel is not None:
            with suppress(RuntimeError):
                self._cancel()

    def leave(self) -> bool:
        """Wait no longer. ``True``: it has ended meanwhile, and there is a :meth:`result`."""
        with self._guard:
            self._left = not self.ended.is_set()
            return not self._left

    def _end(self, value: Any, error: BaseException | None) -> None:
        with self._guard:
            left = self._left
            if not left:
                self._value, self._error = value, error
            self.ended.set()
        if self._signal is not None:
            self._signal.set()
        if left and isinstance(error, Exception) and not isinstance(error, CreationTimeout):
            counters.count("creation_failed_late")
            log.warning("a creation that no call waited for any more failed: %s", type(error).__name__)

    def result(self) -> Any:
        """What it returned; raises what it raised."""
        value, error = self._value, self._error
        self._value = self._error = None
        if error is None:
            return value
        try:
            raise error
        finally:
            # Its traceback refers to this frame.
            del error


class _Slots(ForkAware):
    """Threads that may be begun yet. Those of a parent process do not exist in its child.

    The outcome that a thread works for is written down in the step that takes a slot, and freeing what has none does
    nothing, so that whoever is interrupted in between can free it without knowing how far it came.
    """

    def __init__(self) -> None:
        self._after_fork()
        super().__init__()

    def _after_fork(self) -> None:
        self._taken: dict[Outcome, None] = {}
        self._renew_locks()

    def _renew_locks(self) -> None:
        self._guard = threading.Lock()

    def take(self, outcome: Outcome) -> bool:
        """Take a slot, if one is free now."""
        with self._guard:
            if len(self._taken) < _MOST:
                self._taken[outcome] = None
        return outcome in self._taken

    def free(self, outcome: Outcome) -> None:
        """Give up its slot, if it has one; from any thread, as often as may be."""
        self._taken.pop(outcome, None)


_slots = _Slots()
_tasks: dict[Any, set[Any]] = {}
"""By their loops, which refer to them weakly."""
# What is collected before the interpreter ends can still give up what it holds.
atexit.register(_tasks.clear)
_inside: ContextVar[tuple[Outcome, ...]] = ContextVar("beaker_creating_with_timeout", default=())
_warned: set[str] = set()


def _hold(loop: Any, task: Any) -> None:
    if loop not in _tasks:
        # A loop that is closed ends none of its tasks: they are collected, and leave what they hold.
        for closed in [other for other in list(_tasks) if other.is_closed()]:
            _tasks.pop(closed, None)
    _tasks.setdefault(loop, set()).add(task)
    task.add_done_callback(_let_go)


def _let_go(task: Any) -> None:
    loop = task.get_loop()
    left = _tasks.get(loop, set())
    left.discard(task)
    if not left:
        _tasks.pop(loop, None)


def timeouts_of(options: Mapping[str, Any]) -> Timeouts | None:
    """What ``soft_timeout`` and ``hard_timeout`` amount to; ``None``: calls wait as long as it takes.

    That too where nothing runs after the response, so that no creation could go on: a ConfigWarning says so once.
    """
    soft, hard = options.get("soft_timeout"), options.get("hard_timeout")
    if soft is None and hard is None:
        return None
    runtime = options.get("runtime") or current()
    if runtime.background_threads:
        return Timeouts(soft, hard)
    if "runtime" not in _warned:
        _warned.add("runtime")
        message = f"soft_timeout and hard_timeout have no effect on {runtime.platform.value}: no creation goes on after"
        hint = "leave them out, and give the creation's own calls a timeout"
        warn(ConfigWarning(f"{message} the response", code="config.no-effect", hint=hint))
    return None
