"""The memcached storage backend."""

from beaker.storage.memcached.store import MemcachedStore as MemcachedStore
