"""The plain values an old session may hold, and what a pickle's calls for them return."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from typing import Any, Final

from beaker.exceptions import BeakerException
from beaker.serialization.hashes import crowded

__all__ = ["CONSTRUCTORS", "STATEFUL", "Constructor", "LegacyDataError", "Old", "Plain", "Stateful"]

MAX_DEPTH: Final = 64
MAX_VALUES: Final = 100_000
"""Values one reading may make, each counted as often as it occurs: a few shared lists can stand for billions."""
BYTES_A_VALUE: Final = 64
"""So many bytes of text or of a number count as one value more: what is shared here is written out later."""
MAX_DIGITS: Final = 4_300
"""Digits of a number: Python's own limit for turning text into integers."""


class LegacyDataError(BeakerException):
    """Old data that is not read. ``reason`` is a word for counters, never data."""

    code = "legacy.unreadable"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"old session data cannot be read ({self.reason})"


class Old(bytes):
    """A ``str`` of Python 2: text or bytes, as its use will show."""


class Stateful:
    """An object that gets its state later in the pickle."""

    __slots__ = ("make", "state")

    def __init__(self, make: Constructor) -> None:
        self.make = make
        self.state: dict[Any, Any] | None = None


class Plain:
    """Turns what a reading found into fresh plain values, within one budget for the whole reading."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def __call__(self, value: Any, depth: int = 0) -> Any:
        """``value`` rebuilt. Raises LegacyDataError for other types, over 64 levels (a list that holds itself
        among them) and when the budget is spent."""
        kind = type(value)
        size = _SIZES.get(kind)
        self.spend(0 if size is None else size(value))
        if depth > MAX_DEPTH:
            raise LegacyDataError("depth")
        if kind in _SCALARS:
            return value
        if kind is Old:
            return text_of(value)
        if kind is dict:
            return {self(key, depth + 1): self(item, depth + 1) for key, item in value.items()}
        if kind in _SERIES:
            return kind([self(item, depth + 1) for item in value])
        if kind is Stateful:
            return value.make(self, value.state)
        raise LegacyDataError("type")

    def spend(self, size: int) -> None:
        """Take a value of so many bytes from the budget. Raises LegacyDataError when it is spent."""
        self._left -= 1 + size // BYTES_A_VALUE
        if self._left < 0:
            raise LegacyDataError("values")


Constructor = Callable[..., Any]

_TIMES: Final = (dt.datetime, dt.date, dt.time, dt.timedelta, dt.timezone)
_SCALARS: Final = frozenset((type(None), bool, int, float, complex, str, bytes, decimal.Decimal, uuid.UUID, *_TIMES))
_SIZES: Final[dict[type, Callable[[Any], int]]] = {
    str: len,
    bytes: len,
    Old: len,
    int: lambda value: int(value.bit_length() // 8),
    decimal.Decimal: lambda value: len(str(value)),
}
_SERIES: Final = frozenset([list, tuple, set, frozenset])


def text_of(value: bytes) -> str | bytes:
    """A ``str`` of Python 2: text where it is UTF-8, else bytes."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return bytes(value)


def _need(fits: bool) -> None:
    if not fits:
        raise LegacyDataError("argument")


def _state(value: object, *sizes: int) -> bytes:
    _need(isinstance(value, bytes) and len(value) in sizes)
    return bytes(value)  # type: ignore[call-overload, no-any-return]  # the line before says it is bytes


def _zone(zone: tuple[Any, ...]) -> tuple[Any, ...]:
    _need(len(zone) < 2 and all(type(item) is dt.timezone for item in zone))
    return zone


def _datetime(plain: Plain, state: Any, *zone: Any) -> Any:
    make: Any = dt.datetime
    return make(_state(state, 10), *_zone(zone))


def _date(plain: Plain, state: Any) -> Any:
    make: Any = dt.date
    return make(_state(state, 4))


def _time(plain: Plain, state: Any, *zone: Any) -> Any:
    make: Any = dt.time
    return make(_state(state, 6), *_zone(zone))


def _timedelta(plain: Plain, *parts: Any) -> dt.timedelta:
    _need(len(parts) <= 3 and all(type(part) is int for part in parts))
    return dt.timedelta(*parts)


def _timezone(plain: Plain, offset: Any, *name: Any) -> dt.timezone:
    names = [plain(item) for item in name]
    _need(type(offset) is dt.timedelta and len(names) < 2 and all(type(item) is str for item in names))
    return dt.timezone(offset, *names)


def _decimal(plain: Plain, digits: Any) -> decimal.Decimal:
    text = plain(digits)
    _need(type(text) is str and len(text) <= MAX_DIGITS)
    return decimal.Decimal(text)


def _uuid(plain: Plain, state: Any) -> uuid.UUID:
    _need(type(state) is dict and type(state.get("int")) is int)
    return uuid.UUID(int=state["int"])


def _complex(plain: Plain, *parts: Any) -> complex:
    _need(len(parts) == 2 and all(type(part) in (int, float) for part in parts))
    return complex(*parts)


def _encode(plain: Plain, text: Any, encoding: Any) -> bytes:
    # How Python 3 writes bytes in protocol 2. Other codecs can decompress, import, or worse.
    _need(type(text) is str and plain(encoding) in ("latin1", "latin-1"))
    plain.spend(len(text))
    return str(text).encode("latin-1")


def _bytes(plain: Plain, *parts: Any) -> bytes:
    # bytes(n) would reserve n bytes, so that a number is no argument here.
    if len(parts) == 2:
        return _encode(plain, *parts)
    _need(len(parts) < 2 and all(isinstance(part, bytes) for part in parts))
    plain.spend(sum(map(len, parts)))
    return b"".join(parts)


def _set(plain: Plain, *items: Any) -> set[Any]:
    _need(len(items) < 2 and all(type(item) is list for item in items))
    found = [plain(item) for part in items for item in part]
    _need(not crowded(found))
    return set(found)


def _frozenset(plain: Plain, *items: Any) -> frozenset[Any]:
    return frozenset(_set(plain, *items))


def _never(plain: Plain, *args: Any) -> Any:
    """``object``, which a pickle may name as the base of a UUID but not call."""
    raise LegacyDataError("call")


_BUILTINS: dict[str, Constructor] = {
    "set": _set,
    "frozenset": _frozenset,
    "bytes": _bytes,
    "bytearray": _bytes,
    "complex": _complex,
    "object": _never,
}
CONSTRUCTORS: Final[dict[tuple[str, str], Constructor]] = {
    ("datetime", "datetime"): _datetime,
    ("datetime", "date"): _date,
    ("datetime", "time"): _time,
    ("datetime", "timedelta"): _timedelta,
    ("datetime", "timezone"): _timezone,
    ("decimal", "Decimal"): _decimal,
    ("uuid", "UUID"): _uuid,
    ("_codecs", "encode"): _encode,
    **{(module, name): make for module in ("builtins", "__builtin__") for name, make in _BUILTINS.items()},
}
"""Everything a pickle may name. Each value is a function of this module; the named ones are never called."""
STATEFUL: Final = frozenset([_uuid])
