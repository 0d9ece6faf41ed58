"""Caches in the process's memory."""

from __future__ import annotations

import inspect
import threading
from typing import Any

from benchmarks.row import Call, Place, Row, Store, goals, puts
from benchmarks.rows import peers
from benchmarks.rows.options import options


def beaker_region(place: Place) -> Call:
    from beaker.cache import cache_region, cache_regions

    cache_regions["benchmark"] = {"type": "memory", "expire": 3600}

    @cache_region("benchmark", "load")
    def load(id: int) -> dict[str, Any]:
        return place.value

    return lambda: load(1001)


def beaker_uncounted(place: Place) -> Call:
    from beaker.caching import decorated

    # Each implementation has a process of its own: nothing else of it is measured without this line.
    source, line = inspect.getsource(decorated), "tally.hits += 1"
    assert source.count(line) == 1, "the hit of a decorated function is counted in another way"
    names = dict(vars(decorated))
    exec(compile(source.replace(line, "pass"), str(decorated.__file__), "exec"), names)
    decorated.CachedFunction.__call__ = names["CachedFunction"].__call__  # type: ignore[method-assign]
    return beaker_region(place)


def dogpile_decorator(place: Place) -> Call:
    region = peers.dogpile_region("dogpile.cache.memory", place)

    @region.cache_on_arguments(namespace=place.unique)  # type: ignore[untyped-decorator, unused-ignore]
    def load(id: int) -> dict[str, Any]:
        return place.value

    return lambda: load(1001)


def cachetools_decorator(place: Place) -> Call:
    import cachetools

    @cachetools.cached(cachetools.TTLCache(10_000, 3600), lock=threading.RLock())  # type: ignore[untyped-decorator, unused-ignore]
    def load(id: int) -> dict[str, Any]:
        return place.value

    return lambda: load(1001)


def beaker_cache(place: Place) -> Store:
    from beaker.cache import Cache

    cache = Cache(place.unique, expire=3600, **options("memory", place))
    return cache.get, cache.put


def beaker_created(place: Place) -> Call:
    from beaker.cache import Cache

    cache = Cache(place.unique, expire=3600, **options("memory", place))

    def create() -> dict[str, Any]:
        return place.value

    return lambda: cache.get("key-0", createfunc=create)


def dogpile_created(place: Place) -> Call:
    region = peers.dogpile_region("dogpile.cache.memory", place)

    def create() -> dict[str, Any]:
        return place.value

    return lambda: region.get_or_create("key-0", create)


def django_created(place: Place) -> Call:
    cache = peers.django_cache("locmem", place)

    def create() -> dict[str, Any]:
        return place.value

    return lambda: cache.get_or_set("key-0", create)


def dict_with_lock(place: Place) -> Store:
    held: dict[str, Any] = {}
    lock = threading.Lock()

    def get(key: str) -> Any:
        with lock:
            return held[key]

    def put(key: str, value: Any) -> None:
        with lock:
            held[key] = value

    return get, put


STORES = {
    "ours": beaker_cache,
    "beaker": beaker_cache,
    "dogpile.cache": lambda place: peers.dogpile(peers.dogpile_region("dogpile.cache.memory", place)),
    "cachetools": peers.cachetools_store,
    "cachelib": lambda place: peers.cachelib("SimpleCache", place),
    "Django": lambda place: peers.django(peers.django_cache("locmem", place)),
    "floor": dict_with_lock,
}

ROWS = (
    Row(
        "@cache_region hit, memory",
        {
            "ours": beaker_region,
            "uncounted": beaker_uncounted,
            "beaker": beaker_region,
            "dogpile.cache": dogpile_decorator,
            "cachetools": cachetools_decorator,
        },
        goals=goals(cachetools=1.0, uncounted=1.1),
        note="cachetools: `@cached` over a TTLCache with a lock; it lets every thread create. uncounted: ours without"
        " the line that counts the hit.",
    ),
    Row(
        "Cache.get hit with createfunc, memory",
        {
            "ours": beaker_created,
            "beaker": beaker_created,
            "dogpile.cache": dogpile_created,
            "Django": django_created,
        },
        goals=goals(beaker=0.5),
        note="Django's locmem pickles.",
    ),
    Row("Cache.put, memory", puts(STORES), goals=goals(beaker=1.0), note="Ours bounds the bytes kept; Beaker nothing."),
)
