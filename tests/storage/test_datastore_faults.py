"""The Datastore store on a server that fails on order: retries, deadlines, lost answers, no conditional commits."""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

import pytest

pytest.importorskip("google.cloud.datastore")

from beaker.exceptions import ConfigError, InvalidCacheBackendError, StoreUnavailable
from beaker.storage._dsclient import Connection, connector
from beaker.storage._dsgateway import Gateway
from beaker.storage.datastore import DatastoreStore
from beaker.testing import (
    BulkContract,
    FakeClock,
    ListingContract,
    PurgingContract,
    StoreContract,
    VersionedContract,
)
from tests.storage.datastore_fake import FakeDatastore


class TestOnAFake(StoreContract, VersionedContract, ListingContract, PurgingContract, BulkContract):
    """The suites without any server, so that they run where there is no Java."""

    versioned = True
    index_expires = False

    @pytest.fixture
    def server(self) -> FakeDatastore:
        return FakeDatastore(versioned=self.versioned)

    @pytest.fixture
    def store(self, clock: FakeClock, server: FakeDatastore) -> DatastoreStore:
        return DatastoreStore(gateway=server.gateway(), clock=clock, index_expires=self.index_expires)

    def footprint(self, store: DatastoreStore) -> int:
        channel: FakeDatastore = store.gateway.connection().channel
        return len(channel.entities)


class TestIndexed(TestOnAFake):
    """With ``index_expires`` every promise stays."""

    index_expires = True


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
    """What a repetition cannot heal is not repeated, and never means "absent"."""
    server.faults = [("Lookup", code, False)]
    with pytest.raises(StoreUnavailable, match=code) as caught:
        store.get("n", "secret-key")
    assert (caught.value.backend, caught.value.operation) == ("ext:google", "get")
    assert caught.value.__cause__ is not None
    assert "secret-key" not in str(caught.value)
    assert tries(server, "Lookup") == 1


def test_retries_end(server: FakeDatastore) -> None:
    """After ``retries`` further tries it is StoreUnavailable, for every operation."""
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
    """An insert that landed without an answer is reported as done, also when it is large."""
    server.faults = [("Commit", code, True)]
    assert store.insert("n", "k", b"1", ttl=None) is True
    assert store.get("n", "k") == b"1"
    assert store.insert("n", "k", b"2", ttl=None) is False
    large = os.urandom(1_500_000)
    server.faults = [("Commit", "ABORTED", False), ("Commit", code, True), ("Commit", code, True)]
    assert store.insert("n", "large", large, ttl=None) is True
    assert store.get("n", "large") == large


def test_a_lost_answer_to_a_replace_is_found_out(store: DatastoreStore, server: FakeDatastore) -> None:
    """A replace that landed without an answer is True, even when a later writer came before we looked."""
    store.set("n", "k", b"1", ttl=None)
    found = store.read("n", "k")
    assert found is not None
    assert store.replace("n", "k", b"2", found[1], ttl=None)
    found = store.read("n", "k")
    assert found is not None
    server.faults = [("Commit", "DEADLINE_EXCEEDED", True)]
    assert store.replace("n", "k", b"3", found[1], ttl=None) is True
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
    assert store.replace("n", "k", b"4", found[1], ttl=None) is True
    assert store.get("n", "k") == b"4+other"


def test_a_replace_that_lost_the_race_is_false(store: DatastoreStore, server: FakeDatastore) -> None:
    """A try without an answer that did NOT land, overtaken by another writer, is False and writes nothing."""
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


def test_a_lost_answer_to_a_remove_is_found_out(store: DatastoreStore, server: FakeDatastore) -> None:
    """A remove that landed without an answer is True."""
    store.set("n", "k", b"1", ttl=None)
    found = store.read("n", "k")
    assert found is not None
    assert store.gateway._compares_versions(store._layout().head_key("n", "k"), "test")
    server.faults = [("Commit", "UNAVAILABLE", True)]
    assert store.remove("n", "k", found[1]) is True
    assert store.get("n", "k") is None


def test_a_server_without_conditional_commits_gets_transactions(clock: FakeClock) -> None:
    """The self-test finds that stale writes are accepted; nothing is lost, and a lost answer is found out there too."""
    server = FakeDatastore(versioned=False)
    store = DatastoreStore(gateway=server.gateway(), clock=clock)
    store.set("n", "k", b"1", ttl=None)
    first = store.read("n", "k")
    assert first is not None
    assert store.replace("n", "k", b"2", first[1], ttl=None) is True
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
    assert store.replace("n", "k", b"4", found[1], ttl=None) is True
    assert server.faults == []
    assert store.get("n", "k") == b"4"


def test_the_self_test_runs_once_and_leaves_nothing(store: DatastoreStore, server: FakeDatastore) -> None:
    """One self-test a connection, at the first conditional write, counted apart; its probe is gone."""
    store.set("n", "k", b"1", ttl=None)
    for number in range(3):
        found = store.read("n", "k")
        assert found is not None
        assert store.replace("n", "k", b"%d" % number, found[1], ttl=None)
    assert store.gateway.calls == {"Commit": 4, "Lookup": 3, "SelfTest": 1}
    assert len(server.entities) == 1


