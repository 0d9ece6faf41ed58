"""Fuzzes everything that is read from cookies and stores, with atheris.

``python -m benchmarks.fuzzing --minutes 20`` shares the minutes among the targets. Corpora are kept in
``benchmarks/results/fuzzing`` and go on from there. The exit status is 1 when an input did what is not promised.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.environments import ROOT, Environment, shared
from benchmarks.report import about, insert

ATHERIS = Environment("fuzzing", ("atheris==3.0.0", *shared("cryptography")))
TARGETS = (
    "tokens", "signed-bodies", "cookies", "cookie-payloads", "tagged-json",
    "envelopes", "entries", "legacy", "legacy-json", "pickles",
)  # fmt: skip
"""The names of :data:`benchmarks.fuzzing.targets.TARGETS`."""
PLACE = ROOT / "benchmarks" / "results" / "fuzzing"
HEADING = "| target | executions | corpus | seconds | peak MB | findings |\n| --- | ---: | ---: | ---: | ---: | ---: |"


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.fuzzing", description=(__doc__ or "").split("\n")[0])
    made.add_argument("--minutes", type=float, default=10.0, metavar="M", help="in all (default 10)")
    made.add_argument("--only", metavar="TARGETS", help=f"with commas: {','.join(TARGETS)}")
    made.add_argument("--markdown", type=Path, metavar="PAGE", help="put the figures between the page's marks")
    return made


def fuzz(name: str, seconds: int) -> tuple[str, bool]:
    """The row of the table for ``name`` after so many seconds, and whether nothing was found."""
    place = PLACE / name
    before = set(place.glob("found/*"))
    command = [ATHERIS.python(), "-m", "benchmarks.fuzzing.worker", name, str(place), f"-max_total_time={seconds}"]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    found = sorted(set(place.glob("found/*")) - before)
    if found or done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
        print(f"{name}: {', '.join(map(str, found)) or 'ended by itself'}", file=sys.stderr)

    def figure(label: str) -> str:
        match = re.search(rf"{label}:\s+(\d+)", done.stderr)
        return f"{int(match[1]):,}" if match else "–"

    corpus = len(list(place.glob("corpus/*")))
    figures = [figure("number_of_executed_units"), f"{corpus:,}", str(seconds), figure("peak_rss_mb"), str(len(found))]
    return f"| {name} | {' | '.join(figures)} |", not found and not done.returncode


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    names = given.only.split(",") if given.only else list(TARGETS)
    if set(names) - set(TARGETS):
        raise SystemExit("no such target; --help names them")
    versions = {"Python": sys.version.split()[0], "atheris": "3.0.0"}
    lines = [f"- {title}: {text}" for title, text in about(versions, f"{given.minutes:g} minutes").items()]
    rows, good = [], True
    for name in names:
        row, held = fuzz(name, max(1, round(given.minutes * 60 / len(names))))
        print(row, flush=True)
        rows.append(row)
        good = good and held
    if given.markdown:
        insert(given.markdown, "fuzzing", "\n".join([*lines, "", HEADING, *rows]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
