"""``ext:memcached``: values on memcached servers, by pymemcache. Needs ``beaker-gae[memcached]``."""

from __future__ import annotations

from typing import Any

from beaker.caching.defaults import call_seconds
from beaker.caching.factory import given, store_for
from beaker.caching.store_manager import StoreNamespaceManager
from beaker.container import Container
from beaker.exceptions import ConfigWarning, MissingCacheParameter, warn

__all__ = ["MemcachedContainer", "MemcachedNamespaceManager"]

_OPTIONS = ("connect_timeout", "tls", "pool_size", "max_value", "prefix", "clock", "client")


class MemcachedNamespaceManager(StoreNamespaceManager):
    """Values on one memcached server, or several.

    * ``url``: ``host:port``, several separated by ``;``; MissingCacheParameter without it.
    * ``data_dir``, ``lock_dir``: without effect; creators agree by leases on the server.
    * ``memcache_module``: accepted, with a ConfigWarning when it asks for another client than pymemcache.
    * ``store_timeout``, older name ``socket_timeout``: seconds a call may take in all.
    * The rest as for :class:`beaker.storage.memcached.MemcachedStore`.
    """

    def __init__(
        self,
        namespace: str,
        url: str | None = None,
        data_dir: str | None = None,
        lock_dir: str | None = None,
        **params: Any,
    ) -> None:
        if not url:
            raise MissingCacheParameter(
                "option 'url' is missing: type 'ext:memcached' needs a server",
                option="url",
                expected="host:port, several by ';'",
            )
        if params.get("memcache_module") not in (None, "auto", "pymemcache"):
            warn(
                ConfigWarning(
                    "memcache_module has no effect: pymemcache is always used",
                    code="config.no-effect",
                    hint="leave the option out",
                )
            )
        from beaker.storage.memcached import MemcachedStore

        arguments = {"url": url, **given(params, *_OPTIONS), **call_seconds(params)}
        super().__init__(
            namespace, store_for("memcached", MemcachedStore, arguments), **{**params, "lock_dir": lock_dir}
        )


class MemcachedContainer(Container):
    """A container of memcached items."""

    namespace_class = MemcachedNamespaceManager
