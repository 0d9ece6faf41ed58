"""One scenario on one place: starts workers, lets faults happen, reads everything back, judges."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.reliability.oracle import Fault, History
from benchmarks.reliability.place import Place

SCRIPT = Path(__file__).resolve().parent / "worker.py"
START_SECONDS = 60.0
STARTED_AT_ONCE = 2
"""Workers. Eight that import Google's client at once, and then ask a fresh emulator, keep each other from an answer."""
GRACE_SECONDS = 20.0
"""How long after its time a worker may still be in its last call; then it hangs."""

# Root may write everywhere; without these two capabilities it obeys the modes of files, as other users do.
_AS_ANYBODY = """\
import ctypes, os, sys
for capability in 1, 2:
    ctypes.CDLL(None).prctl(24, capability)
os.execv(sys.argv[1], sys.argv[1:])
"""


_THREAD = re.compile(r"^(?:Current thread|Thread) ", re.MULTILINE)
# File "/…/beaker/session/name.py", line 1 in function
_FRAME = re.compile(r'File ".*/beaker/([^"]+)", line (\d+) in (\S+)')
_INNERMOST = 3


def where(printed: str) -> str:
    """The innermost frames of Beaker's in each of the threads that faulthandler has printed, equal ones once."""
    stacks = [_FRAME.findall(thread)[:_INNERMOST] for thread in _THREAD.split(printed)]
    said = (" < ".join(f"{name}:{line} {function}" for name, line, function in stack) for stack in stacks if stack)
    return "; ".join(dict.fromkeys(said)) or "no code of Beaker's"


