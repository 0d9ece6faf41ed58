"""Cache, CacheManager and CacheMiddleware: the programmatic API."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import Cache, CacheManager, cache_regions
from beaker.caching import manager as manager_module
from beaker.exceptions import ConfigError, ConfigWarning, UncacheableArgument, UnserializableValue
from beaker.middleware import CacheMiddleware
from beaker.testing.clock import FakeClock
from beaker.util import parse_cache_config_options


@pytest.fixture(autouse=True)
def _regions() -> Iterator[None]:
    cache_regions.clear()
    yield
    cache_regions.clear()


@pytest.fixture(params=["memory", "file", "dbm"])
def cache(request: pytest.FixtureRequest, tmp_path: Path, fake_clock: FakeClock) -> Cache:
    name = f"{tmp_path}"
    return Cache(name, type=request.param, data_dir=str(tmp_path), expire=60, clock=fake_clock)


def test_put_get_remove(cache: Cache) -> None:
    """A value goes in, comes out, and is gone after removal; an absent one is a KeyError."""
    cache.put("a", {"x": 1})
    assert cache.get("a") == cache.get_value("a") == {"x": 1}
    assert cache.has_key("a")
    cache.set_value("a", 2)
    cache.remove_value("a")
    cache.remove("a")
    assert not cache.has_key("a")
    with pytest.raises(KeyError):
        cache.get("a")


def test_dict_interface(cache: Cache) -> None:
    """A cache is used like a dict."""
    cache["a"] = 1
    assert "a" in cache
    assert cache["a"] == 1
    assert list(cache) == ["a"]
    del cache["a"]
    assert "a" not in cache
    with pytest.raises(KeyError):
        cache["a"]


def test_createfunc_and_expiry(cache: Cache, fake_clock: FakeClock) -> None:
    """createfunc runs when there is no current value, and only then."""
    made: list[int] = []

    def create() -> int:
        made.append(1)
        return len(made)

    assert [cache.get("a", createfunc=create) for _ in range(3)] == [1, 1, 1]
    fake_clock.advance(60)
    assert "a" not in cache
    assert cache.get("a", createfunc=create) == 2


def test_expire_for_one_value(cache: Cache, fake_clock: FakeClock) -> None:
    """put and get may say how long this one value is valid, in words too."""
    cache.put("short", 1, expire=10)
    cache.put("old name", 1, expiretime="10")
    cache.put("forever", 1, expire=None)
    cache.get("delta", createfunc=lambda: 1, expire=dt.timedelta(seconds=10))
    cache["usual"] = 1
    fake_clock.advance(10)
    assert [key in cache for key in ("short", "old name", "forever", "delta", "usual")] == [
        False,
        False,
        True,
        False,
        True,
    ]
    fake_clock.advance(10**8)
    assert "forever" in cache


def test_starttime(cache: Cache, fake_clock: FakeClock) -> None:
    """Values stored before starttime count as absent."""
    cache["a"] = 1
    with pytest.raises(KeyError):
        cache.get("a", starttime=fake_clock() + 1)
    assert cache.get("a", createfunc=lambda: 2, starttime=fake_clock() + 1) == 2


def test_clear_spares_other_namespaces(cache: Cache) -> None:
    """clear() empties this namespace only."""
    other = Cache(cache.namespace_name + "x", type=cache.type, **cache.nsargs)
    cache["a"] = other["a"] = 1
    cache.clear()
    assert "a" not in cache
    assert "a" in other


def test_keys_of_other_types(cache: Cache) -> None:
    """A key may be anything a cache key can be built from; 1, '1', True and (1,) are four keys."""
    for key in (1, "1", True, (1,), None):
        cache[key] = repr(key)
    assert [cache[key] for key in (1, "1", True, (1,), None)] == ["1", "'1'", "True", "(1,)", "None"]
    with pytest.raises(UncacheableArgument):
        cache[object()] = 1


@pytest.mark.parametrize("name", ["", "\0", "a/../b", "é", "x" * 10_000, "\ud800"])
def test_odd_names(name: str, tmp_path: Path) -> None:
    """Any text is a namespace and a key."""
    for kind in ("memory", "file", "dbm"):
        cache = Cache(name, type=kind, data_dir=str(tmp_path))
        cache[name] = 1
        assert cache[name] == 1
        assert "other" not in cache
        cache.clear()


def test_many(cache: Cache, fake_clock: FakeClock) -> None:
    """Several values go in, come out and leave together; what is absent or expired is left out."""
    cache.put_many({"a": 1, 2: "two"})
    cache.put_many({"b": 3}, expire=10)
    assert cache.get_many(["a", 2, "b", "absent"]) == {"a": 1, 2: "two", "b": 3}
    fake_clock.advance(10)
    assert cache.get_many(["a", "b"]) == {"a": 1}
    cache.remove_many(["a", 2, "absent"])
    assert cache.get_many(["a", 2]) == {}


def test_unserializable_value(tmp_path: Path) -> None:
    """A value that cannot be stored raises, and the old one stays."""
    cache = Cache("ns", type="file", data_dir=str(tmp_path))
    cache["a"] = 1
    with pytest.raises(UnserializableValue):
        cache["a"] = threading.Lock()
    with pytest.raises(UnserializableValue):
        cache.get("b", createfunc=threading.Lock)
    assert cache["a"] == 1


def test_type_with_a_single_key_is_deprecated(tmp_path: Path) -> None:
    """Namespace options with one key still work as in old versions, with a DeprecationWarning."""
    cache = Cache("ns")
    with pytest.deprecated_call():
        cache.put("a", 1, type="file", data_dir=str(tmp_path))
    assert "a" not in cache
    with pytest.deprecated_call():
        assert cache.get("a", type="file", data_dir=str(tmp_path)) == 1
    assert Cache("ns", type="file", data_dir=str(tmp_path))["a"] == 1
    with pytest.deprecated_call():
        cache.remove_value("a", type="file", data_dir=str(tmp_path))


def test_options_are_coerced() -> None:
    """Strings from an INI file mean what they say, in Cache and in CacheManager."""
    assert Cache("a", expire="1h30m").expiretime == 5400.0
    assert Cache("a", expiretime="60").expiretime == 60.0
    assert CacheManager(expire="60", enabled="false").kwargs == {"expire": 60.0, "enabled": False}
    with pytest.raises(ConfigError, match="expire"):
        CacheManager(expire="soon")
    with pytest.raises(ConfigError, match="data_dir"):
        CacheManager(data_dir="")
    with pytest.raises(ConfigError, match=r"did you mean cache\.expire"):
        CacheManager(expires=5)
    with pytest.warns(ConfigWarning, match=r"did you mean cache\.jitter"):
        CacheManager(jiter=0.5)


def test_manager_opens_caches_with_its_options(tmp_path: Path) -> None:
    """get_cache uses the manager's options unless told otherwise, and remembers what is open."""
    manager = CacheManager(type="file", data_dir=str(tmp_path), expire=60)
    cache = manager.get_cache("a")
    assert (cache.type, cache.expiretime) == ("file", 60.0)
    assert manager.get_cache("a") is cache
    other = manager.get_cache("a", type="memory", expire=5)
    assert (other.type, other.expiretime) == ("memory", 5.0)
    assert manager.get_cache("a", type="dbm").namespace.store.directory.startswith(str(tmp_path))  # type: ignore[attr-defined]


