"""A turnstile: so many at a time, first come first served, whatever becomes of those that wait."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from beaker.exceptions import StoreUnavailable
from beaker.locking.turnstile import Turnstile
from beaker.storage.breaker import Breaker
from beaker.storage.sql.store import SqlStore


def waiter(turnstile: Turnstile, name: str, order: list[str]) -> threading.Thread:
    """A thread that waits at the turnstile by now, and notes its name when it is through."""

    def run() -> None:
        assert turnstile.enter(name, 60)
        order.append(name)
        turnstile.leave(name)

    thread = threading.Thread(target=run)
    thread.start()
    while name not in turnstile._places:
        time.sleep(0.001)
    return thread


def test_who_came_first_goes_first() -> None:
    """Also before the one that leaves and comes back at once."""
    turnstile, order = Turnstile(1), list[str]()
    assert turnstile.enter("me", 0)
    threads = [waiter(turnstile, name, order) for name in ("first", "second")]
    turnstile.leave("me")
    assert turnstile.enter("me again", 60)
    assert order == ["first", "second"]
    turnstile.leave("me again")
    for thread in threads:
        thread.join()
    assert not turnstile._places


def test_no_more_than_there_is_room_for() -> None:
    """One over is not let in, and who gives up, before or after it was let in, leaves its room to the next."""
    turnstile = Turnstile(2)
    assert turnstile.enter("a", 0)
    assert turnstile.enter("b", 0)
    assert not turnstile.enter("c", 0)
    turnstile.leave("a")
    assert not turnstile.enter("d", 0)  # c has not left
    turnstile.leave("c")
    turnstile.leave("c")
    turnstile.leave("d")
    assert turnstile.enter("e", 0)
    turnstile.reset()
    assert turnstile.enter("f", 0)
    assert turnstile.enter("g", 0)


def test_each_that_leaves_lets_one_in() -> None:
    """Two that leave at the same time wake two, not the same one twice."""
    turnstile, order = Turnstile(2), list[str]()
    assert turnstile.enter("a", 0)
    assert turnstile.enter("b", 0)
    threads = [waiter(turnstile, name, order) for name in ("c", "d")]
    turnstile._places.pop("a")  # it has left, and has yet to wake
    turnstile.leave("b")
    for thread in threads:
        thread.join()
    assert sorted(order) == ["c", "d"]


@pytest.fixture
def store(tmp_path: Path) -> SqlStore:
    return SqlStore(
        f"sqlite:///{tmp_path}/a.db", engine_options={"pool_size": 1, "max_overflow": 0, "pool_timeout": 30}
    )


def test_connections_of_a_database_go_round_in_turn(store: SqlStore) -> None:
    """A thread that calls again at once does not overtake one that waits for a connection: among 64 busy threads on
    PostgreSQL and MariaDB calls waited until they failed, though each took milliseconds."""
    order: list[str] = []
    queue = store._runner._queue
    assert queue is not None

    def call(name: str) -> None:
        store._runner.read("get", lambda db, again: order.append(name), None)

    thread = threading.Thread(target=call, args=("other",))

    def hold(db: object, again: bool) -> None:
        thread.start()
        while len(queue._places) < 2:
            time.sleep(0.001)

    store.set("n", "k", b"v", ttl=None)
    store._runner.read("get", hold, None)
    call("me")
    thread.join()
    assert order == ["other", "me"]
    store.close()


def test_a_crowd_says_nothing_about_the_server(tmp_path: Path) -> None:
    """A call that gets no connection in time fails, names what it waited for, and opens no circuit."""
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.01}
    store = SqlStore(f"sqlite:///{tmp_path}/a.db", engine_options=options)
    store.set("n", "k", b"v", ttl=None)
    breaker = store._runner._breaker = Breaker("ext:database", "here")
    caught: list[BaseException] = []

    def call() -> None:
        try:
            store.get("n", "k")
        except StoreUnavailable as error:
            caught.append(error)

    def hold(db: object, again: bool) -> None:
        threads = [threading.Thread(target=call) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    store._runner.read("get", hold, None)
    assert len(caught) == 6
    assert "none of its connections (1) was free" in str(caught[0])
    assert (breaker.failures, breaker.is_open) == (0, False)
    assert store.get("n", "k") == b"v"
    store.close()
