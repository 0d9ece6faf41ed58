"""Creators that hang: another takes over after a while, and an old value is served only so long."""

from __future__ import annotations

import threading
import uuid
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.cache import Cache, CacheManager, cache_region, cache_regions
from beaker.caching.freshness import Patience
from beaker.caching.stored_marks import Lease
from beaker.caching.value import Value
from beaker.locking.factories import NullLock
from beaker.storage.memory import MemoryStore
from beaker.testing import FakeClock
from beaker.testing.lock import PATIENCE, wait_until
from tests.caching.test_voiding import Creation, FourManager, creation
from tests.managers import DictManager

KINDS: dict[str, dict[str, Any]] = {
    "memory": {"type": "memory"},
    "memory, none": {"type": "memory", "lock": "none"},
    "file, file": {"type": "file", "lock": "file"},
    "file, thread": {"type": "file", "lock": "thread"},
    "file, lease": {"type": "file", "lock": "lease"},
    "dict": {"type": DictManager},
    "four": {"type": FourManager},
}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=list(KINDS))
def cache(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Cache:
    """A cache on each kind of store and lock, whose values expire after 10 seconds; it holds an expired one."""
    options = {"data_dir": str(tmp_path), "lock_dir": str(tmp_path / "locks"), "clock": clock, "expire": 10}
    cache = Cache(f"hung-{uuid.uuid4().hex}", **{**options, **KINDS[request.param]})
    cache.put("k", "old")
    clock.advance(11.0)
    return cache


def test_another_takes_over(cache: Cache, clock: FakeClock) -> None:
    """A creator that hangs is replaced after lock_timeout; until then the old value is served, and what the hung one
    creates in the end does not replace what is newer."""
    hung = creation(cache)
    excluded = not isinstance(cache.namespace.get_creation_lock("k"), NullLock)
    if excluded:
        assert cache.get("k", createfunc=lambda: "too soon") == "old"
        clock.advance(29.0)
        assert cache.get("k", createfunc=lambda: "too soon") == "old"
        clock.advance(1.0)
    assert cache.get("k", createfunc=lambda: "new") == "new"
    assert cache.get("k") == "new"
    assert hung.end() == "created"
    assert cache.get("k") == "new"


def test_one_takes_over_at_a_time(tmp_path: Path, clock: FakeClock) -> None:
    """While the one that took over creates, every caller gets the old value; one that hangs is replaced in its turn."""
    cache = Cache("turns", type="memory", clock=clock, expire=10)
    cache.put("k", "old")
    clock.advance(11.0)
    hung = [creation(cache)]
    for _ in range(3):
        assert cache.get("k", createfunc=lambda: "too soon") == "old"
        clock.advance(30.0)
        hung.append(creation(cache))
        assert cache.get("k", createfunc=lambda: "too soon") == "old"
    for paused in hung:
        assert paused.end() == "created"


def test_patience() -> None:
    """It ends once for each limit, at least a second, of one value; never without a limit; its memory is bounded."""
    clock = FakeClock()
    patience = Patience(clock)
    assert not patience.ended("k", 1.0, 30.0)
    clock.advance(30.0)
    assert not patience.ended("k", 2.0, 30.0)
    clock.advance(30.0)
    assert [patience.ended("k", 2.0, 30.0) for _ in range(2)] == [True, False]
    clock.advance(0.5)
    assert not patience.ended("k", 2.0, 0.0)
    clock.advance(0.5)
    assert patience.ended("k", 2.0, 0.0)
    clock.advance(1e9)
    assert not patience.ended("k", 2.0, None)
    for number in range(5_000):
        patience.ended(str(number), 1.0, 30.0)
    assert len(patience._since) <= 1_000


def test_a_hung_creator_elsewhere(tmp_path: Path, clock: FakeClock) -> None:
    """Another host's lease ends lock_timeout after its creation began, although that host lives and would renew it;
    and a host whose clock is ahead does not hold a key for longer than lock_timeout."""
    for ahead in (0.0, 7_200.0):
        name = f"elsewhere-{uuid.uuid4().hex}"
        options: dict[str, Any] = {"type": "file", "data_dir": str(tmp_path), "lock": "lease", "expire": 10}
        here, there = (Cache(name, **options, clock=where) for where in (clock, FakeClock(clock() + ahead)))
        there.namespace._locks = here.namespace._locks.__class__()  # type: ignore[attr-defined]
        Value("k", here.namespace, None, 10.0).set_value("old", storedtime=clock() - 20.0)
        hung = creation(there)
        if not ahead:
            assert here.get("k", createfunc=lambda: "too soon") == "old"
        clock.advance(31.0)
        assert here.get("k", createfunc=lambda: "new") == "new"
        hung.end()
        assert here.get("k") == "new"


class Renewed(MemoryStore):
    """Notes the ends of the leases that are written."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.written = threading.Event()
        self.writes = 0

    def replace(self, namespace: str, key: str, data: bytes, version: Any, *, ttl: float | None) -> Any:
        done = super().replace(namespace, key, data, version, ttl=ttl)
        self.writes += 1
        self.written.set()
        return done


def test_renewal_has_an_end(clock: FakeClock) -> None:
    """A lease is prolonged while its creator works, but not past its limit; the thread ends then."""
    from beaker.caching.store_manager import StoreNamespaceManager

    store = Renewed(clock)
    manager = StoreNamespaceManager("n", store, lock="lease", clock=clock)
    marks = manager._stored_marks
    assert marks is not None
    for limit, renewed in ((0.01, False), (None, True)):
        marks.lease = Lease(0.03, limit, True)
        store.written.clear()
        before = set(threading.enumerate())
        paused = Creation(lambda create: Value("k", manager).get_or_create(create))
        keepers = [thread for thread in set(threading.enumerate()) - before if thread.name == "beaker-lease"]
        if renewed:
            assert store.written.wait(PATIENCE)
            assert [thread.is_alive() for thread in keepers] == [True]
        else:
            wait_until(lambda keepers=keepers: not any(thread.is_alive() for thread in keepers))  # type: ignore[misc]
            assert not store.written.is_set()
        assert paused.end() == "created"
        for keeper in keepers:
            keeper.join(PATIENCE)
            assert not keeper.is_alive()
        manager.discard("k")


class Watched(MemoryStore):
    """Counts what is read of it."""

    reads = 0

    def read(self, namespace: str, key: str) -> Any:
        self.reads += 1
        return super().read(namespace, key)

    def get(self, namespace: str, key: str) -> Any:
        self.reads += 1
        return super().get(namespace, key)


def test_a_lease_is_left_to_one_creator(clock: FakeClock) -> None:
    """Of two hosts one creates, and the other waits and gets the value."""
    counters.reset()
    from beaker.caching.store_manager import StoreNamespaceManager

    store = Watched(clock=clock)
    here, there = (StoreNamespaceManager("n", store, lock="lease", clock=clock) for _ in range(2))
    here._locks, there._locks = type(here._locks)(), type(here._locks)()
    paused = Creation(lambda create: Value("k", here).get_or_create(create))
    results: list[Any] = []
    waiter = threading.Thread(target=lambda: results.append(Value("k", there).get_or_create(lambda: "needless")))
    store.reads = 0
    waiter.start()
    # More than a call has that does not wait.
    wait_until(lambda: store.reads > 4)
    assert results == []
    assert paused.end() == "created"
    waiter.join(PATIENCE)
    assert results == ["created"]
    assert "lock_takeover" not in counters.snapshot().events


# How old a value may be


@pytest.mark.parametrize("kind", ["memory", "file", DictManager])
def test_max_stale(kind: Any, tmp_path: Path, clock: FakeClock) -> None:
    """Past max_stale seconds after its expiry an old value is not served: the call waits for the new one."""
    cache = Cache("limited", type=kind, data_dir=str(tmp_path), clock=clock, expire=10, max_stale=5)
    cache.put("k", "old")
    clock.advance(14.0)
    paused = creation(cache)
    assert cache.get("k", createfunc=lambda: "needless") == "old"
    clock.advance(1.0)
    results: list[Any] = []
    waiter = threading.Thread(target=lambda: results.append(cache.get("k", createfunc=lambda: "needless")))
    waiter.start()
    lock: Any = cache.namespace.get_creation_lock("k")
    wait_until(lambda: getattr(lock, "first", lock)._waiting)
    assert paused.end() == "created"
    waiter.join(PATIENCE)
    assert results == ["created"]


def test_max_stale_is_an_option_of_regions_caches_and_decorators(tmp_path: Path) -> None:
    """It is read as a time wherever the other times are."""
    cache_regions["limited"] = {"type": "memory", "expire": 10, "max_stale": "1m"}

    @cache_region("limited")
    def by_region() -> int:
        return 1

    manager = CacheManager(type="memory", max_stale="2m")

    @manager.cache(expire=10, max_stale="3m")
    def by_decorator() -> int:
        return 1

    by_region()
    by_decorator()
    limits = [
        by_region._bind().cache.namespace.freshness.max_stale,
        manager.get_cache("any").namespace.freshness.max_stale,
        by_decorator._bind().cache.namespace.freshness.max_stale,
    ]
    assert limits == [60.0, 120.0, 180.0]


# Clocks that are ahead


@pytest.mark.parametrize("kind", ["memory", "file", "dbm", DictManager])
def test_a_stamp_from_the_future(kind: Any, tmp_path: Path, clock: FakeClock) -> None:
    """A value stored by a clock over a minute ahead has expired; one up to a minute ahead expires a minute late."""
    cache = Cache(f"future-{uuid.uuid4().hex}", type=kind, data_dir=str(tmp_path), clock=clock, expire=30)
    value = Value("k", cache.namespace, None, 30.0)
    value.set_value("ahead", storedtime=clock() + 3_600.0)
    with pytest.raises(KeyError):
        cache.get("k")
    assert cache.get_many(["k"]) == {}
    assert cache.get("k", createfunc=lambda: "new") == "new"
    value.set_value("a little ahead", storedtime=clock() + 59.0)
    assert cache.get("k") == "a little ahead"
    clock.advance(90.0)
    with pytest.raises(KeyError):
        cache.get("k")


def test_the_shortest_way_looks_at_the_stamp_too(clock: FakeClock) -> None:
    """A decorated function's hit, whose conditions are written out, takes no value from the future."""
    manager = CacheManager(type="memory", clock=clock, expire=30)
    results = ["second", "first"]

    @manager.cache(uuid.uuid4().hex)
    def function() -> str:
        return results.pop()

    clock.advance(3_600.0)
    assert function() == "first"
    clock.advance(-3_600.0)
    assert function() == "second"


def test_how_old_a_stamp_from_the_future_is(clock: FakeClock) -> None:
    """Its age is not known: no limit of age covers it, neither max_stale nor stale_if_error."""
    options: dict[str, Any] = {"clock": clock, "expire": 10, "max_stale": 3_600, "stale_if_error": 3_600}
    cache = Cache("unknown", type="memory", **options)
    Value("k", cache.namespace, None, 10.0).set_value("ahead", storedtime=clock() + 61.0)
    with pytest.raises(ZeroDivisionError):
        cache.get("k", createfunc=lambda: 1 // 0)


def test_a_clock_set_during_a_creation(clock: FakeClock) -> None:
    """What a creation cost is measured by a timer that is never set, so early refresh does not go wild."""
    cache = Cache("cost", type="memory", expire=1e6)
    cache.namespace.clock = clock

    def create() -> str:
        clock.advance(3_600.0)
        return "new"

    cache.get("k", createfunc=create)
    entry = cache.namespace.read("k")
    assert entry is not None
    assert entry.cost < 60.0
