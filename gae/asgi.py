"""What a deployment needs around an ASGI application: the platform's addresses, and logs that carry the trace."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

from beaker._typing import ASGIApp, Environ, Message, Receive, Scope, Send, WSGIApp
from beaker.asgi import SessionMiddleware
from beaker.cache import CacheManager
from beaker.loops.hops import in_thread
from gae.handlers import HEALTH, Handlers
from gae.logs import RequestTrace
from gae.settings import Settings

if TYPE_CHECKING:
    from gae.console import Mounted

__all__ = ["AsyncApplication", "AsyncCaching", "AsyncConsole", "AsyncHandlers", "AsyncRequestTrace", "environ_of"]


def environ_of(scope: Scope) -> Environ:
    """What the platform's addresses and logs ask of a request, under the names of WSGI."""
    path, root = str(scope.get("path", "")), str(scope.get("root_path", ""))
    environ: Environ = {
        "REQUEST_METHOD": scope.get("method", "GET"),
        "PATH_INFO": path.removeprefix(root) if root and path.startswith(f"{root}/") else path,
        "QUERY_STRING": bytes(scope.get("query_string", b"")).decode("latin-1"),
    }
    for raw, value in scope.get("headers", ()):
        name, text = bytes(raw).decode("latin-1"), bytes(value).decode("latin-1")
        if "_" in name:
            # Under the names of WSGI it would pass for the one with hyphens, which the platform takes from strangers.
            continue
        key = "HTTP_" + name.upper().replace("-", "_")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


class AsyncApplication:
    """The composed ASGI callable; ``settings`` says what it runs with."""

    def __init__(self, asgi: ASGIApp, settings: Settings, sessions: SessionMiddleware) -> None:
        self._asgi = asgi
        self.settings = settings
        self.sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._asgi(scope, receive, send)

    def __repr__(self) -> str:
        return f"<AsyncApplication {self.settings.report()}>"


class AsyncCaching:
    """Makes a CacheManager available as ``scope["beaker.cache"]``."""

    def __init__(self, app: ASGIApp, options: Mapping[str, Any]) -> None:
        self._app = app
        self._manager = CacheManager(**options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["beaker.cache"] = self._manager
        await self._app(scope, receive, send)


class AsyncHandlers:
    """Serves the addresses of ``handlers`` in worker threads (the plain health check in the loop); the rest passes."""

    def __init__(self, app: ASGIApp, handlers: Handlers) -> None:
        self._app = app
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        environ = environ_of(scope) if scope["type"] == "http" else {}
        path = environ.get("PATH_INFO")
        if not self._handlers.serves(path):
            await self._app(scope, receive, send)
            return
        work = partial(_called, self._handlers, environ)
        # It says that the process serves, so it waits for no thread.
        plain = path == HEALTH and not environ["QUERY_STRING"]
        for message in work() if plain else await in_thread(work):
            await send(message)


class AsyncConsole:
    """The page of ``mounted`` in worker threads; the rest passes to ``app``."""

    def __init__(self, app: ASGIApp, mounted: Mounted) -> None:
        self._app = app
        self._mounted = mounted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        environ = environ_of(scope) if scope["type"] == "http" else {}
        if not self._mounted.serves(environ.get("PATH_INFO")):
            if scope["type"] != "lifespan":
                self._mounted.note()
            await self._app(scope, receive, send)
            return
        environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
        environ["CONTENT_LENGTH"] = environ.pop("HTTP_CONTENT_LENGTH", "")
        environ["wsgi.input"] = BytesIO(await _body(receive) if environ["REQUEST_METHOD"] == "POST" else b"")
        for message in await in_thread(partial(_called, self._mounted, environ)):
            await send(message)


async def _body(receive: Receive) -> bytes:
    """As much of the request's body as a form may have."""
    from gae.console.forms import LARGEST

    body = b""
    while len(body) <= LARGEST:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


def _called(handlers: WSGIApp, environ: Environ) -> list[Message]:
    start: Message = {"type": "http.response.start"}

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        start["status"] = int(status.split(" ", 1)[0])
        start["headers"] = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]

    body = b"".join(handlers(environ, start_response))
    return [start, {"type": "http.response.body", "body": body}]


class AsyncRequestTrace:
    """What ``app`` logs carries the trace of its request; see :class:`gae.logs.RequestTrace`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        end = None if scope["type"] == "lifespan" else RequestTrace.begin(environ_of(scope))
        try:
            await self._app(scope, receive, send)
        finally:
            if end is not None:
                end()
