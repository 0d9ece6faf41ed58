"""Where the SQL stores get connections from: a url, or the application's Engine or Connection."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from beaker.exceptions import ConfigError, InvalidCacheBackendError, MissingCacheParameter
from beaker.storage.sql.timeouts import bound_waiting, connect_arguments, pool_seconds
from beaker.storage.sqlite import create_private, enter_wal

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

__all__ = ["AUTOCOMMIT", "Binding", "bind_to"]

AUTOCOMMIT = frozenset({"sqlite", "postgresql", "mysql", "mariadb", "oracle", "mssql"})
"""Dialects on which every operation is one statement that commits itself: one round trip, not three."""

_MEMORY = ":memory:"
_OVERFLOW = 10
"""Connections of a pool beside those that it keeps: SQLAlchemy's own default."""
_inherited: list[Any] = []
"""Pools a child got by a fork: dropping the last reference would close the parent's sockets and files."""


class Binding:
    """Connections of an engine: :meth:`begin` commits at the end of the block, or rolls back."""

    def __init__(self, engine: Engine, *, owned: bool, room: int = 0, patience: float = 0.0) -> None:
        import sqlalchemy

        self.room = room
        """Connections that the pool of an engine created here has at most; 0: there is no limit, or it is not known."""
        self.patience = patience
        """Seconds for which a call waits for one of the ``room`` connections."""
        self.dialect = engine.dialect.name
        self.autocommit = self.dialect in AUTOCOMMIT and (owned or self.dialect != "sqlite")
        if self.autocommit and not owned:
            engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        in_memory = self.dialect == "sqlite" and (engine.url.database or _MEMORY) == _MEMORY
        self.volatile = owned and in_memory
        """The database is memory of this process, behind one connection that all threads take in turn."""
        self._file = self.dialect == "sqlite" and not in_memory
        self._theirs_in_memory = in_memory and not owned
        self.owned = owned
        self._engine = engine
        # Not with the application's engine: its options may rewrite statements when they are compiled.
        self.executes_compiled = owned and sqlalchemy.__version__.startswith("2.0.")
        self._turn = threading.RLock()

    @property
    def label(self) -> str:
        """The address without user, password and options."""
        from sqlalchemy import URL

        url = self._engine.url
        return URL.create(url.drivername, host=url.host, port=url.port, database=url.database).render_as_string()

    def lacks(self, table: str) -> bool:
        """Whether the database is a SQLite file that is not there or has no ``table``.

        Looked at read-only: SQLAlchemy's connection would create the file, or change its journal mode.
        """
        path = self._engine.url.database or ""
        if not self._file or path.startswith("file:"):
            return False
        if not os.path.exists(path):
            return True
        uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
        query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
            return database.execute(query, (table,)).fetchone() is None
        return False

    def begin(self) -> contextlib.AbstractContextManager[Connection]:
        return self._alone() if self.volatile else self._engine.begin()

    def look(self) -> contextlib.AbstractContextManager[Connection]:
        """A connection to read with: where nothing has to be ended, without a transaction's bookkeeping."""
        return self._engine.connect() if self.autocommit and not self.volatile else self.begin()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[Connection]:
        with self._turn, self._engine.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close the idle connections of an engine created here; a database in memory ends with that."""
        if self.owned:
            self._engine.dispose()

    def renew_locks(self) -> None:
        """After a patch of :mod:`threading`; the pool of the application's engine is the application's."""
        self._turn = threading.RLock()
        if self.owned and not self.volatile:
            self._engine.dispose()

    def abandon(self) -> None:
        """Replace the pool of an engine created here: it counts a connection that no call has any more."""
        if self.owned and not self.volatile:
            self._engine.dispose()

    def checked_out(self) -> int:
        """Connections that the pool of an engine created here takes for in use."""
        count = getattr(self._engine.pool, "checkedout", None)
        return count() if self.owned and count is not None else 0

    def before_fork(self) -> None:
        # Idle connections only, so that it is safe for the application's engine as well: its pool opens new ones.
        if self._file:
            self._engine.dispose()

    def after_fork(self) -> None:
        self._turn = threading.RLock()
        if not self._theirs_in_memory:
            _inherited.append(self._engine.pool)
            self._engine.dispose(close=False)


class ConnectionBinding(Binding):
    """The application's Connection, by one thread at a time. Inside its transaction a write becomes a
    savepoint that the application commits; outside, it is a transaction of its own."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.engine, owned=False)
        self._engine = connection.engine
        self.autocommit = False
        self._connection: Connection | None = connection

    @contextlib.contextmanager
    def begin(self) -> Iterator[Connection]:
        from sqlalchemy import exc

        with self._turn:
            connection = self._connection
            if connection is None:
                raise exc.InvalidRequestError("the Connection was opened before a fork")
            if not connection.in_transaction():
                with connection.begin():
                    yield connection
            elif self.dialect == "sqlite":
                # The driver starts no transaction for a savepoint, so releasing it would commit; and a
                # statement that fails leaves SQLite's transaction as it was.
                yield connection
            else:
                with connection.begin_nested():
                    yield connection

    @property
    def in_their_transaction(self) -> bool:
        return self._connection is not None and self._connection.in_transaction()

    def before_fork(self) -> None:
        """Nothing here may be closed: it is the application's."""

    def after_fork(self) -> None:
        _inherited.append(self._connection)
        self._connection = None
        self._turn = threading.RLock()


