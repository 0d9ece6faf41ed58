"""What tests of caches share."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """A line of the log for each of thousands of calls would take most of the time."""
    caplog.set_level(logging.INFO, "beaker.counters")
