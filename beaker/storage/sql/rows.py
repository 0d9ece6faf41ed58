"""What the SQL stores do to rows, on a connection that the caller opens and commits."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from beaker.exceptions import WriteConflict
from beaker.storage.sql.statements import Statements

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Rows"]

_ROUNDS = 20


class Rows:
    """Upsert and insert in the dialect's own way, or, where it has none, by trying.

    ``savepoints``: a refused insert must not end the transaction it is in. ``compiles``: SQLAlchemy 2.0
    compiles an upsert anew at each execution, 0.3 ms; there, and there only, one may execute what was compiled.
    """

    def __init__(self, statements: Statements, *, savepoints: bool, compiles: bool, backend: str) -> None:
        self._statements = statements
        self._savepoints = savepoints
        self._compiles = compiles
        self._compiled: dict[str, Any] = {}
        self._backend = backend

    def upsert(self, db: Connection, row: dict[str, Any], operation: str) -> None:
        if self._statements.upsert is not None:
            db.execute(self._native(db, "upsert"), row)
            return
        for _ in range(_ROUNDS):
            if db.execute(self._statements.update, row).rowcount or self._try_insert(db, row):
                return
        raise WriteConflict("the row came and went", backend=self._backend, operation=operation)

    def upsert_many(self, db: Connection, rows: list[dict[str, Any]]) -> None:
        if self._statements.upsert is not None:
            db.execute(self._native(db, "upsert"), rows)
        else:
            for row in rows:
                self.upsert(db, row, "set_many")

    def insert(self, db: Connection, row: dict[str, Any]) -> bool:
        if self._statements.insert_absent is not None:
            return bool(db.execute(self._native(db, "insert_absent"), row).rowcount == 1)
        for _ in range(_ROUNDS):
            if self._try_insert(db, row) or db.execute(self._statements.update_expired, row).rowcount:
                return True
            there = db.execute(self._statements.get, row).first()
            if there is not None and (there[1] is None or there[1] > row["p_now"]):
                return False
        raise WriteConflict("the row came and went", backend=self._backend, operation="insert")

    def _native(self, db: Connection, name: str) -> Any:
        statement = getattr(self._statements, name)
        if not self._compiles:
            return statement
        if name not in self._compiled:
            self._compiled[name] = statement.compile(dialect=db.dialect)
        return self._compiled[name]

    def _try_insert(self, db: Connection, row: dict[str, Any]) -> bool:
        """Insert; ``False`` when the row is there. A savepoint keeps the transaction usable after that."""
        from sqlalchemy import exc

        try:
            with db.begin_nested() if self._savepoints else contextlib.nullcontext():
                db.execute(self._statements.insert, row)
        except exc.IntegrityError:
            return False
        return True

    def is_mine(self, db: Connection, row: dict[str, Any]) -> bool:
        # The first attempt lost its connection: it may have written before that, with this version.
        there = db.execute(self._statements.read, row).first()
        return there is not None and there[2] == row["p_version"]

    def purge(self, db: Connection, now: float, start: float, limit: int) -> tuple[list[Any], int]:
        """Delete of the first ``limit`` rows that expired from ``start`` to ``now``; those rows, and how many went."""
        rows = list(db.execute(self._statements.expired, {"p_now": now, "p_from": start, "p_limit": limit}))
        # Each is checked again for expiry: it may have been written anew since.
        doomed = [
            {"p_namespace_digest": row[0], "p_key_digest": row[1], "p_now": now}
            for row in sorted(rows, key=lambda row: (row[0], row[1]))
        ]
        if not doomed:
            return rows, 0
        if db.dialect.supports_sane_multi_rowcount:
            return rows, db.execute(self._statements.purge, doomed).rowcount
        return rows, sum(db.execute(self._statements.purge, row).rowcount for row in doomed)
