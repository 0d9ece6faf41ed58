"""Different functions do not share cached results: they are told apart, or decorating them warns or raises."""

from __future__ import annotations

import functools
import importlib.util
import operator
import re
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import CacheManager, cache_region, cache_regions, region_invalidate
from beaker.caching.identity import namespace_of
from beaker.exceptions import BeakerWarning, ConfigError, ConfigWarning, UncacheableArgument
from beaker.testing.clock import FakeClock


@pytest.fixture(autouse=True)
def _regions(fake_clock: FakeClock) -> Iterator[None]:
    cache_regions.clear()
    cache_regions["short"] = {"expire": 60, "clock": fake_clock}
    yield
    cache_regions.clear()


def adder(n: Any) -> Any:
    @cache_region("short")
    def add(x: int) -> Any:
        return x, n

    return add


class Point:
    """An object with state and no key."""

    def __init__(self, x: int) -> None:
        self.x = x

    def shifted(self, by: int) -> int:
        return self.x + by


class Keyed(Point):
    def __cache_key__(self) -> int:
        return self.x

    def __call__(self, by: int) -> int:
        return self.x * by


class Stateless:
    def name(self) -> str:
        return type(self).__name__


def test_closures_of_one_factory() -> None:
    """What a function closes over tells it from its siblings, when it cannot change and has a canonical form."""
    values: list[Any] = [1, "1", 1.0, None, (1, "a"), frozenset({2}), Keyed(3), len, operator, adder, Path("a")]
    functions = [adder(value) for value in values]
    assert [function(1) for function in functions] == [(1, value) for value in values]
    assert [function(1) for function in functions] == [(1, value) for value in values]
    assert len({function.namespace for function in functions}) == len(values)
    assert adder(1).namespace == functions[0].namespace


def test_helpers_that_close_over_something() -> None:
    """A local helper is as different as what it closes over."""

    def make(n: int) -> Any:
        def helper() -> int:
            return n

        return cache_region("short")(lambda: helper())

    assert (make(1)(), make(2)()) == (1, 2)


def test_functions_that_close_over_each_other() -> None:
    """A recursive function, and two that call each other, have a name that stays."""

    @cache_region("short")
    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    @cache_region("short")
    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    assert (even(4), odd(4)) == (True, False)
    assert namespace_of(even.original) == even.namespace
    region_invalidate(even.original, "short", 4)
    assert even.get(4) is None
    assert even.get(2) is True


def test_lambdas() -> None:
    """Lambdas are told apart by what they compute, defaults and free variables included."""
    one, two = cache_region("short")(lambda x: x + 1), cache_region("short")(lambda x: x + 2)
    assert (one(1), two(1)) == (2, 3)
    for n in range(3):
        assert cache_region("short")(lambda x: x * n)(5) == 5 * n  # noqa: B023
        assert cache_region("short")(lambda x, n=n: x * n)(7) == 7 * n
    assert cache_region("short")(lambda x: x + 1).namespace == one.namespace


def test_names_are_the_same_in_every_process() -> None:
    """A namespace is built from values, never from identities or Python's random hashes."""
    program = textwrap.dedent(
        """
        from beaker.caching.identity import namespace_of
        def make(a, b):
            return lambda: (a, b, {"x", "y", "z"} & {a})
        print(namespace_of(make("q", frozenset({"u", "v", "w"}))))
        """
    )
    command = [sys.executable, "-c", program]
    names = {
        subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2", "3")
    }
    assert len(names) == 1


def test_module_level_names_stay() -> None:
    """A function that its module holds is named module:qualname, however it is wrapped."""

    def wrap(function: Any, n: int) -> Any:
        @functools.wraps(function)
        def inner(*args: Any) -> Any:
            return n, function(*args)

        return inner

    assert cache_region("short")(wrap(adder, 1)).namespace == f"{__name__}:adder"


def test_closures_over_what_has_no_key(recwarn: pytest.WarningsRecorder) -> None:
    """Two living closures over different objects without a key are warned of, at the line that decorates."""
    first = adder(Point(1))
    assert not recwarn.list
    line = adder.__code__.co_firstlineno + 1  # of the decorator; Python 3.10 says that of the def below it
    with pytest.warns(ConfigWarning, match=r"adder.*add share their cached results.*'n'") as caught:
        second = adder(Point(2))
    assert caught[0].filename == __file__
    assert caught[0].lineno == line + (sys.version_info < (3, 11))
    assert caught[0].message.code == "cache.shared-by-functions"  # type: ignore[union-attr]
    assert first(1) == second(1)


def test_lambdas_that_close_over_what_has_no_key() -> None:
    """Two lambdas that read the same and close over different objects are warned of."""
    here, there = Point(1), Point(2)

    def make(point: Point) -> Any:
        return lambda: point.x

    kept = cache_region("short")(make(here))
    with pytest.warns(ConfigWarning, match="'point'"):
        cache_region("short")(make(there))
    assert kept() == 1


