"""From what an INI file or a dictionary holds to what an option means.

Each function takes the option's name and a value and returns the coerced value, or raises ConfigError
naming the option, what was expected and what was given: numbers and short words as they are, of anything
else, and of whatever an option for secrets holds, the type only.
"""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Callable, Mapping, Sequence

from beaker.exceptions import ConfigError

Coerce = Callable[[str, object], object]

_kinds: dict[Coerce, str] = {}

_TRUE = frozenset({"true", "yes", "on", "y", "t", "1"})
_FALSE = frozenset({"false", "no", "off", "n", "f", "0"})
_NONE = frozenset({"none", "null"})
_WORD_SHOWN = r"[A-Za-z0-9_.:-]{1,12}"


def wrong(option: str, value: object, expected: str, hint: str = "", *, secret: bool = False) -> ConfigError:
    """The error for ``value`` not being ``expected``; of a ``secret`` it names the type only."""
    got = type(value).__name__ if secret and value != "" else shown(value)
    return ConfigError(f"option {option!r} cannot be used", option=option, expected=expected, got=got, hint=hint)


def shown(value: object) -> str:
    """What a message may say of an option's value: a number or a short word itself, of anything else its type.

    A word has at most 12 letters, digits and ``_ . : -``: shorter than any key that is accepted.
    """
    if value is None or isinstance(value, (bool, int, float)):
        text = repr(value)
        return text if len(text) <= 24 else type(value).__name__
    if isinstance(value, str):
        if not value.strip():
            return "an empty string"
        if re.fullmatch(_WORD_SHOWN, value.strip()):
            return repr(value.strip())
    return type(value).__name__


