"""JSON that gives back the types it was given.

Plain JSON values stand for themselves. Everything else is an object with one key::

    {"~t": [type, value]}

for ``tuple``, ``set``, ``frozenset``, ``bytes``, ``datetime``, ``date``, ``time``, ``timedelta``,
``decimal``, ``uuid``, ``complex``, and ``dict`` (a list of pairs) for a dict whose keys are not all ``str``
or that itself holds the key ``~t``. Only exact types: a subclass (``IntEnum``, a namedtuple,
``OrderedDict``) would come back as something else and is refused.

Limits: 64 containers inside each other, 4,300 digits an int, 64 elements of a set or keys of a dict with the same hash
(hostile numbers apart, there are none), no NaN or infinity, no lone surrogates.
Equal sets give equal bytes; dicts keep their order.
"""

from __future__ import annotations

import json
import os
import re
import sys
from array import array
from collections.abc import Callable, Collection
from itertools import accumulate
from typing import Any, Final

from beaker.exceptions import CorruptRecord, UnserializableValue
from beaker.serialization import tags
from beaker.serialization.tags import DEPTH, INT_LIMIT, TAG, Refused

__all__ = ["TaggedJson"]

_LEAVES: Final = frozenset({str, int, float, bool, type(None)})
_CONTAINERS: Final = frozenset({dict, list})
_PLAIN: Final = _LEAVES | _CONTAINERS
_ONLY_STR: Final = frozenset({str})
_CONSTANTS: Final = {None: b"null", True: b"true", False: b"false"}
_SMALL: Final = 1 << 63
_TAG_KEY: Final = f'"{TAG}":'
# A dict with other keys inside one of its own kind is {"~t":["dict",[[key, is four levels of text for one of values.
_TEXT_DEPTH: Final = 4 * DEPTH
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NOT_BRACKETS: Final = bytes(c for c in range(256) if c not in b"[]{}")
# dumps writes characters above U+001F as themselves, so any escaped surrogate is foreign. Compiled when it is needed.
_ESCAPED_SURROGATE: Final = rb"(?<!\\)(?:\\\\)*\\u[dD][89a-fA-F]"

_BETWEEN: Final = int.from_bytes(os.urandom(8), "big") >> 2
_SEPARATOR: Final = b",%d," % _BETWEEN

_quoted = json.encoder.encode_basestring


def _encoder() -> Callable[[Any], str]:
    build: Any = getattr(json.encoder, "c_make_encoder", None)
    if build is None:
        return json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":")).encode
    # JSONEncoder.encode() builds this anew at each call, which takes longer than it then works.
    pieces = build(None, None, _quoted, None, ":", ",", False, False, False)
    return lambda obj: "".join(pieces(obj, 0))


_encode = _encoder()


class TaggedJson:
    """Exact round trips through JSON; see the module for the types and the limits."""

    name = "json"

    def dumps(self, obj: Any, path: str = "value") -> bytes:
        """UTF-8 JSON without spaces.

        Raises :class:`~beaker.exceptions.UnserializableValue` whose ``path`` leads from ``path`` to the
        part that cannot be held.
        """
        kind = type(obj)
        try:
            if kind in _CONTAINERS:
                if _is_plain(obj, DEPTH) and _int_digits_bounded():
                    text = _encode(obj)
                    if _TAG_KEY not in text:
                        return text.encode("utf-8")
            elif kind is str:
                return _quoted(obj).encode("utf-8")
            elif kind is int and -_SMALL < obj < _SMALL:
                return b"%d" % obj
            elif kind is bool or obj is None:
                return _CONSTANTS[obj]
            elif kind is float and obj - obj == 0.0:
                return repr(obj).encode("ascii")
        except ValueError:
            # NaN, a lone surrogate or an endless int: the walk below says where.
            return self._dumps_tagged(obj, path)
        return self._dumps_tagged(obj, path)

    def _dumps_tagged(self, obj: Any, path: str) -> bytes:
        try:
            return _encode(tags.to_json(obj, DEPTH)).encode("utf-8")
        except Refused as refused:
            raise UnserializableValue(path + refused.path, refused.kind, refused.hint, code=refused.code) from None
        except ValueError:
            # Only an int is left: the application lowered sys.set_int_max_str_digits.
            raise UnserializableValue(path, "int", "it has more digits than Python may write here") from None

    def loads(self, data: bytes) -> Any:
        """The value that ``data`` stands for. Raises :class:`~beaker.exceptions.CorruptRecord` otherwise.

        Depth is bounded, so a RecursionError says the caller's stack was full already and passes through.
        """
        if _too_deep(data) or (b"\\u" in data and re.search(_ESCAPED_SURROGATE, data)):
            raise CorruptRecord("not our tagged JSON")
        try:
            text = data.decode("utf-8")
            scan: Any = _fast if _int_digits_bounded() else _careful
            # What raw_decode() calls.
            value, end = scan.scan_once(text, 0)
        except (StopIteration, *tags.MALFORMED) as err:
            # The error quotes the text it failed on, which is a value: it is not chained.
            raise CorruptRecord(f"not our tagged JSON ({type(err).__name__})") from None
        if end != len(text):
            raise CorruptRecord("tagged JSON with something behind it")
        return value

    def loads_each(self, parts: Collection[bytes]) -> list[Any]:
        """As :meth:`loads` for each of ``parts``, in one go where they are many.

        White space around a part, which :meth:`dumps` never writes, may pass then.
        """
        together = _loads_together(parts) if len(parts) > 1 else None
        # One by one shows what is wrong.
        return [self.loads(part) for part in parts] if together is None else together


