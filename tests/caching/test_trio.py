"""Timeouts under Trio, whose tasks and scopes are not asyncio's."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from beaker.cache import Cache
from beaker.exceptions import CreationTimeout
from beaker.testing import FakeClock
from beaker.testing.lock import PATIENCE

SOON = 0.03
"""Seconds of a timeout that is meant to pass."""


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_timeouts(kind: str, tmp_path: Path, fake_clock: FakeClock) -> None:
    """What holds in asyncio's loop holds in Trio's: the old value, the exception, the creation that goes on, and the
    caller that takes its own along when it is cancelled."""
    options: dict[str, Any] = {"type": kind, "expire": 60, "clock": fake_clock}
    options |= {"data_dir": str(tmp_path)} if kind == "file" else {}
    ended: list[str] = []

    async def stored(cache: Cache, value: str) -> None:
        with trio.fail_after(PATIENCE):
            while not await cache.ahas_key("k") or await cache.aget("k") != value:
                await trio.sleep(0.001)

    async def main() -> None:
        soft, hard = (Cache("trio", **{**options, name: SOON}) for name in ("soft_timeout", "hard_timeout"))
        may_end, is_begun, is_cancelled = trio.Event(), trio.Event(), trio.Event()

        async def create() -> str:
            await may_end.wait()
            return "new"

        async def never() -> None:
            is_begun.set()
            try:
                await trio.sleep_forever()
            finally:
                ended.append("cancelled")
                is_cancelled.set()

        await soft.aput("k", "old")
        fake_clock.advance(61)
        assert await soft.aget("k", createfunc=create) == "old"
        may_end.set()
        await stored(soft, "new")
        await soft.aremove("k")
        may_end = trio.Event()
        with pytest.raises(CreationTimeout):
            await hard.aget("k", createfunc=create)
        may_end.set()
        await stored(hard, "new")
        await soft.aremove("k")
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(soft.aget, "k", createfunc=never))
                await is_begun.wait()
                nursery.cancel_scope.cancel()
            await is_cancelled.wait()
        assert await soft.aget("k", createfunc=create) == "new"

    trio.run(main)
    assert ended == ["cancelled"]
