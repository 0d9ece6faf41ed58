"""What a cached function's results must be: usable again, and of a size the store takes."""

from __future__ import annotations

import asyncio
import functools
import io
import os
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.cache import Cache, CacheManager, cache_region, cache_regions
from beaker.exceptions import BeakerWarning, UnserializableValue, ValueTooLarge
from beaker.testing.clock import FakeClock


async def coroutine() -> int:
    return 1


async def asynchronous() -> AsyncIterator[int]:
    yield 1


USED_ONCE: dict[str, Any] = {
    "generator": lambda: (n for n in (1, 2)),
    "map": lambda: map(str, (1, 2)),
    "filter": lambda: filter(None, (1, 2)),
    "zip": lambda: zip((1,), (2,), strict=True),
    "iterator": lambda: iter([1, 2]),
    "enumerate": lambda: enumerate("ab"),
    "file": lambda: io.StringIO("text"),
    "coroutine": coroutine,
    "asynchronous generator": asynchronous,
}


@pytest.fixture(params=["memory", "file"])
def cache(request: pytest.FixtureRequest, tmp_path: Path, fake_clock: FakeClock) -> Cache:
    manager = CacheManager(type=request.param, data_dir=str(tmp_path), clock=fake_clock)
    return manager.get_cache(request.node.name, expire=60)


@pytest.mark.parametrize("kind", USED_ONCE)
def test_what_can_be_used_once_is_refused(cache: Cache, kind: str) -> None:
    """A generator, an iterator, an open file and a coroutine are refused by every operation, and nothing is kept."""
    make = USED_ONCE[kind]

    def put(value: Any) -> None:
        try:
            cache.put("k", value)
        finally:
            if hasattr(value, "close"):
                value.close()

    def put_many(value: Any) -> None:
        try:
            cache.put_many({"a": 1, "k": value})
        finally:
            if hasattr(value, "close"):
                value.close()

    ways: list[Any] = [
        lambda: put(make()),
        lambda: put_many(make()),
        lambda: cache.get("k", createfunc=make),
        lambda: cache.namespace.__setitem__("k", iter([1])),
    ]
    for way in ways:
        with pytest.raises(UnserializableValue, match=r"reader|once") as caught:
            way()
        assert "keep" in str(caught.value)
    assert not cache.has_key("k")
    assert not cache.has_key("a")


def test_results_that_can_be_used_once(fake_clock: FakeClock) -> None:
    """A decorated function whose result can be used once is named; a sync wrapper does not hide a coroutine."""
    cache_regions["short"] = {"expire": 60, "clock": fake_clock}

    @functools.wraps(coroutine)
    def wrapper() -> Awaitable[int]:
        return coroutine()

    @cache_region("short")
    def rows() -> Iterator[int]:
        return iter([1, 2])

    @cache_region("short")
    def total() -> int:
        return asyncio.run(coroutine())

    for function in (cache_region("short")(wrapper), rows):
        for call in (function, function.refresh):
            with pytest.raises(UnserializableValue, match=f"the result of {function.__qualname__}"):
                call()
    assert total() == 1
    with pytest.raises(UnserializableValue):
        rows.set(iter([]))


def test_what_can_be_read_again_is_kept(cache: Cache) -> None:
    """Ranges, lists, texts and dicts can be read again, and are kept."""
    for value in (range(3), [1], "text", {1: 2}):
        cache.put("k", value)
        assert cache.get("k") == value


def test_a_mock_is_no_iterator() -> None:
    """An object that has every method, as in an application's tests, can be kept in memory."""
    from unittest.mock import MagicMock

    mock = MagicMock()
    cache = CacheManager().get_cache("mocks")
    cache.put("k", mock)
    assert cache.get("k") is mock


STORES: dict[str, dict[str, Any]] = {
    "memory": {"max_bytes": 2000},
    "file": {"max_value": 2000},
}


@pytest.mark.parametrize("kind", STORES)
def test_a_result_over_the_limit(kind: str, tmp_path: Path, fake_clock: FakeClock) -> None:
    """A result too large for its store is returned each time, counted each time, warned of once; put() raises."""
    options = {"type": kind, "data_dir": str(tmp_path), "clock": fake_clock, **STORES[kind]}
    manager = CacheManager(**options)
    large = [os.urandom(10_000)]
    calls: list[str] = []

    @manager.cache(expire=60)
    def load(size: str) -> list[Any]:
        calls.append(size)
        return large if size == "large" else [size]

    before = counters.snapshot().events.get(f"cache_too_large{{{kind}}}", 0)
    with pytest.warns(BeakerWarning, match="over the limit of 2000") as caught:
        assert load("large") == large
    assert caught[0].filename == __file__
    assert load("large") == large
    assert load.refresh("large") == large
    assert counters.snapshot().events[f"cache_too_large{{{kind}}}"] == before + 3
    assert calls == ["large"] * 3
    assert load("small") == load("small") == ["small"]
    assert calls[3:] == ["small"]
    cache = manager.get_cache("direct")
    with pytest.raises(ValueTooLarge):
        cache.put("k", large)
    with pytest.warns(BeakerWarning, match="direct"):
        assert cache.get("k", createfunc=lambda: large) == large


@pytest.mark.parametrize("kind", STORES)
def test_a_refreshed_result_over_the_limit_leaves_no_old_one(kind: str, tmp_path: Path, fake_clock: FakeClock) -> None:
    """A new result that cannot be kept ends the old one too: it would be served as if nothing had changed."""
    manager = CacheManager(type=kind, data_dir=str(tmp_path), clock=fake_clock, **STORES[kind])
    large = os.urandom(10_000)
    results: list[Any] = ["small", large, "small again"]

    @manager.cache(expire=60)
    def load() -> Any:
        return results.pop(0)

    assert load() == "small"
    with pytest.warns(BeakerWarning, match="over the limit"):
        assert load.refresh() == large
    assert load() == "small again"
