"""``ext:mongodb``, which is not here: the name says so, and the way out."""

from __future__ import annotations

from typing import Any

from beaker.caching.namespace import NamespaceManager
from beaker.exceptions import InvalidCacheBackendError

__all__ = ["MongoNamespaceManager"]


class MongoNamespaceManager(NamespaceManager):
    """Raises InvalidCacheBackendError when it is built: there is no store for MongoDB here."""

    def __init__(self, namespace: str, url: Any = None, **params: Any) -> None:
        raise InvalidCacheBackendError(
            "type 'ext:mongodb' is not supported",
            option="type",
            expected="ext:redis, ext:memcached, ext:database or ext:google",
            hint="or register your own manager class: beaker.backends.register_backend('ext:mongodb', MyManager)",
        )
