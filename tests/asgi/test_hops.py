"""Where the work of a session is done: never where it would stop the event loop, and in no more threads than needed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from beaker._typing import Receive, Send
from beaker.asgi import AsyncSessionObject, SessionMiddleware
from beaker.exceptions import LockError, StoreUnavailable
from beaker.session import async_proxy, hops
from beaker.testing.session_harness import SECRET
from tests import servers
from tests.asgi.scripts import BODY, START, Script, beside, cookie_of, middleware, talk
from tests.asgi.tabs import run
from tests.session.faults import interrupt
from tests.session.places import LOCAL, options_of

ALL = (*LOCAL, "cookie")


def options_for(place: str, at: Path) -> dict[str, Any]:
    return {"type": "cookie", "secret": SECRET} if place == "cookie" else options_of(place, at)


async def full(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
    """Reads, logs in, writes and answers."""
    session["n"] = session.get("n", 0) + 1
    session.save()
    await send(START)
    await send(BODY)


async def read(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
    session.get("n")
    await send(START)
    await send(BODY)


async def alone(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
    await send(START)
    await send(BODY)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each hop into a thread."""
    made: list[str] = []
    inner = hops.in_thread

    async def in_thread(work: Callable[[], Any]) -> Any:
        made.append("hop")
        return await inner(work)

    for module in (hops, async_proxy):
        monkeypatch.setattr(module, "in_thread", in_thread)
    return made


@pytest.mark.parametrize("place", ALL)
def test_at_most_one_hop_to_load_and_one_to_save(place: str, counted: list[str], tmp_path: Path) -> None:
    """None for cookies and memory, for a request without our cookie that saves nothing, or for a session left alone."""
    blocks = 0 if place in ("cookie", "memory") else 1

    def hops_of(script: Script, cookie: str = "") -> tuple[int, str]:
        counted.clear()
        app.app = middleware(script).app
        found = cookie_of(run(talk(app, cookie=cookie)))
        return len(counted), found

    app = middleware(full, **options_for(place, tmp_path))
    first, cookie = hops_of(full)
    assert first == blocks
    assert hops_of(full, cookie)[0] == 2 * blocks
    # The access has just been recorded, so reading saves nothing.
    assert hops_of(read, cookie)[0] == blocks
    for other in ("", "x=1", "beaker.session.idx=1"):
        assert hops_of(read, other)[0] == 0
        assert hops_of(alone, other)[0] == 0


