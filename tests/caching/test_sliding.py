"""Sliding expiry: reads renew a value, rarely, never past its end, and never against a change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.cache import Cache, cache_region, cache_regions, request_scope
from beaker.caching.entry import Entry, SlidingEntry
from beaker.exceptions import StoreUnavailable
from beaker.testing import FakeClock
from tests.caching.places import PLACES, STYLES, Style, options_at
from tests.caching.test_voiding import FourManager
from tests.managers import DictManager


@pytest.fixture(params=[(place, style) for place in PLACES for style in STYLES], ids="-".join)
def style(request: pytest.FixtureRequest, tmp_path: Path, fake_clock: FakeClock) -> Style:
    place, name = request.param
    return Style(name, Cache("sliding", expire=100, sliding=40, **options_at(place, request, tmp_path, fake_clock)))


READS: dict[str, Callable[[Style], Any]] = {
    "get": lambda style: style("get", "k"),
    "createfunc": lambda style: style.get("k", lambda: "new"),
    "get_many": lambda style: style("get_many", ["k"])["k"],
}
WRITES: dict[str, Callable[[Style], Any]] = {
    "put": lambda style: style("put", "k", "v"),
    "put_many": lambda style: style("put_many", {"k": "v"}),
    "created": lambda style: style.get("k", lambda: "v"),
}


def ends(style: Style, clock: FakeClock) -> float:
    """Seconds until the value expires unless it is read."""
    entry = style.cache.namespace.read("k")
    assert entry is not None
    assert entry.expires is not None
    return entry.expires - clock()


@pytest.mark.parametrize("read", READS)
def test_reads_renew_it_up_to_its_end(style: Style, fake_clock: FakeClock, read: str) -> None:
    """Not before a quarter of the time has passed, and never past expire; then it is created anew."""
    begun = fake_clock()
    style("put", "k", "v")
    fake_clock.advance(9)
    assert READS[read](style) == "v"
    assert ends(style, fake_clock) == 31
    for _ in range(3):
        fake_clock.advance(25)
        assert READS[read](style) == "v"
    assert ends(style, fake_clock) == begun + 100 - fake_clock() == 16
    fake_clock.advance(16)
    assert not style("has_key", "k")
    assert style.get("k", lambda: "new") == "new"


@pytest.mark.parametrize("write", WRITES)
def test_it_expires_unless_it_is_read(style: Style, fake_clock: FakeClock, write: str) -> None:
    """Written in any way; asking whether it is there is no read."""
    WRITES[write](style)
    fake_clock.advance(39)
    assert style("has_key", "k")
    fake_clock.advance(1)
    assert not style("has_key", "k")


def test_a_value_with_an_end_of_its_own(style: Style, fake_clock: FakeClock) -> None:
    """The expire of a put is its end, sooner or later than the cache's; for ever is no end."""
    for key, expire in (("short", 30), ("middle", 60), ("ever", None)):
        style("put", key, key, expire=expire)
    fake_clock.advance(25)
    assert style("get", "short") == "short"
    for _ in range(6):
        for key in ("middle", "ever"):
            if style("has_key", key):
                style("get", key)
        fake_clock.advance(30)
    assert not style("has_key", "short")
    assert not style("has_key", "middle")
    assert style("get", "ever") == "ever"


