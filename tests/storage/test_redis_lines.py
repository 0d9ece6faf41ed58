"""What RedisStore says to one server, and reads from it, on connections of redis-py's."""

from __future__ import annotations

import select
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from beaker.exceptions import StoreRefused, StoreUnavailable
from beaker.storage.deadline import BoundedSocket, is_readable
from beaker.storage.redis import RedisStore, line
from tests.servers import RedisServer


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisStore]:
    store = RedisStore(redis_server.url, prefix=f"t{uuid.uuid4().hex[:12]}")
    yield store
    store.close()


class Pieces:
    """A socket on which a reply comes in pieces of ``size`` bytes."""

    def __init__(self, data: bytes, size: int) -> None:
        self.data, self.size = data, size

    def recv(self, size: int) -> bytes:
        piece, self.data = self.data[: min(size, self.size)], self.data[min(size, self.size) :]
        return piece


REPLIES: list[tuple[bytes, Any]] = [
    (b":1\r\n", 1),
    (b"$-1\r\n", None),
    (b"$5\r\na\r\nb\r\r\n", b"a\r\nb\r"),
    (b"*0\r\n", []),
    (b"*3\r\n$1\r\na\r\n$-1\r\n$0\r\n\r\n", [b"a", None, b""]),
    (b"$70000\r\n%b\r\n" % (b"x" * 70_000), b"x" * 70_000),
]


@pytest.mark.parametrize(("data", "value"), REPLIES, ids=range(len(REPLIES)))
@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_replies_in_pieces(data: bytes, value: Any, size: int) -> None:
    """A reply means the same however the network cuts it."""
    assert line._reply(Pieces(data, size), 3) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        b":1\r\n:2\r\n",
        b"*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n",
        b"*-1\r\n",
        b"*1\r\n*1\r\n:1\r\n",
        b"*1\r\n-ERR in the middle\r\n",
        b"$600000000\r\n",
        b"$\r\n",
        b"\r\n",
        b"x" * 5000,
        b"HTTP/1.1 400 Bad Request\r\n",
    ],
)
def test_what_is_no_reply(data: bytes) -> None:
    """More than one reply, more than was asked for, a length no value has, or no reply of Redis's: an error."""
    with pytest.raises(ValueError):
        line._reply(Pieces(data, 10**6), 3)  # type: ignore[arg-type]


