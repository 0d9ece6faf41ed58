"""``ext:rediscluster``; see :mod:`beaker.compat.redis`."""

from beaker.compat.redis import RedisClusterNamespaceManager, RedisSynchronizer

__all__ = ["RedisClusterNamespaceManager", "RedisSynchronizer"]
