"""MemcachedStore when servers are several, down, slow, restarted, encrypted or small; and after a fork."""

from __future__ import annotations

import contextlib
import ssl
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from beaker.exceptions import StoreUnavailable, ValueTooLarge
from beaker.keys import digest
from beaker.storage.memcached import MemcachedStore
from beaker.storage.memcached.addresses import Ring
from beaker.testing import (
    FakeClock,
)
from beaker.testing.hooks import run_threads
from tests.servers import Server
from tests.storage.servers_apart import (
    counting_client,
    dead_port,
    frozen,
    make_certificate,
    messages,
    names_on,
    read_after_fork,
    running,
    start_memcached,
)

DAY = 86_400


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(memcached_server: Server, clock: FakeClock, prefix: str) -> Iterator[MemcachedStore]:
    store = MemcachedStore(memcached_server.address, clock=clock, prefix=prefix)
    yield store
    store.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def several(clock: FakeClock, prefix: str) -> Iterator[tuple[MemcachedStore, list[Server]]]:
    """A store on three servers, and them."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running(start_memcached())) for _ in range(3)]
        store = MemcachedStore(";".join(server.address for server in servers), clock=clock, prefix=prefix)
        stack.callback(store.close)
        yield store, servers


def test_one_round_trip_to_the_right_server(several: tuple[MemcachedStore, list[Server]], prefix: str) -> None:
    """With several servers a hit is still one message, because each keeps its own generation."""
    url = ";".join(server.address for server in several[1])
    store = MemcachedStore(url, prefix=prefix, client=counting_client)
    keys = [str(number) for number in range(60)]
    store.set_many("ns", dict.fromkeys(keys, b"1"), ttl=None)
    assert [messages(partial(store.get, "ns", key)) for key in keys] == [1] * len(keys)
    assert messages(lambda: store.get_many("ns", keys)) == 3
    store.close()


def test_several_servers(several: tuple[MemcachedStore, list[Server]], prefix: str) -> None:
    """Records are spread over all servers, and one clear empties the namespace on each."""
    store, servers = several
    items = {str(number): b"%d" % number for number in range(300)}
    store.set_many("ns", items, ttl=None)
    store.set("bystander", "k", b"1", ttl=None)
    assert store.get_many("ns", items) == items
    assert all(len(names_on(server, prefix)) > 50 for server in servers)
    store.clear("ns")
    assert store.get_many("ns", items) == {}
    assert store.get("bystander", "k") == b"1"


def test_one_of_several_is_down(several: tuple[MemcachedStore, list[Server]], prefix: str) -> None:
    """Keys of a server that is down fail by name and are never "absent"; the others work; its return is noticed."""
    store, servers = several
    items = {str(number): b"1" for number in range(60)}
    store.set_many("ns", items, ttl=None)
    servers[1].stop()
    down = 0
    for key in items:
        if store._locate("ns", key)[1].name != servers[1].address:
            assert store.get("ns", key) == b"1"
            continue
        down += 1
        with pytest.raises(StoreUnavailable, match=servers[1].address):
            store.get("ns", key)
    assert 5 < down < 55
    with pytest.raises(StoreUnavailable):
        store.clear("ns")
    servers[1].start()
    assert store.get_many("ns", items) == {}, "the two that were up were cleared, the third is empty"
    for key in items:
        store.set("ns", key, b"2", ttl=None)
    assert len(store.get_many("ns", items)) == 60


def test_restart(memcached_server: Server, store: MemcachedStore) -> None:
    """After a restart every operation works at its first call, whichever it is and however many sockets died."""

    def read_often(index: int) -> None:
        for _ in range(20):
            store.get("ns", "k")

    operations: list[Callable[[], object]] = [
        lambda: store.get("ns", "k"),
        lambda: store.set("ns", "k", b"1", ttl=60),
        lambda: store.insert("ns", "new", b"1", ttl=60),
        lambda: store.read("ns", "k"),
        lambda: store.replace("ns", "k", b"1", version, ttl=60),
        lambda: store.remove("ns", "k", version),
        lambda: store.delete("ns", "k"),
        lambda: store.clear("ns"),
        lambda: store.get_many("ns", ["k"]),
    ]
    for operation in operations:
        store.set("ns", "k", b"1", ttl=60)
        found = store.read("ns", "k")
        assert found is not None
        version = found[1]
        run_threads(4, read_often)
        memcached_server.stop(kill=True)
        memcached_server.start()
        operation()


def test_server_is_down(memcached_server: Server, store: MemcachedStore) -> None:
    """While the server is down every operation says so by name; the first one tried after its return works."""
    store.set("ns", "k", b"1", ttl=60)
    memcached_server.stop()
    for operation in (
        lambda: store.get("ns", "k"),
        lambda: store.set("ns", "k", b"1", ttl=60),
        lambda: store.insert("ns", "k", b"1", ttl=60),
        lambda: store.delete("ns", "k"),
        lambda: store.clear("ns"),
        lambda: store.get_many("ns", ["k"]),
    ):
        with pytest.raises(StoreUnavailable, match=f"memcached .*{memcached_server.address}"):
            operation()
    memcached_server.start()
    assert store.get("ns", "k") is None
    store.set("ns", "k", b"2", ttl=60)
    assert store.get("ns", "k") == b"2"


def test_server_hangs(memcached_server: Server, prefix: str) -> None:
    """A server that accepts and says nothing is unavailable after the timeout, and its late response is never read."""
    store = MemcachedStore(memcached_server.address, timeout=0.2, prefix=prefix)
    store.set("ns", "k", b"1", ttl=60)
    store.set("ns", "other", b"2", ttl=60)
    with frozen(memcached_server), pytest.raises(StoreUnavailable, match="did not answer in time"):
        store.get("ns", "k")
    assert store.get("ns", "other") == b"2"
    store.close()


def test_nothing_is_connected_before_use() -> None:
    """A store for a server that is not there is built without complaint, and fails by name when used."""
    port = dead_port()
    store = MemcachedStore(f"127.0.0.1:{port}")
    with pytest.raises(StoreUnavailable, match=f"memcached get: 127.0.0.1:{port} refused the connection"):
        store.get("ns", "k")


def test_not_a_memcached(redis_server: Server) -> None:
    """Another kind of server is an error that names it, not a miss."""
    store = MemcachedStore(redis_server.address, timeout=0.3)
    with pytest.raises(StoreUnavailable, match=redis_server.address):
        store.get("ns", "k")
    with pytest.raises(StoreUnavailable, match=redis_server.address) as caught:
        store.set("ns", "k", b"secret value", ttl=None)
    assert "secret" not in str(caught.value)


def test_fork_after_use(memcached_server: Server, prefix: str) -> None:
    """A parent and two children that inherited used connections read 4,500 own values and no other's."""
    expected = "0 [0, 0] ['child1', 'child2', 'parent']"
    assert read_after_fork("memcached", memcached_server.address, prefix) == expected


