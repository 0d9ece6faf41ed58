# over 320 lines because every database is held to the same tests, side by side
"""The SQL store on SQLite and PostgreSQL, in its native and its portable way."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import sys
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.pool import StaticPool

from beaker.exceptions import (
    ConfigError,
    InvalidCacheBackendError,
    MissingCacheParameter,
    StoreRefused,
    StoreUnavailable,
    ValueTooLarge,
)
from beaker.storage.sql import SqlStore, binding, make_cache_table
from beaker.storage.sql import statements as _sqlstatements
from beaker.storage.sql.statements import Statements
from beaker.testing import (
    BulkContract,
    FakeClock,
    ListingContract,
    ProcessContract,
    PurgingContract,
    SharedContract,
    StoreContract,
    VersionedContract,
)
from tests.descriptors import open_under
from tests.processes import CONTEXT, fresh
from tests.servers import PostgresServer


def rows_in(store: SqlStore) -> int:
    """How many rows the table has, expired ones included."""
    with store._runner._binding.begin() as connection:
        if not sa.inspect(connection).has_table(store.table.name):
            return 0
        return connection.execute(sa.select(sa.func.count()).select_from(store.table)).scalar_one()


class SqlHooks(StoreContract, VersionedContract, ListingContract, PurgingContract, BulkContract):
    """The suites for one store object."""

    def footprint(self, store: SqlStore) -> int:
        return rows_in(store)


def test_a_sqlite_file_is_private(tmp_path: Path) -> None:
    """The file and what SQLite keeps beside it are this user's alone, whatever the umask; older ones are left alone."""
    before = os.umask(0)
    try:
        store = SqlStore(f"sqlite:///{tmp_path}/private.db")
        store.set("n", "k", b"v", ttl=None)
        names = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        assert names == {"private.db": 0o600, "private.db-wal": 0o600, "private.db-shm": 0o600}
        (tmp_path / "older.db").touch(0o640)
        older = SqlStore(f"sqlite:///{tmp_path}/older.db")
        older.set("n", "k", b"v", ttl=None)
        assert (tmp_path / "older.db").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


class SharedSqlHooks(SqlHooks, SharedContract, ProcessContract):
    """The suites for a database that other processes reach by its url."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/cache.db"

    @pytest.fixture
    def store(self, clock: FakeClock, url: str) -> Iterator[SqlStore]:
        store = SqlStore(url, clock=clock, table_name=f"cache_{uuid.uuid4().hex}")
        self._others: list[SqlStore] = []
        self._url = url
        yield store
        for each in (store, *self._others):
            each.close()

    def second_store(self, store: SqlStore) -> SqlStore:
        self._others.append(SqlStore(self._url, clock=store._clock, table_name=store.table.name))
        return self._others[-1]

    def process_factory(self, store: SqlStore) -> tuple[Any, tuple[Any, ...]]:
        return child_store, (self._url, store.table.name)


def child_store(url: str, table_name: str) -> SqlStore:
    return SqlStore(url, table_name=table_name)


class TestSqliteFile(SharedSqlHooks):
    """SQLite in a file."""


class TestPostgres(SharedSqlHooks):
    """PostgreSQL."""

    @pytest.fixture
    def url(self, postgres_server: PostgresServer) -> str:
        return postgres_server.url


class TestSqliteMemory(SqlHooks):
    """SQLite in memory, one database for all threads."""

    @pytest.fixture
    def store(self, clock: FakeClock) -> Iterator[SqlStore]:
        store = SqlStore("sqlite://", clock=clock)
        yield store
        store.close()


class Portable(SharedSqlHooks):
    """The way for a dialect that the store knows nothing of: no upsert, no autocommit."""

    threads = 2
    rounds = 10

    @pytest.fixture(autouse=True)
    def _unknown_dialect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_sqlstatements, "NATIVE_UPSERT", frozenset())
        monkeypatch.setattr(binding, "AUTOCOMMIT", frozenset())


class TestPortableSqlite(Portable):
    """Portable statements on SQLite."""


class TestPortablePostgres(Portable):
    """Portable statements on PostgreSQL."""

    @pytest.fixture
    def url(self, postgres_server: PostgresServer) -> str:
        return postgres_server.url


class TestTheirEngine(SqlHooks):
    """An Engine of the caller's, with a Table of the caller's."""

    @pytest.fixture
    def store(self, clock: FakeClock, tmp_path: Path) -> Iterator[SqlStore]:
        engine = sa.create_engine(f"sqlite:///{tmp_path}/theirs.db")
        metadata = sa.MetaData()
        table = make_cache_table(metadata, "their_table")
        metadata.create_all(engine)
        yield SqlStore(engine, table=table, clock=clock, create_table=False)
        engine.dispose()


class TestTheirConnection(SqlHooks):
    """A Connection of the caller's, shared by threads that take turns."""

    @pytest.fixture
    def store(self, clock: FakeClock) -> Iterator[SqlStore]:
        engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        with engine.connect() as connection:
            yield SqlStore(connection, clock=clock)
        engine.dispose()


