"""MemcachedStore keeps the contracts of a store on a real memcached."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from beaker.storage.memcached import MemcachedStore
from beaker.testing import (
    BulkContract,
    FakeClock,
    ProcessContract,
    SharedContract,
    StoreContract,
    VersionedContract,
)
from tests.servers import Server

pytest.importorskip("pymemcache")


def build(url: str, prefix: str) -> MemcachedStore:
    """For child processes."""
    return MemcachedStore(url, prefix=prefix)


class TestContract(StoreContract, VersionedContract, BulkContract, SharedContract, ProcessContract):
    """One server."""

    def url(self, server: Server) -> str:
        return server.address

    @pytest.fixture
    def store(self, clock: FakeClock, memcached_server: Server) -> Iterator[MemcachedStore]:
        self.server = memcached_server
        self.prefix = f"t{uuid.uuid4().hex[:12]}"
        self.clock_in_use = clock
        store = MemcachedStore(self.url(memcached_server), clock=clock, prefix=self.prefix)
        yield store
        store.close()

    def second_store(self, store: Any) -> MemcachedStore:
        return MemcachedStore(self.url(self.server), clock=self.clock_in_use, prefix=self.prefix)

    def process_factory(self, store: Any) -> tuple[Any, tuple[Any, ...]]:
        return build, (self.url(self.server), self.prefix)

    def footprint(self, store: Any) -> int:
        return len(names_on(self.server, self.prefix))


def names_on(server: Server, prefix: str) -> list[str]:
    """The names on the server that begin with the prefix."""
    from pymemcache.client.base import Client

    client = Client(server.address, timeout=5)
    try:
        dump: bytes = client.raw_command(b"lru_crawler metadump all", b"END\r\n")
    finally:
        client.close()
    return [line.split()[0] for line in dump.decode().splitlines() if line.startswith(f"key={prefix}")]
