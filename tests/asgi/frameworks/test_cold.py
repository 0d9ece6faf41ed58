"""A crowd at one cold key of a real server."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.asgi.frameworks.cold import KINDS
from tests.servers import Server

REQUESTS = 1_000


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Room for a connection a request."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def ask(port: int, path: str) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return json.loads(body)
    finally:
        writer.close()


@pytest.mark.parametrize(("name", "kind"), [*(("uvicorn", kind) for kind in KINDS), ("gunicorn", "file")])
def test_a_crowd_causes_one_creation(name: str, kind: str, asgi_served: Callable[[str], Server]) -> None:
    """1,000 requests at the same time ask for a value that nothing is stored for: it is created once, for all."""
    server = asgi_served(name)

    async def crowd() -> list[Any]:
        path = f"/cold/{kind}/{REQUESTS}"
        return await asyncio.gather(*(ask(server.port, path) for _ in range(REQUESTS)))

    assert asyncio.run(crowd()) == [[[kind], 1]] * REQUESTS, server.output()
