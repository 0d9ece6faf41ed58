"""Bodies that a server treats in its own way stay what they are: its file wrapper, and what knows its length."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.exceptions import UnserializableValue
from beaker.middleware import SessionMiddleware
from beaker.testing.browser import Browser
from beaker.testing.session_harness import SECRET


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Browser]:
    """``serve(app)``: a browser before ``app`` with file sessions."""
    return lambda app: Browser(SessionMiddleware(app, type="file", data_dir=str(tmp_path), secret=SECRET))


def test_a_body_keeps_its_length(serve: Callable[..., Browser]) -> None:
    """A body that knows how many chunks it has still does, since of one chunk servers compute Content-Length."""

    class Sized(tuple[bytes, ...]):
        pass

    def app(environ: dict[str, Any], start: Any) -> Any:
        start("200 OK", [("Content-Type", "text/plain")])
        return Sized((b"x",)) if environ["QUERY_STRING"] else iter([b"x"])

    middleware = serve(app).app
    assert len(middleware({"QUERY_STRING": "sized"}, lambda *_: None)) == 1
    assert not hasattr(middleware({"QUERY_STRING": ""}, lambda *_: None), "__len__")


class FileWrapper:
    """A server's own, as gunicorn's and wsgiref's are."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return iter([self.file.read()])


class BuiltinWrapper:
    """One that takes no attributes, as mod_wsgi's."""

    __slots__ = ("file",)

    def __init__(self, file: Any) -> None:
        self.file = file

    def __iter__(self) -> Iterator[bytes]:
        return iter([self.file.read()])

    def close(self) -> None:
        self.file.close()


@pytest.mark.parametrize("wrapper", [FileWrapper, BuiltinWrapper])
@pytest.mark.parametrize("touched", ["", "touch"])
def test_a_file_goes_to_the_server_as_it_is(serve: Callable[..., Browser], wrapper: Any, touched: str) -> None:
    """wsgi.file_wrapper reaches the server unwrapped where its end can be noticed, and works where it cannot."""
    files: list[io.BytesIO] = []

    def app(environ: dict[str, Any], start: Any) -> Any:
        if environ["QUERY_STRING"]:
            environ["beaker.session"].get("a")
        start("200 OK", [("Content-Type", "text/plain")])
        files.append(io.BytesIO(b"file"))
        return wrapper(files[0])

    started: list[Any] = []
    environ = {"wsgi.file_wrapper": wrapper, "QUERY_STRING": touched, "wsgi.url_scheme": "http"}
    body = serve(app).app(environ, lambda *args: started.append(args))
    assert isinstance(body, wrapper) is (wrapper is FileWrapper)
    assert b"".join(body) == b"file"
    assert len(started) == 1
    body.close()
    assert files[0].closed


def test_what_the_close_of_a_file_changes_is_saved(serve: Callable[..., Browser]) -> None:
    """A file that a server sends by itself still ends the response: the session is saved once more."""
    seen: list[Any] = []

    def app(environ: dict[str, Any], start: Any) -> Any:
        session = environ["beaker.session"]
        seen.append(session.get("late"))
        session["a"] = 1
        session.save()
        start("200 OK", [("Content-Type", "text/plain")])

        class File(io.BytesIO):
            def close(self) -> None:
                session["late"] = 2
                session.save()

        return FileWrapper(File(b"file"))

    browser = serve(app)
    for _ in range(2):
        browser.get("/", **{"wsgi.file_wrapper": FileWrapper})
    assert seen == [None, 2]


def test_a_file_is_closed_when_the_session_cannot_be_saved(serve: Callable[..., Browser]) -> None:
    """A store's error in place of the response leaves no file open."""
    file = io.BytesIO(b"file")

    def app(environ: dict[str, Any], start: Any) -> Any:
        environ["beaker.session"]["a"] = lambda: None
        environ["beaker.session"].save()
        start("200 OK", [("Content-Type", "text/plain")])
        return FileWrapper(file)

    with pytest.raises(UnserializableValue):
        serve(app).app({"wsgi.file_wrapper": FileWrapper, "wsgi.url_scheme": "http"}, lambda *_: None)
    assert file.closed
