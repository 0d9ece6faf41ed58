"""FastAPI, Starlette, Litestar and Quart with our sessions, over real servers."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.asgi.frameworks.conftest import SERVERS
from tests.frameworks.exchange import SECONDS, Client, Exchange
from tests.frameworks.test_websockets import websocket
from tests.servers import Server

COOKIE = "beaker.session.id"
FRAMEWORKS = ("starlette", "fastapi", "litestar", "quart")
KINDS = ("memory", "file", "cookie", "hybrid")
LATE = {"memory": 1, "file": 1, "hybrid": 0, "cookie": 0}
"""What a stream changes after its headers: kept in a store, and too late for a cookie."""


class Visitor:
    """Asks for pages of one framework with one kind of session, and keeps the cookie."""

    def __init__(self, port: int, kind: str, framework: str) -> None:
        self.client = Client(port)
        self.site = f"/{kind}/{framework}"
        self.cookie = ""

    def ask(self, page: str) -> Exchange:
        response = self.client.ask("GET", f"{self.site}/{page}", self.cookie)
        for line in response.all("set-cookie"):
            if line.startswith(f"{COOKIE}="):
                self.cookie = "" if "Max-Age=0" in line else line.partition(";")[0]
        return response

    def text(self, page: str) -> str:
        # A chunked body arrives with the sizes of its chunks.
        body = self.ask(page).body.decode()
        return "".join(re.findall(r"(?:\A|\r\n)[0-9a-f]+\r\n([^\r]+)", body)) or body

    def in_the_end(self, page: str, expected: str) -> bool:
        """Whether the page ends up with this text: what a stream changes is saved after the client has the response."""
        deadline = time.monotonic() + SECONDS
        while self.text(page) != expected and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.text(page) == expected


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, asgi_served: Callable[[str], Server]) -> Iterator[Server]:
    running = asgi_served(request.param)
    yield running
    with contextlib.closing(Client(running.port)) as client:
        assert client.ask("GET", "/violations", last=True).body in (b"", b"0\r\n\r\n"), running.output()


@pytest.fixture
def visitors() -> Iterator[Callable[..., Visitor]]:
    """Creates visitors, whose connections end with the test."""
    with contextlib.ExitStack() as stack:

        def visitors(port: int, kind: str, framework: str) -> Visitor:
            visitor = Visitor(port, kind, framework)
            stack.callback(visitor.client.close)
            return visitor

        yield visitors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_session_in_a_framework(server: Server, visitors: Callable[..., Visitor], framework: str, kind: str) -> None:
    """Visits are counted, plain functions may log in, untouched pages add nothing, an error page is a page."""
    visitor = visitors(server.port, kind, framework)
    untouched = visitor.ask("untouched")
    assert untouched.body == b"untouched"
    assert not untouched.all("set-cookie")
    assert not untouched.all("vary")
    first = visitor.ask("page")
    assert (first.body, len(first.all("set-cookie")), first.all("vary")) == (b"visits 1", 1, ["Cookie"])
    assert first.all("cache-control") == ["private, no-store"]
    assert visitor.ask("broken").status.startswith("HTTP/1.1 500")
    assert visitor.text("page") == "visits 3"
    assert visitor.text("stream") == "onetwo"
    assert visitor.in_the_end("count", f"visits 4 late {LATE[kind]} user None")
    before = visitor.cookie
    assert visitor.text("plain") == "visits 5"
    assert visitor.cookie != before
    assert visitor.text("count") == f"visits 5 late {LATE[kind]} user ann"
    assert visitor.text("logout") == "bye"
    assert visitor.cookie == ""
    assert visitor.text("count") == "visits 0 late 0 user None"


@pytest.mark.parametrize("kind", ["memory", "file"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_session_in_a_websocket(server: Server, visitors: Callable[..., Visitor], framework: str, kind: str) -> None:
    """A stored session is read and persisted in a websocket, and the next request sees the change."""
    visitor = visitors(server.port, kind, framework)
    visitor.ask("page")
    with websocket(server.port, f"{visitor.site}/socket", visitor.cookie) as told:
        assert told == "visits 2 late 0 user None"
        assert visitor.text("count") == "visits 2 late 0 user None"
