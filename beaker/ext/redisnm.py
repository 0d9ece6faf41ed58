"""``ext:redis`` at the older path; see :mod:`beaker.ext.redis` and :mod:`beaker.compat.redis`."""

from beaker.compat.redis import RedisNamespaceManager, RedisSynchronizer

__all__ = ["RedisNamespaceManager", "RedisSynchronizer"]
