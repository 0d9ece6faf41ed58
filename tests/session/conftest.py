"""Fixtures of the session suites: a clock, and tabs on a place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.middleware import SessionMiddleware
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import Handler, Tab
from tests.session.places import options_of


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def open_tab(tmp_path: Path, clock: FakeClock) -> Callable[..., Tab]:
    """``open_tab(place, **options)``: a browser tab on a middleware of its own over the test's directory."""

    def open_tab(place: str, **more: Any) -> Tab:
        handlers: list[Handler] = []

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            handlers.pop()(environ["beaker.session"])
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"done"]

        return Tab(SessionMiddleware(app, clock=clock, **{**options_of(place, tmp_path), **more}), handlers)

    return open_tab
