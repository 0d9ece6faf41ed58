"""A proxy on loopback that does to a connection what networks do: cuts it, holds its replies, or lets them trickle."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator

__all__ = ["Proxy", "proxy_to", "replying"]


def readable(*sockets: socket.socket) -> list[socket.socket]:
    """Those of ``sockets`` that have something to read within 50 ms, whatever the numbers of their descriptors."""
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
        ready = {key.fileobj for key, _ in selector.select(0.05)}
    return [each for each in sockets if each in ready]


class Proxy:
    """Passes bytes on to ``target``, as it is when a connection begins; replies go through whatever the attributes say.

    * ``delay``: seconds that each part of a reply is held.
    * ``piece``, ``gap``: replies come ``piece`` bytes at a time, ``gap`` seconds apart; 0: as they are.
    * ``cut_after``: the connection ends after so many bytes of replies, counted over all connections.

    ``accepted`` counts connections, ``asked`` what was read from clients.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.delay = 0.0
        self.piece = 0
        self.gap = 0.0
        self.cut_after: int | None = None
        self.accepted = 0
        self.asked = 0
        self.target = target
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def _begin(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            if readable(self._listener):
                client, _ = self._listener.accept()
                self.accepted += 1
                self._begin(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(self.target) as server:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self._over.is_set():
                for ready in readable(client, server):
                    data = ready.recv(65536)
                    if not data or not (
                        self._to_server(server, data) if ready is client else self._reply(client, data)
                    ):
                        return

    def _to_server(self, server: socket.socket, data: bytes) -> bool:
        self.asked += 1
        server.sendall(data)
        return True

    def _reply(self, client: socket.socket, data: bytes) -> bool:
        if self.delay and self._over.wait(self.delay):
            return False
        left = self.cut_after
        if left is not None:
            self.cut_after = max(0, left - len(data))
            if len(data) >= left:
                client.sendall(data[:left])
                return False
        step = self.piece or len(data)
        for start in range(0, len(data), step):
            client.sendall(data[start : start + step])
            if self.piece and self._over.wait(self.gap):
                return False
        return True

    def close(self) -> None:
        """End every connection and thread."""
        self._over.set()
        for thread in self._threads:
            thread.join(5)
        self._listener.close()


@contextlib.contextmanager
def proxy_to(host: str, port: int) -> Iterator[Proxy]:
    """A :class:`Proxy` that ends with the block."""
    proxy = Proxy((host, port))
    try:
        yield proxy
    finally:
        proxy.close()


@contextlib.contextmanager
def replying(reply: bytes) -> Iterator[str]:
    """The address of a server that sends ``reply`` to whatever it is asked; empty: accepts and says nothing."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            while not over.is_set():
                if readable(client):
                    if not client.recv(65536):
                        return
                    client.sendall(reply)

    def accept() -> None:
        while not over.is_set():
            if readable(listener):
                client, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(client,), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads.append(threading.Thread(target=accept, daemon=True))
        threads[-1].start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            for thread in threads:
                thread.join(5)
