"""The Datastore store on both emulators: the contract suites, and what its neighbours in a process may do."""

from __future__ import annotations

import datetime
import os
import threading
from typing import Any

import pytest

pytest.importorskip("google.cloud.datastore")

from beaker import runtime
from beaker.runtime import Runtime
from beaker.storage.datastore import DatastoreStore
from beaker.storage.datastore import connection as _dsclient
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
from tests.storage.datastore_helpers import OnEmulators, build, entities


class TestContracts(
    OnEmulators,
    StoreContract,
    VersionedContract,
    ListingContract,
    PurgingContract,
    BulkContract,
    SharedContract,
    ProcessContract,
):
    """Every suite, on both emulators; four processes count to 200 together."""

    threads = 3
    rounds = 6
    processes = 4
    process_rounds = 50

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


class TestIndexed(OnEmulators, PurgingContract):
    """Purging by the index of ``expires``."""

    @pytest.fixture
    def store(self, host: str, project: str, clock: FakeClock) -> DatastoreStore:
        return build(host, project, clock=clock, index_expires=True)

    def footprint(self, store: DatastoreStore) -> int:
        return len(entities(store))


class TestTransactions(OnEmulators, VersionedContract):
    """Without conditional commits the transactions keep every promise too; little contention, they are slow."""

    threads = 2
    rounds = 3

    @pytest.fixture
    def store(self, host: str, project: str, clock: FakeClock) -> DatastoreStore:
        store = build(host, project, clock=clock, retries=20)
        store.gateway.connection().cas = False
        return store


