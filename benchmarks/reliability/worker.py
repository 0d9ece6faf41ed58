"""A process of actors: reads a spec from standard input, reports a JSON line an event on standard output.

Run as a script by the interpreter of either Beaker. A report reaches the pipe before the operation goes on, so that it
outlives the process, whatever kills it and whatever it can no longer write.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import resource
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Last, so that the Beaker of this interpreter is found before ours.
    sys.path[0:1] = []
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.reliability.actor import Actor, Door

AUDIT_SECONDS = 20.0
SMALL: dict[str, dict[str, float]] = {
    "beaker.crypto.tokens": {"_REMEMBERED": 32, "_REMEMBERED_DATA": 32},
    "beaker.session.records": {"_REMEMBERED": 32, "TOMBSTONE_TTL": 30.0},
    "beaker.session.values": {"_SESSIONS": 32, "_NAMES": 32},
    "beaker.storage.datastore.chunks": {"_REMEMBERED": 32},
    "beaker.storage.files.store": {"_MEMO": 32},
    "beaker.storage.memcached.server": {"_KNOWN": 32},
}
"""What a process remembers at most, in a soak: full after a minute, so that what grows later has no bound."""
GIVE_BACK_EVERY = 5.0
"""Seconds."""
_real_time = time.time


class Aborted(BaseException):
    """What the handler of a signal raises, as a server does to a request that takes too long."""


def _abort(number: int, frame: Any) -> None:
    raise Aborted


def report(line: list[Any]) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


class Worker:
    """``spec``: names of the run and its slots, options of sessions and caches, plan, and what is inherited."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.held: list[int] = []
        self.children: list[int] = []
        self.until = self.started = 0.0
        self.door = Door(spec["session"], spec["cache"])
        self.actors = [self._actor(slot) for slot in spec["slots"]]

    def _actor(self, slot: str, *, door: Door | None = None, mark: str = "") -> Actor:
        spec = self.spec
        if door is None:
            door = self.door if slot == spec["slots"][0] else Door(spec["session"], spec["cache"])
        name = f"{spec['run']}.{slot}.{spec['turn']}{mark}"
        return Actor(slot + mark, name, door, report, dict(spec["cookies"]), spec["sessions"], shares=spec["shares"])

    def run(self) -> None:
        """Work until the monotonic time that the next line of standard input says; report when ready for it."""
        first = self.actors[0]
        if not self.spec["cookies"]:
            first.prepare()
            for actor in self.actors:
                actor.cookies = first.cookies
        if self.spec["small"]:
            threading.Thread(target=give_back, daemon=True).start()
        report(["ready"])
        self.until, self.started = float(sys.stdin.readline()), time.monotonic()
        for name, cookie, key in self.spec["inherited"]:
            first.read_session(name, cookie, key)
        others = [threading.Thread(target=self._work, args=(actor,)) for actor in self.actors[1:]]
        for thread in others:
            thread.start()
        self._work(first, list(self.spec["plan"]))
        for thread in others:
            thread.join()
        for child in self.children:
            os.waitpid(child, 0)
        if self.spec["audits"]:
            for actor in self.actors:
                self._audit_own(actor)

    def _work(self, actor: Actor, plan: list[Any] | None = None) -> None:
        plan = plan or []
        while time.monotonic() < self.until:
            while plan and time.monotonic() - self.started >= plan[0][0]:
                _, action, argument = plan.pop(0)
                getattr(self, f"do_{action}")(actor, argument)
            if self.spec["creates"]:
                actor.create(f"created {self.spec['run']}", 0.02)
            else:
                actor.step()

    def do_clock(self, actor: Actor, offset: float) -> None:
        """From now on the wall clock is wrong by that many seconds."""
        time.time = lambda: _real_time() + offset

    def do_signals(self, actor: Actor, seconds: float) -> None:
        """The handler of a signal raises, wherever the actor is."""
        begun = time.monotonic()
        signal.signal(signal.SIGALRM, _abort)
        while time.monotonic() - begun < seconds:
            with contextlib.suppress(Aborted):
                signal.setitimer(signal.ITIMER_REAL, max(1e-6, actor.random.expovariate(200)))
                actor.step()
                signal.setitimer(signal.ITIMER_REAL, 0)
        # A cache in memory is emptied when its bookkeeping was left half done.
        report(["fault", "signals", begun, time.monotonic(), self.spec["audits"], "cache "])

    def do_descriptors(self, actor: Actor, seconds: float) -> None:
        """No descriptor is left for a while."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        begun = time.monotonic()
        try:
            with contextlib.suppress(OSError):
                while True:
                    self.held.append(os.open(os.devnull, os.O_RDONLY))
            while time.monotonic() - begun < seconds:
                actor.step()
        finally:
            while self.held:
                os.close(self.held.pop())
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        report(["fault", "no descriptors", begun, time.monotonic()])

    def do_file_size(self, actor: Actor, seconds: float) -> None:
        """No file may grow beyond 600 bytes for a while. Python ignores the signal, so that a write fails."""
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        begun = time.monotonic()
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
        try:
            while time.monotonic() - begun < seconds:
                actor.step()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        report(["fault", "no larger files", begun, time.monotonic()])

    def do_fork(self, actor: Actor, count: int) -> None:
        """Children go on with what their parent opened, and it goes on beside them."""
        for number in range(count):
            child = os.fork()
            if child:
                self.children.append(child)
                continue
            try:
                mark = f"f{len(self.children)}.{number}"
                heir = self._actor(actor.slot, door=actor.door, mark=mark)
                heir.cookies = actor.cookies
                self._work(heir)
                if self.spec["audits"]:
                    self._audit_own(heir)
            finally:
                os._exit(0)

    def do_flood(self, actor: Actor, count: int) -> None:
        before = _resident()
        actor.flood(count)
        report(["note", "kB more after a flood", _resident() - before])

    def _audit_own(self, actor: Actor) -> None:
        # What only this process can see. An ended session was read when it ended.
        for name, cookie in list(actor.own.items()):
            actor.read_session(name, cookie, "value")
        for number in range(16):
            actor.read_cache(f"{actor.name}.{number}")


def _resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0.0)


def lower_bounds() -> None:
    """Bounded caches get the bounds of ``SMALL``."""
    for module, bounds in SMALL.items():
        found = importlib.import_module(module)
        for name, bound in bounds.items():
            setattr(found, name, bound)


def give_back() -> None:
    """For ever: collect what is garbage and return free memory, so that a look from outside sees what is in use.

    A request and its session refer to each other, so they wait for the collector, and a process keeps the most memory
    that it ever needed at a time: that alone grows for minutes, the more threads the longer.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda pad: 0)
    while True:
        time.sleep(GIVE_BACK_EVERY)
        gc.collect()
        trim(0)


def audit(spec: dict[str, Any]) -> None:
    """Read every register once, each until it can be read or its time is over."""
    actor = Actor("audit", "audit", Door(spec["session"], spec["cache"]), report, {})
    end = time.monotonic() + AUDIT_SECONDS
    for register, cookie in spec["registers"]:
        name, _, key = register.rpartition(" ")
        while True:
            error = actor.read_session(name, cookie, key) if cookie else actor.read_cache(name.partition(" ")[2])
            if error is None:
                break
            if time.monotonic() > end or spec["damaged"]:
                report(["unreadable", register, type(error).__name__])
                break
            time.sleep(0.1)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    faulthandler.register(signal.SIGUSR1)
    given = json.loads(sys.stdin.readline())
    if given.get("small"):
        lower_bounds()
    if given["mode"] == "audit":
        audit(given)
    else:
        Worker(given).run()
