"""RedisStore when the server is down, slow, restarted, encrypted, guarded or moved; after a fork; and its urls."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from beaker.exceptions import ConfigError, InvalidCacheBackendError, StoreRefused, StoreUnavailable
from beaker.storage.redis import RedisStore
from beaker.storage.redis.client import parse_url
from beaker.testing.hooks import run_threads
from tests.faults.proxy import proxy_to
from tests.servers import RedisServer
from tests.storage.servers_apart import (
    dead_port,
    frozen,
    make_certificate,
    read_after_fork,
    running,
    start_redis,
)


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(redis_server: RedisServer, prefix: str) -> Iterator[RedisStore]:
    store = RedisStore(redis_server.url, prefix=prefix)
    yield store
    store.close()


def test_restart(redis_server: RedisServer, store: RedisStore) -> None:
    """After a restart every operation works at its first call, though it forgot the scripts and sockets died."""

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
        lambda: list(store.keys("ns")),
    ]
    for operation in operations:
        store.set("ns", "k", b"1", ttl=60)
        found = store.read("ns", "k")
        assert found is not None
        version = found[1]
        run_threads(4, read_often)
        redis_server.stop(kill=True)
        redis_server.start()
        operation()


def test_server_is_down(redis_server: RedisServer, store: RedisStore) -> None:
    """While the server is down every operation says so by name; the first one tried after its return works."""
    store.set("ns", "k", b"1", ttl=60)
    redis_server.stop(kill=True)
    operations: list[Callable[[], object]] = [
        lambda: store.get("ns", "k"),
        lambda: store.set("ns", "k", b"1", ttl=60),
        lambda: store.insert("ns", "k", b"1", ttl=60),
        lambda: store.delete("ns", "k"),
        lambda: store.clear("ns"),
        lambda: store.get_many("ns", ["k"]),
        lambda: list(store.keys("ns")),
    ]
    for operation in operations:
        with pytest.raises(StoreUnavailable, match=f"redis .*{redis_server.address}"):
            operation()
    redis_server.start()
    assert store.get("ns", "k") is None
    store.set("ns", "k", b"2", ttl=60)
    assert store.get("ns", "k") == b"2"


def test_server_hangs(redis_server: RedisServer, prefix: str) -> None:
    """A server that accepts and says nothing is unavailable after the timeout, and its late response is never read."""
    store = RedisStore(redis_server.url, timeout=0.2, prefix=prefix)
    store.set("ns", "k", b"1", ttl=60)
    store.set("ns", "other", b"2", ttl=60)
    with frozen(redis_server), pytest.raises(StoreUnavailable, match="did not answer in time"):
        store.get("ns", "k")
    assert store.get("ns", "other") == b"2"
    store.close()


@pytest.mark.parametrize("kind", ["redis://{0}", "redis+cluster://{0}", "redis+sentinel://{0}/main"])
def test_nothing_is_connected_before_use(kind: str) -> None:
    """A store for servers that are not there is built without complaint; used, it names them and no password."""
    address = f"127.0.0.1:{dead_port()}"
    store = RedisStore(kind.format(f"me:hunter2@{address}"))
    with pytest.raises(StoreUnavailable, match=f"redis get: .*{address}") as caught:
        store.get("ns", "k")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(store._place)


def test_not_a_redis(memcached_server: Any) -> None:
    """Another kind of server is an error that names it, not a miss."""
    store = RedisStore(f"redis://{memcached_server.address}", timeout=0.3)
    with pytest.raises(StoreUnavailable, match=memcached_server.address):
        store.get("ns", "k")


def test_fork_after_use(redis_server: RedisServer, prefix: str) -> None:
    """A parent and two children that inherited used connections read 4,500 own values and no other's."""
    assert read_after_fork("redis", redis_server.url, prefix) == "0 [0, 0] ['child1', 'child2', 'parent']"


