"""Fixtures of the legacy suites: a clock at the corpus's time, and browsers that come with an old cookie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.middleware import SessionMiddleware
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import SECRET, Handler, Tab
from tests.legacy.corpus import COOKIE, MADE, Vector, policy_of, restore
from tests.session.places import options_of


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(MADE + 60)


@pytest.fixture
def arrive(tmp_path: Path, clock: FakeClock) -> Callable[..., Tab]:
    """``arrive(vector, place, policy={}, at="", **options)``: the browser of an old session at a new deployment.

    Places are those of tests/session/places.py and ``cookie``, which has no revocation. The old store is put back
    under ``tmp_path / "old"``, or in the server at ``at``.
    """

    def arrive(
        vector: Vector, place: str = "memory", *, policy: dict[str, Any] | None = None, at: str = "", **more: Any
    ) -> Tab:
        handlers: list[Handler] = []

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            handlers.pop()(environ["beaker.session"])
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"done"]

        old = tmp_path / "old"
        old.mkdir(exist_ok=True)
        (tmp_path / "new").mkdir(exist_ok=True)
        restore(vector, old, at)
        legacy = policy_of(vector, old, at, **(policy or {}))
        new = {"type": "cookie", "validate_key": SECRET} if place == "cookie" else options_of(place, tmp_path / "new")
        options = {**new, "key": COOKIE, "legacy": legacy, **more}
        tab = Tab(SessionMiddleware(app, clock=clock, **options), handlers)
        tab.cookies[COOKIE] = vector["cookie"]
        return tab

    return arrive
