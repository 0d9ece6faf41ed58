"""Session values as bytes, one by one: what makes changes findable and merging possible."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from typing import Any

from beaker.exceptions import ConfigError, CorruptRecord, UnserializableValue
from beaker.serializers import Pickle, Serializer, TaggedJson, by_name

__all__ = ["Packed", "ValueCodec", "pack_items", "unpack_items"]

Packed = dict[bytes, bytes]
"""Serialized key to serialized value."""

_JSON, _PICKLE, _CUSTOM = b"J", b"P", b"X"


class ValueCodec:
    """Serializes each key and each value of a session by itself.

    ``serializer`` is ``None``/``"auto"``, ``"json"``, ``"pickle"``, or an object with ``dumps`` and
    ``loads``. ``may_pickle`` says that what is written is protected by a key or a private place; without it
    ``auto`` is JSON and ``"pickle"`` is refused with ConfigError (design.md 10.3). Pickles are read back
    only when :meth:`unpack` is told that the record is trusted.
    """

    def __init__(self, serializer: Any, *, may_pickle: bool) -> None:
        # The pickle module itself has dumps and loads: taken as an object it would escape the trust check.
        chosen = "auto" if serializer is None else "pickle" if serializer is pickle else serializer
        self._json = TaggedJson()
        self._pickle: Pickle | None = None
        self._custom: Serializer | None = None
        if isinstance(chosen, str):
            name = chosen.strip().lower()
            if name not in ("auto", "json", "pickle"):
                raise ConfigError(
                    "unknown serializer",
                    option="session.serializer",
                    expected="auto, json, pickle, or an object with loads and dumps",
                )
            if name == "pickle" and not may_pickle:
                raise ConfigError(
                    "pickled sessions need a key or a private store",
                    option="session.serializer",
                    hint="set session.secret, or use serializer = json; cookies never hold pickles",
                )
            self._only_pickle = name == "pickle"
            if name == "pickle" or (name == "auto" and may_pickle):
                self._pickle = Pickle()
        else:
            self._only_pickle = False
            self._custom = by_name(chosen)

    def pack(self, values: Iterable[tuple[Any, Any]]) -> Packed:
        """Every pair serialized. Raises UnserializableValue naming the key path; nothing is kept then."""
        packed: Packed = {}
        dumps = self._json.dumps
        for key, value in values:
            name = dumps(key, "a session key")
            packed[name] = self._dump(key, value)
        return packed

    def _dump(self, key: Any, value: Any) -> bytes:
        if self._custom is not None:
            return _CUSTOM + self._custom.dumps(value)
        if self._only_pickle and self._pickle is not None:
            return _PICKLE + self._pickle.dumps(value)
        try:
            return _JSON + self._json.dumps(value, f"session[{key!r}]")
        except UnserializableValue as error:
            if self._pickle is None:
                raise
            try:
                return _PICKLE + self._pickle.dumps(value)
            except UnserializableValue:
                # The JSON error says where in the value the culprit sits; pickle's cannot.
                raise error from None

    def unpack(self, packed: Mapping[bytes, bytes], *, trusted: bool) -> dict[Any, Any]:
        """Fresh objects for every pair. Raises CorruptRecord, also for a pickle in an untrusted record."""
        try:
            return {self._json.loads(name): self.load(data, trusted=trusted) for name, data in packed.items()}
        except TypeError:
            raise CorruptRecord("a session key is not hashable") from None

    def echoes(self, packed: Mapping[bytes, bytes], values: Mapping[Any, Any]) -> dict[bytes, tuple[bytes, bytes]]:
        """Where packing what was loaded gives other bytes: by packed key, those bytes and the loaded ones.

        Tagged JSON has one spelling for a value; a pickle depends on which objects are one and the same, and a
        serializer of the application may do as it likes. The difference must not be taken for a change.
        """
        found: dict[bytes, tuple[bytes, bytes]] = {}
        for name, data in packed.items():
            if data[:1] != _JSON:
                key = self._json.loads(name)
                again = self._dump(key, values[key])
                if again != data:
                    found[name] = (again, data)
        return found

    def load(self, data: bytes, *, trusted: bool) -> Any:
        """One value from its bytes; see :meth:`unpack`."""
        kind, body = data[:1], data[1:]
        if kind == _JSON:
            return self._json.loads(body)
        if kind == _PICKLE:
            if not trusted or self._pickle is None:
                raise CorruptRecord("a pickled value in a record that is not protected by a key")
            return self._pickle.loads(body)
        if kind == _CUSTOM and self._custom is not None:
            try:
                return self._custom.loads(body)
            except Exception as error:
                raise CorruptRecord("the session's serializer could not read a value") from error
        raise CorruptRecord("a value of a serializer that is not configured")


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def pack_items(packed: Packed) -> bytes:
    """The pairs as one byte string: length-marked, so that no key or value can run into the next."""
    parts: list[bytes] = []
    for name, data in packed.items():
        parts += (_varint(len(name)), name, _varint(len(data)), data)
    return b"".join(parts)


def unpack_items(data: bytes, start: int = 0) -> Packed:
    """What :func:`pack_items` made, from offset ``start`` to the end. Raises CorruptRecord."""
    pieces: list[bytes] = []
    at, end = start, len(data)
    while at < end:
        length = shift = 0
        while True:
            if at >= end or shift > 28:
                raise CorruptRecord("the session record ends early")
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if at + length > end:
            raise CorruptRecord("the session record ends early")
        pieces.append(data[at : at + length])
        at += length
    if len(pieces) % 2:
        raise CorruptRecord("the session record ends early")
    return dict(zip(pieces[::2], pieces[1::2], strict=True))
