"""save() in a websocket handler: the handler takes the socket, and no header of its response is ever sent."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from tests.frameworks.exchange import SECONDS, Client
from tests.frameworks.test_responses import ask, visits
from tests.servers import Server

HANDLERS = ("flask-sock", "flask-response", "returns")
# These hand out their socket; to stop by StopIteration is gunicorn's own way.
SERVERS = {
    "gunicorn-sync": (*HANDLERS, "stops"),
    "gunicorn-gthread": (*HANDLERS, "stops"),
    "gunicorn-gevent": (*HANDLERS, "stops"),
    "werkzeug": HANDLERS,
}
STORED = ("memory", "file")
LOST = "so that its cookie could not be"


@contextlib.contextmanager
def websocket(port: int, path: str, cookie: str = "") -> Iterator[str]:
    """The first message of a handler, which is then asked to close."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection, connection.makefile("rb") as reader:
        head = [
            f"GET {path} HTTP/1.1", "Host: site.example", "Connection: Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ]  # fmt: skip
        head += [f"Cookie: {cookie}"] if cookie else []
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        assert b" 101 " in reader.readline()
        while reader.readline().strip():
            continue
        kind, length = reader.read(2)
        assert kind == 0x81, "one text message, whole"
        yield reader.read(length).decode()
        # Close, 1000, masked as a client's frames are.
        mask = os.urandom(4)
        code = bytes(byte ^ key for byte, key in zip(struct.pack(">H", 1000), mask, strict=False))
        connection.sendall(bytes([0x88, 0x82]) + mask + code)
        with contextlib.suppress(ConnectionResetError):
            reader.read()


def visits_in_the_end(client: Client, site: str, cookies: list[str], expected: str) -> str:
    """What the session counts once it says ``expected``; the handler saves after it has let the client go."""
    deadline = time.monotonic() + SECONDS
    while (counted := visits(client, site, cookies)) != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    return counted


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize("server", SERVERS)
def test_a_session_saved_in_a_websocket_stays_saved(served: Callable[[str], Server], server: str, kind: str) -> None:
    """A stored session that a websocket handler has changed and saved is there in the next request."""
    port = served(server).port
    with contextlib.closing(Client(port)) as client:
        for handler in SERVERS[server]:
            first = ask(client, f"/{kind}/flask", "page", "GET")
            cookie = first.cookies[0].partition(";")[0]
            with websocket(port, f"/{kind}/websockets/{handler}", cookie) as told:
                assert told == "2"
            assert visits_in_the_end(client, f"/{kind}/flask", first.cookies, "2") == "2", handler


@pytest.mark.parametrize("kind", ["memory", "cookie"])
@pytest.mark.parametrize("server", SERVERS)
def test_a_lost_cookie_warns(served: Callable[[str], Server], server: str, kind: str) -> None:
    """A session that needs a cookie it cannot get, new or kept in the cookie, is warned about once."""
    running = served(server)
    before = running.output().count(LOST)
    with contextlib.closing(Client(running.port)) as client:
        first = ask(client, f"/{kind}/flask", "page", "GET")
        cookie = first.cookies[0].partition(";")[0] if kind == "cookie" else ""
        for handler in SERVERS[server]:
            with websocket(running.port, f"/{kind}/websockets/{handler}", cookie):
                pass
        deadline = time.monotonic() + SECONDS
        while running.output().count(LOST) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert visits(client, f"/{kind}/flask", first.cookies) == "1"
    assert running.output().count(LOST) == before + 1