class TestTheirPostgresConnection(SqlHooks):
    """The same on PostgreSQL, inside a transaction of the caller's."""

    @pytest.fixture
    def store(self, clock: FakeClock, postgres_server: PostgresServer) -> Iterator[SqlStore]:
        engine = sa.create_engine(postgres_server.url)
        with engine.connect() as connection, connection.begin() as transaction:
            yield SqlStore(connection, clock=clock, table_name=f"cache_{uuid.uuid4().hex}")
            transaction.rollback()
        engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/cache.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.url


@pytest.fixture
def table_name() -> str:
    return f"cache_{uuid.uuid4().hex}"


@pytest.fixture
def store(url: str, table_name: str) -> Iterator[SqlStore]:
    store = SqlStore(url, table_name=table_name)
    yield store
    store.close()


@pytest.fixture
def admin(url: str) -> Iterator[sa.Engine]:
    """Another engine on the same database."""
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


def test_nothing_happens_before_the_first_use(tmp_path: Path) -> None:
    """Building a store connects to nothing, and a server that is down is no error until it is asked."""
    SqlStore(f"sqlite:///{tmp_path}/cache.db")
    assert list(tmp_path.iterdir()) == []
    store = SqlStore("postgresql+psycopg://u:geheim@127.0.0.1:1/db")
    with pytest.raises(StoreUnavailable):
        store.get("ns", "k")


def test_reads_make_no_table(store: SqlStore, admin: sa.Engine, table_name: str) -> None:
    """Reads and deletes of an empty database leave it empty; the first write creates the table."""
    assert store.get("ns", "k") is None
    assert store.read("ns", "k") is None
    assert store.get_many("ns", ["k"]) == {}
    assert list(store.keys("ns")) == []
    assert not store.replace("ns", "k", b"", 1, ttl=None)
    assert not store.remove("ns", "k", 1)
    store.delete("ns", "k")
    store.delete_many("ns", ["k"])
    store.clear("ns")
    store.set("ns", "k", b"", ttl=0)
    assert store.purge(0.0, 10) == (0, None)
    assert not sa.inspect(admin).has_table(table_name)
    store.set("ns", "k", b"1", ttl=None)
    assert sa.inspect(admin).has_table(table_name)


def test_the_columns_serve_scripts(url: str, table_name: str, admin: sa.Engine) -> None:
    """created, accessed and expires are seconds, namespace and key the names; a read writes nothing."""
    clock = FakeClock(1_000.5)
    store = SqlStore(url, table_name=table_name, clock=clock)
    store.set("ns", "k\0\ud800", b"1", ttl=None)
    clock.advance(10)
    store.set("ns", "k\0\ud800", b"2", ttl=60)
    clock.advance(10)
    store.get("ns", "k\0\ud800")
    with admin.connect() as connection:
        row = connection.execute(sa.select(store.table)).mappings().one()
    assert (row["created"], row["accessed"], row["expires"]) == (1_000.5, 1_010.5, 1_070.5)
    assert (row["namespace"], row["key"]) == (b"ns", "k\0\ud800".encode("utf-8", "surrogatepass"))
    store.close()


