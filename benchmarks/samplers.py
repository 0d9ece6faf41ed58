"""Ways to measure: each sampler holds one implementation of one row ready, and measures it once a call."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from typing import Any, Protocol

from benchmarks.environments import ROOT, python_of
from benchmarks.row import Place, Row

HERE = ROOT / "benchmarks"
_SECONDS = 300
_STEERING = ("BEAKER_", "CLOUD_RUN_", "DATASTORE_", "FIRESTORE_", "FUNCTION_", "GAE_", "GOOGLE_", "K_", "PYTHON")


class Failed(Exception):
    """The implementation could not do the row's work."""


class Sampler(Protocol):
    """Measures one implementation of one row."""

    def sample(self) -> float:
        """The figure of one measurement, in the row's unit. :class:`Failed` when the work failed."""

    def remark(self) -> str:
        """Anything else for the table's cell; may be empty."""

    def close(self) -> None:
        """End what was started for it."""


def environ(implementation: str, services: Mapping[str, str]) -> dict[str, str]:
    """The variables of a process: without what would steer Python, Beaker or Google's clients."""
    made = {name: value for name, value in os.environ.items() if not name.startswith(_STEERING)}
    made["PYTHONWARNINGS"] = "ignore"
    if implementation in ("ours", "floor", "ndb"):
        made["PYTHONPATH"] = str(ROOT)
    if "datastore" in services:
        made["DATASTORE_EMULATOR_HOST"] = services["datastore"]
    return made


