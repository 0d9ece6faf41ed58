"""WSGI middleware for sessions and caches (manual 5.1.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from beaker import serving
from beaker._typing import Environ, StartResponse, WSGIApp
from beaker.config.arguments import check_application, check_environ_key
from beaker.config.options import SessionOptions
from beaker.config.parse import parse_cache, parse_session
from beaker.exceptions import ConfigError
from beaker.session.base import BaseSession
from beaker.session.context import SessionContext
from beaker.session.opening import opener
from beaker.session.proxy import SessionObject, set_request
from beaker.session.response import Body, Response, SizedBody, may_take_over, sent_as_file

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
        check_environ_key(environ_key)
        self.app = self.wrap_app = wrap_app
        self.environ_key = environ_key
        self.options, injected = configured_sessions(config, kwargs)
        self.context = SessionContext(self.options, **injected)
        self._opener = opener(self.context)
        self._timed, self._tested = self.options.server_timing, self.options.webtest_varname

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if serving.wanted and not serving.is_here(environ):
            return serving.serve(self, environ, start_response)
        if self._timed:
            from beaker.telemetry.server_timing import timed_start

            start_response = timed_start(environ, start_response)
        # Its constructor is for others; a call more or less is a part of what a request without a session costs.
        session = environ[self.environ_key] = SessionObject.__new__(SessionObject)
        set_request(session, (environ, self._opener, self.context.clock()))
        environ["beaker.get_session"] = self._get_session
        if self._tested and "paste.testing_variables" in environ:
            environ["paste.testing_variables"][self._tested] = session
        # Registries of frameworks (Paste's) want to be told of the object behind a global name.
        if self.session is not None and "paste.registry" in environ:
            environ["paste.registry"].register(self.session, session)
        response = Response(session, environ, start_response)
        try:
            body = self.wrap_app(environ, response.start)
        except BaseException as error:
            try:
                if isinstance(error, StopIteration) and may_take_over(environ):
                    response.take_over()
            finally:
                session.release()
            raise
        kind = type(body)
        if kind is list or kind is tuple:
            # Nothing of the application runs any more.
            if session._sess is None and not response.sent and response._status is not None and not response._exc_info:
                # As end() does it: most responses come to this.
                response.sent = True
                start_response(response._status, response._headers)
            else:
                response.end()
            return body
        wrapper = environ.get("wsgi.file_wrapper")
        if isinstance(wrapper, type) and isinstance(body, wrapper) and sent_as_file(body, response):
            return body
        return SizedBody(body, response) if hasattr(body, "__len__") else Body(body, response)

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
        check_environ_key(environ_key)
        self.app = app
        self.environ_key = environ_key
        self.options = parse_cache(config, kwargs=kwargs)
        self.cache_manager = CacheManager(**self.options)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        if serving.wanted and not serving.is_here(environ):
            return serving.serve(self, environ, start_response)
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
