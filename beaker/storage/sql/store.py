"""The SQL store: a row a record, through SQLAlchemy 2 Core."""

from __future__ import annotations

import time
import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from beaker import clock as _clock
from beaker._typing import Clock
from beaker.counters import store_tally
from beaker.exceptions import ConfigError
from beaker.keys import digest, encode_text, namespace_digest
from beaker.storage.api import Bulk, Contents, Describing, Listing, Purging, Spanning, Store, Versioned, Written
from beaker.storage.names import namespace_name, record_name
from beaker.storage.records import check_size, expires_at, new_version
from beaker.storage.sql.binding import bind_to
from beaker.storage.sql.rows import Rows
from beaker.storage.sql.runner import Runner
from beaker.storage.sql.statements import PAGE, Statements
from beaker.storage.sql.table import check_table, make_cache_table

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, Table

__all__ = ["SqlStore", "make_cache_table"]


class SqlStore(Store, Versioned, Listing, Purging, Describing, Bulk, Spanning):
    """Records as rows of one table (:func:`make_cache_table`), through SQLAlchemy 2; every capability.

    - ``bind_or_url``: a SQLAlchemy url, Engine or Connection. From a url an engine is created, and each operation is
      one statement in autocommit mode. A SQLite file is created with mode 0600 and put in WAL mode; ``sqlite://`` is
      one private database in memory for all threads, empty again in a forked child. Your Engine is used as it is. Your
      Connection is used by one thread at a time: inside your transaction writes are savepoints that you commit or roll
      back, outside each commits itself; a forked child cannot use it.
    - ``engine_options``: keyword arguments of :func:`sqlalchemy.create_engine`, for a url only; strings are coerced.
      Default: none.
    - ``table``: a Table that has the columns of :func:`make_cache_table`; default ``None``: one named ``table_name``
      (default ``beaker_cache``) in ``schema_name`` (default ``None``: the connection's own).
    - ``create_table``: true, the default: the first write creates the table when it is absent. With false that write
      raises ConfigError. A table with other columns raises ConfigError naming them, and stays as it is.
    - ``max_value``: bytes of a value at most; default ``None``: the database has limits of its own.
    - ``timeout``: seconds a call may take in all, default 5; for a url only. It becomes the driver's and the server's
      options for connecting, locks, statements and sockets, half of it the pool's, SQLite's busy timeout; what url or
      ``engine_options`` say themselves counts. A server that is stopped in the middle of a call is noticed with
      psycopg; other drivers notice what their sockets' timeouts show.
    - ``clock``: seconds since the epoch; decides what has expired. Hosts that share a table need clocks that agree.

    An operation that finds its connection closed by the server runs once more on a new one, so that a restarted
    database costs no error. Any other failure of the database is :class:`~beaker.exceptions.StoreUnavailable` naming
    the address, without user, password or values.
    """

    backend = "ext:database"
    trusted = False

    def __init__(
        self,
        bind_or_url: str | URL | Engine | Connection,
        *,
        table_name: str = "beaker_cache",
        schema_name: str | None = None,
        engine_options: Mapping[str, Any] = {},
        table: Table | None = None,
        create_table: bool = True,
        max_value: int | None = None,
        timeout: float = 5.0,
        clock: Clock = _clock.now,
    ) -> None:
        if not timeout > 0:
            raise ConfigError("timeout is not positive", option="timeout", expected="a number above 0")
        binding = bind_to(bind_or_url, engine_options, timeout)
        if table is None:
            from sqlalchemy import MetaData

            table = make_cache_table(MetaData(), table_name, schema_name)
        check_table(table)
        self.table = table
        self.max_value = max_value
        self._tally = store_tally(self.backend)
        self._clock = clock
        self._binding = binding
        self._statements = Statements(table, binding.dialect)
        self._rows = Rows(
            self._statements,
            savepoints=not binding.autocommit,
            compiles=binding.executes_compiled,
            backend=self.backend,
        )
        self._runner = Runner(binding, table, create_table=create_table, backend=self.backend, timeout=timeout)
        self._finalizer = weakref.finalize(self, binding.close)

    def exists(self) -> bool:
        """Whether database and table are there; creates neither. StoreUnavailable when the server does not reply."""
        return not self._binding.lacks(self.table.name) and self._runner.read("exists", lambda db, again: True, False)

    def close(self) -> None:
        """Close the idle connections of an engine created here. The store stays usable."""
        self._runner.close()

    # Store

    def get(self, namespace: str, key: str) -> bytes | None:
        name = _name(namespace, key)
        row = self._runner.read("get", lambda db, _: db.execute(self._statements.get, name).first(), None)
        data = None if row is None or (row[1] is not None and row[1] <= self._clock()) else bytes(row[0])
        self._tally.read(data)
        return data

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        check_size(data, self.max_value, self.backend, "set")
        if ttl is not None and ttl <= 0:
            self._delete(namespace, (key,), "set")
            return
        row = self._row(namespace, key, data, ttl)
        self._runner.write("set", lambda db, _: self._rows.upsert(db, row, "set"))
        self._tally.wrote(len(data))

    def delete(self, namespace: str, key: str) -> None:
        name = _name(namespace, key)
        self._runner.change("delete", lambda db, _: db.execute(self._statements.delete, name), None)
        self._tally.deleted()

    def clear(self, namespace: str) -> None:
        name = {"p_namespace_digest": namespace_digest(namespace)}
        self._runner.change("clear", lambda db, _: db.execute(self._statements.clear, name), None)
        self._tally.deleted()

    # Versioned

    def read(self, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        name = _name(namespace, key)
        row = self._runner.read("read", lambda db, _: db.execute(self._statements.read, name).first(), None)
        if row is None or (row[1] is not None and row[1] <= self._clock()):
            self._tally.read(None)
            return None
        data = bytes(row[0])
        self._tally.read(data)
        return data, row[2]

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> bool | Written:
        check_size(data, self.max_value, self.backend, "insert")
        row = self._row(namespace, key, data, ttl)

        def work(db: Connection, again: bool) -> bool:
            return self._rows.insert(db, row) or (again and self._rows.is_mine(db, row))

        return self._tally.tried(self._runner.write("insert", work), len(data)) and Written(row["p_version"])

    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> bool | Written:
        check_size(data, self.max_value, self.backend, "replace")
        row = {**self._row(namespace, key, data, ttl), "p_old_version": version}

        def work(db: Connection, again: bool) -> bool:
            return db.execute(self._statements.replace, row).rowcount == 1 or (again and self._rows.is_mine(db, row))

        done = self._runner.change("replace", work, False)
        return self._tally.tried(done, len(data)) and Written(row["p_version"])

    def remove(self, namespace: str, key: str, version: Hashable) -> bool:
        row = {**_name(namespace, key), "p_old_version": version, "p_now": self._clock()}
        done = self._runner.change(
            "remove", lambda db, _: db.execute(self._statements.remove, row).rowcount == 1, False
        )
        return self._tally.removed(done)

    # Listing, Purging

    def keys(self, namespace: str) -> Iterator[str]:
        """The live keys, a page at a time; no connection is held in between."""
        name = {"p_namespace_digest": namespace_digest(namespace), "p_after": "", "p_now": self._clock()}
        nothing: list[Any] = []
        while True:
            rows = self._runner.read("keys", lambda db, _: list(db.execute(self._statements.keys, name)), nothing)
            for row in rows:
                yield bytes(row[1]).decode("utf-8", "surrogatepass")
            if len(rows) < PAGE:
                return
            name["p_after"] = rows[-1][0]

    def purge(
        self, now: float, limit: int, *, cursor: str | None = None, deadline: float | None = None
    ) -> tuple[int, str | None]:
        """See :class:`~beaker.storage.api.Purging`; goes through the index of expiry times, oldest first.

        The deadline is looked at after every 500 rows. ``cursor`` as returned, or
        :class:`~beaker.exceptions.ConfigError`.
        """
        end = None if deadline is None else time.monotonic() + deadline
        start = _place(cursor)
        gone = 0
        while gone < limit:
            page = min(PAGE, limit - gone)
            rows, removed = self._purge_page(now, start, page)
            gone += removed
            self._tally.deleted(removed)
            if len(rows) < page:
                return gone, None
            start = rows[-1][2]
            if end is not None and time.monotonic() >= end:
                break
        return gone, repr(start)

    def expired(self, now: float) -> int:
        """How many records expired before ``now``; by the index of expiry times."""
        found: int = self._runner.read(
            "expired", lambda db, _: db.execute(self._statements.count_expired, {"p_now": now}).scalar_one(), 0
        )
        return found

    def contents(self, now: float) -> Iterator[Contents]:
        """What each namespace holds, expired records included; goes through the whole table."""
        nothing: list[Any] = []
        rows = self._runner.read(
            "contents", lambda db, _: list(db.execute(self._statements.contents, {"p_now": now})), nothing
        )
        for namespace, records, size, oldest, newest, over in rows:
            name = bytes(namespace).decode("utf-8", "surrogatepass")
            yield Contents(name, records, int(size or 0), oldest, newest, int(over or 0))

    def _purge_page(self, now: float, start: float, page: int) -> tuple[list[Any], int]:
        nothing: tuple[list[Any], int] = ([], 0)
        return self._runner.change("purge", lambda db, _: self._rows.purge(db, now, start, page), nothing)

    # Bulk

    def get_many(self, namespace: str, keys: Iterable[str]) -> dict[str, bytes]:
        names = {digest(namespace, key): key for key in keys}
        prefix = namespace_digest(namespace)

        def work(db: Connection, _again: bool) -> list[Any]:
            rows: list[Any] = []
            for page in _pages(sorted(names)):
                rows += db.execute(self._statements.get_many, {"p_namespace_digest": prefix, "p_keys": page})
            return rows

        found: list[Any] = self._runner.read("get_many", work, []) if names else []
        now = self._clock()
        values = {names[row[0]]: bytes(row[1]) for row in found if row[2] is None or row[2] > now}
        self._tally.read_many(len(names), sum(map(len, values.values())))
        return values

    def get_across(self, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        wanted = {digest(*name): name for name in names}
        namespaces = sorted({namespace_digest(namespace) for namespace, _ in wanted.values()})

        def work(db: Connection, _again: bool) -> list[Any]:
            rows: list[Any] = []
            for page in _pages(sorted(wanted)):
                rows += db.execute(self._statements.get_across, {"p_namespaces": namespaces, "p_keys": page})
            return rows

        found: list[Any] = self._runner.read("get_across", work, []) if wanted else []
        now = self._clock()
        values = {wanted[row[0]]: bytes(row[1]) for row in found if row[2] is None or row[2] > now}
        self._tally.read_many(len(wanted), sum(map(len, values.values())))
        return values

    def set_many(self, namespace: str, items: Mapping[str, bytes], *, ttl: float | None) -> None:
        for data in items.values():
            check_size(data, self.max_value, self.backend, "set_many")
        if ttl is not None and ttl <= 0:
            self._delete(namespace, items, "set_many")
        elif items:
            rows = [self._row(namespace, key, data, ttl) for key, data in items.items()]
            # All writers take the rows in one order, so that two of them cannot wait for each other.
            rows.sort(key=lambda row: str(row["p_key_digest"]))
            self._runner.write("set_many", lambda db, _: self._rows.upsert_many(db, rows))
            self._tally.wrote(sum(map(len, items.values())), len(items))

    def delete_many(self, namespace: str, keys: Iterable[str]) -> None:
        self._delete(namespace, keys, "delete_many")

    def _delete(self, namespace: str, keys: Iterable[str], operation: str) -> None:
        names = sorted(digest(namespace, key) for key in keys)
        prefix = namespace_digest(namespace)

        def work(db: Connection, _again: bool) -> None:
            for page in _pages(names):
                db.execute(self._statements.delete_many, {"p_namespace_digest": prefix, "p_keys": page})

        if names:
            self._runner.change(operation, work, None)
            self._tally.deleted(len(names))

    # statements

    def _row(self, namespace: str, key: str, data: bytes, ttl: float | None) -> dict[str, Any]:
        now = self._clock()
        return {
            "p_namespace_digest": namespace_name(namespace),
            "p_key_digest": record_name(namespace, key),
            "p_namespace": encode_text(namespace),
            "p_key": encode_text(key),
            "p_data": data,
            "p_version": new_version(),
            "p_created": now,
            "p_accessed": now,
            "p_expires": expires_at(now, ttl),
            "p_now": now,
        }


def _name(namespace: str, key: str) -> dict[str, Any]:
    return {"p_namespace_digest": namespace_name(namespace), "p_key_digest": record_name(namespace, key)}


def _pages(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), PAGE):
        yield names[start : start + PAGE]


def _place(cursor: str | None) -> float:
    try:
        return 0.0 if cursor is None else float(cursor)
    except ValueError:
        raise ConfigError(
            "the cursor is not from this store",
            option="cursor",
            expected="what purge() returned",
            code="purge.bad-cursor",
        ) from None
