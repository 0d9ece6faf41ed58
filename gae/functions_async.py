"""Sessions in asynchronous HTTP functions, as functions-framework serves them over ASGI with Starlette's requests."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

from beaker import serving
from beaker._typing import Headers, Receive, Scope, Send
from beaker.asgi import AsyncSessionObject, open_session, respond
from beaker.exceptions import ConfigError
from beaker.loops.hops import in_thread
from beaker.session.context import SessionContext
from beaker.telemetry.server_timing import timed_send, timing
from gae.asgi import environ_of
from gae.logs import RequestTrace

__all__ = ["with_async_session"]


class Sessions(Protocol):
    """The session configuration of one function."""

    @property
    def is_ready(self) -> bool:
        """Whether :meth:`context` returns at once."""
        ...

    def context(self) -> tuple[SessionContext, Any]:
        """The context, and what opens a session in it."""
        ...


def with_async_session(function: Callable[..., Any], sessions: Sessions) -> Callable[..., Any]:
    """``function(request)`` with a session in ``request.session``; see :func:`gae.functions.with_session`."""

    @functools.wraps(function)
    async def wrapper(request: Any, *args: Any, **kwargs: Any) -> Any:
        scope = getattr(request, "scope", None)
        if not isinstance(scope, dict) or scope.get("type") != "http":
            raise ConfigError(
                "an asynchronous function with a session got what is no request of Starlette's",
                option="with_session",
                expected="functions_framework.aio.http, or functions-framework --asgi",
                got=type(request).__name__,
            )
        end = RequestTrace.begin(environ_of(scope))
        context, opener = sessions.context() if sessions.is_ready else await in_thread(sessions.context)
        timed = timing(scope) if context.options.server_timing else None
        session = await open_session(scope, opener)
        served, response = serving.opened(scope), None
        try:
            with serving.inside(served):
                response = _response(await _answer(function, request, *args, **kwargs))
        finally:
            if response is None:
                if served is not None:
                    served.end()
                await session.arelease()
                if end is not None:
                    end()
        return None if response is None else _Response(response, session, served, timed, end)

    return wrapper


async def _answer(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    starlette: Any = import_module("starlette.exceptions")
    try:
        return await function(*args, **kwargs)
    except starlette.HTTPException as error:
        # Outside of functions Starlette turns it into a response before any middleware sees it.
        responses: Any = import_module("starlette.responses")
        if error.status_code in (204, 304):
            return responses.Response(status_code=error.status_code, headers=error.headers)
        return responses.PlainTextResponse(error.detail, status_code=error.status_code, headers=error.headers)


def _response(answer: Any) -> Any:
    """The response that functions-framework builds of a result; ``None`` is left to it."""
    responses: Any = import_module("starlette.responses")
    status = 200
    if isinstance(answer, tuple) and len(answer) == 2:
        answer, status = answer
    if isinstance(answer, dict):
        return responses.JSONResponse(answer, status_code=status)
    if isinstance(answer, (str, bytes)):
        return responses.Response(answer, status_code=status)
    return answer


class _Response:
    """A response that is sent with the headers of its session."""

    def __init__(
        self,
        response: Any,
        session: AsyncSessionObject,
        served: serving.Request | None,
        timed: Callable[[], Headers] | None,
        end: Callable[[], None] | None,
    ) -> None:
        self._response = response
        self._session = session
        self._served = served
        self._timed = timed
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._timed is not None:
            send = timed_send(self._timed, send)
        try:
            work = functools.partial(respond, self._session, self._response)
            await serving.aserve(work, scope, receive, send, self._served)
        finally:
            if self._end is not None:
                self._end()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._response, name)
