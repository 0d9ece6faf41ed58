"""Responses whose headers are never sent: a websocket's handler responds on the socket, and its session is saved."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.exceptions import BeakerWarning
from beaker.middleware import SessionMiddleware
from beaker.testing.browser import Browser
from beaker.testing.session_harness import COOKIE, SECRET

UPGRADE: dict[str, Any] = {"HTTP_UPGRADE": "websocket", "gunicorn.socket": object()}
LOST = "headers are not sent"


def ignored(*_: Any) -> Callable[[bytes], object]:
    """The start_response of gevent-websocket."""
    return len


class Site:
    """One visitor of ``handler``, whose session holds ``{"a": 1}`` after an ordinary request."""

    def __init__(self, directory: Path, handler: Any, **options: Any) -> None:
        def app(environ: dict[str, Any], start: Any) -> Any:
            if environ.get("REQUEST_METHOD") is None:
                return handler(environ, start)
            session = environ["beaker.session"]
            if environ["PATH_INFO"] == "/begin":
                session["a"] = 1
                session.save()
            start("200 OK", [("Content-Type", "text/plain")])
            return [repr(session.get("a")).encode()]

        self.app = SessionMiddleware(app, **{"type": "file", "data_dir": str(directory), "secret": SECRET, **options})
        self.browser = Browser(self.app)
        self.browser.get("/begin")

    def handle(self, *, known: bool = True, **environ: Any) -> None:
        """One request to the handler; raises what the handler raises, as gunicorn expects it."""
        if known:
            environ["HTTP_COOKIE"] = f"{COOKIE}={self.browser.cookies[COOKIE]}"
        body = self.app({"wsgi.url_scheme": "http", **environ}, ignored)
        list(body)
        if hasattr(body, "close"):
            body.close()

    @property
    def value(self) -> str:
        return self.browser.get("/").text


def changing(end: Callable[[Any], Any]) -> Any:
    """A handler that sets and saves, and ends as ``end(start_response)`` does."""

    def handler(environ: dict[str, Any], start: Any) -> Any:
        environ["beaker.session"]["a"] = 2
        environ["beaker.session"].save()
        return end(start)

    return handler


def stop(start: Any) -> Any:
    raise StopIteration


def nothing(start: Any) -> Iterator[bytes]:
    return iter(())


def respond(start: Any) -> list[bytes]:
    start("200 OK", [])
    return [b""]


@pytest.mark.parametrize(
    ("end", "environ"),
    [
        (stop, UPGRADE),
        (lambda start: [], UPGRADE),
        (lambda start: [], {}),
        (nothing, UPGRADE),
        (respond, UPGRADE),
        (respond, {"wsgi.websocket": object()}),
    ],
)
def test_an_explicit_save_is_durable(tmp_path: Path, end: Any, environ: dict[str, Any]) -> None:
    """However a handler that used the socket ends, its session is saved, a known one without a warning."""
    site = Site(tmp_path, changing(end), cookie_expires=3600)
    try:
        site.handle(**environ)
    except StopIteration:
        assert end is stop
    assert site.value == "2"


@pytest.mark.parametrize("environ", [{}, {"gunicorn.socket": object()}, {"HTTP_UPGRADE": "websocket"}])
def test_an_error_is_no_answer(tmp_path: Path, environ: dict[str, Any]) -> None:
    """StopIteration without a socket that was offered and asked for is a failure, which saves nothing."""
    site = Site(tmp_path, changing(stop))
    with pytest.raises(StopIteration):
        site.handle(**environ)
    assert site.value == "1"


def test_an_error_of_a_handler_saves_nothing(tmp_path: Path) -> None:
    """Any other exception is a request that failed, websocket or not."""

    def fail(start: Any) -> Any:
        raise ConnectionError

    site = Site(tmp_path, changing(fail))
    with pytest.raises(ConnectionError):
        site.handle(**UPGRADE)
    assert site.value == "1"


@pytest.mark.parametrize("options", [{"type": "cookie"}, {"type": "hybrid", "store": "file"}, {}])
def test_a_cookie_that_is_lost_warns(tmp_path: Path, options: dict[str, Any]) -> None:
    """Data kept in the cookie, and a new session, do not reach the browser: one warning says so."""
    site = Site(tmp_path, changing(lambda start: []), **options)
    with pytest.warns(BeakerWarning, match=LOST) as caught:
        site.handle(known=bool(options), **UPGRADE)
    assert len(caught) == 1
    assert site.value == "1"


@pytest.mark.parametrize("kind", ["file", "cookie", "hybrid"])
def test_a_session_that_is_only_read_is_not_warned_about(tmp_path: Path, kind: str) -> None:
    """A handler that reads its session loses nothing, though a renewal of the cookie may be due."""

    def reading(environ: dict[str, Any], start: Any) -> list[bytes]:
        environ["beaker.session"].get("a")
        return []

    more: dict[str, Any] = {"store": "file"} if kind == "hybrid" else {}
    site = Site(tmp_path, reading, type=kind, touch_interval=0, cookie_expires=3600, **more)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        site.handle(**UPGRADE)
