"""Calls of caches: every hit, miss, creation, wait and error is counted once, as an oracle says."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.cache import CacheManager
from beaker.counters import CacheStats
from beaker.testing import FakeClock
from beaker.testing.lock import wait_until
from tests.storage.shared import SHARED, session_options

EXPIRE = 60.0
NAMES = ("hits", "misses", "stale", "creations", "errors", "waits")


@pytest.fixture(autouse=True)
def fresh() -> None:
    counters.reset()


@pytest.fixture
def managed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., tuple[CacheManager, FakeClock]]]:
    """Builds a manager with one region on a store, by its name, and closes the store at the end."""
    managers: list[CacheManager] = []

    def build(name: str, **more: Any) -> tuple[CacheManager, FakeClock]:
        clock = FakeClock()
        where = {"type": "memory"} if name == "memory" else session_options(name, request, tmp_path)
        options = {**where, "expire": EXPIRE, "clock": clock, **more}
        managers.append(CacheManager(cache_regions={"short": options}))
        return managers[-1], clock

    yield build
    for manager in managers:
        for cache in manager._memo.values():
            getattr(getattr(cache.namespace, "store", None), "close", lambda: None)()


class Oracle:
    """What the calls of a script must have counted, by a dict and the same clock."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.stored: dict[int, float] = {}
        self.counts = dict.fromkeys(NAMES, 0)

    def call(self, key: int, fails: bool) -> None:
        stored = self.stored.get(key)
        if stored is not None and self.clock() < stored + EXPIRE:
            self.counts["hits"] += 1
            return
        self.counts["misses"] += 1
        if not fails:
            self.counts["creations"] += 1
            self.stored[key] = self.clock()
            return
        self.counts["errors"] += 1
        # The option stale_if_error covers the same time once more.
        self.counts["stale"] += stored is not None and self.clock() < stored + 2 * EXPIRE


@pytest.mark.parametrize("name", ["memory", *SHARED])
def test_a_scripted_run_counts_what_the_oracle_says(
    name: str, managed: Callable[..., tuple[CacheManager, FakeClock]]
) -> None:
    """Hits, misses, stale values, creations and errors of a random script, on every store."""
    manager, clock = managed(name, stale_if_error=EXPIRE)
    oracle, rng, failing = Oracle(clock), random.Random(7), [False]

    @manager.region("short", name)
    def compute(key: int) -> str:
        if failing[0]:
            raise ValueError
        return f"value of {key}"

    for _ in range(150 if name in ("memory", "file") else 60):
        key, step = rng.randrange(5), rng.random()
        if step < 0.75:
            failing[0] = rng.random() < 0.3
            oracle.call(key, failing[0])
            try:
                compute(key)
            except ValueError:
                assert failing[0]
        elif step < 0.85:
            compute.invalidate(key)
            oracle.stored.pop(key, None)
        elif step < 0.9:
            failing[0] = False
            compute.refresh(key)
            oracle.counts["creations"] += 1
            oracle.stored[key] = clock()
        else:
            clock.advance(rng.choice([10.0, 30.0, 65.0]))
    stats = compute.stats()
    assert {name: getattr(stats, name) for name in NAMES} == oracle.counts
    assert all(oracle.counts[name] for name in NAMES if name != "waits")
    assert stats.seconds.number == stats.creations
    assert stats.bytes_written > 0
    assert (stats.bytes_read > 0) == (name != "memory")


@pytest.mark.parametrize("name", ["memory", "file", "redis", "google"])
def test_callers_that_wait_are_counted(name: str, managed: Callable[..., tuple[CacheManager, FakeClock]]) -> None:
    """Of four calls at once one creates and three wait; all four are misses."""
    manager, _ = managed(name)
    inside, go = threading.Event(), threading.Event()

    @manager.region("short", name)
    def compute() -> int:
        inside.set()
        assert go.wait(30)
        return 1

    threads = [threading.Thread(target=compute) for _ in range(4)]
    threads[0].start()
    assert inside.wait(30)
    for thread in threads[1:]:
        thread.start()
    wait_until(lambda: compute.stats().waits == 3)
    go.set()
    for thread in threads:
        thread.join(30)
    stats = compute.stats()
    assert (stats.misses, stats.creations, stats.waits, stats.hits) == (4, 1, 3, 0)


