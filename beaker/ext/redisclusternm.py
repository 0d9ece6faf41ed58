"""``ext:rediscluster`` at the path of Beaker 1.13 and later; see :mod:`beaker.compat.redis`."""

from beaker.compat.redis import RedisClusterNamespaceManager, RedisSynchronizer

__all__ = ["RedisClusterNamespaceManager", "RedisSynchronizer"]
