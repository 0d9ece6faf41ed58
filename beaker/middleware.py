"""WSGI middleware for sessions and caches (manual 5.1.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from beaker._typing import Environ, Headers, StartResponse, WSGIApp
from beaker.config.arguments import check_application
from beaker.config.options import SessionOptions
from beaker.config.parse import parse_cache, parse_session
from beaker.exceptions import ConfigError
from beaker.session.base import BaseSession
from beaker.session.context import SessionContext
from beaker.session.opening import opener
from beaker.session.proxy import SessionObject
from beaker.telemetry.server_timing import timed_start

__all__ = ["CacheMiddleware", "SessionMiddleware"]


def __getattr__(name: str) -> Any:
    # Paste's factories stand on this module.
    if name in ("session_filter_app_factory", "session_filter_factory"):
        return getattr(import_module("beaker.compat.paste"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class SessionMiddleware:
    """Puts a lazy session into ``environ[environ_key]`` and sends its cookie.

    ``config`` holds options as ``session.NAME`` or ``beaker.session.NAME``, beside other components' keys;
    without any such prefix all of it is options. Keyword arguments win, plain ones over prefixed ones. Raises
    ConfigError at construction for options that cannot be used, for a misspelt one that would leave sessions less
    safe, and for what is no WSGI application. ``options`` takes ready-made SessionOptions instead.

    A session nobody touches costs no I/O and adds no header. Otherwise it is saved when the first chunk of
    the body is there, once; what a streamed body changes later is saved at its end (cookie sessions warn).
    A response whose headers are never sent, as a websocket's, saves at its end, too, and warns of a lost cookie.
    """

    session: Any = None

    def __init__(
        self,
        wrap_app: WSGIApp,
        config: Mapping[str, Any] | None = None,
        environ_key: str = "beaker.session",
        **kwargs: Any,
    ) -> None:
        check_application(wrap_app, "SessionMiddleware")
        self.app = self.wrap_app = wrap_app
        self.environ_key = environ_key
        self.options, injected = configured_sessions(config, kwargs)
        self.context = SessionContext(self.options, **injected)
        self._opener = opener(self.context)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if self.options.server_timing:
            start_response = timed_start(environ, start_response)
        session = SessionObject(environ, context=self.context, opener=self._opener)
        environ[self.environ_key] = session
        environ["beaker.get_session"] = self._get_session
        if self.options.webtest_varname and "paste.testing_variables" in environ:
            environ["paste.testing_variables"][self.options.webtest_varname] = session
        # Registries of frameworks (Paste's) want to be told of the object behind a global name.
        if "paste.registry" in environ and self.session is not None:
            environ["paste.registry"].register(self.session, session)
        response = _Response(session, environ, start_response)
        try:
            body = self.wrap_app(environ, response.start)
        except BaseException as error:
            try:
                if isinstance(error, StopIteration) and _may_take_over(environ):
                    response.take_over()
            finally:
                session.release()
            raise
        if type(body) in (list, tuple):
            # Nothing of the application runs any more.
            response.end()
            return body
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(body, wrapper) and _sent_as_file(body, response):
            return body
        return _SizedBody(body, response) if hasattr(body, "__len__") else _Body(body, response)

    def _get_session(self, id: str | None = None) -> BaseSession:
        # In environ["beaker.get_session"], by this name too.
        return self._opener.beside(id)

    def revoke(self, *, user: Any = None, everybody: bool = False) -> None:
        """End every session of ``user``, or of everybody; see :meth:`SessionContext.revoke`."""
        self.context.revoke(user=user, everybody=everybody)

    def __repr__(self) -> str:
        return f"<SessionMiddleware {self.context!r}>"


class CacheMiddleware:
    """Makes a :class:`~beaker.cache.CacheManager` available as ``environ[environ_key]``.

    ``config`` holds options prefixed by ``cache.`` (or ``beaker.cache.``) beside other components'; when
    none is prefixed, all of them are options. Keyword arguments are options, with or without prefix, and win over
    ``config``, plain ones over prefixed ones. Raises ConfigError, naming the option, for one that cannot be used, and
    for what is no WSGI application.
    """

    def __init__(
        self,
        app: WSGIApp,
        config: Mapping[str, Any] | None = None,
        environ_key: str = "beaker.cache",
        **kwargs: Any,
    ) -> None:
        # Applications with sessions only do not pay for the cache's modules when they start.
        from beaker.cache import CacheManager

        check_application(app, "CacheMiddleware")
        self.app = app
        self.environ_key = environ_key
        self.options = parse_cache(config, kwargs=kwargs)
        self.cache_manager = CacheManager(**self.options)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ[self.environ_key] = self.cache_manager
        return self.app(environ, start_response)


def configured_sessions(
    config: Mapping[str, Any] | None, given: dict[str, Any]
) -> tuple[SessionOptions, dict[str, Any]]:
    """The options of a session middleware, and what is injected, out of ``config`` and keywords. Raises ConfigError."""
    injected: dict[str, Any] = {name: given.pop(name) for name in ("clock", "runtime") if name in given}
    ready = given.pop("options", None)
    if ready is None:
        return parse_session(config, kwargs=given), injected
    if not isinstance(ready, SessionOptions) or config or given:
        raise ConfigError(
            "options are complete: no other session options go with them",
            option="options",
            expected="SessionOptions alone",
            got=type(ready).__name__,
        )
    return ready, injected


def _may_take_over(environ: Environ) -> bool:
    """Whether the application can have answered on the socket itself, which gunicorn hands out.

    Websocket libraries (simple-websocket, Flask-Sock, python-engineio) then raise StopIteration, at which
    gunicorn closes the connection.
    """
    return "gunicorn.socket" in environ and "HTTP_UPGRADE" in environ


def _is_websocket(environ: Environ, status: str) -> bool:
    """Whether the response with ``status`` goes out over a socket that no longer speaks HTTP.

    gevent-websocket has upgraded the connection before the application runs. Where a server hands out its
    socket, an upgrade that succeeded is a 101, and every other success is said on a socket taken over.
    """
    if environ.get("wsgi.websocket") is not None:
        return True
    offered = "gunicorn.socket" in environ or "werkzeug.socket" in environ
    return offered and environ.get("HTTP_UPGRADE", "").lower() == "websocket" and status.startswith("2")


class _Response:
    """Keeps the application's status and headers until its first chunk is there."""

    _status: str | None = None
    _headers: Headers
    _added: Headers
    _exc_info: Any = None
    _write: Callable[[bytes], object] | None = None
    sent = failed = False

    def __init__(self, session: SessionObject, environ: Environ, start_response: StartResponse) -> None:
        self._session = session
        self._environ = environ
        self._start_response = start_response
        self._added = []

    def start(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], object]:
        if self.sent:
            # The server raises the error, or answers the application's second attempt, as PEP 3333 says.
            return self._start_response(status, with_session_headers(headers, self._added), exc_info)
        if self._status is not None and not exc_info:
            raise AssertionError("start_response was called a second time without exc_info")
        self._status, self._headers, self._exc_info = status, headers, exc_info
        return self.write

    def write(self, data: bytes) -> object:
        self.send()
        assert self._write is not None  # send() has just called start_response, which returns it
        return self._write(data)

    def send(self) -> None:
        """Save the session and call the server's start_response, once; nothing before the application has."""
        if self.sent or self._status is None:
            return
        headers = self._headers
        if self._session.accessed():
            self._commit(unsent=_is_websocket(self._environ, self._status))
            headers = with_session_headers(headers, self._added)
        self.sent = True
        exc_info, self._exc_info = self._exc_info, None
        try:
            if exc_info:
                self._write = self._start_response(self._status, headers, exc_info)
            else:
                self._write = self._start_response(self._status, headers)
        finally:
            del exc_info

    def _commit(self, *, unsent: bool) -> None:
        try:
            self._added = self._session.commit(unsent=unsent)
        except BaseException:
            # The server will say so; close() must not save after all what the visitor is told has failed.
            self.failed = True
            raise

    def fail(self) -> None:
        """The application has raised: nothing is saved any more, and no other request waits for this one's locks."""
        self.failed = True
        self._session.release()

    def take_over(self) -> None:
        """Save the session of a response that the application has sent on the socket itself."""
        if self._status is None:
            self._commit(unsent=True)

    def end(self) -> None:
        """The body is complete: what was not sent or saved yet is now, and locks are released."""
        try:
            if self.failed:
                return
            if self.sent:
                self._session.finish()
            elif self._status is not None:
                self.send()
            else:
                self.take_over()
        finally:
            self._session.release()


