"""One memcached server: its idle connections, the generations it has, and what its failures mean.

Why not pymemcache's own pool and HashClient: after a restart the pool hands out one dead socket after
another, and HashClient returns "absent" for a server it has marked as failing, which no store may do.
"""

from __future__ import annotations

import re
import socket
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from beaker.exceptions import StoreRefused, StoreUnavailable, ValueTooLarge
from beaker.storage.breaker import Breaker
from beaker.storage.deadline import BoundedSocket, is_readable, within
from beaker.storage.deadline import left as deadline_left
from beaker.storage.generations import STAMP, new_stamp
from beaker.storage.memcached.addresses import Address, Connect, address_name

__all__ = ["BACKEND", "Server"]

BACKEND = "memcached"

_KNOWN = 1024
_PIECE = 2**20
_LARGEST_ITEM = 2**30
"""Bytes; memcached's own upper bound of item_size_max."""
_LONGEST_LINE = 2048
_COMMANDS = 8
"""Lines a reply may have beside one for each line that was sent."""
_WRITES = frozenset({b"STORED", b"NOT_STORED", b"EXISTS", b"NOT_FOUND"})
_REMOVALS = frozenset({b"DELETED", b"NOT_FOUND"})
"""What is replied to a write and to a removal; anything else means neither that it was done nor that it was not."""

_PLAIN = re.compile(rb"VALUE (\S+) \d+ (\d+)\r\n")
_VERSIONED = re.compile(rb"VALUE (\S+) \d+ (\d+) (\d+)\r\n")

T = TypeVar("T")


