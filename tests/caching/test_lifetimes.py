"""Adaptive expiry: a function of the value says how long it is valid, or that it is not kept."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import DO_NOT_KEEP, Cache, CacheManager, cache_region, cache_regions
from beaker.exceptions import ConfigError, UnserializableValue
from beaker.testing import FakeClock
from beaker.testing.lock import PATIENCE, wait_until
from tests.caching.places import PLACES, STYLES, Style, options_at


def by_value(value: Any) -> Any:
    """The rule of these tests: the value itself says it."""
    return DO_NOT_KEEP if value == "secret" else value


@pytest.fixture(params=[(place, style) for place in PLACES for style in STYLES], ids="-".join)
def style(request: pytest.FixtureRequest, tmp_path: Path, fake_clock: FakeClock) -> Style:
    place, name = request.param
    return Style(name, Cache("lives", expire=by_value, **options_at(place, request, tmp_path, fake_clock)))


@pytest.mark.parametrize(("value", "life"), [(5, 5), (2.5, 2.5), (None, None), (0, 0)])
def test_the_value_says_how_long_it_is_valid(style: Style, fake_clock: FakeClock, value: Any, life: Any) -> None:
    """Seconds, or for ever: what was created, and what was put, alone and among many."""
    assert style.get("created", lambda: value) == value
    style("put", "put", value)
    style("put_many", {"many": value})
    for key in ("created", "put", "many"):
        entry = style.cache.namespace.read(key)
        assert entry is not None
        assert entry.expires == (None if life is None else fake_clock() + life)


def test_what_is_not_kept_is_returned_and_takes_the_old_value_with_it(style: Style, fake_clock: FakeClock) -> None:
    """Created or put, alone or among many: no older value is served in its place."""
    for key in ("created", "put", "many"):
        style("put", key, 5)
    fake_clock.advance(6)
    assert style.get("created", lambda: "secret") == "secret"
    style("put", "put", "secret")
    style("put_many", {"many": "secret", "other": 7})
    for key in ("created", "put", "many"):
        assert style.cache.namespace.read(key) is None
    assert style.cache.namespace.read("other") is not None
    assert style.get("created", lambda: 3) == 3


@pytest.mark.parametrize("wrong", ["60", -1, float("nan"), True, b"x", "DO_NOT_KEEP"])
def test_a_wrong_lifetime_is_an_error_that_names_the_function(fake_clock: FakeClock, wrong: Any) -> None:
    """Nothing is stored, and the message holds nothing of the value; the next call creates again."""

    def life_of(value: Any) -> Any:
        return wrong

    cache = Cache("wrong", expire=life_of, clock=fake_clock, max_entries=501)
    for act in (lambda: cache.get("k", createfunc=lambda: "v"), lambda: cache.put("k", "v")):
        with pytest.raises(ConfigError, match=r"life_of does not say how long") as caught:
            act()
        assert caught.value.code == "cache.bad-lifetime"
        assert not cache.has_key("k")


def test_threads_and_coroutines_that_wait_share_a_value_that_is_not_kept(fake_clock: FakeClock) -> None:
    """Those that waited get it; those that call afterwards create their own."""
    cache = Cache("shared", expire=lambda value: DO_NOT_KEEP, clock=fake_clock, max_entries=502)
    running, may_end = threading.Event(), threading.Event()
    calls: list[int] = []
    found: list[Any] = []

    def create() -> Any:
        calls.append(1)
        running.set()
        assert may_end.wait(PATIENCE)
        return [len(calls)]

    async def coroutines() -> None:
        found.extend(await asyncio.gather(*(cache.aget("k", createfunc=create) for _ in range(3))))

    def thread() -> None:
        found.append(cache.get("k", createfunc=create))

    threads = [threading.Thread(target=thread)]
    threads[0].start()
    assert running.wait(PATIENCE)
    lock: Any = cache.namespace.get_creation_lock("k")
    for count in range(1, 4):
        threads.append(threading.Thread(target=thread))
        threads[-1].start()
        wait_until(partial(_is, lock._waiting, count))
    threads.append(threading.Thread(target=asyncio.run, args=(coroutines(),)))
    threads[-1].start()
    wait_until(lambda: len(lock._signals) == 3)
    may_end.set()
    for each in threads:
        each.join(PATIENCE)
    assert found == [[1]] * 7
    assert cache.get("k", createfunc=create) == [2]


def _is(items: Any, count: int) -> bool:
    return len(items) == count


def test_an_invalidation_meanwhile_keeps_what_is_not_kept_from_those_that_came_after(fake_clock: FakeClock) -> None:
    """A creation that was voided passes nothing on."""
    cache = Cache("voided", expire=lambda value: DO_NOT_KEEP, clock=fake_clock, max_entries=503)
    running, may_end = threading.Event(), threading.Event()
    calls: list[int] = []
    found: list[Any] = []

    def create() -> Any:
        calls.append(1)
        number = len(calls)
        running.set()
        assert may_end.wait(PATIENCE)
        return number

    def work() -> None:
        found.append(cache.get("k", createfunc=create))

    first, second = threading.Thread(target=work), threading.Thread(target=work)
    first.start()
    assert running.wait(PATIENCE)
    cache.remove("k")
    second.start()
    lock: Any = cache.namespace.get_creation_lock("k")
    wait_until(lambda: len(lock._waiting) == 1)
    may_end.set()
    first.join(PATIENCE)
    second.join(PATIENCE)
    assert sorted(found) == [1, 2]


def test_options_of_a_region_a_decorator_and_a_call(fake_clock: FakeClock) -> None:
    """Each takes a function, and the nearest wins; refresh and set go by it, too."""
    cache_regions["lives"] = {"clock": fake_clock, "expire": lambda value: 10, "max_entries": 504}

    @cache_region("lives")
    def by_region() -> int:
        return 1

    @cache_region("lives", expire=lambda value: dt.timedelta(seconds=value))
    def by_decorator(seconds: int) -> int:
        return seconds

    manager = CacheManager(clock=fake_clock, max_entries=504)

    @manager.cache(expire=lambda value: DO_NOT_KEEP)
    def unkept() -> object:
        return object()

    by_region()
    by_decorator(3)
    assert unkept() is not unkept()
    fake_clock.advance(5)
    assert by_region.get() == 1
    assert by_decorator.get(3) is None
    by_decorator.set(20, 3)
    fake_clock.advance(15)
    assert by_decorator.get(3) == 20
    assert by_decorator.refresh(3) == 3
    fake_clock.advance(4)
    assert by_decorator.get(3) is None
    del cache_regions["lives"]

    cache = manager.get_cache("calls", expire=100)
    cache.put("k", 1, expiretime=lambda value: 2)
    assert cache.get("j", createfunc=lambda: 4, expire=lambda value: value) == 4
    entries = cache.namespace.read_many(["k", "j"])
    assert {key: entry.expiretime for key, entry in entries.items()} == {"k": 2.0, "j": 4.0}


def test_what_says_something_about_a_value_is_none(fake_clock: FakeClock) -> None:
    """DO_NOT_KEEP is for expire to return: as a value it is refused."""
    cache = Cache("said", clock=fake_clock, max_entries=505)
    for act in (lambda: cache.put("k", DO_NOT_KEEP), lambda: cache.get("k", createfunc=lambda: DO_NOT_KEEP)):
        with pytest.raises(UnserializableValue, match="it says what becomes of a value"):
            act()
    assert repr(DO_NOT_KEEP) == "beaker.cache.DO_NOT_KEEP"


@pytest.mark.parametrize("life", [90, "90", "1m30s", dt.timedelta(seconds=90)])
def test_many_values_live_as_one_does(fake_clock: FakeClock, life: Any) -> None:
    """``put_many`` takes a time in every form in which ``put`` does."""
    cache = Cache("lives of many", type="memory", clock=fake_clock)
    cache.put_many({"a": 1, "b": 2}, expire=life)
    fake_clock.advance(89)
    assert cache.get_many(["a", "b"]) == {"a": 1, "b": 2}
    fake_clock.advance(2)
    assert not cache.get_many(["a", "b"])


@pytest.mark.parametrize("life", [float("nan"), float("inf"), -1, "soon", True, b"5", dt.timedelta(-1)], ids=repr)
def test_what_is_no_time_is_refused_for_many(life: Any) -> None:
    """``put_many`` refuses what is no time by a ConfigError that names the option, and stores nothing."""
    cache = Cache("no lives of many", type="memory")
    with pytest.raises(ConfigError, match="expire"):
        cache.put_many({"a": 1}, expire=life)
    assert "a" not in cache
