"""A browser for WSGI applications, small enough to reason about: it sends requests and keeps cookies."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from wsgiref.validate import validator

__all__ = ["Browser", "Response"]


@dataclass
class Response:
    """Status line, headers in order, body."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def set_cookies(self) -> list[str]:
        """The Set-Cookie values, in order."""
        return self.all("Set-Cookie")

    def all(self, name: str) -> list[str]:
        """The values of one header."""
        return [value for header, value in self.headers if header.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """The one value of a header, ``None`` when absent."""
        values = self.all(name)
        return values[0] if values else None


class Browser:
    """Calls ``app`` as a server does, checked by :func:`wsgiref.validate.validator`.

    ``cookies`` is the jar, name to value; Set-Cookie fills it and ``Max-Age=0`` empties it. ``copy()`` is a
    second tab that holds the same cookies for now.
    """

    def __init__(self, app: Callable[..., Any], *, scheme: str = "http") -> None:
        self.app = app
        self.scheme = scheme
        self.cookies: dict[str, str] = {}

    def copy(self) -> Browser:
        """Another browser with the cookies of this moment."""
        other = Browser(self.app, scheme=self.scheme)
        other.cookies = dict(self.cookies)
        return other

    def get(self, path: str = "/", **environ: Any) -> Response:
        """A GET request; keywords go into the WSGI environ."""
        return self.request("GET", path, **environ)

    def post(self, path: str, form: dict[str, str] | None = None, **environ: Any) -> Response:
        """A POST request with a form's fields."""
        body = urlencode(form or {}).encode()
        return self.request("POST", path, body, CONTENT_TYPE="application/x-www-form-urlencoded", **environ)

    def request(self, method: str, path: str, body: bytes = b"", **extra: Any) -> Response:
        """Any request, whole: the body is read to its end and closed."""
        path, _, query = path.partition("?")
        environ = {
            "REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query,
            "SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_LENGTH": str(len(body)), "wsgi.version": (1, 0), "wsgi.url_scheme": self.scheme,
            "wsgi.input": io.BytesIO(body), "wsgi.errors": io.StringIO(), "wsgi.multithread": True,
            "wsgi.multiprocess": False, "wsgi.run_once": False,
        }  # fmt: skip
        if self.cookies:
            environ["HTTP_COOKIE"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        environ |= extra
        started: list[tuple[str, list[tuple[str, str]]]] = []
        written: list[bytes] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], Any]:
            if exc_info and written:
                raise exc_info[1]
            started[:] = [(status, headers)]
            return written.append

        result: Any = validator(self.app)(environ, start_response)
        try:
            for chunk in result:
                written.append(chunk)
        finally:
            result.close()
        status, headers = started[0]
        response = Response(status, headers, b"".join(written))
        for line in response.set_cookies:
            self._keep(line)
        return response

    def _keep(self, line: str) -> None:
        pair, *attributes = line.split("; ")
        name, _, value = pair.partition("=")
        if any(attribute.lower() == "max-age=0" for attribute in attributes):
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = value
