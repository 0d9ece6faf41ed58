"""Auto-recovery: an invalidation that could not be written is made good before its key is read again here."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import Cache, CacheManager
from beaker.caching import unwritten
from beaker.caching.value import Value
from beaker.exceptions import StoreUnavailable
from beaker.testing import FakeClock
from beaker.testing.lock import PATIENCE
from tests.caching.places import options_at

SHARED = ("file", "redis")
OPERATIONS = ("set", "delete", "clear", "set_many", "delete_many", "insert", "replace")


class Outage:
    """While it is on, the store takes no writes; reads work, as when a server has lost its primary."""

    def __init__(self, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = False
        self.error: BaseException = StoreUnavailable("no response", backend=store.backend)
        self.store = store
        for name in OPERATIONS:
            if hasattr(store, name):
                monkeypatch.setattr(store, name, self._failing(getattr(store, name)))

    def _failing(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.on:
                raise self.error
            return operation(*args, **kwargs)

        return call


@pytest.fixture
def options(request: pytest.FixtureRequest, tmp_path: Path, fake_clock: FakeClock) -> dict[str, Any]:
    return {"expire": 600, **options_at(request.param, request, tmp_path, fake_clock)}


@pytest.fixture
def cache(options: dict[str, Any]) -> Cache:
    cache = Cache("unwritten", **options)
    cache.put_many({"k": "old", "other": "other"})
    return cache


@pytest.fixture
def outage(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> Outage:
    store: Any = cache.namespace.store  # type: ignore[attr-defined]
    return Outage(store, monkeypatch)


@pytest.fixture(autouse=True)
def _nothing_held() -> Iterator[None]:
    yield
    unwritten._held.clear()


everywhere = pytest.mark.parametrize("options", SHARED, indirect=True)
on_files = pytest.mark.parametrize("options", ["file"], indirect=True)

CHANGES: dict[str, Callable[[Cache], object]] = {
    "remove": lambda cache: cache.remove("k"),
    "put": lambda cache: cache.put("k", "lost"),
    "clear": lambda cache: cache.clear(),
    "remove_many": lambda cache: cache.remove_many(["k"]),
    "put_many": lambda cache: cache.put_many({"k": "lost"}),
    "refresh": lambda cache: Value("k", cache.namespace, None, 600.0).refresh(lambda: "lost"),
    "in a loop": lambda cache: asyncio.run(cache.aremove("k")),
}


def fail(cache: Cache, outage: Outage, change: str = "remove") -> None:
    outage.on = True
    with pytest.raises(StoreUnavailable):
        CHANGES[change](cache)
    outage.on = False


@everywhere
@pytest.mark.parametrize("change", CHANGES)
def test_the_old_value_is_not_served_after_it(cache: Cache, outage: Outage, change: str) -> None:
    """The change is raised, and made good by the next read; other keys stay, unless all were to go."""
    fail(cache, outage, change)
    assert not cache.has_key("k")
    assert cache.has_key("other") is (change != "clear")
    assert cache.get("k", createfunc=lambda: "new") == "new"
    assert cache.get("k") == "new"


class Aborted(BaseException):
    """What a signal's handler raises, or a greenlet that is killed."""


@on_files
@pytest.mark.parametrize("change", ["remove", "put", "clear", "remove_many", "put_many", "refresh"])
def test_a_change_that_is_aborted_is_made_good_too(cache: Cache, outage: Outage, change: str) -> None:
    """Whether the store was told is not known, so the old value is not served after it."""
    outage.on, outage.error = True, Aborted()
    with pytest.raises(Aborted):
        CHANGES[change](cache)
    outage.on = False
    assert cache.get("k", createfunc=lambda: "new") == "new"


@on_files
def test_a_refresh_that_is_aborted_while_it_stores(cache: Cache, outage: Outage) -> None:
    """What was created anew was to take the old value's place, which is not trusted any more."""
    outage.error = Aborted()

    def create() -> str:
        outage.on = True
        return "lost"

    with pytest.raises(Aborted):
        Value("k", cache.namespace, None, 600.0).refresh(create)
    outage.on = False
    assert cache.get("k", createfunc=lambda: "new") == "new"


READS: dict[str, Callable[[Cache], Any]] = {
    "get": lambda cache: cache.get("k"),
    "has_key": lambda cache: cache.has_key("k"),
    "get_many": lambda cache: cache.get_many(["other", "k"]),
    "aget": lambda cache: asyncio.run(cache.aget("k")),
}


