"""A server that replies, but not to what was asked: a proxy, a server of another kind, one that lost its place."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from beaker.exceptions import StoreUnavailable
from beaker.storage.memcached import MemcachedStore
from beaker.storage.redis import RedisStore


class Replying:
    """A server on a loopback port that sends ``reply`` to each message, and +OK to redis-py's greeting."""

    def __init__(self, reply: bytes) -> None:
        self._reply = reply
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                greetings = data.count(b"\r\nCLIENT\r\n")
                connection.sendall(b"+OK\r\n" * greetings or self._reply)


VERSION = b"v" * 16
READS: dict[str, Callable[[Any], object]] = {
    "get": lambda store: store.get("ns", "k"),
    "get_many": lambda store: store.get_many("ns", ["a", "b", "c"]),
    "read": lambda store: store.read("ns", "k"),
    "get_across": lambda store: store.get_across([("a", "b"), ("c", "d")]),
}
WRITES: dict[str, Callable[[Any], object]] = {
    "set": lambda store: store.set("ns", "k", b"1", ttl=60),
    "set_many": lambda store: store.set_many("ns", {"a": b"1", "b": b"2"}, ttl=60),
    "delete": lambda store: store.delete("ns", "k"),
    "delete_many": lambda store: store.delete_many("ns", ["a", "b"]),
    "clear": lambda store: store.clear("ns"),
    "insert": lambda store: store.insert("ns", "k", b"1", ttl=60),
}
CONDITIONAL: dict[str, Callable[[Any], object]] = {
    "replace": lambda store: store.replace("ns", "k", b"1", VERSION, ttl=60),
    "remove": lambda store: store.remove("ns", "k", VERSION),
}
LOOKS: dict[str, Callable[[Any], object]] = {
    "keys": lambda store: list(store.keys("ns")),
    "contents": lambda store: list(store.contents(0.0)),
}


def redis(address: str) -> RedisStore:
    return RedisStore(f"redis://{address}/0")


def assert_unavailable(reply: bytes, build: Callable[[str], Any], calls: dict[str, Callable[[Any], object]]) -> None:
    server = Replying(reply)
    for call in calls.values():
        # Each has a store of its own, whose circuit is closed.
        store = build(server.address)
        with pytest.raises(StoreUnavailable) as raised:
            call(store)
        assert raised.value.code != "store.circuit-open"
        store.close()
    server.close()


@pytest.mark.parametrize(
    "reply",
    [
        b"$3\r\nabc\r\n",
        b"$-1\r\n",
        b"*0\r\n",
        b"*1\r\n$-1\r\n",
        b"*2\r\n:1\r\n:2\r\n",
        b"*2\r\n$40\r\n%b\r\n:7\r\n" % (b"g" * 40),
        b"*2\r\n$1\r\nabc$-1\r\n",
        b"*-1\r\n",
        b"+QUEUED\r\n",
    ],
)
def test_redis_of_another_form(reply: bytes) -> None:
    """A reply of another form than the command's is StoreUnavailable, in reads, writes and what operators ask."""
    assert_unavailable(reply, redis, {**READS, **WRITES, **CONDITIONAL, **LOOKS})


def test_redis_number_for_records() -> None:
    """A number in place of records is StoreUnavailable."""
    assert_unavailable(
        b":1\r\n",
        redis,
        {
            **READS,
            **LOOKS,
            "policy": lambda store: store.eviction_policy(),
            "persistence": lambda store: store.keeps_snapshots_only(),
        },
    )


@pytest.mark.parametrize(
    "reply",
    [
        b"STORED\r\nEND\r\n",
        b"NOT_STORED\r\nEND\r\n",
        b"EXISTS\r\nEND\r\n",
        b"OK\r\nEND\r\n",
        b"END\r\nEND\r\n",
    ],
)
def test_memcached_removal_that_is_none(reply: bytes) -> None:
    """What does not say that a record was removed, or not there, is StoreUnavailable for removals."""
    assert_unavailable(reply, MemcachedStore, {name: WRITES[name] for name in ("delete", "clear", "delete_many")})


@pytest.mark.parametrize(
    "reply",
    [b"END\r\nEND\r\n", b"VALUE k 0 3\r\nabcXYEND\r\n", b"VALUE k 0 3 7\r\nabcXYEND\r\n"],
)
def test_memcached_more_than_a_response(reply: bytes) -> None:
    """More than was asked for, or a value of another length, is StoreUnavailable: the connection lost its place."""
    assert_unavailable(reply, MemcachedStore, READS)


def test_memcached_limit_that_is_no_number() -> None:
    """A limit that the server does not name as a number is StoreUnavailable."""
    reply = b"STAT item_size_max abc\r\nSERVER_ERROR object too large for cache\r\nEND\r\n"
    assert_unavailable(reply, MemcachedStore, {"set": WRITES["set"]})
