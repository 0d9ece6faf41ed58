"""What is in a file of the file store: a header that vouches for itself, the names, the data."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from typing import NamedTuple

__all__ = ["Record", "encode", "load", "version_in"]

_HEADER = struct.Struct(">4sI8sdIIQ")
"""Magic, checksum of the rest of the header and the names, version, expiry (``inf``: never), bytes of
namespace, key and data; the three follow."""

_MAGIC = b"BkF1"
_VERSION = slice(8, 16)
_CHUNK = 32_768
_READ = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
# What is in the place of a file and is none: a link, a pipe, a socket, a directory.
_NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EAGAIN})


class Record(NamedTuple):
    """A file that was whole: what its header says, and the data (empty when only the head was read)."""

    expires: float
    version: bytes
    namespace: bytes
    key: bytes
    data: bytes

    def __repr__(self) -> str:
        return f"<Record of {len(self.data)} bytes>"


def encode(namespace: bytes, key: bytes, expires: float, data: bytes) -> bytes:
    """The bytes of a record's file, with a version no record has had."""
    header = _HEADER.pack(_MAGIC, 0, os.urandom(8), expires, len(namespace), len(key), len(data))
    checksum = zlib.crc32(b"".join((header[8:], namespace, key)))
    return b"".join((_MAGIC, checksum.to_bytes(4, "big"), header[8:], namespace, key, data))


def version_in(record: bytes) -> bytes:
    """The version in what :func:`encode` returned."""
    return record[_VERSION]


def load(path: str, *, dir_fd: int | None = None, head_only: bool = False) -> Record | None:
    """The record in a file; ``None`` when there is no file or it is not a whole record of Beaker's.

    With ``head_only`` the data is neither read nor required. Raises any other :class:`OSError`.
    """
    try:
        fd = os.open(path, _READ, dir_fd=dir_fd)
    except OSError as err:
        if err.errno in _NO_FILE:
            return None
        raise
    try:
        blob = os.read(fd, _CHUNK)
        if len(blob) < _HEADER.size:
            return None
        magic, checksum, version, expires, names, keys, size = _HEADER.unpack_from(blob)
        if magic != _MAGIC:
            return None
        start = _HEADER.size + names + keys
        total = start if head_only else start + size
        if len(blob) < total:
            blob = _read_rest(fd, blob, total)
    except OSError as err:
        if err.errno in _NO_FILE:
            return None
        raise
    finally:
        os.close(fd)
    if len(blob) < total or (not head_only and len(blob) > total) or zlib.crc32(blob[8:start]) != checksum:
        return None
    split = _HEADER.size + names
    return Record(expires, version, blob[_HEADER.size : split], blob[split:start], blob[start:total])


def _read_rest(fd: int, blob: bytes, total: int) -> bytes:
    # A corrupt length must not make this allocate what the file does not hold.
    if os.fstat(fd).st_size < total:
        return b""
    pieces, have = [blob], len(blob)
    while have < total + 1 and (piece := os.read(fd, total + 1 - have)):
        pieces.append(piece)
        have += len(piece)
    return b"".join(pieces)
