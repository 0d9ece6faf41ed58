"""Sessions in ASGI websockets: the handshake carries a cookie, nothing after it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beaker._typing import Receive, Send
from beaker.asgi import AsyncSessionObject
from beaker.exceptions import BeakerWarning
from beaker.testing.clock import FakeClock
from tests.asgi.scripts import (
    Script,
    answering,
    beside,
    cookie_of,
    middleware,
    put,
    talk,
    value_in,
    websocket_scope,
)
from tests.asgi.tabs import run


def accepting(before: Any = None, after: Any = None) -> Script:
    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await receive()
        if before is not None:
            await before(session)
        await send({"type": "websocket.accept", "headers": [(b"x-own", b"1")]})
        if after is not None:
            await after(session)
        await send({"type": "websocket.close"})

    return script


async def saved(session: AsyncSessionObject) -> None:
    put(session)
    session.save()


async def persisted(session: AsyncSessionObject) -> None:
    put(session)
    session.save()
    await session.apersist()


def test_the_handshake_takes_the_cookie_along() -> None:
    """A session saved before the websocket is accepted is saved with the handshake, which sends its cookie."""
    app = middleware(accepting(before=saved))
    sent = run(talk(app, websocket_scope(), [{"type": "websocket.connect"}]))
    assert [name for name, _ in sent[0]["headers"]] == [b"x-own", b"set-cookie"]
    assert value_in(app, cookie_of(sent)) == 1


@pytest.mark.parametrize("change", [saved, persisted])
def test_a_session_saved_in_a_websocket_stays_saved(change: Any, tmp_path: Path) -> None:
    """A stored session changed after the handshake is saved by apersist() or at the end, without a warning."""
    app = middleware(answering(put), type="file", data_dir=str(tmp_path), cookie_expires=3600)
    cookie = cookie_of(run(talk(app)))
    app.app = middleware(accepting(after=change)).app
    run(talk(app, websocket_scope(cookie), [{"type": "websocket.connect"}]))
    assert value_in(app, cookie) == 2


def test_a_cookie_that_is_due_waits_for_a_response(tmp_path: Path) -> None:
    """First touched after the handshake, a session whose cookie is due leaves the renewal to the next response."""
    clock = FakeClock()
    app = middleware(answering(put), type="file", data_dir=str(tmp_path), cookie_expires=3600, clock=clock)
    cookie = cookie_of(run(talk(app)))
    clock.advance(3000)
    run(talk(beside(app, accepting(after=persisted)), websocket_scope(cookie), [{"type": "websocket.connect"}]))
    assert cookie_of(run(talk(app, cookie=cookie)))


def test_a_cookie_that_a_websocket_cannot_send_warns() -> None:
    """A new session after the handshake, or a change of data kept in the cookie, is lost, with a warning."""
    for kind in ("memory", "cookie"):
        for change in (saved, persisted):
            app = middleware(accepting(after=change), type=kind)
            with pytest.warns(BeakerWarning, match="after the headers"):
                run(talk(app, websocket_scope(), [{"type": "websocket.connect"}]))


def test_a_refused_handshake() -> None:
    """Closed at once, the session is saved and a lost cookie warned about; a denial response carries the cookie."""

    async def close(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await saved(session)
        await send({"type": "websocket.close", "code": 1008})

    async def deny(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await saved(session)
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    app = middleware(deny)
    sent = run(talk(app, websocket_scope(), [{"type": "websocket.connect"}]))
    cookie = cookie_of(sent)
    assert {name for name, _ in sent[0]["headers"]} == {b"vary", b"set-cookie", b"cache-control"}
    app.app = middleware(close).app
    run(talk(app, websocket_scope(cookie), [{"type": "websocket.connect"}]))
    assert value_in(app, cookie) == 2
    with pytest.warns(BeakerWarning, match="headers are not sent"):
        run(talk(middleware(close), websocket_scope(), [{"type": "websocket.connect"}]))


def test_a_websocket_whose_client_leaves_keeps_what_was_saved(tmp_path: Path) -> None:
    """Frameworks raise when the client closes; save() before that counts."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await saved(session)
        assert (await receive())["type"] == "websocket.disconnect"
        raise RuntimeError("WebSocketDisconnect")

    app = middleware(answering(put), type="file", data_dir=str(tmp_path))
    cookie = cookie_of(run(talk(app)))
    app.app = middleware(script).app
    with pytest.raises(RuntimeError, match="Disconnect"):
        run(talk(app, websocket_scope(cookie), [{"type": "websocket.connect"}]))
    assert value_in(app, cookie) == 2
