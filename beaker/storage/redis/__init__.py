"""The redis storage backend."""

from beaker.storage.redis.store import RedisStore as RedisStore
