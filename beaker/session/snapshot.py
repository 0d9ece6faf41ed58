"""A session's stored form: stamps, epoch, write ids, packed values."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import struct
from collections.abc import Hashable, Mapping
from typing import Any

from beaker.crypto.tokens import store_key
from beaker.exceptions import CorruptRecord
from beaker.session.values import Packed, pack_items, unpack_items

__all__ = ["LIVE", "MARK_BYTES", "TOMBSTONE", "USER", "Snapshot", "chosen_id", "id_text", "is_chosen", "raw_id"]

LIVE, TOMBSTONE = 0, 1
"""Kinds in the envelope's header."""

MARK_BYTES = 8
"""Length of a mark of :class:`~beaker.session.revocation.Revocations`."""
WRITE_IDS = 8
"""How many of the last writes a record remembers, to recognise one whose reply was lost."""
USER = "_user"
"""The session key under which ``login()`` keeps who the visitor is."""

_HEAD = struct.Struct(">IddB")
_WRITE_IDS = [struct.Struct("8s" * count) for count in range(WRITE_IDS + 1)]
_LENGTH = struct.Struct(">I")
_RETURNED, _MARKED, _NUMBERED = 0x80, 0x40, 0x20
_FLAGS = _RETURNED | _MARKED | _NUMBERED
_ID_BYTES = 32


class Snapshot:
    """A session as the store or the cookie has it. Times are seconds since the epoch."""

    version: Hashable = None
    """The record's version; then the record holds what is here. ``None``: not known."""
    written: bool = False
    """Whether this request wrote the record, which was an access."""
    ahead: bool = False
    """Whether it was accessed over a day in the future by its stamp, which counts until it is written anew."""

    def __init__(
        self,
        id: bytes,
        created: float,
        accessed: float,
        epoch: int = 0,
        values: Packed | None = None,
        write_ids: tuple[bytes, ...] = (),
        mark: bytes = b"",
        *,
        returned: Packed | None = None,
        numbers: Mapping[str, int] | None = None,
        trusted: bool = False,
        current: bool = True,
        key: str = "",
    ) -> None:
        self.id = id
        self.created = created
        self.accessed = accessed
        self.epoch = epoch
        self.values: Packed = {} if values is None else values
        self.write_ids = write_ids
        self.mark = mark
        """Which beginning and number of the revocations it began under; empty: not known, or none are kept."""
        self.returned = returned
        """What a hybrid session held when it went back into its cookie; the record then only takes late writes."""
        self.numbers: Mapping[str, int] = {} if numbers is None else numbers
        """What ``monotonic()`` has counted; only records hold any."""
        self.trusted = trusted
        """Whether a key or a private place protects the bytes: then pickles in them are our own."""
        self.current = current
        """Whether the newest key sealed it; otherwise the next write seals it again."""
        self._key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and self._told() == other._told()

    __hash__ = None  # type: ignore[assignment]

    def _told(self) -> dict[str, Any]:
        return {"version": None, **self.__dict__, "written": False, "ahead": False, "_key": ""}

    def __repr__(self) -> str:
        return f"<Snapshot of {len(self.values)} values, epoch {self.epoch}>"

    @property
    def key(self) -> str:
        """The name of the session's record in a store."""
        if not self._key:
            self._key = store_key(self.id)
        return self._key

    def copy(self) -> Snapshot:
        """A second snapshot with the same fields, whose fields may then be set."""
        twin = object.__new__(Snapshot)
        twin.__dict__.update(self.__dict__)
        return twin

    def seen(self, now: float) -> None:
        """Note an access. A later one that is known, of a host with another clock, stays."""
        if now > self.accessed:
            self.accessed = now

    def renamed(self, id: bytes) -> Snapshot:
        """A copy under another id."""
        twin = self.copy()
        twin.id, twin._key = id, ""
        return twin

    def encode(self) -> bytes:
        """The payload of the record's envelope."""
        flags = _RETURNED * (self.returned is not None) | _MARKED * bool(self.mark) | _NUMBERED * bool(self.numbers)
        head = _HEAD.pack(self.epoch, self.created, self.accessed, len(self.write_ids) | flags) + self.mark
        if not flags & ~_MARKED:
            return b"".join((head, *self.write_ids, pack_items(self.values)))
        parts = [pack_items(self.values)]
        if self.returned is not None:
            parts.append(pack_items(self.returned))
        if self.numbers:
            parts.append(pack_items({key.encode(): b"%d" % number for key, number in self.numbers.items()}))
        lengths = [_LENGTH.pack(len(part)) + part for part in parts[:-1]]
        return head + b"".join((*self.write_ids, *lengths, parts[-1]))

    @classmethod
    def decode(cls, id: bytes, payload: bytes, *, key: str = "") -> Snapshot:
        """The snapshot in an envelope's payload; ``key`` is the record's name, if known. Raises CorruptRecord."""
        if len(payload) < _HEAD.size:
            raise CorruptRecord("the session record ends early")
        epoch, created, accessed, count = _HEAD.unpack_from(payload)
        if not (math.isfinite(created) and math.isfinite(accessed)):
            # What compares false with every time would never be over.
            raise CorruptRecord("the session record has impossible stamps")
        flags, count = count & _FLAGS, count & ~_FLAGS
        marked, following = flags & _MARKED, bool(flags & _RETURNED) + bool(flags & _NUMBERED)
        first = _HEAD.size + MARK_BYTES * bool(marked)
        at = first + 8 * count
        if count > WRITE_IDS or len(payload) < at:
            raise CorruptRecord("the session record ends early")
        mark = payload[_HEAD.size : first]
        write_ids = _WRITE_IDS[count].unpack_from(payload, first)
        if not following:
            return cls(id, created, accessed, epoch, unpack_items(payload, at), write_ids, mark, key=key)
        parts = []
        for _ in range(following):
            start = at + _LENGTH.size
            if len(payload) < start or len(payload) < (end := start + _LENGTH.unpack_from(payload, at)[0]):
                raise CorruptRecord("the session record ends early")
            parts.append(unpack_items(payload[:end], start))
            at = end
        parts.append(unpack_items(payload, at))
        numbers = _numbers(parts.pop()) if flags & _NUMBERED else {}
        returned = parts.pop() if flags & _RETURNED else None
        values = parts.pop()
        return cls(id, created, accessed, epoch, values, write_ids, mark, returned=returned, numbers=numbers, key=key)


def _numbers(items: Packed) -> dict[str, int]:
    try:
        return {name.decode(): int(data) for name, data in items.items()}
    except ValueError:
        raise CorruptRecord("the numbers of a session record cannot be read") from None


def chosen_id(name: str) -> bytes:
    """The raw id of a session that the application names itself. No cookie can hold it: it is longer than 32 bytes."""
    text = name.encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).digest() + text


def is_chosen(id: bytes) -> bool:
    """Whether a raw id is one of :func:`chosen_id`."""
    return len(id) > _ID_BYTES


def id_text(id: bytes) -> str:
    """A raw session id as applications see it as ``session.id``: 43 characters, or the name they chose."""
    if is_chosen(id):
        return id[_ID_BYTES:].decode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(id).rstrip(b"=").decode()


def raw_id(text: object) -> bytes | None:
    """The 32 bytes of ``session.id``; ``None`` when ``text`` is no id, a missing form field for instance."""
    if not isinstance(text, str) or len(text) != 43:
        return None
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=")
    except (binascii.Error, UnicodeEncodeError, ValueError):
        return None
    return raw if id_text(raw) == text else None
