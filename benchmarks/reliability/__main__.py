"""What is kept while processes, servers, disks and clocks fail: this Beaker, and Beaker 1.14.1 beside it.

``python -m benchmarks.reliability --quick`` takes a minute or two, ``--full`` 50 minutes. The exit status is 0 when
this Beaker lost nothing, 1 when it did or hung, 2 as soon as it showed a value that belongs to another user.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from benchmarks import concurrency
from benchmarks.environments import UPSTREAM
from benchmarks.reliability import page
from benchmarks.reliability.faults import ALL, SCENARIOS, Scenario, run_scenario
from benchmarks.reliability.oracle import Verdict
from benchmarks.reliability.place import Place
from benchmarks.reliability.schedule import Part, Schedule
from benchmarks.reliability.soak import soak
from benchmarks.report import about, insert, load_now

QUICK_STORES = ("memory", "file", "dbm", "sqlite", "redis")
QUICK_SECONDS = 0.5
FULL_MINUTES, MINUTES = 50.0, 10.0
BESIDE = ("kill", "server", "damage", "fork", "creator", "logout")
"""Scenarios that a full run does with Beaker 1.14.1, too."""
CLIENTS = ("SQLAlchemy", "psycopg", "pymemcache", "redis", "google-cloud-ndb", "grpcio")
NEVER = (
    "power loss: a killed process leaves the kernel's buffers alone",
    "Google's servers: both emulators only; what the Datastore emulator keeps while it is killed by SIGKILL",
    "network file systems, Windows, macOS, a disk that returns errors or lies",
    "cookie sessions, and hybrid ones on other stores than redis",
)

_NO_SERVER = (Exception, pytest.fail.Exception, pytest.skip.Exception)
"""What a server that cannot be started raises."""

Fresh = Callable[[bool], dict[str, Any] | None]
"""Options of a fresh place, for ours or for Beaker 1.14.1."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=(__doc__ or "").split("\n")[0])
    size = made.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="the local stores and redis, half a second a scenario")
    size.add_argument("--full", action="store_true", help=f"everything, soaks included, in {FULL_MINUTES:g} minutes")
    size.add_argument("--soak", type=float, metavar="M", help="8 x 4 threads on 1,000 sessions, so long on each store")
    made.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help=f"about so long in all (default {MINUTES:g}, --full: {FULL_MINUTES:g})",
    )
    made.add_argument("--only", metavar="STORES", help=f"with commas: {','.join(ALL)}")
    names = ",".join(scenario.name for scenario in SCENARIOS)
    made.add_argument("--scenarios", metavar="NAMES", help=f"with commas: {names}")
    made.add_argument("--beakers", default="", metavar="NAMES", help="ours, 1.14.1 or both (default; --quick: ours)")
    made.add_argument("--workers", type=int, default=2, help="processes that work at a time (default 2)")
    made.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    made.add_argument("--load", type=Path, action="append", metavar="FILE", help="show kept figures, run nothing")
    made.add_argument("--markdown", type=Path, metavar="PAGE", help="put the figures between the page's marks")
    return made


