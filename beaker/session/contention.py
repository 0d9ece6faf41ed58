"""Requests of one session that get in each other's way: how a save retries, and the lock behind ``session.lock()``."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from beaker._typing import Clock
from beaker.exceptions import LockTimeout, StoreUnavailable, WriteConflict
from beaker.session.records import NAMESPACE
from beaker.storage.lease import Lease, LeaseLocks

__all__ = ["Contention", "session_lock"]

FAIR_AFTER = 2
"""Lost races after which a writer queues for a lease: without, one among hundreds of concurrent writers starves."""
QUEUE_POLL = 0.02
LEASE = 1.0
"""Seconds such a lease lasts, and is waited for: a writer that dies holding it must not hold up the others."""


class Contention:
    """How one save retries while other requests keep changing the session, and when it gives up.

    Waits are random, and longer after each loss; after some losses the save queues for a lease on ``key``, the
    name of the session's record in ``store``. ``within`` is the seconds after which it gives up.
    """

    def __init__(
        self,
        store: Any,
        key: str,
        *,
        within: float,
        clock: Clock,
        sleep: Callable[[float], None],
        random: random.Random,
    ) -> None:
        self._store = store
        self._key = key
        self._within = within
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._losses = 0
        self._end_at = time.monotonic() + within
        self._lease: Any = None

    def lose(self) -> None:
        """Count a lost race and wait. Raises WriteConflict when ``within`` seconds have passed.

        Call it before reading the record again: a record that is read first and written after a wait is old.
        """
        self._losses += 1
        left = self._end_at - time.monotonic()
        if left <= 0:
            raise WriteConflict(
                f"other requests kept changing the session for {self._within:g} s", operation="session.save"
            )
        if self._losses % FAIR_AFTER == 0 and self._lease is None:
            locks = LeaseLocks(self._store, ttl=LEASE, clock=self._clock, sleep=self._sleep, renew=False)
            lease = locks.creation(NAMESPACE, self._key)
            lease.poll_interval = QUEUE_POLL
            self._lease = lease if lease.acquire(True, min(left, LEASE)) else None
        elif self._lease is None:
            self._sleep(self._random.uniform(0.0, min(0.2, 0.001 * 2**self._losses)))

    def end(self) -> None:
        """Release the lease, if one is held."""
        if self._lease is not None:
            self._lease.release()


def session_lock(
    store: Any, key: str, *, ttl: float, within: float, clock: Clock, sleep: Callable[[float], None]
) -> Lease:
    """The lock of the session whose record is called ``key``, acquired, for ``ttl`` seconds at most.

    Raises LockTimeout after ``within`` seconds of waiting, StoreUnavailable when the store cannot be asked.
    """
    # Not renewed: a lock that an application forgets to release must end by itself.
    locks = LeaseLocks(store, ttl=ttl, clock=clock, sleep=sleep, renew=False)
    lock = locks.creation(NAMESPACE, key)
    if not lock.acquire(True, within):
        raise LockTimeout(f"the session was not free within {within:g} s")
    if not lock.held:
        # A cache works on without its locks; here that would let two requests in.
        raise StoreUnavailable("the lock could not be requested", backend=store.backend, operation="lock")
    return lock
