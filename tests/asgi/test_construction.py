"""What beaker.asgi.SessionMiddleware can be built from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beaker.asgi import SessionMiddleware
from beaker.cache import CacheManager
from beaker.exceptions import ConfigError
from beaker.middleware import SessionMiddleware as WsgiMiddleware
from beaker.testing.browser import Browser
from beaker.testing.session_harness import SECRET
from tests.session.places import options_of


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


class Wsgi:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


async def two(scope: Any, receive: Any) -> None: ...


async def right(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize("wrong", [None, "x", wsgi, Wsgi(), two, lambda: None, lambda scope: right, CacheManager()])
def test_what_is_no_asgi_application(wrong: Any) -> None:
    """It is refused at construction; for a WSGI application the error names the middleware that takes it."""
    with pytest.raises(ConfigError, match="scope, receive, send") as caught:
        SessionMiddleware(wrong, type="memory")
    assert caught.value.option == "app"
    assert not callable(wrong) or "beaker.middleware.SessionMiddleware" in str(caught.value)


def test_the_reverse_names_this_middleware() -> None:
    """The WSGI middleware refuses an ASGI application and names this middleware."""
    with pytest.raises(ConfigError, match=r"beaker\.asgi\.SessionMiddleware"):
        WsgiMiddleware(right, type="memory")  # type: ignore[arg-type]
    Browser(WsgiMiddleware(wsgi, type="memory"))


def test_options_are_those_of_wsgi(tmp_path: Path) -> None:
    """Mistakes in options are found at construction, and `load` takes one of two words."""
    with pytest.raises(ConfigError, match="'eager' or 'lazy'"):
        SessionMiddleware(right, load="early")
    with pytest.raises(ConfigError, match="options are complete"):
        SessionMiddleware(right, options=SessionMiddleware(right, type="memory").options, secret=SECRET)
    with pytest.raises(ConfigError):
        SessionMiddleware(right, type="ext:redsi")
    SessionMiddleware(right, {"beaker.session.type": "file", "beaker.session.data_dir": str(tmp_path)})
    assert SECRET not in repr(SessionMiddleware(right, **options_of("file", tmp_path)))
