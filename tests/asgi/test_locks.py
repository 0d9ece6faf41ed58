"""session.alock(): it waits without a thread, and neither a cancelled wait nor a request that ends leaves it held."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from beaker._typing import Receive, Send
from beaker.asgi import AsyncSessionObject, SessionMiddleware
from beaker.exceptions import LockError, LockTimeout
from beaker.session import async_proxy
from beaker.testing.lock import PATIENCE
from tests.asgi.scripts import alone, beside, cookie_of, full, middleware, put, talk
from tests.asgi.tabs import run
from tests.loops import until
from tests.session.places import options_of


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Each alock() that has asked for the lock."""
    begun: list[object] = []
    inner = async_proxy._Attempt.run

    def attempt(self: Any) -> bool:
        if self._wanted not in begun:
            begun.append(self._wanted)
        return bool(inner(self))

    monkeypatch.setattr(async_proxy._Attempt, "run", attempt)
    return begun


@pytest.mark.parametrize("place", ["memory", "file"])
def test_waiting_for_a_lock_stops_no_loop(place: str, tmp_path: Path, attempts: list[object]) -> None:
    """alock() stops no loop, excludes another request of the same loop, and times out."""
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
        await until(lambda: len(attempts) == 2)
        wait.set()
        await asyncio.gather(first, second)

    app = middleware(full, **options_of(place, tmp_path))
    cookie = cookie_of(run(talk(app)))
    run(both())
    assert order == ["unlock", "lock"]


async def holding(app: SessionMiddleware, cookie: str, attempts: list[object]) -> None:
    """One request locks the session, and releases it when 80 others, which are then cancelled, have asked for it."""
    held, asked = asyncio.Event(), asyncio.Event()

    async def holder(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await session.alock()
        held.set()
        await asked.wait()
        put(session)
        await session.apersist()
        await session.aunlock()
        await alone(session, receive, send)

    async def waiter(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await session.alock()
        await asyncio.Event().wait()

    first = asyncio.create_task(talk(beside(app, holder), cookie=cookie))
    await held.wait()
    others = [asyncio.create_task(talk(beside(app, waiter), cookie=cookie)) for _ in range(80)]
    await until(lambda: len(attempts) == 81)
    asked.set()
    await first
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@pytest.mark.parametrize("loaded", ["anyio", "no anyio"])
def test_waiting_requests_leave_a_thread_to_the_holder(
    loaded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempts: list[object]
) -> None:
    """More requests wait for a session than there are threads; the one that holds it saves and releases it."""
    if loaded == "no anyio":
        monkeypatch.delitem(sys.modules, "anyio")
    app = middleware(full, **options_of("file", tmp_path))
    run(holding(app, cookie_of(run(talk(app))), attempts))


@pytest.mark.parametrize("loaded", ["anyio", "no anyio"])
def test_blocked_functions_of_the_application_leave_threads_to_sessions(
    loaded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain functions wait in all of the application's threads, as for a session's lock; sessions load and save."""
    if loaded == "no anyio":
        monkeypatch.delitem(sys.modules, "anyio")
    in_thread: Any = anyio.to_thread.run_sync if loaded == "anyio" else asyncio.to_thread
    app = middleware(full, **options_of("file", tmp_path))

    async def both() -> str:
        end, blocked = threading.Event(), threading.Semaphore(0)

        def block() -> None:
            blocked.release()
            assert end.wait(PATIENCE)

        tasks = [asyncio.create_task(in_thread(block)) for _ in range(80)]
        await until(lambda: blocked.acquire(False))
        cookie = cookie_of(await talk(app))
        await talk(app, cookie=cookie)
        assert not end.is_set()
        end.set()
        await asyncio.gather(*tasks)
        return cookie

    run(both())


@pytest.mark.parametrize("by", ["asyncio", "anyio", "asyncio without anyio"])
def test_a_cancelled_wait_leaves_no_lock(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attempts: list[object]
) -> None:
    """A task cancelled while it waits for the lock, or just as it got it, leaves the session free."""
    if "without" in by:
        monkeypatch.delitem(sys.modules, "anyio")
    app = middleware(full, **options_of("file", tmp_path), lock_ttl=30)
    cookie = cookie_of(run(talk(app)))

    async def both() -> None:
        held, cancelled = asyncio.Event(), asyncio.Event()

        async def holder(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
            await session.alock()
            held.set()
            await cancelled.wait()
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
            with anyio.CancelScope() as scope:

                async def cancel() -> None:
                    await until(lambda: len(attempts) == 2)
                    scope.cancel()
                    cancelled.set()

                canceller = asyncio.create_task(cancel())
                await talk(app, cookie=cookie)
            await canceller
            assert scope.cancelled_caught
        else:
            second = asyncio.create_task(talk(app, cookie=cookie))
            await until(lambda: len(attempts) == 2)
            second.cancel()
            cancelled.set()
            with pytest.raises(asyncio.CancelledError):
                await second
        await first

    async def locking(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await session.alock(timeout=3)
        await session.aunlock()
        await alone(session, receive, send)

    # asyncio waits for its threads when the loop ends.
    run(both())
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


@pytest.mark.parametrize("ending", ["unlocks", "returns", "raises"])
@pytest.mark.parametrize("loaded", ["anyio", "no anyio"])
def test_a_cancellation_as_the_request_ends(
    ending: str, loaded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled, or once more, where the session is released or saved for the last time, that is done all the same."""
    if loaded == "no anyio":
        monkeypatch.delitem(sys.modules, "anyio")
    app = middleware(full, **options_of("file", tmp_path))
    cookie = cookie_of(run(talk(app)))

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await session.alock()
        await alone(session, receive, send)
        put(session)
        session.save()
        task = asyncio.current_task()
        assert task is not None
        if ending == "returns":
            await session.apersist()
        task.cancel()
        if ending == "unlocks":
            await session.aunlock()
        if ending == "raises":
            raise asyncio.CancelledError

    async def next_one(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await session.alock(timeout=0)
        assert session["a"] == 1
        await alone(session, receive, send)

    async def both() -> None:
        task = asyncio.create_task(talk(beside(app, script), cookie=cookie))
        with pytest.raises(asyncio.CancelledError):
            await task
        await talk(beside(app, next_one), cookie=cookie)

    run(both())


def test_a_cookie_session_has_no_lock() -> None:
    """The error is the same as under WSGI."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        with pytest.raises(LockError):
            await session.alock()
        await alone(session, receive, send)

    run(talk(middleware(script, type="cookie")))
