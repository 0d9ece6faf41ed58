"""How long a value is valid: a number of seconds, or what a function of the value says."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from beaker.caching.entry import Entry
from beaker.caching.said import DO_NOT_KEEP, DoNotKeep
from beaker.config.coerce import as_seconds
from beaker.exceptions import ConfigError

__all__ = ["Lifetime", "LifetimeFunction", "Unkept", "lifetime"]

LifetimeFunction = Callable[[Any], float | dt.timedelta | DoNotKeep | None]
"""From a value to the seconds it is valid for, ``None`` for ever, or ``DO_NOT_KEEP``."""
Lifetime = float | LifetimeFunction | None


class Unkept(Entry):
    """A value that is nowhere stored, for those that waited for its creation."""


def lifetime(expire: Lifetime, value: Any) -> float | DoNotKeep | None:
    """Seconds for which ``value`` is valid, ``None`` for ever, or ``DO_NOT_KEEP``.

    A callable ``expire`` is asked; what it raises is raised. ConfigError, which names it, when it returns anything else
    than seconds from 0 to 100 years (a number or a ``timedelta``), ``None`` or ``DO_NOT_KEEP``.
    """
    if not callable(expire):
        return expire
    found: object = expire(value)
    if found is None or found is DO_NOT_KEEP:
        return found
    if isinstance(found, (int, float, dt.timedelta)):
        try:
            return as_seconds("expire", found)
        except ConfigError:
            pass
    name = getattr(expire, "__qualname__", type(expire).__qualname__)
    raise ConfigError(
        f"{name} does not say how long a value is valid",
        option="expire",
        expected="a function that returns seconds from 0 to 100 years, None for ever, or beaker.cache.DO_NOT_KEEP",
        got=type(found).__name__,
        code="cache.bad-lifetime",
    )
