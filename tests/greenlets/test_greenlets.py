"""Everything that waits, under gevent: locks that are older than its patch, with a fork in between and without.

A native lock held by one greenlet stops the thread, and with it the greenlet that would release it: the worker hangs.
"""

from __future__ import annotations

import concurrent.futures
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.environments import environment
from tests.servers import Server

HERE = Path(__file__).parent
HANGS = 30.0
"""Seconds after which a request that should take one counts as hung."""
AT_ONCE = 6
KINDS = ("memory", "file", "dbm", "sqlite")

pytestmark = pytest.mark.server


@pytest.fixture(scope="module", params=["preload-1", "preload-2", "late"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """gunicorn with one worker and with two, its application preloaded; gevent alone, patching after the import."""
    python = environment("greenlets", HERE / "requirements.txt")
    data = str(tmp_path_factory.mktemp("greenlets"))
    server = Server(
        f"gevent {request.param}",
        lambda port: [str(python), str(HERE / "serve.py"), request.param, str(port), data],
    )
    yield server
    server.close()


def ask(server: Server, path: str, cookie: str = "") -> tuple[str, str]:
    """The body of a response, and the cookie it sets."""
    request = urllib.request.Request(f"http://{server.address}/{path}", headers={"Cookie": cookie})
    try:
        with urllib.request.urlopen(request, timeout=HANGS) as response:
            return response.read().decode(), (response.headers.get("Set-Cookie") or "").partition(";")[0]
    except urllib.error.HTTPError as error:
        with error:
            return str(error.code), ""


def at_once(server: Server, path: str, cookie: str = "") -> list[str]:
    """The bodies of several requests that are in flight together."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return [body for body, _ in pool.map(lambda _: ask(server, path, cookie), range(AT_ONCE))]


def test_the_server_is_patched(server: Server) -> None:
    """The locks the application finds are gevent's, or nothing here would prove anything."""
    assert ask(server, "patched")[0] == "ok"


@pytest.mark.parametrize("path", ["named", "own", "condition", "file", "local"])
def test_locks(server: Server, path: str) -> None:
    """One greenlet at a time, each gets its turn."""
    assert at_once(server, path) == ["ok"] * AT_ONCE


def test_a_value_is_built_once(server: Server) -> None:
    """SyncDict calls its creation function once, however many greenlets ask."""
    assert at_once(server, "dict/k") == ["ok"] * AT_ONCE


@pytest.mark.parametrize("kind", KINDS)
def test_a_cached_value_is_created_once(server: Server, kind: str) -> None:
    """One greenlet creates, the others wait for its value."""
    assert at_once(server, f"cached/{kind}/k") == ["ok"] * AT_ONCE


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_that_raises_leaves_no_lock(server: Server, kind: str) -> None:
    """The next request for the session's lock gets it at once."""
    cookie = ask(server, f"start/{kind}")[1]
    assert ask(server, f"left/{kind}", cookie)[0] == "500"
    assert ask(server, f"session/{kind}", cookie)[0] == "ok"


@pytest.mark.parametrize("kind", KINDS)
def test_session_lock(server: Server, kind: str) -> None:
    """Requests that lock one session take turns, and none of their changes is lost."""
    cookie = ask(server, f"start/{kind}")[1]
    bodies = at_once(server, f"session/{kind}", cookie)
    if kind == "memory" and "preload-2" in server.name:
        # Each worker has sessions of its own: all that counts is that none hangs.
        return
    assert bodies == ["ok"] * AT_ONCE
    assert ask(server, f"count/{kind}", cookie)[0] == str(AT_ONCE)
