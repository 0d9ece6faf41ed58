"""Processes that use one session at the same time: R2, R4, R6, R7 of docs/concurrency.md.

``BEAKER_STRESS`` multiplies the load (40: 8 x 1,000 saves); CI runs a small one.
"""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import Any

import pytest

from beaker.session.proxy import SessionObject
from beaker.testing.session_harness import SECRET
from tests.processes import CONTEXT, fresh
from tests.session import racers
from tests.session.racers import Client
from tests.storage.shared import SHARED, session_options

STRESS = int(os.environ.get("BEAKER_STRESS", "1"))
PROCESSES, SAVES, ROUNDS = 8, 25 * STRESS, 6 * STRESS


@pytest.fixture(params=SHARED)
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    return {**session_options(request.param, request, tmp_path), "secret": SECRET}


@pytest.fixture
def client(options: dict[str, Any]) -> Client:
    return Client(options)


def put(**values: Any) -> racers.Handler:
    def handler(session: SessionObject) -> None:
        session.update(values)
        session.save()

    return handler


def run(target: Any, *each: tuple[Any, ...]) -> list[Any]:
    """Run ``target`` in one process per tuple of arguments, started together; returns their reports."""
    gate, report = CONTEXT.Barrier(len(each)), CONTEXT.Queue()
    processes = [fresh(target, *args, gate, report) for args in each]
    for process in processes:
        process.start()
    try:
        return [report.get(timeout=600) for _ in processes]
    finally:
        for process in processes:
            process.join(5)
            process.kill()


def test_no_save_is_lost_and_counters_are_exact(client: Client, options: dict[str, Any]) -> None:
    """8 processes save distinct keys of one session and add to one counter: all keys there, the sum exact."""
    client.request(put(first=1))
    took = run(racers.save_keys, *[(options, client.cookie, number, SAVES) for number in range(PROCESSES)])
    expected = {f"{process}-{number}" for process in range(PROCESSES) for number in range(SAVES)}
    found = client.request(lambda s: (set(s), s["n"]))
    assert found[1] == PROCESSES * SAVES
    assert expected <= found[0]
    every = sorted(seconds for each in took for seconds in each)
    p50, p99 = statistics.median(every), every[int(len(every) * 0.99)]
    print(f"{options['type']}: {len(every)} saves, p50 {p50:.4f} s, p99 {p99:.4f} s, max {every[-1]:.3f} s")


def beside_writers(options: dict[str, Any], cookie: str, act: Any) -> list[list[str]]:
    """``act()`` while three processes read and write with ``cookie``; the cookies they were given."""
    gate, report = CONTEXT.Barrier(4), CONTEXT.Queue()
    processes = [fresh(racers.use, options, cookie, ROUNDS, gate, report) for _ in range(3)]
    for process in processes:
        process.start()
    try:
        gate.wait(60)
        act()
        return [report.get(timeout=120) for _ in processes]
    finally:
        for process in processes:
            process.join(5)
            process.kill()


def test_nobody_resurrects_a_logged_out_session(client: Client, options: dict[str, Any]) -> None:
    """Logout beside writers: afterwards the id is dead, and no writer was given a cookie."""
    client.request(put(secret="s"))
    old = client.cookie
    assert beside_writers(options, old, lambda: client.request(lambda s: s.logout())) == [[], [], []]
    seen = Client(options, old).request(lambda s: (s.is_new, s.get("secret"), s.get("from reader")))
    assert seen == (True, None, None)


def test_a_login_beside_writers_leaves_one_live_id(client: Client, options: dict[str, Any]) -> None:
    """The new id works, the old one is dead, and no writer overwrote the fresh cookie."""
    client.request(put(secret="s"))
    old = client.cookie
    assert beside_writers(options, old, lambda: client.request(lambda s: s.login("ann"))) == [[], [], []]
    assert client.cookie != old
    assert client.request(lambda s: (s.user, s["secret"])) == ("ann", "s")
    assert Client(options, old).request(lambda s: s.get("secret")) is None
