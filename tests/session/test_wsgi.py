"""The middleware and the corners of WSGI: when it saves, when it does not, what it passes on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.exceptions import StoreUnavailable
from beaker.middleware import SessionMiddleware
from beaker.testing.browser import Browser
from beaker.testing.session_harness import COOKIE, SECRET
from tests.session.faults import interrupt

App = Callable[[dict[str, Any], Any], Any]


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Browser]:
    """``serve(app, **options)``: a browser before ``app`` with file sessions."""

    def serve(app: App, **options: Any) -> Browser:
        given = {"type": "file", "data_dir": str(tmp_path), "secret": SECRET, **options}
        return Browser(SessionMiddleware(app, **given))

    return serve


def reader(environ: dict[str, Any], start: Any) -> list[bytes]:
    session = environ["beaker.session"]
    start("200 OK", [("Content-Type", "text/plain")])
    return [repr({key: session[key] for key in session if not key.startswith("_")}).encode()]


def stored(browser: Browser, serve: Callable[..., Browser]) -> str:
    """What the next request finds in the session."""
    other = serve(reader)
    other.cookies = dict(browser.cookies)
    return other.get().text


def test_a_generator_that_starts_the_response_late(serve: Callable[..., Browser]) -> None:
    """start_response inside the body's generator, after empty chunks, carries the session's cookie."""

    def app(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        session = environ["beaker.session"]
        session["a"] = 1
        session.save()
        start("200 OK", [("Content-Type", "text/plain")])
        yield b""
        yield b"x"
        session["late"] = 2
        session.save()

    browser = serve(app)
    started: list[Any] = []
    # Not through the validator, which wants an earlier start than PEP 3333 does.
    consume(browser.app, {"wsgi.url_scheme": "http"}, started)
    keep_cookie(browser, started)
    assert stored(browser, serve) == "{'a': 1, 'late': 2}"


@pytest.mark.parametrize("touched", [True, False])
def test_every_chunk_comes_when_it_is_there_and_none_before_the_headers(
    serve: Callable[..., Browser], touched: bool
) -> None:
    """Empty chunks are neither waited over nor handed to a server whose start_response was not called yet."""
    steps: list[Any] = []

    def app(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        if touched:
            environ["beaker.session"]["a"] = 1
            environ["beaker.session"].save()
        start("200 OK", [("Content-Type", "text/plain")])
        for chunk in (b"", b"x", b""):
            steps.append("computed")
            yield chunk

    body = iter(serve(app).app({"wsgi.url_scheme": "http"}, lambda *_: steps.append("started")))
    assert not steps
    for chunk in body:
        steps.append(chunk)
    assert steps == ["computed", "started", b"", "computed", b"x", "computed", b""]


def test_a_second_start_without_an_error_is_refused(serve: Callable[..., Browser]) -> None:
    """start_response twice without exc_info is an AssertionError, as servers raise it, and nothing is saved."""
    twice = False

    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        environ["beaker.session"]["a"] = 2 if twice else 1
        environ["beaker.session"].save()
        start("200 OK", [("Content-Type", "text/plain")])
        if twice:
            start("200 OK", [("Content-Type", "text/plain")])
        return [b"x"]

    browser = serve(app)
    browser.get()
    twice = True
    with pytest.raises(AssertionError, match="a second time"):
        browser.get()
    assert stored(browser, serve) == "{'a': 1}"


def test_a_change_after_write_is_saved_behind_a_list(serve: Callable[..., Browser]) -> None:
    """What is set after the first write() is saved at the end, also when the body is a plain list."""

    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        environ["beaker.session"]["a"] = 1
        environ["beaker.session"].save()
        start("200 OK", [("Content-Type", "text/plain")])(b"x")
        environ["beaker.session"]["late"] = 2
        environ["beaker.session"].save()
        return []

    browser = serve(app)
    browser.get()
    assert stored(browser, serve) == "{'a': 1, 'late': 2}"


def test_the_write_callable(serve: Callable[..., Browser]) -> None:
    """The first write() sends the headers with the cookie; the bytes come in order, before the body."""

    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        environ["beaker.session"]["a"] = 1
        environ["beaker.session"].save()
        write = start("200 OK", [("Content-Type", "text/plain")])
        write(b"one ")
        write(b"two ")
        return [b"three"]

    browser = serve(app)
    assert browser.get().text == "one two three"
    assert stored(browser, serve) == "{'a': 1}"


def test_an_error_page_replaces_the_first_answer_and_keeps_the_cookie(serve: Callable[..., Browser]) -> None:
    """start_response with exc_info before the first byte: the second status goes out, and the cookie with it."""

    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        environ["beaker.session"]["a"] = 1
        environ["beaker.session"].save()
        start("200 OK", [("Content-Type", "text/html")])
        try:
            raise ValueError("page")
        except ValueError:
            start("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
        return [b"sorry"]

    browser = serve(app)
    answer = browser.get()
    assert (answer.status, len(answer.set_cookies)) == ("500 Oops", 1)
    assert answer.all("Content-Type") == ["text/plain"]


def test_an_error_after_headers_that_no_byte_has_followed_keeps_the_cookie(serve: Callable[..., Browser]) -> None:
    """A server may still replace the headers; the session was saved under them, so its cookie goes along."""

    class Body:
        def __init__(self, start: Any) -> None:
            self.start = start

        def __iter__(self) -> Iterator[bytes]:
            return iter(())

        def close(self) -> None:
            try:
                raise ValueError("late")
            except ValueError:
                self.start("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())

    def app(environ: dict[str, Any], start: Any) -> Body:
        environ["beaker.session"]["a"] = 1
        environ["beaker.session"].save()
        start("200 OK", [("Content-Type", "text/plain")])
        return Body(start)

    assert len(serve(app).get().set_cookies) == 1


def test_an_error_after_the_first_byte_is_the_servers(serve: Callable[..., Browser]) -> None:
    """start_response with exc_info after the first byte raises the application's error, as PEP 3333 says."""

    def app(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        environ["beaker.session"]["a"] = 1
        environ["beaker.session"].save()
        start("200 OK", [("Content-Type", "text/plain")])
        yield b"x"
        try:
            raise ValueError("late")
        except ValueError:
            start("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())

    with pytest.raises(ValueError, match="late"):
        serve(app).get()


@pytest.mark.parametrize("when", ["at once", "in the body"])
def test_a_request_that_fails_saves_nothing(serve: Callable[..., Browser], when: str) -> None:
    """An exception of the application reaches the server, and nothing of the request was saved."""
    broken = False

    def app(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        environ["beaker.session"]["a"] = 2 if broken else 1
        environ["beaker.session"].save()
        if when == "at once" and broken:
            raise ValueError("broken")
        start("200 OK", [("Content-Type", "text/plain")])

        def body() -> Iterator[bytes]:
            if broken:
                raise ValueError("broken")
            yield b"x"

        return body()

    browser = serve(app)
    browser.get()
    broken = True
    with pytest.raises(ValueError, match="broken"):
        browser.get()
    assert stored(browser, serve) == "{'a': 1}"


@pytest.mark.parametrize("body", [lambda: [b"x"], lambda: iter([b"x"]), lambda: iter([])])
def test_a_save_that_fails_is_not_tried_again_behind_the_error(
    serve: Callable[..., Browser], body: Callable[[], Any]
) -> None:
    """A store's error at the end of the request reaches the server once; close() does not save again."""

    def app(environ: dict[str, Any], start: Any) -> Any:
        environ["beaker.session"]["a"] = environ["QUERY_STRING"]
        environ["beaker.session"].save()
        start("200 OK", [("Content-Type", "text/plain")])
        return body()

    browser = serve(app)
    browser.get("/?1")
    context = browser.app.context  # type: ignore[attr-defined]
    store = interrupt(context)
    environ = {
        "QUERY_STRING": "2", "HTTP_COOKIE": f"{COOKIE}={browser.cookies[COOKIE]}", "wsgi.url_scheme": "http",
    }  # fmt: skip
    started: list[Any] = []

    def fail(name: str, number: int) -> None:
        if name == "replace":
            store.quiet()
            raise StoreUnavailable("down", operation=name)

    store.before = fail
    with pytest.raises(StoreUnavailable):
        consume(browser.app, environ, started)
    assert not started
    store.quiet()
    assert stored(browser, serve) == "{'a': '1'}"


def consume(app: Any, environ: dict[str, Any], started: list[Any]) -> None:
    """As a server does: close() is called whatever happened in the body."""
    result = app(environ, lambda *args: started.append(args))
    try:
        for _ in result:
            continue
    finally:
        if hasattr(result, "close"):
            result.close()


def keep_cookie(browser: Browser, started: list[Any]) -> None:
    line = dict(started[0][1])["Set-Cookie"]
    browser.cookies[COOKIE] = line.partition(";")[0].partition("=")[2]


def test_a_body_nobody_iterates_is_closed_and_saved(serve: Callable[..., Browser]) -> None:
    """A server that only closes the body (the client has left) still gets the session saved."""
    browser = serve(lambda environ, start: started_body(environ, start))
    environ: dict[str, Any] = {"wsgi.url_scheme": "http"}
    started: list[Any] = []
    result = browser.app(environ, lambda *args: started.append(args))
    result.close()
    keep_cookie(browser, started)
    assert stored(browser, serve) == "{'a': 1}"


def started_body(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
    environ["beaker.session"]["a"] = 1
    environ["beaker.session"].save()
    start("200 OK", [("Content-Type", "text/plain")])
    return iter([b"x"])


def test_close_of_the_applications_body_is_called_once_and_first(serve: Callable[..., Browser]) -> None:
    """What the application's close() changes in the session is saved too."""
    closed: list[int] = []

    class Body:
        def __init__(self, session: Any) -> None:
            self.session = session

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"x"])

        def close(self) -> None:
            closed.append(1)
            self.session["closed"] = True
            self.session.save()

    def app(environ: dict[str, Any], start: Any) -> Body:
        environ["beaker.session"]["a"] = 1
        environ["beaker.session"].save()
        start("200 OK", [("Content-Type", "text/plain")])
        return Body(environ["beaker.session"])

    browser = serve(app)
    browser.get()
    assert closed == [1]
    assert stored(browser, serve) == "{'a': 1, 'closed': True}"


def test_head_and_empty_bodies(serve: Callable[..., Browser]) -> None:
    """A HEAD request and a body without a byte get the same headers as any other."""

    def app(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        environ["beaker.session"]["a"] = 1
        environ["beaker.session"].save()
        start("204 No Content", [])
        return iter(())

    for method in ("HEAD", "GET"):
        assert len(serve(app).request(method, "/").set_cookies) == 1
