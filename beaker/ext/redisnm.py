"""``ext:redis`` at the path of Beaker up to 1.14, and the lock that third-party managers take from there."""

from __future__ import annotations

import threading

from beaker.ext.redis import RedisNamespaceManager
from beaker.locking.readwrite import SynchronizerImpl
from beaker.storage.lease import Lease, LeaseLocks

__all__ = ["RedisNamespaceManager", "RedisSynchronizer"]


class RedisSynchronizer(SynchronizerImpl):
    """A lock on the Redis at ``url``: one holder in the fleet, readers too, for ``LOCK_EXPIRATION`` seconds at most.

    It is a lease and no fence: a holder that outlives it works beside the next one.
    """

    LOCK_EXPIRATION = 900.0

    def __init__(self, identifier: str, url: str) -> None:
        super().__init__()
        self._locks = LeaseLocks(RedisNamespaceManager("", url).store, ttl=self.LOCK_EXPIRATION)  # type: ignore[arg-type]
        self._identifier = identifier
        self._leases: dict[int, Lease] = {}

    def do_acquire_write_lock(self, wait: bool) -> bool:
        lease = self._locks.creation("synchronizer", self._identifier)
        if not lease.acquire(wait):
            return False
        self._leases[threading.get_ident()] = lease
        return True

    def do_release_write_lock(self) -> None:
        self._leases.pop(threading.get_ident()).release()

    do_acquire_read_lock = do_acquire_write_lock
    do_release_read_lock = do_release_write_lock
