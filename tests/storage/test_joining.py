"""Several records in one transaction: all of them or none, on a fake server and on both emulators."""

from __future__ import annotations

import os
from typing import Any

import pytest

from beaker.exceptions import StoreUnavailable
from beaker.storage.api import Change, Joining
from beaker.storage.datastore import DatastoreStore
from beaker.testing import FakeClock
from tests.storage.datastore_fake import FakeDatastore
from tests.storage.shared import open_store


@pytest.fixture(params=["fake", "google", "google on firestore"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> DatastoreStore:
    if request.param == "fake":
        return DatastoreStore(gateway=FakeDatastore().gateway(), clock=FakeClock())
    found: DatastoreStore = open_store(request.param, request, FakeClock(), tmp_path)
    # An emulator's first transaction takes its time on a busy machine.
    found.gateway.deadline = 60.0
    return found


def versions(store: DatastoreStore, *keys: str) -> list[Any]:
    return [found and found[1] for found in (store.read("n", key) for key in keys)]


def test_all_or_none(store: DatastoreStore) -> None:
    """A condition that does not hold leaves every record as it was; where all hold, all are written, by one call."""
    assert isinstance(store, Joining)
    store.set("n", "old", b"1", ttl=None)
    (version,) = versions(store, "old")
    store.set("n", "old", b"2", ttl=None)
    moved = Change("n", "new", b"moved", 60, absent=True)
    stamp = Change("stamps", "s", b"token")
    assert store.write_together([stamp, moved, Change("n", "old", b"3", version=version)]) is False
    assert (store.get("n", "old"), store.get("n", "new"), store.get("stamps", "s")) == (b"2", None, None)
    (version,) = versions(store, "old")
    store.gateway.calls.clear()
    assert store.write_together([stamp, moved, Change("n", "old", b"3", version=version)]) is True
    assert dict(store.gateway.calls) == {"Commit": 1}
    assert (store.get("n", "old"), store.get("n", "new"), store.get("stamps", "s")) == (b"3", b"moved", b"token")
    (version,) = versions(store, "old")
    assert store.write_together([moved, Change("n", "old", b"4", version=version)]) is False
    assert store.get("n", "old") == b"3"
    assert store.write_together([stamp._replace(data=b"next"), Change("n", "none", None), Change("n", "new", None)])
    assert (store.get("n", "new"), store.get("stamps", "s")) == (None, b"next")
    assert store.write_together([Change("n", "none", None)])
    assert store.write_together([moved])
    # What was written so is replaced, and counts as changed, like any other record.
    assert store.replace("n", "old", b"5", version, ttl=None)
    (version,) = versions(store, "new")
    assert store.remove("n", "new", version)


def test_what_cannot_be_joined(store: DatastoreStore) -> None:
    """Records that have parts, before or after, and conditional deletions: ``None``, and nothing is written."""
    large = os.urandom(1_200_000)
    store.set("n", "large", large, ttl=None)
    (version,) = versions(store, "large")
    for change in (
        Change("n", "b", b"x" * 900_000),
        Change("n", "large", None),
        Change("n", "b", None, absent=True),
        Change("n", "large", b"", -1.0),
        Change("n", "large", b"2"),
        Change("n", "large", b"2", version=version),
    ):
        assert store.write_together([Change("n", "a", b"1"), change]) is None
    assert (store.get("n", "a"), store.get("n", "b"), store.get("n", "large")) == (None, None, large)


@pytest.mark.parametrize("done", [True, False])
def test_a_lost_reply(done: bool) -> None:
    """A transaction that is tried again because its reply was lost finds out that it was carried out."""
    server = FakeDatastore()
    store = DatastoreStore(gateway=server.gateway())
    store.set("n", "old", b"1", ttl=None)
    data, version = store.read("n", "old") or (b"", None)
    store.replace("n", "old", data, version, ttl=None)
    (version,) = versions(store, "old")
    server.faults.append(("Commit", "UNAVAILABLE", done))
    changes = [Change("n", "new", b"2", absent=True), Change("n", "old", b"3", version=version)]
    assert store.write_together(changes) is True
    assert (store.get("n", "new"), store.get("n", "old")) == (b"2", b"3")


def test_a_server_without_such_transactions() -> None:
    """A server that does not know them is asked once; from then on records are written one by one. One that does not
    respond is StoreUnavailable."""
    server = FakeDatastore()
    store = DatastoreStore(gateway=server.gateway())
    store.set("n", "warm", b"1", ttl=None)
    server.faults.append(("Commit", "INVALID_ARGUMENT", False))
    assert store.write_together([Change("n", "a", b"1")]) is None
    assert store.write_together([Change("n", "a", b"1")]) is None
    assert store.get("n", "a") is None
    silent = FakeDatastore()
    store = DatastoreStore(gateway=silent.gateway())
    silent.faults += [("Commit", "UNAVAILABLE", False)] * 4
    with pytest.raises(StoreUnavailable):
        store.write_together([Change("n", "a", b"1")])
