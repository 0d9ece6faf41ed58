"""``ext:rediscluster``: ``ext:redis`` on a cluster, with the option ``urls`` of Beaker up to 1.14."""

from __future__ import annotations

from typing import Any

from beaker.exceptions import MissingCacheParameter
from beaker.ext.redis import RedisNamespaceManager

__all__ = ["RedisClusterNamespaceManager", "cluster_url"]


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
