"""The examples of the manual's chapters 1 and 3, run: configuration and caching."""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import beaker.cache
from beaker.cache import CacheManager, cache_region, region_invalidate
from beaker.container import DBMNamespaceManager, FileNamespaceManager
from beaker.testing.clock import FakeClock
from beaker.util import parse_cache_config_options


@pytest.fixture(autouse=True)
def _regions() -> Iterator[None]:
    beaker.cache.cache_regions.clear()
    yield
    beaker.cache.cache_regions.clear()


@pytest.fixture
def searches() -> list[Any]:
    """What get_data and load_the_data were asked for."""
    return []


@pytest.fixture
def cache(tmp_path: Path) -> CacheManager:
    """The CacheManager of 3.2, its directories under the test's own."""
    cache_opts = {
        "cache.type": "file",
        "cache.data_dir": f"{tmp_path}/cache/data",
        "cache.lock_dir": f"{tmp_path}/cache/lock",
    }
    return CacheManager(**parse_cache_config_options(cache_opts))


def test_1_configuration_of_the_cache_manager(cache: CacheManager, tmp_path: Path) -> None:
    """Chapter 1 and 3.2: a dict of prefixed options builds a CacheManager with files where they say."""
    manager = cache.get_cache("x").namespace
    assert isinstance(manager, FileNamespaceManager)
    manager["a"] = 1
    assert (tmp_path / "cache" / "data" / "container_file").is_dir()


def test_1_ini_file(tmp_path: Path) -> None:
    """Chapter 1: options of an INI file, prefixed by beaker. and all of them strings, with %(here)s filled in."""
    ini = configparser.ConfigParser({"here": str(tmp_path)})
    ini.read_string(
        "[app:main]\n"
        "beaker.cache.type = file\n"
        "beaker.cache.data_dir = %(here)s/data/cache/data\n"
        "beaker.cache.lock_dir = %(here)s/data/cache/lock\n"
        "beaker.cache.enabled = true\n"
        "beaker.session.cookie_expires = true\n"
        "beaker.session.data_dir = %(here)s/data/sessions/data\n"
    )
    options = parse_cache_config_options(dict(ini["app:main"]))
    assert options["data_dir"] == f"{tmp_path}/data/cache/data"
    assert options["enabled"] is True
    CacheManager(**options).get_cache("x")["a"] = 1


def test_1_1_memcached_url() -> None:
    """1.1: one memcached server, or several separated by semicolons."""
    for url in ("127.0.0.1:11211", "127.0.0.1:11211;127.0.0.1:11212"):
        options = parse_cache_config_options({"cache.type": "ext:memcached", "cache.url": url})
        assert CacheManager(**options).get_cache("x").type == "ext:memcached"


def test_1_3_1_regions(tmp_path: Path) -> None:
    """1.3.1: two regions; options that a region does not list are the general ones."""
    cache_opts = {
        "cache.data_dir": f"{tmp_path}/cache/data",
        "cache.lock_dir": f"{tmp_path}/cache/lock",
        "cache.regions": "short_term, long_term",
        "cache.short_term.type": "ext:memcached",
        "cache.short_term.url": "127.0.0.1:11211",
        "cache.short_term.expire": "3600",
        "cache.long_term.type": "file",
        "cache.long_term.expire": "86400",
    }
    regions = parse_cache_config_options(cache_opts)["cache_regions"]
    assert regions["short_term"]["type"] == "ext:memcached"
    assert regions["short_term"]["url"] == "127.0.0.1:11211"
    assert regions["short_term"]["expire"] == 3600
    assert regions["long_term"]["type"] == "file"
    assert regions["long_term"]["expire"] == 86400
    assert regions["long_term"]["data_dir"] == regions["short_term"]["data_dir"] == f"{tmp_path}/cache/data"
    cache = CacheManager(**parse_cache_config_options(cache_opts))
    cache.get_cache_region("x", "long_term")["a"] = 1


def test_3_3_programmatic_api(cache: CacheManager, searches: list[Any]) -> None:
    """3.3: a namespace of its own type and expiry, and a value created by a creation function."""
    tmpl_cache = cache.get_cache("mytemplate.html", type="dbm", expire=3600)
    assert isinstance(tmpl_cache.namespace, DBMNamespaceManager)
    search_param = "gophers"

    def get_results() -> list[str]:
        searches.append(search_param)
        return [search_param]

    for _ in range(2):
        results = tmpl_cache.get(key=search_param, createfunc=get_results)
        assert results == ["gophers"]
    assert searches == ["gophers"]


def test_3_3_1_invalidating(cache: CacheManager) -> None:
    """3.3.1: clear() empties the namespace, remove_value(key=...) removes one value."""
    tmpl_cache = cache.get_cache("mytemplate.html", type="dbm", expire=3600)
    tmpl_cache.put("gophers", 1)
    tmpl_cache.put("rabbits", 2)
    tmpl_cache.remove_value(key="gophers")
    assert "gophers" not in tmpl_cache
    assert "rabbits" in tmpl_cache
    tmpl_cache.clear()
    assert "rabbits" not in tmpl_cache


