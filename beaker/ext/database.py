"""``ext:database``: values as rows of a database named by url. Needs ``beaker-gae[database]``."""

from __future__ import annotations

from typing import Any

from beaker.caching.defaults import call_seconds
from beaker.caching.factory import given, store_for
from beaker.caching.store_manager import StoreNamespaceManager
from beaker.container import Container
from beaker.exceptions import MissingCacheParameter

__all__ = ["DatabaseContainer", "DatabaseNamespaceManager"]


class DatabaseNamespaceManager(StoreNamespaceManager):
    """One row for each key, in a database named by url.

    * ``url``: the database, in SQLAlchemy's form; MissingCacheParameter without it.
    * ``sa_opts``: a dict of engine options; ``sa.NAME`` works too (``sa.url`` in place of ``url``).
    * ``table_name``, ``schema_name``: the table, created when it is missing, and its schema.
    * ``store_timeout``: seconds a call may take in all.
    * ``optimistic``: accepted; every write is versioned.
    * ``data_dir``, ``lock_dir``: without effect; creators agree by leases in the table.
    * The rest as for :class:`beaker.storage.sql.SqlStore`.
    """

    def __init__(
        self,
        namespace: str,
        url: str | None = None,
        sa_opts: dict[str, Any] | None = None,
        optimistic: bool = False,
        table_name: str = "beaker_cache",
        data_dir: str | None = None,
        lock_dir: str | None = None,
        **params: Any,
    ) -> None:
        asked = {**(sa_opts or {}), **{name: value for name, value in params.items() if name.startswith("sa.")}}
        engine = {name.removeprefix("sa."): value for name, value in asked.items()}
        url = engine.pop("url", None) or url
        if not url:
            raise MissingCacheParameter(
                "option 'url' is missing: type 'ext:database' needs a database",
                option="url",
                expected="a SQLAlchemy url, such as sqlite:///path",
            )
        from beaker.storage.sql import SqlStore

        arguments = {
            "bind_or_url": url,
            "table_name": table_name,
            **({"engine_options": engine} if engine else {}),
            **given(params, "schema_name", "create_table", "clock", "max_value"),
            **call_seconds({"store_timeout": params.get("store_timeout")}),
        }
        store = store_for("database", SqlStore, arguments)
        others = {name: value for name, value in params.items() if not name.startswith("sa.")}
        super().__init__(namespace, store, **{**others, "lock_dir": lock_dir})


class DatabaseContainer(Container):
    """A container of database rows."""

    namespace_class = DatabaseNamespaceManager
