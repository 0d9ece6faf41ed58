"""A WSGI or ASGI application with everything a deployment needs around it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from beaker._typing import ASGIApp, Environ, StartResponse, WSGIApp
from beaker.config.arguments import check_application, check_asgi_application, is_asgi, is_async
from beaker.config.coerce import wrong
from beaker.config.environment import region_name
from beaker.exceptions import ConfigError
from beaker.middleware import CacheMiddleware, SessionMiddleware
from beaker.operations.purging import stores_of
from gae.handlers import Handlers, Verify
from gae.logs import RequestTrace, configure_unless_configured
from gae.ndb_context import NDBContextMiddleware, NDBSource
from gae.settings import Settings

if TYPE_CHECKING:
    from beaker.session.context import SessionContext
    from gae.asgi import AsyncApplication
    from gae.console import ConsoleOptions, Mounted

__all__ = ["Application", "compose"]

log = logging.getLogger("gae")


class Application:
    """The composed WSGI callable; ``settings`` says what it runs with."""

    def __init__(self, wsgi: WSGIApp, settings: Settings, sessions: SessionMiddleware) -> None:
        self._wsgi = wsgi
        self.settings = settings
        self.sessions = sessions

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return self._wsgi(environ, start_response)

    def __repr__(self) -> str:
        return f"<Application {self.settings.report()}>"


@overload
def compose(
    app: ASGIApp,
    *,
    session: Mapping[str, Any] | None = None,
    cache: Mapping[str, Any] | None = None,
    regions: Mapping[str, Mapping[str, Any]] | None = None,
    settings: Settings | None = None,
    ndb: Any = False,
    handlers: bool = True,
    console: bool | ConsoleOptions | None = None,
    prefetch: Iterable[Callable[[], object]] = (),
    verify: Verify | None = None,
    secrets_client: Any = None,
) -> AsyncApplication: ...


@overload
def compose(
    app: WSGIApp,
    *,
    session: Mapping[str, Any] | None = None,
    cache: Mapping[str, Any] | None = None,
    regions: Mapping[str, Mapping[str, Any]] | None = None,
    settings: Settings | None = None,
    ndb: Any = False,
    handlers: bool = True,
    console: bool | ConsoleOptions | None = None,
    prefetch: Iterable[Callable[[], object]] = (),
    verify: Verify | None = None,
    secrets_client: Any = None,
) -> Application: ...


def compose(
    app: Any,
    *,
    session: Mapping[str, Any] | None = None,
    cache: Mapping[str, Any] | None = None,
    regions: Mapping[str, Mapping[str, Any]] | None = None,
    settings: Settings | None = None,
    ndb: Any = False,
    handlers: bool = True,
    console: bool | ConsoleOptions | None = None,
    prefetch: Iterable[Callable[[], object]] = (),
    verify: Verify | None = None,
    secrets_client: Any = None,
) -> Application | AsyncApplication:
    """``app`` inside an NDB context, the platform's handlers, sessions and caching, in that order.

    Configured from the environment (:mod:`gae.settings`); ``session``, ``cache`` and ``regions`` are options
    without prefix and win over it. One line logged at start says what was chosen and why; where logging is not
    set up yet, on Google's platforms, :func:`gae.logs.configure` does, or the line would not be seen.

    ``ndb``: ``True``, or the application's ``ndb.Client``, opens an NDB context for each request; see
    :mod:`gae.ndb_context` for why that is not the default. ``handlers=False`` leaves the addresses of
    :mod:`gae.handlers` to ``app``. ``console``: whether there is the page of :mod:`gae.console`, or its options;
    default: what ``BEAKER_CONSOLE`` says. ``settings`` take the place of the environment and of the options.
    ``prefetch`` are functions a warmup calls. ``verify`` and ``secrets_client`` replace the check of OIDC
    tokens and the client of Secret Manager. Raises ConfigError when the deployment lacks something, and for an
    argument of the wrong kind.

    Of an ASGI application the result is an ASGI application, with the same addresses and with
    :class:`beaker.asgi.SessionMiddleware`; caches are in ``scope["beaker.cache"]``. It has no NDB contexts.
    """
    asgi = is_asgi(app)
    if isinstance(prefetch, Iterator):
        # It can be looked at once only.
        prefetch = list(prefetch)
    if asgi:
        check_asgi_application(app, "compose")
    else:
        check_application(app, "compose")
    _check_arguments(settings, ndb, handlers, prefetch, verify, asgi=asgi)
    if settings is None:
        settings = Settings.from_environ(
            session=session, cache=cache, regions=regions, console=console, secrets_client=secrets_client
        )
    elif any(given is not None for given in (session, cache, regions, console)):
        raise ConfigError("settings are complete: give session, cache, regions and console to Settings.from_environ")
    if asgi:
        return _compose_asgi(app, settings, handlers, prefetch, verify)
    with settings.naming_variables():
        caching = CacheMiddleware(app, **settings.cache)
        sessions = SessionMiddleware(caching, options=settings.session, runtime=settings.runtime)
    wsgi: WSGIApp = sessions
    if handlers:
        wsgi = _handlers(wsgi, settings, sessions.context, prefetch, verify)
    if settings.console is not None:
        wsgi = _mounted(wsgi, settings.console, settings, sessions.context)
    if ndb is not False and ndb is not None:
        source = NDBSource(
            None if ndb is True else ndb, runtime=settings.runtime, database=settings.session.backend.get("database")
        )
        wsgi = NDBContextMiddleware(wsgi, source)
    if settings.runtime.serverless:
        wsgi = RequestTrace(wsgi)
    configure_unless_configured(settings.runtime)
    log.info("%s", settings.report())
    return Application(wsgi, settings, sessions)


def _compose_asgi(
    app: ASGIApp,
    settings: Settings,
    handlers: bool,
    prefetch: Iterable[Callable[[], object]],
    verify: Verify | None,
) -> AsyncApplication:
    # A WSGI application does without the modules of the other kind.
    from beaker.asgi import SessionMiddleware as AsyncSessionMiddleware
    from gae import asgi as parts

    with settings.naming_variables():
        caching = parts.AsyncCaching(app, settings.cache)
        sessions = AsyncSessionMiddleware(caching, options=settings.session, runtime=settings.runtime)
    composed: ASGIApp = sessions
    if handlers:
        composed = parts.AsyncHandlers(composed, _handlers(_nothing, settings, sessions.context, prefetch, verify))
    if settings.console is not None:
        composed = parts.AsyncConsole(composed, _mounted(_nothing, settings.console, settings, sessions.context))
    if settings.runtime.serverless:
        composed = parts.AsyncRequestTrace(composed)
    configure_unless_configured(settings.runtime)
    log.info("%s", settings.report())
    return parts.AsyncApplication(composed, settings, sessions)


def _nothing(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    raise AssertionError("only the platform's addresses are asked of these handlers")


def _check_arguments(
    settings: object, ndb: object, handlers: object, prefetch: Any, verify: object, *, asgi: bool
) -> None:
    if settings is not None and not isinstance(settings, Settings):
        raise wrong("settings", settings, "gae.settings.Settings", "Settings.from_environ() reads them")
    if isinstance(ndb, (str, int, float, Mapping)) and not isinstance(ndb, bool):
        raise wrong("ndb", ndb, "true, false or an ndb.Client")
    if not isinstance(handlers, bool):
        raise wrong("handlers", handlers, "true or false")
    if isinstance(prefetch, str) or not isinstance(prefetch, Iterable) or not all(map(callable, prefetch)):
        raise wrong("prefetch", prefetch, "a list of functions without arguments")
    if any(map(is_async, prefetch)):
        raise wrong("prefetch", prefetch, "functions that are not asynchronous", "a warmup calls them in a thread")
    if asgi and ndb is not False and ndb is not None:
        raise wrong("ndb", ndb, "false for an ASGI application", "open ndb_client.context() where a thread uses NDB")
    if verify is not None and not callable(verify):
        raise wrong("verify", verify, "a function that checks a token")


def _mounted(app: WSGIApp, options: ConsoleOptions, settings: Settings, context: SessionContext) -> Mounted:
    # An application without a console does without its modules.
    from gae.console import Console, Mounted

    def stores() -> Sequence[Any]:
        return stores_of(context, settings.cache)

    return Mounted(app, Console(options, settings=settings, stores=stores, ring=lambda: context.ring))


def _handlers(
    wsgi: WSGIApp,
    settings: Settings,
    context: SessionContext,
    prefetch: Iterable[Callable[[], object]],
    verify: Verify | None,
) -> Handlers:
    spelt = {region_name(name): name for name in settings.cache["cache_regions"]}
    named = {name: spelt.get(region_name(name)) for name in settings.tasks.warmup_regions}
    for name in [name for name, found in named.items() if found is None]:
        log.warning("BEAKER_WARMUP_REGIONS names %s, and no region of that name is configured", name)
    warmed = [name for name in named.values() if name is not None]

    def stores() -> Sequence[Any]:
        return stores_of(context, settings.cache)

    def warm() -> Sequence[Any]:
        return stores_of(context, settings.cache, warmed)

    return Handlers(
        wsgi,
        runtime=settings.runtime,
        tasks=settings.tasks,
        stores=stores,
        warm=warm,
        prefetch=prefetch,
        verify=verify,
    )
