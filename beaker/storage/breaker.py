"""Circuit breakers: a server that does not respond is not waited for by every call.

======== ===========================================================================================
closed   calls go through; five in a row that got no response open the circuit
open     calls fail at once (:class:`~beaker.exceptions.StoreUnavailable`, code ``store.circuit-open``)
probing  the pause is over: one call goes through, and its outcome closes the circuit or starts another pause
======== ===========================================================================================

A pause begins with a tenth of a second and doubles: up to a second, or, where a probe takes long to fail, ten times as
long as that took, 30 seconds at most. So a server that refuses connections is tried each second, and one that hangs
costs a tenth of one thread's time. Whatever the server replies, even a refusal, shows that it responds.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from beaker import counters
from beaker.exceptions import StoreError, StoreRefused, StoreUnavailable
from beaker.forks import ForkAware

__all__ = ["Breaker", "BreakerState", "retry", "states"]

_FAILURES = 5
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 30.0
_QUICK_PAUSE = 1.0
_SHARE = 10.0
_LOST_PROBE = 60.0
"""Seconds after which a probe counts as lost: its thread vanished inside the call."""

log = logging.getLogger("beaker.store")


class BreakerState(NamedTuple):
    """What a breaker knows; ``retry_in`` is seconds, 0 unless open."""

    backend: str
    place: str
    state: str
    failures: int
    retry_in: float


class Breaker(ForkAware):
    """The circuit to one server, of this process.

    * ``backend``: the store's name; ``place``: the address as messages name it, without secrets.
    * ``timer``: seconds on a clock that never steps; ``rng``: 0 to 1, so that processes do not probe together.

    Every exchange with the server runs inside ``with breaker(operation):``. Counted are ``circuit_opened``,
    ``circuit_closed`` and ``circuit_rejected``, by backend; the first two are logged.
    """

    def __init__(
        self,
        backend: str,
        place: str,
        *,
        timer: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.backend = backend
        self.tally = counters.store_tally(backend)
        self.place = place
        self.timer = timer
        self._rng = rng
        self._after_fork()
        self._watch_forks()
        _breakers[next(_numbers)] = self

    def _after_fork(self) -> None:
        # What the parent's connections went through says little about the child's.
        self._renew_locks()
        self.failures = 0
        self.is_open = False
        self._until = 0.0
        self._pauses = 0
        self._probe: Guard | None = None

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, operation: str) -> Guard:
        return Guard(self, operation)

    def state(self) -> BreakerState:
        """What it knows now."""
        with self._lock:
            name = "closed" if not self.is_open else "open" if self._probe is None else "probing"
            retry_in = max(0.0, self._until - self.timer()) if name == "open" else 0.0
            return BreakerState(self.backend, self.place, name, self.failures, retry_in)

    def retry(self) -> None:
        """End the pause: the next call goes through."""
        with self._lock:
            self._until = self.timer()

    def admit(self, guard: Guard) -> None:
        """Let ``guard`` through as the probe, or raise StoreUnavailable."""
        with self._lock:
            now = self.timer()
            if not self.is_open:
                return
            free = self._probe is None or now - self._probe.begun >= _LOST_PROBE
            if free and now >= self._until:
                self._probe, guard.begun = guard, now
                return
        counters.count("circuit_rejected", self.backend)
        raise StoreUnavailable(
            f"{self.place} did not respond {self.failures} times in a row; it is tried again soon",
            backend=self.backend,
            operation=guard.operation,
            code="store.circuit-open",
        )

    def released(self, guard: Guard) -> None:
        """``guard`` ended without saying anything about the server; a probe that did is followed by another pause."""
        with self._lock:
            if self._probe is guard:
                self._pause(guard)

    def responded(self) -> None:
        """A call got a response."""
        with self._lock:
            was_open, self.is_open = self.is_open, False
            self.failures = self._pauses = 0
            self._probe = None
        if was_open:
            counters.count("circuit_closed", self.backend)
            log.warning("%s %s responds again", self.backend, self.place)

    def failed(self, guard: Guard) -> None:
        """A call got no response."""
        with self._lock:
            self.failures += 1
            if self.is_open and self._probe is not guard:
                return
            opens = not self.is_open and self.failures >= _FAILURES
            if self.is_open or opens:
                self._pause(guard)
        if opens:
            counters.count("circuit_opened", self.backend)
            log.error("%s %s does not respond: calls fail at once until it does", self.backend, self.place)

    def _pause(self, guard: Guard) -> None:
        now = self.timer()
        longest = min(_LONGEST_PAUSE, max(_QUICK_PAUSE, _SHARE * (now - guard.begun)))
        pause = min(longest, _FIRST_PAUSE * 2 ** min(self._pauses, 30))
        self.is_open = True
        self._probe = None
        self._pauses += 1
        self._until = now + pause * (0.8 + 0.2 * self._rng())


class Guard:
    """One exchange under a breaker, as a context manager."""

    __slots__ = ("begun", "breaker", "operation")

    def __init__(self, breaker: Breaker, operation: str) -> None:
        self.breaker = breaker
        self.operation = operation
        self.begun = 0.0

    def __enter__(self) -> None:
        breaker = self.breaker
        self.begun = breaker.timer()
        if breaker.is_open:
            breaker.admit(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        breaker = self.breaker
        failed = isinstance(error, StoreUnavailable) and not _replied(error)
        breaker.tally.called(self.operation, max(0.0, breaker.timer() - self.begun), failed=failed)
        if error is None or (isinstance(error, StoreError) and _replied(error)):
            if breaker.failures or breaker.is_open:
                breaker.responded()
        elif isinstance(error, StoreUnavailable):
            breaker.failed(self)
        else:
            # Aborted, or a mistake of the caller's.
            breaker.released(self)


def _replied(error: StoreError) -> bool:
    return not isinstance(error, StoreUnavailable) or isinstance(error, StoreRefused)


_numbers = itertools.count()
_breakers: weakref.WeakValueDictionary[int, Breaker] = weakref.WeakValueDictionary()


def states() -> list[BreakerState]:
    """Those of every breaker of this process, by backend and place."""
    return sorted(breaker.state() for breaker in _alive())


def retry() -> None:
    """End every pause: for an operator, or a test, that knows that a server is back."""
    for breaker in _alive():
        breaker.retry()


def _alive() -> list[Breaker]:
    # valuerefs() copies in one step: another thread may create a store meanwhile.
    return [breaker for reference in _breakers.valuerefs() if (breaker := reference()) is not None]
