"""WSGI middleware that puts a CacheManager into the environ (manual 5.1.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from beaker._typing import Environ, StartResponse, WSGIApp
from beaker.cache import CacheManager
from beaker.config.arguments import check_application
from beaker.config.parse import parse_cache

__all__ = ["CacheMiddleware"]


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
        check_application(app, "CacheMiddleware")
        self.app = app
        self.environ_key = environ_key
        self.options = parse_cache(config, kwargs=kwargs)
        self.cache_manager = CacheManager(**self.options)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        environ[self.environ_key] = self.cache_manager
        return self.app(environ, start_response)
