"""RedisStore keeps the contracts of a store on a real Redis: alone, as a cluster, behind a sentinel."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from beaker.storage.redis import RedisStore
from beaker.testing import (
    BulkContract,
    FakeClock,
    ListingContract,
    ProcessContract,
    SharedContract,
    StoreContract,
    VersionedContract,
)
from tests.servers import RedisServer

redis = pytest.importorskip("redis")


def build(url: str, prefix: str) -> RedisStore:
    """For child processes."""
    return RedisStore(url, prefix=prefix)


class TestContract(StoreContract, VersionedContract, BulkContract, ListingContract, SharedContract, ProcessContract):
    """One server."""

    @pytest.fixture
    def url(self, redis_server: RedisServer) -> str:
        return redis_server.url

    @pytest.fixture
    def store(self, clock: FakeClock, url: str) -> Iterator[RedisStore]:
        self.address = url
        self.prefix = f"t{uuid.uuid4().hex[:12]}"
        self.clock_in_use = clock
        store = RedisStore(url, clock=clock, prefix=self.prefix)
        yield store
        store.close()

    def second_store(self, store: Any) -> RedisStore:
        return RedisStore(self.address, clock=self.clock_in_use, prefix=self.prefix)

    def process_factory(self, store: Any) -> tuple[Any, tuple[Any, ...]]:
        return build, (self.address, self.prefix)

    def footprint(self, store: Any) -> int:
        return len(list(store._connected().scan_iter(match=f"{self.prefix}:*", count=1000)))
