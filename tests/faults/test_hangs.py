"""Servers that stop, trickle, cut, lock or lie: a call ends in its time, says so, and the next one is right."""

from __future__ import annotations

import sqlite3
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from beaker.exceptions import StoreUnavailable
from beaker.storage import breaker
from beaker.storage.datastore import DatastoreStore
from beaker.storage.memcached import MemcachedStore
from beaker.storage.redis import RedisStore
from beaker.storage.sql import SqlStore
from tests.faults.conftest import TOO_LONG, Place
from tests.faults.proxy import proxy_to, replying


@contextmanager
def bounded(seconds: float = TOO_LONG) -> Iterator[None]:
    """The block ends within a multiple of the timeout, not when the server chooses to respond."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


def unavailable(call: Callable[[], object]) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable) as caught:
        call()
    return caught.value


def test_a_stopped_server_is_unavailable_in_time(place: Place) -> None:
    """SIGSTOP in the middle: every call ends with its timeout, then the circuit opens; afterwards all is as before."""
    store = place.store()
    store.set("ns", "k", b"1", ttl=60)
    store.set("ns", "other", b"2", ttl=60)
    calls: list[Callable[[], object]] = [
        lambda: store.get("ns", "k"),
        lambda: store.set("ns", "k", b"9", ttl=60),
        lambda: store.delete("ns", "missing"),
    ]
    with place.frozen():
        for call in calls:
            with bounded():
                assert unavailable(call).code == "store.unavailable"
        with bounded():
            codes = [unavailable(calls[0]).code for _ in range(40)]
        assert codes.count("store.unavailable") < 10, "an open circuit lets one call through in a while"
        assert codes[-1] == "store.circuit-open"
    breaker.retry()
    assert store.get("ns", "other") == b"2"
    assert store.get("ns", "k") in (b"1", b"9")


def test_an_open_circuit_connects_to_nothing(place: Place) -> None:
    """While it is open no call reaches the network."""
    with proxy_to(place.server.host, place.server.port) as proxy:
        store = place.store(proxy.address)
        store.set("ns", "k", b"1", ttl=60)
        (circuit,) = (each for each in breaker._alive() if proxy.address in each.place)
        # On a clock that stands still no pause ends.
        circuit.timer = lambda: 0.0
        proxy.cut_after = 0
        while circuit.state().state == "closed":
            assert unavailable(lambda: store.get("ns", "k")).code == "store.unavailable"
        before = proxy.accepted, proxy.asked
        assert {unavailable(lambda: store.get("ns", "k")).code for _ in range(3)} == {"store.circuit-open"}
        assert (proxy.accepted, proxy.asked) == before
        proxy.cut_after = None
        breaker.retry()
        assert store.get("ns", "k") == b"1"


def test_a_reply_that_trickles_is_bounded_as_a_whole(place: Place) -> None:
    """A byte now and then keeps no call longer than its timeout, though no single wait is long."""
    with proxy_to(place.server.host, place.server.port) as proxy:
        store = place.store(proxy.address)
        store.set("ns", "k", b"v" * 3000, ttl=60)
        assert store.get("ns", "k") == b"v" * 3000
        proxy.piece, proxy.gap = 8, 0.2
        with bounded():
            unavailable(lambda: store.get("ns", "k"))
        with bounded():
            unavailable(lambda: store.get_many("ns", ["k", "l"]))
        proxy.piece = 0
        assert store.get("ns", "k") == b"v" * 3000


def test_a_reply_that_is_cut_anywhere_gives_no_wrong_value(place: Place) -> None:
    """A connection that ends at any byte of a reply is an error or the value, and nothing of it stays."""
    value = bytes(range(256))
    with proxy_to(place.server.host, place.server.port) as proxy:
        store = place.store(proxy.address)
        store.set("ns", "k", value, ttl=60)
        for cut in (0, 1, 2, 5, 17, 40, 90, 200, 300, 400):
            proxy.cut_after = cut
            try:
                assert store.get("ns", "k") == value
            except StoreUnavailable:
                breaker.retry()
            proxy.cut_after = None
            assert store.get("ns", "k") == value


def test_a_locked_table_is_unavailable_in_time(place_of: Callable[[str], Place]) -> None:
    """A table that another connection has locked is waited for no longer than the timeout, by readers and writers."""
    place = place_of("postgres")
    store = place.store()
    store.set("ns", "k", b"1", ttl=60)
    engine = sa.create_engine(f"postgresql+psycopg://postgres@{place.server.address}/postgres")
    with engine.connect() as holder, holder.begin():
        holder.execute(sa.text(f"LOCK TABLE {store.table.name} IN ACCESS EXCLUSIVE MODE"))
        with bounded():
            unavailable(lambda: store.get("ns", "k"))
            unavailable(lambda: store.set("ns", "k", b"2", ttl=60))
    engine.dispose()
    assert store.get("ns", "k") == b"1"


def test_a_locked_sqlite_file_is_unavailable_in_time(tmp_path: Path) -> None:
    """A SQLite database that is being written is waited for as long as the timeout says."""
    store = SqlStore(f"sqlite:///{tmp_path}/c.db", timeout=0.2)
    store.set("ns", "k", b"1", ttl=60)
    holder = sqlite3.connect(tmp_path / "c.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with bounded(8.0):
        unavailable(lambda: store.set("ns", "k", b"2", ttl=60))
    holder.execute("ROLLBACK")
    holder.close()
    assert store.get("ns", "k") == b"1"
    store.close()


def test_threads_wait_for_a_connection_no_longer_than_half_the_timeout(place_of: Callable[[str], Place]) -> None:
    """An exhausted pool is unavailable in time."""
    store = place_of("postgres").store(
        timeout=2.0, engine_options={"pool_size": 1, "max_overflow": 0, "pool_reset_on_return": None}
    )
    store.set("ns", "k", b"1", ttl=60)
    runner = store._runner
    with runner._binding.begin():
        # A call in flight has the only connection.
        runner._calls.add(object())
        with bounded():
            assert "TimeoutError" in str(unavailable(lambda: store.get("ns", "k")))
        runner._calls.clear()
    assert store.get("ns", "k") == b"1"


def test_a_pool_that_lost_its_connections_is_replaced(place_of: Callable[[str], Place]) -> None:
    """Connections counted as in use that no call has do not make the store unavailable for good."""
    store = place_of("postgres").store(engine_options={"pool_size": 1, "max_overflow": 0})
    store.set("ns", "k", b"1", ttl=60)
    lost = store._binding._engine.raw_connection()
    assert store.get("ns", "k") == b"1"
    lost.close()


def test_a_silent_datastore_is_unavailable_in_time() -> None:
    """A server that accepts and says nothing ends with the deadline, then the circuit opens."""
    with replying(b"") as address:
        store = DatastoreStore(project="p", emulator_host=address, deadline=0.3, retries=1)
        with bounded():
            codes = [unavailable(lambda: store.get("ns", "k")).code for _ in range(8)]
    assert codes[:5] == ["store.unavailable"] * 5
    assert "store.circuit-open" in codes[5:]


HUGE = 10**15


@pytest.mark.parametrize(
    ("kind", "reply"),
    [
        ("memcached", b"VALUE %b 0 %d\r\nabc"),
        ("memcached", b"VALUE k 0 -7\r\nabc\r\n"),
        ("memcached", b"VALUE k 0 3 9\r\nabc\r\nEND\r\n"),
        ("memcached", b"A" * 60_000),
        ("redis", b"$%d\r\nabc"),
        ("redis", b"*%d\r\n$3\r\nabc\r\n"),
        ("redis", b"*1\r\n" * 50_000),
        ("redis", b":not a number\r\n"),
    ],
)
def test_a_length_of_the_servers_is_not_allocated(kind: str, reply: bytes) -> None:
    """A reply that claims 10^15 bytes or elements, or never ends, is an error that costs no more than what was sent."""
    fields: dict[int, tuple[Any, ...]] = {0: (), 1: (HUGE,), 2: (b"k", HUGE)}
    with replying(reply % fields[reply.count(b"%")]) as address:
        store: Any = (
            MemcachedStore(address, timeout=1.0)
            if kind == "memcached"
            else RedisStore(f"redis://{address}", timeout=1.0)
        )
        tracemalloc.start()
        try:
            with bounded():
                unavailable(lambda: store.get("ns", "k"))
                unavailable(lambda: store.set("ns", "k", b"1", ttl=None))
            assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
        finally:
            tracemalloc.stop()
        store.close()