class _Body:
    """Iterates the application's body, sending the headers when its first chunk is there.

    An empty chunk counts: an application may yield it to say that it is not ready, and PEP 3333 forbids
    middleware to wait for the next one. Servers want start_response to have been called before any chunk, and
    some send the headers at once, so the session is saved then; what the body changes later, at its end.
    """

    __slots__ = ("_body", "_iterator", "_response")

    def __init__(self, body: Iterable[bytes], response: _Response) -> None:
        self._body = body
        self._iterator: Iterator[bytes] | None = None
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            chunk = next(self._iterator)
        except StopIteration:
            self._response.send()
            raise
        except BaseException:
            # A request that failed saves nothing (manual 2.3).
            self._response.fail()
            raise
        if not self._response.sent:
            self._response.send()
        return chunk

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._response.end()


class _SizedBody(_Body):
    """A body that knows how many chunks it has: of a single one servers compute Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]


def _sent_as_file(body: Any, response: _Response) -> bool:
    """Leave a server's file wrapper to the server, which sends a bare file faster and knows its length.

    Its ``close()`` ends the response. False where the wrapper takes no attributes.
    """
    close = getattr(body, "close", None)

    def close_and_end() -> None:
        try:
            if close is not None:
                close()
        finally:
            response.end()

    try:
        body.close = close_and_end
    except (AttributeError, TypeError):
        return False
    try:
        response.send()
    except BaseException:
        body.close()
        raise
    return True


def with_session_headers(headers: Headers, session: Headers) -> Headers:
    """``headers`` with the session's merged in: Vary and Cache-Control are completed, not replaced."""
    if not session:
        return headers
    merged = list(headers)
    for name, value in session:
        if name == "Vary":
            _complete(merged, name, [value], drop=())
        elif name == "Cache-Control":
            # What says "public" would contradict a response with somebody's cookie in it.
            _complete(merged, name, value.split(", "), drop=("public", "s-maxage"))
        else:
            merged.append((name, value))
    return merged


def _complete(headers: Headers, name: str, words: list[str], *, drop: tuple[str, ...]) -> None:
    lower = name.lower()
    found = [item for item in headers if item[0].lower() == lower]
    if not found:
        headers.append((name, ", ".join(words)))
        return
    there: list[str] = []
    for item in found:
        headers.remove(item)
        there += [word.strip() for word in item[1].split(",") if word.strip()]
    there = [word for word in there if word.partition("=")[0].lower() not in drop]
    known = {word.lower() for word in there}
    if "*" not in known:
        there += [word for word in words if word.lower() not in known]
    headers.append((name, ", ".join(there)))
