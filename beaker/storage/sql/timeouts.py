"""What bounds a call on each dialect: the driver's options, the server's, and psycopg's own waiting."""

from __future__ import annotations

import functools
import math
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

from beaker.storage import deadline

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

__all__ = ["bound_waiting", "connect_arguments", "pool_seconds"]

_LIBPQ = frozenset({"psycopg", "psycopg2"})
_SERVER_SHARE = 0.8
"""The server gives up first, so that the connection stays usable and no statement goes on without a caller."""


def connect_arguments(url: URL, given: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """``given`` and the driver's options that bound a call to ``timeout`` seconds, unless url or ``given`` has them."""
    driver = url.get_dialect().driver
    whole = max(1, math.ceil(timeout))
    found: dict[str, Any] = {}
    if driver in _LIBPQ:
        found = {
            "connect_timeout": max(2, whole),  # libpq waits no shorter
            "tcp_user_timeout": math.ceil(timeout * 1000),
            "keepalives": 1,
            "keepalives_idle": whole,
            "keepalives_interval": max(1, whole // 3),
            "keepalives_count": 3,
        }
    elif driver == "pg8000":
        found = {"timeout": whole}
    elif driver in ("pymysql", "mysqldb", "mariadbconnector"):
        found = {"connect_timeout": whole, "read_timeout": whole, "write_timeout": whole}
    elif driver == "mysqlconnector":
        found = {"connection_timeout": whole}
    elif url.get_backend_name() == "sqlite":
        found = {"timeout": timeout}
    if driver in ("pymysql", "mysqldb"):
        share = max(1, math.floor(timeout * _SERVER_SHARE))
        found["init_command"] = f"SET SESSION innodb_lock_wait_timeout = {share}, lock_wait_timeout = {share}"
    arguments = {name: value for name, value in found.items() if name not in url.query} | dict(given)
    if driver in _LIBPQ:
        milliseconds = max(1, int(timeout * _SERVER_SHARE * 1000))
        ours = f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}"
        # Of two that name one setting the last counts.
        theirs = arguments.get("options") or url.query.get("options") or ""
        arguments["options"] = f"{ours} {theirs if isinstance(theirs, str) else ' '.join(theirs)}".rstrip()
    return arguments


def pool_seconds(timeout: float) -> float:
    """How long a call may wait for a connection that other threads use."""
    return timeout / 2


def bound_waiting(engine: Engine) -> None:
    """Have libpq's connections be opened, and psycopg's wait, no longer than the call in flight may take.

    The server's own limits end nothing when the server is stopped, and the kernel goes on acknowledging for it.
    """
    from sqlalchemy import event

    if engine.dialect.driver not in _LIBPQ:
        return
    refused: list[bool] = []

    def connect(dialect: Any, _record: Any, arguments: Any, options: dict[str, Any]) -> Any:
        opened: Any = _bounded_connection() if dialect.driver == "psycopg" else dialect.loaded_dbapi
        left = deadline.left()
        if left is not None:
            options = {**options, "connect_timeout": max(2, min(int(options["connect_timeout"]), math.ceil(left)))}
        if not refused:
            try:
                return opened.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as err:
                # PgBouncer takes no options: the statement is then bounded by this side alone.
                if "unsupported startup parameter" not in str(err):
                    raise
                refused.append(True)
        return opened.connect(*arguments, **{name: value for name, value in options.items() if name != "options"})

    event.listen(engine, "do_connect", connect)


class _Overdue(Exception):
    """The call's time is over."""


@functools.cache
def _bounded_connection() -> Any:
    import psycopg

    class BoundedConnection(psycopg.Connection[Any]):
        def wait(self, generator: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]
            try:
                return super().wait(_until_overdue(generator), *args, **options)
            except psycopg.Error:
                raise
            except _Overdue:
                # A response may still come: this connection can read no other.
                self.pgconn.finish()
                raise psycopg.OperationalError("the server did not respond in time") from None
            except BaseException:
                self.pgconn.finish()
                raise

        def __del__(self) -> None:  # type: ignore[override]
            # Without a warning: what an aborted call lost was not forgotten by the application.
            if hasattr(self, "pgconn"):
                self.pgconn.finish()

    return BoundedConnection


def _until_overdue(generator: Any) -> Generator[Any, Any, Any]:
    try:
        wanted = next(generator)
        while True:
            ready = yield wanted
            left = deadline.left()
            if left is not None and left <= 0:
                raise _Overdue
            wanted = generator.send(ready)
    except StopIteration as end:
        return end.value
