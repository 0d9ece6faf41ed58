"""How long, and how, one save goes on against concurrent ones."""

from __future__ import annotations

import time
from typing import Any

from beaker.crypto.tokens import store_key
from beaker.exceptions import WriteConflict
from beaker.session.context import SessionContext
from beaker.session.records import NAMESPACE
from beaker.storage.lease import LeaseLocks

__all__ = ["Patience"]

FAIR_AFTER = 2
"""Lost races after which a writer queues for a lease: without, one in hundreds of concurrent writers starves."""
QUEUE_POLL = 0.02
LEASE = 1.0
"""Seconds such a lease lasts, and at most is waited for: who dies holding it must not hold up the others."""


class Patience:
    """Backoff of one save: full jitter, a queue by lease after some losses, an end."""

    def __init__(self, context: SessionContext, id: bytes) -> None:
        self.context = context
        self.key = store_key(id)
        self.losses = 0
        self.end_at = time.monotonic() + context.options.save_timeout
        self.lease: Any = None

    def lose(self) -> None:
        """Note a lost race and wait. Raises WriteConflict when ``save_timeout`` seconds have passed.

        To be called before the record is read again: what is read first and written after a wait is old.
        """
        self.losses += 1
        left = self.end_at - time.monotonic()
        if left <= 0:
            raise WriteConflict(
                f"other requests kept changing the session for {self.context.options.save_timeout:g} s",
                operation="session.save",
            )
        if self.losses % FAIR_AFTER == 0 and self.lease is None:
            context = self.context
            locks = LeaseLocks(context.records.store, ttl=LEASE, clock=context.clock, sleep=context.sleep, renew=False)
            lease = locks.creation(NAMESPACE, self.key)
            lease.poll_interval = QUEUE_POLL
            self.lease = lease if lease.acquire(True, min(left, LEASE)) else None
        elif self.lease is None:
            self.context.sleep(self.context.random.uniform(0.0, min(0.2, 0.001 * 2**self.losses)))

    def end(self) -> None:
        """Let the next one."""
        if self.lease is not None:
            self.lease.release()
