"""HTTP without a library in between: what a server has sent, byte for byte, and whether its connection goes on."""

from __future__ import annotations

import socket
from typing import BinaryIO, NamedTuple

SECONDS = 30.0


class Exchange(NamedTuple):
    """One response as it was on the wire. ``complete`` is false where its own framing says that bytes are missing."""

    status: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    complete: bool
    reused: bool
    """It came on the connection of the response before it."""

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header.lower() == name]


class Client:
    """Sends requests over one connection as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._reader: BinaryIO | None = None

    def close(self) -> None:
        if self._reader is not None and self._socket is not None:
            self._reader.close()
            self._socket.close()
        self._socket = self._reader = None

    def ask(self, method: str, path: str, cookie: str = "", *, last: bool = False) -> Exchange:
        """The response to a request; ``last`` asks the server to close the connection, and reads all it sends.

        HEAD is always the last, because some servers and frameworks send a body after all.
        """
        last = last or method == "HEAD"
        if last:
            self.close()
        lines = [f"{method} {path} HTTP/1.1", "Host: site.example"]
        lines += [f"Cookie: {cookie}"] if cookie else []
        lines += ["Connection: close"] if last else []
        request = "\r\n".join([*lines, "", ""]).encode()
        reused = self._reader is not None
        exchange = self._exchange(request, method, reused, last)
        if reused and not exchange.status:
            # The server had closed the connection without having said so.
            self.close()
            exchange = self._exchange(request, method, False, last)
        return exchange

    def _exchange(self, request: bytes, method: str, reused: bool, last: bool) -> Exchange:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), SECONDS)
            self._reader = self._socket.makefile("rb")
        reader = self._reader
        assert reader is not None
        try:
            self._socket.sendall(request)
            status, headers = read_head(reader)
            body, complete, ended = read_body(reader, method, status, headers, last)
        except (BrokenPipeError, ConnectionResetError):
            status, headers, body, complete, ended = "", [], b"", False, True
        if ended:
            self.close()
        return Exchange(status, tuple(headers), body, complete, reused)


def read_head(reader: BinaryIO) -> tuple[str, list[tuple[str, str]]]:
    status = reader.readline().decode("latin-1").rstrip("\r\n")
    headers = []
    while line := reader.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        headers.append((name, value.strip()))
    return status, headers


def read_body(
    reader: BinaryIO, method: str, status: str, headers: list[tuple[str, str]], last: bool
) -> tuple[bytes, bool, bool]:
    """The bytes after the head, whether they are all, and whether the connection ends with them."""
    told = {name.lower(): value.lower() for name, value in headers}
    closes = last or told.get("connection") == "close" or not status.startswith("HTTP/1.1 ")
    code = status.split(" ")[1] if " " in status else ""
    if closes:
        # Everything there is, even what should not be.
        body = reader.read()
        return body, is_complete(body, told) or method == "HEAD" or code in ("204", "304"), True
    if code in ("204", "304"):
        return b"", True, False
    if told.get("transfer-encoding") == "chunked":
        body = b""
        while line := reader.readline():
            size = int(line, 16)
            body += line + reader.read(size + 2)
            if size == 0:
                return body, True, False
        return body, False, True
    if "content-length" in told:
        body = reader.read(int(told["content-length"]))
        complete = len(body) == int(told["content-length"])
        return body, complete, not complete
    return reader.read(), True, True


def is_complete(body: bytes, told: dict[str, str]) -> bool:
    if told.get("transfer-encoding") == "chunked":
        return body.endswith(b"0\r\n\r\n")
    return len(body) == int(told.get("content-length", len(body)))
