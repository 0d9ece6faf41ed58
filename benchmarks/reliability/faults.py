"""The scenarios: what happens to a store and to its clients while they work."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.reliability.damage import damage
from benchmarks.reliability.oracle import Verdict
from benchmarks.reliability.place import Place
from benchmarks.reliability.run import Run

ALL = (
    "memory", "file", "dbm", "sqlite", "postgres", "memcached", "redis", "hybrid on redis", "google",
    "google on firestore",
)  # fmt: skip
FILES = ("file", "dbm", "sqlite")
SERVERS = ALL[4:]
WITHOUT_COOKIES = tuple(kind for kind in ALL if not kind.startswith("hybrid"))
"""Stores that hold the sessions themselves."""
MANY = 40
"""Records that are damaged in a run."""


@dataclass(frozen=True)
class Scenario:
    """A kind of fault. ``happen`` does it from outside, ``plan`` is what workers do to themselves."""

    name: str
    about: str
    stores: tuple[str, ...]
    happen: Callable[[Run], None] = lambda run: None
    plan: Callable[[float], list[Any]] = lambda seconds: []
    prepare: Callable[[Place], contextlib.AbstractContextManager[Any]] = lambda place: contextlib.nullcontext()
    options: dict[str, Any] = field(default_factory=dict)
    races: tuple[str, ...] = ()
    """Races of benchmarks/concurrency.py that stand for the scenario instead."""


def killed(run: Run) -> None:
    pause = min(1.0, run.seconds / 6)
    while run.wait(0.2 * pause, pause):
        number = run.random.randrange(run.workers)
        with run.fault("SIGKILL of a worker"):
            run.kill(number)
        run.start(number)


def restarted(run: Run) -> None:
    pause = max(0.3, run.seconds / 4)
    while run.wait(0.5 * pause, pause):
        with run.fault("server restarted", forgets=run.place.forgets):
            run.place.server.stop(kill=True)
            time.sleep(min(0.5, pause / 4))
            start(run.place.server)


def start(server: Any) -> None:
    """Start again. PostgreSQL refuses while children of the killed one hold its memory."""
    for attempt in range(5):
        try:
            server.start()
            return
        except RuntimeError:
            if attempt == 4:
                raise
            time.sleep(0.5)


def frozen(run: Run) -> None:
    pause = max(0.3, run.seconds / 4)
    while run.wait(0.5 * pause, pause):
        with run.fault("SIGSTOP of the server"), run.place.frozen():
            time.sleep(min(10.0, pause))


def cut_and_trickled(run: Run) -> None:
    proxy = run.place.proxy
    assert proxy is not None
    pause = max(0.2, run.seconds / 12)
    while run.wait(0.3 * pause, pause):
        with run.fault("connections cut"):
            end = time.monotonic() + pause / 2
            while time.monotonic() < end:
                proxy.cut_after = run.random.randrange(300)
                time.sleep(0.02)
            proxy.cut_after = None
        run.wait(0.3 * pause, pause)
        with run.fault("replies trickle"):
            proxy.piece, proxy.gap = 7, 0.05
            time.sleep(pause / 2)
            proxy.piece = 0


def delayed(run: Run) -> None:
    proxy = run.place.proxy
    assert proxy is not None
    pause = max(0.2, run.seconds / 10)
    for delay in itertools.cycle((0.05, 0.2, 0.8, 4.0)):
        if not run.wait(0.3 * pause, pause):
            return
        with run.fault(f"replies are held for {delay} s"):
            proxy.delay = delay
            time.sleep(pause)
            proxy.delay = 0.0


def filled(run: Run) -> None:
    pause = max(0.15, run.seconds / 10)
    while run.wait(0.3 * pause, pause):
        with run.fault("file system full"):
            ballast = run.place.fill()
            time.sleep(pause / 2)
            ballast.unlink()


def made_read_only(run: Run) -> None:
    pause = max(0.4, run.seconds / 6)
    while run.wait(0.3 * pause, pause):
        run.kill(0)
        with run.fault("read-only"), run.place.read_only():
            # One worker has everything open, the other opens it now.
            run.start(0)
            time.sleep(pause)


def damaged(run: Run) -> None:
    run.finish()
    run.history.damage = damage(run.place, MANY, run.random) or 0
    run.history.damaged_at = time.monotonic()


def clocks(seconds: float) -> list[Any]:
    step = seconds / 5
    return [(step * turn, "clock", offset) for turn, offset in enumerate((3600, -3600, 0, -3600, 3600))]


def clock_faults(run: Run) -> None:
    # A value of a cache that was stamped by a clock an hour ahead has expired for any other.
    with run.fault("clocks are wrong", forgets=True, only="cache "):
        run.finish()


SCENARIOS = (
    Scenario("kill", "workers are killed by SIGKILL wherever they are and started again", ALL[1:], killed),
    Scenario(
        "server", "the server is killed by SIGKILL and started again, an emulator ended and started again", SERVERS,
        restarted, prepare=Place.restarting,
    ),
    Scenario("freeze", "the server is stopped by SIGSTOP for up to 10 s", SERVERS, frozen),
    Scenario(
        "proxy", "replies are cut at any byte, or come 7 bytes at a time", SERVERS, cut_and_trickled,
        prepare=Place.behind_proxy,
    ),
    Scenario(
        "slow", "replies are held for 50 ms, 0.2 s, 0.8 s and 4 s", SERVERS, delayed, prepare=Place.behind_proxy
    ),
    Scenario("full", "the file system, a tmpfs of 16 MB, is full", FILES, filled, prepare=Place.small),
    Scenario(
        "file size", "no file may grow beyond 600 bytes (RLIMIT_FSIZE)", FILES,
        plan=lambda seconds: [(seconds * part / 10, "file_size", seconds / 10) for part in (2, 5, 8)],
    ),
    Scenario(
        "read-only", "files and directories are not writable for a while", FILES, made_read_only,
        options={"unprivileged": True},
    ),
    Scenario("damage", f"{MANY} records are cut short or have a bit flipped", WITHOUT_COOKIES[1:], damaged),
    Scenario("clock", "wall clocks of workers jump one hour ahead and back", ALL, clock_faults, clocks),
    Scenario(
        "fork", "workers fork twice in mid-work and go on beside their children", ALL,
        plan=lambda seconds: [(seconds / 4, "fork", 1), (seconds / 2, "fork", 1)],
    ),
    Scenario(
        "signals", "a signal's handler raises at any point of any call", ALL,
        plan=lambda seconds: [(seconds * part / 10, "signals", seconds / 5) for part in (2, 5)],
    ),
    Scenario(
        "descriptors", "workers run out of file descriptors", ALL,
        plan=lambda seconds: [(seconds * part / 10, "descriptors", seconds / 10) for part in (2, 5, 8)],
    ),
    Scenario(
        "flood", "ids that were never given out are presented", ALL,
        plan=lambda seconds: [(seconds * part / 10, "flood", int(100 * seconds)) for part in (2, 5, 8)],
    ),
    Scenario(
        "creator", "workers are killed while they create a value, others invalidate it", ALL[1:], killed,
        options={"creates": True},
    ),
    Scenario("logout", "logouts and new ids while 21 requests are in flight", WITHOUT_COOKIES, races=("R6", "R7")),
)  # fmt: skip


def run_scenario(scenario: Scenario, place: Place, python: str, seconds: float, workers: int) -> Verdict:
    """Let it happen and judge. OSError or RuntimeError when it cannot be done here."""
    with scenario.prepare(place) as made:
        place.proxy = made
        run = Run(place, python, seconds, workers, plan=scenario.plan(seconds), **scenario.options)
        try:
            run.begin()
            scenario.happen(run)
            run.finish()
            run.audit()
        finally:
            run.close()
        verdict = run.history.judge()
        if not verdict.acknowledged:
            raise RuntimeError(f"nothing was acknowledged: {run.said()}")
        return verdict
