"""RedisStore keeps the contracts of a store on a real Redis: alone, as a cluster, behind a sentinel."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.connection import Connection, ConnectionPool

from beaker.exceptions import ConfigError
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
from tests.storage.servers_apart import dead_port, running, start_redis, start_sentinel

DAY = 86_400


def build(url: str, prefix: str) -> RedisStore:
    """For child processes."""
    return RedisStore(url, prefix=prefix)


class TestContract(StoreContract, VersionedContract, BulkContract, ListingContract, SharedContract, ProcessContract):
    """One server."""

    processes = 4
    process_rounds = 50

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


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[str]:
    """A cluster of two nodes; ``redis_server`` only says whether Redis is installed."""
    nodes = []
    for number in (1, 2):
        directory = tmp_path_factory.mktemp(f"cluster{number}")
        # The cluster's own port is the other one plus 10,000 unless it is named, which may be too large.
        nodes.append(start_redis(directory, "--cluster-enabled", "yes", "--cluster-port", str(dead_port())))
    with running(nodes[0]) as first, running(nodes[1]) as second:
        clients: list[Any] = [redis.Redis(host=node.host, port=node.port) for node in (first, second)]
        clients[0].execute_command("CLUSTER ADDSLOTSRANGE", 0, 8191)
        clients[1].execute_command("CLUSTER ADDSLOTSRANGE", 8192, 16383)
        clients[1].execute_command("CLUSTER SET-CONFIG-EPOCH", 2)
        bus = clients[0].config_get("cluster-port")["cluster-port"]
        clients[1].execute_command("CLUSTER MEET", first.host, first.port, int(bus))
        end = time.monotonic() + 60
        while any(
            client.execute_command("CLUSTER INFO")["cluster_state"] != "ok"
            or len(client.execute_command("CLUSTER SLOTS")) < 2
            for client in clients
        ):
            assert time.monotonic() < end, "the nodes did not find each other"
            time.sleep(0.05)
        for client in clients:
            client.close()
        yield f"redis+cluster://{first.host}:{first.port}"


@pytest.fixture(scope="module")
def sentinel_url(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[str]:
    """A sentinel that watches the shared server."""
    directory = tmp_path_factory.mktemp("sentinel")
    with running(start_sentinel(directory, "main", redis_server)) as sentinel:
        yield f"redis+sentinel://{sentinel.host}:{sentinel.port}/main/1"


class TestCluster(TestContract):
    """Two nodes that share the slots."""

    processes = 2
    process_rounds = 20

    @pytest.fixture
    def url(self, cluster_url: str) -> str:
        return cluster_url

    def footprint(self, store: Any) -> int:
        client = store._connected()
        return sum(len(client.keys(f"{self.prefix}:*", target_nodes=node)) for node in client.get_primaries())

    def test_every_node_is_used(self, store: RedisStore, ns: str) -> None:
        """One namespace is spread over the nodes."""
        store.set_many(ns, {str(number): b"1" for number in range(200)}, ttl=None)
        client = store._connected()
        assert all(client.keys(f"{self.prefix}:*", target_nodes=node) for node in client.get_primaries())


class TestSentinel(TestContract):
    """A server found through a sentinel."""

    processes = 2
    process_rounds = 20

    @pytest.fixture
    def url(self, sentinel_url: str) -> str:
        return sentinel_url


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(redis_server: RedisServer, clock: FakeClock, prefix: str) -> Iterator[RedisStore]:
    store = RedisStore(redis_server.url, clock=clock, prefix=prefix)
    yield store
    store.close()


@pytest.fixture
def foreign(redis_server: RedisServer) -> Iterator[Any]:
    """Another program's client on the same server."""
    client = redis.Redis.from_url(redis_server.url)
    yield client
    client.close()


class CountingConnection(Connection):
    """Counts messages sent by all of its kind."""

    sent = 0

    def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        CountingConnection.sent += 1
        super().send_packed_command(*arguments, **options)


def messages(work: Callable[[], object]) -> int:
    before = CountingConnection.sent
    work()
    return CountingConnection.sent - before


def test_one_round_trip(redis_server: RedisServer, prefix: str) -> None:
    """A hit, a miss, a write and a conditional write are one message each; so are 100 records at once."""
    pool = ConnectionPool(CountingConnection, host=redis_server.host, port=redis_server.port)
    store = RedisStore("", prefix=prefix, client=redis.Redis(connection_pool=pool))
    many = [str(number) for number in range(100)]
    store.set("warm", "k", b"1", ttl=None)
    store.delete("warm", "k")
    store.clear("warm")
    assert messages(lambda: store.set("ns", "k", b"1", ttl=60)) == 1
    assert messages(lambda: store.get("ns", "k")) == 1
    assert messages(lambda: store.get("ns", "absent")) == 1
    assert messages(lambda: store.set_many("ns", dict.fromkeys(many, b"1"), ttl=None)) == 1
    assert messages(lambda: store.get_many("ns", many)) == 1
    assert messages(lambda: store.delete_many("ns", many)) == 1
    assert messages(lambda: store.insert("ns", "new", b"1", ttl=60)) == 1
    found = store.read("ns", "new")
    assert found is not None
    assert messages(lambda: store.read("ns", "new")) == 1
    assert messages(lambda: store.replace("ns", "new", b"2", found[1], ttl=60)) == 1
    pool.disconnect()


