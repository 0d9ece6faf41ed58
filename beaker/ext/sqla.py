"""``ext:sqla``: values as rows of the application's own table. Needs ``beaker-gae[database]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beaker.bridge import given, store_for
from beaker.container import Container
from beaker.exceptions import MissingCacheParameter
from beaker.namespace import StoreNamespaceManager

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table

__all__ = ["SqlaContainer", "SqlaNamespaceManager", "make_cache_table"]


def make_cache_table(metadata: MetaData, table_name: str = "beaker_cache", schema_name: str | None = None) -> Table:
    """A Table of the columns :class:`SqlaNamespaceManager` needs, in ``metadata``. It is not created."""
    from beaker.storage.sql import make_table

    table: Table = make_table(metadata, table_name, schema_name)
    return table


class SqlaNamespaceManager(StoreNamespaceManager):
    """One row of ``table`` (made by :func:`make_cache_table`) for each key, through ``bind``.

    ``bind`` is a SQLAlchemy Engine or Connection of the application. The table is created by the
    application. ``data_dir`` and ``lock_dir`` have no effect. MissingCacheParameter when ``bind`` or
    ``table`` is ``None``.
    """

    def __init__(
        self,
        namespace: str,
        bind: Any = None,
        table: Any = None,
        data_dir: str | None = None,
        lock_dir: str | None = None,
        **kwargs: Any,
    ) -> None:
        for option, value in (("bind", bind), ("table", table)):
            if value is None:
                raise MissingCacheParameter(f"option {option!r} is missing: type 'ext:sqla' needs it", option=option)
        from beaker.storage.sql import SqlStore

        arguments = {"bind_or_url": bind, "table": table, "create_table": False, **given(kwargs, "clock")}
        super().__init__(namespace, store_for("sqla", SqlStore, arguments), **{**kwargs, "lock_dir": lock_dir})


class SqlaContainer(Container):
    """A container of rows."""

    namespace_class = SqlaNamespaceManager
