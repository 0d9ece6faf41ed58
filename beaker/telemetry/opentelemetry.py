"""The counts as OpenTelemetry metrics, and spans of creations and of exchanges with servers.

::

    from beaker.telemetry.opentelemetry import instrument
    instrument()

uses the providers that the application has set up (``opentelemetry.metrics.set_meter_provider`` and the like), or those
it is given. Metrics are read from the counts when the application's reader exports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from beaker import counters
from beaker.config.extras import how_to_install
from beaker.counters import on_call, on_creation
from beaker.exceptions import InvalidCacheBackendError

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
    from opentelemetry.trace import TracerProvider

__all__ = ["instrument"]

_NAME = "beaker"
_CACHE = {
    "hits": ("{call}", "Calls that found a current value"),
    "misses": ("{call}", "Calls that found none"),
    "near_hits": ("{value}", "Values that the near tier had"),
    "memo_hits": ("{value}", "Values that the request had read before"),
    "stale": ("{call}", "Calls that returned an expired value"),
    "waits": ("{call}", "Calls that waited for the creation of another"),
    "creations": ("{creation}", "Runs of functions that returned"),
    "errors": ("{creation}", "Creations that raised, or whose value could not be stored"),
    "bytes_read": ("By", "Bytes of records read"),
    "bytes_written": ("By", "Bytes of records written"),
}
_SESSION = {
    "loaded": ("{session}", "Sessions found alive"),
    "saved": ("{session}", "Writes of a session's values"),
    "merged": ("{session}", "Saves that merged the changes of another request"),
    "ended": ("{session}", "Sessions ended by the application"),
}
_STORE = {
    "reads": ("{record}", "Records asked for"),
    "writes": ("{record}", "Records written"),
    "deletes": ("{record}", "Records deleted"),
    "refused": ("{record}", "Conditional writes and deletions not carried out"),
    "bytes_read": ("By", "Bytes of records read"),
    "bytes_written": ("By", "Bytes of records written"),
    "calls": ("{call}", "Exchanges with a server"),
    "errors": ("{call}", "Exchanges without a response"),
}

Rows = Callable[[], Iterable[tuple[dict[str, str], Any]]]


def instrument(
    *, meter_provider: MeterProvider | None = None, tracer_provider: TracerProvider | None = None
) -> Callable[[], None]:
    """Report to the given providers, or to the global ones; call it once, and after a fork: the durations that
    OpenTelemetry has added up are copied by one. Returns a function that ends spans and durations (OpenTelemetry has no
    way to take the other metrics back).

    Metrics: ``beaker.cache.*`` by region and namespace, ``beaker.session.*`` by type, ``beaker.store.*`` by backend,
    ``beaker.cache.creation.duration`` in seconds. Spans: ``beaker.create`` and ``beaker.store``, children of the
    application's own. InvalidCacheBackendError when ``opentelemetry-api`` is not installed.
    """
    try:
        from opentelemetry import metrics, trace
    except ImportError as err:
        raise InvalidCacheBackendError(
            "beaker.telemetry.opentelemetry needs the package opentelemetry-api",
            option="opentelemetry",
            hint=how_to_install("otel"),
            code="config.missing-package",
        ) from err
    meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
    _observe(meter, "beaker.cache.", _CACHE, _caches)
    _observe(meter, "beaker.session.", _SESSION, _sessions)
    _observe(meter, "beaker.store.", _STORE, _stores)
    duration = meter.create_histogram("beaker.cache.creation.duration", unit="s", description="How long creations took")
    tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)

    def span(name: str, seconds: float, failed: bool, attributes: dict[str, str]) -> None:
        ended = time.time_ns()
        recorded = tracer.start_span(name, start_time=ended - int(seconds * 1e9), attributes=attributes)
        if failed:
            recorded.set_status(trace.StatusCode.ERROR)
        recorded.end(ended)

    def created(region: str, namespace: str, seconds: float, succeeded: bool) -> None:
        attributes = {"beaker.region": region, "beaker.namespace": namespace}
        duration.record(seconds, attributes)
        span("beaker.create", seconds, not succeeded, attributes)

    def called(backend: str, operation: str, seconds: float, failed: bool) -> None:
        span("beaker.store", seconds, failed, {"beaker.backend": backend, "beaker.operation": operation})

    ends = on_creation(created), on_call(called)

    def stop() -> None:
        for end in ends:
            end()

    return stop


def _caches() -> Iterable[tuple[dict[str, str], Any]]:
    return (({"beaker.region": s.region, "beaker.namespace": s.namespace}, s) for s in counters.snapshot().caches)


def _sessions() -> Iterable[tuple[dict[str, str], Any]]:
    return (({"beaker.type": s.type}, s) for s in counters.snapshot().sessions)


def _stores() -> Iterable[tuple[dict[str, str], Any]]:
    return (({"beaker.backend": s.backend}, s) for s in counters.snapshot().stores)


def _observe(meter: Meter, prefix: str, kinds: dict[str, tuple[str, str]], rows: Rows) -> None:
    from opentelemetry.metrics import Observation

    def reading(name: str) -> Callable[[CallbackOptions], Sequence[Observation]]:
        return lambda options: [Observation(getattr(stats, name), labels) for labels, stats in rows()]

    for name, (unit, description) in kinds.items():
        meter.create_observable_counter(prefix + name, [reading(name)], unit=unit, description=description)
