"""``store_timeout``: one option, and what becomes of it for each store and driver."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, exc, make_url

from beaker.cache import Cache
from beaker.exceptions import ConfigError
from beaker.storage.deadline import left, within
from beaker.storage.sql import SqlStore, timeouts
from beaker.storage.sql.timeouts import connect_arguments
from beaker.testing import FakeClock


def store_of(**options: Any) -> Any:
    return Cache("ns", **options).namespace.store  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({"store_timeout": "1500ms"}, None),
        ({"store_timeout": 3}, 3.0),
        ({"socket_timeout": 3}, 3.0),
        ({"store_timeout": 3, "socket_timeout": 9}, 3.0),
        ({}, 2.0),
    ],
)
def test_the_option_reaches_the_servers(options: dict[str, Any], seconds: float | None) -> None:
    """memcached and Redis take it, or its older name; without either, two seconds. Anything but a time is refused."""
    if seconds is None:
        with pytest.raises(ConfigError, match="store_timeout"):
            store_of(type="ext:redis", url="redis://h", **options)
        return
    assert store_of(type="ext:redis", url="redis://h", **options)._timeouts[0] == seconds
    assert store_of(type="ext:memcached", url="h", **options)._timeout == seconds


def test_the_option_reaches_database_and_datastore() -> None:
    """Both take it; without it, five seconds."""
    for options, seconds in (({"store_timeout": 3}, 3.0), ({}, 5.0)):
        database = store_of(type="ext:database", url="sqlite://", **options)
        assert database._runner._timeout == seconds
        google = store_of(type="ext:google", project="p", **options)
        assert google.gateway.deadline == seconds
    assert store_of(type="ext:google", project="p", deadline=4).gateway.deadline == 4.0


@pytest.mark.parametrize("kind", ["file", "dbm"])
def test_the_option_reaches_files(kind: str, tmp_path: Path) -> None:
    """Writers of files wait as long for each other; a store of its own for each timeout."""
    stores = [store_of(type=kind, data_dir=str(tmp_path), store_timeout=seconds) for seconds in (3, 4)]
    waits = [(store._stripes if kind == "file" else store._engine.files)._timeout for store in stores]
    assert waits == [3.0, 4.0]


@pytest.mark.parametrize("seconds", [0, -1])
def test_no_time_at_all_is_refused(seconds: float) -> None:
    """A timeout of zero or less is a ConfigError."""
    with pytest.raises(ConfigError, match="timeout"):
        SqlStore("sqlite://", timeout=seconds)


def test_postgresql_is_bounded_on_both_sides() -> None:
    """libpq gets its times, the server four fifths of it; what url or options say themselves counts."""
    found = connect_arguments(make_url("postgresql+psycopg://h/d"), {}, 5.0)
    assert found["options"] == "-c statement_timeout=4000 -c lock_timeout=4000"
    assert (found["connect_timeout"], found["tcp_user_timeout"], found["keepalives"]) == (5, 5000, 1)
    url = make_url("postgresql+psycopg://h/d?connect_timeout=30&options=-c%20lock_timeout%3D9")
    found = connect_arguments(url, {"keepalives": 0}, 5.0)
    assert found["options"] == "-c statement_timeout=4000 -c lock_timeout=4000 -c lock_timeout=9"
    assert "connect_timeout" not in found
    assert found["keepalives"] == 0


@pytest.mark.parametrize("driver", ["pymysql", "mysqldb"])
def test_mysql_is_bounded_on_both_sides(driver: str) -> None:
    """The driver gets connect, read and write timeouts, the server how long a lock is waited for."""
    url = make_url(f"mysql+{driver}://h/d")
    found = connect_arguments(url, {"read_timeout": 60}, 5.0)
    assert (found["connect_timeout"], found["read_timeout"], found["write_timeout"]) == (5, 60, 5)
    assert found["init_command"] == "SET SESSION innodb_lock_wait_timeout = 4, lock_wait_timeout = 4"


def test_the_outer_deadline_counts(fake_clock: FakeClock) -> None:
    """What a call does in several steps has the time of the first; after the call there is no deadline."""
    assert left() is None
    with within(5.0, fake_clock):
        fake_clock.advance(4)
        with within(5.0, fake_clock) as inner:
            assert inner.left() == 1.0
            assert left() == 1.0
        assert left() == 1.0
    assert left() is None


def test_a_deadline_that_was_left_behind_is_forgotten(fake_clock: FakeClock) -> None:
    """A call that ended without leaving its block (aborted between two lines) bounds no later one."""
    within(5.0, fake_clock).__enter__()
    assert left() is None
    kept = within(5.0, fake_clock)
    kept.__enter__()
    assert left() == 5.0
    fake_clock.advance(6.5)
    assert left() is None
    with within(3.0, fake_clock):
        assert left() == 3.0


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_pool_that_takes_no_options_is_connected_without(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PgBouncer refuses the startup parameter by which the server bounds statements: it is left out from then on."""
    given: list[bool] = []

    class Pooler:
        __version__ = "2.9.9"
        paramstyle = "pyformat"
        Error = OperationalError = psycopg.OperationalError

        @staticmethod
        def connect(*arguments: Any, **options: Any) -> None:
            given.append(bool(options.get("options")))
            why = "unsupported startup parameter: options" if given[-1] else "too many clients"
            raise psycopg.OperationalError(why)

    monkeypatch.setattr(timeouts, "_bounded_connection", lambda: Pooler)
    # The driver itself need not be installed: SQLAlchemy looks at two of its modules.
    extras, extensions = ModuleType("psycopg2.extras"), ModuleType("psycopg2.extensions")
    monkeypatch.setitem(sys.modules, "psycopg2", ModuleType("psycopg2"))
    for part in (extras, extensions):
        monkeypatch.setitem(sys.modules, part.__name__, part)
        monkeypatch.setattr(sys.modules["psycopg2"], part.__name__.rpartition(".")[2], part, raising=False)
    module: dict[str, Any] = {} if driver == "psycopg" else {"module": Pooler}
    url = make_url(f"postgresql+{driver}://pooler/db")
    engine = create_engine(url, connect_args=connect_arguments(url, {}, 5.0), **module)
    timeouts.bound_waiting(engine)
    for _ in range(2):
        with pytest.raises(exc.OperationalError, match="too many clients"):
            engine.connect()
    assert given == [True, False, False]
