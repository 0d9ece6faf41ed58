"""session.alock(): what ends at a moment that nothing planned for leaves no lock: a loop, a generator, a program."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from beaker._typing import Receive, Send
from beaker.asgi import AsyncSessionObject
from beaker.locking import background
from beaker.testing.lock import PATIENCE
from tests.asgi.scripts import alone, beside, cookie_of, full, middleware, talk
from tests.asgi.tabs import run
from tests.session.places import options_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("unlocks", ["the application", "the middleware"])
@pytest.mark.parametrize("loaded", ["anyio", "no anyio"])
@pytest.mark.parametrize("place", ["memory", "file"])
def test_a_closed_loop_leaves_no_lock(
    place: str, loaded: str, unlocks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that is collected with its closed loop releases its session's lock, and nothing is reported."""
    if loaded == "no anyio":
        monkeypatch.delitem(sys.modules, "anyio")
    app = middleware(full, **options_of(place, tmp_path))
    cookie = cookie_of(run(talk(app)))

    async def hung(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await session.alock()
        try:
            held.set()
            await asyncio.Event().wait()
        finally:
            if unlocks == "the application":
                await session.aunlock()

    async def begin() -> asyncio.Task[Any]:
        request = asyncio.create_task(talk(beside(app, hung), cookie=cookie))
        await asyncio.wait_for(held.wait(), PATIENCE)
        return request

    async def next_one(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await session.alock(timeout=PATIENCE)
        await alone(session, receive, send)

    held = asyncio.Event()
    loop = asyncio.new_event_loop()
    request = loop.run_until_complete(begin())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    request._log_destroy_pending = False  # type: ignore[attr-defined]
    del request
    gc.collect()
    run(talk(beside(app, next_one), cookie=cookie))


ENDING = """
import asyncio, sys
from tests.asgi.scripts import beside, cookie_of, full, middleware, talk
from tests.session.places import options_of
from pathlib import Path

async def hung(session, receive, send):
    await session.alock()
    print(session._context.records.store.backend, cookie, sep="\\n", flush=True)
    held.set()
    await asyncio.Event().wait()

async def main():
    global cookie, held
    app, held = middleware(full, **options_of("file", Path(sys.argv[1]))), asyncio.Event()
    cookie = cookie_of(await talk(app))
    left.append(asyncio.create_task(talk(beside(app, hung), cookie=cookie)))
    left[0]._log_destroy_pending = False
    await held.wait()

left = []
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
loop.close()
"""


def test_a_program_ends_while_a_request_holds_its_lock(tmp_path: Path) -> None:
    """The session is free when the program has ended, though nothing can be imported at the time it is unlocked."""
    command = [sys.executable, "-c", ENDING, str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    backend, cookie = done.stdout.split()
    assert backend == "file"
    taken: list[bool] = []

    async def next_one(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await session.alock(timeout=0)
        taken.append(session.is_new)
        await alone(session, receive, send)

    run(talk(middleware(next_one, **options_of("file", tmp_path)), cookie=cookie))
    assert taken == [False]


@pytest.mark.parametrize("loaded", ["anyio", "no anyio"])
@pytest.mark.parametrize("entered", ["by itself", "by a context manager"])
def test_a_body_that_is_given_up_unlocks(
    entered: str, loaded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an asynchronous generator unlocks as it is closed is unlocked when aclose() returns."""
    if loaded == "no anyio":
        monkeypatch.delitem(sys.modules, "anyio")
    left: list[Any] = []
    monkeypatch.setattr(background, "begin", lambda name, work: left.append(work))

    @asynccontextmanager
    async def locked(session: AsyncSessionObject) -> AsyncGenerator[None, None]:
        await session.alock()
        try:
            yield
        finally:
            await session.aunlock()

    async def plain(session: AsyncSessionObject) -> AsyncGenerator[bytes, None]:
        await session.alock()
        try:
            yield b"first"
            yield b"never"
        finally:
            await session.aunlock()

    async def managed(session: AsyncSessionObject) -> AsyncGenerator[bytes, None]:
        async with locked(session):
            yield b"first"
            yield b"never"

    async def streamed(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        body = (plain if entered == "by itself" else managed)(session)
        assert await anext(body) == b"first"
        await body.aclose()
        other = await session.aget_by_id(session.id)
        assert other is not None
        await other.alock(timeout=0)
        await other.aunlock()
        await alone(session, receive, send)

    async def visits() -> None:
        app = middleware(full, **options_of("file", tmp_path))
        await talk(beside(app, streamed), cookie=cookie_of(await talk(app)))

    run(visits())
    assert not left
