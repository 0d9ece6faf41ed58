"""Redis's protocol, on connections that redis-py has opened.

Why not redis-py's own commands: on one machine they take four times as long as server and network together, for a lock,
a look whether the connection is alive, wrappers for retries and metrics, and a reply that is read piece by piece. The
login, the database and TLS remain its work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from beaker.storage.deadline import BoundedSocket, is_readable
from beaker.storage.redis.client import Faults, refusal

__all__ = ["Lines"]

_PIECE = 2**20
_LARGEST = 512 * 2**20
"""Bytes of a value; Redis's own bound."""
_LONGEST_LINE = 2048
NONSENSE = (ValueError, ArithmeticError, MemoryError, RecursionError)
"""What reading a reply raises that is none of Redis's: no number, a length of 10^15, arrays in arrays."""


class Line:
    """One connection of redis-py's, opened by the first command."""

    def __init__(self, connection: Any, faults: Faults) -> None:
        self._connection = connection
        self._faults = faults
        self._sock: BoundedSocket | None = None

    def close(self) -> None:
        self._sock = None
        self._connection.disconnect()

    def hung_up(self) -> bool:
        """Whether the server has closed it, or sent what was not asked for."""
        return self._sock is not None and is_readable(self._sock)

    def mget(self, *names: str) -> Any:
        """``MGET``."""
        return self._exchange(("MGET", *names))

    def evalsha(self, sha: str, count: int, *rest: str | bytes) -> Any:
        """``EVALSHA``; ``rest`` begins with ``count`` keys."""
        return self._exchange(("EVALSHA", sha, str(count), *rest))

    def eval(self, source: str, count: int, *rest: str | bytes) -> Any:
        """``EVAL``."""
        return self._exchange(("EVAL", source, str(count), *rest))

    def _exchange(self, words: tuple[str | bytes, ...]) -> Any:
        connection = self._connection
        if self._sock is None:
            connection.connect()
        if connection.health_check_interval:
            connection.check_health()
        self._sock = sock = connection.bounded
        sock.sendall(_packed(words))
        reply = _reply(sock, len(words))
        if type(reply) is _Refused:
            raise refusal(self._faults, reply.text)
        return reply


class Lines:
    """The connections to one server. Each belongs to one call at a time, and all are kept.

    ``client`` says how to connect; its connections are :class:`~beaker.storage.redis.client.connect`'s.
    """

    def __init__(self, client: Any, faults: Faults) -> None:
        pool = client.connection_pool
        self._open: Callable[[], Any] = partial(pool.connection_class, **pool.connection_kwargs)
        self._faults = faults
        self._idle: deque[Line] = deque()

    def close(self) -> None:
        """Close what is idle. The next call connects anew."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def run(self, work: Callable[[Any], Any], *, repeatable: bool) -> Any:
        """The result of ``work(line)``. Raises what redis-py would, OSError and its exception for nonsense.

        ``repeatable``: the caller tries again when a connection turns out to be broken. Otherwise one that broke while
        it was idle is not used.
        """
        try:
            line = self._idle.pop()
        except IndexError:
            line = Line(self._open(), self._faults)
        if not repeatable and line.hung_up():
            line.close()
        try:
            result = work(line)
        except self._faults.refused as err:
            if isinstance(err, self._faults.demoted):
                # The address may lead to another server by now, which only a new connection finds.
                line.close()
                self.close()
            else:
                self._idle.append(line)
            raise
        except BaseException as err:
            # Half a response may still be on its way: no other call may read it as its own.
            line.close()
            if isinstance(err, NONSENSE):
                raise self._faults.nonsense(type(err).__name__) from err
            if isinstance(err, self._faults.broken):
                # The other connections have been idle for longer and are as dead.
                self.close()
            raise
        self._idle.append(line)
        return result


class _Refused:
    def __init__(self, text: str) -> None:
        self.text = text


def _packed(words: tuple[str | bytes, ...]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if type(word) is bytes else word.encode()  # type: ignore[union-attr]
        parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    return b"".join(parts)


def _receive(sock: BoundedSocket, size: int) -> bytes:
    # The size may come from the server: what it did not send is not allocated.
    piece = sock.recv(min(size, _PIECE))
    if not piece:
        raise ConnectionResetError("the reply ended early")
    return piece


def _reply(sock: BoundedSocket, most: int) -> Any:
    """One reply: a number, bytes, ``None``, an error, or a list of at most ``most`` of them; ValueError for others."""
    buffer, start = _receive(sock, 65536), 0
    values: list[Any] = []
    wanted: int | None = None
    while wanted is None or len(values) < wanted:
        end = buffer.find(b"\r\n", start)
        if end < 0:
            if len(buffer) - start > _LONGEST_LINE:
                raise ValueError("a line without an end")
            buffer, start = buffer[start:] + _receive(sock, 65536), 0
            continue
        kind, text = buffer[start : start + 1], buffer[start + 1 : end]
        start = end + 2
        if kind == b"$":
            size = int(text)
            if size < 0:
                values.append(None)
            elif size > _LARGEST:
                raise ValueError("no value is that large")
            else:
                end = start + size
                if len(buffer) < end + 2:
                    buffer, start, end = _completed(sock, buffer[start:], size + 2), 0, size
                if not buffer.startswith(b"\r\n", end):
                    raise ValueError("a value of another length")
                values.append(buffer[start:end])
                start = end + 2
        elif kind == b":":
            values.append(int(text))
        elif kind == b"*" and wanted is None:
            wanted = int(text)
            if not 0 <= wanted <= most:
                raise ValueError("more than was asked for")
            continue
        elif kind == b"-" and wanted is None:
            values.append(_Refused(text.decode("utf-8", "replace")))
        else:
            raise ValueError("no such reply")
        if wanted is None:
            break
    if start != len(buffer):
        raise ValueError("more than one reply")
    return values[0] if wanted is None else values


def _completed(sock: BoundedSocket, begun: bytes, size: int) -> bytes:
    """``begun``, and what is sent up to ``size`` bytes."""
    pieces, missing = [begun], size - len(begun)
    while missing > 0:
        piece = _receive(sock, missing)
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)