@pytest.mark.parametrize("near", [None, 5.0])
@pytest.mark.parametrize("what", ["tags", "region", "in a loop"])
@everywhere
def test_tags_and_regions(options: dict[str, Any], cache: Cache, outage: Outage, what: str, near: float | None) -> None:
    """What has a tag, or belongs to a region, that could not be invalidated is unavailable until it can be, then old;
    other values, and a later invalidation that succeeds, are as ever."""
    manager = CacheManager(cache_regions={"lost": {**options, "near": near, "region_stamp": what == "region"}})
    tagged = manager.get_cache_region("tagged", "lost")
    tags: Any = () if what == "region" else "t"
    tagged.put("k", "old", tags=tags)
    cache.put("untagged", "there")
    for _ in range(3):
        assert tagged.get("k") == "old"

    def invalidate() -> None:
        if what == "region":
            manager.invalidate_region("lost")
        elif what == "tags":
            manager.invalidate_tags("t")
        else:
            asyncio.run(manager.ainvalidate_tags("t"))

    outage.on = True
    with pytest.raises(StoreUnavailable):
        invalidate()
    with pytest.raises(StoreUnavailable):
        tagged.get("k")
    assert tagged.get("k", createfunc=lambda: "without", tags=tags) == "without"
    assert cache.get("untagged") == "there"
    outage.on = False
    assert "k" not in tagged
    assert tagged.get("k", createfunc=lambda: "new", tags=tags) == "new"
    assert [tagged.get("k") for _ in range(3)] == ["new"] * 3
    outage.on = True
    with pytest.raises(StoreUnavailable):
        invalidate()
    outage.on = False
    invalidate()
    tagged.put("k", "newer", tags=tags)
    assert tagged.get("k") == "newer"


@everywhere
@pytest.mark.parametrize("read", READS)
def test_while_it_fails_the_key_counts_as_unavailable(cache: Cache, outage: Outage, read: str) -> None:
    """Reads raise, functions create without the store, and other keys are read as ever."""
    fail(cache, outage)
    outage.on = True
    with pytest.raises(StoreUnavailable):
        READS[read](cache)
    assert cache.get("k", createfunc=lambda: "created") == "created"
    assert asyncio.run(cache.aget("k", createfunc=lambda: "created")) == "created"
    assert cache.get("other") == "other"
    outage.on = False
    assert not cache.has_key("k")


@on_files
def test_on_unavailable_raise(options: dict[str, Any], outage: Outage, cache: Cache) -> None:
    """Where the option says so, the store's failure is raised in place of a creation."""
    strict = Cache("unwritten", **options, on_unavailable="raise")
    fail(cache, outage)
    outage.on = True
    with pytest.raises(StoreUnavailable):
        strict.get("k", createfunc=lambda: "created")


@on_files
def test_a_later_write_settles_it(cache: Cache, outage: Outage) -> None:
    """A put, or another removal, that succeeds: its value stays, and nothing more is written."""
    fail(cache, outage)
    cache.put("k", "new")
    fail(cache, outage, "clear")
    cache.clear()
    cache.put("k", "new")
    outage.on = True
    assert cache.get("k") == "new"


@on_files
def test_a_refresh_that_fails_settles_nothing(cache: Cache, outage: Outage) -> None:
    """It marks the key and stores nothing: the old value is as little to be trusted as before."""
    fail(cache, outage)

    def create() -> Any:
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        Value("k", cache.namespace, None, 600.0).refresh(create)
    assert not cache.has_key("k")


@on_files
def test_a_creation_from_before_settles_nothing(cache: Cache, outage: Outage) -> None:
    """What it stores after the invalidation failed is removed, too."""

    def overtaken() -> str:
        fail(cache, outage)
        return "read before"

    cache.remove("k")
    assert cache.get("k", createfunc=overtaken) == "read before"
    assert not cache.has_key("k")


@on_files
def test_it_is_bounded(cache: Cache, outage: Outage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the bound the namespace is emptied as a whole."""
    monkeypatch.setattr(unwritten, "_MOST", 3)
    outage.on = True
    for number in range(5):
        with pytest.raises(StoreUnavailable):
            cache.remove(f"key {number}")
    outage.on = False
    assert not cache.has_key("other")
    assert not unwritten._held


@on_files
def test_the_option_turns_it_off(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """auto_recovery = false: the error is all there is, as before."""
    plain = Cache("plain", **{**options, "auto_recovery": "false"})
    plain.put("k", "old")
    store: Any = plain.namespace.store  # type: ignore[attr-defined]
    fail(plain, Outage(store, monkeypatch))
    assert plain.get("k") == "old"


@on_files
def test_it_outlives_the_cache_that_noted_it(options: dict[str, Any], outage: Outage, cache: Cache) -> None:
    """Another cache of the namespace in this process knows it, even when the first one is gone."""
    again = Cache("unwritten", **{**options, "expire": 5})
    fail(again, outage)
    del again
    assert not Cache("unwritten", **options).has_key("k")


@on_files
def test_threads_make_it_good_once(cache: Cache, outage: Outage) -> None:
    """A new value that one thread stored is not removed by another one that came for the same invalidation."""
    fail(cache, outage)
    calls: list[int] = []
    barrier = threading.Barrier(4)

    def create() -> str:
        calls.append(1)
        return "new"

    def work() -> None:
        barrier.wait(PATIENCE)
        assert cache.get("k", createfunc=create) == "new"

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(calls) == 1
    assert cache.get("k") == "new"


@on_files
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_knows_it(cache: Cache, outage: Outage) -> None:
    """The child trusts the key as little as its parent, and neither waits for a lock of the other's."""
    fail(cache, outage)
    noted: Any = cache.namespace.unwritten
    with noted._mutex, noted._retry:
        child = os.fork()
        if not child:
            os._exit(cache.has_key("k") or cache.get("k", createfunc=lambda: "child") != "child")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not cache.has_key("k")
