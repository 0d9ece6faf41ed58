"""Exceptions from outside at any line of a call: nothing they leave behind harms a later call."""

from __future__ import annotations

import gc
import linecache
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
import sqlalchemy as sa

from beaker.storage.lease import LeaseLocks
from beaker.storage.memory import MemoryStore
from beaker.storage.sql.binding import Binding
from beaker.testing import FakeClock
from tests.faults.conftest import Place

pytestmark = pytest.mark.filterwarnings(
    # A connection that was lost between two lines of its driver is closed when it is collected.
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::ResourceWarning",
)


class Abort(BaseException):
    """Like ``gevent.Timeout`` and what gunicorn raises in a worker that it aborts."""


class Alarm(Exception):
    """Like what a handler of SIGALRM raises."""


@contextmanager
def aborted_at(line: int, error: type[BaseException]) -> Iterator[list[int]]:
    """Raises ``error`` before the line-th line that runs in this thread; the list's item counts the lines."""
    seen = [0]

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        # A "with" line comes again when its block has ended; no signal is handled between that and the __exit__.
        if event == "line" and not _line(frame).startswith("with "):
            seen[0] += 1
            if seen[0] == line:
                sys.settrace(None)
                raise error
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(before)


def _line(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip()


def each_line(call: Callable[[], object], error: type[BaseException], step: int) -> Iterator[None]:
    """Aborts ``call`` at one line after another, until it ends before it is aborted."""
    line = 1
    while True:
        ended = False
        try:
            with aborted_at(line, error):
                call()
                ended = True
        except BaseException as err:
            if not came_from(err, error):
                raise
        yield
        if ended:
            return
        line += step


def came_from(err: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether ``kind`` is in the chain: a library's own tidying up may raise another exception in its place."""
    while err is not None and not isinstance(err, kind):
        err = err.__context__
    return err is not None


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
        # The client that is used after an abort is the same one.
        store._given = store._client
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
    gc.collect()
    for thread in set(threading.enumerate()) - earlier:
        if thread.name == "beaker-lease" and thread.ident is not None:
            thread.join(10)
            assert not thread.is_alive()
