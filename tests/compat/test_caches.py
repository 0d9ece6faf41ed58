"""Caches by the names programs reach them by: clsmap, cache_managers, a replaced cache_regions, dictionaries."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

import beaker.cache
from beaker import container
from beaker.cache import Cache, CacheManager, cache_region
from beaker.exceptions import InvalidCacheBackendError
from beaker.ext.rediscluster import RedisClusterNamespaceManager, cluster_url
from beaker.session import Session
from beaker.storage.redis.client import parse_url
from beaker.util import SyncDict
from tests.servers import RedisServer

dictionaries: SyncDict[str, dict[str, Any]] = SyncDict()


class Dictionary(container.AbstractDictionaryNSManager):
    def __init__(self, namespace: str, **options: Any) -> None:
        super().__init__(namespace)
        self.dictionary = dictionaries.get(namespace, dict)


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, fresh in (
        ("clsmap", beaker.cache._backends()),
        ("cache_regions", {}),
        ("cache_managers", type(beaker.cache.cache_managers)()),
    ):
        monkeypatch.setattr(beaker.cache, name, fresh)
    yield
    dictionaries.clear()


def test_a_manager_over_a_dictionary() -> None:
    """AbstractDictionaryNSManager needs nothing but the dictionary."""
    cache = Cache("words", type=Dictionary)
    cache["a"] = 1
    assert (cache["a"], "a" in cache, list(cache), len(dictionaries["words"])) == (1, True, ["a"], 1)
    del cache["a"]
    cache["b"] = 2
    cache.clear()
    assert dictionaries["words"] == {}


def test_a_manager_that_imports_what_it_needs() -> None:
    """_init_dependencies is called before anything else is, as managers for uWSGI and DynamoDB expect."""

    class Needing(Dictionary):
        library: ClassVar[Any] = None

        @classmethod
        def _init_dependencies(cls) -> None:
            cls.library = dictionaries

        def __init__(self, namespace: str, **options: Any) -> None:
            super().__init__(namespace, **options)
            self.dictionary = self.library.get(namespace, dict)

    assert Cache("words", type=Needing).get("a", createfunc=lambda: 1) == 1
    container.FileNamespaceManager._init_dependencies()


def test_the_namespace_of_a_cached_function() -> None:
    """Programs clear a function's cache by _arg_namespace, and find its region by _arg_region."""
    manager = CacheManager(type="memory", cache_regions={"short": {"type": "memory", "expire": 60}})
    calls: list[int] = []

    @manager.cache("words", expire=60)
    def double(n: int) -> int:
        calls.append(n)
        return 2 * n

    @cache_region("short")
    def triple(n: int) -> int:
        return 3 * n

    assert (double(1), double(1), calls) == (2, 2, [1])
    manager.get_cache(double._arg_namespace).clear()
    assert (double(1), calls) == (2, [1, 1])
    assert not hasattr(double, "_arg_region")
    assert triple._arg_region == "short"

    class Page:
        @manager.region("short")
        def title(self) -> str:
            return "x"

    assert Page().title._arg_region == "short"


