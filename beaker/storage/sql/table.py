"""The table of the SQL stores: its shape, how it is created, and how a foreign one is refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from beaker.exceptions import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Connection, MetaData, Table

__all__ = ["COLUMNS", "check_table", "ensure_table", "make_cache_table"]

COLUMNS = ("namespace_digest", "key_digest", "namespace", "key", "data", "version", "created", "accessed", "expires")


def make_cache_table(metadata: MetaData, table_name: str = "beaker_cache", schema_name: str | None = None) -> Table:
    """A Table for cached values and sessions in ``metadata``, one row a record; it is not created (manual 5.1.10).

    The primary key is two SHA-256 digests in hex, so that a name of any length and alphabet fits every
    database's index; ``namespace`` and ``key`` are the names themselves in UTF-8. ``created`` (first
    written), ``accessed`` (last written; reads write nothing) and ``expires`` (NULL: never; indexed) are
    seconds since the epoch, so that ``DELETE ... WHERE expires < ...`` works in any script.
    ``version`` changes with every write.
    """
    from sqlalchemy import BigInteger, Column, Double, LargeBinary, String, Table

    # Without a length MySQL makes BLOB, 64 kB; SQL Server takes no such length and needs none.
    blob = LargeBinary(2**32 - 1).with_variant(LargeBinary(), "mssql")
    return Table(
        table_name,
        metadata,
        Column("namespace_digest", String(64), primary_key=True),
        Column("key_digest", String(64), primary_key=True),
        Column("namespace", blob, nullable=False),
        Column("key", blob, nullable=False),
        Column("data", blob, nullable=False),
        Column("version", BigInteger, nullable=False, autoincrement=False),
        Column("created", Double, nullable=False),
        Column("accessed", Double, nullable=False),
        Column("expires", Double, index=True),
        schema=schema_name,
    )


def check_table(table: Table) -> None:
    """:class:`~beaker.exceptions.ConfigError` unless ``table`` has the columns of :func:`make_cache_table`."""
    missing = [name for name in COLUMNS if name not in table.c]
    if missing:
        raise _foreign(table, missing, [column.name for column in table.c if column.name not in COLUMNS])


def ensure_table(begin: Callable[[], AbstractContextManager[Connection]], table: Table, *, create: bool) -> bool:
    """Whether the database has ``table``, after creating it when ``create``; safe beside others doing so.

    ``begin`` returns a connection in a transaction. A table of that name with other columns raises
    :class:`~beaker.exceptions.ConfigError` and is left as it is.
    """
    from sqlalchemy import exc

    with begin() as connection:
        if _has_table(connection, table):
            return True
    if not create:
        return False
    try:
        with begin() as connection:
            table.create(connection)
    except exc.DBAPIError:
        # Another process created it between the look and the statement; anything else is a real failure.
        with begin() as connection:
            if not _has_table(connection, table):
                raise
    return True


def _has_table(connection: Connection, table: Table) -> bool:
    from sqlalchemy import inspect

    inspector = inspect(connection)
    if not inspector.has_table(table.name, schema=table.schema):
        return False
    found = {column["name"]: column for column in inspector.get_columns(table.name, schema=table.schema)}
    missing = [name for name in COLUMNS if name not in found]
    unknown = [name for name in found if name not in COLUMNS]
    # A column that was added is no harm while rows can be inserted without it.
    needed = [name for name in unknown if not found[name]["nullable"] and found[name].get("default") is None]
    if missing or needed:
        raise _foreign(table, missing, unknown)
    return True


def _foreign(table: Table, missing: list[str], unknown: list[str]) -> ConfigError:
    faults = [f"it lacks the columns {', '.join(missing)}"] if missing else []
    faults += [f"it has the unknown columns {', '.join(unknown)}"] if unknown else []
    return ConfigError(
        f"the table {table.fullname!r} is not a cache table of this version: {' and '.join(faults)}",
        option="table_name",
        hint="nothing was changed; name another table, or drop or rename this one yourself",
        code="config.unusable-table",
    )