def test_one_message_each(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hit, a miss, a write and a conditional write are one message each on a connection that is kept."""
    sent: list[int] = []
    send = BoundedSocket.sendall

    def counted(sock: BoundedSocket, data: bytes) -> None:
        sent.append(len(data))
        send(sock, data)

    store.set("ns", "k", b"1", ttl=60)
    found = store.read("ns", "k")
    assert found is not None
    monkeypatch.setattr(BoundedSocket, "sendall", counted)
    calls: list[Callable[[], object]] = [
        lambda: store.get("ns", "k"),
        lambda: store.get("ns", "absent"),
        lambda: store.replace("ns", "k", b"2", found[1], ttl=60),
        lambda: store.set("ns", "k", b"3", ttl=60),
        lambda: store.insert("ns", "new", b"1", ttl=60),
        lambda: store.get_many("ns", ["k", "new"]),
    ]
    for number, call in enumerate(calls, 1):
        call()
        assert len(sent) == number
    assert store.get("ns", "k") == b"3"


def test_a_refusal_keeps_the_connection(store: RedisStore) -> None:
    """An error that the server replies with is read to its end: the next call uses the same connection."""
    store.get("ns", "k")
    assert store._lines is not None
    (kept,) = store._lines._idle
    with pytest.raises(StoreRefused, match="refused: ERR"):
        store._script("set", "return redis.error_reply('ERR on purpose')", ("k",), ())
    assert list(store._lines._idle) == [kept]
    assert not kept.hung_up()
    assert store.get("ns", "k") is None


def test_each_call_has_a_connection_of_its_own(store: RedisStore) -> None:
    """Eight threads at once never read each other's replies, and what they opened is kept."""
    store.set_many("ns", {str(number): b"%d" % number for number in range(8)}, ttl=60)
    wrong: list[int] = []
    start = threading.Barrier(8)

    def read(number: int) -> None:
        start.wait(10)
        wrong.extend(number for _ in range(200) if store.get("ns", str(number)) != b"%d" % number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    assert store._lines is not None
    assert 1 <= len(store._lines._idle) <= 8


class Cutting:
    """A server that knows the scripts' replies and hangs up in place of a reply, as often as ``cuts`` says."""

    def __init__(self) -> None:
        self.cuts = 0
        self.commands: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                for command in data.split(b"\r\n*"):
                    verb = command.split(b"\r\n")[2]
                    if verb == b"CLIENT":
                        connection.sendall(b"+OK\r\n")
                        continue
                    self.commands.append(verb)
                    if self.cuts:
                        self.cuts -= 1
                        return
                    connection.sendall(b"*2\r\n$-1\r\n$-1\r\n" if verb == b"MGET" else b":1\r\n")


@pytest.fixture
def cutting() -> Iterator[Cutting]:
    server = Cutting()
    yield server
    server.listener.close()


def test_what_breaks_in_flight_is_sent_again_only_if_it_may_be(cutting: Cutting) -> None:
    """Reads, ``set`` and ``delete`` are sent once more when the connection breaks, and no conditional write is."""
    store = RedisStore(cutting.url, timeout=5.0)
    version = b"v" * 16
    calls: list[tuple[bytes, int, Callable[[], object]]] = [
        (b"MGET", 2, lambda: store.get("ns", "k")),
        (b"EVALSHA", 2, lambda: store.set("ns", "k", b"1", ttl=60)),
        (b"EVALSHA", 2, lambda: store.delete("ns", "k")),
        (b"EVALSHA", 1, lambda: store.insert("ns", "k", b"1", ttl=60)),
        (b"EVALSHA", 1, lambda: store.replace("ns", "k", b"1", version, ttl=60)),
        (b"EVALSHA", 1, lambda: store.remove("ns", "k", version)),
    ]
    for verb, times, call in calls:
        store.get("ns", "warm")
        cutting.commands.clear()
        cutting.cuts = 1
        if times == 1:
            with pytest.raises(StoreUnavailable, match="hung up"):
                call()
        else:
            call()
        assert cutting.commands == [verb] * times
        cutting.cuts = 2
        with pytest.raises(StoreUnavailable, match="hung up"):
            call()
        cutting.cuts = 0
    store.close()


def test_a_conditional_write_uses_no_connection_that_broke_while_idle(
    redis_server: RedisServer, store: RedisStore
) -> None:
    """The server closed an idle connection: a write that may be sent once only is sent on another."""
    store.get("ns", "k")
    killer = store._connected()
    killer.client_kill_filter(_type="normal", skipme=True)
    assert store.insert("ns", "k", b"1", ttl=60)
    assert store.get("ns", "k") == b"1"


@pytest.mark.parametrize("has_poll", [True, False])
def test_whether_something_can_be_read(has_poll: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known at once, also where select has no poll(), as on Windows and under eventlet's patch."""
    if not has_poll:
        monkeypatch.delattr(select, "poll")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not is_readable(ours)
        theirs.send(b"x")
        assert is_readable(ours)
        assert ours.recv(1) == b"x"
        theirs.close()
        assert is_readable(ours)


def test_a_child_of_a_fork_has_none_of_them(store: RedisStore) -> None:
    """Connections belong to the process that opened them."""
    store.get("ns", "k")
    store._after_fork()
    assert store._lines is None
    assert store.get("ns", "k") is None


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        ("OOM command not allowed", StoreRefused, "refused: OutOfMemoryError"),
        ("READONLY You can't write", StoreRefused, "refused: ReadOnlyError"),
        ("NOPERM this user has no permissions", StoreRefused, "refused the user or the password"),
        ("NOAUTH Authentication required", StoreRefused, "refused the user or the password"),
        ("LOADING Redis is loading", StoreUnavailable, "BusyLoadingError"),
        ("WRONGTYPE Operation against a key", StoreRefused, "refused: WRONGTYPE"),
    ],
)
def test_errors_mean_what_they_mean_to_a_client(
    store: RedisStore, redis_server: RedisServer, reply: str, kind: type[StoreUnavailable], says: str
) -> None:
    """An error reply is the same error with the same message on one server as behind sentinels or in a cluster."""
    with redis.Redis.from_url(redis_server.url) as client:
        through_a_client = RedisStore("", client=client)
        for each in (store, through_a_client):
            with pytest.raises(kind, match=says) as caught:
                each._script("set", f'return redis.error_reply("{reply}")', ("k",), ())
            assert type(caught.value) is kind