class Shelf(container.OpenResourceNamespaceManager):
    """Opens and closes as managers for Beaker 1.6 and later do."""

    files: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, namespace: str, **options: Any) -> None:
        super().__init__(namespace)
        self.loaded: dict[str, Any] | None = None

    def do_open(self, flags: str, replace: bool) -> None:  # type: ignore[override]
        self.loaded = {} if replace else dict(self.files.get(self.namespace, {}))
        self.flags = flags

    def do_close(self) -> None:
        if self.flags == "c" and self.loaded is not None:
            self.files[self.namespace] = self.loaded
        self.loaded = None

    def _open(self) -> dict[str, Any]:
        assert self.loaded is not None
        return self.loaded

    def __getitem__(self, key: str) -> Any:
        return self._open()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._open()[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self._open()

    def __delitem__(self, key: str) -> None:
        del self._open()[key]

    def do_remove(self) -> None:
        self.files.pop(self.namespace, None)


def test_a_manager_that_is_told_what_may_be_dropped() -> None:
    """do_open(flags, replace) is called as Beaker 1.6 and later call it, and nothing is ever replaced as a whole."""
    cache = Cache("words", type=Shelf)
    cache["a"], cache["b"] = 1, 2
    assert (cache["a"], cache["b"], len(Shelf.files["words"])) == (1, 2, 2)
    session = Session({}, id="abc", use_cookies=False, namespace_class=Shelf)
    session["a"] = 1
    session.save()
    assert Session({}, id="abc", use_cookies=False, namespace_class=Shelf)["a"] == 1
    manager = Shelf("words")
    assert manager.acquire_write_lock(replace=True)
    manager.release_write_lock()
    assert cache["a"] == 1
    cache.clear()
    assert "words" not in Shelf.files


def test_clsmap_is_consulted_first() -> None:
    """An assigned class wins over Beaker's own and over a later look-up; deleting it brings Beaker's own back."""
    beaker.cache.clsmap["memory"] = Dictionary  # type: ignore[index]
    assert isinstance(Cache("a").namespace, Dictionary)
    del beaker.cache.clsmap["memory"]  # type: ignore[attr-defined]
    assert isinstance(Cache("a").namespace, container.MemoryNamespaceManager)


def test_clsmap_reads_like_a_mapping() -> None:
    """Known types are there with their classes; unknown ones are KeyErrors; anything but a manager is refused."""
    clsmap = beaker.cache.clsmap
    assert clsmap["file"] is container.FileNamespaceManager
    assert {"memory", "ext:redis"} <= set(clsmap)
    assert ("nothing" in clsmap, clsmap.get("nothing"), len(clsmap) > 5) == (False, None, True)
    with pytest.raises(KeyError):
        clsmap["nothing"]
    clsmap["mine"] = int  # type: ignore[index]
    with pytest.raises(InvalidCacheBackendError, match="mine"):
        Cache("a", type="mine")


def test_replaced_regions_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function decorated before the program put another mapping in the place of cache_regions uses that one."""
    calls = []

    @cache_region("tests.replaced")
    def load(n: int) -> int:
        calls.append(n)
        return n

    monkeypatch.setattr(beaker.cache, "cache_regions", {"tests.replaced": {"type": "memory", "expire": 60}})
    assert (load(1), load(1), calls) == (1, 1, [1])
    monkeypatch.setattr(beaker.cache, "cache_regions", {"tests.replaced": {"type": "null"}})
    assert (load(1), load(1), calls) == (1, 1, [1, 1, 1])


def test_every_open_cache_can_be_cleared() -> None:
    """cache_managers has the caches of managers, regions and functions; their namespaces can be told apart."""
    beaker.cache.cache_regions["tests.open"] = {"type": "memory", "expire": 60}
    manager, calls = CacheManager(type="memory"), []

    @manager.cache("tests.open")
    def load(n: int) -> int:
        calls.append(n)
        return n

    @cache_region("tests.open")
    def find(n: int) -> int:
        calls.append(n)
        return n

    def work() -> list[int]:
        manager.get_cache("tests.words")["a"] = 1
        return [load(1), find(1)]

    work()
    work()
    assert calls == [1, 1]
    names = {cache.namespace.namespace for cache in beaker.cache.cache_managers.values()}
    assert "tests.words" in names
    assert any("load" in name for name in names)
    for name, cache in beaker.cache.cache_managers.items():
        assert name.startswith(cache.namespace_name)
        cache.clear()
    assert "a" not in manager.get_cache("tests.words")
    work()
    assert calls == [1, 1, 1, 1]


def test_no_secret_in_the_names_of_open_caches() -> None:
    """The options of a cache are not in the name it is listed by; two sets of options are two caches."""
    for secret in ("x" * 8 + "K2l9ZgT8v5mQwXy0Rj3uBn7s", "y" * 8 + "K2l9ZgT8v5mQwXy0Rj3uBn7s"):
        CacheManager(type="memory", secret=secret).get_cache("tests.secrets")
    names = [name for name in beaker.cache.cache_managers if name.startswith("tests.secrets")]
    assert len(names) == 2
    assert not any("K2l9" in name for name in names)


def test_clearing_beside_other_threads() -> None:
    """The list of caches is that of one moment: opening others meanwhile does not disturb it."""
    manager, stop = CacheManager(type="memory"), threading.Event()

    def open_more() -> None:
        number = 0
        while not stop.is_set():
            manager.get_cache(f"tests.many{number % 2000}")
            number += 1

    thread = threading.Thread(target=open_more)
    thread.start()
    try:
        for _ in range(200):
            for cache in beaker.cache.cache_managers.values():
                assert cache.namespace_name.startswith("tests.many")
    finally:
        stop.set()
        thread.join()


def test_the_decorator_by_its_inner_name() -> None:
    """_cache_decorate: a region of the module, of a manager, or a manager's own options."""
    beaker.cache.cache_regions["tests.inner"] = {"type": "memory", "expire": 60}
    manager, calls = CacheManager(type="memory"), []
    for arguments in ((("a",), None, None, "tests.inner"), (("b",), manager, {"expire": 60}, None)):

        def load(n: int) -> int:
            calls.append(n)
            return n

        cached = beaker.cache._cache_decorate(*arguments)(load)
        assert [cached(1), cached(1)] == [1, 1]
    assert calls == [1, 1]


def test_region_caches_take_further_options() -> None:
    """get_cache_region passes what else is given on to the cache, as Mako's plug-in does."""
    manager = CacheManager(type="memory", regions="short", **{"short.expire": "60"})
    assert manager.get_cache_region("words", "short").expiretime == 60
    assert manager.get_cache_region("words", "short", expire=5).expiretime == 5


def test_redis_by_its_older_names(redis_server: RedisServer) -> None:
    """The manager of redisnm keeps values; its synchronizer is held by one at a time."""
    from beaker.ext.redisnm import RedisNamespaceManager, RedisSynchronizer

    manager = RedisNamespaceManager("tests.older", url=redis_server.url)
    manager["a"] = [1]
    assert manager["a"] == [1]
    manager.remove()
    one, other = (RedisSynchronizer("tests.older", redis_server.url) for _ in range(2))
    assert one.acquire_write_lock()
    assert other.acquire_write_lock(wait=False) is False
    assert other.acquire_read_lock(wait=False) is False
    one.release_write_lock()
    assert other.acquire_read_lock(wait=False)
    other.release_read_lock()


@pytest.mark.parametrize(
    "urls",
    [
        "127.0.0.1:7000,127.0.0.1:7001",
        ["127.0.0.1:7000", "redis://127.0.0.1:7001"],
        "redis+cluster://127.0.0.1:7000,127.0.0.1:7001",
    ],
)
def test_a_cluster_by_its_older_name(urls: Any) -> None:
    """ext:rediscluster takes urls as Beaker did; nothing connects before the first value."""
    assert isinstance(
        Cache("tests.cluster", type="ext:rediscluster", urls=urls).namespace, RedisClusterNamespaceManager
    )
    place = parse_url(cluster_url(urls))
    assert (place.kind, place.nodes) == ("cluster", (("127.0.0.1", 7000), ("127.0.0.1", 7001)))
