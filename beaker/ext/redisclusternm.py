"""``ext:rediscluster`` at the path of Beaker 1.13 and later."""

from beaker.ext.rediscluster import RedisClusterNamespaceManager

__all__ = ["RedisClusterNamespaceManager"]
