"""Creations with timeouts as tasks of an event loop: none is left behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from beaker.cache import Cache
from beaker.caching import timeouts
from beaker.testing import FakeClock
from beaker.testing.lock import PATIENCE


def test_a_cancelled_caller_takes_its_task_along(fake_clock: FakeClock) -> None:
    """As without timeouts another call creates, and no lock is left behind."""
    cache = Cache("tasks", type="memory", clock=fake_clock, hard_timeout=PATIENCE)

    async def work() -> Any:
        running = asyncio.Event()

        async def hanging() -> None:
            running.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(cache.aget("k", createfunc=hanging))
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        loops.append(asyncio.get_running_loop())
        return await cache.aget("k", createfunc=lambda: "new")

    loops: list[Any] = []
    assert asyncio.run(work()) == "new"
    assert loops[0] not in timeouts._tasks


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_closed_loop_keeps_no_creation(fake_clock: FakeClock) -> None:
    """A task of a loop that was closed is kept until another loop's creation begins, and then collected."""
    cache = Cache("tasks", type="memory", clock=fake_clock, hard_timeout=PATIENCE)
    held: list[weakref.ref[Any]] = []

    async def begin() -> None:
        running = asyncio.Event()

        async def hanging() -> None:
            running.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(cache.aget("k", createfunc=hanging))
        held.append(weakref.ref(hanging))
        await running.wait()
        for left in asyncio.all_tasks() - {asyncio.current_task()}:
            left._log_destroy_pending = False  # type: ignore[attr-defined]
        del task

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    loop.close()
    del loop
    assert asyncio.run(cache.aget("k", createfunc=lambda: "new")) == "new"
    gc.collect()
    assert held[0]() is None
