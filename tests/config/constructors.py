"""Everything that takes options, by name: what suites over all of it are parametrized with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from beaker.cache import CacheManager
from beaker.caching.cache import Cache
from beaker.config import parse
from beaker.middleware import CacheMiddleware, SessionMiddleware
from beaker.session.opening import CookieSession, Session
from beaker.session.proxy import SessionObject
from beaker.util import parse_cache_config_options
from gae.functions import with_session

KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
Given = dict[str, Any]


def app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b""]


def decorated(**given: Any) -> Any:
    return with_session(**given)(lambda request: request.environ["beaker.session"].get("x", "none"))


KEYWORDS: dict[str, Callable[..., Any]] = {
    "SessionMiddleware": lambda **given: SessionMiddleware(app, **given),
    "SessionObject": lambda **given: SessionObject({}, **given),
    "Session": lambda **given: Session({}, **given),
    "CookieSession": lambda **given: CookieSession({}, **{"validate_key": KEY, **given}),
    "parse_session": lambda **given: parse.parse_session(kwargs=given),
    "with_session": decorated,
}
MAPPINGS: dict[str, Callable[[Given], Any]] = {
    "SessionMiddleware": lambda given: SessionMiddleware(app, given),
    "parse_session": parse.parse_session,
}
CACHE_KEYWORDS: dict[str, Callable[..., Any]] = {
    "CacheMiddleware": lambda **given: CacheMiddleware(app, **given),
    "CacheManager": CacheManager,
    "Cache": lambda **given: Cache("n", **given),
    "get_cache": lambda **given: CacheManager().get_cache("n", **given),
    "region": lambda **given: CacheManager(cache_regions={"r": given}).get_cache_region("n", "r"),
}
CACHE_MAPPINGS: dict[str, Callable[[Given], Any]] = {
    "CacheMiddleware": lambda given: CacheMiddleware(app, given),
    "parse_cache_config_options": parse_cache_config_options,
}
each_session = pytest.mark.parametrize("build", KEYWORDS.values(), ids=KEYWORDS)
each_cache = pytest.mark.parametrize("build", CACHE_KEYWORDS.values(), ids=CACHE_KEYWORDS)
