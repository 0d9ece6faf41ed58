"""The Datastore store on both emulators: the contract suites, sizes, chunks, purging, neighbours."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from beaker.exceptions import ConfigError, InvalidCacheBackendError, StoreUnavailable, ValueTooLarge
from beaker.storage import _dsclient
from beaker.storage.datastore import DatastoreStore
from beaker.testing import (
    BulkContract,
    FakeClock,
    ListingContract,
    ProcessContract,
    PurgingContract,
    SharedContract,
    StoreContract,
    VersionedContract,
)

pytest.importorskip("google.cloud.datastore")

EMULATORS = ("datastore_emulator", "firestore_emulator")


def build(host: str, project: str, **options: Any) -> DatastoreStore:
    """A store on an emulator; importable, so that other processes can build the same one."""
    return DatastoreStore(project=project, emulator_host=host, deadline=30.0, **options)


def entities(store: DatastoreStore) -> list[tuple[str, ...]]:
    """The key paths of everything of the store's kind, heads and chunks."""
    request = store._layout().query(())
    request.query.projection.add().property.name = "__key__"
    request.query.limit.value = 2000
    results = store.gateway.query(request, "test").entity_results
    return [tuple(part.name for part in result.entity.key.path) for result in results]


@pytest.fixture(params=EMULATORS)
def host(request: pytest.FixtureRequest) -> str:
    """The address of one emulator, then of the other: one is optimistic, one pessimistic."""
    address: str = request.getfixturevalue(request.param).host
    return address


@pytest.fixture
def project() -> str:
    """A project of its own for each test: emulators keep them apart."""
    return f"p-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(host: str, project: str, clock: FakeClock) -> DatastoreStore:
    return build(host, project, clock=clock)


class TestDatastoreStore(
    StoreContract, VersionedContract, ListingContract, PurgingContract, BulkContract, SharedContract, ProcessContract
):
    """Every suite, on both emulators."""

    threads = 3
    rounds = 6
    processes = 4
    process_rounds = 50

    @pytest.fixture
    def store(self, host: str, project: str, clock: FakeClock) -> DatastoreStore:
        return build(host, project, clock=clock)

    def footprint(self, store: DatastoreStore) -> int:
        return len(entities(store))

    def second_store(self, store: DatastoreStore) -> DatastoreStore:
        return build(*self._where(store), clock=store._clock)

    def process_factory(self, store: DatastoreStore) -> tuple[Any, tuple[Any, ...]]:
        return build, self._where(store)

    def _where(self, store: DatastoreStore) -> tuple[str, str]:
        connection = store.gateway.connection()
        host = next(name for (_, _, name), made in _dsclient._connections.dict.items() if made is connection)
        assert host is not None
        return host, connection.project
