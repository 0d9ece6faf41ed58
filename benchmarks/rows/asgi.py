"""Requests through ASGI middlewares without a server before them, and how long an event loop waits beside them."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.row import FLOOR, SECRET, Builder, Call, Place, Row, goals, needs
from benchmarks.rows.options import options

App = Callable[[Any, Any, Any], Awaitable[None]]
Wrap = Callable[[App, Place], App]
"""Puts a session middleware around a page that uses ``scope["session"]``."""
Work = Callable[[Any], None]


def read(session: Any) -> None:
    session.get("visits")


def write(session: Any) -> None:
    session["visits"] = session.get("visits", 0) + 1


def starlette(page: App, place: Place) -> App:
    from starlette.middleware.sessions import SessionMiddleware

    return SessionMiddleware(page, secret_key=SECRET)


def ours(kind: str) -> Wrap:
    def wrap(page: App, place: Place) -> App:
        from beaker.asgi import SessionMiddleware

        given: dict[str, Any] = {"type": "cookie"} if kind == "signed" else options(kind, place)
        app: App = SessionMiddleware(page, secret=SECRET, **given)
        return app

    return wrap


def bare(page: App, place: Place) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"] = {}
        await page(scope, receive, send)

    return app


class Visitor:
    """Sends an ASGI application the same request again and again, with the cookie that the first response set."""

    def __init__(self, place: Place, wrap: Wrap) -> None:
        self.work: Work = lambda session: session.update({"visits": 1, **place.value})
        self.headers: list[tuple[bytes, bytes]] = [(b"host", b"localhost")]
        self.sent: list[Any] = []
        self._app = wrap(self._page, place)

    async def _page(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.requests import Request
        from starlette.responses import Response

        session = Request(scope).session
        self.work(session)
        if self.work is not read and hasattr(session, "save"):
            session.save()
        await Response(b".", media_type="text/plain")(scope, receive, send)

    async def request(self) -> None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(
            {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": self.headers}, _receive, send
        )
        self.sent = sent

    def keep_cookie(self) -> None:
        """Send the cookie from now on; a page without sessions has none."""
        cookies = [value for name, value in self.sent[0]["headers"] if name == b"set-cookie"]
        self.headers += [(b"cookie", cookie.partition(b";")[0]) for cookie in cookies[:1]]


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


def request(place: Place, way: str, wrap: Wrap) -> Call:
    """One request; the coroutine is driven by hand, without an event loop."""
    visitor = Visitor(place, wrap)

    def call() -> None:
        coroutine = visitor.request()
        try:
            coroutine.send(None)
        except StopIteration:
            return
        raise RuntimeError("the middleware waited for something")

    call()
    visitor.keep_cookie()
    visitor.work = read if way == "read" else write
    return call


VISITORS = 100
RATE, SECONDS, TICK = 500, 0.5, 0.001
"""Requests a second, for how long, and how often the loop is asked whether it is free (seconds)."""


def lag(wrap: Wrap) -> Builder:
    """A call that returns how late timers of an event loop are while requests come at a steady rate: p99, seconds."""

    def build(place: Place) -> Call:
        # Each with a session of its own: what is measured is no crowd at one record.
        visitors = [Visitor(place, wrap) for _ in range(VISITORS)]
        loop = asyncio.new_event_loop()
        for visitor in visitors:
            loop.run_until_complete(visitor.request())
            visitor.keep_cookie()
            visitor.work = write
        return lambda: loop.run_until_complete(_lag(visitors))

    return build


async def _lag(visitors: Sequence[Visitor]) -> float:
    late: list[float] = []
    requests: list[asyncio.Task[None]] = []
    begun = now = time.perf_counter()
    while now < begun + SECONDS:
        while len(requests) < (now - begun) * RATE:
            requests.append(asyncio.create_task(visitors[len(requests) % len(visitors)].request()))
        due = time.perf_counter() + TICK
        await asyncio.sleep(TICK)
        now = time.perf_counter()
        late.append(now - due)
    await asyncio.gather(*requests)
    return statistics.quantiles(late, n=100)[98]


def _cookie_row(way: str) -> Row:
    shown = {"read": "read", "write": "read + write"}[way]
    wraps = {"ours": ours("signed"), "starlette": starlette, FLOOR: bare}
    return Row(
        f"ASGI request, session {shown}, signed cookie",
        {name: _request(way, wrap) for name, wrap in wraps.items()},
        goals=goals(starlette=1.2),
        note="A Starlette page. Floor: the page without a middleware.",
    )


def _request(way: str, wrap: Wrap) -> Builder:
    return lambda place: request(place, way, wrap)


def _lag_row(title: str, kind: str, *services: str) -> Row:
    wraps = {"ours": ours(kind), FLOOR: bare} | ({"starlette": starlette} if kind == "signed" else {})
    return Row(
        f"event loop's delay p99, session read + write, {title}",
        {name: lag(wrap) for name, wrap in wraps.items()},
        needs(*services),
        note=f"How late a timer is while {RATE} requests a second are served. Floor: the page without a middleware.",
        unit="ms",
        kind="figure",
        quick=kind == "file",
    )


ROWS = (
    _cookie_row("read"),
    _cookie_row("write"),
    _lag_row("signed cookie", "signed"),
    _lag_row("memory", "memory"),
    _lag_row("file", "file"),
    _lag_row("redis", "ext:redis", "redis"),
)
