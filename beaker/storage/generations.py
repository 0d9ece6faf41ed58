"""Generations and expiry stamps, for servers that know neither namespaces nor our clock.

A namespace has one *generation*: 16 random hex digits under a key of its own. Every record begins with
the generation it was written under and the moment it expires, and counts only while its namespace still
has that generation. Emptying a namespace is therefore one deletion, of the generation; the next writer
creates a new one. A generation the server evicted is never created again, so nothing comes back to life.
"""

from __future__ import annotations

import os
import re
import struct

from beaker.exceptions import ConfigError

__all__ = ["EXPIRES", "STAMP", "check_prefix", "new_stamp"]

STAMP = 16
"""Bytes of a generation."""

_PREFIX = re.compile(r"[A-Za-z0-9_.\-]{1,64}\Z")
EXPIRES = struct.Struct(">d")


def new_stamp() -> bytes:
    """16 hex digits that were never there before (64 bits of the system's randomness)."""
    return os.urandom(STAMP // 2).hex().encode()


def check_prefix(prefix: str) -> str:
    """``prefix`` if it can begin a key on every server, else ``ConfigError``."""
    if not _PREFIX.match(prefix):
        raise ConfigError("the prefix cannot begin a key", option="prefix", expected="1 to 64 of A-Z a-z 0-9 _ . -")
    return prefix
