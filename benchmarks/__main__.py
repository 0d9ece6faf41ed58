"""How fast: this Beaker beside Beaker 1.14.1, its peers and the floor, in one run.

``python -m benchmarks`` prints a Markdown table. The implementations take turns, round after round, each in a process
and environment of its own; figures are medians, ``±`` is half the distance of the quartiles, ratios are medians of the
rounds' ratios. ``--quick`` only proves that every row works. The environments are created at first use.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import growth, report, services
from benchmarks.environments import PLOTTING, ROOT, prepare
from benchmarks.measuring import GROWTH, QUICK, Effort, Result, measure
from benchmarks.progress import Progress
from benchmarks.row import Row
from benchmarks.rows import ROWS
from benchmarks.samplers import Workers, versions, who


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    made.add_argument("--only", action="append", metavar="TEXT", help="rows whose name has this in it; may be repeated")
    made.add_argument("--who", metavar="NAMES", help="implementations, with commas: ours,beaker,floor,Django ...")
    made.add_argument("--quick", action="store_true", help="prove that the rows work; the figures mean little")
    made.add_argument(
        "--rounds", type=int, help=f"measurements of each call (default {Effort.rounds}, with --growth {GROWTH.rounds})"
    )
    made.add_argument("--growth", action="store_true", help="the curves (keys, sizes, threads, processes) instead")
    made.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    made.add_argument("--load", type=Path, metavar="FILE", action="append", help="show kept figures, measure nothing")
    made.add_argument("--markdown", type=Path, metavar="PAGE", help="put the table between the page's marks")
    made.add_argument("--plot", type=Path, metavar="FOLDER", help="draw the pictures of docs/performance.md")
    made.add_argument("--list", action="store_true", help="name the rows and who does them")
    return made


def selected(rows: Sequence[Row], only: Sequence[str] | None) -> list[Row]:
    """The rows that have one of the texts in their names, in their order."""
    return [row for row in rows if only is None or any(text.lower() in row.name.lower() for text in only)]


def effort_of(given: argparse.Namespace) -> Effort:
    effort = QUICK if given.quick else GROWTH if given.growth else Effort()
    if given.rounds:
        effort = Effort(given.rounds, effort.seconds, given.rounds, given.rounds, effort.load_seconds, effort.keys)
    return effort


def run(rows: Sequence[Row], effort: Effort, names: Sequence[str] | None) -> report.Report:
    """Measure the rows. A row whose server is missing is skipped, with the reason in its result."""
    size = f"{effort.rounds} rounds of {effort.seconds:g} s"
    found = report.Report(report.about(versions(), size), {})
    prepare(name for row in rows for name in who(row) if names is None or name in names)
    progress = Progress(len(rows))
    with services.running({name for row in rows for name in row.needs}) as running:
        workers = Workers(running.addresses)
        try:
            for row in rows:
                progress.step(row.name)
                lacking = running.lacking(row.needs)
                result = Result(row.name, row.unit, skipped=lacking)
                if not lacking:
                    result = measure(row, workers, effort, lambda name: names is None or name in names)
                found.results[row.name] = result
        finally:
            workers.close()
            progress.close()
    return found


def show(rows: Sequence[Row], found: report.Report, given: argparse.Namespace) -> None:
    text = report.curves(rows, found) if given.growth else report.table(rows, found)
    text = f"{report.heading(found)}\n\n{text}"
    print(text)
    if given.markdown is not None:
        report.insert(given.markdown, "growth" if given.growth else "table", text)


def plot(found: report.Report, folder: Path) -> None:
    """Draw with matplotlib, which is installed into an environment of its own."""
    kept = ROOT / "benchmarks" / "results" / "plotted.json"
    found.save(kept)
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([PLOTTING.python(), str(ROOT / "benchmarks" / "plot.py"), str(kept), str(folder)], check=True)


def complaints(found: report.Report) -> list[str]:
    """What makes the run a failure: work that failed, and with CI set also what could not run."""
    said = [f"{r.name}, {name}: {why}" for r in found.results.values() for name, why in r.failed.items()]
    skipped = [f"{r.name}: {r.skipped}" for r in found.results.values() if r.skipped]
    for line in skipped:
        print(f"skipped: {line}", file=sys.stderr)
    return said + (skipped if os.environ.get("CI") else [])


def main(arguments: Sequence[str]) -> int:
    given = parser().parse_args(arguments)
    rows = selected(growth.ROWS if given.growth else ROWS, given.only)
    if given.quick:
        rows = [row for row in rows if row.quick]
    if not rows:
        print("No row has that in its name, or none that --quick runs; --list names them.", file=sys.stderr)
        return 2
    if given.list:
        print("\n".join(f"{row.name}: {', '.join(who(row))}" for row in rows))
        return 0
    started = time.monotonic()
    if given.load:
        loaded = [report.Report.load(path) for path in given.load]
        found = report.Report(loaded[0].about, {name: r for part in loaded for name, r in part.results.items()})
    else:
        found = run(rows, effort_of(given), given.who.split(",") if given.who else None)
    if given.json is not None:
        found.save(given.json)
    show(rows, found, given)
    if given.plot is not None:
        plot(found, given.plot)
    failures = complaints(found)
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    print(f"{len(found.results)} rows in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
