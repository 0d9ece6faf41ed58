"""Type checkers see through the decorators: parameters and results are the function's own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import missing

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = Path(__file__).with_name("cached.py")

WRONG = [n for n, line in enumerate(SAMPLE.read_text("utf-8").splitlines(), 1) if line.endswith("# wrong")]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=170)


def by_mypy(tmp_path: Path) -> list[int]:
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = true\n", "utf-8")
    done = run("mypy", f"--config-file={config}", f"--cache-dir={tmp_path}", "--show-error-codes", str(SAMPLE))
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(r"^(.+?):(\d+): error: ", done.stdout, re.MULTILINE)
    assert {Path(ROOT, path) for path, _ in found} <= {SAMPLE}, done.stdout
    return sorted({int(line) for _, line in found})


def by_pyright(tmp_path: Path) -> list[int]:
    copy = Path(shutil.copy(SAMPLE, tmp_path))
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    done = run("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(tmp_path))
    if done.returncode not in (0, 1):
        missing("pyright", "it fetches itself from the npm registry when it first runs")
    diagnostics = json.loads(done.stdout[done.stdout.index("{") :])["generalDiagnostics"]
    assert {Path(found["file"]) for found in diagnostics} <= {copy}, done.stdout
    return sorted({found["range"]["start"]["line"] + 1 for found in diagnostics if found["severity"] == "error"})


@pytest.mark.slow
@pytest.mark.parametrize("checker", [by_mypy, by_pyright])
def test_mistakes_are_found_and_nothing_else(checker: object, tmp_path: Path) -> None:
    """mypy --strict and pyright (strict) find each wrong call of a cached function or method, and no other line."""
    assert callable(checker)
    assert checker(tmp_path) == WRONG
