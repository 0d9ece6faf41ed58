"""A WSGI application with everything a deployment needs around it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from beaker._typing import Environ, StartResponse, WSGIApp
from beaker.middleware import CacheMiddleware, SessionMiddleware
from gae.settings import Settings

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


def compose(
    app: WSGIApp,
    *,
    session: Mapping[str, Any] | None = None,
    cache: Mapping[str, Any] | None = None,
    regions: Mapping[str, Mapping[str, Any]] | None = None,
    settings: Settings | None = None,
) -> Application:
    """``app`` inside sessions and caching, configured from the environment (:mod:`gae.settings`).

    ``session``, ``cache`` and ``regions`` are options without prefix and win over the environment. The one
    line logged at start says what was chosen. Raises ConfigError when the deployment lacks something.
    """
    settings = settings or Settings.from_environ(session=session, cache=cache, regions=regions)
    caching = CacheMiddleware(app, **settings.cache)
    sessions = SessionMiddleware(caching, options=settings.session, runtime=settings.runtime)
    log.info(settings.report())
    return Application(sessions, settings, sessions)
