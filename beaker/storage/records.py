"""What the records of every store have in common: when they expire, their versions, how large they may be."""

from __future__ import annotations

import math
import os

from beaker.exceptions import ValueTooLarge

__all__ = ["check_size", "expires_at", "expiry", "new_version"]


def expires_at(now: float, ttl: float | None) -> float | None:
    """When a record written at ``now`` expires, in seconds since the epoch; ``None``: never."""
    return None if ttl is None or ttl == math.inf else now + ttl


def expiry(now: float, ttl: float | None) -> float:
    """:func:`expires_at` for formats that have a number in any case: never is infinity."""
    return math.inf if ttl is None else now + ttl


def new_version() -> int:
    """A random number of 63 bits: a record inserted again never has a version it had before."""
    return int.from_bytes(os.urandom(8), "big") >> 1


def check_size(data: bytes, limit: int | None, backend: str, operation: str) -> None:
    """Raise ValueTooLarge, naming the store and its operation, when ``data`` has more than ``limit`` bytes."""
    if limit is not None and len(data) > limit:
        raise ValueTooLarge(len(data), limit, backend=backend, operation=operation)