def bind_to(bind: str | URL | Engine | Connection, options: Mapping[str, Any], timeout: float) -> Binding:
    """Connections for ``bind``; ``options`` are those of :func:`sqlalchemy.create_engine`, for a url only.
    So is ``timeout``, the seconds a call may take in all.

    Raises :class:`~beaker.exceptions.InvalidCacheBackendError` when SQLAlchemy or the url's driver is
    not installed and :class:`~beaker.exceptions.ConfigError` when url or options cannot be used.
    """
    try:
        import sqlalchemy
    except ImportError as err:
        raise InvalidCacheBackendError(
            "the ext:database and ext:sqla backends need SQLAlchemy 2",
            hint="pip install 'beaker-gae[database]'",
            code="config.missing-package",
        ) from err
    if isinstance(bind, sqlalchemy.Connection):
        return ConnectionBinding(bind)
    if isinstance(bind, sqlalchemy.Engine):
        return Binding(bind, owned=False)
    if not bind:
        raise MissingCacheParameter("the database store needs a url", option="url", hint="sqlite:////tmp/cache.db")
    if not isinstance(bind, (str, sqlalchemy.URL)):
        raise _no_bind(bind)
    return _own_engine(bind, dict(options), timeout)


def _no_bind(given: object) -> ConfigError:
    # By name: sqlalchemy.orm and the asyncio part are not imported for the sake of an error.
    names = {kind.__name__ for kind in type(given).__mro__}
    hint = ""
    if names & {"Session", "scoped_session", "sessionmaker"}:
        hint = "a session commits when the application does: give its engine, bind=session.get_bind()"
    elif "AsyncEngine" in names:
        hint = "give the synchronous engine: bind=engine.sync_engine"
    return ConfigError(
        "option 'bind' cannot be used",
        option="bind",
        expected="a SQLAlchemy Engine, a Connection or a url",
        got=type(given).__name__,
        hint=hint,
    )


