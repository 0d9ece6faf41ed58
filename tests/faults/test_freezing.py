"""Instances that stand still, or end, right after a response, as serverless platforms have them do."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_PROGRAM = """
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server
from beaker.cache import CacheManager
from beaker.middleware import SessionMiddleware
from beaker.util import parse_cache_config_options

folder, kind = sys.argv[1:]
where = {"type": "ext:database", "url": f"sqlite:///{folder}/x.db"} if kind == "sqlite" else {"type": kind}
shared = {**where, "data_dir": folder}
caches = CacheManager(**parse_cache_config_options({f"cache.{name}": value for name, value in shared.items()}))
cache = caches.get_cache("frozen", expire=3600)

def application(environ, start):
    session = environ["beaker.session"]
    if environ["PATH_INFO"] == "/visit":
        session["n"] = session.get("n", 0) + 1
        session.save()
        body = str(session["n"])
    elif environ["PATH_INFO"] == "/invalidate":
        cache.remove_value("k")
        body = ""
    else:
        body = cache.get("k", createfunc=lambda: environ["QUERY_STRING"])
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]

class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass

options = {f"session.{name}": value for name, value in {**shared, "secret": sys.stdin.readline().strip()}.items()}
server = make_server("127.0.0.1", 0, SessionMiddleware(application, options), handler_class=Quiet)
print(server.server_port, flush=True)
server.serve_forever()
"""
SECRET = "beaker-" + "8f1d0c7b2a694e35" * 4


class Instance:
    """A server in a process of its own."""

    def __init__(self, folder: Path, kind: str) -> None:
        command = [sys.executable, "-c", _PROGRAM, str(folder), kind]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(SECRET + "\n")
        self.process.stdin.flush()
        self.port = int(self.process.stdout.readline())

    def ask(self, path: str, cookie: str = "", then: signal.Signals | None = None) -> tuple[str, str]:
        """Body and cookie of a response; ``then`` is sent to the process with the last byte."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
            response = connection.getresponse()
            body = response.read().decode()
            if then is not None:
                self.process.send_signal(then)
            assert response.status == 200
            return body, (response.headers["Set-Cookie"] or cookie).partition(";")[0]
        finally:
            connection.close()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], Instance]]:
    begun: list[Instance] = []

    def start(kind: str) -> Instance:
        begun.append(Instance(tmp_path, kind))
        return begun[-1]

    yield start
    for instance in begun:
        instance.end()


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_an_instance_stands_still_after_each_response(start: Callable[[str], Instance], kind: str) -> None:
    """All that a response says is in the store with its last byte, no lock is held meanwhile, and the instance goes on
    with what others have changed."""
    frozen, other = start(kind), start(kind)
    cookie, visits = "", 0
    for turn in range(3):
        for path in ("/visit", f"/value?{turn}"):
            body, cookie = frozen.ask(path, cookie, then=signal.SIGSTOP)
            visits += path == "/visit"
            assert body == (str(visits) if path == "/visit" else str(turn))
            os.waitid(os.P_PID, frozen.process.pid, os.WSTOPPED | os.WNOWAIT)
            assert other.ask("/visit", cookie)[0] == str(visits + 1)
            visits += 1
            if path != "/visit":
                assert other.ask("/value?never")[0] == str(turn)
                other.ask("/invalidate")
            frozen.process.send_signal(signal.SIGCONT)


def test_an_instance_is_killed_after_each_response(start: Callable[[str], Instance]) -> None:
    """The next instance finds all that the killed one has acknowledged, at once."""
    cookie = ""
    for turn in range(1, 3):
        instance = start("file")
        assert instance.ask("/value?first")[0] == "first"
        body, cookie = instance.ask("/visit", cookie, then=signal.SIGKILL)
        assert body == str(turn)
        instance.process.wait()
