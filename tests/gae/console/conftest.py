"""Counts, regions and open caches of one test, and a cached function that was called twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import cache as caching
from beaker import counters
from beaker.cache import CacheManager
from beaker.operations import checks

calls: list[str] = []


def _weather(city: str) -> int:
    calls.append(city)
    return len(calls)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Counts, regions and open caches of this test only; what every distribution owns takes long to read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checks, "distributions", list)
    monkeypatch.setattr(caching, "cache_regions", {})
    caching.cache_managers.clear()
    # What another test has kept alive holds values, too.
    caching.reset()
    calls.clear()
    counters.reset()
    yield
    counters.reset()


@pytest.fixture
def weather() -> Any:
    """A cached function of the region ``short`` that was called twice."""
    manager = CacheManager(cache_regions={"short": {"type": "memory", "expire": 60}})
    caching.cache_regions.update(manager.regions)
    cached = manager.region("short")(_weather)
    cached("bern-of-visitor-77")
    cached("bern-of-visitor-77")
    return cached
