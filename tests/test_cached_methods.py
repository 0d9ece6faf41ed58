"""Cached methods, and functions cached by a manager."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import CacheManager, cache_region, cache_regions, region_invalidate
from beaker.exceptions import BeakerWarning, ConfigError, UncacheableArgument
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


class Shop:
    """Its results depend on who it belongs to."""

    def __init__(self, owner: str, calls: list[Any]) -> None:
        self.owner = owner
        self.calls = calls

    def __cache_key__(self) -> str:
        return self.owner

    @cache_region("short")
    def price(self, item: str, count: int = 1) -> int:
        """What it costs."""
        self.calls.append((self.owner, item))
        return len(self.calls)

    @cache_region("short")
    @classmethod
    def above(cls, x: int) -> str:
        return f"{cls.__name__}{x}"

    @classmethod
    @cache_region("short")
    def below(cls, x: int) -> str:
        return f"{cls.__name__}{x}"

    @staticmethod
    @cache_region("short")
    def static(x: int) -> int:
        return x

    @cache_region("short")
    @staticmethod
    def static_above(x: int) -> int:
        return x


class Branch(Shop):
    """Inherits the methods."""


def test_methods(clock: FakeClock, calls: list[Any]) -> None:
    """Results of a method belong to what __cache_key__ returns; invalidating goes through the instance."""
    ann, bob, ann_again = Shop("ann", calls), Shop("bob", calls), Shop("ann", calls)
    assert (ann.price("x"), bob.price("x"), ann_again.price("x"), ann.price(item="x", count=1)) == (1, 2, 1, 1)
    ann.price.invalidate("x")
    assert (bob.price("x"), ann.price("x")) == (2, 3)
    assert ann.price.refresh("x") == 4
    assert Shop.price(ann, "x") == 4
    Shop.price.invalidate(ann, "x")
    assert ann.price("x") == 5
    region_invalidate(ann.price, None, "x")
    assert ann.price("x") == 6
    assert str(inspect.signature(ann.price)) == "(item: 'str', count: 'int' = 1) -> 'int'"
    assert ann.price.__doc__ == "What it costs."
    assert ann.price.__name__ == "price"
    assert ann.price.original("y") == 7
    ann.price.invalidate_all()
    assert ann.price("x") == 8
    with pytest.raises(TypeError, match="needs its self first"):
        Shop.price.invalidate("x", 1)  # type: ignore[arg-type]


def test_subclasses_do_not_share(clock: FakeClock, calls: list[Any]) -> None:
    """An inherited method may return something else, so its results are kept by the instance's own class."""
    assert Shop("ann", calls).price("x") == 1
    assert Branch("ann", calls).price("x") == 2


def test_class_and_static_methods(clock: FakeClock) -> None:
    """The decorator works above and below @classmethod and @staticmethod."""
    for method in ("above", "below"):
        assert getattr(Shop, method)(1) == "Shop1"
        assert getattr(Branch, method)(1) == "Branch1"
        assert getattr(Shop("ann", []), method)(1) == "Shop1"
    assert Shop.static(1) == Shop("a", []).static(1) == Shop.static_above(1) == Shop("a", []).static_above(1) == 1
    Shop.above.invalidate(1)
    Shop.static.invalidate(1)
    Shop.static_above.invalidate(1)


def test_instances_with_state_warn_once(clock: FakeClock) -> None:
    """Without __cache_key__ instances share results, which is said once a function, and is an error with strict."""

    class Stateful:
        def __init__(self, n: int) -> None:
            self.n = n

        @cache_region("short")
        def f(self, x: int) -> int:
            return self.n

    class Slotted:
        __slots__ = ("n",)

        @cache_region("short")
        def f(self, x: int) -> int:
            return 1

    class Stateless:
        @cache_region("short")
        def f(self, x: int) -> int:
            return 1

    with pytest.warns(BeakerWarning, match="__cache_key__"):
        Stateful(1).f(1)
    assert Stateful(2).f(1) == 1
    Stateless().f(1)
    Slotted().f(1)
    slotted = Slotted()
    slotted.n = 1  # type: ignore[attr-defined]
    with pytest.warns(BeakerWarning, match="__cache_key__"):
        slotted.f(1)
    cache_regions["short"] = {**cache_regions["short"], "strict": True}
    with pytest.raises(UncacheableArgument, match="__cache_key__"):
        Stateful(1).f(1)


def test_manager_cache_and_invalidate(tmp_path: Path, fake_clock: FakeClock, calls: list[Any]) -> None:
    """manager.cache takes get_cache's options; invalidate works with them and without."""
    manager = CacheManager(type="memory", data_dir=str(tmp_path), clock=fake_clock)

    @manager.cache("mycache", type="file", expire=15)
    def load(term: str, limit: int = 20) -> int:
        calls.append(term)
        return len(calls)

    assert load("rabbits") == load(limit=20, term="rabbits") == 1
    manager.invalidate(load, "mycache", "rabbits", 20, type="file")
    assert load("rabbits") == 2
    manager.invalidate(load, "mycache", "rabbits")
    assert load("rabbits") == 3
    manager.invalidate(load.namespace, "mycache", "rabbits", 20, type="file")
    assert load("rabbits") == 4
    fake_clock.advance(15)
    assert load("rabbits") == 5


def test_manager_regions_of_its_own(fake_clock: FakeClock, calls: list[Any]) -> None:
    """manager.region uses the manager's region; an unknown one is named when the function is called."""
    manager = CacheManager(cache_regions={"mine": {"expire": 5, "clock": fake_clock}})

    @manager.region("mine", "deco")
    def f(x: int) -> int:
        calls.append(x)
        return len(calls)

    assert f(1) == f(1) == 1
    manager.region_invalidate(f, None, "deco", 1)
    assert f(1) == 2
    manager.region_invalidate(f.namespace, "mine", "deco", 1)
    assert f(1) == 3
    fake_clock.advance(5)
    assert f(1) == 4
    unknown = manager.region("later")(lambda: 1)
    with pytest.raises(ConfigError, match="'later' is not configured"):
        unknown()
