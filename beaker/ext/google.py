"""``ext:google``: values as entities of Datastore (Firestore in Datastore mode). Needs ``beaker-gae[google]``."""

from __future__ import annotations

from typing import Any

from beaker.caching.defaults import call_seconds, project
from beaker.caching.factory import given, runtime_of, store_for
from beaker.caching.store_manager import StoreNamespaceManager
from beaker.container import Container
from beaker.exceptions import InvalidCacheBackendError

__all__ = ["GoogleContainer", "GoogleNamespaceManager", "record_model"]

_OPTIONS = (
    "project", "database", "datastore_namespace", "client", "retries", "compress", "clock", "max_value",
    "index_expires",
)  # fmt: skip


class GoogleNamespaceManager(StoreNamespaceManager):
    """One entity for each key.

    * ``table_name``: the kind.
    * ``project``, ``database``, ``datastore_namespace``: where; default the environment's project, and the default
      database and namespace.
    * ``client``: a datastore or ndb client of the application.
    * ``store_timeout``, older name ``deadline``: seconds a call may take in all.
    * ``retries``: further attempts after a passing error.
    * ``max_value``: bytes of the largest record. Values over 1 MB are split.
    * The rest as for :class:`beaker.storage.datastore.DatastoreStore`.

    No NDB context is needed, and one that is open is left alone.
    """

    def __init__(self, namespace: str, table_name: str = "beaker_cache", **params: Any) -> None:
        from beaker.storage.datastore import DatastoreStore

        arguments = {"table_name": table_name, **given(params, *_OPTIONS), **call_seconds(params, "deadline")}
        found = project(params, runtime_of(params))
        if found:
            arguments["project"] = found
        super().__init__(namespace, store_for("google", DatastoreStore, arguments), **params)


class GoogleContainer(Container):
    """A container of Datastore entities."""

    namespace_class = GoogleNamespaceManager


def record_model(kind: str = "beaker_cache") -> Any:
    """The records of kind ``kind`` (the option ``table_name``) as an ``ndb.Model`` class, for reading.

    Its fields are in :mod:`beaker.storage.datastore.ndb_model`. InvalidCacheBackendError without google-cloud-ndb.
    """
    try:
        from beaker.storage.datastore.ndb_model import record_model as model
    except ImportError as err:
        raise InvalidCacheBackendError(
            "the record model needs google-cloud-ndb",
            option="type",
            hint="pip install 'beaker-gae[google]'",
            code="config.missing-package",
        ) from err
    return model(kind)
