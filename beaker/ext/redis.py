"""``ext:redis``: values on a Redis server, such as Memorystore. Needs ``beaker-gae[redis]``."""

from __future__ import annotations

from typing import Any

from beaker.caching.defaults import call_seconds
from beaker.caching.factory import given, store_for
from beaker.caching.store_manager import StoreNamespaceManager
from beaker.container import Container
from beaker.exceptions import MissingCacheParameter

__all__ = ["RedisContainer", "RedisNamespaceManager"]

_OPTIONS = ("connect_timeout", "tls", "max_value", "prefix", "clock", "client")


class RedisNamespaceManager(StoreNamespaceManager):
    """Values on a Redis server.

    * ``url``: ``redis://host:port/db``, ``rediss://``, ``unix://``; or ``client``: a client of the application.
      MissingCacheParameter without either.
    * ``data_dir``, ``lock_dir``: without effect; creators agree by leases on the server.
    * ``store_timeout``, older name ``socket_timeout``: seconds a call may take in all.
    * The rest as for :class:`beaker.storage.redis.RedisStore`.
    """

    def __init__(
        self,
        namespace: str,
        url: str | None = None,
        data_dir: str | None = None,
        lock_dir: str | None = None,
        **params: Any,
    ) -> None:
        if not url and params.get("client") is None:
            raise MissingCacheParameter(
                "option 'url' is missing: type 'ext:redis' needs a server",
                option="url",
                expected="redis://host:port/db",
            )
        from beaker.storage.redis import RedisStore

        arguments = {**given({"url": url}, "url"), **given(params, *_OPTIONS), **call_seconds(params)}
        super().__init__(namespace, store_for("redis", RedisStore, arguments), **{**params, "lock_dir": lock_dir})


class RedisContainer(Container):
    """A container of Redis values."""

    namespace_class = RedisNamespaceManager