def test_tls(tmp_path: Path, prefix: str) -> None:
    """With a context the connection is encrypted and the certificate checked; without trust in it nothing is sent."""
    certificate, key = make_certificate(tmp_path)
    options = ["-Z", "-o", f"ssl_chain_cert={certificate},ssl_key={key}"]
    with running(start_memcached(*options)) as server:
        store = MemcachedStore(server.address, tls=ssl.create_default_context(cafile=certificate), prefix=prefix)
        store.set("ns", "k", b"1", ttl=None)
        assert store.get("ns", "k") == b"1"
        assert store.insert("ns", "new", b"1", ttl=None) is True
        store.close()
        untrusting = MemcachedStore(server.address, tls=True, prefix=prefix)
        with pytest.raises(StoreUnavailable, match="SSL"):
            untrusting.get("ns", "k")


def test_adding_a_server_moves_its_share_only() -> None:
    """Consistent hashing: a fourth server takes about a quarter of the records and moves no others."""
    before = Ring({name: name for name in "abc"})
    after = Ring({name: name for name in "abcd"})
    digests = [digest("ns", str(number)) for number in range(2000)]
    moved = [(before.owner(d), after.owner(d)) for d in digests if before.owner(d) != after.owner(d)]
    assert {to for _, to in moved} == {"d"}
    assert 300 < len(moved) < 700


def test_smaller_item_limit(clock: FakeClock, prefix: str) -> None:
    """A value over the server's own limit is an error that names the limit, in every operation that writes."""
    with running(start_memcached("-I", "512k")) as server:
        store = MemcachedStore(server.address, clock=clock, prefix=prefix)
        store.set("ns", "k", b"1", ttl=None)
        found = store.read("ns", "k")
        assert found is not None
        too_large = bytes(600_000)
        for operation in (
            lambda: store.set("ns", "k2", too_large, ttl=None),
            lambda: store.set_many("ns", {"k3": b"1", "k4": too_large, "k5": b"1"}, ttl=None),
            lambda: store.insert("ns", "k6", too_large, ttl=None),
        ):
            with pytest.raises(ValueTooLarge) as caught:
                operation()
            assert (caught.value.size, caught.value.limit) == (600_000, 524_288)
        store.set("ns", "k", b"2", ttl=None)
        assert store.get("ns", "k") == b"2"
        store.close()