def test_calls_of_a_session(store: DatastoreStore) -> None:
    """A read is one call, a conditional write is one call, a hit is one call."""
    store.insert("n", "k", b"1", ttl=60)
    found = store.read("n", "k")
    assert found is not None
    assert store.replace("n", "k", b"2", found[1], ttl=60)
    store.gateway.calls.clear()
    found = store.read("n", "k")
    assert found is not None
    assert store.gateway.calls == {"Lookup": 1}
    assert store.replace("n", "k", b"3", found[1], ttl=60)
    assert store.gateway.calls == {"Lookup": 1, "Commit": 1}


def test_deferred_keys_and_answers_over_the_limit(store: DatastoreStore, server: FakeDatastore) -> None:
    """Keys the server puts off are asked for again, and an answer too large for the channel in halves."""
    items = {f"k{number}": os.urandom(1000) for number in range(40)}
    store.set_many("n", items, ttl=None)
    server.defer = 7
    assert store.get_many("n", items) == items
    server.defer = 0
    server.answer_limit = 12_000
    assert store.get_many("n", items) == items
    server.answer_limit = 100
    with pytest.raises(StoreUnavailable, match="message limit"):
        store.get("n", "k1")


def test_a_thousand_keys_a_lookup(store: DatastoreStore, server: FakeDatastore) -> None:
    """Bulk calls stay within 1000 keys a lookup, 500 entities and 3 MB a commit."""
    sizes: list[tuple[str, int, int]] = []
    server.before = lambda method, request: sizes.append(
        (method, max(len(getattr(request, "keys", ())), len(getattr(request, "mutations", ()))), request.ByteSize())
    )
    items = {f"k{number}": b"1" for number in range(2100)}
    store.set_many("n", items, ttl=None)
    assert store.get_many("n", items) == items
    store.set_many("n", {f"big{number}": os.urandom(900_000) for number in range(5)}, ttl=None)
    store.delete_many("n", items)
    assert len(server.entities) == 5
    assert max(count for method, count, _ in sizes if method == "Lookup") == 1000
    assert max(count for method, count, _ in sizes if method == "Commit") == 500
    assert max(size for *_, size in sizes) < 4 * 2**20


def test_a_named_database_is_in_the_request_and_in_the_routing_header(server: FakeDatastore) -> None:
    """A named database is sent in every place the service looks at."""
    gateway = Gateway(lambda: Connection(server, "fake", "other"))
    DatastoreStore(gateway=gateway, datastore_namespace="ns").get("n", "k")
    assert server.metadata == (("x-goog-request-params", "project_id=fake&database_id=other"),)
    assert server.last.database_id == "other"
    partition = server.last.keys[0].partition_id
    assert (partition.project_id, partition.database_id, partition.namespace_id) == ("fake", "other", "ns")


def test_a_closed_channel_is_unavailable(store: DatastoreStore, server: FakeDatastore) -> None:
    """A client the application closed is StoreUnavailable, not a ValueError of grpc."""

    def closed(method: str, request: Any) -> None:
        raise ValueError("Cannot invoke RPC on closed channel!")

    server.before = closed
    with pytest.raises(StoreUnavailable, match="closed"):
        store.get("n", "k")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("table_name", ""),
        ("table_name", "a/b"),
        ("table_name", "__x__"),
        ("table_name", "x" * 1501),
        ("table_name", 5),
        ("datastore_namespace", "a b"),
        ("deadline", 0),
        ("retries", -1),
        ("max_value", 0),
    ],
)
def test_a_wrong_option_is_named(option: str, value: Any) -> None:
    """An option that cannot work is refused when the store is made."""
    options: dict[str, Any] = {option: value}
    with pytest.raises(ConfigError) as caught:
        DatastoreStore(**options)
    assert caught.value.option == option


def test_a_client_that_is_none_is_refused() -> None:
    """Only Google's two clients can be used as ``client``."""
    with pytest.raises(ConfigError) as caught:
        DatastoreStore(client=object()).get("n", "k")
    assert caught.value.option == "client"


def test_missing_packages_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Google's packages the constructor names the extra, and so does a connection."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidCacheBackendError, match=r"beaker-gae\[google\]"):
        DatastoreStore()
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(InvalidCacheBackendError, match=r"beaker-gae\[google\]"):
        connector("p", None, "localhost:1")()


def test_a_missing_project_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that know no project: the option and the variable are named."""
    import google.auth

    monkeypatch.setattr(google.auth, "default", lambda **_: (None, None))
    with pytest.raises(ConfigError, match="GOOGLE_CLOUD_PROJECT") as caught:
        DatastoreStore().get("n", "k")
    assert caught.value.option == "project"


def test_missing_credentials_are_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials: StoreUnavailable with advice, and the next call tries again."""
    import google.auth
    import google.auth.exceptions

    asked = []

    def default(**_: Any) -> Any:
        asked.append(1)
        raise google.auth.exceptions.DefaultCredentialsError("none")

    monkeypatch.setattr(google.auth, "default", default)
    store = DatastoreStore()
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="application-default login"):
            store.get("n", "k")
    assert len(asked) == 2


def test_nothing_is_opened_by_the_constructor(server: FakeDatastore) -> None:
    """Making a store imports, connects and calls nothing."""
    connected = []

    def connect() -> Connection:
        connected.append(1)
        return Connection(server, "fake", None)

    gateway = Gateway(connect)
    DatastoreStore(gateway=gateway)
    assert connected == []
    assert server.seen == []
