"""Sessions and caches in HTTP functions: Cloud Functions, and Cloud Run under functions-framework.

::

    @with_session
    def hello(request):
        session = request.environ["beaker.session"]
        session["visits"] = session.get("visits", 0) + 1
        session.save()
        return f"visit {session['visits']}"

A function does not own the WSGI stack it runs in, so the session's headers are put on its response.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from beaker import serving
from beaker.cache import CacheManager
from beaker.config.arguments import is_async
from beaker.config.coerce import wrong
from beaker.config.parse import parse_session
from beaker.exceptions import ConfigError
from beaker.forks import ForkAware, notice_patch
from beaker.runtime import current as current_runtime
from beaker.session.context import SessionContext
from beaker.session.headers import with_session_headers
from beaker.session.opening import opener
from beaker.session.proxy import SessionObject
from beaker.session.response import closes_with
from beaker.telemetry.server_timing import timing
from gae.logs import RequestTrace, configure_unless_configured
from gae.secret_manager import resolve_all
from gae.settings import Settings

if TYPE_CHECKING:
    from flask import Request, Response

    from beaker._typing import Headers

    Function = Callable[..., Any]

__all__ = ["configure_cache", "with_session"]

ENVIRON_KEY = "beaker.session"
F = TypeVar("F", bound=Callable[..., Any])

log = logging.getLogger("gae")


def configure_cache(
    *,
    cache: Mapping[str, Any] | None = None,
    regions: Mapping[str, Mapping[str, Any]] | None = None,
    settings: Settings | None = None,
) -> CacheManager:
    """Configure the regions of ``@cache_region`` from the environment; ``cache`` and ``regions`` win over it.

    For functions with caches and no session, such as event functions: it needs no secret. Call it once, in
    the module; nothing is connected. Logging is set up as by :func:`gae.app.compose`. Raises ConfigError
    naming the option or variable.
    """
    _check_settings(settings)
    if settings is None:
        settings = Settings.from_environ(cache=cache, regions=regions, sessions=False)
    elif cache is not None or regions is not None:
        raise ConfigError("settings are complete: give cache and regions to Settings.from_environ")
    configure_unless_configured(settings.runtime)
    return CacheManager(**settings.cache)


@overload
def with_session(function: F) -> F: ...


@overload
def with_session(*, settings: Settings | None = None, **options: Any) -> Callable[[F], F]: ...


def with_session(
    function: Callable[..., Any] | None = None, *, settings: Settings | None = None, **options: Any
) -> Any:
    """Give an HTTP function a session: ``request.environ["beaker.session"]``, or, where it is ``async def``,
    ``request.session``, with the asynchronous forms of :class:`beaker.asgi.AsyncSessionObject`.

    ``options`` are session options without prefix (``type="ext:google", secret=...``) and are all there is
    then, Secret Manager references among them; else ``settings``; else the environment (:mod:`gae.settings`), which
    configures the cache regions of ``BEAKER_CACHE_`` variables too. Keys and stores are opened at the first request,
    so that a cold start pays only for what it uses. Raises ConfigError at once for options that cannot be used, for
    options beside ``settings`` and for what is no HTTP function, and at the first request for what only shows
    there. ``clock`` and ``runtime`` may be among the options.

    The session is saved when the function has returned, or, of a streamed response, when its first chunk
    is there; what the stream changes later is saved at its end. A function that raises saves nothing, except
    HTTP errors and redirects of Werkzeug (``abort``), or Starlette's HTTPException, which are responses.
    """

    if settings is not None and options:
        raise ConfigError("settings are complete: give session options to Settings.from_environ")
    _check_settings(settings)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        _check_function(function)
        sessions = Sessions(settings, options)
        if is_async(function):
            from gae.functions_async import with_async_session

            return with_async_session(function, sessions)

        @functools.wraps(function)
        def wrapper(request: Request, *args: Any, **kwargs: Any) -> Response:
            if not hasattr(request, "environ"):
                raise ConfigError(
                    "a plain function with a session got a request that is not Flask's",
                    option="with_session",
                    expected="functions-framework without --asgi, or an 'async def' function",
                    got=type(request).__name__,
                )
            return sessions.call(function, request, *args, **kwargs)

        return wrapper

    return decorate if function is None else decorate(function)


def _check_settings(settings: object) -> None:
    if settings is not None and not isinstance(settings, Settings):
        raise wrong("settings", settings, "gae.settings.Settings", "Settings.from_environ() reads them")


def _check_function(function: object) -> None:
    if not callable(function):
        raise wrong("with_session", function, "a function of a request", "options are keyword arguments")
    kind = _kind(function)
    if kind != "http":
        raise ConfigError(
            f"with_session got {kind}, and only an HTTP function has a visitor",
            option="with_session",
            expected="a function of a request, under functions_framework.http",
            got=type(function).__name__,
            hint="for caches alone there is gae.functions.configure_cache",
        )


def _kind(function: Any) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    call = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if inspect.isasyncgenfunction(call) or inspect.isgeneratorfunction(call):
        return "a generator"
    # functions-framework notes by name what its decorators were given.
    registry = getattr(sys.modules.get("functions_framework._function_registry"), "REGISTRY_MAP", {})
    if registry.get(getattr(function, "__name__", ""), "http") != "http" and hasattr(function, "__wrapped__"):
        return "an event function"
    try:
        parameters = list(inspect.signature(call).parameters.values())
    except ValueError:
        return "http"
    if not parameters:
        return "a function without a request"
    needed = [each for each in parameters if each.default is each.empty and each.kind <= each.POSITIONAL_OR_KEYWORD]
    if is_async(function) and len(needed) == 3:
        return "an ASGI application"
    annotation = parameters[0].annotation
    return "an event function" if "CloudEvent" in getattr(annotation, "__name__", str(annotation)) else "http"


class Sessions(ForkAware):
    """The session configuration of one function, built at its first request."""

    def __init__(self, settings: Settings | None, options: Mapping[str, Any]) -> None:
        self._settings = settings
        self._options = dict(options)
        self._injected = {name: self._options.pop(name) for name in ("clock", "runtime") if name in self._options}
        # What is wrong with options is said at once; only Secret Manager waits for the first request.
        self._parsed = parse_session(kwargs=self._options) if self._options else None
        self._renew_locks()
        super().__init__()
        self._made: tuple[SessionContext, Any] | None = None

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()

    _after_fork = _renew_locks

    @property
    def is_ready(self) -> bool:
        """Whether :meth:`context` returns at once."""
        return self._made is not None

    def context(self) -> tuple[SessionContext, Any]:
        """The context, and what opens a session in it. The first time it reads keys, and asks Secret Manager."""
        made = self._made
        if made is None:
            notice_patch()
            with self._lock:
                made = self._made
                if made is None:
                    context = self._configure()
                    made = self._made = (context, opener(context))
        return made

    def _configure(self) -> SessionContext:
        if self._parsed is not None:
            resolved = resolve_all(self._options, option="session")
            parsed = self._parsed if resolved == self._options else parse_session(kwargs=resolved)
            return SessionContext(parsed, **self._injected)
        settings = self._settings or Settings.from_environ(runtime=current_runtime())
        with settings.naming_variables():
            configure_cache(settings=settings)
            context = SessionContext(settings.session, runtime=settings.runtime)
        log.info("%s", settings.report())
        return context

    def call(self, function: Callable[..., Any], request: Request, *args: Any, **kwargs: Any) -> Response:
        end = RequestTrace.begin(request.environ) or _nothing
        context, open_session = self.context()
        timed = timing(request.environ) if context.options.server_timing else None
        session = SessionObject(request.environ, context=context, opener=open_session)
        request.environ[ENVIRON_KEY] = session
        served = serving.opened(request.environ)
        end = functools.partial(_end, served, end)
        try:
            with serving.inside(served):
                response = self._respond(session, functools.partial(function, request, *args, **kwargs), request, timed)
        except BaseException:
            session.release()
            end()
            raise
        if response.is_streamed:
            stream = response.response
            closing: Callable[[], None] = functools.partial(_close, session, stream, end)
            if isinstance(stream, _Stream):
                stream.closing, closing = closing, stream.end
            elif response.direct_passthrough:
                closing = _once(closing)
                # Werkzeug hands such a body to the server bare, and calls nothing when that has closed it.
                response.direct_passthrough = closes_with(stream, closing)
            # Also where something replaces the stream, of a compressing extension for example.
            response.call_on_close(closing)
        else:
            session.release()
            end()
        return response

    def _respond(
        self,
        session: SessionObject,
        function: Callable[[], Any],
        request: Request,
        timed: Callable[[], Headers] | None,
    ) -> Response:
        import flask
        from werkzeug.exceptions import HTTPException

        try:
            answer = function()
        except HTTPException as error:
            # Outside of functions Flask turns it into a response before any middleware sees it.
            answer = flask.current_app.handle_http_exception(error)
        response: Response = flask.make_response(answer)
        if _is_iterated(request, response):
            response.response = stream = _Stream(response.response, request.environ.get(serving.KEY))
            if stream.failed:
                return response
        try:
            headers = with_session_headers(list(response.headers), session.commit())
        except BaseException:
            response.close()
            raise
        response.headers.clear()
        response.headers.extend(headers)
        if timed is not None:
            response.headers.extend(timed())
        return response


def _end(served: serving.Request | None, end: Callable[[], None]) -> None:
    if served is not None:
        served.end()
    end()


def _nothing() -> None:
    """Nothing is logged at the end of the request."""


def _once(closing: Callable[[], None]) -> Callable[[], None]:
    left = [closing]
    return lambda: left.pop()() if left else None


def _close(session: SessionObject, body: object, end: Callable[[], None]) -> None:
    """What follows a streamed body: its late changes are saved unless it has failed, and locks are released."""
    try:
        if not (isinstance(body, _Stream) and body.failed):
            session.finish()
    finally:
        session.release()
        end()


def _is_iterated(request: Request, response: Response) -> bool:
    """Whether the server will run a generator of the application for this response."""
    bodiless = request.method == "HEAD" or response.status_code < 200 or response.status_code in (204, 304)
    return response.is_streamed and not response.direct_passthrough and not bodiless


class _Stream:
    """A streamed body whose first chunk is computed at once: until then it may still change the session's cookie.

    An empty chunk counts, too: it says that the stream is not ready, and is not to be waited for. An error is
    raised where the bare stream would raise it, and ``failed`` is set. ``closing`` is called once when the stream is
    closed, also where closing the body raises, at which Werkzeug calls nothing more.
    """

    closing: Callable[[], None] | None = None
    failed = False

    def __init__(self, body: Iterable[Any], served: serving.Request | None) -> None:
        self._body = body
        self._served = served
        self._first: list[Any] = []
        self._error: BaseException | None = None
        try:
            self._iterator = iter(body)
            self._first += itertools.islice(self._iterator, 1)
        except Exception as error:
            self._error, self.failed = error, True

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._error is not None:
            raise self._error
        if self._first:
            return self._first.pop()
        try:
            with serving.inside(self._served):
                return next(self._iterator)
        except StopIteration:
            raise
        except BaseException:
            self.failed = True
            raise

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                with serving.inside(self._served):
                    close()
        finally:
            self.end()

    def end(self) -> None:
        closing, self.closing = self.closing, None
        if closing is not None:
            closing()
