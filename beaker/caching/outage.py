"""What a cache does when its store is not there: the function runs, once a process at a time, its value is returned.

A value that cannot be kept is computed by each call, except by those that waited while another call computed it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from beaker import counters
from beaker.caching.ways import Way
from beaker.exceptions import StoreUnavailable
from beaker.forks import ForkAware
from beaker.locking.creation import CreationLock, Passed
from beaker.locking.registries import WeakValuedRegistry

__all__ = ["Flight", "Flights", "noted"]

_EVERY = 60.0
"""Seconds between two lines in the log about one backend."""

log = logging.getLogger("beaker.cache")


class _Notices(ForkAware):
    """When each backend was last written about."""

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self.timer = timer
        self._after_fork()
        super().__init__()

    def _after_fork(self) -> None:
        self._renew_locks()
        self._last: dict[str, float] = {}

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()

    def is_due(self, backend: str) -> bool:
        now = self.timer()
        with self._lock:
            due = now - self._last.get(backend, now - _EVERY) >= _EVERY
            if due:
                self._last[backend] = now
            return due


notices = _Notices()


def noted(err: StoreUnavailable) -> None:
    """Count (``cache_unavailable``, by backend) a value that is created without its store, and log one a minute."""
    counters.count("cache_unavailable", err.backend)
    if notices.is_due(err.backend):
        log.error("values are created without their store: %s", err)


class Flight:
    """The creation of one value without a store; ``passed`` counts those whose value was passed on."""

    def __init__(self) -> None:
        self.lock = CreationLock()
        self.passed = 0
        self.copy: Callable[[], Any] | None = None

    async def create(
        self,
        way: Way,
        create: Callable[[], Awaitable[Any]],
        share: Callable[[Any], Callable[[], Any]],
        timeout: float,
    ) -> Any:
        """What ``await create()`` returns, or a copy of what another call's did meanwhile; errors are shared, too.

        ``way`` has this flight's lock, ``share(value)`` returns what creates copies. After ``timeout`` seconds (-1: no
        limit) another call's creation is not waited for.
        """
        lock, passed, failures = self.lock, self.passed, self.lock.failures
        if not await way.attempt() and not await way.wait(_Boarding(min(timeout, threading.TIMEOUT_MAX))):
            return await create()
        try:
            if self.passed != passed and self.copy is not None:
                return self.copy()
            if lock.failures != failures and lock.error is not None:
                raise lock.error
            return await self._create(create, share)
        finally:
            if not lock.is_awaited:
                # The value would stay for as long as the lock does.
                self.copy = None
            way.release()

    async def _create(self, create: Callable[[], Awaitable[Any]], share: Callable[[Any], Callable[[], Any]]) -> Any:
        try:
            value = await create()
            self.copy = share(value)
        except Exception as err:
            self.lock.fail(err)
            raise
        self.passed += 1
        return value


class _Boarding(NamedTuple):
    """A call that waits for a flight; what came of it is looked at under its lock."""

    timeout: float

    def is_settled(self) -> bool:
        return False

    def takes(self, passed: Passed) -> bool:
        return False

    def shared_error(self) -> BaseException | None:
        return None


class Flights:
    """One :class:`Flight` per namespace and key while it is referred to."""

    def __init__(self) -> None:
        self._flights: WeakValuedRegistry[tuple[str, str], Flight] = WeakValuedRegistry()

    def of(self, namespace: str, key: str) -> Flight:
        return self._flights.get((namespace, key), Flight)
