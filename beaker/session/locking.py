"""The lease behind ``session.lock()``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beaker.crypto.tokens import store_key
from beaker.exceptions import LockError, LockTimeout, StoreUnavailable
from beaker.session.records import NAMESPACE
from beaker.storage.lease import Lease, LeaseLocks

if TYPE_CHECKING:
    from beaker.session.base import BaseSession

__all__ = ["session_lock"]


def session_lock(session: BaseSession) -> Lease:
    """The lock of this session, taken, for ``lock_ttl`` seconds at most.

    Raises LockTimeout after that many seconds of waiting, StoreUnavailable where nobody can know whether it is free.
    """
    context = session.context
    if context.type == "cookie":
        raise LockError("a cookie session has no store to keep a lock in")
    ttl = context.options.lock_ttl
    # Not renewed: a lock somebody forgot to give back must end by itself.
    locks = LeaseLocks(context.records.store, ttl=ttl, clock=context.clock, sleep=context.sleep, renew=False)
    lock = locks.creation(NAMESPACE, store_key(session.snapshot.id))
    if not lock.acquire(True, ttl):
        raise LockTimeout(f"the session was not free within {ttl:g} s")
    if not lock.held:
        # What keeps a cache working without its locks would let two requests in here.
        raise StoreUnavailable(
            "the lock could not be asked for", backend=context.records.store.backend, operation="lock"
        )
    return lock