def test_3_4_decorator(cache: CacheManager, searches: list[Any]) -> None:
    """3.4: the decorator caches by argument and for the given time."""
    clock = FakeClock()
    cache.kwargs["clock"] = clock

    @cache.cache("my_search_func", expire=3600)
    def get_results(search_param: str) -> list[str]:
        searches.append(search_param)
        return [search_param]

    assert get_results("gophers") == get_results("gophers") == ["gophers"]
    assert get_results("rabbits") == ["rabbits"]
    assert searches == ["gophers", "rabbits"]
    clock.advance(3600)
    get_results("gophers")
    assert searches == ["gophers", "rabbits", "gophers"]


@pytest.mark.parametrize("options", [{}, {"type": "file"}])
def test_3_4_1_invalidating(cache: CacheManager, searches: list[Any], options: dict[str, Any]) -> None:
    """3.4.1: invalidate() takes the decorator's arguments, the function's, and the type if one was given."""

    @cache.cache("my_search_func", expire=3600, **options)
    def get_results(search_param: str) -> list[str]:
        searches.append(search_param)
        return [search_param]

    get_results("gophers")
    cache.invalidate(get_results, "my_search_func", "gophers", **options)
    get_results("gophers")
    assert searches == ["gophers", "gophers"]


def _region_options(tmp_path: Path) -> dict[str, Any]:
    return {
        "cache.data_dir": str(tmp_path),
        "cache.regions": "short_term, long_term",
        "cache.short_term.type": "memory",
        "cache.short_term.expire": "60",
        "cache.long_term.type": "file",
        "cache.long_term.expire": "86400",
    }


def test_3_5_region_decorator(tmp_path: Path, searches: list[Any]) -> None:
    """3.5: cache.region() caches as the region says; 3.5.1: cache.region_invalidate() forgets."""
    cache = CacheManager(**parse_cache_config_options(_region_options(tmp_path)))

    @cache.region("short_term", "my_search_func")
    def get_results(search_param: str) -> list[str]:
        searches.append(search_param)
        return [search_param]

    assert get_results("gophers") == get_results("gophers") == ["gophers"]
    assert searches == ["gophers"]
    cache.region_invalidate(get_results, None, "my_search_func", "gophers")
    get_results("gophers")
    assert searches == ["gophers", "gophers"]


def test_3_5_cache_region_before_configuration(tmp_path: Path, searches: list[Any]) -> None:
    """3.5: cache_region() decorates before anything is configured; 3.5.1: region_invalidate() forgets."""

    @cache_region("short_term", "my_search_func")
    def get_results(search_param: str) -> list[str]:
        searches.append(search_param)
        return [search_param]

    CacheManager(**parse_cache_config_options(_region_options(tmp_path)))
    assert get_results("gophers") == get_results("gophers") == ["gophers"]
    region_invalidate(get_results, None, "my_search_func", "gophers")
    get_results("gophers")
    assert searches == ["gophers", "gophers"]


def test_5_1_1_cache_region(searches: list[Any]) -> None:
    """5.1.1: regions set by cache_regions.update(), a function decorated within a function."""
    beaker.cache.cache_regions.update({"short_term": {"type": "memory", "expire": "60"}})

    def populate_things(invalidate: bool = False) -> list[Any]:
        @cache_region("short_term", "some_data")
        def load(search_term: str, limit: int, offset: int) -> list[Any]:
            searches.append(search_term)
            return [search_term, limit, offset]

        # If the results should be invalidated first
        if invalidate:
            region_invalidate(load, None, "some_data", "rabbits", 20, 0)
        result: list[Any] = load("rabbits", 20, 0)
        return result

    assert populate_things() == populate_things() == ["rabbits", 20, 0]
    assert len(searches) == 1
    populate_things(invalidate=True)
    assert len(searches) == 2


@pytest.mark.parametrize("by_region", [True, False])
def test_5_1_1_manager(tmp_path: Path, searches: list[Any], by_region: bool) -> None:
    """5.1.1: the same by CacheManager.region and CacheManager.cache, with their invalidate functions."""
    cache = CacheManager(**parse_cache_config_options(_region_options(tmp_path)))

    def populate_things(invalidate: bool = False) -> list[Any]:
        region = cache.region("short_term", "some_data")
        mycache = cache.cache("mycache", type="file", expire=15)

        @(region if by_region else mycache)
        def load(search_term: str, limit: int, offset: int) -> list[Any]:
            searches.append(search_term)
            return [search_term, limit, offset]

        # If the results should be invalidated first
        if invalidate and by_region:
            cache.region_invalidate(load, None, "some_data", "rabbits", 20, 0)
        elif invalidate:
            cache.invalidate(load, "mycache", "rabbits", 20, 0, type="file")
        result: list[Any] = load("rabbits", 20, 0)
        return result

    assert populate_things() == populate_things() == ["rabbits", 20, 0]
    assert len(searches) == 1
    populate_things(invalidate=True)
    assert len(searches) == 2


def test_4_16_removing_the_file_invalidates(cache: CacheManager, tmp_path: Path, searches: list[Any]) -> None:
    """4.16: a value whose file was removed from outside is created anew."""
    files = cache.get_cache("x")

    def create() -> int:
        searches.append(1)
        return len(searches)

    assert files.get("a", createfunc=create) == files.get("a", createfunc=create) == 1
    for path in (tmp_path / "cache" / "data").rglob("*"):
        if path.is_file() and ".lock" not in str(path):
            path.unlink()
    assert files.get("a", createfunc=create) == 2
