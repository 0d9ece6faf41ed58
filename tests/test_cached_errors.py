"""Errors and warnings of caches: where, what, and what to do; wrong arguments at construction."""

from __future__ import annotations

import enum
import inspect
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import Cache, CacheManager, cache_region, cache_regions
from beaker.exceptions import BeakerException, BeakerWarning, ConfigError, UncacheableArgument, UnserializableValue


@pytest.fixture(autouse=True)
def _regions() -> Iterator[None]:
    cache_regions.clear()
    yield
    cache_regions.clear()


class Colour(enum.Enum):
    RED = 1


WRONG: dict[str, Callable[[], object]] = {
    "a text for the options": lambda: CacheManager("x"),
    "a dict for the options": lambda: CacheManager({"type": "memory"}),
    "None for the options": lambda: CacheManager(None),
    "regions as a dict": lambda: CacheManager(regions={"short": {}}),
    "cache_regions as a list": lambda: CacheManager(cache_regions=["short"]),
    "a region that is no dict": lambda: CacheManager(cache_regions={"short": "x"}),
    "a namespace that is no text": lambda: Cache(5),  # type: ignore[arg-type]
    "no namespace": lambda: CacheManager().get_cache(None),  # type: ignore[arg-type]
    "a type that is no manager": lambda: Cache("n", type=int),  # type: ignore[arg-type]
    "createfunc that is no function": lambda: Cache("n").get("k", createfunc=5),
    "bare @cache_region": lambda: cache_region(lambda: 1),  # type: ignore[arg-type]
    "a region that is no text": lambda: cache_region(5),  # type: ignore[arg-type]
    "bare @manager.region": lambda: CacheManager().region(lambda: 1),  # type: ignore[arg-type]
    "bare @manager.cache": lambda: CacheManager().cache(lambda: 1),
    "ignore that is no list": lambda: cache_region("r", ignore=5)(lambda: 1),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("mistake", WRONG)
def test_wrong_arguments_fail_at_construction(mistake: str) -> None:
    """A wrong argument is a ConfigError that names it, where it was given and not where it is used."""
    with pytest.raises(ConfigError) as caught:
        WRONG[mistake]()
    assert caught.value.option


def test_errors_of_a_region_name_it() -> None:
    """What is wrong in a region is said with its name, at construction or at the first call."""
    broken = {"type": "ext:memcached"}
    with pytest.raises(ConfigError, match="cache region 'far': option 'url' is missing"):
        CacheManager(cache_regions={"far": broken})
    cache_regions["far"] = broken
    function = cache_region("far")(lambda: 1)
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"^cache region 'far': option 'url' is missing"):
            function()
    with pytest.raises(ConfigError, match="cache region 'far': option 'url'"):
        CacheManager().get_cache_region("n", "far")
    cache_regions["far"] = "short"  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="cache region 'far' is no mapping"):
        function()


def test_errors_of_a_key_name_function_and_parameter() -> None:
    """An argument no key can be built from is named as the function's author named it."""
    cache_regions["short"] = {}

    @cache_region("short", "deco")
    def load(term: Any, limit: int = 5, *rest: Any, **more: Any) -> None: ...

    class Shop:
        @cache_region("short")
        def price(self, item: Any) -> None: ...

    for call, name in (
        (lambda: load(object()), "term"),
        (lambda: load(1, 2, object()), "rest"),
        (lambda: load(1, x=object()), "more"),
        (lambda: load.invalidate(object()), "term"),
        (lambda: load.get(object()), "term"),
        (lambda: Shop().price(object()), "item"),
    ):
        with pytest.raises(UncacheableArgument, match=rf"^argument '{name}' of .*(load|price): .*__cache_key__"):
            call()


@pytest.mark.parametrize(
    ("value", "options", "advice"),
    [
        (Colour.RED, {}, "cache.secret"),
        (Colour.RED, {"serializer": "json"}, "'serializer' at 'auto'"),
        ({"a": [lambda: 1]}, {}, "plain data"),
        (lambda: 1, {"serializer": "json"}, "plain data"),
    ],
)
def test_advice_is_true(
    value: Any, options: dict[str, Any], advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For what JSON cannot hold, signing is advised only where a signed pickle would hold it, and then it does."""
    from beaker.crypto.place import PlaceKey

    monkeypatch.setattr(PlaceKey, "current", lambda self: None)
    cache = CacheManager(type="file", data_dir=str(tmp_path), **options).get_cache("n")
    with pytest.raises(UnserializableValue, match=advice):
        cache.put("k", value)
    if "secret" in advice:
        signed = CacheManager(type="file", data_dir=str(tmp_path), secret="k3J8vQz1mN5pR7tX9wB2cD4fG6hL0sYa")
        signed.get_cache("n").put("k", value)
        assert signed.get_cache("n").get("k") is value
    else:
        assert "cache.secret" not in str(caught_message(cache, value))


def caught_message(cache: Cache, value: Any) -> BeakerException:
    with pytest.raises(UnserializableValue) as caught:
        cache.put("k", value)
    return caught.value


def test_warnings_point_at_the_caller(tmp_path: Path) -> None:
    """A warning's line is the line of the application that led to it, however deep inside it was noticed."""

    class Stateful:
        def __init__(self) -> None:
            self.n = 1

        @cache_region("short")
        def first(self) -> int:
            return 1

        @cache_region("short")
        def second(self) -> int:
            return 1

    cache_regions["short"] = {}
    cache = CacheManager().get_cache("n")

    def line() -> int:
        frame = inspect.currentframe()
        assert frame is not None
        assert frame.f_back is not None
        return frame.f_back.f_lineno

    seen: list[tuple[int, Any]] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        seen.append((line(), Stateful().first()))
        seen.append((line(), Stateful().second.get()))
        seen.append((line(), cache.has_key("k") or cache.put("k", 1, data_dir=str(tmp_path))))  # type: ignore[func-returns-value]
        seen.append((line(), cache.get("k", data_dir=str(tmp_path))))
    assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, number) for number, _ in seen]
    assert all(issubclass(warning.category, BeakerWarning) for warning in caught)
