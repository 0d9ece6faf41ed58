"""The same few pages in each framework: a visit, the count, a stream, a failure, a login, a websocket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from importlib import import_module
from typing import Any

__all__ = ["BUILDERS"]


def visit(session: Any) -> str:
    """Count a visit and have it saved."""
    session["visits"] = session.get("visits", 0) + 1
    session.save()
    return f"visits {session['visits']}"


async def chunks(session: Any) -> AsyncIterator[bytes]:
    """A body that goes on changing the session."""
    yield b"one"
    session["late"] = session.get("late", 0) + 1
    session.save()
    yield b"two"


def seen(session: Any) -> str:
    return f"visits {session.get('visits', 0)} late {session.get('late', 0)} user {session.user}"


def starlette() -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Route, WebSocketRoute

    async def page(request: Any) -> Any:
        return PlainTextResponse(visit(request.session))

    def plain(request: Any) -> Any:
        request.session.login("ann")
        return PlainTextResponse(visit(request.session))

    async def count(request: Any) -> Any:
        return PlainTextResponse(seen(request.session))

    async def untouched(request: Any) -> Any:
        return PlainTextResponse("untouched")

    async def stream(request: Any) -> Any:
        visit(request.session)
        return StreamingResponse(chunks(request.session), media_type="text/plain")

    async def broken(request: Any) -> Any:
        visit(request.session)
        raise ValueError("the page fails")

    async def logout(request: Any) -> Any:
        await request.session.alogout()
        return PlainTextResponse("bye")

    async def socket(websocket: Any) -> None:
        await websocket.accept()
        visit(websocket.session)
        await websocket.session.apersist()
        await websocket.send_text(seen(websocket.session))
        await websocket.receive()

    pages = [page, plain, count, untouched, stream, broken, logout]
    routes = [*(Route(f"/{each.__name__}", each) for each in pages), WebSocketRoute("/socket", socket)]
    return Starlette(routes=routes)


def fastapi() -> Any:
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.websockets import WebSocket

    # By import_module, because the checkout's own environment does not have them.
    app: Any = import_module("fastapi").FastAPI()

    async def page(request: Any) -> Any:
        return PlainTextResponse(visit(request.session))

    def plain(request: Any) -> Any:
        request.session.login("ann")
        return PlainTextResponse(visit(request.session))

    async def count(request: Any) -> Any:
        return PlainTextResponse(seen(request.session))

    async def untouched() -> Any:
        return PlainTextResponse("untouched")

    async def stream(request: Any) -> Any:
        visit(request.session)
        return StreamingResponse(chunks(request.session), media_type="text/plain")

    async def broken(request: Any) -> Any:
        visit(request.session)
        raise ValueError("the page fails")

    async def logout(request: Any) -> Any:
        await request.session.alogout()
        return PlainTextResponse("bye")

    async def socket(websocket: Any) -> None:
        await websocket.accept()
        visit(websocket.session)
        await websocket.session.apersist()
        await websocket.send_text(seen(websocket.session))
        await websocket.receive()

    for each in (page, plain, count, stream, broken, logout):
        each.__annotations__["request"] = Request
        app.get(f"/{each.__name__}")(each)
    app.get("/untouched")(untouched)
    socket.__annotations__["websocket"] = WebSocket
    app.websocket("/socket")(socket)
    return app


def litestar() -> Any:
    framework: Any = import_module("litestar")
    stream_of: Any = import_module("litestar.response").Stream

    async def page(request: Any) -> str:
        return visit(request.scope["beaker.session"])

    def plain(request: Any) -> str:
        request.scope["beaker.session"].login("ann")
        return visit(request.scope["beaker.session"])

    async def count(request: Any) -> str:
        return seen(request.scope["beaker.session"])

    async def untouched() -> str:
        return "untouched"

    async def stream(request: Any) -> Any:
        visit(request.scope["beaker.session"])
        return stream_of(chunks(request.scope["beaker.session"]), media_type="text/plain")

    async def broken(request: Any) -> str:
        visit(request.scope["beaker.session"])
        raise ValueError("the page fails")

    async def logout(request: Any) -> str:
        await request.scope["beaker.session"].alogout()
        return "bye"

    async def socket(socket: Any) -> None:
        session = socket.scope["beaker.session"]
        await socket.accept()
        visit(session)
        await session.apersist()
        await socket.send_text(seen(session))
        await socket.receive()

    handlers = []
    for each in (page, plain, count, untouched, stream, broken, logout):
        each.__annotations__.update({"request": framework.Request} if "request" in each.__annotations__ else {})
        each.__annotations__["return"] = stream_of if each is stream else str
        threaded = {"sync_to_thread": True} if each is plain else {}
        handlers.append(framework.get(f"/{each.__name__}", media_type="text/plain", **threaded)(each))
    socket.__annotations__.update({"socket": framework.WebSocket, "return": None})
    handlers.append(framework.websocket("/socket")(socket))
    return framework.Litestar(route_handlers=handlers)


def quart() -> Any:
    framework: Any = import_module("quart")
    app = framework.Quart("pages")
    request = framework.request

    def current() -> Any:
        return request.scope["beaker.session"]

    async def page() -> str:
        return visit(current())

    def plain() -> str:
        current().login("ann")
        return visit(current())

    async def count() -> str:
        return seen(current())

    async def untouched() -> str:
        return "untouched"

    async def stream() -> Any:
        visit(current())
        return framework.Response(chunks(current()), content_type="text/plain")

    async def broken() -> str:
        visit(current())
        raise ValueError("the page fails")

    async def logout() -> str:
        await current().alogout()
        return "bye"

    async def socket() -> None:
        session = framework.websocket.scope["beaker.session"]
        await framework.websocket.accept()
        visit(session)
        await session.apersist()
        await framework.websocket.send(seen(session))
        await framework.websocket.receive()

    for each in (page, plain, count, untouched, stream, broken, logout):
        app.get(f"/{each.__name__}")(each)
    app.websocket("/socket")(socket)
    return app


BUILDERS: dict[str, Callable[[], Any]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "quart": quart,
}
