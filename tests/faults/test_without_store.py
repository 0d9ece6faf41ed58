"""Caches whose store is unavailable: what goes on, and what raises."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from beaker import counters
from beaker.cache import Cache, CacheManager
from beaker.caching import outage
from beaker.exceptions import StoreUnavailable, UnserializableValue
from beaker.testing import FakeClock
from beaker.testing.lock import wait_until
from tests import servers
from tests.servers import free_port

DOWN: dict[str, Callable[[], dict[str, Any]]] = {
    "ext:memcached": lambda: {"url": f"127.0.0.1:{free_port()}"},
    "ext:redis": lambda: {"url": f"redis://127.0.0.1:{free_port()}"},
    "ext:database": lambda: {"url": f"postgresql+psycopg://u@127.0.0.1:{free_port()}/d"},
    "ext:google": lambda: {"project": "p", "client": None, "store_timeout": 0.2, "retries": 0},
    "file": lambda: {"data_dir": "/proc/no/such"},
    "dbm": lambda: {"data_dir": "/proc/no/such"},
}


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch, fake_clock: FakeClock) -> Iterator[None]:
    """Nothing is remembered from other tests, and the clock is the test's."""
    monkeypatch.setattr(outage, "notices", outage._Notices(fake_clock))
    counters.reset()
    yield
    counters.reset()


@pytest.fixture(params=DOWN)
def down(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of a cache on each store, whose server is not there or whose directory cannot be created."""
    if request.param == "ext:google":
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    return {"type": request.param, **{k: v for k, v in DOWN[request.param]().items() if v is not None}}


class Work:
    """A function that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        return self.calls


def test_the_function_runs_when_the_store_is_down(down: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """``get`` with ``createfunc`` and cached functions return a value in each call; it is counted and logged once."""
    work, cache = Work(), Cache("ns", **down)
    manager = CacheManager(cache_regions={"r": down})

    @manager.region("r", down["type"])
    def cached(n: int) -> int:
        return work() + n

    with caplog.at_level(logging.ERROR, "beaker.cache"):
        assert [cache.get("k", createfunc=work) for _ in range(3)] == [1, 2, 3]
        assert [cached(100) for _ in range(3)] == [104, 105, 106]
    counted = [number for name, number in counters.snapshot().events.items() if name.startswith("cache_unavailable{")]
    assert sum(counted) >= 6
    lines = [record for record in caplog.records if "without their store" in record.getMessage()]
    assert len(lines) == 1


def test_what_changes_the_store_raises(down: dict[str, Any]) -> None:
    """A lost invalidation is wrong data: ``put``, ``remove``, ``invalidate``, ``refresh`` say that they failed."""
    cache = Cache("ns", **down)
    manager = CacheManager(cache_regions={"r": down})

    @manager.region("r")
    def cached(n: int) -> int:
        return n

    calls: list[Callable[[], object]] = [lambda: cache.put("k", 1), lambda: cached.refresh(1), lambda: cached.set(2, 1)]
    if down["type"] not in ("file", "dbm"):
        # A directory that is not there is known to hold nothing.
        calls += [
            lambda: cache.remove("k"),
            lambda: cache.clear(),
            lambda: cached.invalidate(1),
            lambda: cached.invalidate_all(),
            lambda: cache.get("k"),
        ]
    for call in calls:
        with pytest.raises(StoreUnavailable):
            call()


def test_raise_raises(down: dict[str, Any]) -> None:
    """With ``on_unavailable = raise`` the caller learns that the store is down."""
    cache = Cache("ns", on_unavailable="raise", **down)
    with pytest.raises(StoreUnavailable):
        cache.get("k", createfunc=Work())
    cached = CacheManager(cache_regions={"r": {**down, "on_unavailable": "raise"}}).region("r")(lambda n: n)
    with pytest.raises(StoreUnavailable):
        cached(1)


def test_a_full_server_costs_no_page(tmp_path: Path) -> None:
    """A full Redis: values are created and returned, ``put`` raises, and reading goes on."""
    with servers.redis(tmp_path) as server:
        cache = Cache("ns", type="ext:redis", url=server.url)
        cache.put("old", "kept")
        client = redis.Redis.from_url(server.url)
        client.config_set("maxmemory", 1)
        work = Work()
        for _ in range(8):
            cache.get("k", createfunc=work)
        assert work.calls == 8
        assert cache.get("old") == "kept"
        with pytest.raises(StoreUnavailable, match="OutOfMemory"):
            cache.put("k", 1)
        client.config_set("maxmemory", 0)
        client.close()
        assert cache.get("k", createfunc=work) == cache.get("k", createfunc=work) == 9


@pytest.mark.parametrize("kind", ["file", "dbm"])
def test_a_lock_directory_that_cannot_be_used_costs_no_page(kind: str, tmp_path: Path) -> None:
    """Creators that cannot lock create in turn within the process."""
    cache = Cache("ns", type=kind, data_dir=str(tmp_path), lock_dir="/proc/no/such", lock="file")
    assert cache.get("k", createfunc=Work()) == 1


def test_one_creation_at_a_time() -> None:
    """Calls that wait for a creation get its value, each a copy, and do not create one after another."""
    cache = Cache("ns", type="ext:redis", url=f"redis://127.0.0.1:{free_port()}")
    go, begun, calls, results = threading.Event(), threading.Event(), [0], []

    def create() -> list[int]:
        calls[0] += 1
        begun.set()
        assert go.wait(20)
        return [calls[0]]

    threads = [threading.Thread(target=lambda: results.append(cache.get("k", createfunc=create))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.wait(20)
    lock = cache.namespace.flight("k").lock
    wait_until(lambda: len(lock._waiting) == 7)
    go.set()
    for thread in threads:
        thread.join(20)
    assert calls == [1]
    assert results == [[1]] * 8
    assert len({id(result) for result in results}) == 8


def test_errors_of_the_function_are_its_own() -> None:
    """A function that raises StoreUnavailable itself runs once, and its error reaches the caller."""
    cache = Cache("ns", type="memory")
    work = Work()

    def create() -> int:
        work()
        raise StoreUnavailable("another store", backend="other")

    with pytest.raises(StoreUnavailable, match="another store"):
        cache.get("k", createfunc=create)
    assert work.calls == 1


def test_what_could_not_be_stored_is_refused_all_the_same() -> None:
    """An outage hides no UnserializableValue."""
    cache = Cache("ns", type="ext:redis", url=f"redis://127.0.0.1:{free_port()}")
    with pytest.raises(UnserializableValue):
        cache.get("k", createfunc=lambda: iter([1]))
    with pytest.raises(UnserializableValue):
        cache.get("k", createfunc=lambda: object())


def test_a_minute_later_it_is_logged_again(fake_clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """One line a minute for each backend, naming it."""
    cache = Cache("ns", type="ext:redis", url=f"redis://127.0.0.1:{free_port()}")
    with caplog.at_level(logging.ERROR, "beaker.cache"):
        for _ in range(4):
            cache.get("k", createfunc=Work())
            fake_clock.advance(31)
    lines = [record.getMessage() for record in caplog.records if record.name == "beaker.cache"]
    assert len(lines) == 2
    assert all("redis" in line for line in lines)
