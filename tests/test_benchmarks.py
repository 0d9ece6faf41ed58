"""The benchmarks still run, and tell a loss from none."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import concurrency


@pytest.mark.parametrize("race", concurrency.RACES)
def test_a_race_of_processes_loses_nothing(race: str, tmp_path: Path) -> None:
    """Every race runs through the middleware in eight processes, on files, and its outcome is a row of the table."""
    outcome = concurrency.run(sys.executable, "file", {"type": "file", "data_dir": str(tmp_path)}, race, 8)
    assert concurrency.kept(race, outcome), outcome
    assert outcome["wanted"] >= 8
    row = concurrency.cells("file", {race: outcome})
    assert len(row) == len(concurrency.TITLES)
    assert sum(cell != "–" for cell in row) >= 4


@pytest.mark.parametrize(
    ("race", "outcome"),
    [
        ("R2", {"wanted": 8, "kept": 7, "errors": 0}),
        ("R4", {"wanted": 8, "kept": 9, "errors": 0}),
        ("R4", {"wanted": 8, "kept": 8, "errors": 1}),
        ("R5", {"wanted": 8, "lost": 1, "errors": 0}),
        ("R6", {"wanted": 8, "alive": 1, "cookies": 0, "dropped": 0, "errors": 0}),
        ("R6", {"wanted": 8, "alive": 0, "cookies": 1, "dropped": 0, "errors": 0}),
        ("R7", {"wanted": 8, "alive": 0, "cookies": 0, "dropped": 1, "errors": 0}),
        ("R2", {"failed": "TimeoutExpired"}),
    ],
)
def test_a_loss_is_seen(race: str, outcome: dict[str, Any]) -> None:
    """A key, an addition, an ending or a user lost, an error, a run that did not end."""
    assert not concurrency.kept(race, outcome)
