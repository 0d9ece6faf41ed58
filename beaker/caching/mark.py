"""The mark that a creation in flight leaves in its key's record."""

from __future__ import annotations

import struct
from typing import NamedTuple

from beaker.caching.freshness import MAX_AHEAD
from beaker.exceptions import CorruptRecord

__all__ = ["TOKEN", "Mark"]

TOKEN = 16
"""Bytes of each of its tokens, random."""
_MARK = struct.Struct(f">{TOKEN}s{TOKEN}sd")


class Mark(NamedTuple):
    """The mark in a record.

    ``epoch`` is the same for every creation since the last change of the key, ``holder`` that of the one creation
    which has the lease, which runs out at ``until`` (seconds since the epoch; 0: no process has one).
    """

    epoch: bytes
    holder: bytes
    until: float

    def __repr__(self) -> str:
        return f"<mark until {self.until}>"

    def pack(self, old: bytes) -> bytes:
        """The payload of the record: the mark, then the record of the old value, empty when there is none."""
        return _MARK.pack(*self) + old

    @classmethod
    def unpack(cls, payload: bytes) -> tuple[Mark, bytes]:
        """What :meth:`pack` packed. CorruptRecord when ``payload`` is too short."""
        if len(payload) < _MARK.size:
            raise CorruptRecord("too short for a mark")
        return cls(*_MARK.unpack_from(payload)), payload[_MARK.size :]

    def is_held(self, now: float, ttl: float) -> bool:
        """Whether the lease still runs. One that ends later than a lease can was taken by a clock that is ahead."""
        return now < self.until <= now + ttl + MAX_AHEAD