def _loads_together(parts: Collection[bytes]) -> list[Any] | None:
    # A part that is no JSON by itself may be with its neighbours, but then it swallows a separator, and no
    # part can bring another: the number is random.
    data = b"[" + _SEPARATOR.join(parts) + b"]"
    shallow = data.count(b"[") + data.count(b"{") <= _TEXT_DEPTH
    if (not shallow and _too_deep(data)) or (b"\\u" in data and re.search(_ESCAPED_SURROGATE, data)):
        return None
    try:
        text = data.decode("utf-8")
        scan: Any = _fast if _int_digits_bounded() else _careful
        # What raw_decode() calls.
        values, end = scan.scan_once(text, 0)
    except (StopIteration, *tags.MALFORMED):
        return None
    return values[::2] if end == len(text) and values[1::2] == [_BETWEEN] * (len(parts) - 1) else None


def _is_plain(value: Any, depth: int) -> bool:
    # Sets of types are built and compared in C: a flat container costs the same at any size.
    if depth == 0:
        return False
    if type(value) is dict:
        if not _ONLY_STR.issuperset(map(type, value)):
            return False
        value = value.values()
    kinds = set(map(type, value))
    if _LEAVES.issuperset(kinds):
        return True
    if not _PLAIN.issuperset(kinds):
        return False
    return all(_is_plain(item, depth - 1) for item in value if type(item) in _CONTAINERS)


def _int_digits_bounded() -> bool:
    # Python itself refuses longer ints in both directions unless the application lifted the limit
    # (or the release is older than it: 3.10.0 to 3.10.6).
    limit = getattr(sys, "get_int_max_str_digits", None)
    return limit is not None and 0 < limit() <= tags.INT_DIGITS


def _too_deep(data: bytes) -> bool:
    # The C parser recurses on its input, so depth is bounded before it. Outside of strings no backslash is
    # legal: the parser stops at one, and up to there this sees the same strings as the parser.
    if data.count(b"[") + data.count(b"{") <= _TEXT_DEPTH:
        return False
    outside = b"".join(data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    steps = array("b", outside.translate(_STEPS, _NOT_BRACKETS))
    return max(accumulate(steps), default=0) > _TEXT_DEPTH


def _object(pairs: list[tuple[str, Any]]) -> Any:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key twice")
    if TAG in made:
        return tags.from_json(made)
    return made


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0.0:
        raise ValueError("a float out of range")
    return value


def _no_constant(text: str) -> Any:
    raise ValueError("NaN or an infinity")


def _bounded_int(text: str) -> int:
    if len(text) > tags.INT_DIGITS + 1:
        raise ValueError("an int with too many digits")
    value = int(text)
    if not -INT_LIMIT < value < INT_LIMIT:
        raise ValueError("an int with too many digits")
    return value


_fast = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_no_constant)
_careful = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=_finite, parse_constant=_no_constant, parse_int=_bounded_int
)
