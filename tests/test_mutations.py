"""The runner of mutation tests: a mutant that a test notices is killed, one that no test notices survives."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beaker.crypto import deflate
from benchmarks.mutations import __main__ as command
from benchmarks.mutations.changing import change
from benchmarks.mutations.mutants import Mutant
from benchmarks.mutations.targets import TARGETS
from benchmarks.mutations.worker import STARTING, Baseline, Run, Runner, collect
from benchmarks.report import BEGIN, END

ROOT = Path(__file__).resolve().parent.parent
MODULE = "beaker/crypto/deflate.py"


def planted(was: str, now: str, function: str) -> Mutant:
    source = (ROOT / MODULE).read_text("utf-8")
    assert source.count(was) == 1
    line = source[: source.index(was)].count("\n") + 1
    return Mutant(MODULE, "planted", line, line, line, was, now, function, source.replace(was, now))


def check(mutant: Mutant, names: list[str], alive: Callable[[], object]) -> str:
    assert change(mutant)
    return "survived" if deflate.deflated(b"x" * 100, 1) == PACKED else "killed"


PACKED = deflate.deflated(b"x" * 100, 1)


@pytest.mark.parametrize(
    ("mutant", "expected"),
    [
        (planted("return packed if", "return data if", "deflated"), "killed"),
        (planted("_RAW: Final = -15", "_RAW: Final = 15", ""), "killed"),
        (planted("_RAW: Final = -15", "_RAW: Final = bytes([256])", ""), "killed"),
        (planted("level: int = 6", "level: int = 7", ""), "survived"),
        (planted("limit + 1)", "limit + 2)", "inflated"), "survived"),
    ],
    ids=["a function", "a constant", "a constant that cannot be computed", "a default", "what is not looked at"],
)
def test_planted_mutants(monkeypatch: pytest.MonkeyPatch, mutant: Mutant, expected: str) -> None:
    """What changes the checked bytes is killed, what does not survives, and this process keeps the code as it is."""
    monkeypatch.chdir(ROOT)
    base = Baseline({"check": 0.0}, 1.0, [], {MODULE: {line: ["check"] for line in range(99)}})
    outcomes: list[str] = []
    Run(TARGETS[0], [], lambda _, outcome: outcomes.append(outcome), base).judge(mutant, check)
    assert outcomes == [expected]
    assert deflate.deflated(b"x" * 100, 1) == PACKED


def test_a_file_that_cannot_be_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs with the tests of the other files only, which would let mutants survive; the file is named."""
    begun: list[Runner] = []

    def main(arguments: list[str], plugins: list[Runner]) -> pytest.ExitCode:
        report: Any = SimpleNamespace(failed=True, nodeid="tests/test_x.py", longreprtext="E  No module named 'y'")
        plugins[0].pytest_collectreport(report)
        session: Any = SimpleNamespace(items=[])
        plugins[0].pytest_runtestloop(session)
        return pytest.ExitCode.TESTS_FAILED

    monkeypatch.setattr(pytest, "main", main)
    with pytest.raises(SystemExit, match=r"tests/test_x.py: E  No module named 'y'"):
        collect(TARGETS[0], begun.append)
    assert begun == []


def test_the_order_of_tests() -> None:
    """The fastest of each file first, a file with many cheap ones before the expensive ones of another, to a limit."""
    seconds = {"a::1": 0.1, "a::2": 0.1, "a::3": 0.1, "b::1": 0.2, "b::2": 1.0, "b::3": 9.0}
    base = Baseline(seconds, 1.0, [], {MODULE: {1: list(seconds)}})
    mutant = Mutant(MODULE, "planted", 1, 1, 1, "", "", "f", "")
    assert base.chosen(mutant) == ["a::1", "a::2", "b::1", "a::3", "b::2"]


def test_every_explanation_is_of_a_line_that_is_there() -> None:
    """What explained.json calls right is in its module, once spaces are equal."""
    for module, was, _ in command.explanations():
        assert was in " ".join((ROOT / module).read_text("utf-8").split()), (module, was)


def test_every_file_of_a_target_exists() -> None:
    """A renamed module or test file is noticed before the long run."""
    assert [path for target in TARGETS for path in (*target.modules, *target.tests) if not (ROOT / path).exists()] == []


def test_what_is_left_out_is_there() -> None:
    """Each test that starts processes is left out by its own name: a word would leave out others unseen."""
    files = {path for target in TARGETS for path in target.tests}
    texts = "".join((ROOT / path).read_text("utf-8") for path in files)
    assert [name for name in STARTING if texts.count(f"def {name}") != 1] == []


def test_the_page_has_a_place_for_the_figures() -> None:
    """docs/reliability.md keeps the marks between which the command writes."""
    page = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    assert BEGIN.format("mutations") in page
    assert END in page.partition(BEGIN.format("mutations"))[2]


def test_a_run_goes_on_where_a_kept_one_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The worker gets the target, what is kept, and the modules; the table has what was kept, too."""
    outcome = {"module": MODULE, "operator": "planted", "line": 1, "was": "a", "now": "b", "outcome": "killed"}
    kept = tmp_path / "kept.jsonl"
    kept.write_text(json.dumps(outcome) + "\n")
    worker = tmp_path / "python"
    worker.write_text(f"#!/bin/sh\necho '{json.dumps({**outcome, 'line': 2})}'\necho \"$@\" >> {tmp_path}/asked\n")
    worker.chmod(0o700)
    monkeypatch.setattr(command, "COSMIC_RAY", SimpleNamespace(python=lambda: str(worker)))
    assert command.main(["--only", "sealing", "--module", MODULE, "--json", str(kept)]) == 0
    assert command.main(["--only", "merge"]) == 0
    of_sealing, of_merge = (tmp_path / "asked").read_text().splitlines()
    assert of_sealing == f"-m benchmarks.mutations.worker sealing {kept} {MODULE}"
    assert of_merge == f"-m benchmarks.mutations.worker merge {os.devnull}"
    assert [json.loads(line)["line"] for line in kept.read_text().splitlines()] == [1, 2]
    assert "| 2 | 2 | 0 |" in capsys.readouterr().out
