"""Cached functions besides calling: results looked at, set and forgotten, caching switched off and on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import CacheManager, cache_region, cache_regions, region_invalidate, reset
from beaker.exceptions import ConfigError, UnserializableValue
from beaker.testing.clock import FakeClock


@pytest.fixture(autouse=True)
def clock(fake_clock: FakeClock) -> Iterator[FakeClock]:
    cache_regions.clear()
    cache_regions["short"] = {"expire": 60, "clock": fake_clock}
    yield fake_clock
    cache_regions.clear()


@pytest.fixture
def calls() -> list[Any]:
    return []


class Shop:
    calls: list[Any]

    def __init__(self, owner: str) -> None:
        self.owner = owner

    def __cache_key__(self) -> str:
        return self.owner

    @cache_region("short")
    def price(self, item: str, count: int = 1) -> int:
        self.calls.append(item)
        return len(self.calls)

    @cache_region("short")
    @classmethod
    def build(cls, x: int) -> int:
        cls.calls.append(x)
        return len(cls.calls)


# The kept result


def test_get_and_set(clock: FakeClock, calls: list[Any]) -> None:
    """get returns what is kept, or a default, and never computes; set keeps a value for a call, written in any way."""

    @cache_region("short")
    def load(term: str, limit: int = 5) -> Any:
        calls.append(term)
        return term, limit

    assert load.get("a") is None
    assert load.get("a", default="none") == "none"
    assert load("a") == ("a", 5)
    assert load.get("a") == load.get(limit=5, term="a") == ("a", 5)
    load.set(None, "a")
    assert load.get("a", default=1) is None
    load.set("set", "b", limit=6)
    assert load("b", 6) == "set"
    assert calls == ["a"]
    clock.advance(60)
    assert load.get("b", 6, default="old") == "old"
    with pytest.raises(TypeError):
        load.get()


def test_a_parameter_called_default() -> None:
    """A function's own parameter of that name is an argument, not get's default."""

    @cache_region("short")
    def lookup(key: str, default: int = 0) -> int:
        return default

    assert lookup("k", default=7) == 7
    assert lookup.get("k", default=7) == 7
    assert lookup.get("k", default=8) is None


def test_get_and_set_of_methods(calls: list[Any]) -> None:
    """A method's results are looked at and set through the instance, a class method's through the class."""
    Shop.calls = calls
    ann, bob = Shop("ann"), Shop("bob")
    ann.price.set(100, "tea")
    assert (ann.price("tea"), ann.price.get("tea", 1), bob.price.get("tea")) == (100, 100, None)
    assert Shop.price.get(ann, "tea") == 100
    Shop.build.set(5, 1)
    assert (Shop.build(1), ann.build.get(1), Shop.build.get(2, default=0)) == (5, 5, 0)
    assert calls == []


def test_set_refuses_what_the_store_cannot_hold(tmp_path: Path, clock: FakeClock) -> None:
    """set raises where a call would: what is set is expected to be there."""
    cache = CacheManager(type="file", data_dir=str(tmp_path), clock=clock, serializer="json")

    @cache.cache()
    def load() -> Any: ...

    with pytest.raises(UnserializableValue):
        load.set(object())


# Switched off and on


def numbered(decorator: Any, calls: list[Any]) -> Any:
    @decorator
    def load() -> int:
        calls.append(1)
        return len(calls)

    return load


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_region_switched_off_and_on(kind: str, tmp_path: Path, clock: FakeClock, calls: list[Any]) -> None:
    """Results from before the region was off do not come back, switched in place or by replacing the region."""
    options = {"type": kind, "data_dir": str(tmp_path), "expire": 60, "clock": clock}
    cache_regions["short"] = dict(options)
    load, other = (numbered(cache_region("short", name), calls) for name in ("load", "other"))
    assert (load(), other(), load()) == (1, 2, 1)
    cache_regions["short"]["enabled"] = False
    assert (load(), load.get(default="off")) == (3, "off")
    load.set(99)
    cache_regions["short"]["enabled"] = True
    assert load.get() is None
    # The other function was not called meanwhile; its region was off all the same.
    assert (load(), other(), load(), other()) == (4, 5, 4, 5)
    cache_regions["short"] = {**options, "enabled": "off"}
    assert load() == 6
    cache_regions["short"] = dict(options)
    assert (load(), load()) == (7, 7)
    clock.advance(59)
    assert (load(), other()) == (7, 8)


def test_a_manager_switched_off_and_on(clock: FakeClock, calls: list[Any]) -> None:
    """The same for a manager's own functions; another manager's, and its regions', are not affected."""
    manager, second = CacheManager(clock=clock), CacheManager(clock=clock, max_entries=99)
    load, other = numbered(manager.cache("a"), calls), numbered(second.cache("b"), calls)
    assert (load(), other()) == (1, 2)
    manager.kwargs["enabled"] = False
    assert load() == 3
    manager.kwargs["enabled"] = True
    assert (load(), load(), other()) == (4, 4, 2)


