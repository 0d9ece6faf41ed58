"""Bytes read from the front, never past their end."""

from __future__ import annotations

import struct

from beaker.session.legacy.plain import LegacyDataError

__all__ = ["Source"]


class Source:
    """The reading side of a pickle. Every method raises LegacyDataError where the bytes end too early."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise LegacyDataError("short")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        if value < 0:
            raise LegacyDataError("length")
        return int(value)

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise LegacyDataError("short")
        piece = self.data[self.at : end]
        self.at = end + 1
        return piece