def test_manager_forgets_caches_of_endless_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names made up for each request do not stay in memory."""
    monkeypatch.setattr(manager_module, "_MEMO", 10)
    manager = CacheManager()
    for n in range(100):
        manager.get_cache(str(n))
    assert len(manager._memo) <= 10


def test_regions(tmp_path: Path) -> None:
    """Regions take the general options where they say nothing, and are seen by the module's functions."""
    manager = CacheManager(
        **parse_cache_config_options(
            {
                "cache.data_dir": str(tmp_path),
                "cache.expire": "5",
                "cache.regions": "short_term, long_term",
                "cache.short_term.type": "memory",
                "cache.long_term.type": "file",
                "cache.long_term.expire": "86400",
            }
        )
    )
    short, long = (manager.get_cache_region("ns", name) for name in ("short_term", "long_term"))
    assert (short.type, short.expiretime) == ("memory", 5.0)
    assert (long.type, long.expiretime) == ("file", 86400.0)
    assert set(cache_regions) == {"short_term", "long_term"}
    with pytest.raises(ConfigError, match=r"'middle'.*long_term, short_term"):
        manager.get_cache_region("ns", "middle")


def test_manager_says_what_is_wrong_at_once(tmp_path: Path) -> None:
    """Options that can never work are errors at construction, in regions too."""
    with pytest.raises(ConfigError, match="url"):
        CacheManager(regions="far", **{"far.type": "ext:memcached"})
    with pytest.raises(ConfigError, match="needs a key"):
        CacheManager(type="ext:memcached", url="127.0.0.1:1", serializer="pickle")
    with pytest.raises(ConfigError, match="secret"):
        CacheManager(type="file", data_dir=str(tmp_path), secret="short")


def test_repr_holds_no_secret() -> None:
    """What is printed of a cache or a manager shows no url and no key."""
    manager = CacheManager(type="ext:redis", url="redis://:hunter2@127.0.0.1:1/0", secret="s" * 20 + "0123456789abcdef")
    shown = repr(manager) + repr(manager.get_cache("a"))
    assert "hunter2" not in shown
    assert "ssss" not in shown


def _app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    cache = environ["my.cache"].get_cache("page", expire=60)
    return [str(cache.get("hits", createfunc=lambda: 1)).encode()]


def test_middleware(tmp_path: Path) -> None:
    """The manager is in the environ; prefixed options are taken, other prefixes' left, keyword arguments win."""
    config = {"cache.type": "file", "cache.data_dir": str(tmp_path), "session.type": "memory", "debug": "x"}
    app = CacheMiddleware(_app, config, environ_key="my.cache", expire="7")
    assert app.cache_manager.kwargs["type"] == "file"
    assert app.cache_manager.kwargs["expire"] == 7.0
    environ: dict[str, Any] = {}
    assert list(app(environ, lambda status, headers: lambda data: None)) == [b"1"]
    assert environ["my.cache"] is app.cache_manager


def test_middleware_without_prefix() -> None:
    """When nothing is prefixed all of the config is options; without config there are defaults."""
    assert CacheMiddleware(_app, {"type": "memory", "expire": "5"}).options["expire"] == 5.0
    assert CacheMiddleware(_app).cache_manager.kwargs["type"] == "memory"
    regions = CacheMiddleware(_app, {"cache.regions": "short", "cache.short.expire": "3"}).cache_manager.regions
    assert regions["short"]["expire"] == 3.0
