"""What a request is: opened by whatever serves one, it ends with its body, and nothing of it reaches the next."""

from __future__ import annotations

import asyncio
import contextvars
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import flask
import pytest
from functions_framework import aio
from starlette.responses import StreamingResponse

from beaker import serving
from beaker.asgi import SessionMiddleware as AsyncSessionMiddleware
from beaker.cache import Cache, request_scope
from beaker.middleware import CacheMiddleware, SessionMiddleware
from beaker.testing import FakeClock
from gae.app import compose
from gae.functions import with_session
from tests.asgi.scripts import talk, websocket_scope
from tests.asgi.tabs import http_scope
from tests.caching.test_tags import Calls, CallsManager

KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
SESSION: dict[str, Any] = {"type": "memory", "secret": KEY}


def started(*args: Any) -> Any:
    """A server's start_response."""


class Probe:
    """A cache with a memo; a call returns how many operations a read has cost."""

    def __init__(self) -> None:
        clock = FakeClock()
        self.store = Calls(clock)
        self.cache = Cache("probe", type=CallsManager, client=self.store, clock=clock, memo=True)
        self.cache.put("k", "v")
        self.costs: list[int] = []

    def __call__(self) -> None:
        self.store.take()
        assert self.cache.get("k") == "v"
        self.costs.append(len(self.store.take()))

    def take(self) -> list[int]:
        costs, self.costs = self.costs, []
        return costs


