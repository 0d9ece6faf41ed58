"""What the page shows, taken at one moment; numbers and names of the program only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from beaker import cache as caching
from beaker import counters
from beaker.counters import CacheStats, Histogram, Snapshot
from beaker.crypto.keyring import KeyRing
from beaker.operations import checks
from beaker.operations.report import Report
from beaker.runtime import environ as process_environ
from beaker.storage import breaker
from beaker.telemetry.prices import Cost, Prices, cost_a_day
from gae import doctor
from gae.console.history import MINUTES, Minute

if TYPE_CHECKING:
    from gae.settings import Settings

__all__ = ["Facts", "KeyRow", "RegionRow", "Reporting", "slowest", "taken"]

_NAMESPACES = 20
"""The namespaces of a region that are named, those with most calls."""


class RegionRow(NamedTuple):
    """One region: what it is configured to do, what it has done, and its last hour."""

    name: str
    kind: str
    expire: float | None
    stats: CacheStats
    minutes: Sequence[Minute]
    namespaces: Sequence[CacheStats]
    """Those with most calls."""
    unnamed: int
    """How many more there are."""


class KeyRow(NamedTuple):
    """One key of the sessions' ring, by its public id."""

    id: str
    seals: bool
    seconds: float
    """Since this process first had it."""
    tokens: int
    """Cookies that it opened, as far as they were counted."""


class Facts(NamedTuple):
    """All of it."""

    snapshot: Snapshot
    regions: Sequence[RegionRow]
    costs: Mapping[str, Cost]
    report: Report
    keys: Sequence[KeyRow]
    circuits: Sequence[breaker.BreakerState]
    may_purge: bool


class Reporting:
    """The report on this application. Options do not change while it runs, so they are judged once, at its start;
    whether another distribution owns our files takes longer, and is found out when the page is asked for first."""

    def __init__(self, settings: Settings | None) -> None:
        environ = process_environ()
        self._report = doctor.examine(environ) if settings is None else doctor.of_settings(settings, environ)
        self._whole: Report | None = None if settings is not None else self._report

    def __call__(self) -> Report:
        """The whole report."""
        if self._whole is None:
            report = dataclasses.replace(self._report, findings=list(self._report.findings))
            checks.of_distributions(report)
            self._whole = report
        return self._whole


def taken(
    minutes: Mapping[str, Sequence[Minute]],
    prices: Mapping[str, Prices],
    report: Report,
    ring: Callable[[], KeyRing | None],
    *,
    may_purge: bool,
) -> Facts:
    """The facts of this moment."""
    snapshot = counters.snapshot()
    return Facts(
        snapshot,
        _regions(snapshot, minutes),
        cost_a_day(snapshot, prices),
        report,
        _keys(ring(), snapshot),
        breaker.states(),
        may_purge,
    )


def _regions(snapshot: Snapshot, minutes: Mapping[str, Sequence[Minute]]) -> list[RegionRow]:
    counted = {stats.region: stats for stats in snapshot.regions()}
    # Regions come before what belongs to none.
    names = sorted({*counted, *map(str, caching.cache_regions)}, key=lambda name: (not name, name))
    rows = []
    for name in names:
        options = caching.cache_regions.get(name) or {}
        own = sorted((one for one in snapshot.caches if one.region == name), key=lambda one: -one.calls)
        rows.append(
            RegionRow(
                name,
                str(options.get("type", "memory")) if name else "",
                options.get("expire"),
                counted.get(name, CacheStats(name, "")),
                minutes.get(name, [Minute()] * MINUTES),
                own[:_NAMESPACES],
                max(0, len(own) - _NAMESPACES),
            )
        )
    return rows


def _keys(ring: KeyRing | None, snapshot: Snapshot) -> list[KeyRow]:
    if ring is None:
        return []
    opened = snapshot.events
    return [
        KeyRow(kid.hex(), place == 0, seconds, opened.get(f"tokens_by_key{{{kid.hex()}}}", 0))
        for place, (kid, seconds) in enumerate(ring.ages().items())
    ]


def slowest(histogram: Histogram, share: float = 0.95) -> float | None:
    """Seconds that ``share`` of the creations took at most, to the class of the histogram; ``None`` beyond its last."""
    left = share * histogram.number
    for bound, number in zip((*histogram.bounds, None), histogram.counts, strict=True):
        left -= number
        if left <= 0:
            return bound
    return None
