"""``ext:sqla``: values as rows of the application's own table. Needs ``beaker-gae[database]``."""

from __future__ import annotations

from typing import Any

from beaker.caching.factory import given, store_for
from beaker.caching.store_manager import StoreNamespaceManager
from beaker.container import Container
from beaker.exceptions import MissingCacheParameter
from beaker.storage.sql import SqlStore, make_cache_table

__all__ = ["SqlaContainer", "SqlaNamespaceManager", "make_cache_table"]


class SqlaNamespaceManager(StoreNamespaceManager):
    """One row for each key, in a table of the application's own.

    * ``bind``: a SQLAlchemy Engine or Connection of the application.
    * ``table``: built by :func:`make_cache_table`, and created in the database by the application.
    * ``data_dir``, ``lock_dir``: without effect; creators agree by leases in the table.

    MissingCacheParameter when ``bind`` or ``table`` is ``None``.
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
        arguments = {"bind_or_url": bind, "table": table, "create_table": False, **given(kwargs, "clock", "max_value")}
        super().__init__(namespace, store_for("sqla", SqlStore, arguments), **{**kwargs, "lock_dir": lock_dir})


class SqlaContainer(Container):
    """A container of rows."""

    namespace_class = SqlaNamespaceManager
