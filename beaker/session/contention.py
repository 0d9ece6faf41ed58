"""Requests of one session that get in each other's way: how a save retries, and the lock behind ``session.lock()``."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from beaker._typing import Clock
from beaker.exceptions import LockTimeout, StoreUnavailable, WriteConflict
from beaker.locking.api import pauses, poll
from beaker.locking.turn import Turn, Turns
from beaker.session.records import NAMESPACE
from beaker.session.snapshot import Snapshot
from beaker.storage.lease import Lease, LeaseLocks

__all__ = ["Contention", "SessionLock"]

FAIR_AFTER = 2
"""Lost races after which a writer queues for a lease: without, one among hundreds of concurrent writers starves."""
QUEUE_POLL = 0.02
LEASE = 1.0
"""Seconds such a lease lasts, and is waited for: a writer that dies holding it must not hold up the others."""


class Contention:
    """How one save retries while other requests keep changing the session, and when it gives up.

    Threads of one process queue in ``turns``: they would only make each other read the record again. Against other
    processes waits are random, and longer after each loss; after some losses the save queues for a lease on ``key``,
    the name of the session's record in ``store``. ``within`` is the seconds after which it gives up.
    """

    def __init__(
        self,
        store: Any,
        key: str,
        turns: Turns,
        *,
        within: float,
        clock: Clock,
        sleep: Callable[[float], None],
        random: random.Random,
    ) -> None:
        self._store = store
        self._key = key
        self._turns = turns
        self._within = within
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._losses = 0
        self._end_at = time.monotonic() + within
        self._lease: Any = None
        self._lease_ends = 0.0
        self._turn: Turn | None = None
        self._place = _Place()

    def queue(self, base: tuple[bytes, ...]) -> bool:
        """Wait until no other thread of this process saves the session. Whether one has since ``base`` was read.

        ``base`` is the ids of the writes that the record had then. The queue only spares round trips, so no save waits
        in it for long, and one within a save of the same thread not at all.
        """
        if self._turn is None:
            # Noted before it waits: an exception that comes meanwhile frees it by `end`.
            turn = self._turn = self._turns.of(self._key)
            holder = turn.holder
            mine = isinstance(holder, _Place) and holder.thread == self._place.thread
            if not mine:
                turn.wait(self._place, max(0.0, min(self._end_at - time.monotonic(), LEASE)))
        return self.latest is not None and self.latest.write_ids[-1] not in base

    @property
    def latest(self) -> Snapshot | None:
        """The record as the one before in the queue has written it; ``None``: it wrote nothing."""
        note = None if self._turn is None else self._turn.note
        return note if isinstance(note, Snapshot) else None

    def win(self, written: Snapshot) -> None:
        """The record was written: those in the queue need neither try what they know to be old, nor read it."""
        if self._turn is not None:
            self._turn.note = written.copy()

    def lose(self) -> None:
        """Count a lost race and wait. Raises WriteConflict when ``within`` seconds have passed, of which a slow store's
        calls are part.

        Call it before reading the record again: a record that is read first and written after a wait is old.
        """
        self._losses += 1
        left = self._end_at - time.monotonic()
        if left <= 0:
            raise self._lost()
        if self._losses % FAIR_AFTER == 0 and self._lease is None:
            locks = LeaseLocks(self._store, ttl=LEASE, clock=self._clock, sleep=self._sleep, renew=False)
            lease = locks.creation(NAMESPACE, self._key)
            lease.poll_interval = QUEUE_POLL
            self._lease = lease if lease.acquire(True, min(left, LEASE)) else None
            now = time.monotonic()
            self._lease_ends = now + LEASE
            # One more try belongs to the time, but not when calls of a slow store have gone on beyond it.
            if now > self._end_at + LEASE:
                raise self._lost()
        elif self._turn is None:
            self.queue(())
        elif self._lease is None:
            self._sleep(self._random.uniform(0.0, min(0.2, 0.001 * 2**self._losses)))

    def _lost(self) -> WriteConflict:
        reason = f"other requests kept changing the session for {self._within:g} s"
        return WriteConflict(reason, operation="session.save")

    def end(self) -> None:
        """Give up the place in the queue, and the lease, if one is held and has not run out."""
        if self._turn is not None:
            self._turn.free(self._place)
            self._turns.leave(self._key, self._turn)
        if self._lease is not None and time.monotonic() < self._lease_ends:
            self._lease.release()


class _Place:
    """A save's place in the queue."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()


class SessionLock:
    """The lock of the session whose record is called ``key``, to be taken for ``ttl`` seconds at most.

    ``within`` is the seconds after which a caller gives up waiting for another holder.
    """

    def __init__(self, store: Any, key: str, *, ttl: float, within: float, clock: Clock) -> None:
        # Not renewed: a lock that an application forgets to release must end by itself.
        self.lease: Lease = LeaseLocks(store, ttl=ttl, clock=clock, renew=False).creation(NAMESPACE, key)
        self.within = within
        self._backend = store.backend
        self._try = self.lease.tries()

    def attempt(self) -> bool:
        """Take it, if it is free now. Raises StoreUnavailable when the store cannot be asked."""
        taken = self._try()
        if taken and not self.lease.held:
            # A cache works on without its locks; here that would let two requests in.
            raise StoreUnavailable("the lock could not be requested", backend=self._backend, operation="lock")
        return taken

    def wait(self, sleep: Callable[[float], None]) -> None:
        """Take it. Raises LockTimeout after ``within`` seconds, and what :meth:`attempt` raises."""
        if not poll(self.attempt, timeout=self.within, ceiling=self.lease.poll_interval, sleep=sleep):
            raise self.timed_out()

    def pauses(self) -> Iterator[float]:
        """Seconds to wait before each further :meth:`attempt`, from now on."""
        return pauses(timeout=self.within, ceiling=self.lease.poll_interval)

    def timed_out(self) -> LockTimeout:
        """The error of a caller that has waited long enough."""
        return LockTimeout(f"the session was not free within {self.within:g} s")
