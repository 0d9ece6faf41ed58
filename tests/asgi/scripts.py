"""Applications written as functions of session and send, and what they have sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from beaker._typing import Message, Receive, Scope, Send
from beaker.asgi import AsyncSessionObject, SessionMiddleware
from beaker.testing.session_harness import COOKIE, SECRET, Handler
from tests.asgi.conformance import Checked
from tests.asgi.tabs import AsgiTab, http_scope
from tests.session.places import LOCAL, options_of

__all__ = [
    "ALL", "BODY", "START", "Script", "alone", "answering", "beside", "cookie_of", "full", "middleware", "options_for",
    "put", "read", "reading", "talk", "value_in", "websocket_scope",
]  # fmt: skip

Script = Callable[[AsyncSessionObject, Receive, Send], Awaitable[None]]
START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
ALL = (*LOCAL, "cookie")
"""Every place that needs no server, and the one that keeps nothing anywhere."""
BODY: Message = {"type": "http.response.body", "body": b"done"}


def middleware(script: Script, **options: Any) -> SessionMiddleware:
    """The middleware around an application that is ``script``; sessions in memory unless told otherwise."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await script(scope["session"], receive, send)

    return SessionMiddleware(app, **{"type": "memory", "secret": SECRET, **options})


def beside(app: SessionMiddleware, script: Script) -> SessionMiddleware:
    """A middleware around another script, with the same sessions as ``app``."""
    other = middleware(script, load="lazy" if app._lazy else "eager")
    other.context, other._opener = app.context, app._opener
    return other


def websocket_scope(cookie: str = "") -> dict[str, Any]:
    scope = http_scope("/socket", type="websocket", scheme="ws", subprotocols=[])
    del scope["method"]
    scope["headers"] = [(b"cookie", cookie.encode())] if cookie else []
    return scope


async def talk(
    app: Callable[..., Any], scope: dict[str, Any] | None = None, incoming: Iterable[Message] = (), *, cookie: str = ""
) -> list[Message]:
    """What ``app`` sends, checked; it receives ``incoming``, then the client's disconnect."""
    scope = http_scope() if scope is None else scope
    if cookie:
        scope["headers"] = [*scope["headers"], (b"cookie", cookie.encode())]
    left = list(incoming)
    sent: list[Message] = []

    async def receive() -> Message:
        return left.pop(0) if left else {"type": f"{scope['type']}.disconnect", "code": 1005}

    async def send(message: Message) -> None:
        sent.append(message)

    await Checked(app)(scope, receive, send)
    return sent


def cookie_of(sent: Iterable[Message]) -> str:
    """The session cookie among the headers sent, as a Cookie header; "" without one."""
    for message in sent:
        for name, value in message.get("headers", ()):
            if name == b"set-cookie" and value.startswith(COOKIE.encode()):
                return str(value.decode().partition(";")[0])
    return ""


def answering(change: Any = None) -> Script:
    """A script that changes the session, saves it, and responds."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        if change is not None:
            change(session)
            session.save()
        await send(START)
        await send(BODY)

    return script


def put(session: AsyncSessionObject) -> None:
    session["a"] = session.get("a", 0) + 1


def reading(seen: list[Any]) -> Script:
    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        seen.append(session.get("a"))
        await send(START)
        await send(BODY)

    return script


def value_in(app: SessionMiddleware, cookie: str) -> Any:
    """What the session of a cookie holds at ``a`` in the next request."""
    handlers: list[Handler] = []
    tab = AsgiTab(AsgiTab.build(handlers, options=app.options), handlers)
    tab.middleware.context = app.context
    tab.middleware._opener = app._opener
    return tab.do_with_header(cookie, lambda session: session.get("a"))


def options_for(place: str, at: Path) -> dict[str, Any]:
    return {"type": "cookie", "secret": SECRET} if place == "cookie" else options_of(place, at)


async def full(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
    """Reads, logs in, writes and responds."""
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