class TestNeighbours(OnEmulators):
    """NDB in the same process: other contexts, transactions, namespaces and clients."""

    @pytest.fixture
    def ndb_client(self, host: str, project: str, monkeypatch: pytest.MonkeyPatch) -> Any:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import ndb

        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", host)
        return ndb.Client(project=project, credentials=AnonymousCredentials())

    def test_conditional_commits_are_there(self, store: DatastoreStore) -> None:
        """Both emulators refuse a stale write, so neither test runs on transactions unawares."""
        assert store.insert("n", "k", b"1", ttl=None)
        found = store.read("n", "k")
        assert found is not None
        assert store.replace("n", "k", b"2", found[1], ttl=None)
        assert store.gateway.connection().cas is True
        assert store.gateway.calls == {"Commit": 2, "Lookup": 1, "SelfTest": 1}

    def test_a_failing_transaction_takes_nothing_of_ours_along(self, store: DatastoreStore, ndb_client: Any) -> None:
        """Inside an application's NDB transaction that is rolled back, our write is there and stays."""
        from google.cloud import ndb

        class Thing(ndb.Model):  # type: ignore[misc]
            value = ndb.IntegerProperty()

        def work() -> None:
            Thing(id="t", value=1).put()
            store.set("n", "k", b"1", ttl=None)
            assert store.get("n", "k") == b"1"
            raise LookupError

        with ndb_client.context():
            with pytest.raises(LookupError):
                ndb.transaction(work, retries=0)
            assert Thing.get_by_id("t") is None
        assert store.get("n", "k") == b"1"

    def test_a_tenant_namespace_does_not_leak_in(self, store: DatastoreStore, ndb_client: Any) -> None:
        """Inside a context with a tenant's namespace our records are where they always are."""
        store.set("n", "k", b"1", ttl=None)
        with ndb_client.context(namespace="tenant"):
            assert store.get("n", "k") == b"1"
            store.set("n", "k", b"2", ttl=None)
        assert store.get("n", "k") == b"2"

    def test_a_fresh_thread_needs_no_context(self, store: DatastoreStore) -> None:
        """A thread that has no NDB context reads and writes."""
        seen: list[bytes | None] = []

        def work() -> None:
            store.set("n", "k", b"1", ttl=None)
            seen.append(store.get("n", "k"))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(60)
        assert seen == [b"1"]

    def test_records_are_readable_in_both_directions(self, store: DatastoreStore, ndb_client: Any) -> None:
        """What the store writes an NDB model reads, and what the model puts the store reads."""
        from google.cloud import ndb

        from beaker.storage.datastore.ndb_model import record_model

        model = record_model(store.table_name)
        assert record_model(store.table_name) is model
        store.set("ns", "key \N{SNOWMAN}", b"raw\0bytes", ttl=60)
        name = store._layout().head_key("ns", "key \N{SNOWMAN}").path[0].name
        end = datetime.datetime(2023, 11, 14, 22, 14, 20)
        with ndb_client.context():
            record = model.get_by_id(name)
            assert (record.ns, record.name, record.data) == ("ns", "key \N{SNOWMAN}", b"raw\0bytes")
            assert (record.expires, record.parts, record.encoding) == (end, None, None)
            record.data = b"from ndb"
            record.put()
            assert [found.key.id() for found in model.query().fetch()] == [name]
            ndb.get_context().clear_cache()
        found = store.read("ns", "key \N{SNOWMAN}")
        assert found is not None
        assert found[0] == b"from ndb"
        assert store.replace("ns", "key \N{SNOWMAN}", b"again", found[1], ttl=None)
        with ndb_client.context():
            # A context keeps no copy, so another process's write is seen within one.
            assert model.get_by_id(name).data == b"again"
            store.set("ns", "key \N{SNOWMAN}", b"once more", ttl=None)
            assert model.get_by_id(name).data == b"once more"
            model(id=f"{store._layout().prefix('ns')}:x", ns="ns", name="by hand", data=b"1").put()
        assert sorted(store.keys("ns")) == ["by hand", "key \N{SNOWMAN}"]

    def test_a_given_client_is_used(self, store: DatastoreStore, ndb_client: Any, project: str) -> None:
        """``client=`` takes either of Google's clients: its project, and its namespace, are where records live."""
        from google.cloud import datastore

        plain = datastore.Client(project=project)
        for client in (ndb_client, plain):
            DatastoreStore(client=client).set("n", "k", client.project.encode() + b"!", ttl=None)
            assert store.get("n", "k") == project.encode() + b"!"
            store.delete("n", "k")
        apart = DatastoreStore(client=datastore.Client(project=project, namespace="apart"))
        apart.set("n", "k", b"1", ttl=None)
        assert store.get("n", "k") is None
        plain.close()

    def test_the_runtime_names_emulator_and_project(self, host: str, project: str) -> None:
        """Without options the environment decides; with an emulator no project is needed."""
        runtime.override(Runtime(project=project, emulator_host=host))
        try:
            store = DatastoreStore()
            store.set("n", "k", b"1", ttl=None)
            assert build(host, project).get("n", "k") == b"1"
            runtime.override(Runtime(emulator_host=host))
            assert DatastoreStore().gateway.connection().project == _dsclient.EMULATOR_PROJECT
        finally:
            runtime.override(None)

    def test_places_are_apart(self, host: str, project: str) -> None:
        """Kinds, Datastore namespaces and databases do not see each other."""
        stores = [
            build(host, project),
            build(host, project, table_name="other"),
            build(host, project, datastore_namespace="other"),
        ]
        for number, store in enumerate(stores):
            store.set("n", "k", b"%d" % number, ttl=None)
        for number, store in enumerate(stores):
            assert store.get("n", "k") == b"%d" % number
            assert list(store.keys("n")) == ["k"]
        stores[0].clear("n")
        assert [store.get("n", "k") for store in stores] == [None, b"1", b"2"]

    def test_a_named_database(self, host: str, project: str) -> None:
        """A database by name is another place than the default one."""
        default, named = build(host, project), build(host, project, database="second")
        default.set("n", "k", b"1", ttl=None)
        assert named.get("n", "k") is None
        named.set("n", "k", b"2", ttl=None)
        assert (default.get("n", "k"), named.get("n", "k")) == (b"1", b"2")
        assert list(named.keys("n")) == ["k"]
        named.set("n", "old", b"1", ttl=1)
        default.set("n", "old", b"1", ttl=1)
        assert named.purge(4e9, 10) == (1, None)
        named.clear("n")
        assert default.get("n", "k") == b"1"
        assert sorted(name for (name,) in entities(default)) == sorted(
            default._layout().head_key("n", key).path[0].name for key in ("k", "old")
        )

    @pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
    def test_a_forked_child_connects_anew(self, store: DatastoreStore) -> None:
        """A store used before a fork works in the child, on a connection of its own, and in the parent."""
        store.set("n", "k", b"parent", ttl=None)
        before = store.gateway.connection()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if store.get("n", "k") == b"parent" and store.gateway.connection() is not before:
                    store.set("n", "k", b"child", ttl=None)
                    status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.get("n", "k") == b"child"
        assert store.gateway.connection() is before
