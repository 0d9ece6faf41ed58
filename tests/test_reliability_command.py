"""The command of the reliability run: its parts, its time, its figures."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beaker.testing import FakeClock
from benchmarks import concurrency
from benchmarks.reliability import __main__ as command
from benchmarks.reliability import page, run
from benchmarks.reliability.faults import SCENARIOS, Scenario
from benchmarks.reliability.oracle import Verdict
from benchmarks.reliability.place import Place
from benchmarks.reliability.schedule import Part, Schedule
from benchmarks.report import BEGIN, END


def test_where_a_process_hangs_fits_a_line() -> None:
    """Of what faulthandler prints, the three innermost frames of Beaker's a thread; threads at one place once."""
    frames = [
        '  File "/usr/lib/python3/threading.py", line 324 in wait',
        '  File "/srv/beaker/beaker/locking/api.py", line 77 in poll',
        '  File "/srv/beaker/beaker/storage/lease.py", line 127 in _acquire',
        '  File "/srv/beaker/beaker/session/contention.py", line 67 in lose',
        '  File "/srv/beaker/beaker/session/base.py", line 9 in save',
    ]
    waits = ["Thread 0x00007f01 (most recent call first):", *frames]
    idle = ["Current thread 0x00007f03 (most recent call first):", frames[0]]
    expected = "locking/api.py:77 poll < storage/lease.py:127 _acquire < session/contention.py:67 lose"
    assert run.where("\n".join([*waits, "", *waits, "", *idle])) == expected
    assert run.where("\n".join(idle)) == "no code of Beaker's"


def test_a_run_ends_when_it_should() -> None:
    """Parts that take longer than was guessed leave less for the others; what does not fit any more is left out."""
    clock = FakeClock()
    scenario = SCENARIOS[0]
    parts = [Part("ours", kind, each) for kind in ("google", "redis", "file") for each in (scenario, scenario, None)]
    for slowness in (1.0, 3.0):
        schedule = Schedule(parts, 10.0, timer=clock)
        for part in parts:
            seconds, beside = schedule.seconds(), part.beside * slowness
            clock.advance(seconds + beside)
            schedule.over(beside)
        assert 9.5 < schedule.passed < 10.5
    late = Schedule(parts, 10.0, timer=clock)
    clock.advance(599.0)
    assert late.seconds() == 0.5
    clock.advance(1.0)
    assert late.seconds() == 0.0


def test_a_worker_has_its_time_and_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not ready yet after the last fault is waited for to the end of the run and its grace, not less."""
    clock = FakeClock()
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=clock, sleep=clock.advance))
    soaked = run.Run(Place("file", {}, None, ours=True), "python", 31.0, 1)
    soaked.until = clock() + 23.0
    waited: list[float] = []

    class Starting:
        pid = 1

        def poll(self) -> None:
            if clock() > begun + 0.5:
                soaked._at_work.add(self.pid)

        def wait(self, timeout: float) -> int:
            waited.append(clock() + timeout)
            return 0

    begun = clock()
    soaked.processes = {0: Starting()}  # type: ignore[dict-item]
    soaked.finish()
    assert [end - soaked.until for end in waited] == [pytest.approx(run.GRACE_SECONDS)]


def test_a_part_that_cannot_run_ends_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever one scenario, or the start of one server, raises is kept as its outcome, and the run goes on."""

    def failing(scenario: Scenario, *args: object) -> Verdict:
        if scenario.name == "fork":
            raise ValueError("broken")
        return Verdict(acknowledged=1)

    monkeypatch.setattr(command, "run_scenario", failing)
    places = concurrency.places

    def fail(kinds: list[str], running: dict[str, Any]) -> Any:
        return pytest.skip("no server") if kinds == ["redis"] else places(kinds, running)

    monkeypatch.setattr(concurrency, "places", fail)
    kept = tmp_path / "figures.json"
    chosen = [
        "--full",
        "--minutes",
        "1",
        "--beakers",
        "ours",
        "--only",
        "memory,redis",
        "--scenarios",
        "clock,fork,flood",
    ]
    monkeypatch.setattr(command, "soak", lambda *args: (Verdict(acknowledged=2), {}))
    assert command.main([*chosen, "--json", str(kept)]) == 0
    ours = json.loads(kept.read_text())["figures"]["ours"]
    assert {name: "acknowledged" in outcome for name, outcome in ours["memory"].items()} == {
        "clock": True, "fork": False, "flood": True, "soak": True,
    }  # fmt: skip
    assert ours["memory"]["fork"] == {
        "failed to run": "ValueError: broken",
        "seconds": ours["memory"]["fork"]["seconds"],
    }
    assert [outcome["failed to run"] for outcome in ours["redis"].values()] == ["Skipped: no server"] * 4


def test_the_load_that_is_shown_is_that_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures say what load the machine had when the run began, not the load of the run itself."""
    loads = iter([(1.0, 1.0, 1.0), (9.0, 9.0, 9.0)])
    monkeypatch.setattr("os.getloadavg", lambda: next(loads))
    begun = command.Command(command.parser().parse_args(["--quick"]))
    assert begun._about()["load at the start (1/5/15 minutes)"] == "1.0/1.0/1.0"


def test_the_command_keeps_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run prints its tables, writes them between the marks of a page, and keeps them as JSON."""
    shown, kept = tmp_path / "page.md", tmp_path / "figures.json"
    shown.write_text(f"before\n{BEGIN.format('reliability')}\n{END}\nafter\n")
    chosen = ["--quick", "--only", "memory", "--scenarios", "flood", "--json", str(kept), "--markdown", str(shown)]
    assert command.main(chosen) == 0
    outcome = json.loads(kept.read_text())["figures"]["ours"]["memory"]["flood"]
    assert outcome["acknowledged"]
    assert (outcome["lost"], outcome["foreign"]) == (0, 0)
    assert f"| flood | 0 / 0 of {outcome['acknowledged'] + outcome['reads']:,} |" in shown.read_text()
    printed = capsys.readouterr().out
    assert "| memory |" in printed
    assert "soak" not in printed.partition("Not tested")[0]
    soaked = page.text({}, {"ours": {"file": {"soak": outcome}, "memory": {"flood": outcome}}}, [])
    assert soaked.count("| file |") == 1
    assert "soak of 8 processes" in soaked
    assert command.main(["--load", str(kept)]) == 0
    assert capsys.readouterr().out == printed


def test_a_foreign_value_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """With status 2, before the next scenario begins."""
    verdicts = [Verdict(acknowledged=1), Verdict(acknowledged=1, foreign=1)]
    monkeypatch.setattr(command, "run_scenario", lambda *args: verdicts.pop(0))
    assert command.main(["--quick", "--only", "memory", "--scenarios", "clock,fork,flood"]) == 2
    monkeypatch.setattr(command, "run_scenario", lambda *args: Verdict(acknowledged=1, lost=1))
    assert command.main(["--quick", "--only", "memory", "--scenarios", "clock"]) == 1
