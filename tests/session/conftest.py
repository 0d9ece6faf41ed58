"""Fixtures of the session suites: a clock, and tabs on a place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import Tab
from tests.session.places import opened


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def open_tab(tmp_path: Path, clock: FakeClock) -> Callable[..., Tab]:
    """``open_tab(place, **options)``: a browser tab on a middleware of its own over the test's directory."""

    def open_tab(place: str, **more: Any) -> Tab:
        return opened(place, tmp_path, clock=clock, **more)

    return open_tab
