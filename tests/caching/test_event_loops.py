"""Caches in several event loops, in dead ones, in a fork, and beside a server that hangs."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import Cache
from beaker.counters.events import events
from beaker.exceptions import StoreUnavailable
from tests import servers
from tests.caching.test_coroutines import Creation, options_for

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_two_loops_and_threads_at_the_same_time(kind: str, tmp_path: Path) -> None:
    """Coroutines of two loops and plain threads ask for one key: one creation, whoever began it."""
    cache = Cache(f"two-{tmp_path}", **options_for(kind, tmp_path))
    made: list[str] = []
    found: list[Any] = []
    together = threading.Barrier(4)

    async def create() -> str:
        made.append("x")
        await asyncio.sleep(0.05)
        return "new"

    async def calls() -> None:
        together.wait(10)
        found.extend(await asyncio.gather(*(cache.aget("k", createfunc=create) for _ in range(50))))

    def call() -> None:
        together.wait(10)
        found.append(cache.get("k", createfunc=lambda: asyncio.run(create())))

    targets = [lambda: asyncio.run(calls()), lambda: asyncio.run(calls()), call, call]
    threads = [threading.Thread(target=target) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (found, made) == (["new"] * 102, ["x"])


@pytest.mark.parametrize("kind", ["memory", "file", "ext:database"])
@pytest.mark.parametrize("kept", [True, False], ids=["its task is kept", "its task is collected"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_closed_loop_holds_nothing(kind: str, kept: bool, tmp_path: Path) -> None:
    """A loop that is closed while a call creates: threads and other loops do not wait for it, within lock_timeout."""
    cache = Cache(f"closed-{tmp_path}", **options_for(kind, tmp_path))

    async def begin() -> Any:
        hung = Creation()
        task = asyncio.create_task(cache.aget("k", createfunc=hung))
        await hung.running.wait()
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(begin())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    task._log_destroy_pending = False
    if not kept:
        del task
        gc.collect()
    found = asyncio.run(asyncio.wait_for(cache.aget("k", createfunc=lambda: "next"), 10))
    assert found == "next"
    cache.remove("k")
    assert cache.get("k", createfunc=lambda: "third") == "third"
    if kind == "ext:database":
        cache.namespace.store.close()  # type: ignore[attr-defined]


FORKED = """
import asyncio, os, sys
from beaker.cache import Cache
kind, at = sys.argv[1:]
cache = Cache("forked", type=kind, data_dir=at, lock_dir=at)

begun = asyncio.Event()

async def slow():
    begun.set()
    await asyncio.sleep(0.3)
    return "parent's"

async def parent():
    tasks = [asyncio.create_task(cache.aget("k", createfunc=slow)) for _ in range(5)]
    await begun.wait()
    child = os.fork()
    if child == 0:
        return None
    assert await asyncio.gather(*tasks) == ["parent's"] * 5
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return "parent"

def look():
    # What wakes the parent's loop up may be read by its child's copy.
    loop.call_later(0.01, look)

loop = asyncio.new_event_loop()
task = loop.create_task(parent())
task.add_done_callback(lambda _: loop.stop())
look()
loop.run_forever()
if task.result() is None:
    asyncio.set_event_loop(None)
    asyncio.events._set_running_loop(None)
    async def create():
        return "child's"
    # Files are shared with the parent, whose creation is waited for; memory is not.
    found = asyncio.run(asyncio.wait_for(cache.aget("k", createfunc=create), 10))
    assert found == ("child's" if kind == "memory" else "parent's"), found
    os._exit(0)
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
"""


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_fork_after_the_loop_began(kind: str, tmp_path: Path) -> None:
    """A child with a loop of its own waits for no lock of its parent's loop, only for files its parent holds."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, kind, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


LEFT = """
import asyncio, sys
from beaker.cache import Cache
options = eval(sys.argv[1])
cache = Cache("left", **options)
left = []

async def main():
    begun = asyncio.Event()
    async def hung():
        begun.set()
        await asyncio.sleep(1000)
    left.extend(asyncio.create_task(cache.aget("k", createfunc=hung)) for _ in range(5))
    await begun.wait()

def quiet(loop, coro, **options):
    task = asyncio.Task(coro, loop=loop, **options)
    task._log_destroy_pending = False
    return task

loop = asyncio.new_event_loop()
# All of them, also what begins while the loop ends: asyncio reports every task that is left.
loop.set_task_factory(quiet)
loop.run_until_complete(main())
sys.argv[2:] and loop.close()
"""


@pytest.mark.parametrize(
    ("kind", "limits"),
    [("memory", {}), ("file", {}), ("dbm", {}), ("ext:database", {}), ("ext:database", {"hard_timeout": 100})],
)
@pytest.mark.parametrize("closed", [True, False], ids=["its loop is closed", "its loop is not closed"])
def test_a_program_ends_in_the_midst_of_a_creation(
    kind: str, limits: dict[str, Any], closed: bool, tmp_path: Path
) -> None:
    """It ends at once and reports nothing, and leaves no lock that another process waits for.

    A lease in a database may be left to run out: what is alive at the end Python need not collect (reference,
    ``object.__del__``).
    """
    options = options_for(kind, tmp_path)
    command = [sys.executable, "-c", LEFT, repr({**options, **limits}), *(["closed"] if closed else [])]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    cache = Cache("left", **options, lock_timeout=0.1)
    waits = events().get("creation_wait_timeout", 0)
    assert cache.get("k", createfunc=lambda: "next") == "next"
    if kind != "ext:database":
        assert events().get("creation_wait_timeout", 0) == waits
    else:
        cache.namespace.store.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("on_unavailable", ["create", "raise"])
def test_the_loop_goes_on_while_the_store_hangs(on_unavailable: str, tmp_path: Path) -> None:
    """Redis stops answering: tasks keep running; values are created without it, once at a time, or the call is told."""
    with servers.redis(tmp_path) as server:
        options: dict[str, Any] = {"url": server.url, "socket_timeout": 1.0, "on_unavailable": on_unavailable}
        cache = Cache("hanging", type="ext:redis", **options)
        made: list[str] = []

        async def create() -> list[int]:
            made.append("x")
            await asyncio.sleep(0.2)
            return [1]

        async def calls() -> tuple[int, list[Any]]:
            await cache.aput("other", 1)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGSTOP)
            ticking = asyncio.create_task(tick())
            tasks = [cache.aget("k", createfunc=create) for _ in range(10)]
            found = await asyncio.gather(*tasks, return_exceptions=True)
            ticking.cancel()
            return len(ticks), found

        ticks: list[str] = []

        async def tick() -> None:
            while True:
                await asyncio.sleep(0.01)
                ticks.append("x")

        try:
            count, found = asyncio.run(calls())
        finally:
            assert server.pid is not None
            os.kill(server.pid, signal.SIGCONT)
            cache.namespace.store.close()  # type: ignore[attr-defined]
    # A second or more of hanging; a loop that stood still would have ticked once or twice.
    assert count > 20
    if on_unavailable == "raise":
        assert [type(each) for each in found] == [StoreUnavailable] * 10
    else:
        assert found == [[1]] * 10
        assert len({id(each) for each in found}) == 10
        assert 1 <= len(made) < 10
