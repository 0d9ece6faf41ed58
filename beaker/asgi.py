"""ASGI middleware for sessions: what :mod:`beaker.middleware` is under WSGI, with the same options and cookies."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

from beaker import serving
from beaker._typing import ASGIApp, Message, Receive, Scope, Send
from beaker.config.arguments import check_asgi_application, check_environ_key
from beaker.config.coerce import wrong
from beaker.loops.hops import in_thread, library, refuse_in_loop
from beaker.middleware import configured_sessions
from beaker.session.async_proxy import AsyncSessionObject, async_session_of
from beaker.session.context import SessionContext
from beaker.session.headers import with_session_headers
from beaker.session.hops import may_block
from beaker.session.opening import Opener, opener

__all__ = ["AsyncSessionObject", "SessionMiddleware", "open_session", "respond"]

_BODIES = ("http.response.body", "http.response.pathsend", "http.response.zerocopysend")
_COMPLETED = frozenset({b"vary", b"cache-control"})
"""Headers of an application that are completed by a session's."""
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
        check_environ_key(environ_key)
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
        if serving.wanted and scope["type"] == "http" and not serving.is_here(scope):
            await serving.aserve(self, scope, receive, send)
            return
        if self.options.server_timing:
            from beaker.telemetry.server_timing import timed_send, timing

            send = timed_send(timing(scope), send)
        session = await open_session(scope, self._opener, self.environ_key, lazy=self._lazy)
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
    scope: Scope, opener: Opener, environ_key: str = "beaker.session", *, lazy: bool = False
) -> AsyncSessionObject:
    """The session of a request, put into its ``scope``: to be released, as :func:`respond` does."""
    session = async_session_of(_environ(scope), opener, lazy=lazy)
    scope[environ_key] = scope["session"] = session
    if session._blocks and not lazy:
        await session._load_early()
    return session


async def respond(session: AsyncSessionObject, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run ``app``, which sends the response; the session is saved as its first message goes, and then released."""
    answer = _Answer(session, receive, send, websocket=scope["type"] == "websocket")
    # Coroutines are for what there is to wait for, which in most requests is nothing.
    try:
        try:
            await app(scope, answer.receive, answer.send)
        except BaseException as error:
            await answer.fail(error)
            raise
        if answer.started and not session._is_settled:
            await answer.finish()
    finally:
        if session._holds_locks:
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

    __slots__ = ("_ended", "_failed", "_gone", "_receive", "_send", "_session", "_websocket", "started")

    def __init__(self, session: AsyncSessionObject, receive: Receive, send: Send, *, websocket: bool) -> None:
        self._session = session
        self._receive = receive
        self._send = send
        self._websocket = websocket
        self.started = self._failed = self._gone = self._ended = False

    async def finish(self) -> None:
        """The application has returned: what changed since its first message is saved."""
        await self._session.afinish(unread=not self._websocket)

    async def receive(self) -> Message:
        message = await self._receive()
        # After a complete response, a disconnect says no more than that.
        if message["type"] == "websocket.disconnect" or (message["type"] == "http.disconnect" and not self._ended):
            self._gone = True
        return message

    async def send(self, message: Message) -> None:
        if not self.started:
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
        elif message["type"] in _BODIES and not message.get("more_body"):
            self._ended = True
        try:
            await self._send(message)
        except OSError:
            self._gone = True
            raise

    async def _commit(self, *, unsent: bool = False) -> list[tuple[str, str]]:
        try:
            session = self._session
            headers = await session.acommit(unsent=unsent) if session._blocks else session._commit_here(unsent=unsent)
        except BaseException:
            self._failed = True
            raise
        self.started, self._failed = True, False
        return headers

    async def fail(self, error: BaseException) -> None:
        """The application has raised: nothing is saved but what it asked for while only the client was missing."""
        if isinstance(error, GeneratorExit):
            # A coroutine that is closed, with its loop most often, cannot wait for a store.
            return
        gone = self._gone or isinstance(error, _cancellation())
        if gone and self.started and self._session.dirty():
            await self._session.afinish(unread=not self._websocket, surely=True)


def _cancellation() -> type[BaseException]:
    name = library()
    if name is None:
        return asyncio.CancelledError
    module = import_module(name)
    kind: type[BaseException] = module.Cancelled if name == "trio" else module.get_cancelled_exc_class()
    return kind


def _with_headers(message: Message, added: list[tuple[str, str]]) -> Message:
    if not added:
        return message
    given: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
    if _COMPLETED.isdisjoint([bytes(name).lower() for name, _ in given]):
        ours = [(_OURS[name], value.encode("latin-1")) for name, value in added]
        return {**message, "headers": given + ours}
    headers = [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in given]
    merged = with_session_headers(headers, added)
    encoded = [(_OURS.get(name) or name.encode("latin-1"), value.encode("latin-1")) for name, value in merged]
    return {**message, "headers": encoded}