def test_clear_spares_strangers(store: RedisStore, foreign: Any, prefix: str) -> None:
    """A key another program set, even one that looks like ours, survives clear."""
    foreign.set(f"{prefix}-bystander", b"theirs")
    foreign.set(f"{prefix}:bystander", b"theirs")
    store.set("ns", "k", b"1", ttl=None)
    store.clear("ns")
    assert store.get("ns", "k") is None
    assert foreign.get(f"{prefix}-bystander") == foreign.get(f"{prefix}:bystander") == b"theirs"


def test_clear_gives_memory_back(store: RedisStore, foreign: Any, prefix: str) -> None:
    """Cleared records without a ttl do not stay on the server, and one written again meanwhile does."""
    store.set_many("ns", {str(number): b"1" for number in range(1200)}, ttl=None)
    store.clear("ns")
    assert foreign.keys(f"{prefix}:*") == []


def test_interrupted_clear(store: RedisStore, foreign: Any, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a clear left behind when its process died is invisible, and later writes give it back."""
    store.set_many("ns", {str(number): b"old" for number in range(1200)}, ttl=None)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_bury", lambda *arguments: None)
        store.clear("ns")
        store.set("ns", "7", b"new", ttl=None)
        store.clear("ns")
        store.set("ns", "8", b"newer", ttl=None)
    assert len(foreign.keys(f"{prefix}:*:r:*")) == 1200
    assert list(store.keys("ns")) == ["8"]
    for _ in range(10):
        store.set("ns", "9", b"newest", ttl=None)
    assert sorted(store.keys("ns")) == ["8", "9"]
    assert store.get("ns", "8") == b"newer"
    assert len(foreign.keys(f"{prefix}:*:r:*")) == 2
    assert len(foreign.keys(f"{prefix}:*")) == 4, "two records, a generation and an index"


def test_evicted_generation(store: RedisStore, foreign: Any, prefix: str) -> None:
    """When the server forgets a generation nothing comes back to life, and what it held is given back."""
    store.set("ns", "before", b"1", ttl=None)
    foreign.delete(*foreign.keys(f"{prefix}:*:g"))
    assert store.get("ns", "before") is None
    assert list(store.keys("ns")) == []
    assert store.insert("ns", "after", b"2", ttl=None)
    assert store.get("ns", "before") is None
    assert list(store.keys("ns")) == ["after"]
    assert len(foreign.keys(f"{prefix}:*:r:*")) == 1


def test_index_does_not_grow(store: RedisStore, foreign: Any, prefix: str) -> None:
    """Keys whose records expired leave the index as others are written; nothing sweeps in the background."""
    store.set_many("ns", {f"short{number}": b"1" for number in range(100)}, ttl=0.001)
    end = time.monotonic() + 10
    while foreign.keys(f"{prefix}:*:r:*") and time.monotonic() < end:
        time.sleep(0.01)
    for number in range(40):
        store.set("ns", f"long{number}", b"1", ttl=600)
    assert foreign.zcard(foreign.keys(f"{prefix}:*:i")[0]) == 40


@pytest.mark.parametrize("ttl", [0.5, 1, 59.5, DAY, 30 * DAY, 31 * DAY, 365 * DAY, 3650 * DAY, 1e9 * DAY])
def test_every_ttl(store: RedisStore, clock: FakeClock, foreign: Any, prefix: str, ttl: float) -> None:
    """From half a second to ten years and beyond: exact for us, and Redis itself expires the record too."""
    store.set("ns", "k", b"1", ttl=ttl)
    left = foreign.pttl(foreign.keys(f"{prefix}:*:r:*")[0])
    assert left == -1 if ttl > 1e10 else ttl * 1000 - 10_000 < left <= ttl * 1000
    clock.advance(ttl * 0.999)
    assert store.get("ns", "k") == b"1"
    clock.advance(ttl * 0.001 + 0.001)
    assert store.get("ns", "k") is None
    assert store.read("ns", "k") is None


def test_foreign_bytes_are_a_miss(store: RedisStore, foreign: Any, prefix: str) -> None:
    """Whatever else stands under a record's name is absent, and can be written over."""
    store.set("ns", "k", b"1", ttl=None)
    name = foreign.keys(f"{prefix}:*:r:*")[0]
    for junk in (b"", b"x", b"0" * 40, b"0" * 100):
        foreign.set(name, junk)
        assert store.get("ns", "k") is None
        assert store.read("ns", "k") is None
        assert store.insert("ns", "k", b"2", ttl=None)
        assert store.get("ns", "k") == b"2"


def test_given_client(redis_server: RedisServer, prefix: str) -> None:
    """A client of the caller's is used and not closed; one that decodes responses is refused."""
    client = redis.Redis.from_url(redis_server.url)
    store = RedisStore("", prefix=prefix, client=client)
    store.set("ns", "k", b"1", ttl=None)
    store.close()
    assert store.get("ns", "k") == b"1"
    client.close()
    with pytest.raises(ConfigError, match="decodes"):
        RedisStore("", client=redis.Redis(decode_responses=True))


def test_a_url_in_unix(tmp_path: Path, prefix: str, redis_server: RedisServer) -> None:
    """A Unix socket with a database number works like a host."""
    # Not below tmp_path: the path of a socket has 107 bytes at most (unix(7)).
    with (
        tempfile.TemporaryDirectory(prefix="beaker") as short,
        running(start_redis(tmp_path, "--unixsocket", f"{short}/r.sock")),
    ):
        socket_path = f"{short}/r.sock"
        store = RedisStore(f"unix://{socket_path}?db=2", prefix=prefix)
        store.set("ns", "k", b"1", ttl=None)
        assert store.get("ns", "k") == b"1"
        store.close()
