"""Mutation tests of signing, sealing, merging, creating and voiding: whether the tests notice a changed line.

``python -m benchmarks.mutations`` takes about an hour on one core. What survives is listed, and stands in
``explained.json`` where nothing that is promised differs. The exit status is 1 when a survivor is not explained,
or below 90 % of all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT, Environment, shared
from benchmarks.mutations.targets import TARGETS
from benchmarks.report import about, insert

TOOLS = ("pytest", "pytest-timeout", "hypothesis", "cryptography")
CLIENTS = ("SQLAlchemy", "psycopg[binary]", "redis", "pymemcache", "anyio", "trio", "Flask")
COSMIC_RAY = Environment("mutations", ("cosmic-ray==8.7.0", "coverage==7.17.5", *shared(*TOOLS, *CLIENTS)))
EXPLAINED = Path(__file__).with_name("explained.json")
HEADING = """\
| module | mutants | killed | survived | of these explained | killed % |
| --- | ---: | ---: | ---: | ---: | ---: |"""
NOTICED = ("killed", "hung")
LEAST = 90.0
"""Percent of all mutants that the tests have to notice."""

Outcome = dict[str, Any]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.mutations", description=(__doc__ or "").split("\n")[0])
    names = ",".join(target.name for target in TARGETS)
    made.add_argument("--only", metavar="TARGETS", help=f"with commas: {names}")
    made.add_argument("--module", action="append", metavar="FILE", help="of the one target, this file only")
    made.add_argument("--json", type=Path, metavar="FILE", help="keep the outcomes, a line each; those there stay")
    made.add_argument("--load", type=Path, action="append", metavar="FILE", help="show kept outcomes, run nothing")
    made.add_argument("--markdown", type=Path, metavar="PAGE", help="put the figures between the page's marks")
    return made


def outcomes(target: str, modules: Sequence[str], kept: Path | None) -> Iterator[Outcome]:
    """What became of each mutant of ``target``, as it ends, but for those that ``kept`` has."""
    known = os.devnull if kept is None else str(kept.resolve())
    command = [COSMIC_RAY.python(), "-m", "benchmarks.mutations.worker", target, known, *modules]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield from (json.loads(line) for line in process.stdout if line.startswith("{"))
    if process.returncode:
        raise SystemExit(f"{target}: the worker ended with status {process.returncode}")


def read(paths: Sequence[Path]) -> list[Outcome]:
    """The outcomes that those files keep."""
    lines = [line for path in paths for line in path.read_text("utf-8").splitlines()]
    return [json.loads(line) for line in lines if line.startswith("{")]


def explanations() -> dict[tuple[str, str, str], str]:
    """Why a survivor is right, by module and both forms of the line."""
    kept: list[dict[str, Any]] = json.loads(EXPLAINED.read_text("utf-8"))
    return {(one["module"], was, now): one["why"] for one in kept for was, now in one["changes"]}


def identity(outcome: Outcome) -> tuple[str, str, str]:
    return outcome["module"], outcome["was"], outcome["now"]


def table(found: Sequence[Outcome]) -> tuple[str, bool]:
    """The rows of the page, and whether every module is good enough."""
    known, rows, good = explanations(), [HEADING], True
    modules = list(dict.fromkeys(outcome["module"] for outcome in found))
    for module in [*modules, ""]:
        those = [outcome for outcome in found if not module or outcome["module"] == module]
        count = Counter(outcome["outcome"] in NOTICED for outcome in those)
        explained = sum(outcome["outcome"] not in NOTICED and identity(outcome) in known for outcome in those)
        percent = 100 * count[True] / len(those) if those else 0.0
        good = good and explained == count[False] and (percent >= LEAST or bool(module))
        title = f"`{module}`" if module else "all"
        rows.append(f"| {title} | {len(those)} | {count[True]} | {count[False]} | {explained} | {percent:.1f} |")
    return "\n".join(rows), good


def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    names = given.only.split(",") if given.only else [target.name for target in TARGETS]
    versions = {"Python": sys.version.split()[0], "cosmic-ray": "8.7.0"}
    heads = [f"- {title}: {text}" for title, text in about(versions, "every mutant").items()]
    found = read(given.load or ([given.json] if given.json and given.json.exists() else []))
    if not given.load:
        for name in names:
            for outcome in outcomes(name, given.module or (), given.json):
                found.append(outcome)
                if given.json:
                    with given.json.open("a", encoding="utf-8") as kept:
                        kept.write(json.dumps(outcome) + "\n")
    known = explanations()
    for outcome in found:
        if outcome["outcome"] not in NOTICED and identity(outcome) not in known:
            print(f"{outcome['module']}:{outcome['line']}: {outcome['was']}\n    => {outcome['now']}")
    text, good = table(found)
    print(text)
    if given.markdown:
        insert(given.markdown, "mutations", "\n".join([*heads, "", text]))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