def _own_engine(given: str | URL, options: dict[str, Any], timeout: float) -> Binding:
    from sqlalchemy import engine_from_config, event, exc, make_url
    from sqlalchemy.pool import StaticPool

    try:
        url = make_url(given)
    except (exc.ArgumentError, ValueError):
        # Not chained: nothing that holds the text of a url, and perhaps its password, may reach a log.
        raise ConfigError(
            "the database url cannot be read", option="url", expected="dialect+driver://user:password@host:port/name"
        ) from None
    if "@" in (url.host or ""):
        # What would pass for the host is the end of the password.
        raise ConfigError("the database url has a bare @ in its password", option="url", hint="write it as %40")
    name = url.get_backend_name()
    arguments = dict(options.pop("connect_args", None) or {})
    if name in AUTOCOMMIT:
        options.setdefault("isolation_level", "AUTOCOMMIT")
    options.setdefault("hide_parameters", True)
    if name == "sqlite" and (url.database or _MEMORY) == _MEMORY:
        options.setdefault("poolclass", StaticPool)
        arguments.setdefault("check_same_thread", False)
    # As a keyword argument: among the options SQLAlchemy takes a fraction for a whole number.
    waiting = {} if options.keys() & {"poolclass", "pool_timeout"} else {"pool_timeout": pool_seconds(timeout)}
    if name == "sqlite" and not options.keys() & {"poolclass", "pool_size", "max_overflow"}:
        # As many as there are threads: SQLAlchemy's pool is not fair, and one in 16 busy threads waited for seconds.
        waiting["pool_size"] = 0
    elif not options.keys() & {"poolclass", "max_overflow"}:
        waiting["max_overflow"] = _OVERFLOW
    try:
        arguments = connect_arguments(url, arguments, timeout)
        engine = engine_from_config({**options, "url": url, "connect_args": arguments}, prefix="", **waiting)
    except exc.NoSuchModuleError as err:
        dialect = url.get_backend_name()
        raise ConfigError(
            f"the database url names the unknown dialect {url.drivername!r}",
            option="url",
            hint="SQLAlchemy 2 wants postgresql:// in place of postgres://" if dialect == "postgres" else "",
        ) from err
    except ImportError as err:
        raise InvalidCacheBackendError(
            f"the database url {url.drivername}:// needs the package {err.name or 'of that name'}, which is missing",
            option="url",
            hint="pip install 'beaker-gae[database]' and the driver",
            code="config.missing-package",
        ) from err
    except (exc.ArgumentError, TypeError, ValueError) as err:
        # A TypeError of SQLAlchemy's names the options it does not know; the other errors quote values.
        reason = f": {err}" if isinstance(err, TypeError) else ""
        raise ConfigError(f"the engine options (sa_opts, sa.*) cannot be used{reason}", option="sa_opts") from err
    if engine.dialect.is_async:
        raise ConfigError(
            f"the database url names the asynchronous driver {engine.dialect.driver}", option="url", expected="another"
        )
    if name == "sqlite":
        seconds = float(arguments.get("timeout") or _one(url.query.get("timeout")) or timeout)

        def prepare(connection: object, _record: object) -> None:
            if isinstance(connection, sqlite3.Connection):
                enter_wal(connection, timeout=seconds)
                connection.execute("PRAGMA synchronous = NORMAL")

        def create(_dialect: object, _record: object, arguments: list[Any], _named: object) -> None:
            # What cannot be created is SQLite's to report, as is a URI that it has to read first.
            path = str(arguments[0])
            if path != _MEMORY and not path.startswith("file:") and not os.path.lexists(path):
                with contextlib.suppress(OSError):
                    create_private(path)

        event.listen(engine, "do_connect", create)
        event.listen(engine, "connect", prepare)
    bound_waiting(engine)
    patience = float(options.get("pool_timeout") or pool_seconds(timeout))
    return Binding(engine, owned=True, room=_room(engine, {**options, **waiting}), patience=patience)


def _room(engine: Engine, options: Mapping[str, Any]) -> int:
    overflow = int(options.get("max_overflow", -1))
    if "poolclass" in options or overflow < 0:
        return 0
    pool: Any = engine.pool
    size: int = pool.size()
    return size and size + overflow


def _one(value: str | tuple[str, ...] | None) -> str | None:
    return value[0] if isinstance(value, tuple) else value
