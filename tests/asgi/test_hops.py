"""Where a session does its work: never where it would block the event loop, and in no more threads than needed."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker._typing import Receive, Send
from beaker.asgi import AsyncSessionObject, SessionMiddleware
from beaker.exceptions import StoreUnavailable
from beaker.loops import hops
from beaker.session import async_proxy
from tests import servers
from tests.asgi.scripts import (
    ALL,
    BODY,
    START,
    Script,
    alone,
    beside,
    cookie_of,
    full,
    middleware,
    options_for,
    read,
    talk,
)
from tests.asgi.tabs import run
from tests.session.faults import interrupt
from tests.session.places import LOCAL, options_of


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry per hop into a thread."""
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
    """None for cookies and memory, for a request without our cookie that saves nothing, or for an untouched session."""
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


@pytest.mark.parametrize("load", ["eager", "lazy"])
def test_the_loop_goes_on_while_the_store_hangs(load: str, tmp_path: Path) -> None:
    """Redis hangs: tasks keep running, other requests are served, and the request that needs it gets the error."""
    with servers.redis(tmp_path) as server:
        options = {"type": "ext:redis", "url": server.url, "socket_timeout": 1.0}
        told: list[str] = []

        async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
            with pytest.raises(StoreUnavailable):
                session.get("n") if load == "eager" else await session.load()
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
