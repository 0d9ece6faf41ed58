"""What an ASGI request saves and sends: at its start, after it, and when something fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from beaker._typing import Message, Receive, Scope, Send
from beaker.asgi import AsyncSessionObject, SessionMiddleware
from beaker.exceptions import BeakerWarning, StoreUnavailable
from beaker.testing.session_harness import SECRET
from tests.asgi.scripts import (
    BODY,
    START,
    answering,
    beside,
    cookie_of,
    middleware,
    put,
    talk,
    value_in,
)
from tests.asgi.tabs import http_scope, run
from tests.session.faults import interrupt


def test_headers_are_completed_not_replaced() -> None:
    """Vary and Cache-Control of the application are completed; other headers stay as they are, in their order."""
    start = {
        **START,
        "headers": [(b"vary", b"Accept"), (b"set-cookie", b"x=\xe9"), (b"cache-control", b"public, max-age=5")],
    }

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        put(session)
        session.save()
        await send(start)
        await send(BODY)

    headers = run(talk(middleware(script)))[0]["headers"]
    assert headers[0] == (b"set-cookie", b"x=\xe9")
    assert (b"vary", b"Accept, Cookie") in headers
    assert (b"cache-control", b"max-age=5, private, no-store") in headers
    assert len(headers) == 4
    assert len(start["headers"]) == 3, "the application's own message stays as it was"


def test_a_streamed_body_saves_late_changes(tmp_path: Path) -> None:
    """A change after the start is saved when the application returns; one that needs a cookie warns."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        put(session)
        session.save()
        await send(START)
        await send({**BODY, "more_body": True})
        put(session)
        session.save()
        await send(BODY)

    app = middleware(script, type="file", data_dir=str(tmp_path), cookie_expires=3600)
    cookie = cookie_of(run(talk(app)))
    assert value_in(app, cookie) == 2
    with pytest.warns(BeakerWarning, match="after the headers"):
        run(talk(middleware(script, type="cookie")))


def test_a_late_first_touch_warns() -> None:
    """First touched after the start, a session can send neither Vary nor a cookie, and warns."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY)
        put(session)
        session.save()

    with pytest.warns(BeakerWarning, match="after the headers"):
        assert run(talk(middleware(script))) == [START, BODY]


@pytest.mark.parametrize("begun", [False, True])
def test_an_application_that_raises_saves_nothing(begun: bool) -> None:
    """Before the start nothing is saved; after it, no later change is."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        put(session)
        session.save()
        if begun:
            await send(START)
        put(session)
        session.save()
        raise ValueError("the application fails")

    app = middleware(answering(put))
    cookie = cookie_of(run(talk(app)))
    app.app = middleware(script).app
    with pytest.raises(ValueError, match="fails"):
        run(talk(app, cookie=cookie))
    assert value_in(app, cookie) == (2 if begun else 1)


@pytest.mark.parametrize(("begun", "saves"), [(False, 1), (True, 3)])
def test_a_cancelled_request_saves_what_was_asked_for_in_its_response(begun: bool, saves: int, tmp_path: Path) -> None:
    """A request cancelled before its start saves nothing; after it, what save() was called for."""

    app = middleware(answering(put), type="file", data_dir=str(tmp_path))
    cookie = cookie_of(run(talk(app)))

    async def cancelled() -> None:
        waiting = asyncio.Event()

        async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
            put(session)
            session.save()
            if begun:
                await send(START)
            put(session)
            session.save()
            waiting.set()
            await asyncio.Event().wait()

        app.app = middleware(script).app
        task = asyncio.create_task(talk(app, cookie=cookie))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancelled())
    assert value_in(app, cookie) == saves


def test_a_client_that_has_gone_loses_nothing_that_was_asked_for(tmp_path: Path) -> None:
    """A server may raise OSError when the client is gone; what the stream saved before stays, as under WSGI."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await send(START)
        put(session)
        session.save()
        await send({"type": "http.response.body", "body": b"gone"})

    app = middleware(answering(put), type="file", data_dir=str(tmp_path))
    cookie = cookie_of(run(talk(app)))

    async def touched(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        session.get("a")
        await script(session, receive, send)

    app.app = middleware(touched).app

    async def gone(message: Message) -> None:
        if message.get("body") == b"gone":
            raise OSError("the client has gone")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(OSError, match="gone"):
        run(app(http_scope(headers=[(b"cookie", cookie.encode())]), receive, gone))
    assert value_in(app, cookie) == 2


@pytest.mark.parametrize(("complete", "saves"), [(False, 2), (True, 1)])
def test_a_client_that_left_is_known_from_its_disconnect(complete: bool, saves: int) -> None:
    """An application raises what a framework raises when it receives http.disconnect: before its last message nobody
    is left to respond to, and what it saved stays; after it, its own error ends the request, and saves nothing."""
    app = middleware(answering(put))
    cookie = cookie_of(run(talk(app)))

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        session.get("a")
        await send(START)
        await send({**BODY, "more_body": not complete})
        put(session)
        session.save()
        assert (await receive())["type"] == "http.disconnect"
        raise ValueError("the application fails")

    with pytest.raises(ValueError, match="fails"):
        run(talk(beside(app, script), cookie=cookie))
    assert value_in(app, cookie) == saves


def test_a_failed_save_is_no_success(tmp_path: Path) -> None:
    """A start whose session cannot be saved raises and is not sent; the application may send an error page instead."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        put(session)
        session.save()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await send(START)
            session.save()
        await send({**START, "status": 503})
        await send(BODY)

    app = middleware(script, type="file", data_dir=str(tmp_path))
    interrupt(app.context).lose(0, done=False, repeat=True)
    sent = run(talk(app))
    assert [message.get("status") for message in sent] == [503, None]
    assert not cookie_of(sent)


def test_what_is_no_response_passes() -> None:
    """Early hints before the start and trailers after the body go out untouched, and lifespan has no session."""
    hint = {"type": "http.response.early_hint", "links": [b"</x.css>; rel=preload"]}
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": False}
    scopes: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(dict(scope))
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.complete"})
            return
        await send(hint)
        scope["session"]["a"] = 1
        scope["session"].save()
        await send({**START, "trailers": True})
        await send(BODY)
        await send(trailers)

    whole = SessionMiddleware(app, type="memory", secret=SECRET)
    sent = run(talk(whole))
    assert (sent[0], sent[2:]) == (hint, [BODY, trailers])
    assert cookie_of(sent)
    assert run(talk(whole, {"type": "lifespan", "headers": []}, [{"type": "lifespan.startup"}]))
    assert "session" not in scopes[1]