@pytest.fixture(autouse=True)
def wanted_by_none(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(serving, "wanted", False)
    yield
    assert serving.current() is None


@pytest.fixture
def probe(wanted_by_none: None) -> Probe:
    return Probe()


def streaming(probe: Probe) -> Any:
    """An application that reads twice before its body and twice in it."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        probe()
        probe()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body(probe)

    return app


def body(probe: Probe) -> Iterator[bytes]:
    try:
        probe()
        yield b"1"
        probe()
        yield b"2"
    finally:
        probe()


async def async_streaming(probe: Probe, scope: Any, receive: Any, send: Any) -> None:
    probe()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    probe()
    await send({"type": "http.response.body", "body": b"1", "more_body": True})
    await asyncio.to_thread(probe)
    await asyncio.create_task(called(probe))
    await send({"type": "http.response.body", "body": b"2"})


async def called(probe: Probe) -> None:
    probe()


def wsgi(app: Any) -> None:
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "wsgi.url_scheme": "http",
        "SERVER_NAME": "a",
        "SERVER_PORT": "1",
    }
    chunks = app(environ, started)
    try:
        assert b"".join(chunks) == b"12"
    finally:
        chunks.close()


def asgi(app: Any) -> None:
    sent = asyncio.run(talk(app, http_scope("/")))
    assert b"".join(message.get("body", b"") for message in sent) == b"12"


def flask_function(function: Any) -> None:
    app = flask.Flask("function")
    app.add_url_rule("/", "run", lambda: function(flask.request))
    with app.test_client().get("/") as response:
        assert response.data == b"12"


def plain_function(probe: Probe) -> Any:
    @with_session(**SESSION)
    def function(request: Any) -> Any:
        probe()
        probe()
        return flask.Response(body(probe))

    return function


def async_function(probe: Probe) -> Any:
    async def chunks() -> Any:
        for chunk in body(probe):
            yield chunk

    @with_session(**SESSION)
    async def function(request: Any) -> Any:
        probe()
        probe()
        return StreamingResponse(chunks())

    return aio._create_asgi_app_with_function(aio.http(function), "http", False)


SERVERS: dict[str, tuple[Callable[[Probe], Any], Callable[[Any], None]]] = {
    "SessionMiddleware": (lambda probe: SessionMiddleware(streaming(probe), **SESSION), wsgi),
    "CacheMiddleware": (lambda probe: CacheMiddleware(streaming(probe)), wsgi),
    "both": (lambda probe: SessionMiddleware(CacheMiddleware(streaming(probe)), **SESSION), wsgi),
    "both the other way round": (lambda probe: CacheMiddleware(SessionMiddleware(streaming(probe), **SESSION)), wsgi),
    "compose": (lambda probe: compose(streaming(probe), session=SESSION), wsgi),
    "ASGI SessionMiddleware": (lambda probe: AsyncSessionMiddleware(_bound(probe), **SESSION), asgi),
    "compose ASGI": (lambda probe: compose(_bound(probe), session=SESSION), asgi),
    "with_session": (plain_function, flask_function),
    "with_session async": (async_function, asgi),
}


def _bound(probe: Probe) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await async_streaming(probe, scope, receive, send)

    return app


@pytest.mark.parametrize("name", SERVERS)
def test_a_request_ends_with_its_body(name: str, probe: Probe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever serves it, its first read costs one operation, every other, in its body too, none; so for the next."""
    monkeypatch.chdir(tmp_path)
    build, drive = SERVERS[name]
    app = build(probe)
    for _ in range(2):
        drive(app)
        costs = probe.take()
        assert costs == [1] + [0] * (len(costs) - 1)
        assert len(costs) >= 4
        assert serving.current() is None
    probe()
    probe()
    assert probe.take() == [1, 1]


def test_requests_on_one_thread_share_nothing(probe: Probe) -> None:
    """Bodies iterated in turn each have a memo of their own, and one that is never closed leaves none behind."""
    app = SessionMiddleware(streaming(probe), **SESSION)
    bodies = [iter(app({"PATH_INFO": "/"}, started)) for _ in range(2)]
    assert probe.take() == [1, 0, 1, 0]
    assert [next(each) for _ in range(2) for each in bodies] == [b"1", b"1", b"2", b"2"]
    assert probe.take() == [0, 0, 0, 0]
    assert serving.current() is None
    probe()
    assert probe.take() == [1]


@pytest.mark.parametrize("made", ["list", "file", "error"])
def test_a_request_without_a_stream_ends_with_the_call(made: str, probe: Probe) -> None:
    """A list, a server's file wrapper and an exception end it at once; the body is the application's own object."""
    contexts: list[contextvars.Context] = []
    bodies: dict[str, Any] = {"list": [b"x"], "file": FileWrapper(io.BytesIO(b"x"))}

    def app(environ: Any, start_response: Any) -> Any:
        probe()
        contexts.append(contextvars.copy_context())
        return bodies[made]

    environ = {"PATH_INFO": "/", "wsgi.file_wrapper": FileWrapper}
    served = CacheMiddleware(app)
    if made == "error":
        with pytest.raises(KeyError):
            served(environ, started)
    else:
        assert served(environ, started) is bodies[made]
    # What goes on in a copy of its context, a thread or a task, finds none.
    contexts[0].run(probe)
    contexts[0].run(probe)
    assert probe.take() == [1, 1, 1]


def test_work_after_an_asgi_response_belongs_to_no_request(probe: Probe) -> None:
    """Once the last part of the body is sent, a background task of the framework reads anew each time."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await async_streaming(probe, scope, receive, send)
        probe()
        probe()

    asyncio.run(talk(AsyncSessionMiddleware(app, **SESSION), http_scope("/")))
    assert probe.take() == [1, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("kind", ["wsgi.websocket", "HTTP_UPGRADE", "asgi"])
def test_a_websocket_is_no_request(kind: str, probe: Probe) -> None:
    """A connection lasts too long to remember anything; a scope for one message does."""

    def read() -> None:
        probe()
        with request_scope():
            probe()
            probe()
        probe()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        read()
        start_response("200 OK", [])
        return []

    async def async_app(scope: Any, receive: Any, send: Any) -> None:
        read()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    if kind == "asgi":
        asyncio.run(talk(AsyncSessionMiddleware(async_app, **SESSION), websocket_scope()))
    else:
        environ = {"PATH_INFO": "/", kind: "websocket"}
        SessionMiddleware(app, **SESSION)(environ, started)
    assert probe.take() == [1, 1, 0, 1]


def test_where_nothing_asks_for_it_no_request_is_opened() -> None:
    """Middlewares of applications without ``memo`` put nothing into the environ, and no layer around the body."""
    seen: list[Any] = []
    chunks = iter([b"x"])

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(environ)
        return chunks

    assert CacheMiddleware(app)({}, started) is chunks
    assert serving.KEY not in seen[0]
