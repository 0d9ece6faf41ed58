"""A WSGI response with a session: saved, and its headers merged in, when the first chunk of the body is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from beaker._typing import Environ, Headers, StartResponse
from beaker.session.headers import with_session_headers
from beaker.session.proxy import SessionObject

__all__ = ["Body", "Response", "SizedBody", "closes_with", "may_take_over", "sent_as_file"]


def may_take_over(environ: Environ) -> bool:
    """Whether the application can have responded on the socket itself, which gunicorn hands out.

    Websocket libraries (simple-websocket, Flask-Sock, python-engineio) then raise StopIteration, at which
    gunicorn closes the connection.
    """
    return "gunicorn.socket" in environ and "HTTP_UPGRADE" in environ


def _is_websocket(environ: Environ, status: str) -> bool:
    """Whether the response with ``status`` goes out over a socket that no longer speaks HTTP.

    gevent-websocket has upgraded the connection before the application runs. Where a server hands out its
    socket, an upgrade that succeeded is a 101, and every other success is said on a socket taken over.
    """
    if environ.get("wsgi.websocket") is not None:
        return True
    offered = "gunicorn.socket" in environ or "werkzeug.socket" in environ
    return offered and environ.get("HTTP_UPGRADE", "").lower() == "websocket" and status.startswith("2")


class Response:
    """Keeps the application's status and headers until its first chunk is there."""

    __slots__ = (
        "_added", "_environ", "_exc_info", "_headers", "_session", "_start_response", "_status", "_write", "failed",
        "sent",
    )  # fmt: skip
    _headers: Headers
    _write: Callable[[bytes], object]

    def __init__(self, session: SessionObject, environ: Environ, start_response: StartResponse) -> None:
        self._session = session
        self._environ = environ
        self._start_response = start_response
        self._status: str | None = None
        self._added: Headers | None = None
        self._exc_info: Any = None
        self.sent = self.failed = False

    def start(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], object]:
        if self.sent:
            # The server raises the error, or sends the application's second attempt, as PEP 3333 says.
            return self._start_response(status, with_session_headers(headers, self._added or []), exc_info)
        if self._status is not None and not exc_info:
            raise AssertionError("start_response was called a second time without exc_info")
        self._status, self._headers = status, headers
        if exc_info:
            self._exc_info = exc_info
        return self.write

    def write(self, data: bytes) -> object:
        self.send()
        return self._write(data)

    def send(self) -> None:
        """Save the session and call the server's start_response, once; nothing before the application has."""
        if self.sent or self._status is None:
            return
        headers = self._headers
        if self._session._sess is not None:
            environ = self._environ
            upgraded = "HTTP_UPGRADE" in environ or "wsgi.websocket" in environ
            self._commit(unsent=upgraded and _is_websocket(environ, self._status))
            headers = with_session_headers(headers, self._added or [])
        self.sent = True
        if not self._exc_info:
            self._write = self._start_response(self._status, headers)
            return
        exc_info, self._exc_info = self._exc_info, None
        try:
            self._write = self._start_response(self._status, headers, exc_info)
        finally:
            del exc_info

    def _commit(self, *, unsent: bool) -> None:
        try:
            self._added = self._session.commit(unsent=unsent)
        except BaseException:
            # The server will say so; close() must not save after all what the visitor is told has failed.
            self.failed = True
            raise

    def fail(self) -> None:
        """The application has raised: nothing is saved any more, and no other request waits for this one's locks."""
        self.failed = True
        self._session.release()

    def take_over(self) -> None:
        """Save the session of a response that the application has sent on the socket itself."""
        if self._status is None:
            self._commit(unsent=True)

    def end(self) -> None:
        """The body is complete: what was not sent or saved yet is now, and locks are released."""
        try:
            if self.failed:
                return
            if self._status is None:
                self.take_over()
            elif self.sent:
                self._session.finish()
            else:
                self.send()
        finally:
            if self._session._sess is not None:
                self._session.release()


class Body:
    """Iterates the application's body, sending the headers when its first chunk is there.

    An empty chunk counts: an application may yield it to say that it is not ready, and PEP 3333 forbids
    middleware to wait for the next one. Servers want start_response to have been called before any chunk, and
    some send the headers at once, so the session is saved then; what the body changes later, at its end.
    """

    __slots__ = ("_body", "_iterator", "_response")

    def __init__(self, body: Iterable[bytes], response: Response) -> None:
        self._body = body
        self._iterator: Iterator[bytes] | None = None
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            chunk = next(self._iterator)
        except StopIteration:
            self._response.send()
            raise
        except BaseException:
            # A request that failed saves nothing (manual 2.3).
            self._response.fail()
            raise
        if not self._response.sent:
            self._response.send()
        return chunk

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._response.end()


class SizedBody(Body):
    """A body that knows how many chunks it has: of a single one servers compute Content-Length."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]


def sent_as_file(body: Any, response: Response) -> bool:
    """Leave a server's file wrapper to the server, which sends a bare file faster and knows its length.

    Its ``close()`` ends the response. False where the wrapper takes no attributes.
    """
    if not closes_with(body, response.end):
        return False
    try:
        response.send()
    except BaseException:
        body.close()
        raise
    return True


def closes_with(body: Any, end: Callable[[], object]) -> bool:
    """Have the ``close()`` of a body that its server gets as it is call ``end()``. False: it takes no attributes."""
    close = getattr(body, "close", None)

    def close_and_end() -> None:
        try:
            if close is not None:
                close()
        finally:
            end()

    try:
        body.close = close_and_end
    except (AttributeError, TypeError):
        return False
    return True
