"""The Datastore store on a server that fails on request: retries, deadlines, lost responses, unconditional commits."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

pytest.importorskip("google.cloud.datastore")

from beaker.exceptions import StoreUnavailable
from beaker.storage.datastore import DatastoreStore
from beaker.storage.datastore.gateway import Gateway
from beaker.testing import (
    FakeClock,
)
from tests.storage.datastore_fake import FakeDatastore


@pytest.fixture
def server() -> FakeDatastore:
    return FakeDatastore()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(server: FakeDatastore, clock: FakeClock) -> DatastoreStore:
    return DatastoreStore(gateway=server.gateway(), clock=clock)


def tries(server: FakeDatastore, method: str) -> int:
    return sum(1 for name, _ in server.seen if name == method)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "ABORTED", "RESOURCE_EXHAUSTED"])
@pytest.mark.parametrize("done", [False, True])
def test_a_passing_fault_is_not_seen(store: DatastoreStore, server: FakeDatastore, code: str, done: bool) -> None:
    """One failed try is repeated, for reads and for blind writes."""
    server.faults = [("Commit", code, done), ("Lookup", code, done)]
    store.set("n", "k", b"1", ttl=None)
    assert store.get("n", "k") == b"1"
    assert server.faults == []
    assert store.gateway.calls == {"Commit": 1, "Lookup": 1}


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "INVALID_ARGUMENT", "UNAUTHENTICATED", "NOT_FOUND"])
def test_a_lasting_fault_is_unavailable_at_once(store: DatastoreStore, server: FakeDatastore, code: str) -> None:
    """An error that a retry cannot fix is not retried, and never means "absent"."""
    server.faults = [("Lookup", code, False)]
    with pytest.raises(StoreUnavailable, match=code) as caught:
        store.get("n", "secret-key")
    assert (caught.value.backend, caught.value.operation) == ("ext:google", "get")
    assert caught.value.__cause__ is not None
    assert "secret-key" not in str(caught.value)
    assert tries(server, "Lookup") == 1


def test_retries_end(server: FakeDatastore) -> None:
    """After ``retries`` further tries every operation raises StoreUnavailable."""
    store = DatastoreStore(gateway=server.gateway(retries=2))
    operations: list[Any] = [
        lambda: store.get("n", "k"),
        lambda: store.set("n", "k", b"1", ttl=None),
        lambda: store.insert("n", "k", b"1", ttl=None),
        lambda: store.delete("n", "k"),
        lambda: list(store.keys("n")),
        lambda: store.clear("n"),
        lambda: store.purge(0, 10),
    ]
    for operation in operations:
        store.gateway.breaker.retry()
        server.seen.clear()
        server.faults = [(name, "UNAVAILABLE", False) for name in ("Lookup", "Commit", "RunQuery") for _ in range(3)]
        server.before = lambda method, request: _order(server, method)
        with pytest.raises(StoreUnavailable, match="UNAVAILABLE"):
            operation()
        assert len(server.seen) == 3


def _order(server: FakeDatastore, method: str) -> None:
    """Make the next fault for ``method`` the next of all."""
    server.faults.sort(key=lambda fault: fault[0] != method)


def test_the_deadline_bounds_all_tries(server: FakeDatastore) -> None:
    """The tries and the waits between them together take no longer than ``deadline``; each try gets what is left."""
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    def hang(method: str, request: Any) -> None:
        now[0] += server.seen[-1][1]

    server.before = hang
    server.faults = [("Lookup", "DEADLINE_EXCEEDED", False)] * 10
    gateway = server.gateway(deadline=5.0, retries=10, sleep=wait, monotonic=lambda: now[0])
    with pytest.raises(StoreUnavailable):
        DatastoreStore(gateway=gateway).get("n", "k")
    assert len(server.seen) > 1
    assert server.seen[0][1] == pytest.approx(3.0)
    assert now[0] <= 5.0


@pytest.mark.timeout(30)
def test_a_server_that_is_down_fails_within_the_deadline() -> None:
    """Nothing listens: StoreUnavailable within the deadline, not after Google's minute."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = DatastoreStore(project="p", emulator_host=f"127.0.0.1:{port}", deadline=1.0)
    with pytest.raises(StoreUnavailable):
        store.get("n", "k")


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"])
def test_a_lost_answer_to_an_insert_is_found_out(store: DatastoreStore, server: FakeDatastore, code: str) -> None:
    """An insert that landed without a response is reported as done, also when it is large."""
    server.faults = [("Commit", code, True)]
    assert store.insert("n", "k", b"1", ttl=None)
    assert store.get("n", "k") == b"1"
    assert store.insert("n", "k", b"2", ttl=None) is False
    large = os.urandom(1_500_000)
    server.faults = [("Commit", "ABORTED", False), ("Commit", code, True), ("Commit", code, True)]
    assert store.insert("n", "large", large, ttl=None)
    assert store.get("n", "large") == large