def _thread_stats(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return [path.read_text() for path in sorted(Path(f"/proc/{pid}/task").glob("*/stat"))]
    return []


class Run:
    """Processes of actors on one place until ``until``. ``history`` has what they reported.

    - ``python``: the interpreter that has the Beaker under test.
    - ``workers``, ``threads``: processes, and actors in each.
    - ``sessions``: live sessions an actor keeps.
    - ``small``: whether workers remember little, so that what they remember is full soon.
    - ``plan``: what each worker does to itself: seconds after its start, action, argument.
    """

    def __init__(self, place: Place, python: str, seconds: float, workers: int, **options: Any) -> None:
        self.place, self.python, self.seconds = place, python, seconds
        self.private = place.kind == "memory"
        # Another process does not see the memory of the first: its actors are threads.
        self.threads = options.pop("threads", 1) * (workers if self.private else 1)
        self.workers = 1 if self.private else workers
        self.sessions, self.plan = options.pop("sessions", 30), options.pop("plan", [])
        self.creates, self.unprivileged = options.pop("creates", False), options.pop("unprivileged", False)
        self.small = options.pop("small", False)
        assert not options, options
        self.history = History()
        self.random = random.Random(f"{place.kind} {seconds} {workers}")
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        # Beaker 1.14.1 has no prefix that keeps the records of runs on one server apart.
        self.name = uuid.uuid4().hex[:6]
        self.until = 0.0
        self.ready = threading.Semaphore(0)
        self.printed: deque[str] = deque(maxlen=1000)
        self._turns = itertools.count()
        self._at_work: set[int] = set()
        self._readers: list[threading.Thread] = []

    def start(self, number: int, plan: list[Any] | None = None) -> None:
        """Start the worker of that number, after its predecessor; it reads what that one left before it works."""
        slots = [f"w{number}.{thread}" for thread in range(self.threads)]
        spec = {"slots": slots, "turn": next(self._turns), "sessions": self.sessions}
        spec |= {"cookies": self._shared(), "inherited": self._left_by(slots), "plan": plan or []}
        spec |= {"shares": not self.place.in_cookies, "run": self.name, "creates": self.creates, "audits": self.private}
        spec["small"] = self.small
        self.processes[number] = self._process({"mode": "work", **spec})
        if self.until:
            self._let_go(number)

    def _let_go(self, number: int) -> None:
        stdin = self.processes[number].stdin
        assert stdin is not None
        # One that has ended is noticed by what is missing.
        with stdin, contextlib.suppress(BrokenPipeError):
            os.write(stdin.fileno(), f"{self.until}\n".encode())

    def _shared(self) -> dict[str, str]:
        cookies = dict(self.history.cookies)
        return {name: cookies[name] for name in ("session shared", "session bystander") if name in cookies}

    def _left_by(self, slots: list[str]) -> list[tuple[str, str, str]]:
        prefixes = tuple(f"session {self.name}.{slot}." for slot in slots)
        cookies = dict(self.history.cookies)
        mine = [(name, cookie, "value") for name, cookie in cookies.items() if name.startswith(prefixes)]
        return mine[-20:]

    def _process(self, spec: dict[str, Any]) -> subprocess.Popen[bytes]:
        session, cache = self.place.options()
        command = [self.python, str(SCRIPT)]
        if self.unprivileged and os.geteuid() == 0:
            command = [sys.executable, "-c", _AS_ANYBODY, *command]
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ | self.place.environ(),
        )
        assert process.stdin is not None
        # Past the buffer, which would be written again when the pipe of a killed process is closed.
        os.write(process.stdin.fileno(), json.dumps({**spec, "session": session, "cache": cache}).encode() + b"\n")
        for take in (self._take, self._take_errors):
            reader = threading.Thread(target=take, args=(process,), daemon=True)
            reader.start()
            self._readers.append(reader)
        return process

    def _take_errors(self, process: subprocess.Popen[bytes]) -> None:
        # A pipe and no file, which would have a limit of its own in some scenarios.
        assert process.stderr is not None
        with process.stderr as lines:
            for text in lines:
                self.printed.append(text.decode(errors="replace").strip())

    def _take(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for text in lines:
                kind, *rest = json.loads(text)
                if kind == "ready":
                    self._at_work.add(process.pid)
                    self.ready.release()
                elif kind == "fault":
                    self.history.faults.append(Fault(*rest))
                else:
                    self.history.add([kind, *rest])

    def begin(self) -> None:
        """Start every worker; the first creates the sessions that all share. RuntimeError when it cannot."""
        later = range(1, self.workers)
        steps = (later[n : n + STARTED_AT_ONCE] for n in range(0, len(later), STARTED_AT_ONCE))
        for numbers in ([0], *steps):
            for number in numbers:
                self.start(number, self.plan)
            for _ in numbers:
                self._wait_for_one()
        self.until = time.monotonic() + self.seconds
        for number in range(self.workers):
            self._let_go(number)

    def _wait_for_one(self) -> None:
        end = time.monotonic() + START_SECONDS
        while not self.ready.acquire(timeout=0.1):
            ended = [process for process in self.processes.values() if process.poll() is not None]
            if ended or time.monotonic() > end:
                raise RuntimeError(f"a worker does not start: {self.said()}")

    def _drain(self) -> None:
        """Wait until what ended processes reported is in the history."""
        for reader in self._readers:
            reader.join(START_SECONDS)
        self._readers.clear()

    def wait(self, least: float, most: float) -> bool:
        """Let the workers work for a while; ``False`` when their time is nearly over and no fault fits in any more."""
        pause = least + self.random.random() * (most - least)
        time.sleep(max(0.0, min(pause, self.until - time.monotonic())))
        return time.monotonic() < self.until - most

    @contextlib.contextmanager
    def fault(self, name: str, *, forgets: bool = False, only: str = "") -> Iterator[None]:
        """What the block does is known to the oracle."""
        begun = time.monotonic()
        yield
        self.history.faults.append(Fault(name, begun, time.monotonic(), forgets, only))

    def kill(self, number: int) -> None:
        """SIGKILL, wherever the worker is."""
        process = self.processes[number]
        process.kill()
        process.wait()

    def finish(self) -> None:
        """Wait until every worker has ended. One that does not is killed, and counted as hung."""
        for process in self.processes.values():
            end = max(self.until, time.monotonic()) + GRACE_SECONDS
            # One that was started late, on a busy machine, is in no call yet.
            late = time.monotonic() + START_SECONDS
            while process.poll() is None and process.pid not in self._at_work and time.monotonic() < late:
                time.sleep(0.05)
                end = max(self.until, time.monotonic()) + GRACE_SECONDS
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._hung(process)
        self._drain()

    def _hung(self, process: subprocess.Popen[bytes]) -> None:
        """Kill it once it has printed where it is; the kernel's states say whether it waits for a disk (D)."""
        self.printed.clear()
        stats = [text.rpartition(")")[2].split()[0] for text in _thread_stats(process.pid)]
        process.send_signal(signal.SIGUSR1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)
        process.kill()
        process.wait()
        self.history.hung += 1
        self.history.hangs.append(f"{where(chr(10).join(self.printed))} (threads {''.join(stats)})")

    def audit(self) -> None:
        """Another process reads every register."""
        if self.private or self.creates:
            return
        cookies = self.history.cookies
        registers = []
        for register in sorted(self.history.writes):
            name = register.rpartition(" ")[0]
            if register.startswith("cache ") or name in cookies:
                registers.append((register, cookies.get(name, "")))
        spec = {"mode": "audit", "registers": registers, "damaged": self.history.damage is not None}
        process = self._process(spec)
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(60 + len(registers) / 10)
        except subprocess.TimeoutExpired:
            self._hung(process)
        self._drain()
        if process.returncode:
            raise RuntimeError(f"the audit failed: {self.said()}")

    def said(self) -> str:
        """The last line that a worker printed, mostly an error of an operation."""
        return self.printed[-1][:200] if self.printed else "nothing"

    def close(self) -> None:
        """End what still runs."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        self._drain()
