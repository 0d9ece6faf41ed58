"""Leases on every store that several processes share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from beaker.testing import FakeClock
from beaker.testing.lock import LeaseContract
from tests.storage.shared import SHARED, open_store


class TestLeases(LeaseContract):
    @pytest.fixture(params=SHARED)
    def store(self, request: pytest.FixtureRequest, clock: FakeClock, tmp_path: Path) -> Any:
        return open_store(request.param, request, clock, tmp_path)
