"""``beaker.ext.redisnm`` and ``beaker.ext.rediscluster``: the one Redis manager under their names."""

from __future__ import annotations

import threading
from typing import Any

from beaker.exceptions import MissingCacheParameter
from beaker.ext.redis import RedisNamespaceManager
from beaker.locking.readwrite import SynchronizerImpl
from beaker.storage.lease import Lease, LeaseLocks

__all__ = ["RedisClusterNamespaceManager", "RedisNamespaceManager", "RedisSynchronizer", "cluster_url"]


class RedisClusterNamespaceManager(RedisNamespaceManager):
    """Values on a Redis cluster: ``urls`` is ``host:port``, several by commas, or several in a list.

    The same as :class:`RedisNamespaceManager` with a ``url`` of ``redis+cluster://host:port,host:port``.
    """

    def __init__(self, namespace: str, urls: Any = None, **params: Any) -> None:
        given = urls if urls is not None else params.pop("url", None)
        if not given and params.get("client") is None:
            raise MissingCacheParameter(
                "option 'urls' is missing: type 'ext:rediscluster' needs nodes",
                option="urls",
                expected="host:port, several by commas",
            )
        params.pop("url", None)
        super().__init__(namespace, cluster_url(given) if given else None, **params)


def cluster_url(urls: Any) -> str:
    """The url of :class:`RedisNamespaceManager` for the ``urls`` of older Beakers."""
    nodes = [urls] if isinstance(urls, str) else list(urls)
    if len(nodes) == 1 and "+cluster://" in nodes[0]:
        return str(nodes[0])
    bare = [node.strip().removeprefix("redis://").rstrip("/") for text in nodes for node in text.split(",")]
    return "redis+cluster://" + ",".join(node for node in bare if node)


class RedisSynchronizer(SynchronizerImpl):
    """A lock on the Redis at ``url``: one holder in the fleet, readers too, for ``LOCK_EXPIRATION`` seconds at most.

    It is a lease and no fence: a holder that outlives it works beside the next one.
    """

    LOCK_EXPIRATION = 900.0

    def __init__(self, identifier: str, url: str) -> None:
        super().__init__()
        self._locks = LeaseLocks(RedisNamespaceManager("", url).store, ttl=self.LOCK_EXPIRATION)  # type: ignore[arg-type]
        self._identifier = identifier
        self._leases: dict[int, Lease] = {}

    def do_acquire_write_lock(self, wait: bool) -> bool:
        lease = self._locks.creation("synchronizer", self._identifier)
        if not lease.acquire(wait):
            return False
        self._leases[threading.get_ident()] = lease
        return True

    def do_release_write_lock(self) -> None:
        self._leases.pop(threading.get_ident()).release()

    do_acquire_read_lock = do_acquire_write_lock
    do_release_read_lock = do_release_write_lock
