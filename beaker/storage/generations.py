"""Generations and expiry stamps, for servers that know neither namespaces nor our clock.

A namespace has one *generation*: 16 random hex digits under a key of its own. Every record begins with
the generation it was written under and the moment it expires, and counts only while its namespace still
has that generation. Emptying a namespace is therefore one deletion, of the generation; the next writer
makes a new one. A generation the server evicted is never made again, so nothing comes back to life.
"""

from __future__ import annotations

import functools
import math
import os
import re
import struct
import weakref
from collections.abc import Callable

from beaker.exceptions import ConfigError, ValueTooLarge
from beaker.keys import namespace_digest

__all__ = [
    "EXPIRES",
    "STAMP",
    "after_fork",
    "check_prefix",
    "check_size",
    "expiry",
    "namespace_name",
    "new_stamp",
]

STAMP = 16
"""Bytes of a generation."""

_PREFIX = re.compile(r"[A-Za-z0-9_.\-]{1,64}\Z")
EXPIRES = struct.Struct(">d")

# Hashing the namespace anew for each hit would be a tenth of the hit; few names are in use at a time.
namespace_name = functools.lru_cache(maxsize=256)(namespace_digest)


def new_stamp() -> bytes:
    """16 hex digits that were never there before (64 bits of the system's randomness)."""
    return os.urandom(STAMP // 2).hex().encode()


def expiry(now: float, ttl: float | None) -> float:
    """The moment, in seconds since the epoch, at which a record written ``now`` is gone."""
    return math.inf if ttl is None else now + ttl


def check_size(data: bytes, limit: int | None, backend: str, operation: str) -> None:
    """``ValueTooLarge`` when ``data`` has more than ``limit`` bytes."""
    if limit is not None and len(data) > limit:
        raise ValueTooLarge(len(data), limit, backend=backend, operation=operation)


def check_prefix(prefix: str) -> str:
    """``prefix`` if it can begin a key on every server, else ``ConfigError``."""
    if not _PREFIX.match(prefix):
        raise ConfigError("the prefix cannot begin a key", option="prefix", expected="1 to 64 of A-Z a-z 0-9 _ . -")
    return prefix


def after_fork(renew: Callable[[], None]) -> None:
    """Call ``renew``, a bound method, in every child this process forks while its object lives."""
    reference = weakref.WeakMethod(renew)

    def run() -> None:
        live = reference()
        if live is not None:
            live()

    os.register_at_fork(after_in_child=run)
