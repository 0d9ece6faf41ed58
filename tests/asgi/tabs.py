"""Browser tabs on the ASGI middleware, for the suites of WSGI sessions: each request in an event loop of its own."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine, Iterator
from http import HTTPStatus
from typing import Any, TypeVar

from beaker._typing import Message, Receive, Scope, Send
from beaker.asgi import AsyncSessionObject, SessionMiddleware
from beaker.testing.browser import Response
from beaker.testing.session_harness import Handler, Tab
from tests.asgi.conformance import Checked

__all__ = ["AsgiTab", "Awaited", "http_scope", "run"]

T = TypeVar("T")

BLOCKING = ("persist", "load", "login", "logout", "delete", "invalidate", "lock", "unlock", "get_by_id", "monotonic")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result from an event loop that is closed afterwards, also where a loop is running already."""
    result: list[T] = []
    failed: list[BaseException] = []

    def alone() -> None:
        try:
            result.append(asyncio.run(coroutine))
        except BaseException as error:
            failed.append(error)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    thread = threading.Thread(target=alone)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return result[0]


def run_kept(coroutine: Coroutine[Any, Any, T]) -> T:
    """:func:`run` in a loop that is kept for the next request, as a server does."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        return run(coroutine)
    if threading.current_thread() is not threading.main_thread():
        return run(coroutine)
    if not _kept:
        _kept.append(asyncio.new_event_loop())
        atexit.register(_kept[0].close)
    loop = _kept[0]
    result = loop.run_until_complete(coroutine)
    assert not asyncio.all_tasks(loop), "a request left a task behind"
    return result


_kept: list[asyncio.AbstractEventLoop] = []


def http_scope(path: str = "/", headers: list[tuple[bytes, bytes]] | None = None, **more: Any) -> dict[str, Any]:
    """An ``http`` scope as a server builds it."""
    path, _, query = path.partition("?")
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": headers or [], "client": ("127.0.0.1", 1), "server": ("localhost", 80), **more,
    }  # fmt: skip


class Awaited:
    """The session as a plain handler in a thread sees it, whose blocking methods are awaited in the request's loop."""

    def __init__(self, session: AsyncSessionObject, loop: asyncio.AbstractEventLoop) -> None:
        object.__setattr__(self, "_awaited", session)
        object.__setattr__(self, "_loop", loop)

    def __getattr__(self, name: str) -> Any:
        if name not in BLOCKING:
            return getattr(self._awaited, name)

        def method(*args: Any) -> Any:
            awaited = getattr(self._awaited, f"a{name}")(*args)
            return asyncio.run_coroutine_threadsafe(awaited, self._loop).result()

        return method

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._awaited, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._awaited[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._awaited[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._awaited[key]

    def __contains__(self, key: Any) -> bool:
        return key in self._awaited

    def __iter__(self) -> Iterator[Any]:
        return iter(self._awaited)

    def __len__(self) -> int:
        return len(self._awaited)


class AsgiTab(Tab):
    """:class:`Tab` on ``beaker.asgi``, through the conformance check.

    With ``awaited``, handlers await the asynchronous forms of blocking methods; otherwise they call them in a thread.
    """

    awaited = True

    def __init__(self, middleware: Any, handlers: list[Handler]) -> None:
        super().__init__(middleware, handlers)
        self.middleware = middleware

    @classmethod
    def build(cls, handlers: list[Handler], **options: Any) -> Any:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            session = scope["beaker.session"]
            if options.get("load") == "lazy":
                await session.load()
            given: Any = Awaited(session, asyncio.get_running_loop()) if cls.awaited else session
            await asyncio.to_thread(handlers.pop(), given)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"done"})

        return SessionMiddleware(app, **options)

    def request(self, method: str, path: str, body: bytes = b"", **extra: Any) -> Response:
        environ: dict[str, str] = {}
        if self.cookies:
            environ["HTTP_COOKIE"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        environ |= extra
        scope = http_scope(path, method=method, scheme=extra.get("wsgi.url_scheme", self.scheme))
        scope["headers"] = [
            (name[5:].lower().replace("_", "-").encode(), value.encode("latin-1"))
            for name, value in environ.items()
            if name.startswith("HTTP_")
        ]
        response = run_kept(exchange(self.app, scope, body))
        for line in response.set_cookies:
            self._keep(line)
        return response

    def copy(self) -> AsgiTab:
        other = type(self)(self.middleware, self.handlers)
        other.cookies = dict(self.cookies)
        return other


class ThreadedTab(AsgiTab):
    """Its handlers are plain functions in a thread, as FastAPI calls them."""

    awaited = False


async def exchange(app: Callable[..., Any], scope: dict[str, Any], body: bytes = b"") -> Response:
    """One request, whole. Its headers get the spelling of HTTP/1.1, as the suites look for it."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await Checked(app)(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    headers = [(name.decode("latin-1").title(), value.decode("latin-1")) for name, value in start["headers"]]
    status = HTTPStatus(start["status"])
    content = b"".join(message.get("body", b"") for message in sent)
    return Response(f"{status.value} {status.phrase}", headers, content)