def test_a_foreign_table_is_refused(store: SqlStore, admin: sa.Engine, table_name: str) -> None:
    """A table with other columns is an error that names it and them, for reads too, and keeps its rows."""
    with admin.begin() as connection:
        connection.execute(sa.text(f"CREATE TABLE {table_name} (id integer, namespace text, data text)"))
        connection.execute(sa.text(f"INSERT INTO {table_name} VALUES (1, 'a', 'b')"))
    for use in (lambda: store.get("ns", "k"), lambda: store.set("ns", "k", b"1", ttl=None)):
        with pytest.raises(ConfigError) as caught:
            use()
        message = str(caught.value)
        assert table_name in message
        assert "key_digest" in message
        assert "unknown columns id" in message
    with admin.connect() as connection:
        assert connection.execute(sa.text(f"SELECT * FROM {table_name}")).all() == [(1, "a", "b")]


def test_a_harmless_extra_column_is_accepted(store: SqlStore, admin: sa.Engine, table_name: str) -> None:
    """A column that rows can be inserted without does no harm."""
    table = make_cache_table(sa.MetaData(), table_name)
    table.create(admin)
    with admin.begin() as connection:
        connection.execute(sa.text(f"ALTER TABLE {table_name} ADD COLUMN remark text"))
    store.set("ns", "k", b"1", ttl=None)
    assert store.get("ns", "k") == b"1"


def test_a_wrong_table_object_is_refused() -> None:
    """A Table that was not built by make_cache_table is an error at once."""
    table = sa.Table("mine", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("data", sa.LargeBinary))
    with pytest.raises(ConfigError, match=r"'mine'.*key_digest.*unknown columns id"):
        SqlStore("sqlite://", table=table)


def test_a_table_that_may_not_be_created(url: str, table_name: str) -> None:
    """With create_table off a missing table is a miss for reads and an error with advice for writes."""
    store = SqlStore(url, table_name=table_name, create_table=False)
    assert store.get("ns", "k") is None
    with pytest.raises(ConfigError, match="create_all"):
        store.set("ns", "k", b"1", ttl=None)
    store.close()


def test_a_dropped_table_is_made_again(store: SqlStore, admin: sa.Engine) -> None:
    """A table that is dropped under a running store is absent, then new."""
    store.set("ns", "k", b"1", ttl=None)
    store.table.drop(admin)
    assert store.get("ns", "k") is None
    store.set("ns", "k", b"2", ttl=None)
    assert store.get("ns", "k") == b"2"
    store.table.drop(admin)
    store.set("ns", "k", b"3", ttl=None)
    assert store.get("ns", "k") == b"3"


def test_schema_name(postgres_server: PostgresServer, table_name: str) -> None:
    """The table can live in a schema of its own."""
    engine = sa.create_engine(postgres_server.url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS corner"))
    store = SqlStore(postgres_server.url, table_name=table_name, schema_name="corner")
    store.set("ns", "k", b"1", ttl=None)
    assert sa.inspect(engine).has_table(table_name, schema="corner")
    assert not sa.inspect(engine).has_table(table_name)
    store.close()
    engine.dispose()


def insert_many(url: str, table_name: str, index: int, start: Any) -> None:
    store = SqlStore(url, table_name=table_name)
    start.wait(60)
    for number in range(50):
        assert store.insert("ns", f"{index}-{number}", b"%d" % number, ttl=None)
    store.close()


def test_processes_race_for_a_cold_database(url: str, store: SqlStore, table_name: str) -> None:
    """Four processes that find no table each insert fifty records; all two hundred are there."""
    start = CONTEXT.Barrier(4)
    children = [fresh(insert_many, url, table_name, index, start) for index in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * 4
    assert sorted(store.keys("ns")) == sorted(f"{a}-{b}" for a, b in itertools.product(range(4), range(50)))


def test_fork_after_use(url: str, store: SqlStore) -> None:
    """Parent and children read and write their own records after a fork, and none gets another's response."""
    for index in range(5):
        store.set("ns", f"before{index}", b"%d" % index, ttl=None)

    def work(index: int) -> None:
        for turn in range(40):
            assert store.get("ns", f"before{turn % 5}") == b"%d" % (turn % 5)
            store.set("ns", f"{index}-{turn}", b"%d" % turn, ttl=None)
            assert store.get("ns", f"{index}-{turn}") == b"%d" % turn

    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(index,)) for index in range(3)]
    for child in children:
        child.start()
    work(3)
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * 3
    for index, turn in itertools.product(range(4), range(40)):
        assert store.get("ns", f"{index}-{turn}") == b"%d" % turn


