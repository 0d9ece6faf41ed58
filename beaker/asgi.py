"""ASGI middleware for sessions: what :mod:`beaker.middleware` is under WSGI, with the same options and cookies."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from beaker._typing import ASGIApp, Message, Receive, Scope, Send
from beaker.config.arguments import check_asgi_application
from beaker.config.coerce import wrong
from beaker.loops.hops import in_thread, refuse_in_loop
from beaker.middleware import configured_sessions
from beaker.session.async_proxy import AsyncSessionObject
from beaker.session.context import SessionContext
from beaker.session.headers import with_session_headers
from beaker.session.hops import may_block
from beaker.session.opening import opener
from beaker.telemetry.server_timing import timed_send

__all__ = ["AsyncSessionObject", "SessionMiddleware", "open_session", "respond"]

_OURS = {"Vary": b"vary", "Cache-Control": b"cache-control", "Set-Cookie": b"set-cookie"}


class SessionMiddleware:
    """Puts a session into ``scope[environ_key]`` and ``scope["session"]`` and sends its cookie.

    ``config``, keywords and errors are those of :class:`beaker.middleware.SessionMiddleware`, and a cookie of one opens
    the same session in the other. ``app`` is an ASGI 3 application; of its scopes ``http`` and ``websocket`` get a
    session, the others pass. ``load`` is ``"eager"``, by which a session is loaded before the application runs when the
    request carries its cookie, or ``"lazy"``: then the application awaits ``session.load()`` before it touches it.

    What may block runs in a worker thread: at most one call to load and one to save. Sessions kept in cookies alone, or
    in memory, need none. The session is saved, once, when ``http.response.start`` is sent; what changes later, when the
    application returns. A request that raises or is cancelled saves nothing, but for a ``save()`` after its response
    began if the client has gone. The cookie of a websocket's session can go out with ``websocket.accept`` only.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: Mapping[str, Any] | None = None,
        environ_key: str = "beaker.session",
        *,
        load: str = "eager",
        **kwargs: Any,
    ) -> None:
        check_asgi_application(app, "SessionMiddleware")
        if load not in ("eager", "lazy"):
            raise wrong("load", load, "'eager' or 'lazy'")
        self.app = app
        self.environ_key = environ_key
        self.options, injected = configured_sessions(config, kwargs)
        self.context = SessionContext(self.options, **injected)
        self._lazy = load == "lazy"
        self._opener = opener(self.context)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        if self.options.server_timing:
            send = timed_send(scope, send)
        session = await open_session(scope, self.context, self._opener, self.environ_key, lazy=self._lazy)
        await respond(session, self.app, scope, receive, send)

    def revoke(self, *, user: Any = None, everybody: bool = False) -> None:
        """End every session of ``user``, or of everybody, in a thread without an event loop; see :meth:`arevoke`."""
        refuse_in_loop(None, "revoke", "arevoke")
        self.context.revoke(user=user, everybody=everybody)

    async def arevoke(self, *, user: Any = None, everybody: bool = False) -> None:
        """End every session of ``user``, or of everybody; see :meth:`SessionContext.revoke`."""
        revoke = partial(self.context.revoke, user=user, everybody=everybody)
        if self.context.shared(may_block):
            await in_thread(revoke)
        else:
            revoke()

    def __repr__(self) -> str:
        return f"<SessionMiddleware {self.context!r}>"


async def open_session(
    scope: Scope, context: SessionContext, opener: Any, environ_key: str = "beaker.session", *, lazy: bool = False
) -> AsyncSessionObject:
    """The session of a request, put into its ``scope``: to be released, as :func:`respond` does."""
    session = AsyncSessionObject(_environ(scope), lazy=lazy, context=context, opener=opener)
    scope[environ_key] = scope["session"] = session
    await session._load_early()
    return session


async def respond(session: AsyncSessionObject, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run ``app``, which sends the response; the session is saved as its first message goes, and then released."""
    answer = _Answer(session, receive, send, websocket=scope["type"] == "websocket")
    try:
        await answer.of(app, scope)
    finally:
        await session.arelease()


def _environ(scope: Scope) -> dict[str, Any]:
    """What a session asks of a request, under the names of WSGI."""
    # HTTP/2 may split the header.
    cookies = [bytes(value).decode("latin-1") for name, value in scope.get("headers", ()) if bytes(name) == b"cookie"]
    environ = {
        "wsgi.url_scheme": "https" if scope.get("scheme") in ("https", "wss") else "http",
        "PATH_INFO": scope.get("path", ""),
    }
    if cookies:
        environ["HTTP_COOKIE"] = "; ".join(cookies)
    return environ


class _Answer:
    """What the application sends to one request, or over one websocket; the first message takes the session along."""

    __slots__ = ("_failed", "_gone", "_receive", "_send", "_session", "_started", "_websocket")

    def __init__(self, session: AsyncSessionObject, receive: Receive, send: Send, *, websocket: bool) -> None:
        self._session = session
        self._receive = receive
        self._send = send
        self._websocket = websocket
        self._started = self._failed = self._gone = False

    async def of(self, app: ASGIApp, scope: Scope) -> None:
        """Run the application; what changed since its first message is saved when it returns."""
        try:
            await app(scope, self.receive, self.send)
        except BaseException as error:
            await self._fail(error)
            raise
        if self._started:
            await self._session.afinish(unread=not self._websocket)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._gone = True
        return message

    async def send(self, message: Message) -> None:
        if not self._started:
            kind = message["type"]
            if kind in ("http.response.start", "websocket.http.response.start"):
                # The application's own page for a session that could not be saved needs no session.
                if not (self._failed and message["status"] >= 500):
                    message = _with_headers(message, await self._commit())
            elif kind == "websocket.accept":
                added = await self._commit()
                message = _with_headers(message, [pair for pair in added if pair[0] == "Set-Cookie"])
            elif kind == "websocket.close":
                await self._commit(unsent=True)
        try:
            await self._send(message)
        except OSError:
            self._gone = True
            raise

    async def _commit(self, *, unsent: bool = False) -> list[tuple[str, str]]:
        try:
            headers = await self._session.acommit(unsent=unsent)
        except BaseException:
            self._failed = True
            raise
        self._started, self._failed = True, False
        return headers

    async def _fail(self, error: BaseException) -> None:
        """The application has raised: nothing is saved but what it asked for while only the client was missing."""
        gone = self._gone or isinstance(error, _cancellation())
        if gone and self._started and self._session.dirty():
            await self._session.afinish(unread=not self._websocket, surely=True)


def _cancellation() -> type[BaseException]:
    if "anyio" in sys.modules:
        kind: type[BaseException] = import_module("anyio").get_cancelled_exc_class()
        return kind
    return asyncio.CancelledError


def _with_headers(message: Message, added: list[tuple[str, str]]) -> Message:
    if not added:
        return message
    given: Iterable[tuple[bytes, bytes]] = message.get("headers", ())
    headers = [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in given]
    merged = with_session_headers(headers, added)
    encoded = [(_OURS.get(name) or name.encode("latin-1"), value.encode("latin-1")) for name, value in merged]
    return {**message, "headers": encoded}
