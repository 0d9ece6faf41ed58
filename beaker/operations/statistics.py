"""Statistics of one or several processes, read from what ``beaker.counters.snapshot().as_dict()`` was written to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from beaker.counters import CacheStats, Histogram, SessionStats, Snapshot, StoreStats
from beaker.counters.bounds import BOUNDS
from beaker.exceptions import ConfigError
from beaker.operations.terminal import Terminal
from beaker.telemetry.prices import Cost

__all__ = ["added", "parse", "show"]

_Row = TypeVar("_Row", CacheStats, SessionStats, StoreStats)


def parse(data: bytes, name: str) -> Snapshot:
    """The snapshot in ``data``. ConfigError, naming ``name``, for anything else."""
    try:
        found = json.loads(data)
        return Snapshot(
            float(found["seconds"]),
            tuple(_row(CacheStats, 2, {**item, "seconds": _histogram(**item["seconds"])}) for item in found["caches"]),
            tuple(_row(SessionStats, 1, item) for item in found["sessions"]),
            tuple(_row(StoreStats, 1, item) for item in found["stores"]),
            {str(event): int(number) for event, number in found["events"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"{name} holds no statistics",
            option=name,
            expected="JSON of beaker.counters.snapshot().as_dict()",
            code="config.no-statistics",
        ) from error


def _row(kind: Callable[..., _Row], names: int, item: Mapping[str, Any]) -> _Row:
    row = kind(**item)
    wrong = [value for value in row[:names] if type(value) is not str]
    wrong += [value for value in row[names:] if type(value) not in (int, float, Histogram)]
    if wrong:
        raise TypeError(type(wrong[0]).__name__)
    return row


def _histogram(counts: list[int], sum: float, bounds: list[float]) -> Histogram:
    if len(counts) != len(BOUNDS) + 1 or tuple(bounds) != BOUNDS or any(type(count) is not int for count in counts):
        raise ValueError("other classes")
    return Histogram(tuple(counts), float(sum))


def added(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The counts of several processes together; ``seconds`` is the average, so that rates stay those of all."""
    taken = list(snapshots)
    events: Counter[str] = Counter()
    for one in taken:
        events.update(one.events)
    return Snapshot(
        sum(one.seconds for one in taken) / len(taken),
        _summed((stats for one in taken for stats in one.caches), 2),
        _summed((stats for one in taken for stats in one.sessions), 1),
        _summed((stats for one in taken for stats in one.stores), 1),
        dict(events),
    )


def _summed(rows: Iterable[Any], names: int) -> tuple[Any, ...]:
    sums: dict[Any, Any] = {}
    for row in rows:
        place = tuple(row[:names])
        sums[place] = row if place not in sums else type(row)(*place, *map(_plus, sums[place][names:], row[names:]))
    return tuple(sums[place] for place in sorted(sums))


def _plus(left: Any, right: Any) -> Any:
    if isinstance(left, Histogram):
        return Histogram(tuple(map(sum, zip(left.counts, right.counts, strict=True))), left.sum + right.sum)
    return left + right


def show(taken: Snapshot, costs: Mapping[str, Cost], out: Terminal) -> None:
    """Show tables for people."""
    out.title(f"Counted over {taken.seconds:,.0f} s")
    out.title("Caches")
    heads = ("region", "calls", "hits", "stale", "waits", "errors", "creations", "mean", "namespace")
    rows = [
        (
            stats.region or "-",
            f"{stats.calls:,}",
            f"{stats.hit_ratio:.1%}",
            f"{stats.stale:,}",
            f"{stats.waits:,}",
            f"{stats.errors:,}",
            f"{stats.creations:,}",
            f"{stats.seconds.mean * 1000:.1f} ms",
            stats.namespace,
        )
        for stats in taken.caches
    ]
    out.table(rows, heads=heads, right=frozenset(range(1, 8)))
    out.title("Sessions")
    sessions = [(stats.type, *(f"{number:,}" for number in stats[1:])) for stats in taken.sessions]
    out.table(sessions, heads=SessionStats._fields, right=frozenset(range(1, 5)))
    out.title("Stores")
    fields = ("backend", "reads", "writes", "deletes", "refused", "calls", "errors")
    stores = [(s.backend, *(f"{getattr(s, name):,.0f}" for name in fields[1:])) for s in taken.stores]
    out.table(stores, heads=fields, right=frozenset(range(1, 7)))
    if costs:
        out.title("Money a day")
        money = [(name, *(f"{part:,.4f}" for part in (*cost, cost.total))) for name, cost in sorted(costs.items())]
        out.table(money, heads=("backend", *Cost._fields, "total"), right=frozenset(range(1, 6)))
    out.title("Events")
    out.table([(name, f"{number:,}") for name, number in sorted(taken.events.items())])