def test_a_child_inherits_no_sqlite_handle(tmp_path: Path) -> None:
    """SQLite files are closed before a fork: the child would wrongly rely on their locks."""
    store = SqlStore(f"sqlite:///{tmp_path}/cache.db")
    store.set("ns", "k", b"1", ttl=None)

    def work(answer: Any) -> None:
        answer.put((open_under(tmp_path), store.get("ns", "k")))

    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    child = context.Process(target=work, args=(answer,))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert answer.get() == ([], b"1")
    assert store.get("ns", "k") == b"1"
    store.close()


def test_memory_is_empty_in_a_child() -> None:
    """A database in memory belongs to one process: a child starts with an empty one of its own."""
    store = SqlStore("sqlite://")
    store.set("ns", "k", b"1", ttl=None)
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()

    def work() -> None:
        first = store.get("ns", "k")
        store.set("ns", "k", b"2", ttl=None)
        answer.put((first, store.get("ns", "k")))

    child = context.Process(target=work)
    child.start()
    child.join(60)
    assert answer.get() == (None, b"2")
    assert store.get("ns", "k") == b"1"
    store.close()


def end_connections(admin: sa.Engine) -> int:
    """Have the server close every connection but this one; returns how many it closed."""
    others = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = current_user"
    with admin.connect() as connection:
        ended = connection.execute(sa.text(f"SELECT pg_terminate_backend(pid) {others}")).all()
    return len(ended)


def test_a_closed_connection_costs_no_error(postgres_server: PostgresServer, table_name: str) -> None:
    """After the server ended the connection every operation works at its first call."""
    store = SqlStore(postgres_server.url, table_name=table_name)
    admin = sa.create_engine(postgres_server.url)
    store.set("ns", "k", b"1", ttl=None)

    def replace() -> bool:
        found = store.read("ns", "k")
        assert found is not None
        assert end_connections(admin)
        return bool(store.replace("ns", "k", b"3", found[1], ttl=None))

    uses = {
        lambda: store.get("ns", "k"): b"1",
        lambda: store.set("ns", "k", b"2", ttl=None): None,
        lambda: bool(store.insert("ns", "new", b"1", ttl=None)): True,
        replace: True,
        lambda: store.get_many("ns", ["k"]): {"k": b"3"},
    }
    for use, expected in uses.items():
        assert end_connections(admin) >= 1
        assert use() == expected
    store.close()
    admin.dispose()


def test_an_insert_that_was_done_before_the_connection_broke(postgres_server: PostgresServer, table_name: str) -> None:
    """An insert whose response was lost is recognized as our own when it is tried again."""
    store = SqlStore(postgres_server.url, table_name=table_name)
    admin = sa.create_engine(postgres_server.url)
    store.set("ns", "other", b"1", ttl=None)
    plain = store._rows.insert
    calls = []

    def insert_then_break(db: sa.Connection, row: dict[str, Any]) -> bool:
        calls.append(plain(db, row))
        if len(calls) == 1:
            end_connections(admin)
            db.execute(sa.text("SELECT 1"))
        return calls[-1]

    store._rows.insert = insert_then_break  # type: ignore[method-assign]
    assert store.insert("ns", "k", b"1", ttl=None)
    assert calls == [True, False]
    assert store.insert("ns", "k", b"2", ttl=None) is False
    assert store.get("ns", "k") == b"1"
    store.close()
    admin.dispose()


