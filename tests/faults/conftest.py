"""Stores on real servers, with one second for a call."""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.storage.memcached import MemcachedStore
from beaker.storage.redis import RedisStore
from beaker.storage.sql import SqlStore
from tests.servers import Server
from tests.storage.servers_apart import frozen

KINDS = ("memcached", "redis", "postgres")
SECONDS = 1.0
TOO_LONG = 15.0
"""What a call of a second may take on a machine that is busy; far below what it took without a limit."""


class Place:
    """A server, and stores on it or on another address in its place."""

    def __init__(self, kind: str, server: Server) -> None:
        self.kind = kind
        self.server = server
        self._prefix = f"t{uuid.uuid4().hex[:12]}"
        self._stores: list[Any] = []

    def store(self, address: str = "", timeout: float = SECONDS, **options: Any) -> Any:
        """A store of its own."""
        address = address or self.server.address
        store: Any
        if self.kind == "memcached":
            store = MemcachedStore(address, timeout=timeout, prefix=self._prefix, **options)
        elif self.kind == "redis":
            store = RedisStore(f"redis://{address}/0", timeout=timeout, prefix=self._prefix, **options)
        else:
            url = f"postgresql+psycopg://postgres@{address}/postgres"
            store = SqlStore(url, timeout=timeout, table_name=self._prefix, **options)
        self._stores.append(store)
        return store

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The server is stopped by SIGSTOP: its kernel accepts and acknowledges, it says nothing."""
        pid = self.server.pid
        assert pid is not None
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        with frozen(self.server):
            for child in children:
                os.kill(int(child), signal.SIGSTOP)
            try:
                yield
            finally:
                for child in children:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(child), signal.SIGCONT)

    def close(self) -> None:
        for store in self._stores:
            store.close()


@pytest.fixture
def place_of(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Place]]:
    """Called with a kind of store: its place, on the server of the session."""
    places: list[Place] = []

    def find(kind: str) -> Place:
        servers: dict[str, Server] = {}
        servers[kind] = request.getfixturevalue(f"{kind}_server")
        places.append(Place(kind, servers[kind]))
        return places[-1]

    yield find
    for place in places:
        place.close()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, place_of: Callable[[str], Place]) -> Place:
    """The place of each kind of store."""
    return place_of(request.param)


__all__ = ["KINDS", "SECONDS", "TOO_LONG", "Place"]
