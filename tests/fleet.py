"""What the processes of tests/test_fleet.py run. Importable, so that spawned processes find it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from beaker.cache import Cache

Options = Mapping[str, Any]


def note(ledger: Path) -> int:
    """Append one mark to a file all processes share and return how many there are; O_APPEND keeps marks whole."""
    handle = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(handle, b"x")
    finally:
        os.close(handle)
    return ledger.stat().st_size


def put_many(options: Options, namespace: str, process: int, count: int) -> None:
    """Puts of keys that no other process writes."""
    cache = Cache(namespace, **options)
    for number in range(count):
        cache.put(f"{process}-{number}", [process, number])


def get_together(options: Options, namespace: str, ledger: str, threads: int, gate: Any, waits: Any) -> None:
    """Every thread asks for one key at the same moment; creations are marked in ``ledger``."""
    cache = Cache(namespace, **options)

    def create() -> int:
        mark = note(Path(ledger))
        # Long enough that every other caller is waiting before there is a value.
        threading.Event().wait(0.3)
        return mark

    def ask(_: int) -> tuple[int, float]:
        started = time.perf_counter()
        value = cache.get("shared", createfunc=create)
        return value, time.perf_counter() - started

    gate.wait(60)
    with ThreadPoolExecutor(threads) as pool:
        for answer in pool.map(ask, range(threads)):
            waits.put(answer)


def await_together(options: Options, namespace: str, ledger: str, calls: int, gate: Any, waits: Any) -> None:
    """:func:`get_together` with so many calls of one event loop."""
    cache = Cache(namespace, **options)

    async def create() -> int:
        mark = note(Path(ledger))
        await asyncio.sleep(0.3)
        return mark

    async def ask() -> tuple[int, float]:
        started = time.perf_counter()
        value = await cache.aget("shared", createfunc=create)
        return value, time.perf_counter() - started

    async def together() -> list[tuple[int, float]]:
        return await asyncio.gather(*(ask() for _ in range(calls)))

    gate.wait(60)
    for answer in asyncio.run(together()):
        waits.put(answer)


def die_creating(options: Options, namespace: str, started: Any) -> None:
    """Take the creation lock of a key and be killed while holding it."""

    def create() -> int:
        started.set()
        os.kill(_self(), signal.SIGKILL)
        return 0

    Cache(namespace, **options).get("shared", createfunc=create)


def _self() -> int:
    # The number of this process without asking for it by the call the library must not make.
    return int(Path("/proc/self").resolve().name)