class Server:
    """Runs work on a connection of one server; every failure becomes ``StoreUnavailable``.

    Connections are not shared: each belongs to one call at a time, ``idle`` of them are kept, and
    a child process begins with none. Work that may run twice is run again once, on a new connection,
    when a kept one turns out to be broken: a restarted server costs no error.
    """

    def __init__(self, address: Address, connect: Connect, idle: int, timeout: float) -> None:
        self._idle: deque[Any] = deque()
        from pymemcache.exceptions import MemcacheError, MemcacheUnexpectedCloseError

        self.address = address
        self.name = address_name(address)
        self._connect = connect
        self._limit = idle
        self._timeout = timeout
        self.breaker = Breaker(BACKEND, self.name)
        self._broken = (OSError, MemcacheUnexpectedCloseError)
        self._nonsense = (MemcacheError, ValueError, IndexError, OverflowError, MemoryError)
        self._known: dict[bytes, bytes] = {}

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close what is idle. The next call connects anew."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def _run(self, operation: str, work: Callable[[Any], T], *, repeatable: bool = True) -> T:
        """The result of ``work(client)``, which leaves nothing unread."""
        with within(self._timeout) as deadline, self.breaker(operation):
            return self._run_within(deadline, operation, work, repeatable)

    def _run_within(self, deadline: within, operation: str, work: Callable[[Any], T], repeatable: bool) -> T:
        try:
            client = self._idle.pop()
        except IndexError:
            client = self._connect(self.address)
        if not repeatable and client.sock is not None and is_readable(client.sock):
            client.close()
        while True:
            kept = client.sock is not None
            try:
                result = work(client)
            except self._broken as err:
                client.close()
                if not (kept and repeatable) or isinstance(err, TimeoutError) or deadline.left() <= 0:
                    raise StoreUnavailable(f"{self.name} {_reason(err)}", backend=BACKEND, operation=operation) from err
                # The other connections have been idle for longer and are as dead.
                self.close()
                client = self._connect(self.address)
            except self._nonsense as err:
                client.close()
                raise StoreUnavailable(
                    f"{self.name} did not answer as a memcached does ({type(err).__name__})",
                    backend=BACKEND,
                    operation=operation,
                ) from err
            except BaseException:
                # Half a response may still be on its way: no other call may read it as its own.
                client.close()
                raise
            else:
                if len(self._idle) < self._limit:
                    self._idle.append(client)
                else:
                    client.close()
                return result

    def fetch(self, operation: str, names: Sequence[bytes]) -> dict[bytes, bytes]:
        """What is under the names, by one ``get``."""
        return self._run(operation, partial(_values, b"get %b\r\n" % b" ".join(names)))

    def fetch_versions(self, operation: str, names: Sequence[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
        """What is under the names, and the versions ``cas`` takes, by one ``gets``."""
        return self._run(operation, partial(_values, b"gets %b\r\n" % b" ".join(names)))

    def write(
        self,
        operation: str,
        commands: Sequence[bytes],
        generation_key: bytes,
        *,
        repeatable: bool = True,
        size: int = 0,
        limit: int = 0,
    ) -> tuple[list[bytes], bytes | None]:
        """Send ``commands`` and a ``get`` of the generation at once: their responses, and it (or ``None``).

        ``ValueTooLarge(size, ...)`` when the server's limit is below ours; ``limit`` is what to name if it
        does not say. A generation is hex digits, so that the line ``END`` can only be the end.
        """
        message = b"%bget %b\r\n" % (b"".join(commands), generation_key)
        reply = self._run(operation, partial(_exchange, message), repeatable=repeatable)
        known = self._known.get(generation_key)
        if size and known is not None and reply == _stored(len(commands), generation_key, known):
            # What nearly every write is replied to; only what stores something has a size.
            return [b"STORED"] * len(commands), known
        lines: list[bytes] = reply.split(b"\r\n")[:-2]
        generation = None
        if len(lines) >= 2 and lines[-2].startswith(b"VALUE "):
            generation = lines[-1] if len(lines[-1]) == STAMP else None
            del lines[-2:]
        for line in lines:
            if line.startswith((b"SERVER_ERROR", b"CLIENT_ERROR", b"ERROR")):
                if b"too large" in line:
                    raise ValueTooLarge(
                        size, self._item_limit(operation) or limit, backend=BACKEND, operation=operation
                    )
                raise self._refusal(operation, line)
        if len(lines) != len(commands):
            raise StoreUnavailable(
                f"{self.name} replied to {len(commands)} commands with {len(lines)} lines",
                backend=BACKEND,
                operation=operation,
            )
        for command, line in zip(commands, lines, strict=True):
            if line not in (_REMOVALS if command.startswith(b"delete ") else _WRITES):
                raise StoreUnavailable(
                    f"{self.name} did not say what became of a record", backend=BACKEND, operation=operation
                )
        return lines, generation

    def known_generation(self, key: bytes) -> bytes | None:
        """The generation this process saw last; a guess, which each write checks in its own round trip."""
        return self._known.get(key)

    def learn(self, operation: str, key: bytes, generation: bytes | None) -> bytes:
        """Keep a generation that was in force just now; when there is none, create one."""
        if generation is None:
            command = b"add %b 0 0 %d\r\n%b\r\n" % (key, STAMP, new_stamp())
            generation = self.write(operation, (command,), key)[1]
            if generation is None:
                raise StoreUnavailable(
                    f"{self.name} does not keep a namespace's generation", backend=BACKEND, operation=operation
                )
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[key] = generation
        return generation

    def _item_limit(self, operation: str) -> int:
        return self._run(operation, lambda client: int(client.stats("settings").get(b"item_size_max", 0)))

    def _refusal(self, operation: str, line: bytes) -> StoreUnavailable:
        said = line.split(b"\r\n", 1)[0][:80].decode("ascii", "replace")
        return StoreRefused(f"{self.name} refused: {said}", backend=BACKEND, operation=operation)


def _stored(count: int, generation_key: bytes, generation: bytes) -> bytes:
    """The reply where ``count`` commands have stored, under a generation that did not move."""
    return b"%bVALUE %b 0 %d\r\n%b\r\nEND\r\n" % (b"STORED\r\n" * count, generation_key, STAMP, generation)


def _reason(err: BaseException) -> str:
    if isinstance(err, TimeoutError):
        return "did not answer in time"
    if isinstance(err, ConnectionRefusedError):
        return "refused the connection"
    if isinstance(err, socket.gaierror):
        return "is a host without an address"
    return f"cannot be reached or hung up ({type(err).__name__})"


# Why not pymemcache's own commands: none sends two commands at once and copes with a response that comes in
# pieces (`raw_command` keeps the last piece only), and a hit takes 1.4 times as long through `get_many`.


def _connect(client: Any) -> BoundedSocket:
    own, left = client.connect_timeout, deadline_left()
    if own is not None and left is not None:
        client.connect_timeout = max(0.001, min(own, left))
    try:
        client._connect()
    finally:
        client.connect_timeout = own
    client.sock = sock = BoundedSocket(client.sock)
    return sock


def _receive(sock: Any, size: int) -> bytes:
    # The size may come from the server: what it did not send is not allocated.
    piece: bytes = sock.recv(min(size, _PIECE))
    if not piece:
        raise ConnectionResetError("the reply ended early")
    return piece


def _exchange(message: bytes, client: Any) -> bytes:
    """Send commands and read up to the line ``END``."""
    sock = client.sock or _connect(client)
    sock.sendall(message)
    reply = _receive(sock, 4096)
    while not reply.endswith(b"END\r\n"):
        if len(reply) > _LONGEST_LINE * (_COMMANDS + message.count(b"\n")):
            raise ValueError("more than the responses to what was sent")
        reply += _receive(sock, 4096)
    return reply


def _values(message: bytes, client: Any) -> dict[bytes, Any]:
    """Send a ``get`` or ``gets`` and read its values, with ``gets`` in pairs with their versions."""
    sock = client.sock or _connect(client)
    sock.sendall(message)
    buffer = _receive(sock, 65536)
    line = _VERSIONED if message.startswith(b"gets ") else _PLAIN
    found: dict[bytes, Any] = {}
    start = 0
    while True:
        value = line.match(buffer, start)
        if value is None:
            if buffer.startswith(b"END\r\n", start):
                if len(buffer) > start + 5:
                    raise ValueError("more than one response")
                return found
            if buffer.find(b"\r\n", start) >= 0:
                raise ValueError("neither a value nor the end")
            if len(buffer) - start > _LONGEST_LINE:
                raise ValueError("a line without an end")
            buffer += _receive(sock, 65536)
            continue
        start = value.end()
        size = int(value[2])
        if size > _LARGEST_ITEM:
            raise ValueError("no item is that large")
        end = start + size
        while len(buffer) < end + 2:
            # What was read before is dropped, so that many large values cost no more than each by itself.
            buffer, start, end = buffer[start:], 0, end - start
            buffer += _receive(sock, max(65536, end + 2 - len(buffer)))
        if not buffer.startswith(b"\r\n", end):
            raise ValueError("a value of another length")
        data = buffer[start:end]
        found[value[1]] = (data, value[3]) if line is _VERSIONED else data
        start = end + 2
