"""A child that is forked within a creation and unwinds its parent's stack ends nothing of what its parent has begun."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import Cache
from tests.caching.test_coroutines import options_for

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


class _Exit(BaseException):
    """What sys.exit() raises, but the test runner's own exit."""


@pytest.mark.parametrize("ending", [_Exit, KeyError])
@pytest.mark.parametrize("style", ["thread", "event loop", "task"])
@pytest.mark.parametrize("kind", ["file", "dbm", "ext:database"])
def test_a_child_ends_within_a_creation(kind: str, style: str, ending: type[BaseException], tmp_path: Path) -> None:
    """The mark stays, no other process creates meanwhile, and what the parent creates is stored."""
    cache = Cache("forked", **options_for(kind, tmp_path))
    store: Any = cache.namespace.store  # type: ignore[attr-defined]
    parent = os.getpid()

    def create() -> str:
        before = store.read(cache.namespace.namespace, "k")
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            raise ending
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert before is not None
        assert store.read(cache.namespace.namespace, "k") == before
        return "parent"

    async def acreate() -> str:
        return create()

    async def beside() -> str:
        # Of the child's tasks this one is cancelled, as asyncio.run() does with all that are left.
        begun, end = asyncio.Event(), asyncio.Event()

        async def wait() -> str:
            begun.set()
            await end.wait()
            return "parent"

        task = asyncio.create_task(cache.aget("k", createfunc=wait))
        await begun.wait()
        create()
        end.set()
        return str(await task)

    async def ticking(call: Awaitable[str]) -> str:
        loop = asyncio.get_running_loop()

        def look() -> None:
            # What wakes the parent's loop up may be read by its child's copy.
            loop.call_later(0.01, look)

        look()
        return await call

    try:
        if style == "thread":
            value = cache.get("k", createfunc=create)
        else:
            value = asyncio.run(ticking(beside() if style == "task" else cache.aget("k", createfunc=acreate)))
    except ending:
        os._exit(0 if os.getpid() != parent else 1)
    assert value == "parent"
    assert cache.get("k", createfunc=lambda: "another") == "parent"
    if kind == "ext:database":
        store.close()
