"""What requests at the same time lose: this Beaker beside Beaker 1.14.1, in one run, on real servers.

``python -m benchmarks.concurrency`` prints a Markdown table per Beaker (R2, R4, R5, R6 and R7 of docs/concurrency.md);
``--json FILE`` keeps the figures. The full size takes about an hour on two cores; ``--scale 0.05`` a few minutes.
Beaker 1.14.1 is installed into ``.venv-upstream`` at first use.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.environments import UPSTREAM
from gae import emulator
from tests import servers

HERE = Path(__file__).resolve().parent

SECRET = "Vq3nT8xWb0LrYc5KzMh7PdJf2sGuE9aQ4iXoRt6NvBk"  # keys nothing: every checkout has it
RACES = {"R2": 1000, "R4": 1000, "R5": 1000, "R6": 2000, "R7": 2000}
SECONDS, LATE = 1500, 120
"""How long a race may take, and by how much it may be over the time it was given, its start included."""
Config = dict[str, Any]


@contextlib.contextmanager
def places(
    kinds: list[str], running: dict[str, Any] | None = None
) -> Iterator[dict[str, Callable[[bool], Config | None]]]:
    """By kind, what returns the options of a fresh place: for ours, or for Beaker 1.14.1 (None: it has none).

    ``running`` receives the servers by kind: ``tests.servers.Server`` or ``gae.emulator.Emulator``.
    """
    running = {} if running is None else running
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="beaker-races-")))
        found: dict[str, Callable[[bool], Config | None]] = {}

        def directory() -> str:
            return tempfile.mkdtemp(dir=root)

        def local(type: str) -> Callable[[bool], Config]:
            return lambda ours: {"type": type, "data_dir": directory()}

        def url(type: str, address: str) -> Callable[[bool], Config]:
            return lambda ours: (
                {"type": type, "url": address}
                | ({"prefix": _fresh()} if ours else {"lock_dir": directory(), "data_dir": directory()})
            )

        def table(address: Callable[[], str]) -> Callable[[bool], Config]:
            return lambda ours: (
                {"type": "ext:database", "url": address(), "table_name": _fresh()}
                | ({} if ours else {"lock_dir": directory(), "data_dir": directory()})
            )

        def google(host: str) -> Callable[[bool], Config | None]:
            return lambda ours: (
                {"type": "ext:google", "project": _fresh().replace("_", "-"), "emulator_host": host} if ours else None
            )

        for kind in kinds:
            if kind == "memory":
                found[kind] = lambda ours: {"type": "memory"}
            elif kind in ("file", "dbm"):
                found[kind] = local(kind)
            elif kind == "sqlite":
                found[kind] = table(lambda: f"sqlite:///{directory()}/sessions.db")
            elif kind == "postgres":
                postgres = running[kind] = stack.enter_context(servers.postgres())
                found[kind] = table(lambda address=postgres.url: address)  # type: ignore[misc]
            elif kind == "memcached":
                memcached = running[kind] = stack.enter_context(servers.memcached())
                found[kind] = url("ext:memcached", memcached.address)
            elif kind in ("redis", "hybrid on redis"):
                redis = running[kind] = stack.enter_context(servers.redis(root))
                found[kind] = url("ext:redis", redis.url)
            else:
                google_like = emulator.start("firestore" if "firestore" in kind else "datastore")
                running[kind] = stack.enter_context(google_like)
                found[kind] = google(google_like.host)
        yield found


KINDS = ["memory", "file", "dbm", "sqlite", "postgres", "memcached", "redis", "google", "google on firestore"]


def _fresh() -> str:
    return f"t_{uuid.uuid4().hex[:12]}"


def run(python: str, kind: str, config: Config, race: str, count: int, seconds: float | None = None) -> dict[str, Any]:
    """One race in a process of its own; an outcome, or what ended it. R6 and R7 end after ``seconds``, if given."""
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    host = config.pop("emulator_host", None)
    if host is not None:
        environ |= {"DATASTORE_EMULATOR_HOST": host}
    if python == sys.executable:
        environ["PYTHONPATH"] = str(HERE.parent)
    options = {f"session.{name}": value for name, value in {**config, "secret": SECRET}.items()}
    spec = {"config": options, "race": race, "count": count, "threads": kind == "memory"}
    if seconds is not None:
        spec["seconds"] = seconds
    with tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(
                [python, str(HERE / "racing.py")],
                input=json.dumps(spec).encode(),
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environ,
                timeout=SECONDS if seconds is None else seconds + LATE,
            )
            outcome: dict[str, Any] = json.loads(done.stdout)
        except (subprocess.TimeoutExpired, ValueError) as error:
            outcome = {"failed": type(error).__name__}
        errors.seek(0)
        lines = errors.read().decode(errors="replace").splitlines()
    # The errors of requests, so that a figure of them can be understood.
    outcome["said"] = sorted({line[:160] for line in lines if ": " in line})[:5]
    return outcome


def cells(kind: str, outcomes: dict[str, dict[str, Any]]) -> list[str]:
    def cell(race: str, show: Callable[[dict[str, Any]], str]) -> str:
        outcome = outcomes.get(race)
        if outcome is None:
            return "–"
        return outcome["failed"] if "failed" in outcome else show(outcome)

    ms = 1000.0
    return [
        kind,
        cell("R2", lambda o: f"{o['wanted'] - o['kept']:,} of {o['wanted']:,}"),
        cell("R2", lambda o: f"{o['p50']:.3f} / {o['p99']:.2f} / {o['max']:.1f}"),
        cell("R4", lambda o: f"{o['kept']:,} of {o['wanted']:,}"),
        cell("R5", lambda o: f"{o['lost']:,} of {o['wanted']:,}"),
        cell("R5", lambda o: f"{o['overhead p99'] * ms:+.1f}"),
        cell("R6", lambda o: f"{o['alive']:,} of {o['wanted']:,}"),
        cell("R6", lambda o: f"{o['cookies']:,}"),
        cell("R7", lambda o: f"{o['alive']:,} of {o['wanted']:,}"),
        cell("R7", lambda o: f"{o['dropped']:,}"),
        f"{sum(o.get('errors', 0) for o in outcomes.values()):,}",
        f"{sum(o.get('seconds', 0.0) for o in outcomes.values()):.0f}",
    ]


TITLES = [
    "store", "R2 keys lost", "R2 save p50 / p99 / max s", "R4 counted", "R5 keys lost", "R5 p99 over no contention ms",
    "R6 resurrected", "R6 cookies of losers", "R7 old ids alive", "R7 users dropped", "errors", "seconds",
]  # fmt: skip


def table(figures: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The outcomes of one Beaker as Markdown."""
    rows = [TITLES, ["---"] * len(TITLES), *(cells(kind, outcomes) for kind, outcomes in figures.items())]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the full size (1: 8 x 1,000)")
    parser.add_argument("--only", default=",".join(KINDS), help="stores, with commas")
    parser.add_argument("--races", default=",".join(RACES), help="races, with commas")
    parser.add_argument("--beakers", default="ours,1.14.1", help="ours, 1.14.1 or both")
    parser.add_argument("--json", type=Path, help="also keep the figures here")
    given = parser.parse_args(arguments)
    kinds, races = given.only.split(","), given.races.split(",")
    figures: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    with places(kinds) as found:
        for beaker in given.beakers.split(","):
            python = sys.executable if beaker == "ours" else UPSTREAM.python()
            figures[beaker] = {}
            for kind in kinds:
                outcomes = {}
                for race in races:
                    config = found[kind](beaker == "ours")
                    if config is not None:
                        outcomes[race] = run(python, kind, config, race, max(8, int(RACES[race] * given.scale)))
                        print(f"{time.strftime('%H:%M:%S')} {beaker} {kind} {race} {outcomes[race]}", file=sys.stderr)
                figures[beaker][kind] = outcomes
            title = f"**{beaker}** (Python {platform.python_version()}, scale {given.scale:g})"
            print(f"\n{title}\n\n{table(figures[beaker])}", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=1))
    ours = figures.get("ours", {})
    lost = [kind for kind, outcomes in ours.items() for race, o in outcomes.items() if not kept(race, o)]
    return 1 if lost else 0


def kept(race: str, outcome: dict[str, Any]) -> bool:
    if "failed" in outcome or outcome["errors"]:
        return False
    if race in ("R2", "R4"):
        return bool(outcome["kept"] == outcome["wanted"])
    return not any(outcome.get(name, 0) for name in ("lost", "alive", "dropped", "cookies"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
