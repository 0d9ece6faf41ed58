"""From what an INI file or a dictionary holds to what an option means.

Each function takes the option's name and a value and returns the coerced value, or raises ConfigError
naming the option, what was expected and what was given: numbers and short words as they are, of anything
else, and of whatever an option for secrets holds, the type only.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence

from beaker.exceptions import ConfigError

Coerce = Callable[[str, object], object]

_kinds: dict[Coerce, str] = {}

_TRUE = frozenset({"true", "yes", "on", "y", "t", "1"})
_FALSE = frozenset({"false", "no", "off", "n", "f", "0"})
_NONE = frozenset({"none", "null"})
_WORD_SHOWN = re.compile(r"[A-Za-z0-9_.:-]{1,12}")


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
        if _WORD_SHOWN.fullmatch(value.strip()):
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


def as_int(option: str, value: object) -> int:
    """A whole number, or its decimal digits in a string."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        try:
            return int(value.strip())
        except ValueError:
            raise wrong(option, value, "a whole number") from None
    raise wrong(option, value, "a whole number")


def as_count(option: str, value: object) -> int:
    """A whole number of at least 1."""
    number = as_int(option, value)
    if number < 1:
        raise wrong(option, value, "a whole number of at least 1")
    return number


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def as_seconds(option: str, value: object) -> float:
    """Seconds, zero or more: a number, its digits, a ``timedelta``, or a sum like ``"1h30m"`` (s m h d w)."""
    seconds: float | None = None
    if isinstance(value, dt.timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        seconds = _parse_seconds(value.strip().lower())
    if seconds is None or not 0 <= seconds < float("inf"):
        raise wrong(option, value, "seconds (a number of at least 0, a timedelta, or text like '90' or '1h30m')")
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
    """A path: text that is not empty, or an ``os.PathLike``."""
    return as_str(option, value.__fspath__() if hasattr(value, "__fspath__") else value)


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
    """A cookie's end: a boolean, a ``datetime``, a ``timedelta``, or seconds (see ``cookie_expires``)."""
    if isinstance(value, (bool, dt.datetime, dt.timedelta)):
        return value
    if isinstance(value, str) and value.strip().lower() in (_TRUE | _FALSE) - {"1", "0"}:
        return as_bool(option, value)
    try:
        return as_seconds(option, value)
    except ConfigError:
        raise wrong(option, value, "true, false, seconds, a datetime or a timedelta") from None


def one_of(*choices: str) -> Coerce:
    """One of ``choices``, in any case."""

    def coerce(option: str, value: object) -> str:
        if isinstance(value, str) and value.strip().lower() in choices:
            return value.strip().lower()
        raise wrong(option, value, "one of " + ", ".join(choice or "nothing" for choice in choices))

    _kinds[coerce] = " | ".join(choices)
    return coerce


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
        as_fraction: "fraction",
        as_str: "text",
        as_path: "path",
        as_list: "list of names",
        as_key: "key, or list",
        as_expires: "boolean, date or duration",
    }
)
