"""Backends by name: registration, entry points, extras, errors; and the ext faces' arguments."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beaker import backends
from beaker.cache import Cache, CacheManager
from beaker.caching import registry
from beaker.config.extras import EXTRAS
from beaker.config.options import SessionOptions
from beaker.container import MemoryNamespaceManager
from beaker.crypto.keyring import new_key
from beaker.exceptions import ConfigWarning, InvalidCacheBackendError, MissingCacheParameter
from beaker.session.context import SessionContext


class Mine(MemoryNamespaceManager):
    """A third party's manager."""


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(registry, "_loaded", {})


@pytest.mark.parametrize("name", backends.known())
def test_every_known_name_loads(name: str) -> None:
    """Every name of a backend leads to its manager class."""
    assert backends.load(name).__name__.endswith("NamespaceManager")


def test_register_backend() -> None:
    """A backend is registered by class or by 'module:attribute' and may replace one of ours."""
    backends.register_backend("mine", Mine)
    backends.register_backend("ext:yours", f"{__name__}:Mine")
    backends.register_backend("null", Mine)
    assert backends.load("mine") is backends.load("null") is Mine
    assert backends.load("ext:yours").__name__ == "Mine"
    assert isinstance(Cache("x", type="mine").namespace, Mine)
    assert backends.load(Mine) is Mine


def test_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown name is looked up among the entry points, a known one never is."""
    asked: list[str] = []

    class Point:
        name = "third"
        value = "third.party:Manager"

        def load(self) -> Any:
            return Mine

    def entry_points(*, group: str) -> list[Point]:
        asked.append(group)
        return [Point()]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    backends.load("memory")
    assert asked == []
    assert backends.load("third") is Mine
    assert backends.load("ext:third") is Mine
    assert asked == ["beaker.backends"] * 2
    backends.load("third")
    assert len(asked) == 2


def test_broken_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution whose backend cannot be imported is named, whatever it raises."""

    class Point:
        name = "broken"
        value = "broken:Manager"

        def load(self) -> Any:
            raise SyntaxError("bad")

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Point()])
    with pytest.raises(InvalidCacheBackendError, match="broken:Manager"):
        backends.load("broken")


def test_unknown_name_suggests_the_nearest() -> None:
    """A misspelt type is an ImportError too, and says which names there are."""
    with pytest.raises(InvalidCacheBackendError, match="ext:memcached") as caught:
        Cache("x", type="ext:memcache")
    assert isinstance(caught.value, ImportError)
    with pytest.raises(InvalidCacheBackendError, match="'memory'"):
        CacheManager(type="memroy")
    with pytest.raises(InvalidCacheBackendError, match=r"no cache backend 'cookie'.*is a type of sessions"):
        CacheManager(type="cookie")
    for wrong, right in (("cokie", "cookie"), ("hybird", "hybrid"), ("flie", "file")):
        with pytest.raises(InvalidCacheBackendError, match=f"no session type .*hybrid.*did you mean '{right}'"):
            SessionContext(SessionOptions(type=wrong, secret=new_key()))
    with pytest.raises(InvalidCacheBackendError, match="no cache backend 'cookie'"):
        SessionContext(SessionOptions(type="hybrid", secret=new_key(), store="cookie"))


@pytest.mark.parametrize("target", ["no.such.module:X", f"{__name__}:Missing", f"{__name__}:Path", "nocolon", ":x"])
def test_target_that_is_no_manager(target: str) -> None:
    """A target that cannot be imported, or is no manager class, is refused by name."""

    def register_and_load() -> None:
        backends.register_backend("bad", target)
        backends.load("bad")

    with pytest.raises(InvalidCacheBackendError, match="'bad'"):
        register_and_load()


@pytest.mark.parametrize(
    ("name", "extra"),
    [("ext:google", "google"), ("ext:memcached", "memcached"), ("ext:database", "database"), ("redis", "redis")],
)
def test_missing_extra(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package a backend needs, the error at construction says what to install."""
    monkeypatch.setattr(registry, "find_spec", lambda package: None)
    with pytest.raises(InvalidCacheBackendError, match=rf"beaker-gae\[{extra}\]"):
        CacheManager(type=name)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("ext:memcached", "url"),
        ("ext:redis", "url"),
        ("ext:database", "url"),
        ("ext:sqla", "bind"),
    ],
)
def test_missing_option(name: str, option: str) -> None:
    """A missing required option is an error at construction that names it."""
    with pytest.raises(MissingCacheParameter) as caught:
        CacheManager(type=name)
    assert caught.value.option == option


def test_memcache_module_is_explained() -> None:
    """Asking for another memcached client is accepted, with a reason why it has no effect."""
    with pytest.warns(ConfigWarning, match="pymemcache is always used"):
        Cache("x", type="ext:memcached", url="127.0.0.1:11211", memcache_module="pylibmc")


def test_sa_options(tmp_path: Path) -> None:
    """Engine options are taken from sa_opts and from sa.NAME; sa.url stands for url; optimistic is accepted."""
    pytest.importorskip("sqlalchemy")
    url = f"sqlite:///{tmp_path}/x.db"
    first = Cache("x", type="ext:database", url=url, sa_opts={"echo": False}, optimistic=True)
    options: dict[str, Any] = {"sa.url": url, "sa.echo": False}
    second = Cache("y", type="ext:database", **options)
    first["a"] = 1
    assert first.namespace.store is second.namespace.store  # type: ignore[attr-defined]
    assert Cache("x", type="database", url=url)["a"] == 1


def test_nothing_heavy_is_imported() -> None:
    """Importing the cache, and using memory and file, loads no client library and no metadata."""
    code = (
        "import sys, tempfile\n"
        "before = set(sys.modules)\n"
        "from beaker.cache import Cache\n"
        "Cache('a')['x'] = 1\n"
        "Cache('a', type='file', data_dir=tempfile.mkdtemp())['x'] = 1\n"
        "heavy = ('google.', 'grpc', 'sqlalchemy', 'pymemcache', 'redis', 'cryptography', 'sqlite3')\n"
        "print([name for name in set(sys.modules) - before if name.startswith(heavy)])\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert run.stdout.strip() == "[]"


def test_find_spec_is_real() -> None:
    """The packages named for the extras are the ones that are imported."""
    for extra in registry._EXTRAS.values():
        assert importlib.util.find_spec(EXTRAS[extra].module) is not None


def test_older_paths_of_documented_names() -> None:
    """A backend written from older pages still imports: the same objects under the paths they named."""
    from beaker import bridge, cache, container, namespace
    from beaker.caching import call_key, decorated, entry, factory, open_resource, store_manager, value
    from beaker.caching import namespace as managers

    assert namespace.NamespaceManager is managers.NamespaceManager
    assert namespace.EntryNamespaceManager is managers.EntryNamespaceManager
    assert namespace.StoreNamespaceManager is store_manager.StoreNamespaceManager
    assert namespace.OpenResourceNamespaceManager is open_resource.OpenResourceNamespaceManager
    assert (bridge.given, bridge.store_for) == (factory.given, factory.store_for)
    assert (cache.CachedFunction, cache.CallKey) == (decorated.CachedFunction, call_key.CallKey)
    assert (container.Value, container.Entry) == (value.Value, entry.Entry)
