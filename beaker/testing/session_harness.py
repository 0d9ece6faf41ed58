"""What the session suites stand on: tabs whose requests are functions of the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from beaker.middleware import SessionMiddleware
from beaker.session.proxy import SessionObject
from beaker.testing.browser import Browser
from beaker.testing.clock import FakeClock

__all__ = ["COOKIE", "NEW_SECRET", "OTHER_SECRET", "SECRET", "Handler", "SessionHarness", "Tab"]

SECRET = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
OTHER_SECRET = "pR5tZ8wC1nB4vX7qM0kL3jH6gF9dS2aYeUoIiTrEwQm"
NEW_SECRET = "kD9sW2xEvB6nC0mLqTzR4yUaJ8hGfP1iOe5VtXw7N3o"
COOKIE = "beaker.session.id"

Handler = Callable[[SessionObject], Any]


class Tab(Browser):
    """A browser tab whose requests are functions of the session: ``tab.do(lambda s: s.save())``."""

    def __init__(self, middleware: SessionMiddleware, handlers: list[Handler]) -> None:
        super().__init__(middleware)
        self.middleware = middleware
        self.handlers = handlers

    def do(self, handler: Handler) -> Any:
        """One request that runs ``handler(session)``; returns what it returns. ``self.last`` is the response."""
        answers: list[Any] = []
        self.handlers.append(lambda session: answers.append(handler(session)))
        self.last = self.get()
        return answers[0]

    def do_with_header(self, header: str, handler: Handler) -> Any:
        """:meth:`do` with a Cookie header as given."""
        answers: list[Any] = []
        self.handlers.append(lambda session: answers.append(handler(session)))
        self.last = self.get(HTTP_COOKIE=header)
        return answers[0]

    def copy(self) -> Tab:
        other = Tab(self.middleware, self.handlers)
        other.cookies = dict(self.cookies)
        return other


class SessionHarness:
    """Subclass it with an ``options`` fixture: session options without prefix, for a place of its own.

    ``survives_delete`` is true where a killed session's cookie is refused although the client kept it
    (everywhere but in cookie sessions without a revocation store). ``merges`` is true where requests at the
    same time share a record.
    """

    survives_delete = False
    merges = True

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def options(self) -> dict[str, Any]:
        raise NotImplementedError("give the session options of the place under test")

    @pytest.fixture
    def make(self, options: dict[str, Any], clock: FakeClock) -> Callable[..., Tab]:
        def make(**more: Any) -> Tab:
            handlers: list[Handler] = []

            def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
                handlers.pop()(environ["beaker.session"])
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [b"done"]

            return Tab(SessionMiddleware(app, clock=clock, **{**options, **more}), handlers)

        return make

    @pytest.fixture
    def tab(self, make: Callable[..., Tab]) -> Tab:
        return make()

    @staticmethod
    def put(**values: Any) -> Handler:
        def handler(session: SessionObject) -> None:
            session.update(values)
            session.save()

        return handler
