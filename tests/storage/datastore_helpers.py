"""What the tests of the Datastore store on the emulators share."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from beaker.storage.datastore import DatastoreStore
from beaker.testing import FakeClock


def build(host: str, project: str, **options: Any) -> DatastoreStore:
    """A store on an emulator; importable, so that other processes can build the same one."""
    return DatastoreStore(project=project, emulator_host=host, **{"deadline": 30.0, **options})


def entities(store: DatastoreStore) -> list[tuple[str, ...]]:
    """The key paths of everything of the store's kind, heads and chunks."""
    request = store._layout().query(())
    request.query.projection.add().property.name = "__key__"
    pages = store._scan._pages(request, "test", 500)
    return [tuple(part.name for part in result.entity.key.path) for page in pages for result in page]


class OnEmulators:
    """Each test runs on the optimistic and on the pessimistic emulator, in a project of its own."""

    @pytest.fixture(params=["datastore_emulator", "firestore_emulator"])
    def host(self, request: pytest.FixtureRequest) -> str:
        address: str = request.getfixturevalue(request.param).host
        return address

    @pytest.fixture
    def project(self) -> str:
        return f"p-{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def store(self, host: str, project: str, clock: FakeClock) -> DatastoreStore:
        return build(host, project, clock=clock)
