"""The request that is served here, for what is remembered until it ends and no longer.

A request is opened by a middleware, for the application's call and for each step of its body, and ends with the body.
It is in a context variable, so other threads, tasks and greenlets know of it where they run in a copy of its context;
one that goes on after its end finds none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from beaker._typing import ASGIApp, Environ, Message, Receive, Scope, Send, StartResponse, WSGIApp

__all__ = ["Request", "aserve", "current", "inside", "is_here", "opened", "request_scope", "serve", "want"]

KEY = "beaker.request"
"""Where an environ, or an ASGI scope, has it: middlewares around each other share one."""

wanted = False
"""Whether anything in this process remembers by request. Until then none is opened: it would cost each a little."""


def want() -> None:
    """Open requests from now on."""
    global wanted
    wanted = True


class Request:
    """One request. ``outer``: that in which it is served, if any."""

    __slots__ = ("is_over", "outer", "remembered")

    def __init__(self, outer: Request | None = None) -> None:
        self.outer = outer
        self.is_over = False
        self.remembered: Any = None
        """What is kept until its end; the cache's memo."""

    def end(self) -> None:
        """Forget what was remembered, and remember nothing any more."""
        self.is_over = True
        self.remembered = None


_current: ContextVar[Request | None] = ContextVar("beaker_request", default=None)


def current() -> Request | None:
    """The request of this context, unless it is over."""
    request = _current.get()
    return None if request is None or request.is_over else request


class inside:
    """What the block does, it does for ``request``."""

    __slots__ = ("_before", "_request")

    def __init__(self, request: Request | None) -> None:
        self._request = request

    def __enter__(self) -> None:
        if self._request is not None:
            self._before = _current.get()
            _current.set(self._request)

    def __exit__(self, *exc_info: object) -> None:
        if self._request is not None:
            # Not by a token, which no other context takes: a coroutine may be closed in one.
            _current.set(self._before)


@contextmanager
def request_scope() -> Iterator[None]:
    """A request for what has no middleware around it: a job, a message of a queue or a websocket, a script.

    Caches with the option ``memo`` remember in the block, in this context and copies of it, what they have read. A
    scope in another, or in a request, remembers for itself; what it changes is forgotten by those around it, too.
    """
    request = Request(current())
    try:
        with inside(request):
            yield
    finally:
        request.end()


def is_here(environ: MutableMapping[str, Any]) -> bool:
    """Whether the request of ``environ``, or of an ASGI scope, is that of this context."""
    request = environ.get(KEY)
    return request is not None and _current.get() is request


def opened(environ: MutableMapping[str, Any]) -> Request | None:
    """A new request for ``environ``, or an ASGI scope, to be ended by the caller; ``None`` where there is one already,
    or none is wanted."""
    if not wanted or KEY in environ:
        return None
    request = environ[KEY] = Request(current())
    return request


def serve(app: WSGIApp, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Call ``app`` inside the request of ``environ``, which is opened if need be and then ends with the body."""
    own = opened(environ)
    request: Request | None = environ.get(KEY)
    if own is not None and _is_websocket(environ):
        # It lasts for as long as the connection.
        own.end()
    try:
        with inside(request):
            body = app(environ, start_response)
    except BaseException:
        _end(own)
        raise
    wrapper = environ.get("wsgi.file_wrapper")
    if type(body) in (list, tuple) or (isinstance(wrapper, type) and isinstance(body, wrapper)):
        # Nothing of the application runs any more.
        _end(own)
        return body
    return SizedBody(body, request, own) if hasattr(body, "__len__") else Body(body, request, own)


def _end(request: Request | None) -> None:
    if request is not None:
        request.end()


def _is_websocket(environ: Environ) -> bool:
    return environ.get("wsgi.websocket") is not None or environ.get("HTTP_UPGRADE", "").lower() == "websocket"


class Body:
    """An application's body, each step of it inside its request; ``own`` ends when it is closed."""

    __slots__ = ("_body", "_iterator", "_own", "_request")

    def __init__(self, body: Iterable[bytes], request: Request | None, own: Request | None) -> None:
        self._body = body
        self._iterator: Iterator[bytes] | None = None
        self._request = request
        self._own = own

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with inside(self._request):
            if self._iterator is None:
                self._iterator = iter(self._body)
            return next(self._iterator)

    def close(self) -> None:
        close: Callable[[], object] | None = getattr(self._body, "close", None)
        try:
            if close is not None:
                with inside(self._request):
                    close()
        finally:
            _end(self._own)


class SizedBody(Body):
    """A body that knows how many chunks it has: of a single one servers compute Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]


async def aserve(app: ASGIApp, scope: Scope, receive: Receive, send: Send, own: Request | None = None) -> None:
    """:func:`serve` for ASGI: the request ends when the body is complete, or ``app`` returns before. ``own``: that of
    ``scope``, which was opened before and is to be ended here."""
    own = own or opened(scope)

    async def ending(message: Message) -> None:
        await send(message)
        if message["type"] in _LAST and not message.get("more_body"):
            # What the application does after its response, it does for no request.
            _end(own)

    try:
        with inside(scope.get(KEY)):
            await app(scope, receive, send if own is None else ending)
    finally:
        _end(own)


_LAST = ("http.response.body", "http.response.pathsend", "http.response.zerocopysend")
