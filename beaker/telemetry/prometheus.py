"""The counts as metrics of ``prometheus_client``.

::

    from beaker.telemetry.prometheus import register
    register()

Then the application's own ``/metrics`` has them. Each process reports its own counts; with several processes behind one
address scrape each of them: ``prometheus_client``'s multiprocess mode has no collectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from beaker import counters
from beaker.config.extras import how_to_install
from beaker.counters import Histogram
from beaker.exceptions import InvalidCacheBackendError

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import CollectorRegistry

__all__ = ["Collector", "register"]

_CACHE = (
    ("hits", "Calls that found a current value"),
    ("misses", "Calls that found none"),
    ("near_hits", "Values that the near tier had"),
    ("memo_hits", "Values that the request had read before"),
    ("stale", "Calls that returned an expired value"),
    ("waits", "Calls that waited for the creation of another"),
    ("errors", "Creations that raised, or whose value could not be stored"),
    ("bytes_read", "Bytes of records read"),
    ("bytes_written", "Bytes of records written"),
)
_SESSION = (
    ("loaded", "Sessions found alive"),
    ("saved", "Writes of a session's values"),
    ("merged", "Saves that merged the changes of another request"),
    ("ended", "Sessions ended by the application"),
)
_STORE = (
    ("reads", "Records asked for"),
    ("writes", "Records written"),
    ("deletes", "Records deleted"),
    ("refused", "Conditional writes and deletions not carried out"),
    ("bytes_read", "Bytes of records read"),
    ("bytes_written", "Bytes of records written"),
    ("calls", "Exchanges with a server"),
    ("seconds", "Seconds of exchanges with a server"),
    ("errors", "Exchanges without a response"),
)


class Collector:
    """What a registry of ``prometheus_client`` asks for the metrics at each scrape.

    InvalidCacheBackendError when ``prometheus_client`` is not installed.
    """

    def __init__(self) -> None:
        try:
            from prometheus_client import core
        except ImportError as err:
            raise InvalidCacheBackendError(
                "beaker.telemetry.prometheus needs the package prometheus_client",
                option="prometheus",
                hint=how_to_install("prometheus"),
                code="config.missing-package",
            ) from err
        self._core = core

    def collect(self) -> Iterator[Metric]:
        """One metric for each kind of count."""
        taken = counters.snapshot()
        caches = [((stats.region, stats.namespace), stats) for stats in taken.caches]
        yield from self._counters("beaker_cache_", _CACHE, ("region", "namespace"), caches)
        yield self._creations(caches)
        sessions = [((stats.type,), stats) for stats in taken.sessions]
        yield from self._counters("beaker_sessions_", _SESSION, ("type",), sessions)
        stores = [((stats.backend,), stats) for stats in taken.stores]
        yield from self._counters("beaker_store_", _STORE, ("backend",), stores)
        events = self._core.CounterMetricFamily(
            "beaker_events", "What went unusual; docs/operations.md has a table", labels=("event", "label")
        )
        for name, number in taken.events.items():
            event, _, label = name.partition("{")
            events.add_metric((event, label.removesuffix("}")), number)
        yield events

    def _counters(
        self, prefix: str, kinds: Sequence[tuple[str, str]], labels: Sequence[str], rows: Sequence[tuple[Any, Any]]
    ) -> Iterator[Metric]:
        for name, text in kinds:
            family = self._core.CounterMetricFamily(prefix + name, text, labels=labels)
            for values, stats in rows:
                family.add_metric(values, getattr(stats, name))
            yield family

    def _creations(self, caches: Sequence[tuple[Any, Any]]) -> Metric:
        family = self._core.HistogramMetricFamily(
            "beaker_cache_creation_seconds", "How long creations took", labels=("region", "namespace")
        )
        for values, stats in caches:
            family.add_metric(values, _buckets(stats.seconds), stats.seconds.sum)
        return family


def _buckets(seconds: Histogram) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, number in zip((*map(str, seconds.bounds), "+Inf"), seconds.counts, strict=True):
        total += number
        buckets.append((bound, total))
    return buckets


def register(registry: CollectorRegistry | None = None) -> Collector:
    """Add the metrics to ``registry``, by default ``prometheus_client.REGISTRY``; returns what was registered.

    InvalidCacheBackendError when ``prometheus_client`` is not installed, ValueError when they are there already.
    """
    collector = Collector()
    if registry is None:
        registry = collector._core.REGISTRY
    registry.register(collector)
    return collector
