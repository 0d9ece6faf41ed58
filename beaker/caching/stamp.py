"""A stamp's record."""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = ["TOKEN", "Stamp"]

TOKEN = 12
"""Bytes of a token, random."""
_RECORD = struct.Struct(f">{TOKEN}sd")


class Stamp(NamedTuple):
    """A record's content: the token, and about when the store drops it (seconds since the epoch)."""

    token: bytes
    until: float

    def pack(self) -> bytes:
        return _RECORD.pack(*self)

    @classmethod
    def unpack(cls, data: bytes) -> Stamp | None:
        """``None`` for what is no stamp: the values that depend on it are misses."""
        return cls(*_RECORD.unpack(data)) if len(data) == _RECORD.size else None
