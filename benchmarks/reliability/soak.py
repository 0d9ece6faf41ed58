"""The long run: many clients, restarts each minute, and memory and descriptors that must not grow."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.reliability.faults import start
from benchmarks.reliability.oracle import Verdict
from benchmarks.reliability.place import Place
from benchmarks.reliability.run import Run

PROCESSES, THREADS, SESSIONS = 8, 4, 1000
EVERY = 10.0
"""Seconds between two looks at the workers."""
GROWTH = {"kB": (1.05, 1024.0), "descriptors": (1.0, 4.0)}
"""By what factor, plus how much, the last third of a soak may be over its middle third."""

Look = dict[str, float]


def look(pid: int) -> Look:
    """Resident memory and open descriptors of a process. OSError when it has ended."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    resident = next(float(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return {"kB": resident, "descriptors": float(len(list(Path(f"/proc/{pid}/fd").iterdir())))}


def growing(looks: list[Look]) -> list[str]:
    """What grew from the middle third of the looks to the last; the first third is warming up."""
    third = len(looks) // 3
    if not third:
        return []
    found = []
    for name, (factor, slack) in GROWTH.items():
        middle = statistics.median(each[name] for each in looks[third:-third])
        last = statistics.median(each[name] for each in looks[-third:])
        if last > middle * factor + slack:
            found.append(f"{name} grew from {middle:,.0f} to {last:,.0f}")
    return found


def soak(place: Place, python: str, minutes: float) -> tuple[Verdict, dict[str, Any]]:
    """Each minute the server is restarted, or else the first worker killed; the others live all the time.

    The verdict's evidence names what grew, which counts as lost.
    """
    seconds = minutes * 60
    sessions = SESSIONS // (PROCESSES * THREADS)
    run = Run(place, python, seconds, PROCESSES, threads=THREADS, sessions=sessions, small=True)
    looks: dict[int, list[Look]] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(EVERY):
            for number, process in list(run.processes.items()):
                # A worker that is killed meanwhile has no memory to look at.
                if process.poll() is None:
                    with contextlib.suppress(OSError, StopIteration):
                        looks.setdefault(number, []).append(look(process.pid))

    watcher = threading.Thread(target=watch)
    try:
        run.begin()
        watcher.start()
        while time.monotonic() < run.until - 30:
            time.sleep(min(60.0, seconds / 4))
            _disturb(run)
        run.finish()
        over.set()
        run.audit()
    finally:
        over.set()
        if watcher.is_alive():
            watcher.join()
        run.close()
    verdict = run.history.judge()
    for number, seen in sorted(looks.items()):
        if run.private or number or place.restartable:
            grown = growing(seen)
            verdict.lost += len(grown)
            verdict.evidence += [f"worker {number}: {each}" for each in grown]
    return verdict, {str(number): seen for number, seen in looks.items()}


def _disturb(run: Run) -> None:
    if run.place.restartable:
        with run.fault("SIGKILL of the server", forgets=run.place.forgets):
            run.place.server.stop(kill=True)
            start(run.place.server)
    elif not run.private:
        with run.fault("SIGKILL of a worker"):
            run.kill(0)
        run.start(0)
