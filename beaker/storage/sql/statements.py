"""The statements of the SQL stores, built once for a table and a dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beaker.storage.sql.table import COLUMNS

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.sql.dml import Insert

__all__ = ["NATIVE_UPSERT", "PAGE", "Statements"]

NATIVE_UPSERT = frozenset({"sqlite", "postgresql", "mysql", "mariadb"})
CONDITIONAL_UPSERT = frozenset({"sqlite", "postgresql"})
"""Dialects whose upsert takes a condition, so that insert-if-absent-or-expired is one statement too."""

PAGE = 500
"""Keys in one statement; well below every database's limit of parameters."""

_CHANGING = ("data", "version", "accessed", "expires")


class Statements:
    """Parameters are named ``p_`` and the column's name, because SQLAlchemy keeps the bare ones to itself.

    ``upsert`` and ``insert_absent`` are ``None`` where the dialect has no such statement.
    """

    def __init__(self, table: Table, dialect: str) -> None:
        from sqlalchemy import and_, bindparam, case, delete, func, insert, or_, select, update

        c = table.c
        in_namespace = c.namespace_digest == bindparam("p_namespace_digest")
        record = and_(in_namespace, c.key_digest == bindparam("p_key_digest"))
        some = and_(in_namespace, c.key_digest.in_(bindparam("p_keys", expanding=True)))
        across = and_(
            c.namespace_digest.in_(bindparam("p_namespaces", expanding=True)),
            c.key_digest.in_(bindparam("p_keys", expanding=True)),
        )
        live = or_(c.expires.is_(None), c.expires > bindparam("p_now"))
        unchanged = and_(record, c.version == bindparam("p_old_version"), live)
        over = c.expires < bindparam("p_now")
        new: dict[str, Any] = {name: bindparam(f"p_{name}") for name in _CHANGING}

        self.get = select(c.data, c.expires).where(record)
        self.read = select(c.data, c.expires, c.version).where(record)
        self.get_many = select(c.key_digest, c.data, c.expires).where(some)
        self.get_across = select(c.key_digest, c.data, c.expires).where(across)
        self.keys = (
            select(c.key_digest, c.key)
            .where(in_namespace, c.key_digest > bindparam("p_after"), live)
            .order_by(c.key_digest)
            .limit(PAGE)
        )
        self.insert = insert(table).values({name: bindparam(f"p_{name}") for name in COLUMNS})
        self.update = update(table).where(record).values(new)
        self.update_expired = (
            update(table)
            .where(record, c.expires <= bindparam("p_now"))
            .values({**new, "created": bindparam("p_created")})
        )
        self.replace = update(table).where(unchanged).values(new)
        self.remove = delete(table).where(unchanged)
        self.delete = delete(table).where(record)
        self.delete_many = delete(table).where(some)
        self.clear = delete(table).where(in_namespace)
        self.expired = (
            select(c.namespace_digest, c.key_digest, c.expires)
            .where(over, c.expires >= bindparam("p_from"))
            .order_by(c.expires)
            .limit(bindparam("p_limit"))
        )
        self.purge = delete(table).where(record, over)
        self.count_expired = select(func.count()).where(over)
        self.contents = (
            select(
                c.namespace,
                func.count(),
                func.sum(func.length(c.data)),
                func.min(c.created),
                func.max(c.accessed),
                func.sum(case((over, 1), else_=0)),
            )
            .group_by(c.namespace)
            .order_by(c.namespace)
        )
        self.upsert = self._upsert(table, dialect)
        self.insert_absent = self._insert_absent(table, dialect)

    def _upsert(self, table: Table, dialect: str) -> Any:
        if dialect not in NATIVE_UPSERT:
            return None
        statement = _dialect_insert(table, dialect)
        if dialect in CONDITIONAL_UPSERT:
            changed = {name: statement.excluded[name] for name in _CHANGING}
            return statement.on_conflict_do_update(index_elements=_key(table), set_=changed)
        return statement.on_duplicate_key_update({name: statement.inserted[name] for name in _CHANGING})

    def _insert_absent(self, table: Table, dialect: str) -> Any:
        if dialect not in NATIVE_UPSERT & CONDITIONAL_UPSERT:
            return None
        from sqlalchemy import bindparam

        statement = _dialect_insert(table, dialect)
        return statement.on_conflict_do_update(
            index_elements=_key(table),
            set_={name: statement.excluded[name] for name in (*_CHANGING, "created")},
            where=table.c.expires <= bindparam("p_now"),
        ).execution_options(preserve_rowcount=True)


def _key(table: Table) -> list[Any]:
    return [table.c.namespace_digest, table.c.key_digest]


def _dialect_insert(table: Table, dialect: str) -> Any:
    from sqlalchemy import bindparam

    statement: Insert
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        statement = sqlite_insert(table)
    elif dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as postgresql_insert

        statement = postgresql_insert(table)
    else:
        from sqlalchemy.dialects.mysql import insert as mysql_insert

        statement = mysql_insert(table)
    return statement.values({name: bindparam(f"p_{name}") for name in COLUMNS})
