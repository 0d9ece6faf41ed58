"""What is kept while processes, servers, disks and clocks fail: this Beaker, and Beaker 1.14.1 beside it.

``python -m benchmarks.reliability --quick`` takes a minute or two, ``--full`` about an hour. The exit status is 0 when
this Beaker lost nothing, 1 when it did or hung, 2 as soon as it showed a value that belongs to another user.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import concurrency
from benchmarks.environments import UPSTREAM
from benchmarks.reliability import page
from benchmarks.reliability.faults import ALL, SCENARIOS, Scenario, run_scenario
from benchmarks.reliability.oracle import Verdict
from benchmarks.reliability.place import Place
from benchmarks.reliability.soak import soak
from benchmarks.report import about, insert

QUICK_STORES = ("memory", "file", "dbm", "sqlite", "redis")
QUICK_SECONDS, LEAST_SECONDS, AROUND = 0.5, 0.5, 2.0
"""Seconds a scenario runs, at least, and what starting and reading back takes beside it."""
CLIENTS = ("SQLAlchemy", "psycopg", "pymemcache", "redis", "google-cloud-ndb", "grpcio")
NEVER = (
    "power loss: a killed process leaves the kernel's buffers alone",
    "Google's servers: both emulators only, which are frozen and cut off but not restarted",
    "network file systems, Windows, macOS, a disk that returns errors or lies",
    "records damaged in memcached and on the emulators",
    "cookie and hybrid sessions, which the store does not hold",
)

Found = dict[str, Callable[[bool], dict[str, Any] | None]]


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=(__doc__ or "").split("\n")[0])
    size = made.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="the local stores and redis, half a second a scenario")
    size.add_argument("--full", action="store_true", help="everything, in about an hour")
    size.add_argument("--minutes", type=float, metavar="M", help="about so long in all (default 10)")
    size.add_argument("--soak", type=float, metavar="M", help="8 x 4 threads on 1,000 sessions, so long on each store")
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
    """A run of scenarios as the command line asks for. ``figures`` grow as they end."""

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
        self.started = time.monotonic()

    def works(self, beaker: str) -> list[tuple[str, Scenario]]:
        return [
            (kind, scenario)
            for kind in self.kinds
            for scenario in self.scenarios
            if kind in scenario.stores and (beaker == "ours" or not kind.startswith("google"))
        ]

    def seconds(self) -> float:
        """How long each scenario runs, so that all of them together take the time that was given."""
        if self.given.quick:
            return QUICK_SECONDS
        minutes = 60.0 if self.given.full else self.given.minutes or 10.0
        count = sum(len(self.works(beaker)) for beaker in self.beakers)
        return max(LEAST_SECONDS, minutes * 60 / max(1, count) - AROUND)

    def run(self) -> int:
        """The exit status."""
        running: dict[str, Any] = {}
        with concurrency.places(self.kinds, running) as found:
            for beaker in self.beakers:
                for kind, scenario in self.works(beaker):
                    outcome = self._one(beaker, kind, scenario, found, running)
                    self.figures.setdefault(beaker, {}).setdefault(kind, {})[scenario.name] = outcome
                    if beaker == "ours" and outcome.get("foreign"):
                        print(f"FOREIGN: {outcome['evidence']}", file=sys.stderr)
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

    def _one(self, beaker: str, kind: str, scenario: Scenario, found: Found, running: dict[str, Any]) -> dict[str, Any]:
        ours, seconds = beaker == "ours", self.seconds()
        python = sys.executable if ours else UPSTREAM.python()
        config = found[kind](ours)
        assert config is not None
        outcome: dict[str, Any]
        begun = time.monotonic()
        try:
            if scenario.races:
                outcome = page.as_json(raced(python, kind, found[kind], scenario, seconds, ours=ours))
            else:
                place = Place(kind, config, running.get(kind), ours=ours)
                outcome = page.as_json(run_scenario(scenario, place, python, seconds, self.given.workers))
        except (OSError, RuntimeError) as error:
            outcome = {"failed to run": str(error)}
            self.untested.append(f"{beaker}, {kind}, {scenario.name}: {error}")
        shown = {name: value for name, value in outcome.items() if value}
        print(f"{time.strftime('%H:%M:%S')} {beaker}, {kind}, {scenario.name}: {shown}", file=sys.stderr, flush=True)
        return {**outcome, "seconds": time.monotonic() - begun}

    def soak(self) -> int:
        """The exit status; each store in turn."""
        running: dict[str, Any] = {}
        kept: dict[str, Any] = {}
        with concurrency.places(self.kinds, running) as found:
            for kind in self.kinds:
                config = found[kind](True)
                assert config is not None
                verdict, looks = soak(
                    Place(kind, config, running.get(kind), ours=True), sys.executable, self.given.soak
                )
                kept[kind] = {"soak": page.as_json(verdict)}
                self.figures["ours"] = kept
                last = {number: seen[-1] for number, seen in looks.items()}
                print(f"{kind}: {verdict}\n{last}", file=sys.stderr, flush=True)
                if self.given.json is not None:
                    Path(f"{self.given.json}.{kind}.looks").write_text(json.dumps(looks))
                if verdict.foreign:
                    return 2
        return 1 if self._bad() else 0

    def load(self) -> int:
        """Take the figures of runs that were kept; the later of two of the same scenario counts."""
        for path in self.given.load:
            kept = json.loads(path.read_text("utf-8"))
            for name, value in kept["about"].items():
                known = self.about.get(name, "").split("; ")
                self.about[name] = "; ".join(dict.fromkeys([*filter(None, known), value]))
            self.untested += [line for line in kept["untested"] if line not in self.untested]
            for beaker, stores in kept["figures"].items():
                for kind, outcomes in stores.items():
                    self.figures.setdefault(beaker, {}).setdefault(kind, {}).update(outcomes)
        return 1 if self._bad() else 0

    def _about(self) -> dict[str, str]:
        size = f"{self.given.workers} workers, {self.seconds():.1f} s a scenario"
        if self.given.soak:
            size = f"soak of {self.given.soak:g} minutes a store"
        scale = f"{size}, {(time.monotonic() - self.started) / 60:.0f} minutes in all"
        versions = {"Python": platform.python_version(), **{name: metadata.version(name) for name in CLIENTS}}
        return about(versions, scale)

    def keep(self) -> None:
        """Print, and write what was asked for."""
        said = self.about if self.given.load else self._about()
        text = page.text(said, self.figures, self.untested)
        print(text)
        if self.given.json is not None:
            self.given.json.write_text(
                json.dumps({"about": said, "figures": self.figures, "untested": self.untested}, indent=1)
            )
        if self.given.markdown is not None:
            insert(self.given.markdown, "reliability", text)


def raced(
    python: str, kind: str, config: Callable[[bool], Any], scenario: Scenario, seconds: float, *, ours: bool
) -> Verdict:
    """The races of a scenario: a session that lives after its end is lost, and so is a user who was dropped."""
    verdict = Verdict()
    for race in scenario.races:
        outcome = concurrency.run(python, kind, config(ours), race, max(8, int(seconds * 8)))
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
        status = command.load() if command.given.load else command.soak() if command.given.soak else command.run()
    except KeyboardInterrupt:
        # An hour's figures are worth keeping.
        status = 130
    command.keep()
    return status


if __name__ == "__main__":
    # A run that is terminated ends its servers and keeps its figures, as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
