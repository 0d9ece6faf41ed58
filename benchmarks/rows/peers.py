"""How the peers are opened, as their manuals say."""

from __future__ import annotations

import functools
import tempfile
import threading
from pathlib import Path
from typing import Any

from benchmarks.row import SECRET, Place, Store


def dogpile_region(backend: str, place: Place, **arguments: Any) -> Any:
    from dogpile.cache import make_region

    return make_region(key_mangler=lambda key: f"{place.unique}:{key}").configure(
        backend, expiration_time=3600, arguments=arguments
    )


def dogpile(region: Any) -> Store:
    return region.get, region.set


def cachetools_store(place: Place) -> Store:
    import cachetools

    cache, lock = cachetools.TTLCache(10_000, 3600), threading.RLock()

    def get(key: str) -> Any:
        with lock:
            return cache[key]

    def put(key: str, value: Any) -> None:
        with lock:
            cache[key] = value

    return get, put


def cachelib(name: str, place: Place, *arguments: Any, **options: Any) -> Store:
    import cachelib

    cache = getattr(cachelib, name)(*arguments, default_timeout=3600, **options)
    return cache.get, cache.set


def cachelib_redis(place: Place) -> Store:
    host, port = place.services["redis"].removeprefix("redis://").partition("/")[0].split(":")
    return cachelib("RedisCache", place, host, int(port), key_prefix=place.unique)


def diskcache(place: Place) -> Store:
    import diskcache

    cache = diskcache.Cache(place.directory)
    return cache.get, lambda key, value: cache.set(key, value, expire=3600)


@functools.cache
def django_home() -> tempfile.TemporaryDirectory[str]:
    """A directory that lives as long as this process, as Django's settings do; a row's own ends with the row."""
    return tempfile.TemporaryDirectory(prefix="beaker-benchmark-")


def django_configured(place: Place) -> Any:
    """Django's settings, built at first use: a process has only one."""
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            SECRET_KEY=SECRET,
            INSTALLED_APPS=["django.contrib.sessions"],
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{django_home().name}/django.db"}},
            CACHES=_caches(place),
            USE_TZ=True,
        )
        import django

        django.setup()
    return settings


def _caches(place: Place) -> dict[str, dict[str, Any]]:
    caches: dict[str, dict[str, Any]] = {
        "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "locmem": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "benchmark"},
        "file": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": str(Path(django_home().name) / "cache"),
        },
        "database": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "benchmark"},
    }
    if "memcached" in place.services:
        backend = "django.core.cache.backends.memcached.PyMemcacheCache"
        caches["memcached"] = {"BACKEND": backend, "LOCATION": place.services["memcached"]}
    if "redis" in place.services:
        backend = "django.core.cache.backends.redis.RedisCache"
        caches["redis"] = {"BACKEND": backend, "LOCATION": place.services["redis"]}
    for options in caches.values():
        options |= {"KEY_PREFIX": place.unique, "OPTIONS": {"MAX_ENTRIES": 1_000_000}, "TIMEOUT": 3600}
        if "memcached" in options["BACKEND"] or "redis" in options["BACKEND"]:
            del options["OPTIONS"]
    return caches


def django_cache(alias: str, place: Place) -> Any:
    django_configured(place)
    from django.core.cache import caches

    cache = caches[alias]
    if alias in ("locmem", "file"):
        # What the row before left. A server is another matter: there it would empty the other implementations too.
        cache.clear()
    return cache


def django(cache: Any) -> Store:
    return cache.get, cache.set