class Command:
    """A run of scenarios and soaks as the command line asks for. ``figures`` grow as they end."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.kinds = given.only.split(",") if given.only else list(QUICK_STORES if given.quick else ALL)
        names = given.scenarios.split(",") if given.scenarios else [scenario.name for scenario in SCENARIOS]
        self.scenarios = [scenario for scenario in SCENARIOS if scenario.name in names]
        if not self.scenarios or set(self.kinds) - set(ALL):
            raise SystemExit("no such store or scenario; --help names them")
        self.beakers = (given.beakers or ("ours" if given.quick or given.soak else "ours,1.14.1")).split(",")
        self.figures: page.Figures = {}
        self.about: dict[str, str] = {}
        self.untested = list(NEVER)
        self.load_before = load_now()
        self.worked: dict[bool, list[float]] = {False: [], True: []}
        """Seconds that scenarios, and soaks, were given to work."""
        minutes = given.minutes or (FULL_MINUTES if given.full else MINUTES)
        fixed = given.soak * 60 if given.soak else QUICK_SECONDS if given.quick else None
        self.schedule = Schedule([part for kind in self._order() for part in self.parts(kind)], minutes, fixed=fixed)

    def _order(self) -> list[str]:
        # The slowest first: what they take beyond their time the others can make up for.
        return sorted(self.kinds, key=ALL.index, reverse=True) if self.given.full else self.kinds

    def parts(self, kind: str) -> list[Part]:
        """What is done on one store."""
        soak = [Part("ours", kind, None)] if self.given.soak or self.given.full else []
        if self.given.soak:
            return soak
        return [*(part for beaker in self.beakers for part in self._scenarios(beaker, kind)), *soak]

    def _scenarios(self, beaker: str, kind: str) -> list[Part]:
        if beaker != "ours" and kind.startswith(("google", "hybrid")):
            return []
        chosen = [scenario for scenario in self.scenarios if kind in scenario.stores]
        if beaker != "ours" and self.given.full and not self.given.scenarios:
            chosen = [scenario for scenario in chosen if scenario.name in BESIDE]
        return [Part(beaker, kind, scenario) for scenario in chosen]

    def run(self) -> int:
        """The exit status. A part that cannot run, or a server that does not start, does not end the others."""
        for kind in self._order():
            parts = self.parts(kind)
            running: dict[str, Any] = {}
            with contextlib.ExitStack() as stack:
                try:
                    fresh = stack.enter_context(concurrency.places([kind], running))[kind]
                except _NO_SERVER as error:
                    for part in parts:
                        self._keep(part, _failed(error), None)
                    continue
                for part in parts:
                    if self._run(part, fresh, running.get(kind)):
                        return 2
        return 1 if self._bad() else 0

    def _bad(self) -> list[str]:
        ours = self.figures.get("ours", {})
        return [
            f"{kind}, {name}"
            for kind, outcomes in ours.items()
            for name, outcome in outcomes.items()
            if outcome.get("lost") or outcome.get("hung")
        ]

    def _run(self, part: Part, fresh: Fresh, server: Any) -> bool:
        """Whether this Beaker showed a foreign value, which ends the run."""
        seconds, begun = self.schedule.seconds(), time.monotonic()
        if not seconds:
            self._keep(part, {"failed to run": "no time was left"}, None)
            return False
        try:
            outcome = page.as_json(self._verdict(part, fresh, server, seconds))
        except Exception as error:
            outcome = _failed(error)
        took = time.monotonic() - begun
        self.worked[part.scenario is None].append(seconds)
        self._keep(part, {**outcome, "seconds": took}, took - seconds)
        if part.beaker == "ours" and outcome.get("foreign"):
            print(f"FOREIGN: {outcome['evidence']}", file=sys.stderr)
            return True
        return False

    def _verdict(self, part: Part, fresh: Fresh, server: Any, seconds: float) -> Verdict:
        ours, scenario = part.beaker == "ours", part.scenario
        python = sys.executable if ours else UPSTREAM.python()
        if scenario is not None and scenario.races:
            return raced(python, part.kind, fresh, scenario, seconds, ours=ours)
        config = fresh(ours)
        assert config is not None
        place = Place(part.kind, config, server, ours=ours)
        if scenario is not None:
            return run_scenario(scenario, place, python, seconds, self.given.workers)
        verdict, looks = soak(place, python, seconds / 60)
        if self.given.json is not None:
            Path(f"{self.given.json}.{part.kind}.looks").write_text(json.dumps(looks))
        return verdict

    def _keep(self, part: Part, outcome: dict[str, Any], beside: float | None) -> None:
        self.schedule.over(beside)
        self.figures.setdefault(part.beaker, {}).setdefault(part.kind, {})[part.name] = outcome
        if "failed to run" in outcome:
            self.untested.append(f"{part.beaker}, {part.kind}, {part.name}: {outcome['failed to run']}")
        shown = {name: value for name, value in outcome.items() if value}
        about = f"{part.beaker}, {part.kind}, {part.name}"
        print(f"{time.strftime('%H:%M:%S')} [{self.schedule}] {about}: {shown}", file=sys.stderr, flush=True)
        self._save(self._about())

    def _save(self, about: dict[str, str]) -> None:
        # After each part: an hour's figures outlive whatever ends the run.
        if self.given.json is not None:
            kept = {"about": about, "figures": self.figures, "untested": self.untested}
            self.given.json.write_text(json.dumps(kept, indent=1))

    def load(self) -> int:
        """Take the figures of runs that were kept; the later of two that ran of the same scenario counts."""
        for path in self.given.load:
            kept = json.loads(path.read_text("utf-8"))
            for name, value in kept["about"].items():
                said = self.about.get(name, "").split("; ")
                self.about[name] = "; ".join(dict.fromkeys([*filter(None, said), value]))
            self.untested += [line for line in kept["untested"] if line not in self.untested]
            for beaker, stores in kept["figures"].items():
                for kind, outcomes in stores.items():
                    known = self.figures.setdefault(beaker, {}).setdefault(kind, {})
                    for scenario, outcome in outcomes.items():
                        if "failed to run" not in outcome or scenario not in known:
                            known[scenario] = outcome
        ran = [
            f"{beaker}, {kind}, {scenario}: "
            for beaker, stores in self.figures.items()
            for kind, outcomes in stores.items()
            for scenario, outcome in outcomes.items()
            if "failed to run" not in outcome
        ]
        self.untested = [line for line in self.untested if not line.startswith(tuple(ran))]
        return 1 if self._bad() else 0

    def _about(self) -> dict[str, str]:
        scenarios, soaks = self.worked[False], self.worked[True]
        sizes = [f"{self.given.workers} workers, {statistics.median(scenarios):.1f} s a scenario"] if scenarios else []
        sizes += [f"soaks of {statistics.median(soaks) / 60:.1f} minutes"] if soaks else []
        scale = ", ".join([*sizes, f"{self.schedule.passed:.0f} minutes in all"])
        versions = {"Python": platform.python_version(), **{name: metadata.version(name) for name in CLIENTS}}
        return about(versions, scale, self.load_before)

    def keep(self) -> None:
        """Print, and write what was asked for."""
        said = self.about if self.given.load else self._about()
        text = page.text(said, self.figures, self.untested)
        print(text)
        self._save(said)
        if self.given.markdown is not None:
            insert(self.given.markdown, "reliability", text)


def _failed(error: BaseException) -> dict[str, Any]:
    return {"failed to run": f"{type(error).__name__}: {error}"}


_ENOUGH = 100_000
"""Turns that no race gets through in its time."""


def raced(
    python: str, kind: str, config: Callable[[bool], Any], scenario: Scenario, seconds: float, *, ours: bool
) -> Verdict:
    """The races of a scenario: a session that lives after its end is lost, and so is a user who was dropped."""
    verdict = Verdict()
    for race in scenario.races:
        outcome = concurrency.run(python, kind, config(ours), race, _ENOUGH, seconds / len(scenario.races))
        if "failed" in outcome:
            raise RuntimeError(f"{race}: {outcome['failed']}")
        lost = outcome["alive"] + outcome["dropped"] + outcome["cookies"]
        verdict.add(Verdict(acknowledged=outcome["wanted"], failed_reads=outcome["errors"], lost=lost))
        if lost:
            verdict.evidence.append(f"{race}: {outcome}")
    return verdict


def main(arguments: Sequence[str]) -> int:
    command = Command(parser().parse_args(arguments))
    try:
        status = command.load() if command.given.load else command.run()
    except KeyboardInterrupt:
        # An hour's figures are worth keeping.
        status = 130
    command.keep()
    return status


if __name__ == "__main__":
    # A run that is terminated ends its servers and keeps its figures, as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
