"""The lease behind ``session.lock()``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beaker.crypto.tokens import store_key
from beaker.exceptions import LockError, LockTimeout
from beaker.locks import Lock
from beaker.session.storage import NAMESPACE
from beaker.storage.lease import LeaseLocks

if TYPE_CHECKING:
    from beaker.session.base import BaseSession

__all__ = ["session_lock"]


def session_lock(session: BaseSession) -> Lock:
    """The lock of this session, taken. Raises LockTimeout after ``lock_ttl`` seconds of waiting."""
    context = session.context
    if context.type == "cookie":
        raise LockError("a cookie session has no store to keep a lock in")
    ttl = context.options.lock_ttl
    locks = LeaseLocks(context.records.store, ttl=ttl, clock=context.clock, sleep=context.sleep)
    lock = locks.creation(NAMESPACE, store_key(session.snapshot.id))
    if not lock.acquire(True, ttl):
        raise LockTimeout(f"the session was not free within {ttl:g} s")
    return lock
