"""One middleware in several event loops, on trio, and in a fork: nothing belongs to one loop."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio

from beaker._typing import Receive, Send
from beaker.asgi import AsyncSessionObject
from tests.asgi.scripts import ALL, START, alone, beside, cookie_of, full, middleware, options_for, talk, value_in
from tests.asgi.tabs import run
from tests.session.faults import interrupt
from tests.session.places import options_of


@pytest.mark.parametrize("place", ALL)
def test_two_loops_at_the_same_time(place: str, tmp_path: Path) -> None:
    """One middleware serves loops in several threads, and loops begun after earlier ones ended: no change is lost."""
    app = middleware(full, **options_for(place, tmp_path))

    async def several() -> list[str]:
        return [cookie_of(sent) for sent in await asyncio.gather(*(talk(app) for _ in range(5)))]

    cookies: list[str] = []
    threads = [threading.Thread(target=lambda: cookies.extend(run(several()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cookies += run(several())
    assert len(set(cookies)) == 15


@pytest.fixture(params=["anyio", "no anyio"])
def loaded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """AnyIO is loaded, or nothing has loaded it, as under a server of Trio's own."""
    if request.param == "no anyio":
        monkeypatch.delitem(sys.modules, "anyio")


@pytest.mark.usefixtures("loaded")
def test_trio_runs_it_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In Trio's loop no store is asked in the loop's thread, and nothing is logged."""
    app = middleware(full, **options_of("file", tmp_path))
    threads: set[int] = set()
    interrupt(app.context).before = lambda name, number: threads.add(threading.get_ident())
    assert cookie_of(trio.run(talk, app))
    assert threads
    assert threading.get_ident() not in threads
    assert caplog.messages == []


@pytest.mark.usefixtures("loaded")
def test_a_request_that_trio_cancels(tmp_path: Path) -> None:
    """Cancelled after its response began, it saves what it called save() for, and releases its lock."""
    app = middleware(full, **options_of("file", tmp_path))

    async def endless(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        session["a"] = 4
        await send(START)
        await session.alock()
        session["a"] = 5
        session.save()
        scope.cancel()
        await trio.sleep_forever()

    async def locking(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await session.alock(timeout=0)
        await alone(session, receive, send)

    async def main() -> str:
        cookie = cookie_of(await talk(app))
        with scope:
            await talk(beside(app, endless), cookie=cookie)
        await talk(beside(app, locking), cookie=cookie)
        return cookie

    scope = trio.CancelScope()
    assert value_in(app, trio.run(main)) == 5


FORKED = """
import asyncio, os, sys
from tests.asgi.scripts import cookie_of, full, middleware, talk
kind, at = sys.argv[1:]
app = middleware(full, type=kind, data_dir=at)

async def parent():
    cookie = cookie_of(await talk(app))
    waiting = [asyncio.create_task(talk(app, cookie=cookie)) for _ in range(4)]
    await asyncio.sleep(0)
    child = os.fork()
    if child == 0:
        return cookie
    await asyncio.gather(*waiting)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return None

def look():
    # What wakes the parent's loop up may be read by its child's copy.
    loop.call_later(0.01, look)

loop = asyncio.new_event_loop()
task = loop.create_task(parent())
task.add_done_callback(lambda _: loop.stop())
look()
loop.run_forever()
cookie = task.result()
if cookie is not None:
    # The child: the loop of its parent is of no use here, and neither are that loop's threads.
    asyncio.set_event_loop(None)
    asyncio.events._set_running_loop(None)
    assert asyncio.run(talk(app, cookie=cookie))[1]["body"] == b"done"
    os._exit(0)
"""


@pytest.mark.parametrize("kind", ["memory", "file", "dbm"])
def test_a_fork_after_the_loop_began(kind: str, tmp_path: Path) -> None:
    """A child with a loop of its own waits for no lock of its parent's, whose requests were in flight."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, kind, str(tmp_path)]
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