def test_connections_to_a_server_that_was_demoted_are_given_up(
    postgres_server: PostgresServer, table_name: str
) -> None:
    """Where all that a pool keeps have become read-only, a write is done on a new one; where that is too, it raises."""
    store = SqlStore(postgres_server.url, table_name=table_name)
    store.set("n", "k", b"1", ttl=None)
    engine = store._runner._binding._engine
    with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            connection.exec_driver_sql("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            connection.commit()
    store.set("n", "k", b"2", ttl=None)
    assert store.get("n", "k") == b"2"
    store.close()
    replica = SqlStore(f"{postgres_server.url}?options=-cdefault_transaction_read_only%3Don", table_name=table_name)
    with pytest.raises(StoreRefused):
        replica.set("n", "k", b"3", ttl=None)
    assert replica.get("n", "k") == b"2"
    replica.close()
    admin = sa.create_engine(postgres_server.url)
    with admin.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE {table_name}")
    admin.dispose()


def test_a_restarted_server_is_used_again(postgres_server: PostgresServer, table_name: str) -> None:
    """While the server is down operations say so; when it is back the first one works."""
    store = SqlStore(postgres_server.url, table_name=table_name)
    store.set("ns", "k", b"1", ttl=None)
    postgres_server.stop()
    for use in (lambda: store.get("ns", "k"), lambda: store.set("ns", "k", b"2", ttl=None)):
        with pytest.raises(StoreUnavailable, match=postgres_server.address):
            use()
    postgres_server.start()
    assert store.get("ns", "k") == b"1"
    store.close()


def test_no_secret_in_errors(postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the error, nor its traceback, nor the log shows password, user, query, key or value."""
    user, password, value = "s3cr3t", "geheim", "sessionvalue"
    with caplog.at_level(logging.DEBUG):
        store = SqlStore(f"postgresql+psycopg://{user}:{password}@127.0.0.1:1/db?application_name={password}")
        with pytest.raises(StoreUnavailable) as caught:
            store.set(value, value, value.encode(), ttl=None)
        assert "ext:database set: postgresql+psycopg://127.0.0.1:1/db" in str(caught.value)
        shown = "".join(traceback.format_exception(caught.value))
        engine = sa.create_engine(postgres_server.url)  # theirs, so it shows parameters in its errors
        broken = SqlStore(engine, table_name=f"cache_{uuid.uuid4().hex}")
        broken.set("ns", "k", b"1", ttl=None)
        with broken._runner._binding.begin() as connection:
            connection.execute(sa.text(f"ALTER TABLE {broken.table.name} DROP COLUMN version"))
        with pytest.raises(StoreUnavailable) as caught:
            broken.set(value, value, value.encode(), ttl=None)
        shown += "".join(traceback.format_exception(caught.value))
    assert [secret for secret in (user, password, value) if secret in shown + caplog.text] == []
    store.close()
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("", MissingCacheParameter, "url"),
        ("geheim", ConfigError, r"dialect\+driver"),
        ("http://u:geheim@host/x", ConfigError, "unknown dialect 'http'"),
        ("postgresql+nothing://u:geheim@host/x", ConfigError, r"unknown dialect 'postgresql\+nothing'"),
        ("mysql+pymysql://u:geheim@host/x", InvalidCacheBackendError, "pymysql"),
        ("sqlite+aiosqlite://", (ConfigError, InvalidCacheBackendError), "aiosqlite"),
        ("postgresql+psycopg_async://u:geheim@host/x", ConfigError, "asynchronous"),
        ("postgresql://u:geheim@host:port/x", ConfigError, "url"),
        ("postgresql://u:x@geheim@host/x", ConfigError, "%40"),
    ],
)
def test_bad_urls(url: str, error: type[Exception], words: str) -> None:
    """A url that cannot be used is an error at once, saying what is wrong without showing the password."""
    with pytest.raises(error, match=words) as caught:
        SqlStore(url)
    assert "geheim" not in "".join(traceback.format_exception(caught.value))


def test_bad_options() -> None:
    """An unknown engine option is named; values given as text are read."""
    with pytest.raises(ConfigError, match="pool_sise"):
        SqlStore("sqlite://", engine_options={"pool_sise": 3})
    with pytest.raises(ConfigError, match="sa_opts"):
        SqlStore("postgresql+psycopg://h/d", engine_options={"pool_size": "many"})
    store = SqlStore("postgresql+psycopg://h/d", engine_options={"pool_size": "3", "pool_pre_ping": "true"})
    assert store._runner._binding._engine.pool.size() == 3  # type: ignore[attr-defined]


def test_a_missing_sqlalchemy_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without SQLAlchemy the error says what to install."""
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(InvalidCacheBackendError, match=r"beaker-gae\[database\]"):
        SqlStore("sqlite://")


def test_sqlite_is_journalled(tmp_path: Path) -> None:
    """A SQLite file created by url is in WAL mode, busy for the timeout, and each connection to it caches half a MiB.

    An engine of the caller's is left alone.
    """
    store = SqlStore(f"sqlite:///{tmp_path}/cache.db", timeout=3)
    engine = sa.create_engine(f"sqlite:///{tmp_path}/theirs.db")
    theirs = SqlStore(engine)
    for each in (store, theirs):
        each.set("ns", "k", b"1", ttl=None)
    found = []
    for each in (store, theirs):
        with each._runner._binding.begin() as connection:
            names = ("journal_mode", "busy_timeout", "cache_size")
            found.append(tuple(connection.execute(sa.text(f"PRAGMA {name}")).scalar() for name in names))
    assert found == [("wal", 3_000, -512), ("delete", 5_000, -2_000)]
    store.close()
    engine.dispose()


def test_a_locked_sqlite_file_is_unavailable(tmp_path: Path) -> None:
    """A writer that never ends makes a write fail, naming the file; reads go on."""
    url = f"sqlite:///{tmp_path}/cache.db"
    store = SqlStore(url + "?timeout=0.01")
    store.set("ns", "k", b"1", ttl=None)
    blocker = sa.create_engine(url)
    with blocker.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"ext:database set: sqlite:.*cache\.db"):
            store.set("ns", "k", b"2", ttl=None)
        assert store.get("ns", "k") == b"1"
    blocker.dispose()
    store.close()


@pytest.mark.parametrize("failing", [False, True])
def test_their_transaction_is_theirs(postgres_server: PostgresServer, table_name: str, failing: bool) -> None:
    """What is written through a Connection inside the caller's transaction goes when that is rolled back."""
    engine = sa.create_engine(postgres_server.url)
    with engine.connect() as connection:
        store = SqlStore(connection, table_name=table_name)
        store.set("ns", "before", b"1", ttl=None)
        assert not connection.in_transaction()
        with connection.begin() as transaction:
            store.set("ns", "k", b"1", ttl=None)
            assert store.insert("ns", "k", b"2", ttl=None) is False
            assert connection.in_transaction()
            if failing:
                with pytest.raises(StoreUnavailable):
                    store.replace("ns", "k", b"2", "not a number", ttl=None)
                assert connection.execute(sa.text("SELECT 1")).scalar() == 1
            assert store.get("ns", "k") == b"1"
            transaction.rollback()
        assert store.get("ns", "k") is None
        assert store.get("ns", "before") == b"1"
    with pytest.raises(StoreUnavailable):
        store.get("ns", "before")
    engine.dispose()


def test_a_table_made_in_their_transaction_goes_with_it(postgres_server: PostgresServer, table_name: str) -> None:
    """A table created inside a transaction that is rolled back is created again when needed."""
    engine = sa.create_engine(postgres_server.url)
    with engine.connect() as connection:
        store = SqlStore(connection, table_name=table_name)
        with connection.begin() as transaction:
            store.set("ns", "k", b"1", ttl=None)
            transaction.rollback()
        assert store.get("ns", "k") is None
        store.set("ns", "k", b"2", ttl=None)
        assert store.get("ns", "k") == b"2"
    engine.dispose()


def test_their_connection_does_not_cross_a_fork(tmp_path: Path) -> None:
    """A child refuses the Connection it inherited instead of speaking on the parent's socket."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/theirs.db")
    with engine.connect() as connection:
        store = SqlStore(connection)
        store.set("ns", "k", b"1", ttl=None)
        context = multiprocessing.get_context("fork")

        def work() -> None:
            with pytest.raises(StoreUnavailable):
                store.get("ns", "k")

        child = context.Process(target=work)
        child.start()
        child.join(60)
        assert child.exitcode == 0
        assert store.get("ns", "k") == b"1"
    engine.dispose()


def test_max_value(store: SqlStore) -> None:
    """A bound given to the store is kept by every write."""
    store.max_value = 10
    store.set("ns", "k", bytes(10), ttl=None)
    for write in (
        lambda: store.set("ns", "k", bytes(11), ttl=None),
        lambda: store.insert("ns", "new", bytes(11), ttl=None),
        lambda: store.set_many("ns", {"new": bytes(11)}, ttl=None),
    ):
        with pytest.raises(ValueTooLarge):
            write()
    assert list(store.keys("ns")) == ["k"]


def test_bulk_over_one_page(store: SqlStore) -> None:
    """More keys than one statement takes are read, listed, and deleted all the same."""
    items = {f"k{index}": b"%d" % index for index in range(1201)}
    store.set_many("ns", items, ttl=None)
    assert store.get_many("ns", items) == items
    assert sorted(store.keys("ns")) == sorted(items)
    store.delete_many("ns", items)
    assert rows_in(store) == 0


def test_purge_spares_what_was_written_meanwhile(url: str, table_name: str) -> None:
    """A row found expired and written anew before its deletion stays."""
    clock = FakeClock()
    store = SqlStore(url, table_name=table_name, clock=clock)
    for key in ("a", "b"):
        store.set("ns", key, b"1", ttl=10)
    clock.advance(11)
    other = SqlStore(url, table_name=table_name, clock=clock)

    def meanwhile(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("DELETE"):
            other.set("ns", "a", b"2", ttl=None)

    sa.event.listen(store._runner._binding._engine, "before_cursor_execute", meanwhile)
    assert store.purge(clock(), 10) == (1, None)
    assert store.get("ns", "a") == b"2"
    store.close()
    other.close()


def test_a_cursor_of_somebody_else(store: SqlStore) -> None:
    """A purge cursor that is not ours is an error, not the start."""
    with pytest.raises(ConfigError, match="cursor"):
        store.purge(0.0, 1, cursor="abc:1")


def test_get_is_one_statement(store: SqlStore) -> None:
    """A hit, a miss, a set, an insert and a replace are one statement each, and keep no connection."""
    store.set("ns", "k", b"1", ttl=None)
    engine = store._runner._binding._engine
    seen: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda conn, cursor, statement, *rest: seen.append(statement))
    found = store.read("ns", "k")
    assert found is not None
    uses = [
        lambda: store.get("ns", "k"),
        lambda: store.get("ns", "no"),
        lambda: store.set("ns", "k", b"2", ttl=60),
        lambda: store.insert("ns", "k", b"3", ttl=60),
        lambda: store.replace("ns", "k", b"3", found[1], ttl=60),
        lambda: store.get_many("ns", ["a", "b", "k"]),
        lambda: store.delete("ns", "k"),
    ]
    for use in uses:
        seen.clear()
        use()
        assert len(seen) == 1
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_mysql_statements() -> None:
    """MySQL gets its own upsert and blobs that hold more than 64 kB."""
    table = make_cache_table(sa.MetaData(), "cache")
    dialect = mysql.dialect()
    created = str(sa.schema.CreateTable(table).compile(dialect=dialect))
    assert created.count("BLOB(4294967295)") == 3
    assert created.count("DOUBLE") == 3
    statements = Statements(table, "mysql")
    upsert = str(statements.upsert.compile(dialect=dialect))
    assert "ON DUPLICATE KEY UPDATE data" in upsert
    assert "created =" not in upsert
    assert statements.insert_absent is None


def test_what_is_no_engine_is_refused_by_name() -> None:
    """For an ORM session, its factory and an async engine the error names what to give instead; else, what is taken."""
    from sqlalchemy.orm import Session, scoped_session, sessionmaker

    engine = sa.create_engine("sqlite://")
    for given in (Session(engine), scoped_session(sessionmaker(engine)), sessionmaker(engine)):
        with pytest.raises(ConfigError, match=r"'bind' cannot be used; .* got \w+; .*session\.get_bind\(\)"):
            SqlStore(given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"expected a SQLAlchemy Engine, a Connection or a url, got int"):
        SqlStore(5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"postgresql:// in place of postgres://"):
        SqlStore("postgres://user:secret@host/db")
    engine.dispose()


def test_looking_for_a_store_creates_nothing(tmp_path: Path) -> None:
    """exists() is false without a file or a table, and creates neither; true once a record was stored."""
    missing, empty = SqlStore(f"sqlite:///{tmp_path}/missing.db"), SqlStore(f"sqlite:///{tmp_path}/empty.db")
    (tmp_path / "empty.db").touch()
    assert (missing.exists(), empty.exists()) == (False, False)
    assert [path.name for path in tmp_path.iterdir()] == ["empty.db"]
    empty.set("n", "k", b"v", ttl=None)
    assert empty.exists()
    empty.close()