def test_a_decorator_that_says_so_itself(clock: FakeClock, calls: list[Any]) -> None:
    """enabled in a decorator wins over the manager's, off and on, and switches nothing else off."""
    manager = CacheManager(clock=clock)
    never = numbered(manager.cache("never", enabled=False), calls)
    always = numbered(manager.cache("always", enabled=True), calls)
    usual = numbered(manager.cache("usual"), calls)
    assert (usual(), always()) == (1, 2)
    assert never() == 3
    never.invalidate()
    assert never() == 4
    assert (usual(), always()) == (1, 2)
    manager.kwargs["enabled"] = False
    assert (usual(), always()) == (5, 2)
    manager.kwargs["enabled"] = True
    assert (always(), usual()) == (2, 6)


def test_refresh_while_switched_off(calls: list[Any]) -> None:
    """refresh runs the function and keeps nothing while caching is off."""
    load = numbered(cache_region("short"), calls)
    cache_regions["short"]["enabled"] = False
    assert load.refresh() == 1
    cache_regions["short"]["enabled"] = True
    assert load() == 2


# Everything forgotten


def test_reset(clock: FakeClock, calls: list[Any]) -> None:
    """reset empties every memory cache of the process, so that a test does not see what another kept."""
    load = numbered(cache_region("short"), calls)
    manager = CacheManager(clock=clock, max_entries=50)
    manager.get_cache("n").put("k", 1)
    assert (load(), load()) == (1, 1)
    reset()
    assert load() == 2
    assert not manager.get_cache("n").has_key("k")
    assert "short" in cache_regions


def test_invalidate_without_arguments(clock: FakeClock, calls: list[Any]) -> None:
    """Without the function's arguments every call is forgotten, of functions, methods and namespaces, by all ways."""
    manager = CacheManager(clock=clock, cache_regions={"mine": {"clock": clock}})

    def numbers(x: int) -> int:
        calls.append(x)
        return len(calls)

    plain, named = manager.cache()(numbers), manager.cache("mycache")(numbers)
    regional = manager.region("mine", "deco")(numbers)
    ways: list[tuple[Any, Any]] = [
        (plain, lambda: manager.invalidate(plain)),
        (named, lambda: manager.invalidate(named)),
        (named, lambda: manager.invalidate(named, "mycache")),
        (regional, lambda: manager.region_invalidate(regional, None)),
        (regional, lambda: region_invalidate(regional, None)),
        (regional, lambda: region_invalidate(regional, "mine")),
        (regional, lambda: region_invalidate(regional, "mine", "deco")),
        (regional, lambda: region_invalidate(regional.namespace, "mine")),
        (regional, lambda: region_invalidate(numbers, "mine")),
    ]
    for function, forget in ways:
        kept = [function(1), function(2)]
        assert [function(1), function(2)] == kept
        forget()
        assert function.get(1) is function.get(2) is None
    with pytest.raises(ConfigError, match="which region"):
        region_invalidate(numbers, None)


def test_invalidate_a_method_without_arguments(calls: list[Any]) -> None:
    """A method without arguments forgets every call, through an instance, the class, or a class method."""
    Shop.calls = calls
    ann = Shop("ann")
    for target in (ann.price, Shop.price):
        kept = ann.price("tea")
        assert ann.price("tea") == kept
        region_invalidate(target, None)
        assert ann.price("tea") == kept + 1
    built = Shop.build(1)
    region_invalidate(Shop.build, None)
    assert Shop.build(1) > built


def test_invalidate_a_function_without_parameters(calls: list[Any]) -> None:
    """The decorator's arguments alone name the one call of a function that takes none."""
    load = numbered(cache_region("short", "deco"), calls)
    assert (load(), load()) == (1, 1)
    region_invalidate(load, None, "deco")
    assert load() == 2
