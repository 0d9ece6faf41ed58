"""What ASGI 3 lets an application send, checked between it and the server: order, types, and nothing after the end."""

from __future__ import annotations

from typing import Any

from beaker._typing import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Checked", "Violation"]

_BEFORE_START = ("http.response.early_hint", "http.response.push", "http.response.debug")
_BODIES = ("http.response.body", "http.response.zerocopysend", "http.response.pathsend")


class Violation(AssertionError):
    """An application sent a message that no server has to accept."""


class Checked:
    """Checks ``app``: each message out of place raises :class:`Violation` and is kept in ``found``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.found: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        kind = _Http if scope["type"] == "http" else _Websocket
        talk = kind(self.found)
        gone = False

        async def checked_receive() -> Message:
            nonlocal gone
            message = await receive()
            gone = gone or message["type"] in ("http.disconnect", "websocket.disconnect")
            return message

        async def checked_send(message: Message) -> None:
            talk.take(message)
            await send(message)

        await self.app(scope, checked_receive, checked_send)
        if not gone and not talk.complete:
            talk.wrong("the application returned before its last message")


class _Talk:
    complete = False

    def __init__(self, found: list[str]) -> None:
        self.found = found
        self.state = "new"

    def wrong(self, text: str) -> None:
        self.found.append(text)
        raise Violation(text)

    def take(self, message: Message) -> None:
        kind = message.get("type")
        if not isinstance(kind, str):
            self.wrong(f"a message of type {kind!r}")
        elif self.complete:
            self.wrong(f"{kind} after the end")
        else:
            self.next(kind, message)

    def next(self, kind: str, message: Message) -> None:
        raise NotImplementedError

    def check_headers(self, headers: Any) -> None:
        for header in headers:
            name, value = header
            if type(name) is not bytes or type(value) is not bytes:
                self.wrong(f"a header that is no pair of bytes: {name!r}")
            elif name != name.lower() or b"\n" in value or b"\r" in value:
                self.wrong(f"a header out of order: {name!r}")


class _Http(_Talk):
    def __init__(self, found: list[str]) -> None:
        super().__init__(found)
        self.trailers = False

    def next(self, kind: str, message: Message) -> None:
        if kind == "http.response.start" and self.state == "new":
            if type(message["status"]) is not int:
                self.wrong("a status that is no number")
            self.check_headers(message.get("headers", ()))
            self.trailers = bool(message.get("trailers"))
            self.state = "started"
        elif kind in _BEFORE_START and self.state == "new":
            pass
        elif kind in _BODIES and self.state == "started":
            if type(message.get("body", b"")) is not bytes:
                self.wrong("a body that is not bytes")
            if not message.get("more_body"):
                self.state = "trailers" if self.trailers else "ended"
        elif kind == "http.response.trailers" and self.state == "trailers":
            self.check_headers(message.get("headers", ()))
            self.state = "trailers" if message.get("more_trailers") else "ended"
        else:
            self.wrong(f"{kind} while {self.state}")
        self.complete = self.state == "ended"


class _Websocket(_Talk):
    def next(self, kind: str, message: Message) -> None:
        if kind == "websocket.accept" and self.state == "new":
            self.check_headers(message.get("headers", ()))
            self.state = "open"
        elif kind == "websocket.send" and self.state == "open":
            pass
        elif kind == "websocket.close" and self.state in ("new", "open"):
            self.state = "ended"
        elif kind == "websocket.http.response.start" and self.state == "new":
            self.check_headers(message.get("headers", ()))
            self.state = "denied"
        elif kind == "websocket.http.response.body" and self.state == "denied":
            self.state = "denied" if message.get("more_body") else "ended"
        else:
            self.wrong(f"{kind} while {self.state}")
        self.complete = self.state == "ended"
