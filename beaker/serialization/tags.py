"""The tags of :mod:`beaker.serialization.tagged_json`: one writer and one strict reader for each type.

A reader raises one of :data:`MALFORMED` for anything its writer would not have written: parsers of the
standard library that accept more than one spelling are checked by spelling the result again.
"""

from __future__ import annotations

import base64
import binascii
import re
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from decimal import Decimal
    from uuid import UUID

from beaker.serialization.hashes import MOST_ALIKE, crowded

DEPTH: Final = 64
INT_DIGITS: Final = 4300
INT_LIMIT: Final = 10**INT_DIGITS
TAG: Final = "~t"

MALFORMED: Final = (ValueError, TypeError, ArithmeticError, LookupError, OSError, ImportError)
"""What reading a tag may raise (an unknown time zone is a KeyError, one that is a directory an OSError)."""

_ZONE_NAME: Final = r"[A-Za-z0-9_+\-]{1,32}(?:/[A-Za-z0-9_+\-]{1,32}){0,3}\Z"
"""Compiled when the first zone comes and not when this is imported; re remembers it."""
_SHOWN_KEY: Final = 40


class Refused(Exception):
    """A value JSON cannot hold: its type's ``kind``, and the ``path`` to it, built from the inside out.

    ``code``: of the error, where it is not that of a type that JSON does not know.
    """

    def __init__(self, kind: str, hint: str = "", code: str = "") -> None:
        super().__init__(kind)
        self.kind = kind
        self.hint = hint
        self.code = code
        self.path = ""

    def under(self, step: str) -> Refused:
        self.path = step + self.path
        return self


def to_json(value: Any, depth: int) -> Any:
    """``value`` in terms of JSON's own types; raises :class:`Refused`. ``depth`` is how many levels are left."""
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is bool or value is None:
        return value
    if kind is int:
        if not -INT_LIMIT < value < INT_LIMIT:
            raise Refused("int", f"it has more than {INT_DIGITS} digits")
        return value
    if kind is float:
        if value - value != 0.0:
            raise Refused("float", "NaN and infinities are not JSON")
        return value
    container = _CONTAINERS.get(kind)
    if container is not None:
        if depth == 0:
            raise Refused(kind.__name__, f"more than {DEPTH} containers are inside each other")
        return container(value, depth - 1)
    scalar = _SCALARS.get(kind) or _imported(kind)
    if scalar is None:
        raise Refused(kind.__name__, _hint(kind))
    return scalar(value)


def from_json(made: dict[str, Any]) -> Any:
    """The value of a tag object; raises one of :data:`MALFORMED`."""
    body = made[TAG]
    if len(made) != 1 or type(body) is not list or len(body) != 2 or type(body[0]) is not str:
        raise ValueError("not a tag")
    return _READERS[body[0]](body[1])


def _hint(kind: type) -> str:
    from decimal import Decimal

    for plain in (int, str, float, tuple, list, dict, set, frozenset, bytes, datetime, date, Decimal):
        if issubclass(kind, plain):
            return f"a subclass would come back as plain {plain.__name__}"
    # What may hold it instead depends on where it is to be kept; who knows that says so.
    return ""


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise Refused("str", "it has a lone surrogate") from None
    return value


def _step(key: Any) -> str:
    if type(key) is str:
        shown = ascii(key)
        return f"[{shown if len(shown) <= _SHOWN_KEY else shown[:_SHOWN_KEY] + '...'}]"
    if type(key) is int and key.bit_length() < 64:
        return f"[{key}]"
    return f"[{type(key).__name__}]"


def _items(value: Any, depth: int) -> list[Any]:
    out = []
    for index, item in enumerate(value):
        try:
            out.append(to_json(item, depth))
        except Refused as refused:
            raise refused.under(f"[{index}]") from None
    return out


def _check_hashes(value: Any) -> None:
    if crowded(value):
        hint = f"more than {MOST_ALIKE} of its elements or keys have the same hash; keep them in a list"
        raise Refused(type(value).__name__, hint, "value.same-hash")


def _tuple(value: Any, depth: int) -> Any:
    return {TAG: ["tuple", _items(value, depth)]}


def _unordered(name: str) -> Callable[[Any, int], Any]:
    def write(value: Any, depth: int) -> Any:
        _check_hashes(value)
        out = []
        for item in value:
            try:
                out.append(to_json(item, depth))
            except Refused as refused:
                raise refused.under("{element}") from None
        # repr, because every part is JSON and equal parts have equal reprs: any total order will do.
        out.sort(key=repr)
        return {TAG: [name, out]}

    return write


def _dict(value: dict[Any, Any], depth: int) -> Any:
    _check_hashes(value)
    plain: dict[str, Any] = {}
    pairs = []
    only_names = TAG not in value
    for key, item in value.items():
        only_names = only_names and type(key) is str
        try:
            name = to_json(key, depth)
        except Refused as refused:
            raise refused.under("{key}") from None
        try:
            made = to_json(item, depth)
        except Refused as refused:
            raise refused.under(_step(key)) from None
        if only_names:
            plain[name] = made
        pairs.append([name, made])
    return plain if only_names else {TAG: ["dict", pairs]}


