"""Cached functions: keys, methods, regions, invalidation, freshness."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import CacheManager, cache_region, cache_regions, region_invalidate
from beaker.exceptions import ConfigError, UncacheableArgument
from beaker.testing import clock as clock_module
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


@cache_region("short")
def module_level(a: int, b: int = 2) -> tuple[int, int]:
    """Says what it does."""
    return a, b


def test_decorating_before_configuring(fake_clock: FakeClock) -> None:
    """A function may be decorated before its region is configured, but not called."""
    with pytest.raises(ConfigError, match="'short' is not configured"):
        module_level(1)
    cache_regions["short"] = {"clock": fake_clock}
    assert module_level(1) == (1, 2)


def test_it_is_still_the_function(clock: FakeClock) -> None:
    """Name, docstring, signature, module and pickling are the function's."""
    assert module_level.__name__ == "module_level"
    assert module_level.__doc__ == "Says what it does."
    assert str(inspect.signature(module_level)) == "(a: 'int', b: 'int' = 2) -> 'tuple[int, int]'"
    assert module_level.__module__ == __name__
    assert copy.deepcopy(module_level) is module_level
    assert module_level.__reduce__() == "module_level"
    assert module_level.original(5) == (5, 2)


def test_every_way_to_write_a_call_is_one_key(clock: FakeClock, calls: list[Any]) -> None:
    """Positions, keywords and defaults bind to the same key; different values do not."""

    @cache_region("short")
    def f(a: Any, b: Any = 2, *rest: Any, c: Any = 3, **more: Any) -> int:
        calls.append((a, b, rest, c, more))
        return len(calls)

    assert f(1) == f(1, 2) == f(a=1) == f(b=2, a=1) == f(1, c=3) == 1
    others = [f(1, 3), f(1, 2, 4), f(1, 2, ("x", 1)), f(1, x=1), f(1, c=4), f("1"), f(1.0), f(True), f((1,))]
    assert others == list(range(2, 11))
    with pytest.raises(TypeError, match=r"locals>\.f: missing a required argument: 'a'"):
        f()  # type: ignore[call-arg]


def test_arguments_that_look_alike_do_not_meet(clock: FakeClock) -> None:
    """('a b',) and ('a', 'b'), 1 and '1', None and 'None' are different calls."""

    @cache_region("short")
    def f(*args: Any) -> tuple[Any, ...]:
        return args

    for args in (("a b",), ("a", "b"), (1,), ("1",), (None,), ("None",), ()):
        assert f(*args) == args


def test_argument_without_a_key(clock: FakeClock) -> None:
    """An argument no key can be built from is refused, not printed."""
    with pytest.raises(UncacheableArgument):
        module_level(object())  # type: ignore[arg-type]


def test_expiry(clock: FakeClock, calls: list[Any]) -> None:
    """Results are created anew after the region's expire."""

    @cache_region("short")
    def f() -> int:
        calls.append(1)
        return len(calls)

    assert (f(), f()) == (1, 1)
    clock.advance(60)
    assert f() == 2


def test_deco_args_separate_functions_of_one_name(clock: FakeClock) -> None:
    """Two functions of the same name in one module stay apart by the decorator's arguments, and by what they close
    over."""

    def make(result: str, *deco_args: str) -> Any:
        @cache_region("short", *deco_args)
        def load(x: int) -> str:
            return result

        return load

    assert make("one", "a")(1) == "one"
    assert make("two", "b")(1) == "two"
    assert make("three", "a")(1) == "three"


def test_invalidate_in_every_form(clock: FakeClock, calls: list[Any]) -> None:
    """One result is forgotten by the function's own method, by the manual's call, and by namespace."""

    @cache_region("short", "some_data")
    def load(term: str, limit: int = 20) -> int:
        calls.append(term)
        return len(calls)

    load("other")
    namespace = load.namespace
    forms: list[Any] = [
        lambda: load.invalidate("rabbits"),
        lambda: load.invalidate(limit=20, term="rabbits"),
        lambda: region_invalidate(load, None, "some_data", "rabbits", 20),
        lambda: region_invalidate(load, None, "some_data", "rabbits"),
        lambda: region_invalidate(load, "short", "some_data", "rabbits"),
        lambda: region_invalidate(namespace, "short", "some_data", "rabbits", 20),
        lambda: region_invalidate(load.original, "short", "some_data", "rabbits", 20),
        load.invalidate_all,
    ]
    for invalidate in forms:
        before = load("rabbits")
        assert load("rabbits") == before
        invalidate()
        assert load("rabbits") == before + 1
    with pytest.raises(ConfigError, match="decorator's arguments must come first"):
        region_invalidate(load, None, "rabbits")
    with pytest.raises(ConfigError, match="which region"):
        region_invalidate(namespace, None, "rabbits")
    assert namespace == f"{__name__}:test_invalidate_in_every_form.<locals>.load"


def test_invalidate_spares_other_results(clock: FakeClock, calls: list[Any]) -> None:
    """Only the named result is forgotten."""

    @cache_region("short")
    def f(x: int) -> int:
        calls.append(x)
        return x

    f(1), f(2)
    f.invalidate(1)
    f(1), f(2)
    assert calls == [1, 2, 1]


