"""session.alock(): it waits in a thread, and neither a cancelled wait nor a request that ends leaves it held."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from beaker._typing import Receive, Send
from beaker.asgi import AsyncSessionObject
from beaker.exceptions import LockError, LockTimeout
from beaker.session import async_proxy
from tests.asgi.scripts import alone, beside, cookie_of, full, middleware, talk
from tests.asgi.tabs import run
from tests.session.places import options_of


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
    app = middleware(full, **options_of("file", tmp_path), lock_ttl=30)
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

    async def locking(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await session.alock(timeout=3)
        await session.aunlock()
        await alone(session, receive, send)

    # asyncio waits for its threads when the loop ends.
    run(cancelled())
    run(talk(beside(app, locking), cookie=cookie))


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


@pytest.mark.parametrize("ending", ["returns", "raises", "cancelled"])
@pytest.mark.parametrize("whose", ["own", "by id"])
def test_a_lock_ends_with_its_request(ending: str, whose: str, tmp_path: Path) -> None:
    """However a request ends, the locks it has not released are free for the next one at once."""
    app = middleware(full, **options_of("file", tmp_path))
    cookie = cookie_of(run(talk(app)))

    async def forgetful(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        held = await session.aget_by_id(session.id) if whose == "by id" else session
        assert held is not None
        await held.alock()
        if ending == "raises":
            raise ValueError("the application fails")
        if ending == "cancelled":
            raise asyncio.CancelledError
        await alone(session, receive, send)

    async def next_one(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await session.alock(timeout=0)
        other = await session.aget_by_id(session.id)
        assert other is not None
        with pytest.raises(LockTimeout):
            await other.alock(timeout=0)
        await alone(session, receive, send)

    async def both() -> None:
        try:
            await talk(beside(app, forgetful), cookie=cookie)
        except (ValueError, asyncio.CancelledError):
            assert ending != "returns"
        await talk(beside(app, next_one), cookie=cookie)

    run(both())


def test_a_cookie_session_has_no_lock() -> None:
    """The error is the same as under WSGI."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        with pytest.raises(LockError):
            await session.alock()
        await alone(session, receive, send)

    run(talk(middleware(script, type="cookie")))
