"""Session values as bytes, one by one, so that changes can be found and merged."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from beaker.exceptions import ConfigError, CorruptRecord, UnserializableValue
from beaker.serialization.hashes import MOST_ALIKE, crowded
from beaker.serialization.serializers import Pickle, Serializer, TaggedJson, by_name

if TYPE_CHECKING:
    from beaker.crypto.place import PlaceKey

__all__ = ["Known", "Packed", "ValueCodec", "pack_items", "unpack_items"]

Packed = dict[bytes, bytes]
"""Serialized key to serialized value."""

Known = dict[Any, tuple[Any, Any, bytes, bytes]]
"""By key, what was loaded: key, value, and the bytes of both."""

_JSON, _PICKLE, _CUSTOM = b"J", b"P", b"X"
_ONLY_JSON: Final = frozenset({_JSON})
_IMMUTABLE: Final = frozenset({str, bytes, int, float, bool, type(None)})
_NAMES: Final = 1024
_NAME: Final = 64
"""Keys that a codec remembers the spelling of, and the longest of them in bytes: those a program writes out."""


class ValueCodec:
    """Serializes each key and each value of a session by itself.

    ``serializer`` is ``None``/``"auto"``, ``"json"``, ``"pickle"``, or an object with ``dumps`` and
    ``loads``. ``may_pickle`` says that what is written is protected by a key or a private place; without it
    ``auto`` is JSON and ``"pickle"`` is refused with ConfigError: whoever can write to the place could run code by it.
    Pickles are read back only when :meth:`unpack` is told that the record is trusted. ``advice`` is what an
    UnserializableValue says about a type that JSON does not hold. ``place``: the key of the store's directory, where it
    is what protects the record: while there is none, nothing is pickled.
    """

    def __init__(self, serializer: Any, *, may_pickle: bool, advice: str = "", place: PlaceKey | None = None) -> None:
        self._advice = advice
        self._place = place
        self._names: dict[str, bytes] = {}
        self._keys: dict[bytes, str] = {}
        # The pickle module itself has dumps and loads: taken as an object it would escape the trust check.
        chosen = "auto" if serializer is None else "pickle" if serializer is sys.modules.get("pickle") else serializer
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
                    hint="set session.secret, or session.serializer = json; cookies never hold pickles",
                    code="config.pickle-without-key",
                )
            self._only_pickle = name == "pickle"
            if name == "pickle" or (name == "auto" and may_pickle):
                self._pickle = Pickle()
        else:
            self._only_pickle = False
            self._custom = by_name(chosen)

    def pack(self, values: Iterable[tuple[Any, Any]], known: Known | None = None) -> Packed:
        """Every pair serialized. Raises UnserializableValue naming the key path; nothing is kept then.

        A value that is the loaded one and cannot have changed is taken from ``known``, see :meth:`known`.
        """
        if isinstance(values, Collection) and len(values) > MOST_ALIKE and crowded([key for key, _ in values]):
            hint = f"more than {MOST_ALIKE} of its keys have the same hash"
            raise UnserializableValue("session", "dict", hint, code="value.same-hash")
        packed: Packed = {}
        names, seen = self._names, ({} if known is None else known).get
        for key, value in values:
            was = seen(key)
            if was is not None and was[1] is value and was[0] is key and type(value) in _IMMUTABLE:
                packed[was[2]] = was[3]
                continue
            name = names.get(key) if type(key) is str else None
            if name is None:
                name = self._json.dumps(key, "a session key")
                if type(key) is str:
                    self._remember(key, name)
            packed[name] = self._dump(key, value)
        return packed

    def _remember(self, key: str, name: bytes) -> None:
        if len(name) <= _NAME:
            if len(self._names) >= _NAMES:
                self._names.clear()
                self._keys.clear()
            self._names[key] = name
            self._keys[name] = key

    def _dump(self, key: Any, value: Any, *, signed: bool = False) -> bytes:
        if self._custom is not None:
            return _CUSTOM + self._custom.dumps(value)
        if self._only_pickle and self._pickle is not None:
            if not signed and (problem := self._unsigned()):
                raise UnserializableValue(f"session[{key!r}]", type(value).__name__, problem)
            return _PICKLE + self._pickle.dumps(value)
        try:
            return _JSON + self._json.dumps(value, "")
        except UnserializableValue as error:
            if error.code == "value.same-hash":
                raise
            advice = self._advice
            if self._pickle is not None and not signed and (problem := self._unsigned()):
                advice = problem
            elif self._pickle is not None:
                try:
                    return _PICKLE + self._pickle.dumps(value)
                except UnserializableValue:
                    # The JSON error says where in the value the culprit sits; pickle's cannot.
                    advice = "a pickle cannot hold it either: store plain data"
            raise UnserializableValue(f"session[{key!r}]{error.path}", error.kind, error.hint or advice) from None

    def _unsigned(self) -> str:
        """Why a pickle could not be read again; empty when its record will be signed."""
        if self._place is None or self._place.current() is not None:
            return ""
        return f"it cannot be pickled: {self._place.problem()}"

    def unpack(self, packed: Mapping[bytes, bytes], *, trusted: bool) -> dict[Any, Any]:
        """Fresh objects for every pair. Raises CorruptRecord, also for a pickle in an untrusted record."""
        names: list[Any] = [*map(self._keys.get, packed)]
        if None in names:
            names = self._json.loads_each(packed)
            for key, name in zip(names, packed, strict=True):
                # In our own spelling only: packed again, a key must have the same name everywhere.
                if type(key) is str and self._json.dumps(key) == name:
                    self._remember(key, name)
        data = list(packed.values())
        if {item[:1] for item in data} <= _ONLY_JSON:
            values = self._json.loads_each([item[1:] for item in data])
        else:
            values = [self.load(item, trusted=trusted) for item in data]
        try:
            if crowded(names):
                raise CorruptRecord("too many session keys with the same hash")
            return dict(zip(names, values, strict=True))
        except TypeError:
            raise CorruptRecord("a session key is not hashable") from None

    def known(self, packed: Packed, values: dict[Any, Any]) -> Known:
        """What :meth:`pack` can take over: ``values`` is what :meth:`unpack` has just returned for ``packed``."""
        if len(values) != len(packed):
            # Two names for one key, which we do not write: the value may come from either.
            return {}
        return dict(zip(values, zip(values, values.values(), packed, packed.values(), strict=True), strict=True))

    def reencodings(self, packed: Mapping[bytes, bytes], values: Mapping[Any, Any]) -> dict[bytes, tuple[bytes, bytes]]:
        """Where packing what was loaded gives other bytes: by packed key, those bytes and the loaded ones.

        Tagged JSON has one spelling for a value; a pickle depends on which objects are one and the same, and a
        serializer of the application may do as it likes. The difference must not be taken for a change.
        """
        found: dict[bytes, tuple[bytes, bytes]] = {}
        for name, data in packed.items():
            if data[:1] != _JSON:
                key = self._json.loads(name)
                again = self._dump(key, values[key], signed=True)
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


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data) and shift <= 28:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at
    raise CorruptRecord("the session record ends early")


def pack_items(packed: Packed) -> bytes:
    """The pairs as one byte string: how many, the length of each piece, the pieces. So none can run into the next."""
    pieces = list(chain.from_iterable(packed.items()))
    lengths = list(map(len, pieces))
    # Short pieces, which most are, take one byte each and no Python loop.
    table = bytes(lengths) if max(lengths, default=0) < 0x80 else b"".join(map(_varint, lengths))
    return b"".join((_varint(len(packed)), table, *pieces))


def unpack_items(data: bytes, start: int = 0) -> Packed:
    """The pairs that :func:`pack_items` packed, from offset ``start`` to the end. Raises CorruptRecord."""
    pairs, at = _read_varint(data, start)
    table = data[at : at + 2 * pairs]
    if len(table) != 2 * pairs:
        raise CorruptRecord("the session record ends early")
    lengths: Iterable[int] = table
    if table.isascii():
        at += len(table)
    else:
        lengths = slow = []
        for _ in range(2 * pairs):
            length, at = _read_varint(data, at)
            slow.append(length)
    packed: Packed = {}
    each = iter(lengths)
    for name, value in zip(each, each, strict=True):
        middle = at + name
        end = middle + value
        packed[data[at:middle]] = data[middle:end]
        at = end
    if at != len(data):
        raise CorruptRecord("the session record has another length than it says")
    if len(packed) != pairs:
        raise CorruptRecord("the session record has a key twice")
    return packed
