"""Cached functions that fail, that are renewed, and that many threads call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from beaker.cache import CacheManager, cache_region, cache_regions
from beaker.caching.entry import Entry
from beaker.container import MemoryNamespaceManager
from beaker.testing.clock import FakeClock


@pytest.fixture(autouse=True)
def _regions() -> Iterator[None]:
    cache_regions.clear()
    yield
    cache_regions.clear()


@pytest.fixture
def clock(fake_clock: FakeClock) -> FakeClock:
    cache_regions["short"] = {"expire": 60, "clock": fake_clock}
    return fake_clock


@pytest.fixture
def calls() -> list[Any]:
    return []


def test_refresh(clock: FakeClock, calls: list[Any]) -> None:
    """refresh runs the function now; when that fails the old result stays."""

    @cache_region("short")
    def f(x: int) -> int:
        calls.append(x)
        if len(calls) == 3:
            raise OSError("down")
        return len(calls)

    assert f(1) == 1
    assert f.refresh(x=1) == 2
    assert f(1) == 2
    with pytest.raises(OSError, match="down"):
        f.refresh(1)
    assert f(1) == 2


def test_operations_of_a_call(clock: FakeClock, calls: list[Any]) -> None:
    """A hit reads once; a miss reads twice, the second time under the lock, and writes once."""

    @cache_region("short")
    def f() -> int:
        return 1

    class Counting(MemoryNamespaceManager):
        def read(self, key: str) -> Entry | None:
            calls.append("read")
            return super().read(key)

        def write(self, key: str, entry: Entry) -> None:
            calls.append("write")
            super().write(key, entry)

    cache_regions["short"] = {**cache_regions["short"], "namespace_class": Counting}
    f()
    assert calls == ["read", "read", "write"]
    calls.clear()
    f()
    assert calls == ["read"]


def test_failing_function(clock: FakeClock, calls: list[Any]) -> None:
    """An exception reaches the caller and nothing is kept; with stale_if_error the old result is served."""
    cache_regions["patient"] = {"expire": 10, "stale_if_error": 100, "clock": clock}

    def make(region: str) -> Any:
        @cache_region(region, region)
        def f() -> int:
            calls.append(1)
            if len(calls) > 1:
                raise OSError("down")
            return len(calls)

        return f

    f = make("patient")
    assert f() == 1
    clock.advance(10)
    assert f() == 1
    assert len(calls) == 2
    clock.advance(100)
    with pytest.raises(OSError, match="down"):
        f()
    with pytest.raises(OSError, match="down"):
        make("short")()


def test_jitter_and_early_refresh(clock: FakeClock, calls: list[Any]) -> None:
    """jitter shortens a result's life by at most its fraction; early refresh renews before the end."""
    cache_regions["spread"] = {"expire": 100, "jitter": 0.5, "clock": clock, "max_entries": 500}

    @cache_region("spread")
    def f(x: int) -> int:
        return x

    for x in range(50):
        f(x)
    manager = CacheManager(clock=clock, max_entries=500).get_cache(f.namespace).namespace
    lives = [entry.expiretime for entry in manager.read_many(manager.keys()).values()]
    assert all(life is not None and 50 <= life <= 100 for life in lives)
    assert len(set(lives)) > 10

    cache_regions["early"] = {"expire": 100, "early_refresh": 1000.0, "clock": clock}

    @cache_region("early")
    def dear() -> int:
        calls.append(1)
        clock.advance(1)
        return len(calls)

    results = [dear() for _ in range(20)]
    assert max(results) > 1


def test_threads_run_a_cold_function_once(clock: FakeClock, calls: list[Any]) -> None:
    """Eight threads that call a cold function at once get the result of one run."""
    barrier = threading.Barrier(8)
    results: list[int] = []

    @cache_region("short")
    def f() -> int:
        calls.append(1)
        threading.Event().wait(0.02)
        return len(calls)

    def work() -> None:
        barrier.wait(30)
        results.append(f())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [1] * 8