@pytest.mark.parametrize("place", LOCAL)
def test_no_store_is_asked_in_the_thread_of_the_loop(place: str, tmp_path: Path) -> None:
    """Every store operation of every method runs in another thread, where stores may block."""
    if place == "memory":
        return
    inside: list[str] = []

    async def everything(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        loop = threading.get_ident()
        store.before = lambda name, number: inside.append(name) if threading.get_ident() == loop else None
        session["n"] = 1
        await session.alogin("ann")
        await session.apersist()
        if app.context.type != "cookie":
            await session.alock()
            await session.aunlock()
        await session.aget_by_id(session.id)
        await session.alogout()
        await session.ainvalidate()
        await session.adelete()
        session["n"] = 2
        session.save()
        await send(START)
        session["n"] = 3
        session.regenerate_id()
        await session.apersist()
        await send(BODY)

    app = middleware(full, **options_of(place, tmp_path))
    cookie = cookie_of(run(talk(app)))
    store = interrupt(app.context)
    app.app = middleware(everything).app
    with pytest.warns(UserWarning, match="after the headers"):
        run(talk(app, cookie=cookie))
    assert store.number > 3
    assert inside == []


# -- a server that hangs --------------------------------------------------------------------------


@pytest.mark.parametrize("load", ["eager", "lazy"])
def test_the_loop_goes_on_while_the_store_hangs(load: str, tmp_path: Path) -> None:
    """Redis stops answering: tasks keep running, other requests are served, and the asking one is told."""
    with servers.redis(tmp_path) as server:
        options = {"type": "ext:redis", "url": server.url, "socket_timeout": 1.0}
        told: list[str] = []

        async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
            with pytest.raises(StoreUnavailable):
                await session.load()
                session.get("n")
            told.append("load")
            await send(START)
            await send(BODY)

        async def first(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
            await session.load()
            await full(session, receive, send)

        app = middleware(first, load=load, **options)
        cookie = cookie_of(run(talk(app)))
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            ticks = run(ticks_during(app, script, first, cookie, told))
        finally:
            os.kill(pid, signal.SIGCONT)
    assert told == ["load"]
    # A second or more of hanging; a loop that stood still would have ticked once or twice.
    assert ticks > 20


async def ticks_during(app: SessionMiddleware, reader: Script, writer: Script, cookie: str, told: list[str]) -> int:
    """Ticks of 10 ms while one request cannot load, one cannot save, and requests without a session are served."""
    hanging = True
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while hanging:
            await asyncio.sleep(0.01)
            ticks += 1
            assert await talk(untouched) == [START, BODY]

    untouched = beside(app, alone)
    ticking = asyncio.create_task(tick())
    load = asyncio.create_task(talk(beside(app, reader), cookie=cookie))
    with pytest.raises(StoreUnavailable):
        await talk(beside(app, writer))
    await load
    hanging = False
    await ticking
    return ticks


# -- locks and cancellation -----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["memory", "file"])
def test_waiting_for_a_lock_stops_no_loop(place: str, tmp_path: Path) -> None:
    """alock() waits in a thread, excludes another request of the same loop, and times out."""
    order: list[str] = []

    async def both() -> None:
        held, wait = asyncio.Event(), asyncio.Event()

        async def holder(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
            await session.alock()
            await session.alock()
            held.set()
            await wait.wait()
            order.append("unlock")
            await session.aunlock()
            await session.aunlock()
            await alone(session, receive, send)

        async def waiter(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
            await session.alock()
            order.append("lock")
            await session.aunlock()
            await alone(session, receive, send)

        app.app = middleware(holder).app
        first = asyncio.create_task(talk(app, cookie=cookie))
        await held.wait()
        app.app = middleware(waiter).app
        second = asyncio.create_task(talk(app, cookie=cookie))
        await asyncio.sleep(0.05)
        wait.set()
        await asyncio.gather(first, second)

    app = middleware(full, **options_of(place, tmp_path))
    cookie = cookie_of(run(talk(app)))
    run(both())
    assert order == ["unlock", "lock"]


@pytest.mark.parametrize("by", ["asyncio", "anyio", "asyncio without anyio"])
def test_a_cancelled_wait_leaves_no_lock(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task cancelled while it waits for the lock, or just as it got it, leaves the session free."""
    if "without" in by:
        monkeypatch.delitem(sys.modules, "anyio")
    app = middleware(full, **options_of("file", tmp_path), lock_ttl=2)
    cookie = cookie_of(run(talk(app)))

    async def cancelled() -> None:
        held = asyncio.Event()

        async def holder(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
            await session.alock()
            held.set()
            await asyncio.sleep(0.2)
            await session.aunlock()
            await alone(session, receive, send)

        async def waiter(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
            await session.alock()
            try:
                await asyncio.sleep(60)
            finally:
                await session.aunlock()

        app.app = middleware(holder).app
        first = asyncio.create_task(talk(app, cookie=cookie))
        await held.wait()
        app.app = middleware(waiter).app
        if by == "anyio":
            with anyio.move_on_after(0.05):
                await talk(app, cookie=cookie)
        else:
            second = asyncio.create_task(talk(app, cookie=cookie))
            await asyncio.sleep(0.05)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
        await first
        app.app = middleware(locking).app
        await talk(app, cookie=cookie)

    async def locking(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await session.alock()
        await session.aunlock()
        await alone(session, receive, send)

    run(cancelled())


def test_a_lock_that_was_just_got_is_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled between the thread's success and the task's next step, the lock is released at once."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        async def cancelled(work: Callable[[], Any]) -> None:
            work()
            raise asyncio.CancelledError

        with monkeypatch.context() as patch:
            patch.setattr(async_proxy, "in_thread", cancelled)
            with pytest.raises(asyncio.CancelledError):
                await session.alock()
        assert session._held is None
        await session.alock()
        await session.aunlock()
        await alone(session, receive, send)

    run(talk(middleware(script, **options_of("file", tmp_path))))


def test_a_cookie_session_has_no_lock() -> None:
    """The error is that of WSGI."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        with pytest.raises(LockError):
            await session.alock()
        await alone(session, receive, send)

    run(talk(middleware(script, type="cookie")))


# -- loops ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ALL)
def test_two_loops_at_the_same_time(place: str, tmp_path: Path) -> None:
    """One middleware serves loops in several threads, and loops begun after others have ended: no change is lost."""
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


def test_trio_runs_it_too(tmp_path: Path) -> None:
    """Where AnyIO is loaded, threads are AnyIO's, so that another loop than asyncio's works."""
    pytest.importorskip("trio")
    app = middleware(full, **options_of("file", tmp_path))
    assert cookie_of(anyio.run(talk, app, backend="trio"))


FORKED = """
import asyncio, os, sys
from tests.asgi.scripts import middleware, talk, cookie_of
from tests.asgi.test_hops import full
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

loop = asyncio.new_event_loop()
task = loop.create_task(parent())
while not task.done():
    loop.run_until_complete(asyncio.wait([task], timeout=0.01))
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
    done = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
