"""Caches on memcached and Redis."""

from __future__ import annotations

import pickle
from typing import Any

from benchmarks.row import Place, Row, Store, gets, goals, needs, puts
from benchmarks.rows import peers
from benchmarks.rows.options import options


def beaker_memcached(place: Place) -> Store:
    from beaker.cache import Cache

    cache = Cache(place.unique, expire=3600, **options("ext:memcached", place))
    return cache.get, cache.put


def beaker_redis(place: Place) -> Store:
    from beaker.cache import Cache

    cache = Cache(place.unique, expire=3600, **options("ext:redis", place))
    return cache.get, cache.put


def bare_memcached(place: Place) -> Store:
    """pymemcache's client and pickled bytes, which a get leaves pickled."""
    from pymemcache import Client

    host, port = place.services["memcached"].split(":")
    client = Client((host, int(port)), no_delay=True, default_noreply=False, key_prefix=place.unique.encode())

    def put(key: str, value: Any) -> None:
        client.set(key, pickle.dumps(value, pickle.HIGHEST_PROTOCOL), expire=3600)

    return client.get, put


def bare_redis(place: Place) -> Store:
    """redis-py's client and pickled bytes, which a get leaves pickled."""
    import redis

    client = redis.Redis.from_url(place.services["redis"])

    def get(key: str) -> Any:
        return client.get(place_key + key)

    def put(key: str, value: Any) -> None:
        client.set(place_key + key, pickle.dumps(value, pickle.HIGHEST_PROTOCOL), ex=3600)

    place_key = place.unique + ":"
    return get, put


MEMCACHED = {
    "ours": beaker_memcached,
    "beaker": beaker_memcached,
    "dogpile.cache": lambda place: peers.dogpile(
        peers.dogpile_region("dogpile.cache.pymemcache", place, url=[place.services["memcached"]])
    ),
    "Django": lambda place: peers.django(peers.django_cache("memcached", place)),
    "floor": bare_memcached,
}
REDIS = {
    "ours": beaker_redis,
    "beaker": beaker_redis,
    "dogpile.cache": lambda place: peers.dogpile(
        peers.dogpile_region("dogpile.cache.redis", place, url=place.services["redis"], redis_expiration_time=3600)
    ),
    "cachelib": peers.cachelib_redis,
    "Django": lambda place: peers.django(peers.django_cache("redis", place)),
    "floor": bare_redis,
}

_MEMCACHED_NOTE = "Beaker through python-memcached, the others through pymemcache. Floor: pymemcache's client."
_REDIS_NOTE = "Floor: redis-py's client."

ROWS = (
    Row("memcached get", gets(MEMCACHED), needs("memcached"), goals(floor=1.15), _MEMCACHED_NOTE),
    Row("memcached put", puts(MEMCACHED), needs("memcached"), goals(floor=1.15), _MEMCACHED_NOTE),
    Row("redis get", gets(REDIS), needs("redis"), goals(floor=1.15), _REDIS_NOTE),
    Row("redis put", puts(REDIS), needs("redis"), goals(floor=1.15), _REDIS_NOTE),
)
