"""The benchmarks still run, and distinguish a loss from none."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import concurrency, growth, racing, report, services
from benchmarks.measuring import Result
from benchmarks.row import Goal, Row
from benchmarks.rows import ROWS
from benchmarks.samplers import who


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
    ("line", "cookie"),
    [
        ("id=ab1970cd; Path=/; HttpOnly", "id=ab1970cd"),
        ("id=Max-Age; Path=/", "id=Max-Age"),
        ("id=; Max-Age=0; Path=/", ""),
        ("id=ab; expires=Thu, 01-Jan-1970 00:00:00 GMT", ""),
    ],
)
def test_a_dropped_cookie_is_told_by_its_attributes(line: str, cookie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random token that has 1970 in it is none that was dropped: one in 250,000 has."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Set-Cookie", line)])
        return []

    monkeypatch.setattr(racing, "SessionMiddleware", lambda of_browser, config: app)
    assert racing.Browser({}).request("", lambda session: None)[0] == cookie


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


def test_each_row_is_one_and_can_be_judged() -> None:
    """No two rows share a name, ours does every one, and a row's goals and servers are known."""
    rows = [*ROWS, *growth.ROWS]
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert "ours" in who(row), row.name
        assert {goal.of for goal in row.goals} <= set(who(row)), row.name
        assert row.needs <= set(services.ALL), row.name


def test_the_command_measures_and_keeps_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A quick run prints a line a row, and what it keeps can be shown again."""
    kept = tmp_path / "figures.json"
    chosen = ["--quick", "--only", "@cache_region hit", "--only", "untouched", "--who", "ours,floor"]
    assert command.main([*chosen, "--json", str(kept)]) == 0
    printed = capsys.readouterr().out
    assert "| @cache_region hit, memory |" in printed
    result = json.loads(kept.read_text())["results"][1]
    assert (result["name"], result["failed"]) == ("request, session untouched", {})
    assert {name: len(values) for name, values in result["values"].items()} == {"ours": 3, "floor": 3}
    assert all(value > 0 for values in result["values"].values() for value in values)
    assert command.main(["--load", str(kept)]) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("axis", ["threads", "processes"])
def test_a_point_of_a_curve_is_measured(axis: str, tmp_path: Path) -> None:
    """Several threads, or several processes, do the work together."""
    kept = tmp_path / "figures.json"
    only = f"growth: @cache_region hit, memory, {axis} 2"
    assert command.main(["--growth", "--quick", "--only", only, "--who", "ours", "--json", str(kept)]) == 0
    found = report.Report.load(kept).results
    assert list(found) == [only]
    assert len(found[only].values["ours"]) == 3


def test_work_that_fails_fails_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An implementation whose work raises is named with its error; the others of the row are measured."""
    row = next(row for row in ROWS if row.name == "request, session untouched")
    # The worker has no builder of that name.
    broken = Row(row.name, {**row.work, "ndb": row.work["floor"]})
    monkeypatch.setattr(command, "ROWS", (broken,))
    assert command.main(["--quick", "--who", "ours,ndb"]) == 1
    out, err = capsys.readouterr()
    assert "FAILED: request, session untouched, ndb: KeyError: 'ndb'" in err
    assert "ndb failed" in out
    assert "µs" in out


def test_a_missing_server_skips_a_row_and_fails_it_in_ci(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its row says what to install; a laptop's run does not fail for it, one with CI set does."""
    monkeypatch.setenv("PATH", "/nowhere")
    for variable, status in (("", 0), ("true", 1)):
        monkeypatch.setenv("CI", variable)
        assert command.main(["--quick", "--only", "Flask page, signed cookie, read", "--who", "ours"]) == status
        out, err = capsys.readouterr()
        assert "not run: no wrk: apt-get install wrk" in out
        assert ("FAILED" in err) == bool(status)


@pytest.mark.parametrize(
    ("unit", "ours", "beaker", "goal", "shown"),
    [
        ("µs", [1.0, 2.0, 9.0], [2.0, 4.0, 18.0], Goal(0.5, "beaker"), "≥ 2.00 × as fast as Beaker 1.14.1: 2.00, met"),
        ("µs", [2.0, 2.0], [3.0, 3.0], Goal(0.5, "beaker"), "≥ 2.00 × as fast as Beaker 1.14.1: 1.50, **not met**"),
        ("requests/s", [900.0], [300.0], Goal(0.5, "beaker"), "≥ 2.00 × as fast as Beaker 1.14.1: 3.00, met"),
        ("requests/s", [200.0], [300.0], Goal(1.2, "beaker"), "≤ 1.20 × Beaker 1.14.1: 1.50, **not met**"),
        ("µs", [1.0], [], Goal(0.5, "beaker"), "≥ 2.00 × as fast as Beaker 1.14.1: not measured"),
    ],
)
def test_a_goal_is_judged_by_the_rounds_ratios(
    unit: str, ours: list[float], beaker: list[float], goal: Goal, shown: str
) -> None:
    """Less is better for a time, more for throughput; without a figure nothing is claimed."""
    result = Result("work", unit, {"ours": ours, "beaker": beaker})
    assert report.verdict(goal, result) == shown
    assert report.cells(Row("work", {}, goals=(goal,), unit=unit), result)[-1] == shown


def test_figures_go_between_a_pages_marks(tmp_path: Path) -> None:
    """The rest of the page stays as it is; a page without the marks is refused."""
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures: table -->\nold\n<!-- end of figures -->\nafter\n")
    for text in ("| new |", "| newer |"):
        report.insert(page, "table", text)
        assert page.read_text() == f"before\n<!-- figures: table -->\n\n{text}\n\n<!-- end of figures -->\nafter\n"
    with pytest.raises(ValueError, match="growth"):
        report.insert(page, "growth", "x")