def test_fork_while_connecting(redis_server: RedisServer, prefix: str) -> None:
    """A child forked while another thread opened the connection is not left waiting for that thread."""
    script = """
import os, sys
from beaker.storage.redis import RedisStore
store = RedisStore(sys.argv[1], prefix=sys.argv[2])
with store._lock:
    pid = os.fork()
    if pid == 0:
        store.set("ns", "k", b"1", ttl=None)
        os._exit(0)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    command = [sys.executable, "-W", "error", "-c", script, redis_server.url, prefix]
    assert subprocess.run(command, timeout=30, check=False).returncode == 0


def test_broken_connection(redis_server: RedisServer, prefix: str) -> None:
    """What may run twice is tried again on a broken connection; a conditional write is not, and says so."""

    class Breaking(redis.Redis):
        breaks = 0

        def execute_command(self, *arguments: Any, **options: Any) -> Any:
            if Breaking.breaks:
                Breaking.breaks -= 1
                raise redis.exceptions.ConnectionError("gone")
            return super().execute_command(*arguments, **options)

    client = Breaking(host=redis_server.host, port=redis_server.port)
    store = RedisStore("", prefix=prefix, client=client)
    for repeatable in (
        lambda: store.set("ns", "k", b"1", ttl=None),
        lambda: store.get("ns", "k"),
        lambda: store.delete("ns", "k"),
        lambda: store.clear("ns"),
    ):
        Breaking.breaks = 1
        repeatable()
        Breaking.breaks = 2
        with pytest.raises(StoreUnavailable):
            repeatable()
    Breaking.breaks = 1
    with pytest.raises(StoreUnavailable):
        store.insert("ns", "k", b"1", ttl=None)
    assert Breaking.breaks == 0
    assert store.get("ns", "k") is None
    client.close()


def test_password(tmp_path: Path, prefix: str, redis_server: RedisServer) -> None:
    """The url's password opens a guarded server; a wrong one is said to be wrong and not repeated."""
    with running(start_redis(tmp_path, "--requirepass", "s3cret/with:odd@signs")) as server:
        store = RedisStore(f"redis://:s3cret%2Fwith%3Aodd%40signs@{server.address}", prefix=prefix)
        store.set("ns", "k", b"1", ttl=None)
        assert store.get("ns", "k") == b"1"
        store.close()
        for login in ("", ":hunter2@"):
            stranger = RedisStore(f"redis://{login}{server.address}", prefix=prefix)
            with pytest.raises(StoreUnavailable, match="refused the user or the password") as caught:
                stranger.get("ns", "k")
            assert "hunter2" not in str(caught.value)
            stranger.close()


def test_full_server(tmp_path: Path, prefix: str, redis_server: RedisServer) -> None:
    """A server that is out of memory refuses by name, and what it holds can still be read and cleared."""
    with running(start_redis(tmp_path)) as server:
        store = RedisStore(f"redis://{server.address}", prefix=prefix)
        store.set("ns", "k", b"1", ttl=None)
        store._connected().config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailable, match="refused: "):
            store.set("ns", "k", b"2", ttl=None)
        assert store.get("ns", "k") == b"1"
        store.delete("ns", "k")
        store.clear("ns")
        assert store.get("ns", "k") is None
        store.close()


def test_tls(tmp_path: Path, prefix: str, redis_server: RedisServer) -> None:
    """rediss:// encrypts and checks the certificate; without trust in it nothing is sent."""
    certificate, key = make_certificate(tmp_path)
    options = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", certificate]
    port = dead_port()
    with running(start_redis(tmp_path, "--tls-port", str(port), "--tls-auth-clients", "no", *options)):
        store = RedisStore(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}", prefix=prefix)
        store.set("ns", "k", b"1", ttl=None)
        assert store.get("ns", "k") == b"1"
        store.close()
        untrusting = RedisStore(f"rediss://127.0.0.1:{port}", prefix=prefix)
        with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
            untrusting.get("ns", "k")


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("", "no scheme"),
        ("localhost:6379", "no scheme"),
        ("http://host", "no scheme that is known"),
        ("redis://", "host is missing"),
        ("redis://host:eleven", "port is not a number"),
        ("redis://host:99999", "port is not a number"),
        ("redis://hunter2@host", "before '@'"),
        ("redis://me:hunter2@host/zero", "database is not a number"),
        ("redis://host/0/1", "database is not a number"),
        ("redis://a,b", "several hosts"),
        ("redis://host?hunter2=1", "query holds an option"),
        ("redis://host?db=x", "option db cannot be read"),
        ("redis://[::1", "brackets do not match"),
        ("redis+sentinel://a:1,b:2", "service"),
        ("redis+cluster://a:1/3", "only database 0"),
        ("unix://relative", "not absolute"),
    ],
)
def test_bad_url(url: str, fault: str) -> None:
    """A wrong url is refused when the store is built, says what is wrong, and is not repeated."""
    with pytest.raises(ConfigError, match=fault) as caught:
        RedisStore(url)
    assert caught.value.option == "url"
    assert "hunter2" not in str(caught.value)


