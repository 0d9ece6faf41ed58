"""One process per server, each with every framework, started when a test first asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.environments import environment
from tests.servers import Server

HERE = Path(__file__).parent
SERVERS = ("gunicorn-sync", "gunicorn-gthread", "gunicorn-gevent", "waitress", "wsgiref", "werkzeug")


@pytest.fixture(scope="session")
def frameworks() -> Path:
    """The Python that has the frameworks and the servers."""
    return environment("frameworks", HERE / "requirements.txt")


@pytest.fixture(scope="session")
def served(frameworks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """``served(name)``: one of SERVERS with the site of site.py, running."""
    running: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:

        def serve(name: str) -> Server:
            if name not in running:
                data = tmp_path_factory.mktemp(name)
                # Each of our warnings is to be seen, also where Python would take two for one.
                command = [str(frameworks), "-W", "always::UserWarning", str(HERE / "serve.py"), name]
                running[name] = Server(name, lambda port: [*command, str(port), str(data)])
                stack.callback(running[name].close)
            return running[name]

        yield serve
