"""The Datastore store without a server: the contract suites on a fake, options, requests, what a call costs."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

pytest.importorskip("google.cloud.datastore")

from beaker.exceptions import ConfigError, InvalidCacheBackendError, StoreUnavailable
from beaker.storage.datastore import DatastoreStore
from beaker.storage.datastore.connection import Connection, connector
from beaker.storage.datastore.gateway import Gateway
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
def store(server: FakeDatastore) -> DatastoreStore:
    return DatastoreStore(gateway=server.gateway())


def test_the_self_test_runs_once_and_leaves_nothing(store: DatastoreStore, server: FakeDatastore) -> None:
    """One self-test per connection, at the first conditional write, counted apart; its probe is gone."""
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
    """Keys that the server defers are asked for again; those whose response exceeds the channel's limit, in halves."""
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
    """Bulk calls stay within 1000 keys per lookup, 500 entities and 3 MB per commit."""
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
        ("deadline", 151),
        ("retries", -1),
        ("max_value", 0),
        ("max_value", "much"),
        ("compress", "perhaps"),
        ("index_expires", 5),
    ],
)
def test_a_wrong_option_is_named(option: str, value: Any) -> None:
    """An option that cannot work is refused when the store is built."""
    options: dict[str, Any] = {option: value}
    with pytest.raises(ConfigError) as caught:
        DatastoreStore(**options)
    assert caught.value.option == option


def test_options_from_a_file_are_strings(server: FakeDatastore) -> None:
    """Numbers and switches may be written as text, as a configuration file does."""
    options: dict[str, Any] = {
        "deadline": "2s",
        "retries": "1",
        "max_value": "10",
        "compress": "no",
        "index_expires": "false",
    }
    assert DatastoreStore(**options).max_value == 10


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
    """Building a store imports, connects and calls nothing."""
    connected = []

    def connect() -> Connection:
        connected.append(1)
        return Connection(server, "fake", None)

    gateway = Gateway(connect)
    DatastoreStore(gateway=gateway)
    assert connected == []
    assert server.seen == []


def test_a_compressed_value_of_the_very_limit(server: FakeDatastore) -> None:
    """What was accepted comes back: at max_value exactly, also when it was compressed."""
    store = DatastoreStore(gateway=server.gateway(), max_value=5000)
    store.set("n", "k", bytes(5000), ttl=None)
    assert store.get("n", "k") == bytes(5000)


def test_a_bomb_is_absent(server: FakeDatastore) -> None:
    """Bytes that unpack to more than max_value, or to nothing, are not a record."""
    DatastoreStore(gateway=server.gateway()).set("n", "k", bytes(5001), ttl=None)
    store = DatastoreStore(gateway=server.gateway(), max_value=5000)
    assert store.get("n", "k") is None
    (_, entity), *_ = server.entities.values()
    entity.properties["data"].blob_value = b"not zlib"
    assert store.get("n", "k") is None
    entity.properties["encoding"].integer_value = 7
    assert store.get("n", "k") is None


def test_a_connection_to_google_has_project_and_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an emulator the credentials name the project, and one connection serves all stores of a configuration."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials

    monkeypatch.setattr(google.auth, "default", lambda **_: (AnonymousCredentials(), "from-credentials"))
    stores = [DatastoreStore(database="db"), DatastoreStore(database="db", table_name="other")]
    first, second = (store.gateway.connection() for store in stores)
    assert first is second
    assert (first.project, first.database, first.emulated) == ("from-credentials", "db", False)
    assert DatastoreStore(project="named", database="db").gateway.connection().project == "named"
