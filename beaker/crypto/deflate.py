"""Raw deflate that never produces more bytes than allowed."""

from __future__ import annotations

import zlib
from typing import Final

__all__ = ["deflated", "inflated"]

_RAW: Final = -15


def deflated(data: bytes, level: int = 6) -> bytes | None:
    """``data`` deflated, or ``None`` when that is not shorter."""
    packer = zlib.compressobj(level, zlib.DEFLATED, _RAW)
    packed = packer.compress(data) + packer.flush()
    return packed if len(packed) < len(data) else None


def inflated(data: bytes, limit: int) -> bytes | None:
    """What ``data`` was deflated from, or ``None`` when it is not deflate, is cut off, has bytes behind its
    end, or would be over ``limit`` bytes (at most ``limit + 1`` are ever produced)."""
    unpacker = zlib.decompressobj(_RAW)
    try:
        plain = unpacker.decompress(data, limit + 1)
    except zlib.error:
        return None
    whole = unpacker.eof and not unpacker.unused_data and not unpacker.unconsumed_tail
    return plain if whole and len(plain) <= limit else None
