"""MemcachedStore keeps the contracts of a store on a real memcached."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pymemcache.client.base import Client

from beaker.exceptions import ConfigError, InvalidCacheBackendError, StoreUnavailable
from beaker.storage.memcached import MemcachedStore
from beaker.storage.memcached.addresses import parse_servers
from beaker.testing import (
    BulkContract,
    FakeClock,
    ProcessContract,
    SharedContract,
    StoreContract,
    VersionedContract,
)
from tests.servers import Server
from tests.storage.servers_apart import (
    counting_client,
    messages,
    metadump,
    names_on,
)

DAY = 86_400


def build(url: str, prefix: str) -> MemcachedStore:
    """For child processes."""
    return MemcachedStore(url, prefix=prefix)


class TestContract(StoreContract, VersionedContract, BulkContract, SharedContract, ProcessContract):
    """One server."""

    processes = 4
    process_rounds = 50

    def url(self, server: Server) -> str:
        return server.address

    @pytest.fixture
    def store(self, clock: FakeClock, memcached_server: Server) -> Iterator[MemcachedStore]:
        self.server = memcached_server
        self.prefix = f"t{uuid.uuid4().hex[:12]}"
        self.clock_in_use = clock
        store = MemcachedStore(self.url(memcached_server), clock=clock, prefix=self.prefix)
        yield store
        store.close()

    def second_store(self, store: Any) -> MemcachedStore:
        return MemcachedStore(self.url(self.server), clock=self.clock_in_use, prefix=self.prefix)

    def process_factory(self, store: Any) -> tuple[Any, tuple[Any, ...]]:
        return build, (self.url(self.server), self.prefix)

    def footprint(self, store: Any) -> int:
        return len(names_on(self.server, self.prefix))


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
def foreign(memcached_server: Server) -> Iterator[Any]:
    """Another program's client on the same server."""
    client = Client(memcached_server.address, timeout=5, default_noreply=False)
    yield client
    client.close()


def test_one_round_trip(memcached_server: Server, prefix: str) -> None:
    """A hit, a miss and an acknowledged write in a namespace this process has written to are one message each."""
    store = MemcachedStore(memcached_server.address, prefix=prefix, client=counting_client)
    store.set("ns", "first", b"1", ttl=60)
    assert messages(lambda: store.set("ns", "k", b"1", ttl=60)) == 1
    assert messages(lambda: store.get("ns", "k")) == 1
    assert messages(lambda: store.get("ns", "absent")) == 1
    assert messages(lambda: store.get("other", "absent")) == 1
    assert messages(lambda: store.get_many("ns", [str(n) for n in range(100)])) == 1
    assert messages(lambda: store.set_many("ns", {str(n): b"1" for n in range(100)}, ttl=None)) == 1
    assert messages(lambda: store.delete_many("ns", [str(n) for n in range(100)])) == 1
    assert messages(lambda: store.insert("ns", "new", b"1", ttl=60)) == 1
    found = store.read("ns", "new")
    assert found is not None
    assert messages(lambda: store.read("ns", "new")) == 1
    assert messages(lambda: store.replace("ns", "new", b"2", found[1], ttl=60)) == 1
    assert messages(lambda: store.clear("ns")) == 1
    store.close()


def test_clear_spares_strangers(store: MemcachedStore, foreign: Any, prefix: str) -> None:
    """A key another program set, even one that looks like ours, survives clear."""
    foreign.set(f"{prefix}-bystander", b"theirs")
    foreign.set("bystander", b"theirs")
    store.set("ns", "k", b"1", ttl=None)
    store.clear("ns")
    assert store.get("ns", "k") is None
    assert foreign.get(f"{prefix}-bystander") == foreign.get("bystander") == b"theirs"


def test_evicted_generation(store: MemcachedStore, foreign: Any, prefix: str, memcached_server: Server) -> None:
    """When the server forgets a generation, cleared values stay cleared and the namespace works at once."""
    store.set("ns", "before", b"1", ttl=None)
    store.clear("ns")
    store.set("ns", "after", b"2", ttl=None)
    generations = [name for name in names_on(memcached_server, prefix) if ":g:" in name]
    assert len(generations) == 1
    foreign.delete(generations[0])
    assert store.get("ns", "before") is None
    assert store.get("ns", "after") is None
    assert store.insert("ns", "after", b"3", ttl=None) is True
    assert store.get("ns", "after") == b"3"
    assert store.get("ns", "before") is None


def test_write_beside_a_clear_elsewhere(
    store: MemcachedStore, memcached_server: Server, clock: FakeClock, prefix: str
) -> None:
    """A process unaware of a clear elsewhere still writes records all see; versions from before it are void."""
    other = MemcachedStore(memcached_server.address, clock=clock, prefix=prefix)
    store.set("ns", "k", b"1", ttl=None)
    found = store.read("ns", "k")
    assert found is not None
    other.clear("ns")
    assert store.replace("ns", "k", b"stale", found[1], ttl=None) is False
    assert other.get("ns", "k") is None
    assert store.insert("ns", "lease", b"mine", ttl=None) is True
    assert other.insert("ns", "lease", b"theirs", ttl=None) is False
    other.clear("ns")
    store.set("ns", "k", b"2", ttl=None)
    assert other.get("ns", "k") == b"2"
    other.close()


