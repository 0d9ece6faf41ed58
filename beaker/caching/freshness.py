"""How long a value is served: until its expiry, near it, and after it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from beaker.exceptions import ConfigError

__all__ = ["MAX_AHEAD", "CachedValue", "Freshness", "Patience", "freshness_of"]

MAX_AHEAD = 60.0
"""Seconds a value's stamp may be ahead of the reader's clock. Further ahead the writer's clock was wrong, and how old
the value is cannot be known: it counts as expired."""


class CachedValue(Protocol):
    """What ``read`` returns; :class:`beaker.caching.entry.Entry` is one. Times are seconds since the epoch."""

    @property
    def value(self) -> Any: ...

    @property
    def stored(self) -> float: ...

    @property
    def expires(self) -> float | None:
        """``None``: never."""
        ...

    @property
    def cost(self) -> float:
        """Seconds its creation took; 0 when not known."""
        ...

    def is_fresh(self, now: float, starttime: float | None = None) -> bool: ...


class Freshness:
    """What to do with values near and after their expiry. ConfigError for values outside the limits."""

    on_expired: Literal["serve_stale", "wait", "recompute"]
    """``serve_stale``: one call creates, other calls return the old value. ``wait``: they wait for the new one.
    ``recompute``: each creates for itself, at once."""
    max_stale: float | None
    """``serve_stale`` returns an old value until this many seconds after its expiry; older ones are waited for.
    ``None``: as long as the store keeps it."""
    stale_if_error: float | None
    """Return the old value when creation raises, until this many seconds after its expiry; counted as
    ``stale_served`` and logged. ``None``: the exception is raised."""
    jitter: float
    """0 to 1: the fraction of their expiry by which values may expire sooner, at random, so that what was
    stored together does not expire together. The writer applies it, by :meth:`jittered`."""
    early: float
    """Factor of early refresh (XFetch: Vattani, Chierichetti, Lowenstein 2015); 1 is theirs, 0 is off. Each
    reader may refresh a fresh value, the likelier the nearer the expiry and the more expensive its creation was."""

    def __init__(
        self,
        on_expired: Literal["serve_stale", "wait", "recompute"] = "serve_stale",
        max_stale: float | None = None,
        stale_if_error: float | None = None,
        jitter: float = 0.0,
        early: float = 0.0,
    ) -> None:
        self.on_expired = on_expired
        self.max_stale = max_stale
        self.stale_if_error = stale_if_error
        self.jitter = jitter
        self.early = early
        if self.on_expired not in ("serve_stale", "wait", "recompute"):
            raise ConfigError("no such policy", option="on_expired", expected="serve_stale, wait or recompute")
        if not 0 <= self.jitter <= 1:
            raise ConfigError("jitter is a fraction", option="jitter", expected="0 to 1")
        if self.max_stale is not None and not self.max_stale >= 0:
            raise ConfigError("max_stale is a time", option="max_stale", expected="seconds, 0 or more")
        if self.stale_if_error is not None and not self.stale_if_error >= 0:
            raise ConfigError("stale_if_error is a time", option="stale_if_error", expected="seconds, 0 or more")
        if not self.early >= 0:
            raise ConfigError("early is a factor", option="early", expected="0 or more")

    def jittered(self, expire: float | None, rng: Callable[[], float] = random.random) -> float | None:
        """``expire`` seconds less its share of chance; ``None`` stays ``None``."""
        if expire is None or not self.jitter:
            return expire
        return expire * (1.0 - self.jitter * rng())

    def is_due_early(self, entry: CachedValue, now: float, rng: Callable[[], float] = random.random) -> bool:
        """Whether this reader shall refresh the fresh ``entry`` now."""
        expires = entry.expires
        if not self.early or expires is None:
            return False
        # rng may be 0 but not 1, and the logarithm of 0 is not a number.
        return now - entry.cost * self.early * math.log(1.0 - rng()) >= expires

    def covers_error(self, entry: CachedValue, now: float) -> bool:
        """Whether the old ``entry`` may be returned in place of an exception."""
        return self.stale_if_error is not None and overdue_by(entry, now) < self.stale_if_error

    def keeps(self, entry: CachedValue, now: float) -> float | None:
        """Seconds from ``now`` for which the data behind ``entry`` is kept, ``None`` for ever."""
        until = self.kept_until(entry)
        return None if until is None else max(0.0, until - now)

    def kept_until(self, entry: CachedValue) -> float | None:
        """When the data behind ``entry`` may be dropped, in seconds since the epoch; ``None``: never.

        It outlives its expiry: the next calls return the old value while a new one is created, and
        ``stale_if_error`` needs it too. A minute at least, else as long again as it was valid, up to a day.
        """
        expires = entry.expires
        if expires is None:
            return None
        longer, least = expires - entry.stored, self.stale_if_error
        # Comparisons, because max() and min() would be a tenth of a put in memory.
        if longer < 60.0:
            longer = 60.0
        elif longer > 86_400.0:
            longer = 86_400.0
        return expires + (longer if least is None or least < longer else least)

    def serves(self, entry: CachedValue, now: float) -> bool:
        """Whether the old ``entry`` may be returned while another call creates."""
        if self.on_expired != "serve_stale":
            return False
        return self.max_stale is None or overdue_by(entry, now) < self.max_stale


def overdue_by(entry: CachedValue, now: float) -> float:
    """Seconds since ``entry`` expired. Infinity when its stamp is too far ahead to tell."""
    if entry.stored - MAX_AHEAD > now:
        return math.inf
    expires = entry.expires
    return 0.0 if expires is None else now - expires


def freshness_of(options: Mapping[str, Any]) -> Freshness:
    """The expiry policy in ``on_expired``, ``max_stale``, ``stale_if_error``, ``jitter`` and ``early_refresh``."""
    limit, stale = options.get("max_stale"), options.get("stale_if_error")
    return Freshness(
        on_expired=options.get("on_expired") or "serve_stale",
        max_stale=None if limit is None else float(limit),
        stale_if_error=None if stale is None else float(stale),
        jitter=float(options.get("jitter") or 0.0),
        early=float(options.get("early_refresh") or 0.0),
    )


class Patience:
    """How long this process has been returning each old value because another call creates the new one.

    A creation that hangs is noticed by the value it should replace: it stays the same. ``timer`` returns seconds; it
    is not the clock by which values expire, since that one may be set. The ``_LIMIT`` values last asked for are known.
    """

    _LIMIT = 1_000
    _SHORTEST = 1.0

    def __init__(self, timer: Callable[[], float]) -> None:
        self.timer = timer
        self._since: dict[str, tuple[float, float]] = {}

    def ended(self, key: str, stored: float, limit: float | None) -> bool:
        """Whether this call shall create in place of the one in flight. True once for each ``limit`` seconds, at least
        one, in which the value that was stored at ``stored`` has been the one returned; ``None``: never."""
        if limit is None:
            return False
        now = self.timer()
        known = self._since.get(key)
        if known is None or known[0] != stored:
            if len(self._since) >= self._LIMIT:
                self._since.clear()
        elif now - known[1] < max(limit, self._SHORTEST):
            return False
        self._since[key] = (stored, now)
        return known is not None and known[0] == stored
