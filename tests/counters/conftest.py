"""Tests of counts begin with no tallies: a run of many tests has used up the names a process keeps apart."""

from __future__ import annotations

import pytest

from beaker.counters import registry


@pytest.fixture(autouse=True)
def _own_tallies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_caches", {})
