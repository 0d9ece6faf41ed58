"""One process per server, each with every framework, started when a test first asks for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.environments import environment
from tests.servers import Server

HERE = Path(__file__).parent
SERVERS = ("uvicorn", "gunicorn")


@pytest.fixture(scope="session")
def asgi_frameworks() -> Path:
    """The Python that has the frameworks and the servers."""
    return environment("asgi-frameworks", HERE / "requirements.txt")


@pytest.fixture(scope="session")
def asgi_served(asgi_frameworks: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """``asgi_served(name)``: one of SERVERS with the site of site.py, running."""
    running: dict[str, Server] = {}
    with contextlib.ExitStack() as stack:

        def serve(name: str) -> Server:
            if name not in running:
                command = [str(asgi_frameworks), "-W", "always::UserWarning", str(HERE / "serve.py"), name]
                data = str(tmp_path_factory.mktemp(name))
                running[name] = Server(name, lambda port: [*command, str(port), data])
                stack.callback(running[name].close)
            return running[name]

        yield serve
