"""The counts in the forms of monitoring systems, read back by the systems' own libraries."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from beaker import counters
from beaker.asgi import SessionMiddleware as AsgiMiddleware
from beaker.cache import CacheManager, cache_region
from beaker.exceptions import ConfigError
from beaker.middleware import SessionMiddleware
from beaker.telemetry.prices import cost_a_day, price_table
from beaker.telemetry.server_timing import header
from beaker.testing import Browser

SECRET = "a-key-of-this-test-5d0e7c41b9a2f86e3"
VISITOR = "visitor-4711"


@pytest.fixture(autouse=True)
def fresh() -> None:
    counters.reset()


@pytest.fixture
def used(redis_server: Any) -> Iterator[Any]:
    """Some calls in a region on a real server: two misses, a hit, an error; a session; returns the function."""
    manager = CacheManager(cache_regions={"short": {"type": "ext:redis", "url": redis_server.url, "prefix": "bridges"}})

    @manager.region("short", "bridges")
    def compute(who: str) -> str:
        if who == "bad":
            raise ValueError
        return f"of {who}"

    compute.invalidate_all()
    counters.reset()
    compute(VISITOR)
    compute(VISITOR)
    compute("another")
    with pytest.raises(ValueError):
        compute("bad")
    yield compute
    for cache in manager._memo.values():
        cache.namespace.store.close()  # type: ignore[attr-defined]


def test_a_scrape_by_prometheus_is_parsed(used: Any) -> None:
    """prometheus_client serves the counts over HTTP; its parser reads the same numbers out of the text."""
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.parser import text_string_to_metric_families

    from beaker.telemetry.prometheus import register

    counters.count("bad_token", "kid")
    registry = CollectorRegistry(auto_describe=True)
    register(registry)
    with pytest.raises(ValueError):
        register(registry)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10) as response:
            text = response.read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(name: str, **labels: str) -> float:
        (found,) = (sample.value for sample in samples if sample.name == name and sample.labels == labels)
        return found

    stats, place = used.stats(), {"region": "short", "namespace": used.namespace}
    assert value("beaker_cache_hits_total", **place) == stats.hits == 1
    assert value("beaker_cache_misses_total", **place) == stats.misses == 3
    assert value("beaker_cache_errors_total", **place) == 1
    assert value("beaker_cache_creation_seconds_count", **place) == stats.creations == 2
    assert value("beaker_cache_creation_seconds_sum", **place) == pytest.approx(stats.seconds.sum)
    assert value("beaker_cache_creation_seconds_bucket", **place, le="+Inf") == 2
    (redis,) = counters.snapshot().stores
    assert value("beaker_store_reads_total", backend="redis") == redis.reads > 0
    assert value("beaker_store_seconds_total", backend="redis") == pytest.approx(redis.seconds)
    assert value("beaker_events_total", event="bad_token", label="kid") == 1
    assert VISITOR not in text


def test_opentelemetry_reads_metrics_and_spans(used: Any) -> None:
    """The SDK's in-memory reader has the counts, its in-memory exporter a span of each creation, in the caller's."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from beaker.telemetry.opentelemetry import instrument

    reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
    meters, tracers = MeterProvider([reader]), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    stop = instrument(meter_provider=meters, tracer_provider=tracers)
    try:
        with tracers.get_tracer("test").start_as_current_span("request") as request:
            used("third")
            with pytest.raises(ValueError):
                used("bad")
        data: Any = reader.get_metrics_data()
    finally:
        stop()
    used("fourth")
    metrics = {m.name: m.data.data_points for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    labels = {"beaker.region": "short", "beaker.namespace": used.namespace}
    (misses,) = metrics["beaker.cache.misses"]
    assert (misses.value, dict(misses.attributes)) == (5, labels)
    (duration,) = metrics["beaker.cache.creation.duration"]
    assert duration.count == 2
    (reads,) = metrics["beaker.store.reads"]
    assert dict(reads.attributes) == {"beaker.backend": "redis"}
    spans = exporter.get_finished_spans()
    created = [span for span in spans if span.name == "beaker.create"]
    assert [dict(span.attributes or {}) for span in created] == [labels, labels]
    assert [span.status.is_ok for span in created] == [True, False]
    called = [span for span in spans if span.name == "beaker.store"]
    assert called
    for span in (*created, *called):
        assert span.parent is not None
        assert span.parent.span_id == request.get_span_context().span_id
        assert request.start_time <= span.start_time <= span.end_time  # type: ignore[attr-defined, operator]
    assert VISITOR not in "".join(span.to_json() for span in spans) + data.to_json()
    meters.shutdown()
    tracers.shutdown()


def page(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
    session = environ["beaker.session"]
    if environ["PATH_INFO"] == "/save":
        session["who"] = VISITOR
        session.save()
        greeting(VISITOR)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Server-Timing", "app;dur=1")])
    return [b"done"]


@cache_region("timed")
def greeting(who: str) -> str:
    return f"hello {who}"


@pytest.fixture
def timed() -> dict[str, Any]:
    CacheManager(cache_regions={"timed": {"type": "memory"}})
    greeting.invalidate_all()
    return {"type": "memory", "secret": SECRET, "server_timing": True}


def test_a_wsgi_response_says_what_it_cost(timed: dict[str, Any]) -> None:
    """A Server-Timing header beside the application's own, the session's save included; none for nothing."""
    browser = Browser(SessionMiddleware(page, **timed))
    ours = timings(browser.get("/save").headers)
    assert ours["beaker-create"].startswith("dur=")
    assert ours["beaker-create"].endswith('desc="1 creation"')
    (store,) = counters.snapshot().stores
    assert store.writes >= 1
    assert ours["beaker-memory"] == f'desc="{store.reads} reads, {store.writes} writes"'
    assert timings(browser.get("/save").headers) == {"beaker-memory": 'desc="1 read"'}
    assert timings(browser.get("/").headers) == {}
    plain = Browser(SessionMiddleware(page, **{**timed, "server_timing": False}))
    assert timings(plain.get("/save").headers) == {}


def timings(headers: Any) -> dict[str, str]:
    values = [value for name, value in headers if name.lower() == "server-timing"]
    assert values.pop(0) == "app;dur=1"
    entries = [entry.partition(";") for value in values for entry in value.split(", b")]
    return {"b" + name.removeprefix("b"): rest for name, _, rest in entries}


def test_an_asgi_response_says_what_it_cost(timed: dict[str, Any]) -> None:
    """The same header under ASGI; what runs in a worker thread is in it."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["who"] = VISITOR
        scope["session"].save()
        await asyncio.to_thread(greeting, VISITOR)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "scheme": "http", "path": "/", "headers": []}
    asyncio.run(AsgiMiddleware(app, **timed)(scope, receive, send))
    (value,) = (value.decode() for name, value in sent[0]["headers"] if name == b"server-timing")
    assert 'desc="1 creation"' in value
    (store,) = counters.snapshot().stores
    assert f'beaker-memory;desc="{store.reads} reads, {store.writes} writes"' in value


def test_a_header_holds_a_backend_of_any_name() -> None:
    """What a metric's name may not have in it becomes a hyphen: the header is ASCII."""
    with counters.measured() as spent:
        counters.store_tally("ext:café au lait").read(b"1")
    assert header(spent) == 'beaker-caf--au-lait;desc="1 read"'


def test_requests_at_the_same_time_are_counted_apart(timed: dict[str, Any]) -> None:
    """Each of two threads has the cost of its own request."""
    costs: dict[str, int] = {}

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        for _ in range(3 if environ["PATH_INFO"] == "/three" else 1):
            CacheManager(type="memory").get_cache("apart").get(object, createfunc=lambda: 1, expire=0)
        costs[environ["PATH_INFO"]] = environ["beaker.spent"].misses
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    application = SessionMiddleware(app, **timed)
    threads = [threading.Thread(target=Browser(application).get, args=(path,)) for path in ("/three", "/one")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert costs == {"/three": 3, "/one": 1}


def test_the_request_log_says_what_a_request_cost(caplog: pytest.LogCaptureFixture, timed: dict[str, Any]) -> None:
    """At DEBUG gae.logs.requests writes one line a request, whose fields Cloud Logging shows under ``beaker``."""
    from gae.logs import CloudFormatter, RequestTrace

    application = RequestTrace(SessionMiddleware(page, **{**timed, "server_timing": False}))
    caplog.set_level("INFO", "gae.logs.requests")
    Browser(application).get("/save")
    assert [record for record in caplog.records if record.name == "gae.logs.requests"] == []
    caplog.set_level("DEBUG", "gae.logs.requests")
    greeting.invalidate_all()
    Browser(application).get("/save")
    Browser(application).get("/")
    (record,) = (record for record in caplog.records if record.name == "gae.logs.requests")
    line = json.loads(CloudFormatter().format(record))
    assert line["severity"] == "DEBUG"
    assert line["beaker"]["creations"] == 1
    assert line["beaker"]["stores"]["memory"]["writes"] == 1
    assert VISITOR not in json.dumps(line)
    assert logging.getLogger("gae.logs.requests").level == logging.DEBUG


def test_a_price_list_turns_counts_into_money_a_day() -> None:
    """Operations at so much for 100,000, scaled to a day; storage at so much a GiB and month."""
    tally = counters.store_tally("ext:google")
    tally.read_many(1_000, 0)
    tally.wrote(0, 500)
    tally.deleted(250)
    taken = counters.snapshot()._replace(seconds=8_640.0)
    table = price_table({"ext:google": {"reads": "0.5", "writes": 2, "deletes": 0.25, "storage": 3}, "redis": {}})
    costs = cost_a_day(taken, table, stored={"ext:google": 2.0**30})
    cost = costs["ext:google"]
    assert cost == pytest.approx((0.05, 0.1, 0.00625, 0.1))
    assert cost.total == pytest.approx(0.25625)
    assert costs["redis"].total == 0


@pytest.mark.parametrize(
    "prices", [{"reads": "free"}, {"reads": -1}, {"raeds": 1}, {"per": 0}, {"writes": float("nan")}, {"reads": True}, 5]
)
def test_what_is_no_price_is_refused(prices: Any) -> None:
    """A ConfigError that names the backend and the price."""
    with pytest.raises(ConfigError, match="ext:google"):
        price_table({"ext:google": prices})


def test_what_ended_ends_once() -> None:
    """A listener is taken out by the function that came with it, once; an equal one that was added besides stays."""
    for add in (counters.on_count, counters.on_call, counters.on_creation):
        seen: list[str] = []

        def listener(*told: Any, seen: list[str] = seen) -> None:
            seen.append(told[0])

        first, second = add(listener), add(listener)
        first()
        first()
        counters.count("an event")
        counters.store_tally("here").called("get", 0.0, failed=False)
        counters.cache_tally("here", "n").created(0.0)
        assert len(seen) == 1
        second()
        second()