def _zone(zone: tzinfo | None) -> Any:
    if zone is None:
        return None
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        return [offset // timedelta(microseconds=1), *map(_text, name)]
    key = getattr(zone, "key", None)
    if type(zone).__module__ in ("zoneinfo", "zoneinfo._zoneinfo") and type(key) is str and re.match(_ZONE_NAME, key):
        from zoneinfo import ZoneInfo

        if ZoneInfo(key) is zone:
            return key
    raise Refused(type(zone).__name__, "time zones are datetime.timezone or zoneinfo.ZoneInfo by name")


def _stamp(name: str) -> Callable[[Any], Any]:
    def write(value: Any) -> Any:
        return {TAG: [name, [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, _zone(value.tzinfo)]]}

    return write


def _complex(value: complex) -> Any:
    if value - value != 0:
        raise Refused("complex", "NaN and infinities are not JSON")
    return {TAG: ["complex", [value.real, value.imag]]}


def _simple(name: str, write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: {TAG: [name, write(value)]}


_CONTAINERS: Final[dict[type, Callable[[Any, int], Any]]] = {
    list: _items,
    dict: _dict,
    tuple: _tuple,
    set: _unordered("set"),
    frozenset: _unordered("frozenset"),
}
_SCALARS: Final[dict[type, Callable[[Any], Any]]] = {
    bytes: _simple("bytes", lambda value: base64.b64encode(value).decode("ascii")),
    datetime: _stamp("datetime"),
    time: _stamp("time"),
    date: _simple("date", date.isoformat),
    timedelta: _simple("timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    complex: _complex,
}
_IMPORTED: Final[dict[tuple[str, str], Callable[[Any], Any]]] = {
    # The case of the exponent's letter follows the thread's decimal context.
    ("decimal", "Decimal"): _simple("decimal", lambda value: str(value).upper()),
    ("uuid", "UUID"): _simple("uuid", lambda value: value.hex),
}
"""By module and name: a caller with such a value has imported them; no other caller has to."""


def _imported(kind: type) -> Callable[[Any], Any] | None:
    write = _IMPORTED.get((kind.__module__, kind.__name__))
    # A class of that name may be another one.
    return write if write and getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind else None


def _same(text: Any, spelled: Any) -> None:
    if type(text) is not type(spelled) or text != spelled:
        raise ValueError("not the canonical spelling")


def _list(value: Any, length: int | None = None) -> list[Any]:
    if type(value) is not list or (length is not None and len(value) != length):
        raise ValueError("not such a list")
    return value


def _read_unordered(make: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if crowded(_list(value)):
            raise ValueError("too many elements with the same hash")
        made = make(value)
        if len(made) != len(value):
            raise ValueError("an element twice")
        return made

    return read


def _read_dict(value: Any) -> dict[Any, Any]:
    if crowded([_list(pair, 2)[0] for pair in _list(value)]):
        raise ValueError("too many keys with the same hash")
    made = dict(value)
    _same(len(made), len(value))
    return made


def _read_bytes(value: Any) -> bytes:
    made = binascii.a2b_base64(value)
    _same(value, base64.b64encode(made).decode("ascii"))
    return made


def _read_zone(value: Any) -> tzinfo | None:
    if value is None:
        return None
    if type(value) is str:
        if not re.match(_ZONE_NAME, value):
            raise ValueError("not a zone's name")
        from zoneinfo import ZoneInfo

        return ZoneInfo(value)
    offset, *name = _list(value)
    if type(offset) is not int or len(name) > 1 or any(type(part) is not str for part in name):
        raise ValueError("not a zone")
    return timezone(timedelta(microseconds=offset), *name)


def _read_stamp(kind: Any) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        text, fold, zone = _list(value, 3)
        made = kind.fromisoformat(text)
        _same(text, made.isoformat())
        if type(fold) is not int or made.tzinfo is not None:
            raise ValueError("not a stamp")
        return made.replace(fold=fold, tzinfo=_read_zone(zone))

    return read


def _read_date(value: Any) -> date:
    made = date.fromisoformat(value)
    _same(value, made.isoformat())
    return made


def _read_timedelta(value: Any) -> timedelta:
    days, seconds, microseconds = _list(value, 3)
    made = timedelta(days, seconds, microseconds)
    for given, spelled in zip(value, (made.days, made.seconds, made.microseconds), strict=True):
        _same(given, spelled)
    return made


def _read_decimal(value: Any) -> Decimal:
    from decimal import Decimal

    made = Decimal(value)
    _same(value, str(made).upper())
    return made


def _read_uuid(value: Any) -> UUID:
    if type(value) is not str:
        raise ValueError("not a uuid")
    from uuid import UUID

    made = UUID(hex=value)
    _same(value, made.hex)
    return made


def _read_complex(value: Any) -> complex:
    real, imag = _list(value, 2)
    if type(real) is not float or type(imag) is not float:
        raise ValueError("not a complex number")
    return complex(real, imag)


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "tuple": lambda value: tuple(_list(value)),
    "set": _read_unordered(set),
    "frozenset": _read_unordered(frozenset),
    "dict": _read_dict,
    "bytes": _read_bytes,
    "datetime": _read_stamp(datetime),
    "time": _read_stamp(time),
    "date": _read_date,
    "timedelta": _read_timedelta,
    "decimal": _read_decimal,
    "uuid": _read_uuid,
    "complex": _read_complex,
}