def test_good_urls() -> None:
    """Every kind of url is read as redis-py's users write it."""
    place = parse_url("rediss+sentinel://me:p%40ss@a:1,[::1],c/main/2?sentinel_password=w&ssl_check_hostname=no")
    assert (place.kind, place.tls, place.service, place.db) == ("sentinel", True, "main", 2)
    assert place.nodes == (("a", 1), ("::1", 26379), ("c", 26379))
    assert (place.username, place.password) == ("me", "p@ss")
    assert place.options == {"sentinel_password": "w", "ssl_check_hostname": False}
    assert parse_url("redis://host").nodes == (("host", 6379),)
    assert parse_url("redis://host?db=3").db == 3
    assert parse_url("redis://:pw@host:1/4").password == "pw"
    assert parse_url("redis+cluster://a,b:2").nodes == (("a", 6379), ("b", 2))
    assert parse_url("unix:///run/redis.sock?db=1").path == "/run/redis.sock"


@pytest.mark.parametrize("options", [{"timeout": 0}, {"connect_timeout": -1}, {"max_value": 0}, {"prefix": "a{b"}])
def test_bad_options(options: dict[str, Any]) -> None:
    """A number or prefix that cannot work is refused by name."""
    with pytest.raises(ConfigError) as caught:
        RedisStore("redis://host", **options)
    assert caught.value.option in options


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without redis-py the error names the extra to install."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(InvalidCacheBackendError, match=r"beaker-gae\[redis\]"):
        RedisStore("redis://host")


def test_an_address_that_leads_to_another_server_after_a_failover(
    tmp_path: Path, prefix: str, redis_server: RedisServer
) -> None:
    """Connections to a server that was demoted are given up at the first write, which goes where the address leads."""
    writes: list[Callable[[RedisStore], object]] = [
        lambda store: store.set("ns", "k", b"2", ttl=None),
        lambda store: store.insert("ns", "k", b"2", ttl=None),
        lambda store: store.set_many("ns", {"k": b"2"}, ttl=None),
    ]
    (tmp_path / "next").mkdir()
    with (
        running(start_redis(tmp_path)) as first,
        running(start_redis(tmp_path / "next")) as second,
        proxy_to(first.host, first.port) as proxy,
        redis.Redis(port=first.port) as admin,
    ):
        stores = [RedisStore(f"redis://{proxy.address}", prefix=f"{prefix}{n}") for n, _ in enumerate(writes)]
        for store in stores:
            assert store.get("ns", "k") is None
        admin.replicaof(second.host, str(second.port))
        proxy.target = (second.host, second.port)
        for store, write in zip(stores, writes, strict=True):
            write(store)
            assert store.get("ns", "k") == b"2"
            store.close()


def test_a_server_that_stays_read_only_refuses(tmp_path: Path, prefix: str, redis_server: RedisServer) -> None:
    """A replica is not asked for ever, and says what it is."""
    with running(start_redis(tmp_path, "--replicaof", redis_server.host, str(redis_server.port))) as replica:
        store = RedisStore(f"redis://{replica.address}", prefix=prefix)
        for _ in range(2):
            with pytest.raises(StoreRefused, match="ReadOnlyError"):
                store.set("ns", "k", b"1", ttl=None)
            assert store.get("ns", "k") is None
        store.close()
