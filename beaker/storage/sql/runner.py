"""Running statements: the table on demand, one more try on a lost connection, errors without secrets, forks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from beaker.exceptions import ConfigError, StoreUnavailable
from beaker.forks import ForkAware, ForkGate, notice_patch
from beaker.storage.sql.binding import Binding, ConnectionBinding
from beaker.storage.sql.table import ensure_table
from beaker.storage.sqlite import trouble

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

__all__ = ["Runner"]

T = TypeVar("T")
Work = Callable[["Connection", bool], T]
Begin = Callable[[], contextlib.AbstractContextManager["Connection"]]

_ATTEMPTS = 4
_ROLLED_BACK = frozenset({"40001", "40P01", 1205, 1213})
"""Serialization failure, deadlock and lock timeout, in PostgreSQL's and MySQL's numbers: nothing was done."""
_NO_SUCH_TABLE = frozenset({"42P01", 1146})


class Runner(ForkAware):
    """Runs work on connections of a :class:`Binding`, once the table is known to be there."""

    def __init__(self, binding: Binding, table: Table, *, create_table: bool, backend: str) -> None:
        from sqlalchemy import exc

        self._errors = exc.SQLAlchemyError
        self._binding = binding
        self._table = table
        self._create_table = create_table
        self._backend = backend
        self._ready = False
        # Only SQLite handles must be closed before a fork; other databases need no quiet moment.
        self._gate = ForkGate() if binding.dialect == "sqlite" else None
        self._inside: contextlib.AbstractContextManager[None] = self._gate or contextlib.nullcontext()
        self._watch_forks()

    def close(self) -> None:
        self._binding.close()
        self._ready = self._ready and not self._binding.volatile

    def read(self, operation: str, work: Work[T], absent: T) -> T:
        """``work(connection, again)``, or ``absent`` while there is no table.

        ``again`` says that an earlier attempt may have reached the database.
        """
        return self._run(operation, work, absent, self._binding.look)

    def change(self, operation: str, work: Work[T], absent: T) -> T:
        """Like :meth:`read`, and commits: for what needs no table to be created."""
        return self._run(operation, work, absent, self._binding.begin)

    def write(self, operation: str, work: Work[T]) -> T:
        """Like :meth:`change`, after creating the table when there is none."""
        return self._run(operation, work, cast(T, None), self._binding.begin, creates=True)

    def _run(self, operation: str, work: Work[T], absent: T, begin: Begin, *, creates: bool = False) -> T:
        notice_patch()
        with self._inside:
            for attempt in range(1, _ATTEMPTS + 1):
                was_ready = self._ready
                try:
                    if not was_ready and not self._prepare(creates):
                        return absent
                    with begin() as connection:
                        return work(connection, attempt > 1)
                except self._errors as err:
                    if attempt < _ATTEMPTS and self._may_repeat(err, attempt, was_ready):
                        continue
                    # The driver's own error: SQLAlchemy's would put the statement's values into the log.
                    cause = getattr(err, "orig", None) or err
                    # trouble() knows SQLite's texts; of any other database it names the error's class.
                    reason = trouble(self._binding.label, cause, "url")
                    raise StoreUnavailable(reason, backend=self._backend, operation=operation) from cause
        raise AssertionError("unreachable")

    def _may_repeat(self, err: Exception, attempt: int, was_ready: bool) -> bool:
        if isinstance(self._binding, ConnectionBinding):
            return False
        original = getattr(err, "orig", None)
        if getattr(err, "connection_invalidated", False):
            return attempt == 1
        code = getattr(original, "sqlstate", None) or next(iter(getattr(original, "args", ())), None)
        if code in _ROLLED_BACK:
            return True
        if was_ready and attempt == 1 and ("no such table" in str(original) or code in _NO_SUCH_TABLE):
            # The table was dropped while we used it.
            self._ready = False
            return True
        return False

    def _prepare(self, creates: bool) -> bool:
        there = ensure_table(self._binding.begin, self._table, create=creates and self._create_table)
        if not there and creates:
            raise ConfigError(
                f"the table {self._table.fullname!r} does not exist",
                option="table",
                hint="create it with metadata.create_all(engine), or let the store do it with create_table=True",
                code="config.unusable-table",
            )
        # In a transaction of the caller's the table may yet be rolled back.
        self._ready = there and not (
            isinstance(self._binding, ConnectionBinding) and self._binding.in_their_transaction
        )
        return there

    def _before_fork(self) -> None:
        if self._gate is not None:
            self._gate.close()
        self._binding.before_fork()

    def _after_fork_in_parent(self) -> None:
        if self._gate is not None:
            self._gate.open()

    def _after_fork(self) -> None:
        self._binding.after_fork()
        self._ready = self._ready and not self._binding.volatile
        if self._gate is not None:
            self._gate.reset()

    def _renew_locks(self) -> None:
        self._binding.renew_locks()
        if self._gate is not None:
            self._gate.renew_locks()