CHANGES: dict[str, tuple[Callable[[Cache], Any], Any]] = {
    "removed": (lambda cache: cache.remove("k"), None),
    "written": (lambda cache: cache.put("k", "new"), "new"),
    "cleared": (lambda cache: cache.clear(), None),
    "created anew": (lambda cache: cache.namespace.restart("k"), "v"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_after_the_read_stays(
    style: Style, fake_clock: FakeClock, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the renewal looks again, and after it has looked: what was done is not undone."""
    act, left = CHANGES[change]
    namespace = style.cache.namespace
    for place in ("before", "after"):
        style("put", "k", "v")
        fake_clock.advance(20)
        entry = namespace.read("k")
        assert isinstance(entry, SlidingEntry)
        later = SlidingEntry.until(entry.end, entry._replace(expiretime=60.0))
        if place == "before" or not hasattr(namespace, "codec"):
            act(style.cache)
        else:
            # Between the look at the record and its replacement.
            encode: Any = namespace.codec.encode
            done: list[int] = []

            def encode_late(*args: Any, encode: Any = encode, done: list[int] = done) -> Any:
                if not done:
                    done.append(1)
                    act(style.cache)
                return encode(*args)

            monkeypatch.setattr(namespace.codec, "encode", encode_late)
        namespace.prolong("k", entry, later)
        monkeypatch.undo()
        found = namespace.read("k")
        assert (None if found is None else found.value) == left
        # In memory what is being created anew may be renewed: no creation goes by a version there.
        if change != "created anew" or hasattr(namespace, "codec"):
            assert found is None or (found.stored, found.expires) != (later.stored, later.expires)
        style("clear")


def test_a_store_without_versions(fake_clock: FakeClock) -> None:
    """Marks of the process take their place; a creation in flight is not voided by a read."""
    cache = Cache("four sliding", FourManager, expire=100, sliding=40, clock=fake_clock)
    cache.put("k", "v")
    fake_clock.advance(30)
    creation: Any = cache.namespace.restart("k").creation
    assert cache.get("k") == "v"
    assert creation.store(Entry("new", fake_clock(), 10.0))
    cache.put("k", "v")
    fake_clock.advance(30)
    assert cache.get("k") == "v"
    fake_clock.advance(30)
    assert cache.get("k") == "v"


@pytest.mark.parametrize("tier", [{"memo": True}, {"near": 5.0}], ids=["memo", "near"])
def test_a_copy_is_not_written_back(tier: dict[str, Any], fake_clock: FakeClock) -> None:
    """A hit of a copy whose value another process has removed leaves it removed, also in a store without versions."""
    cache = Cache("four copies", FourManager, expire=100, sliding=40, clock=fake_clock, **tier)
    store: Any = cache.namespace.store  # type: ignore[attr-defined]
    cache.put("k", "v")
    with request_scope():
        for _ in range(3):
            assert cache.get("k") == "v"
        store.delete("four copies", "k")
        fake_clock.advance(30)
        assert cache.get("k") == "v"
        assert store.get("four copies", "k") is None
        assert "k" not in cache


def test_a_store_that_cannot_be_written(tmp_path: Path, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The value is returned, and the renewal counted."""
    cache = Cache("full", type="file", data_dir=str(tmp_path), expire=100, sliding=40, clock=fake_clock)
    cache.put("k", "v")
    fake_clock.advance(30)

    def full(*args: Any, **kwargs: Any) -> Any:
        raise StoreUnavailable("no space", backend="file")

    monkeypatch.setattr(cache.namespace.store, "replace", full)  # type: ignore[attr-defined]
    before = counters.snapshot().events.get("sliding_unwritten{file}", 0)
    assert cache.get("k", createfunc=lambda: "new") == "v"
    assert counters.snapshot().events["sliding_unwritten{file}"] == before + 1


def test_decorated_functions_and_managers_of_dict_operations(fake_clock: FakeClock) -> None:
    """A call renews; where an entry cannot say so, a value is valid for expire."""
    cache_regions["sliding"] = {"expire": 100, "sliding": "40s", "clock": fake_clock, "max_entries": 540}
    calls: list[int] = []

    @cache_region("sliding")
    def f() -> int:
        calls.append(1)
        return len(calls)

    for _ in range(3):
        assert f() == 1
        fake_clock.advance(30)
    fake_clock.advance(11)
    assert f() == 2
    del cache_regions["sliding"]
    cache = Cache("dict sliding", DictManager, expire=100, sliding=40, clock=fake_clock)
    cache.put("k", "v")
    fake_clock.advance(99)
    assert cache.get("k") == "v"
    fake_clock.advance(1)
    assert not cache.has_key("k")