def test_the_second_round_of_a_write_has_what_the_first_has_left(
    store: MemcachedStore, memcached_server: Server, clock: FakeClock, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that finds the namespace cleared elsewhere ends by the call's timeout, counted from its first round."""
    other = MemcachedStore(memcached_server.address, clock=clock, prefix=prefix)
    store.set("ns", "k", b"1", ttl=None)
    other.clear("ns")
    other.close()
    times = iter((0.0, 1000.0))
    monkeypatch.setattr("beaker.storage.memcached.store.monotonic", lambda: next(times))
    with pytest.raises(StoreUnavailable, match="in time"):
        store.set("ns", "k", b"2", ttl=None)
    monkeypatch.undo()
    store.set("ns", "k", b"3", ttl=None)
    assert store.get("ns", "k") == b"3"


@pytest.mark.parametrize(
    "ttl", [0.2, 1, 59.5, DAY, 30 * DAY - 1, 30 * DAY, 30 * DAY + 1, 31 * DAY, 365 * DAY, 3650 * DAY, 1e9 * DAY]
)
def test_every_ttl(
    store: MemcachedStore, clock: FakeClock, memcached_server: Server, foreign: Any, prefix: str, ttl: float
) -> None:
    """From a fifth of a second to ten years and beyond: exact for us, and never earlier on the server."""
    # Its own clock, which may be behind.
    began = int(foreign.stats()[b"time"])
    store.set("ns", "k", b"1", ttl=ttl)
    server_says = next(line for line in metadump(memcached_server, prefix) if ":r:" in line)
    ends = int(dict(word.split("=") for word in server_says.split())["exp"])
    assert ends == -1 if ttl > 3650 * DAY else began + ttl <= ends + 1 <= time.time() + ttl + 90
    clock.advance(ttl * 0.999)
    assert store.get("ns", "k") == b"1"
    clock.advance(ttl * 0.001 + 0.001)
    assert store.get("ns", "k") is None
    assert store.read("ns", "k") is None


def test_foreign_bytes_are_a_miss(store: MemcachedStore, foreign: Any, prefix: str, memcached_server: Server) -> None:
    """Whatever else stands under a record's name is absent, and can be written over."""
    store.set("ns", "k", b"1", ttl=None)
    name = next(n for n in names_on(memcached_server, prefix) if ":r:" in n)
    for junk in (b"", b"x", b"END\r\n", b"0" * 24, b"0" * 100):
        foreign.set(name, junk)
        assert store.get("ns", "k") is None
        assert store.read("ns", "k") is None
        assert store.insert("ns", "k", b"2", ttl=None) is True
        assert store.get("ns", "k") == b"2"


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", "names no server"),
        (" ; ", "names no server"),
        ("host:eleven", "port is not a number"),
        ("host:0", "port is not a number"),
        ("a:1;b:99999", "server 2 of 2: the port"),
        ("user:hunter2@host:11211", "user or a password"),
        ("memcached://host", "scheme"),
        ("a:1,b:2", "separated by ';'"),
        ("a:1 b:2", "separated by ';'"),
        (":11211", "host is missing"),
        ("::1", "square brackets"),
        ("host:1/0", "path"),
        ("unix:relative", "not absolute"),
        ("a:1;a:1", "named twice"),
    ],
)
def test_bad_url(url: str, fault: str) -> None:
    """A wrong url is refused when the store is built, says what is wrong, and is not repeated."""
    with pytest.raises(ConfigError, match=fault) as caught:
        MemcachedStore(url)
    assert caught.value.option == "url"
    assert "hunter2" not in str(caught.value)


def test_good_urls() -> None:
    """Host names, IPv4, IPv6 and sockets, with and without a port."""
    assert parse_servers("a; b:1;[::1]:2;[::1];unix:/run/m.sock;unix:///m;/n;") == [
        ("a", 11211), ("b", 1), ("::1", 2), ("::1", 11211), "/run/m.sock", "/m", "/n",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"connect_timeout": -1}, {"max_value": 0}, {"pool_size": 0}, {"prefix": "a b"}]
)
def test_bad_options(options: dict[str, Any]) -> None:
    """A number or prefix that cannot work is refused by name."""
    with pytest.raises(ConfigError) as caught:
        MemcachedStore("host", **options)
    assert caught.value.option in options


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pymemcache the error names the extra to install."""
    monkeypatch.setitem(sys.modules, "pymemcache.client.base", None)
    with pytest.raises(InvalidCacheBackendError, match=r"beaker-gae\[memcached\]"):
        MemcachedStore("host")
