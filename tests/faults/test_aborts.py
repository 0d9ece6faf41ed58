"""Exceptions from outside at any line of a call: nothing they leave behind harms a later call."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from beaker.forks import ForkGate
from beaker.storage.lease import LeaseLocks
from beaker.storage.memory import MemoryStore
from beaker.storage.sql.binding import Binding
from beaker.testing import FakeClock
from tests.faults.aborting import Abort, Alarm, each_line
from tests.faults.conftest import Place

pytestmark = pytest.mark.filterwarnings(
    # A connection that was lost between two lines of its driver is closed when it is collected.
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::ResourceWarning",
)


@pytest.mark.parametrize("error", [Abort, Alarm])
def test_aborted_calls_cost_no_connection(place: Place, error: type[BaseException]) -> None:
    """Whichever line an exception from outside hits, the store works afterwards and no connection stays in use."""
    store = store_at(place)
    number = 0
    # A new connection takes as many lines again, so both kinds of call are cut.
    for call, step in ((lambda: store.get("ns", "k"), 7), (lambda: store.set("ns", "k", b"1", ttl=60), 11)):
        for _ in each_line(call, error, step):
            number += 1
            # Before another call, which would replace an exhausted pool.
            assert in_use(place, store) == 0
            assert store.get("ns", "other") == b"2"
            if number % 3 == 0:
                store.close()
    assert number > 20


@pytest.mark.parametrize("state", ["written once", "read since", "pinned"])
def test_an_aborted_overwrite_in_memory_loses_no_record(state: str) -> None:
    """Whichever line of it an exception from outside hits, the old record or the new one is there and counted."""
    store = MemoryStore(max_entries=4)
    if state == "pinned":
        store.pin("ns")
    store.set("ns", "k", b"old", ttl=60)
    for _ in each_line(lambda: store.set("ns", "k", b"newer", ttl=60), Abort, 1):
        assert store.get("ns", "k") in (b"old", b"newer")
        assert store.bytes_used == sum(record.size for record in store._all().values())
        store.clear("ns")
        store.set("ns", "k", b"old", ttl=60)
        if state == "read since":
            store.get("ns", "k")


def test_an_aborted_call_leaves_the_gate_of_forks_open() -> None:
    """Whichever line of entering and leaving it an exception from outside hits: others pass, and a fork need not wait.

    A thread that could not leave has left when it leaves again.
    """
    gate = ForkGate()

    def use() -> None:
        with gate:
            pass

    for _ in each_line(use, Abort, 1):
        assert gate._mutex.acquire(timeout=0), "the abort has left the gate locked"
        gate._mutex.release()
        use()
        assert not gate._inside


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_some_lines_would_lose_a_connection(
    kind: str, place_of: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what mends the pool after an abort a connection is lost at some line: those that are cut matter."""
    place = place_of(kind)
    store = store_at(place)
    if kind == "postgres":
        monkeypatch.setattr(Binding, "abandon", lambda binding: None)
    else:
        # On redis-py's own pool, as behind sentinels, and the client that is used after an abort is the same one.
        store._has_lines = False
        store._given = store._connected()
    lost = 0
    for _ in each_line(lambda: store.get("ns", "k"), Abort, 7 if kind == "postgres" else 1):
        lost = in_use(place, store)
        if lost:
            break
        # So that no circuit opens.
        store.get("ns", "other")
    monkeypatch.undo()
    store._given = None
    assert lost


def store_at(place: Place) -> Any:
    """A store with two records, on a pool of two connections where there is one."""
    options: dict[str, Any] = {}
    if place.kind == "postgres":
        options["engine_options"] = {"pool_size": 2, "max_overflow": 0, "pool_timeout": 1}
    store = place.store(timeout=5.0, **options)
    store.set("ns", "k", b"1", ttl=60)
    store.set("ns", "other", b"2", ttl=60)
    return store


def in_use(place: Place, store: Any) -> int:
    """Connections that no call has and that are counted as in use all the same."""
    if _counted(place, store):
        # What the aborted call left in a circle of references is given back when it is collected.
        gc.collect()
    return _counted(place, store)


def _counted(place: Place, store: Any) -> int:
    if place.kind == "postgres":
        return int(store._binding.checked_out())
    if place.kind == "redis":
        return len(store._client.connection_pool._in_use_connections) if store._client else 0
    return 0


_INTERRUPTED = """
import gc, signal, sys
from beaker.storage.sql import SqlStore

class Alarm(Exception):
    pass

def ring(number, frame):
    raise Alarm

sys.unraisablehook = lambda _: None  # where only C sees the alarm, there is no one to raise it to
store = SqlStore(sys.argv[1], timeout=5.0, table_name=sys.argv[2], engine_options={"pool_size": 2, "max_overflow": 0})
store.set("ns", "k", b"1", ttl=60)
signal.signal(signal.SIGALRM, ring)
interrupted = 0
for turn in range(300):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0001 + turn % 30 * 0.00005)
        for _ in range(5):
            store.get("ns", "k")
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Exception as err:
        while not isinstance(err, Alarm):
            err = err.__context__  # what a library's own tidying up raised in its place
        interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
gc.collect()
print(interrupted, store.get("ns", "k"), flush=True)
sys.stdin.read()
"""


def test_alarms_leave_no_connections_at_the_server(place_of: Callable[[str], Place]) -> None:
    """A timer that interrupts hundreds of calls leaves PostgreSQL with no more connections than the pool may have."""
    place = place_of("postgres")
    url = f"postgresql+psycopg://postgres@{place.server.address}/postgres"
    engine = sa.create_engine(url)
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%interrupted%' AND pid <> pg_backend_pid()"
    )
    command = [sys.executable, "-c", _INTERRUPTED, url, "interrupted"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        count, _, value = child.stdout.readline().strip().partition(" ")
        left, pause = 1000, threading.Event()
        for _ in range(100):
            with engine.connect() as connection:
                left = connection.execute(query).scalar_one()
            if left <= 2:
                break
            pause.wait(0.05)  # the server's side of a closed connection ends a moment later
        child.stdin.close()
    engine.dispose()
    assert value == "b'1'"
    assert int(count) > 50
    assert left <= 2


@pytest.mark.parametrize("renew", [False, True])
def test_a_lease_whose_holder_was_aborted_is_free_after_its_ttl(fake_clock: FakeClock, renew: bool) -> None:
    """At whichever line acquire() is aborted, the lease is free once its ttl is over, and no thread renews it."""
    earlier = set(threading.enumerate())
    store = MemoryStore(clock=fake_clock)
    locks = LeaseLocks(store, ttl=1.5, clock=fake_clock, sleep=fake_clock.advance, timer=fake_clock, renew=renew)
    aborts = 0
    for _ in each_line(lambda: locks.creation("ns", "k").acquire(), Abort, 1):
        other = locks.creation("ns", "k")
        begun = fake_clock()
        assert other.acquire(True, 40.0)
        assert fake_clock() - begun <= 3.0
        other.release()
        aborts += 1
    assert aborts > 20
    for thread in set(threading.enumerate()) - earlier:
        # One whose start() was aborted may stand still before its first line for good, and counts as not started.
        if thread.name == "beaker-lease" and thread.is_alive():
            for _ in range(100):
                # Each time anew: one that prolongs its lease at that moment keeps it from being collected.
                gc.collect()
                thread.join(0.1)
                if not thread.is_alive():
                    break
            assert not thread.is_alive()
