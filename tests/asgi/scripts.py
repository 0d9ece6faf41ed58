"""Applications written as functions of session and send, and what they have sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from beaker._typing import Message, Receive, Scope, Send
from beaker.asgi import AsyncSessionObject, SessionMiddleware
from beaker.testing.session_harness import COOKIE, SECRET
from tests.asgi.conformance import Checked
from tests.asgi.tabs import http_scope

__all__ = ["BODY", "START", "Script", "beside", "cookie_of", "middleware", "talk", "websocket_scope"]

Script = Callable[[AsyncSessionObject, Receive, Send], Awaitable[None]]
START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
BODY: Message = {"type": "http.response.body", "body": b"done"}


def middleware(script: Script, **options: Any) -> SessionMiddleware:
    """The middleware around an application that is ``script``; sessions in memory unless told otherwise."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await script(scope["session"], receive, send)

    return SessionMiddleware(app, **{"type": "memory", "secret": SECRET, **options})


def beside(app: SessionMiddleware, script: Script) -> SessionMiddleware:
    """A middleware around another script, over the very sessions of ``app``."""
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
    """What ``app`` sends, checked; it receives ``incoming``, then that the client has gone."""
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
