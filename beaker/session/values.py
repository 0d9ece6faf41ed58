"""Session values as bytes, one by one, so that changes can be found and merged."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from itertools import chain, compress
from operator import is_, is_not
from typing import TYPE_CHECKING, Any, Final

from beaker.exceptions import ConfigError, CorruptRecord, UnserializableValue
from beaker.serialization.hashes import MOST_ALIKE, crowded
from beaker.serialization.serializers import Pickle, Serializer, TaggedJson, by_name
from beaker.session.unpacked import CHANGEABLE, IMMUTABLE, Copy, Unpacked, copier

if TYPE_CHECKING:
    from beaker.crypto.place import PlaceKey

__all__ = ["NOTHING", "Packed", "ValueCodec", "pack_items", "unpack_items"]

Packed = dict[bytes, bytes]
"""Serialized key to serialized value."""

_JSON, _PICKLE, _CUSTOM = b"J", b"P", b"X"
_JSON_BYTE: Final = _JSON[0]
_SESSIONS: Final = 512
_KEYS: Final = 32
_BYTES: Final = 4096
"""Sessions that a codec remembers unpacked, and the most keys and packed bytes that one of them has."""
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
        self._unpacked: dict[int, Unpacked] = {}
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

    def pack(self, values: Collection[tuple[Any, Any]], base: Unpacked | None = None) -> Packed:
        """Every pair serialized. Raises UnserializableValue naming the key path; nothing is kept then.

        A value that is the loaded one and cannot have changed is taken from ``base``, see :meth:`base`.
        """
        if len(values) > MOST_ALIKE and crowded([key for key, _ in values]):
            hint = f"more than {MOST_ALIKE} of its keys have the same hash"
            raise UnserializableValue("session", "dict", hint, code="value.same-hash")
        before = NOTHING if base is None else base
        packed: Packed = {}
        known, names = before.plain or {}, self._names
        plain: dict[Any, Any] = {}
        spelled: dict[Any, bytes] = {}
        copies: dict[Any, Copy] = {}
        pure = before.pure
        for key, value in values:
            # Texts only: 1 and True are equal, too.
            if type(key) is str and known.get(key, CHANGEABLE) is value:
                name = spelled[key] = before.names[key]
                packed[name], plain[key] = before.packed[name], value
                continue
            spelling = names.get(key) if type(key) is str else None
            if spelling is None:
                spelling = self._json.dumps(key, "a session key")
                if type(key) is str:
                    self._remember(key, spelling)
            name = spelling
            data = packed[name] = self._dump(key, value)
            pure = pure and data[0] == _JSON_BYTE
            spelled[key], plain[key] = name, value
            if type(value) not in IMMUTABLE:
                plain[key], copies[key] = CHANGEABLE, copier(value, data, self._load_json)
        if base is not None and pure:
            self._keep(Unpacked(packed, plain, spelled, copies, pure=True, size=_size(packed)))
        return packed

    def repack(self, values: dict[Any, Any], base: Unpacked) -> Packed:
        """:meth:`pack` of a whole session, ``base.packed`` itself where nothing has changed since."""
        known = base.plain
        if known is None or len(values) != len(known) or not all(map(is_, values, known)):
            return self.pack(values.items(), base)
        packed, pure, size, copies = base.packed, base.pure, base.size, base.copies
        plain = known
        for key in compress(values, map(is_not, values.values(), known.values())):
            value = values[key]
            if known[key] is CHANGEABLE and base.holds(key, value):
                continue
            name = base.names[key]
            if type(key) is not str or self._names.get(key) != name:
                # Not spelled as here, or not known to be.
                return self.pack(values.items(), base)
            data = self._dump(key, value)
            if data == base.packed[name]:
                if known[key] is CHANGEABLE and key not in copies:
                    # What was unpacked just now has none yet, and what is kept below must make each value anew.
                    copies = {**copies, key: copier(value, data, self._load_json)}
                continue
            if packed is base.packed:
                packed, plain = packed.copy(), known.copy()
            size += len(data) - len(packed[name])
            pure = pure and data[0] == _JSON_BYTE
            packed[name], plain[key] = data, value
            if type(value) not in IMMUTABLE:
                plain[key] = CHANGEABLE
                copies = {**copies, key: copier(value, data, self._load_json)}
            elif key in copies:
                copies = {other: copy for other, copy in copies.items() if other != key}
        if pure and packed is not base.packed:
            self._keep(Unpacked(packed, plain, base.names, copies, pure=True, size=size))
        return packed

    def _keep(self, unpacked: Unpacked) -> None:
        packed = unpacked.packed
        if len(packed) <= _KEYS and unpacked.size <= _BYTES:
            if len(self._unpacked) >= _SESSIONS:
                self._unpacked.clear()
            self._unpacked[id(packed)] = unpacked

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

    def unpack(self, packed: Packed, *, trusted: bool) -> dict[Any, Any]:
        """Fresh objects for every pair. Raises CorruptRecord, also for a pickle in an untrusted record.

        What came here before, or from :meth:`pack`, is remembered by the dict that it is, which nothing may change.
        """
        # Held in what is found, the dict shares its id with no other.
        remembered = self._unpacked.get(id(packed))
        if remembered is None or remembered.packed is not packed:
            # It may never come again, as most of what a cookie or another process brings.
            self._keep(Unpacked(packed, None, {}, {}, pure=False, size=_size(packed)))
            return self._unpack(packed, trusted=trusted)
        if remembered.plain is not None:
            return remembered.fresh(remembered.plain)
        values = self._unpack(packed, trusted=trusted)
        base = self.base(packed, values)
        # A pickle asks for trust each time.
        if base.pure and base.packed is packed:
            copies = {
                key: copier(values[key], packed[base.names[key]], self._load_json)
                for key, value in (base.plain or {}).items()
                if value is CHANGEABLE
            }
            self._unpacked[id(packed)] = Unpacked(
                packed, base.plain, base.names, copies, pure=True, size=remembered.size
            )
        return values

    def _load_json(self, data: bytes) -> Any:
        return self._json.loads(data[1:])

    def _unpack(self, packed: Packed, *, trusted: bool) -> dict[Any, Any]:
        names: list[Any] = [*map(self._keys.get, packed)]
        if None in names:
            names = self._json.loads_each(packed)
            for key, name in zip(names, packed, strict=True):
                # In our own spelling only: packed again, a key must have the same name everywhere.
                if type(key) is str and self._json.dumps(key) == name:
                    self._remember(key, name)
        texts = [item[1:] for item in packed.values() if item[:1] == _JSON]
        if len(texts) == len(packed):
            values = self._json.loads_each(texts)
        else:
            values = [self.load(item, trusted=trusted) for item in packed.values()]
        try:
            if len(names) > MOST_ALIKE and crowded(names):
                raise CorruptRecord("too many session keys with the same hash")
            return dict(zip(names, values, strict=True))
        except TypeError:
            raise CorruptRecord("a session key is not hashable") from None

    def remembered(self, packed: Packed) -> Unpacked | None:
        """What :meth:`base` would return, if it is remembered; then :meth:`reencodings` has nothing to say."""
        found = self._unpacked.get(id(packed))
        return found if found is not None and found.packed is packed and found.plain is not None else None

    def base(self, packed: Packed, values: dict[Any, Any]) -> Unpacked:
        """What :meth:`pack` can take over: ``values`` is what :meth:`unpack` has just returned for ``packed``."""
        if len(values) != len(packed):
            # Two names for one key, which we do not write: the value may come from either.
            return NOTHING
        plain = {key: value if type(value) in IMMUTABLE else CHANGEABLE for key, value in values.items()}
        pure = all(data[:1] == _JSON for data in packed.values())
        return Unpacked(packed, plain, dict(zip(values, packed, strict=True)), {}, pure=pure, size=_size(packed))

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


NOTHING: Final = Unpacked({}, {}, {}, {}, pure=True, size=0)
"""What a new session was loaded from."""


def _size(packed: Packed) -> int:
    return sum(map(len, packed)) + sum(map(len, packed.values()))


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
    try:
        table = bytes(map(len, pieces))
    except ValueError:
        table = b"\xff"
    # Short pieces, which most are, take one byte each and no Python loop.
    if not table.isascii():
        table = b"".join([_varint(len(piece)) for piece in pieces])
    count = len(packed)
    return b"".join((bytes((count,)) if count < 0x80 else _varint(count), table, *pieces))


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