def test_closures_over_what_has_no_key_in_a_strict_region() -> None:
    """With strict they are an error."""
    cache_regions["short"]["strict"] = True
    first = adder(Point(1))
    with pytest.raises(ConfigError, match="share their cached results"):
        adder(Point(2))
    assert first(1)
    manager = CacheManager(strict=True)
    kept = [manager.cache()(make) for make in (lambda: Point(1), lambda: Point(2))]
    assert len({function.namespace for function in kept}) == 2


def test_closures_decorated_in_every_call(recwarn: pytest.WarningsRecorder) -> None:
    """The manual's way, a function decorated in each call of another, is not warned of: one at a time, or named."""

    def view(request: Point) -> int:
        @cache_region("short")
        def load(x: int) -> int:
            return request.x + x

        return load(1)

    def named(request: Point) -> Any:
        @cache_region("short", "some_data")
        def load(x: int) -> int:
            return request.x + x

        return load

    assert view(Point(1)) == view(Point(2)) == 2
    kept = [named(Point(1)), named(Point(2))]
    assert [load(1) for load in kept] == [2, 2]
    assert not recwarn.list


MODULE = """
from beaker.cache import cache_region

@cache_region("short")
def index(): return 1
kept = index
"""
AGAIN = """
@cache_region("short")
def index(): return 2
"""


def load(path: Path, text: str) -> Any:
    path.write_text(text, "utf-8")
    spec = importlib.util.spec_from_file_location("two_of_one_name", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_definitions_of_one_name(tmp_path: Path) -> None:
    """Two functions of one name in one file would serve each other's results: a warning, gone with an argument."""
    with pytest.warns(ConfigWarning, match="two_of_one_name:index share .* defined in different lines"):
        kept = load(tmp_path / "m.py", MODULE + AGAIN)
    assert kept.kept() == kept.index() == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = load(tmp_path / "m.py", MODULE + AGAIN.replace('"short"', '"short", "two"'))
    assert (kept.kept(), kept.index()) == (1, 2)


def test_a_definition_that_is_loaded_again(tmp_path: Path) -> None:
    """A module that was edited and reloaded, and a cell typed again at a prompt, redefine: nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = load(tmp_path / "m.py", MODULE)
        second = load(tmp_path / "m.py", "\n\n" + MODULE.replace("1", "3"))
        prompt: dict[str, Any] = {"__name__": "__main__", "__spec__": None}
        for text in (MODULE, MODULE.replace("1", "4")):
            exec(compile(text, "<stdin>", "exec"), prompt)
    assert first.index is not second.index
    assert prompt["index"].original() == 4


def test_one_function_decorated_twice(recwarn: pytest.WarningsRecorder) -> None:
    """One function in two regions, or a cache in front of a cache, is one function; wrapped differently, it is two."""
    cache_regions["long"] = {"type": "null"}

    def plain(x: int) -> int:
        return x

    def doubling(x: int) -> int:
        return 2 * plain(x)

    first = cache_region("short")(plain)
    second = cache_region("long")(plain)
    third = cache_region("long")(first)
    assert (first(1), second(1), third(1)) == (1, 1, 1)
    assert not recwarn.list
    with pytest.warns(ConfigWarning, match="wrapped differently"):
        cache_region("short")(functools.wraps(plain)(doubling))


def test_bound_methods() -> None:
    """A bound method is cached for its instance; without a key for it, instances share, which is warned of."""
    one, two = (cache_region("short")(Keyed(n).shifted) for n in (1, 2))
    assert (one(10), two(10), one(by=10)) == (11, 12, 11)
    one.invalidate(10)
    assert one.get(10) is None
    assert two.get(10) == 12
    with pytest.warns(BeakerWarning, match=r"shifted.*__cache_key__") as caught:
        cache_region("short")(Point(1).shifted)
    assert caught[0].filename == __file__
    cache_regions["short"]["strict"] = True
    with pytest.raises(UncacheableArgument, match="__cache_key__"):
        cache_region("short")(Point(1).shifted)
    assert cache_region("short")(Stateless().name)() == "Stateless"


def test_objects_that_can_be_called() -> None:
    """An object with a call of its own is cached by its key, as a method is."""
    two, three = (cache_region("short")(Keyed(n)) for n in (2, 3))
    assert (two(10), three(10), two(10)) == (20, 30, 20)
    assert two.original(10) == 20


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (functools.partial(adder, 1), "partial"),
        (operator.itemgetter(1), "function or method"),
        ({}.get, r"dict\.get is bound"),
        (re.compile("x").match, "bound to an object"),
        (int, "parameters"),
        (5, "function or method"),
    ],
)
def test_what_cannot_be_told_apart(function: Callable[..., Any], why: str) -> None:
    """What has neither a name of its own nor a key is refused when it is decorated, with the way out."""
    with pytest.raises(ConfigError, match=why) as caught:
        cache_region("short")(function)
    assert "cache a function that calls it" in str(caught.value)
