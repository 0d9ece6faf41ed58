"""Sessions in asynchronous HTTP functions, as functions-framework serves them over ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from cloudevents.http import CloudEvent
from functions_framework import aio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from beaker.exceptions import ConfigError
from gae.functions import with_session
from tests.asgi.scripts import cookie_of, talk
from tests.asgi.tabs import http_scope

KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
Function = Callable[[Any], Awaitable[Any]]


def served(function: Function) -> Any:
    """The application that functions-framework serves an HTTP function by."""
    return aio._create_asgi_app_with_function(aio.http(function), "http", False)


def counting(answer: Callable[[Any], Any], **options: Any) -> Function:
    @with_session(type="memory", secret=KEY, **options)
    async def count(request: Any) -> Any:
        session = request.session
        session["n"] = session.get("n", 0) + 1
        session.save()
        return answer(session)

    return count


def text(sent: list[Any]) -> str:
    return b"".join(message.get("body", b"") for message in sent).decode()


async def late(session: Any) -> AsyncIterator[str]:
    yield str(session["n"])
    session["n"] += 10
    session.save()


def gone(session: Any) -> Any:
    raise HTTPException(404, "gone")


@pytest.mark.parametrize(
    ("answer", "status", "shown"),
    [
        (lambda session: str(session["n"]), 200, "{}"),
        (lambda session: {"n": session["n"]}, 200, '{{"n":{}}}'),
        (lambda session: (str(session["n"]), 201), 201, "{}"),
        (lambda session: Response(str(session["n"]), 202), 202, "{}"),
        (gone, 404, "gone"),
    ],
    ids=["text", "dict", "pair", "response", "exception"],
)
def test_a_function_remembers_its_visitor(answer: Any, status: int, shown: str) -> None:
    """Whatever it returns, the session's headers are on the response, and the second call sees what the first saved."""

    async def visits() -> None:
        app = served(counting(answer))
        first = await talk(app)
        cookie = cookie_of(first)
        headers = dict(first[0]["headers"])
        assert (first[0]["status"], text(first)) == (status, shown.format(1))
        assert b"Cookie" in headers[b"vary"]
        assert headers[b"cache-control"] == b"private, no-store"
        assert text(await talk(app, cookie=cookie)) == shown.format(2)

    asyncio.run(visits())


def test_a_streamed_response() -> None:
    """The headers go with the first message; what the stream changes later is saved at its end."""

    async def visits() -> None:
        app = served(counting(lambda session: StreamingResponse(late(session))))
        first = await talk(app)
        assert text(first) == "1"
        assert text(await talk(app, cookie=cookie_of(first))) == "12"

    asyncio.run(visits())


def test_server_timing_is_on_the_response() -> None:
    """With ``server_timing`` the response says what the request cost, the session's save included."""

    async def visits() -> None:
        app = served(counting(lambda session: str(session["n"]), server_timing=True))
        first = await talk(app)
        assert len(timings(first)) == 1
        assert timings(await talk(app, cookie=cookie_of(first))) == [b'beaker-memory;desc="1 read, 1 write"']
        assert timings(await talk(served(counting(lambda session: "x")))) == []

    asyncio.run(visits())


def timings(sent: list[Any]) -> list[bytes]:
    return [value for name, value in sent[0]["headers"] if name == b"server-timing"]


def test_a_function_that_raises_saves_nothing() -> None:
    """The error is functions-framework's to report; the session is as it was before."""

    async def visits() -> None:
        works = served(counting(lambda session: str(session["n"])))
        cookie = cookie_of(await talk(works))
        scope = http_scope()
        scope["headers"] = [(b"cookie", cookie.encode())]
        with pytest.raises(ZeroDivisionError):
            await counting(lambda session: 1 / 0)(Request(scope))
        assert text(await talk(works, cookie=cookie)) == "2"

    asyncio.run(visits())


async def annotated(event: CloudEvent) -> None: ...


async def streaming(request: Any) -> Any:
    yield b"x"


async def nothing() -> None: ...


@pytest.mark.parametrize("function", [annotated, streaming, nothing, aio.cloud_event(lambda event: None)])
def test_what_is_refused(function: Any) -> None:
    """An event function, a generator, and what takes no request are refused when they are decorated."""
    with pytest.raises(ConfigError, match="HTTP function"):
        with_session(type="memory", secret=KEY)(function)


def test_the_wrong_kind_of_request() -> None:
    """An asynchronous function called with an event, and a plain one over ASGI, raise what says so."""

    @with_session(type="memory", secret=KEY)
    async def mine(event: Any) -> None: ...

    @with_session(type="memory", secret=KEY)
    def plain(request: Any) -> str:
        return "x"

    with pytest.raises(ConfigError, match="no request of Starlette's"):
        asyncio.run(mine({"type": "event"}))
    with pytest.raises(ConfigError, match="async def"):
        plain(object())