@pytest.mark.parametrize("debug", [False, True])
def test_no_hit_of_any_thread_is_lost(debug: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Eight threads count 8,000 hits as 8,000, with the log of calls and without."""
    caplog.set_level("INFO", "beaker.counters")
    manager = CacheManager(cache_regions={"short": {"type": "memory"}})

    @manager.region("short", "threads")
    def compute() -> int:
        return 1

    compute()
    counters.reset()
    caplog.set_level("DEBUG" if debug else "INFO", "beaker.counters")
    threads = [threading.Thread(target=lambda: [compute() for _ in range(1_000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert compute.stats().hits == 8_000
    logged = [record for record in caplog.records if record.getMessage().startswith("hit:")]
    assert len(logged) == (8_000 if debug else 0)


def test_a_level_that_changes_in_the_middle_of_a_hit_loses_none(caplog: pytest.LogCaptureFixture) -> None:
    """Whenever another thread ends the log of calls, the hits counted before stay."""
    tally = counters.cache_tally("short", "levels")
    tally.hits += 5
    caplog.set_level("DEBUG", "beaker.counters")

    def end_log(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            sys.setprofile(None)
            caplog.set_level("INFO", "beaker.counters")

    sys.setprofile(end_log)
    try:
        tally.hits += 1
    finally:
        sys.setprofile(None)
    assert tally.stats().hits == 6


def test_every_way_of_asking_is_counted() -> None:
    """get, get with createfunc, get_many and a function's get count, one call per key; looking for a key does not."""
    manager = CacheManager(cache_regions={"short": {"type": "memory"}})
    cache = manager.get_cache_region("asked", "short")
    with pytest.raises(KeyError):
        cache.get("a")
    cache.put("a", 1)
    assert cache.get("a") == cache["a"] == 1
    assert cache.get_many(["a", "b"]) == {"a": 1}
    assert cache.get("b", createfunc=lambda: 2) == cache.get("b", createfunc=lambda: 3) == 2
    assert "a" in cache
    assert (cache.stats().hits, cache.stats().misses, cache.stats().creations) == (4, 3, 1)
    assert cache.stats().region == "short"


def test_equal_regions_are_counted_apart() -> None:
    """Two regions of equal options share their values, and each has the counts of its own calls."""
    manager = CacheManager(cache_regions={"one": {"type": "memory"}, "two": {"type": "memory"}})
    one, two = (manager.get_cache_region("shared", region) for region in ("one", "two"))
    one.put("a", 1)
    assert two["a"] == two["a"] == one["a"]
    assert (one.stats().hits, two.stats().hits) == (1, 2)
    regions = {stats.region: stats.hits for stats in counters.snapshot().regions()}
    assert regions == {"one": 1, "two": 2}


def test_calls_without_their_store_are_misses() -> None:
    """A value that is created because the store does not respond is a miss and a creation."""
    from tests.servers import free_port

    options = {"type": "ext:redis", "url": f"redis://localhost:{free_port()}"}
    manager = CacheManager(cache_regions={"short": options})

    @manager.region("short", "outage")
    def compute() -> int:
        return 1

    assert compute() == 1
    assert manager.get_cache_region("outage", "short").get("k", createfunc=lambda: 2) == 2
    for stats in (compute.stats(), manager.get_cache_region("outage", "short").stats()):
        assert (stats.hits, stats.misses, stats.creations) == (0, 1, 1)


def test_the_log_of_calls_names_no_key_and_no_value(caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG each call says hit, miss, creation or failure; switching it on and off takes effect at once."""
    manager = CacheManager(cache_regions={"short": {"type": "memory"}})

    @manager.region("short", "logged")
    def compute(who: str) -> str:
        if who == "nobody-7":
            raise ValueError(who)
        return f"secret-of-{who}"

    caplog.set_level("INFO", "beaker.counters")
    compute("visitor-7")
    assert not caplog.records
    caplog.set_level("DEBUG", "beaker.counters")
    compute("visitor-7")
    compute("visitor-8")
    with pytest.raises(ValueError, match="nobody"):
        compute("nobody-7")
    said = [record.getMessage().partition(":")[0].partition(",")[0] for record in caplog.records]
    assert said == ["hit", "miss", "creation", "miss", "creation failed"]
    assert not [word for word in ("visitor", "nobody", "secret") if word in caplog.text]
    assert "region 'short'" in caplog.text
    caplog.set_level("INFO", "beaker.counters")
    compute("visitor-7")
    assert len(caplog.records) == 5
    assert compute.stats().hits == 2


def test_names_without_end_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first 1,000 namespaces further ones are counted together."""
    from beaker.counters import registry

    monkeypatch.setattr(registry, "_caches", {})
    tallies = [counters.cache_tally("", f"n{number}") for number in range(1_005)]
    assert len(registry._caches) == 1_001
    assert {tally.namespace for tally in tallies[1_000:]} == {registry.OTHERS}


def test_a_snapshot_cannot_be_changed_and_has_one_shape() -> None:
    """It has the documented fields, is immutable, does not follow later counts, and goes into JSON."""
    import json

    manager = CacheManager(cache_regions={"short": {"type": "memory"}})
    cache = manager.get_cache_region("shape", "short")
    cache.get("a", createfunc=lambda: 1)
    counters.count("bad_token", "kid")
    taken = counters.snapshot()
    cache.get("a")
    assert taken._fields == ("seconds", "caches", "sessions", "stores", "events")
    (stats,) = taken.caches
    assert isinstance(stats, CacheStats)
    assert (stats.hits, stats.calls, stats.hit_ratio) == (0, 1, 0.0)
    assert taken.events == {"bad_token{kid}": 1}
    with pytest.raises(TypeError):
        taken.events["bad_token{kid}"] = 2  # type: ignore[index]
    with pytest.raises(AttributeError):
        stats.hits = 5  # type: ignore[misc]
    assert json.loads(json.dumps(taken.as_dict()))["caches"][0]["misses"] == 1


def test_opening_a_cache_again_keeps_its_counts() -> None:
    """Counts belong to the region and the namespace, whichever manager, cache or function adds to them."""
    options = {"cache_regions": {"short": {"type": "memory"}}}
    first, second = (CacheManager(**options).get_cache_region("again", "short") for _ in range(2))
    first.put("a", 1)
    assert first["a"] == second["a"]
    assert first.stats() == second.stats()
    assert first.stats().hits == 2