def as_bool(option: str, value: object) -> bool:
    """``True``/``False``, 1/0, or the words true, yes, on, y, t, 1 and their opposites, in any case."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
    raise wrong(option, value, "true or false")


_WORD = 2**63 - 1
"""The largest number that every store and struct holds."""


def as_int(option: str, value: object) -> int:
    """A whole number of 64 bits, or its decimal digits in a string."""
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, str):
        try:
            number = int(value.strip())
        except ValueError:
            raise wrong(option, value, "a whole number") from None
    if number is None or not -_WORD <= number <= _WORD:
        raise wrong(option, value, "a whole number")
    return number


def between(least: int, most: int = _WORD) -> Coerce:
    """A whole number from ``least`` to ``most``."""
    expected = f"a whole number of at least {least}" if most == _WORD else f"a whole number from {least} to {most}"

    def coerce(option: str, value: object) -> int:
        number = as_int(option, value)
        if not least <= number <= most:
            raise wrong(option, value, expected)
        return number

    _kinds[coerce] = f"whole number from {least}" if most == _WORD else f"whole number, {least} to {most}"
    return coerce


_COUNT = between(1)


def as_count(option: str, value: object) -> int:
    """A whole number of at least 1."""
    count = _COUNT(option, value)
    assert isinstance(count, int)
    return count


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_CENTURY = 36_525 * 86400.0
_SECONDS = "seconds (a number, a timedelta, or text like '90' or '1h30m')"


def as_seconds(option: str, value: object) -> float:
    """Seconds from 0 to 100 years: a number, its digits, a ``timedelta``, or a sum like ``"1h30m"`` (s m h d w)."""
    seconds = _seconds(value)
    if seconds is None or not 0 <= seconds <= _CENTURY:
        raise wrong(option, value, f"{_SECONDS}, from 0 to 100 years")
    return seconds


def as_span(option: str, value: object) -> float:
    """Seconds as :func:`as_seconds`, but more than 0."""
    seconds = _seconds(value)
    if seconds is None or not 0 < seconds <= _CENTURY:
        raise wrong(option, value, f"{_SECONDS}, above 0 and up to 100 years")
    return seconds


def _seconds(value: object) -> float | None:
    """Any number of seconds that ``value`` means, ``None`` when it means none."""
    seconds: float | None = None
    if isinstance(value, dt.timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            return None
    elif isinstance(value, str):
        seconds = _parse_seconds(value.strip().lower())
    return seconds


def as_fraction(option: str, value: object) -> float:
    """A number of at least 0 and below 1."""
    number = as_seconds(option, value)
    if number >= 1:
        raise wrong(option, value, "a fraction of at least 0 and below 1")
    return number


def _parse_seconds(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        total, digits = 0.0, ""
        for char in text.replace(" ", ""):
            if char in _UNITS and digits:
                try:
                    total += float(digits) * _UNITS[char]
                except ValueError:
                    return None
                digits = ""
            else:
                digits += char
        return total if text and not digits else None


def optional(coerce: Callable[[str, object], object]) -> Coerce:
    """``coerce``, with ``None`` and the words none and null meaning "not set"."""

    def coerced(option: str, value: object) -> object:
        if value is None or (isinstance(value, str) and value.strip().lower() in _NONE):
            return None
        return coerce(option, value)

    _kinds[coerced] = f"{kind_of(coerce)}, or none"
    return coerced


def as_str(option: str, value: object) -> str:
    """Text that is not empty."""
    if isinstance(value, str) and value.strip():
        return value.strip()
    raise wrong(option, value, "text that is not empty")


def as_path(option: str, value: object) -> str:
    """A path: text that is not empty, or an ``os.PathLike``; such as the system could have."""
    path = as_str(option, value.__fspath__() if hasattr(value, "__fspath__") else value)
    try:
        possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise wrong(option, value, "a path, which holds no NUL and can be encoded")
    return path


def as_list(option: str, value: object) -> list[str]:
    """A list or tuple of text, or one text with commas; names are stripped, empty ones left out."""
    if isinstance(value, str):
        return [part.strip() for part in value.replace("\n", ",").split(",") if part.strip()]
    if isinstance(value, Sequence) and all(isinstance(part, str) for part in value):
        return [part.strip() for part in value if part.strip()]
    raise wrong(option, value, "names separated by commas, or a list of them")


def as_key(option: str, value: object) -> object:
    """Key material: text, bytes, or a list of them. Its strength is judged by the key ring."""
    if isinstance(value, (str, bytes)) and value.strip():
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, (str, bytes)) and v.strip() for v in value):
        return tuple(value)
    raise wrong(
        option,
        value,
        "a key, or a list of keys, newest first",
        "make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        secret=True,
    )


def as_expires(option: str, value: object) -> bool | dt.datetime | dt.timedelta | float:
    """A cookie's end: a boolean, a ``datetime``, or at least a second as ``timedelta`` or number.

    Text is read as a boolean first, as Beaker 1.14 does: ``"1"`` is true and ``"0"`` false. The numbers 0 and
    1 are refused, because it is unclear whether they are seconds.
    """
    if isinstance(value, (bool, dt.datetime)):
        return value
    if isinstance(value, str) and value.strip().lower() in _TRUE | _FALSE:
        return as_bool(option, value)
    seconds = _seconds(value)
    boolean = isinstance(value, (int, float)) and value in (0, 1)
    if seconds is None or boolean or not 1 <= seconds < float("inf"):
        ends = (
            _ENDS if not boolean else f"{_ENDS}; whether the numbers 0 and 1 are seconds is unclear: write a timedelta"
        )
        raise wrong(option, value, "true, false, a datetime, or at least one second as a number or timedelta", ends)
    return value if isinstance(value, dt.timedelta) else seconds


_ENDS = "true: the cookie ends with the browser; false: it lasts as long as a browser allows, 400 days"


def one_of(*choices: str) -> Coerce:
    """One of ``choices``, in any case."""

    def coerce(option: str, value: object) -> str:
        if isinstance(value, str) and value.strip().lower() in choices:
            return value.strip().lower()
        raise wrong(option, value, "one of " + ", ".join(choice or "nothing" for choice in choices))

    _kinds[coerce] = " | ".join(choices)
    return coerce


def as_class(option: str, value: object) -> object:
    """A class, or another callable; ``None`` for none."""
    if value is not None and not callable(value):
        raise wrong(option, value, "a class, which only Python code can give")
    return value


def as_mapping(option: str, value: object) -> object:
    """A dict, or ``None`` for none. Of another value only the type is named."""
    if value is not None and not isinstance(value, Mapping):
        raise wrong(option, value, "a dict", secret=True)
    return value


def as_is(option: str, value: object) -> object:
    """Any object."""
    return value


def note_kind(coerce: Coerce, kind: str) -> None:
    """Say what values ``coerce`` is for."""
    _kinds[coerce] = kind


def kind_of(coerce: Coerce) -> str:
    """What the values of an option are, in a word or two for the reference."""
    return _kinds.get(coerce, "object")


_kinds.update(
    {
        as_bool: "boolean",
        as_int: "whole number",
        as_count: "whole number from 1",
        as_seconds: "duration",
        as_span: "duration above 0",
        as_fraction: "fraction",
        as_str: "text",
        as_path: "path",
        as_list: "list of names",
        as_key: "key, or list",
        as_expires: "boolean, date or duration",
    }
)
