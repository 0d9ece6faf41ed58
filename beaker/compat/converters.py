"""Text to what it means, as ``beaker.converters`` and ``beaker.util`` have it."""

from __future__ import annotations

from typing import Any

from beaker.exceptions import ConfigError

__all__ = ["asbool", "asint", "aslist"]

_TRUE = frozenset({"true", "yes", "on", "y", "t", "1"})
_FALSE = frozenset({"false", "no", "off", "n", "f", "0"})


def asbool(obj: object) -> bool:
    """Whether a word (true, yes, on, y, t, 1 and their opposites, in any case) or another object means yes.

    ConfigError, which is a ValueError, for any other text.
    """
    if not isinstance(obj, str):
        return bool(obj)
    word = obj.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ConfigError("the text is neither true nor false", expected="true or false")
    return word in _TRUE


def asint(obj: Any) -> int:
    """``int(obj)``; ConfigError where that fails."""
    try:
        return int(obj)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError("not a whole number", expected="a whole number", got=type(obj).__name__) from None


def aslist(obj: Any, sep: str | None = None, strip: bool = True) -> Any:
    """A text split at ``sep`` (default: white space), stripped and without empty parts unless ``strip`` is off.

    A list or tuple comes back as it is, ``None`` and the empty text are ``[]``, any other object is in a list.
    """
    if isinstance(obj, str):
        parts = obj.split(sep)
        return [part.strip() for part in parts if part.strip()] if strip else parts
    if isinstance(obj, (list, tuple)):
        return obj
    return [] if obj is None else [obj]
