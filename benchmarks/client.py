"""A client that calls a WSGI application without a server before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
_ENVIRON: Environ = {
    "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": "", "SERVER_NAME": "localhost",
    "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "localhost", "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http", "wsgi.multithread": True, "wsgi.multiprocess": True, "wsgi.run_once": False,
}  # fmt: skip
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "1")]


class Client:
    """Sends a WSGI application the same request again and again, with the cookie that the first response set."""

    def __init__(self, app: Callable[[Environ, Any], Iterable[bytes]]) -> None:
        self.app = app
        self.environ = dict(_ENVIRON)
        self.sent: list[tuple[str, str]] = []

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        self.sent = headers
        return lambda data: None

    def __call__(self) -> bytes:
        body = self.app(dict(self.environ), self.start)
        text = b"".join(body)
        close = getattr(body, "close", None)
        if close is not None:
            close()
        return text

    def keep_cookie(self) -> None:
        cookies = [value.partition(";")[0] for name, value in self.sent if name.lower() == "set-cookie"]
        assert cookies, "no cookie was sent"
        self.environ["HTTP_COOKIE"] = "; ".join(cookies)


def untouched(environ: Environ, start: Any) -> list[bytes]:
    start("200 OK", list(HEADERS))
    return [b"."]