def test_enabled_is_looked_at_on_each_call(clock: FakeClock, calls: list[Any]) -> None:
    """Caching is switched off and on in place, in a region and in a manager; text counts too. Earlier results stay
    forgotten."""
    manager = CacheManager(clock=clock)

    @cache_region("short")
    def in_region() -> int:
        calls.append(1)
        return len(calls)

    @manager.cache()
    def in_manager() -> int:
        calls.append(1)
        return len(calls)

    for function, options in ((in_region, cache_regions["short"]), (in_manager, manager.kwargs)):
        first = function()
        assert function() == first
        options["enabled"] = False
        assert function() == first + 1
        options["enabled"] = "off"
        assert function() == first + 2
        options["enabled"] = True
        assert function() == function() == first + 3

    @manager.cache(enabled=False)
    def never() -> int:
        calls.append(1)
        return len(calls)

    never.invalidate()
    assert never() != never()


def test_changed_region_is_noticed(clock: FakeClock, calls: list[Any], tmp_path: Path) -> None:
    """A region that is replaced counts at the next call; one changed in place at the next creation."""

    @cache_region("short")
    def f() -> int:
        calls.append(1)
        return len(calls)

    assert f() == 1
    cache_regions["short"] = {"type": "file", "data_dir": str(tmp_path), "clock": clock, "expire": 60}
    assert (f(), f()) == (2, 2)
    cache_regions["short"]["expire"] = 10
    clock.advance(60)
    assert f() == 3
    clock.advance(10)
    assert f() == 4


def test_ignore_key_and_version(clock: FakeClock, calls: list[Any]) -> None:
    """Arguments that do not matter are ignored, a key is shaped by callable or format, a version starts anew."""

    def run(*args: Any) -> int:
        calls.append(args)
        return len(calls)

    @cache_region("short", ignore=("request",))
    def ignoring(request: object, x: int, **more: Any) -> int:
        return run(request, x)

    assert ignoring(object(), 1) == ignoring(object(), x=1) == ignoring(request=None, x=1) == 1

    @cache_region("short", key="user:{user[id]}:{page}")
    def formatted(user: dict[str, Any], page: int = 1) -> int:
        return run(user, page)

    assert formatted({"id": 5, "seen": 1}) == formatted({"id": 5, "seen": 2}, page=1) == 2
    assert formatted({"id": 6}) == 3

    @cache_region("short", key=lambda user, page=1: (user["id"], page))
    def by_callable(user: dict[str, Any], page: int = 1) -> int:
        return run(user, page)

    assert by_callable({"id": 5, "x": 1}) == by_callable({"id": 5}) == 4
    formatted.invalidate({"id": 5})
    assert formatted({"id": 5}) == 5

    def versioned(version: object) -> Any:
        @cache_region("short", version=version)
        def f() -> int:
            return run()

        return f

    assert versioned(1)() == versioned(1)() == 6
    assert versioned(2)() == 7
    with pytest.raises(ConfigError, match="no parameter 'requst'"):
        cache_region("short", ignore=("requst",))(run)
    with pytest.raises(ConfigError, match="key"):
        cache_region("short", key=5)(run)  # type: ignore[arg-type]


def test_key_length_and_legacy_keys(clock: FakeClock, tmp_path: Path) -> None:
    """A long key becomes a digest; legacy_keys join the text of the arguments, as old versions did."""
    cache_regions["tiny"] = {"key_length": 20, "clock": clock, "max_entries": 77}
    cache_regions["old"] = {"legacy_keys": True, "clock": clock, "max_entries": 78}

    @cache_region("tiny")
    def f(x: str) -> str:
        return x

    assert (f("x" * 100), f("x" * 99 + "y"), f("short")) == ("x" * 100, "x" * 99 + "y", "short")
    f.invalidate("x" * 100)
    keys = CacheManager(clock=clock, max_entries=77).get_cache(f.namespace).keys()
    assert sorted(map(len, keys))[0] <= 20
    assert max(map(len, keys)) < 80

    @cache_region("old", "deco")
    def g(a: Any, b: Any = 2) -> Any:
        return a

    assert g(1) == 1
    assert g("1") == 1
    assert CacheManager(clock=clock, max_entries=78).get_cache(g.namespace).keys() == ["deco 1 2"]


def test_what_cannot_be_cached_is_refused_when_decorating() -> None:
    """Generators give something that can be used once; that is said at once."""

    async def stream() -> AsyncIterator[int]:
        yield 1

    def generator() -> Iterator[int]:
        yield 1

    for function in (stream, generator, 5):
        with pytest.raises(ConfigError, match=r"cached|function"):
            cache_region("short")(function)  # type: ignore[arg-type]


def test_pickle_of_a_decorated_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decorated function is pickled by its name, like any function."""
    probe = cache_region("short")(_probe)
    monkeypatch.setattr(clock_module, "probe", probe, raising=False)
    assert pickle.loads(pickle.dumps(probe)) is probe


def _probe() -> None: ...


_probe.__module__ = clock_module.__name__
_probe.__qualname__ = _probe.__name__ = "probe"