def test_a_lost_answer_to_a_replace_is_found_out(store: DatastoreStore, server: FakeDatastore) -> None:
    """A replace that landed without a response is True, even when a later writer came before we looked."""
    store.set("n", "k", b"1", ttl=None)
    found = store.read("n", "k")
    assert found is not None
    assert store.replace("n", "k", b"2", found[1], ttl=None)
    found = store.read("n", "k")
    assert found is not None
    server.faults = [("Commit", "DEADLINE_EXCEEDED", True)]
    assert store.replace("n", "k", b"3", found[1], ttl=None)
    assert store.get("n", "k") == b"3"

    found = store.read("n", "k")
    assert found is not None
    other = DatastoreStore(gateway=Gateway(store.gateway.connection), clock=store._clock)

    def overtake(method: str, request: Any) -> None:
        if method == "Commit" and not server.faults:
            server.before = None
            seen = other.read("n", "k")
            assert seen is not None
            assert other.replace("n", "k", seen[0] + b"+other", seen[1], ttl=None)

    server.faults = [("Commit", "UNAVAILABLE", True)]
    server.before = overtake
    assert store.replace("n", "k", b"4", found[1], ttl=None)
    assert store.get("n", "k") == b"4+other"


def test_a_replace_that_lost_the_race_is_false(store: DatastoreStore, server: FakeDatastore) -> None:
    """A try without a response that did NOT land, overtaken by another writer, is False and writes nothing."""
    store.set("n", "k", b"1", ttl=None)
    found = store.read("n", "k")
    assert found is not None
    store._heads.look(store._layout().head_key("n", "k"), "test")
    assert store.gateway._compares_versions(store._layout().head_key("n", "k"), "test")
    other = DatastoreStore(gateway=Gateway(store.gateway.connection), clock=store._clock)

    def overtake(method: str, request: Any) -> None:
        if method == "Commit" and not server.faults:
            server.before = None
            other.set("n", "k", b"other", ttl=None)

    server.faults = [("Commit", "UNAVAILABLE", False)]
    server.before = overtake
    assert store.replace("n", "k", b"2", found[1], ttl=None) is False
    assert store.get("n", "k") == b"other"


def test_an_insert_that_lost_the_race_is_false(store: DatastoreStore, server: FakeDatastore) -> None:
    """A try without a response that did NOT land, and then another process's record there: False."""
    other = DatastoreStore(gateway=Gateway(store.gateway.connection), clock=store._clock)

    def overtake(method: str, request: Any) -> None:
        if method == "Commit" and not server.faults:
            server.before = None
            other.set("n", "k", b"other", ttl=None)

    server.faults = [("Commit", "UNAVAILABLE", False)]
    server.before = overtake
    assert store.insert("n", "k", b"1", ttl=None) is False
    assert store.get("n", "k") == b"other"


def test_a_lost_answer_to_a_remove_is_found_out(store: DatastoreStore, server: FakeDatastore) -> None:
    """A remove that landed without a response is True."""
    store.set("n", "k", b"1", ttl=None)
    found = store.read("n", "k")
    assert found is not None
    assert store.gateway._compares_versions(store._layout().head_key("n", "k"), "test")
    server.faults = [("Commit", "UNAVAILABLE", True)]
    assert store.remove("n", "k", found[1]) is True
    assert store.get("n", "k") is None


def test_a_server_without_conditional_commits_gets_transactions(clock: FakeClock) -> None:
    """The self-test finds that stale writes are accepted; nothing is lost, and a lost response is found out as well."""
    server = FakeDatastore(versioned=False)
    store = DatastoreStore(gateway=server.gateway(), clock=clock)
    store.set("n", "k", b"1", ttl=None)
    first = store.read("n", "k")
    assert first is not None
    assert store.replace("n", "k", b"2", first[1], ttl=None)
    assert tries(server, "BeginTransaction") == 1
    assert store.replace("n", "k", b"3", first[1], ttl=None) is False
    assert tries(server, "Rollback") == 1
    assert store.remove("n", "k", first[1]) is False
    found = store.read("n", "k")
    assert found is not None
    assert found[0] == b"2"
    server.faults = [
        ("BeginTransaction", "UNAVAILABLE", False),
        ("Commit", "ABORTED", False),
        ("Commit", "UNAVAILABLE", True),
    ]
    server.before = lambda method, request: _order(server, method)
    assert store.replace("n", "k", b"4", found[1], ttl=None)
    assert server.faults == []
    assert store.get("n", "k") == b"4"


def test_a_closed_channel_is_unavailable(store: DatastoreStore, server: FakeDatastore) -> None:
    """A client the application closed is StoreUnavailable, not a ValueError of grpc."""

    def closed(method: str, request: Any) -> None:
        raise ValueError("Cannot invoke RPC on closed channel!")

    server.before = closed
    with pytest.raises(StoreUnavailable, match="closed"):
        store.get("n", "k")
