"""Many processes on one store: nothing lost, one creation, no lock outlives its holder, nothing grows by reading.

``BEAKER_STRESS`` multiplies the load; CI runs a small one.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import statistics
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import Cache
from tests import fleet
from tests.processes import CONTEXT, fresh

STRESS = int(os.environ.get("BEAKER_STRESS", "1"))
PROCESSES, THREADS, PUTS = 8, 8, 25 * STRESS

SHARED = ("file", "dbm", "memcached", "redis", "sqlite", "postgres", "google", "google on firestore")

Options = dict[str, Any]


@pytest.fixture(params=SHARED)
def options(request: pytest.FixtureRequest, tmp_path: Path) -> Options:
    """The options of one store that several processes share, by its real server."""
    name = request.param
    if name in ("file", "dbm"):
        return {"type": name, "data_dir": str(tmp_path), "lock_dir": str(tmp_path / "lock")}
    if name == "memcached":
        server = request.getfixturevalue("memcached_server")
        return {"type": "ext:memcached", "url": f"{server.host}:{server.port}"}
    if name == "redis":
        return {"type": "ext:redis", "url": request.getfixturevalue("redis_server").url}
    if name == "sqlite":
        return {"type": "ext:database", "url": f"sqlite:///{tmp_path}/cache.db"}
    if name == "postgres":
        return {"type": "ext:database", "url": request.getfixturevalue("postgres_server").url}
    emulator = "firestore_emulator" if "firestore" in name else "datastore_emulator"
    os.environ["DATASTORE_EMULATOR_HOST"] = request.getfixturevalue(emulator).host
    return {"type": "ext:google", "project": f"fleet-{uuid.uuid4().hex[:8]}"}


@pytest.fixture
def namespace() -> str:
    return f"fleet-{uuid.uuid4().hex}"


@pytest.fixture
def spawn() -> Iterator[Callable[..., list[Any]]]:
    """Starts processes and, at the end, waits for them."""
    running: list[Any] = []

    def start(target: Any, *each: tuple[Any, ...]) -> list[Any]:
        started = [fresh(target, *args) for args in each]
        for process in started:
            process.start()
        running.extend(started)
        return started

    yield start
    for process in running:
        process.join(120)
        if process.is_alive():
            process.kill()


def finish(processes: list[Any]) -> None:
    for process in processes:
        process.join(170)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_no_put_of_eight_processes_is_lost(options: Options, namespace: str, spawn: Any) -> None:
    """8 processes put distinct keys into one namespace at once: every one is there."""
    finish(spawn(fleet.put_many, *[(options, namespace, number, PUTS) for number in range(PROCESSES)]))
    keys = [f"{process}-{number}" for process in range(PROCESSES) for number in range(PUTS)]
    found = Cache(namespace, **options).get_many(keys)
    assert len(found) == PROCESSES * PUTS
    assert found["7-3"] == [7, 3]


@pytest.mark.parametrize("state", ["cold", "expired"])
def test_one_creation_in_the_fleet(options: Options, namespace: str, spawn: Any, tmp_path: Path, state: str) -> None:
    """8 processes x 8 threads ask for one key at once: one creation; while an old value is there no call waits."""
    ledger = tmp_path / "creations"
    if state == "expired":
        # Created and expired at once: what is stored is old when the other calls ask.
        Cache(namespace, **options, expire=0).put("shared", 0)
    gate, waits = CONTEXT.Barrier(PROCESSES), CONTEXT.Queue()
    run = [({**options, "expire": 600}, namespace, str(ledger), THREADS, gate, waits)] * PROCESSES
    # Of half of the processes the calls are those of one event loop.
    half = PROCESSES // 2
    processes = [*spawn(fleet.get_together, *run[half:]), *spawn(fleet.await_together, *run[:half])]
    answers = [waits.get(timeout=120) for _ in range(PROCESSES * THREADS)]
    finish(processes)
    assert ledger.stat().st_size == 1, "the value was created more than once"
    assert {value for value, _ in answers} <= ({1} if state == "cold" else {0, 1})
    waited = sorted(wait for _, wait in answers)
    print(f"{options['type']} {state}: p50 {statistics.median(waited):.3f} s, p99 {waited[-1]:.3f} s")


def test_a_killed_creator_is_replaced(options: Options, namespace: str, spawn: Any, tmp_path: Path) -> None:
    """SIGKILL while creating: the next value comes when the lease is over, with one further creation."""
    started = CONTEXT.Event()
    lease = {**options, "lease_ttl": 1, "lock_timeout": 30}
    (victim,) = spawn(fleet.die_creating, (lease, namespace, started))
    assert started.wait(60)
    victim.join(60)
    assert victim.exitcode == -9
    ledger = tmp_path / "creations"
    gate, waits = CONTEXT.Barrier(2), CONTEXT.Queue()
    processes = spawn(fleet.get_together, *[(lease, namespace, str(ledger), 2, gate, waits)] * 2)
    answers = [waits.get(timeout=60) for _ in range(4)]
    finish(processes)
    assert {value for value, _ in answers} == {1}
    assert ledger.stat().st_size == 1


def test_a_fork_after_use_reads_its_own(options: Options, namespace: str) -> None:
    """A connection used before a fork serves neither side the other's values."""
    cache = Cache(namespace, **options)
    reads = 100 * STRESS
    for side in ("parent", "child"):
        cache.put(side, side)
    assert cache.get("parent") == "parent"
    context = multiprocessing.get_context("fork")
    verdicts = context.Queue()

    def read(side: str) -> None:
        verdicts.put(sum(cache.get(side) != side for _ in range(reads)))

    children = [context.Process(target=read, args=("child",)) for _ in range(2)]
    for child in children:
        child.start()
    foreign = sum(cache.get("parent") != "parent" for _ in range(reads))
    try:
        foreign += sum(verdicts.get(timeout=60) for _ in children)
    except queue.Empty:
        pytest.fail(f"a child hangs or died: {[child.exitcode for child in children]}")
    for child in children:
        child.join(30)
    assert foreign == 0


def test_clear_keeps_to_its_namespace(options: Options, namespace: str) -> None:
    """clear() empties one namespace, in every process, and a bystander keeps everything."""
    mine, bystander = Cache(namespace, **options), Cache(namespace + "2", **options)
    for number in range(20):
        mine.put(str(number), number)
        bystander.put(str(number), number)
    mine.clear()
    keys = [str(number) for number in range(20)]
    assert mine.get_many(keys) == {}
    assert bystander.get_many(keys) == {key: int(key) for key in keys}


def test_bogus_reads_leave_nothing(options: Options, namespace: str, tmp_path: Path) -> None:
    """Reading keys that do not exist creates no file, no row, no record."""
    cache: Any = Cache(namespace, **options)
    cache.put("real", 1)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for number in range(200 * STRESS):
        with pytest.raises(KeyError):
            cache.get(f"bogus-{number}")
        assert f"bogus-{number}" not in cache
    after = [name for name in sorted(path.name for path in tmp_path.rglob("*")) if not name.endswith(("-wal", "-shm"))]
    assert after == [name for name in before if not name.endswith(("-wal", "-shm"))]
    if options["type"] != "ext:memcached":
        assert list(cache.keys()) == ["real"]