class Worker:
    """A process of worker.py."""

    def __init__(self, implementation: str, services: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [python_of(implementation), str(HERE / "worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
            env=environ(implementation, services),
        )

    def send(self, **question: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(question) + "\n")

    def receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        reply: dict[str, Any] = json.loads(line) if line else {"error": f"ended: {self._last_words()}"}
        if "error" in reply:
            raise Failed(reply["error"])
        return reply

    def ask(self, **question: Any) -> dict[str, Any]:
        self.send(**question)
        return self.receive()

    def _last_words(self) -> str:
        self._process.wait(10)
        return os.pread(self._errors.fileno(), 1 << 16, 0).decode(errors="replace").strip()[-300:]

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()


class Workers:
    """The processes of a run, started when first asked for."""

    def __init__(self, services: Mapping[str, str]) -> None:
        self.services = services
        self._running: dict[tuple[str, int], Worker] = {}
        self._kept: dict[str, tuple[str, tempfile.TemporaryDirectory[str]]] = {}

    def get(self, implementation: str, number: int = 0) -> Worker:
        name = (implementation, number)
        if name not in self._running:
            self._running[name] = Worker(implementation, self.services)
        return self._running[name]

    def directory(self, implementation: str, name: str) -> str:
        """A directory that an implementation's rows of that ``name`` have in common, as long as no other comes."""
        kept = self._kept.get(implementation)
        if kept is None or kept[0] != name:
            if kept is not None:
                kept[1].cleanup()
            kept = self._kept[implementation] = name, new_directory()
        return kept[1].name

    def close(self) -> None:
        while self._running:
            self._running.popitem()[1].close()
        while self._kept:
            self._kept.popitem()[1][1].cleanup()


def new_directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="beaker-benchmark-", ignore_cleanup_errors=True)


class CallSampler:
    """Times calls in the implementation's workers: one, or as many as the row has processes."""

    def __init__(self, row: Row, implementation: str, workers: Workers, seconds: float) -> None:
        self._directory = new_directory()
        self._row = row
        filled = row.extra.get("filled")
        directory = self._directory.name if filled is None else workers.directory(implementation, filled)
        place = Place(implementation, directory, dict(workers.services), row.keys, row.size)
        self._workers = [workers.get(implementation, number) for number in range(row.processes)]
        try:
            self._loops = max(self._build(worker, place, seconds) for worker in self._workers)
        except Failed:
            self.close()
            raise

    def _build(self, worker: Worker, place: Place, seconds: float) -> int:
        reply = worker.ask(do="build", row=self._row.name, place=dataclasses.asdict(place), seconds=seconds)
        return int(reply["loops"])

    def sample(self) -> float:
        for worker in self._workers:
            worker.send(do="time", loops=self._loops, threads=self._row.threads)
        each = [float(worker.receive()["seconds"]) for worker in self._workers]
        # By pieces of work that all processes did meanwhile.
        return max(each) / len(each) * 1e6

    def remark(self) -> str:
        return ""

    def close(self) -> None:
        self._directory.cleanup()


class FigureSampler(CallSampler):
    """Asks the implementation's worker for what the call returns: milliseconds, from its seconds."""

    def _build(self, worker: Worker, place: Place, seconds: float) -> int:
        return super()._build(worker, place, 0.0)

    def sample(self) -> float:
        return float(self._workers[0].ask(do="figure")["seconds"]) * 1e3


class ProcessSampler:
    """Runs a script in a fresh process of the implementation's interpreter."""

    def __init__(self, row: Row, implementation: str, services: Mapping[str, str], *, warm: bool) -> None:
        script = row.extra["scripts"][implementation]
        self._command = [python_of(implementation), str(HERE / "cold.py"), script]
        self._environ = environ(implementation, services)
        self._column = ("ms", "MiB").index(row.extra["figure"])
        if warm:
            self.sample()  # compiles what is not compiled yet, and fills the disk's cache

    def sample(self) -> float:
        done = subprocess.run(self._command, env=self._environ, capture_output=True, text=True, timeout=_SECONDS)
        if done.returncode:
            raise Failed(done.stderr.strip()[-200:])
        return float(done.stdout.split()[self._column])

    def remark(self) -> str:
        return ""

    def close(self) -> None:
        pass


class LoadSampler:
    """Loads the page behind gunicorn with wrk; the figure is requests a second."""

    def __init__(self, row: Row, implementation: str, services: Mapping[str, str], seconds: int) -> None:
        self._directory = new_directory()
        variables = {"BENCHMARK_DIRECTORY": self._directory.name, "BENCHMARK_REDIS": services.get("redis", "")}
        page = f"page:create({implementation!r}, {row.extra['keeps']!r})"
        # It is given a socket, since a port that was free may be another's by the time it starts.
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self._port = listening.getsockname()[1]
            bind = ["--bind", f"fd://{listening.fileno()}"]
            options = ["--workers", "1", "--threads", "4", *bind, "--no-control-socket"]
            self._gunicorn = subprocess.Popen(
                [python_of(implementation), "-m", "gunicorn", *options, "--log-level", "error", page],
                cwd=HERE,
                env=environ(implementation, services) | variables,
                pass_fds=[listening.fileno()],
            )
        self._wrk = [services["wrk"], "-t1", "-c4", f"-d{seconds}s", "--latency"]
        self._way: str = row.extra["way"]
        self._command: list[str] = []
        self._p99: list[float] = []

    def _begin(self) -> None:
        # Only now: the servers of a row start side by side.
        url = f"http://127.0.0.1:{self._port}/"
        end = time.monotonic() + 30
        while self._gunicorn.poll() is None and time.monotonic() < end:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}write", timeout=10) as reply:
                cookies = [value.partition(";")[0] for value in reply.headers.get_all("Set-Cookie") or []]
                header = ["-H", f"Cookie: {'; '.join(cookies)}"] if cookies else []
                self._command = [*self._wrk, *header, url + self._way]
                return
            time.sleep(0.05)
        raise Failed("gunicorn does not serve the page")

    def sample(self) -> float:
        if not self._command:
            self._begin()
        done = subprocess.run(self._command, capture_output=True, text=True, timeout=_SECONDS)
        text = done.stdout
        rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
        late = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", text)
        if rate is None or late is None or "Non-2xx" in text or "Socket errors" in text:
            raise Failed((done.stderr + text)[-200:])
        self._p99.append(float(late[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[late[2]])
        return float(rate[1])

    def remark(self) -> str:
        return f"p99 {sorted(self._p99)[len(self._p99) // 2]:.1f} ms" if self._p99 else ""

    def close(self) -> None:
        self._gunicorn.send_signal(signal.SIGINT)  # at once, without waiting for kept connections
        try:
            self._gunicorn.wait(15)
        except subprocess.TimeoutExpired:
            self._gunicorn.kill()
            self._gunicorn.wait()
        self._directory.cleanup()


def who(row: Row) -> list[str]:
    """The implementations that do the row's work."""
    if row.work:
        return list(row.work)
    return list(row.extra["scripts"] if row.kind == "process" else row.extra["who"])


def versions() -> dict[str, str]:
    """Of this interpreter and of the clients both sides use."""
    from importlib import metadata

    from benchmarks import environments

    names = ("SQLAlchemy", "pymemcache", "redis", "Flask", "gunicorn", "google-cloud-datastore", "google-cloud-ndb")
    found = {"Python": sys.version.split()[0]} | {name: metadata.version(name) for name in names}
    pins = dict(pin.split("==") for pin in (*environments.UPSTREAM.requirements, *environments.PEERS.requirements))
    return pins | found
