"""Waiting in an event loop for what happens in other tasks and threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from beaker.testing.lock import PATIENCE

__all__ = ["until"]


async def until(condition: Callable[[], object]) -> None:
    """Let other tasks and threads go on until ``condition()`` holds; fails when it never does."""
    for _ in range(int(PATIENCE * 1000)):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never happened")
