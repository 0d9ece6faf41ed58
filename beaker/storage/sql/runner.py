"""Running statements: the table on demand, one more try on a lost connection, errors without secrets, forks."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, cast

from beaker.exceptions import BeakerException, ConfigError, StoreRefused, StoreUnavailable
from beaker.forks import ForkAware, ForkGate, notice_patch
from beaker.locking.turnstile import Turnstile
from beaker.storage.breaker import Breaker
from beaker.storage.deadline import within
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
_READ_ONLY = frozenset({"25006", 1290, 1836})
"""The server is a replica by now, or takes no writes: nothing was done."""
_NO_SUCH_TABLE = frozenset({"42P01", 1146})
_TOO_MANY_CONNECTIONS = "53300"


class Runner(ForkAware):
    """Runs work on connections of a :class:`Binding`, once the table is known to be there."""

    def __init__(self, binding: Binding, table: Table, *, create_table: bool, backend: str, timeout: float) -> None:
        from sqlalchemy import exc

        self._errors = exc.SQLAlchemyError
        self._exhausted = exc.TimeoutError
        self._unanswered = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)
        self._binding = binding
        self._table = table
        self._create_table = create_table
        self._backend = backend
        self._ready = False
        # The application's engine has timeouts of its own; only psycopg looks at ours while it waits.
        self._timeout = timeout if binding.owned else math.inf
        self._calls: set[within] = set()
        # SQLAlchemy's pool is not fair: of more threads than it has connections, some would wait until they fail.
        self._queue = Turnstile(binding.room) if binding.room else None
        remote = binding.dialect != "sqlite" and not isinstance(binding, ConnectionBinding)
        self._breaker = Breaker(backend, binding.label) if remote else None
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
        guard = contextlib.nullcontext() if self._breaker is None else self._breaker(operation)
        deadline = within(self._timeout)
        try:
            with self._inside, deadline:
                if self._queue is not None and not self._queue.enter(deadline, self._binding.patience):
                    raise self._crowded(operation)
                self._calls.add(deadline)
                # After the wait, which says nothing about the server.
                with guard:
                    return self._attempts(operation, work, absent, begin, creates, deadline)
        except BeakerException:
            raise
        except BaseException:
            # Raised at any line inside SQLAlchemy, whose pool may count a connection that is lost.
            self._binding.abandon()
            raise
        finally:
            self._calls.discard(deadline)
            if self._queue is not None:
                self._queue.leave(deadline)

    def _crowded(self, operation: str) -> StoreUnavailable:
        binding = self._binding
        reason = f"{binding.label}: none of its connections ({binding.room}) was free for {binding.patience:g} s"
        return StoreUnavailable(reason, backend=self._backend, operation=operation)

    def _attempts(self, operation: str, work: Work[T], absent: T, begin: Begin, creates: bool, deadline: within) -> T:
        for attempt in range(1, _ATTEMPTS + 1):
            was_ready = self._ready
            try:
                if not was_ready and not self._prepare(creates):
                    return absent
                with begin() as connection:
                    return work(connection, attempt > 1)
            except self._errors as err:
                if attempt < _ATTEMPTS and self._may_repeat(err, attempt, was_ready) and deadline.left() > 0:
                    continue
                # The driver's own error: SQLAlchemy's would put the statement's values into the log.
                cause = getattr(err, "orig", None) or err
                # trouble() knows SQLite's texts; of any other database it names the error's class.
                kind = StoreUnavailable if self._got_no_response(err) else StoreRefused
                reason = trouble(self._binding.label, cause, "url")
                raise kind(reason, backend=self._backend, operation=operation) from cause
        raise AssertionError("unreachable")

    def _got_no_response(self, err: Exception) -> bool:
        state = str(getattr(getattr(err, "orig", None), "sqlstate", None) or "")
        # Of class 53, "insufficient resources", only too many connections means that nothing can be had.
        full = state.startswith("53") and state != _TOO_MANY_CONNECTIONS
        return bool(getattr(err, "connection_invalidated", False)) or (isinstance(err, self._unanswered) and not full)

    def _may_repeat(self, err: Exception, attempt: int, was_ready: bool) -> bool:
        if isinstance(self._binding, ConnectionBinding):
            return False
        if isinstance(err, self._exhausted):
            # More connections in use than other calls in flight: some were lost, and would be for good.
            lost = attempt == 1 and self._binding.checked_out() >= len(self._calls)
            if lost:
                self._binding.abandon()
            return lost
        original = getattr(err, "orig", None)
        if getattr(err, "connection_invalidated", False):
            return attempt == 1
        code = getattr(original, "sqlstate", None) or next(iter(getattr(original, "args", ())), None)
        if code in _ROLLED_BACK:
            return True
        if code in _READ_ONLY:
            # The address may lead to another server by now, which only new connections find.
            self._binding.abandon()
            return attempt == 1
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
        self._calls.clear()
        if self._queue is not None:
            self._queue.reset()
        self._ready = self._ready and not self._binding.volatile
        if self._gate is not None:
            self._gate.reset()

    def _renew_locks(self) -> None:
        self._binding.renew_locks()
        if self._gate is not None:
            self._gate.renew_locks()
