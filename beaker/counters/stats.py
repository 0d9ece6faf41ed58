"""The immutable shapes in which counts are read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from beaker.counters.bounds import BOUNDS

__all__ = ["CacheStats", "Histogram", "SessionStats", "Snapshot", "StoreStats"]


class Histogram(NamedTuple):
    """How many creations took how long. ``counts`` has one number for each of ``bounds`` (seconds, a creation of just
    that length included) and one for those that took longer; ``sum`` is all their seconds."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    sum: float = 0.0
    bounds: tuple[float, ...] = BOUNDS

    @property
    def number(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Their average length in seconds; 0.0 when there was none."""
        return self.sum / self.number if any(self.counts) else 0.0


class CacheStats(NamedTuple):
    """The calls of one namespace in one region; ``region`` is ``""`` for a cache that belongs to none.

    Every call is a hit or a miss. A miss ends as a creation, a wait for that of another call, or a stale value.
    """

    region: str
    namespace: str
    hits: int = 0
    """Calls that found a current value."""
    misses: int = 0
    """Calls that found none: nothing was stored, or it had expired, or the store did not respond."""
    stale: int = 0
    """Calls that returned an expired value, because another call was creating or the creation had failed."""
    creations: int = 0
    """Runs of the function that returned: those of misses, early refreshes and ``refresh()``."""
    seconds: Histogram = Histogram()
    """How long these took."""
    waits: int = 0
    """Calls that waited for the creation of another call."""
    errors: int = 0
    """Creations that raised, or whose value could not be stored."""
    bytes_read: int = 0
    """Bytes of the records that were read; 0 for a memory cache, whose values are not copied."""
    bytes_written: int = 0
    """Bytes of the records that were written; estimated for a memory cache."""
    near_hits: int = 0
    """Values that the near tier had (``near``), most of which are hits."""
    memo_hits: int = 0
    """Values that the request had read before (``memo``), most of which are hits."""

    @property
    def calls(self) -> int:
        """Hits and misses."""
        return self.hits + self.misses

    @property
    def hit_ratio(self) -> float:
        """The hits' share of the calls, 0.0 to 1.0; 0.0 before the first call."""
        return self.hits / self.calls if self.calls else 0.0


class SessionStats(NamedTuple):
    """The sessions of one type (``memory``, ``cookie``, ``hybrid``, ``ext:redis``, ...)."""

    type: str
    loaded: int = 0
    """Sessions that a request brought and that were found alive."""
    saved: int = 0
    """Writes of a session's values."""
    merged: int = 0
    """Saves that took in what another request had written meanwhile."""
    ended: int = 0
    """Sessions ended by ``delete()``, ``invalidate()`` or ``logout()``."""


class StoreStats(NamedTuple):
    """The operations on one backend, in records: a call for 10 keys is 10 reads.

    For ``ext:google`` they are what Datastore carried out and bills: entities read, written and deleted. A query counts
    as a read of each entity it returned, of one at least; of one where it returns keys only.
    """

    backend: str
    reads: int = 0
    """Records asked for, whether they were there or not."""
    writes: int = 0
    """Records written."""
    deletes: int = 0
    """Records for which a deletion was carried out; a ``clear`` of a namespace that costs one call counts as one."""
    refused: int = 0
    """Conditional writes and deletions that were not carried out because another writer was faster."""
    bytes_read: int = 0
    """Bytes of the records that were read, as the store keeps them."""
    bytes_written: int = 0
    """Bytes of the records that were written, likewise."""
    calls: int = 0
    """Exchanges with a server; 0 for memory, file, dbm and SQLite."""
    seconds: float = 0.0
    """Seconds these took."""
    errors: int = 0
    """Those among them that got no response."""

    @property
    def operations(self) -> int:
        """Reads, writes and deletions."""
        return self.reads + self.writes + self.deletes


class Snapshot(NamedTuple):
    """All counts of this process at one moment, sorted by their names."""

    seconds: float
    """Seconds since counting began: when the process started or forked, or at ``reset()``."""
    caches: tuple[CacheStats, ...] = ()
    sessions: tuple[SessionStats, ...] = ()
    stores: tuple[StoreStats, ...] = ()
    events: Mapping[str, int] = MappingProxyType({})
    """What was unusual, as ``{"name{label}": n}``."""

    def regions(self) -> tuple[CacheStats, ...]:
        """``caches`` added up by region; their ``namespace`` is ``""``."""
        names = sorted({stats.region for stats in self.caches})
        return tuple(total(name, (stats for stats in self.caches if stats.region == name)) for name in names)

    def as_dict(self) -> dict[str, Any]:
        """The same as dicts and lists, for JSON."""
        return {
            "seconds": self.seconds,
            "caches": [_plain(stats) for stats in self.caches],
            "sessions": [_plain(stats) for stats in self.sessions],
            "stores": [_plain(stats) for stats in self.stores],
            "events": dict(self.events),
        }


def total(region: str, parts: Iterable[CacheStats]) -> CacheStats:
    """The sum of ``parts``."""
    whole = CacheStats(region, "")
    for part in parts:
        counts = tuple(map(sum, zip(whole.seconds.counts, part.seconds.counts, strict=True)))
        seconds = Histogram(counts, whole.seconds.sum + part.seconds.sum)
        numbers = {
            name: getattr(whole, name) + getattr(part, name)
            for name in CacheStats._fields
            if name not in ("region", "namespace", "seconds")
        }
        whole = CacheStats(region, "", seconds=seconds, **numbers)
    return whole


def _plain(stats: CacheStats | SessionStats | StoreStats) -> dict[str, Any]:
    return {
        name: {"counts": list(value.counts), "sum": value.sum, "bounds": list(value.bounds)}
        if isinstance(value, Histogram)
        else value
        for name, value in stats._asdict().items()
    }
