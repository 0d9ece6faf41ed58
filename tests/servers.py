"""Real servers for the tests: each on a free loopback port, started at first use, ended by its pid.

A server lives for the whole session and is shared, so a test keeps to its own project, namespace or table (or
calls ``reset()`` on an emulator). A server that is not installed skips the tests that ask for it and is named in the
last lines of the run; with ``CI`` set it fails them instead.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from beaker.storage import breaker
from gae import emulator

MISSING = "missing server: "
"""What the reason of every skip starts with that a missing server causes; conftest counts them by it."""

EMULATOR_FIXTURES = frozenset({"datastore_emulator", "firestore_emulator"})
SERVER_FIXTURES = frozenset({"memcached_server", "redis_server", "postgres_server"})

_ATTEMPTS = 3
_START_SECONDS = 30.0
_STOP_SECONDS = 15.0


def missing(name: str, advice: str) -> NoReturn:
    """Skip the calling test on a laptop, fail it where ``CI`` is set."""
    reason = f"{MISSING}{name} ({advice})"
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; CI is set, so nothing may be skipped for it", pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    """A loopback TCP port without a listener; another process may still take it first, so callers try again."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A child process that listens on ``host``:``port``; it can be stopped and started again on the same port."""

    host = "127.0.0.1"

    def __init__(
        self,
        name: str,
        command: Callable[[int], Sequence[str]],
        *,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        ready: Callable[[Server], bool] | None = None,
    ) -> None:
        self.name = name
        self.port = 0
        self._command = command
        self._user = user
        self._stop_signal = stop_signal
        self._ready = ready or Server.accepts
        self._log = tempfile.TemporaryFile()
        self._process: subprocess.Popen[bytes] | None = None
        self._was_started = False
        for attempt in range(1, _ATTEMPTS + 1):
            self.port = free_port()
            try:
                self.start()
                return
            except RuntimeError:
                if attempt == _ATTEMPTS:
                    self._log.close()
                    raise

    @property
    def pid(self) -> int | None:
        """The process id, ``None`` while stopped."""
        return self._process.pid if self._process is not None else None

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{self.host}:{self.port}"

    def accepts(self) -> bool:
        """Whether something takes connections on the port."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1):
                return True
        except OSError:
            return False

    def start(self) -> None:
        """Start, and return once it responds; ``RuntimeError`` with its last words if not. Harmless while running."""
        if self._process is not None:
            return
        restarted, self._was_started = self._was_started, True
        self._process = subprocess.Popen(
            self._command(self.port),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            user=self._user,
            cwd="/",
        )
        end = time.monotonic() + _START_SECONDS
        # A child that has ended while the port responds means that another process holds the port.
        while self._process.poll() is None and time.monotonic() < end:
            if self._ready(self) and self._process.poll() is None:
                if restarted:
                    # Tests do not wait for the pause of a circuit that opened meanwhile; tests/faults tests it.
                    breaker.retry()
                return
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"{self.name} did not start on {self.address}:\n{self._last_words()}")

    def stop(self, *, kill: bool = False) -> None:
        """End the process and wait until it is gone; ``kill`` gives it no time to tidy up. Harmless while stopped."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL if kill else self._stop_signal)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Stop for good."""
        self.stop()
        self._log.close()

    def output(self) -> str:
        """What the process has printed."""
        log = self._log.fileno()
        # The child shares this descriptor's offset: seeking would make it write over its own output.
        return os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")

    def _last_words(self) -> str:
        return "\n".join(self.output().splitlines()[-15:])


class RedisServer(Server):
    """Adds ``url``, what redis-py's ``from_url`` takes."""

    @property
    def url(self) -> str:
        return f"redis://{self.address}/0"


class PostgresServer(Server):
    """Adds ``url``, what SQLAlchemy's ``create_engine`` takes; the role is the cluster's superuser."""

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://postgres@{self.address}/postgres"


def _run_emulator(kind: emulator.Kind) -> Iterator[emulator.Emulator]:
    try:
        running = emulator.start(kind)
    except emulator.EmulatorNotFound as err:
        missing(f"{kind} emulator", str(err))
    with running:
        yield running


@pytest.fixture(scope="session")
def datastore_emulator() -> Iterator[emulator.Emulator]:
    """The Datastore emulator (optimistic); ``DATASTORE_EMULATOR_HOST`` must be its ``.host`` when a client is built."""
    yield from _run_emulator("datastore")


@pytest.fixture(scope="session")
def firestore_emulator() -> Iterator[emulator.Emulator]:
    """The Firestore emulator in Datastore mode: pessimistic, enforces entity size; used like ``datastore_emulator``."""
    yield from _run_emulator("firestore")


_restartable: list[Server] = []


def start_stopped_servers() -> None:
    """Start again what a test stopped, so that its neighbours never notice."""
    for server in _restartable:
        server.start()


@contextlib.contextmanager
def _shared(server: Server) -> Iterator[None]:
    _restartable.append(server)
    try:
        yield
    finally:
        _restartable.remove(server)
        server.close()


@contextlib.contextmanager
def memcached() -> Iterator[Server]:
    """A memcached of one's own; see :func:`memcached_server`."""
    binary = shutil.which("memcached") or missing("memcached", "apt-get install memcached")
    as_root = ["-u", "nobody"] if os.geteuid() == 0 else []
    server = Server("memcached", lambda port: [binary, *as_root, "-l", Server.host, "-p", str(port), "-U", "0"])
    with _shared(server):
        yield server


@contextlib.contextmanager
def redis(directory: Path) -> Iterator[RedisServer]:
    """A Redis of one's own; see :func:`redis_server`."""
    binary = shutil.which("redis-server") or missing("redis", "apt-get install redis-server")
    options = ["--save", "", "--appendonly", "no", "--dir", str(directory)]
    server = RedisServer("redis", lambda port: [binary, "--bind", Server.host, "--port", str(port), *options])
    with _shared(server):
        yield server


@contextlib.contextmanager
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL cluster of one's own; see :func:`postgres_server`."""
    binaries = _postgres_binaries() or missing("PostgreSQL", "apt-get install postgresql")
    user = _postgres_user()
    # Not under pytest's own temporary directory: root creates that one, and only root may enter it.
    directory = Path(tempfile.mkdtemp(prefix="beaker-postgres-"))
    try:
        if user is not None:
            shutil.chown(directory, user)
        data = directory / "data"
        initdb = [str(binaries / "initdb"), "--pgdata", str(data), "--username=postgres", "--auth=trust"]
        made = subprocess.run(
            [*initdb, "--encoding=UTF8", "--locale=C", "--no-sync"],
            capture_output=True,
            text=True,
            user=user,
            cwd=directory,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{made.stdout}{made.stderr}")
        settings = {
            "listen_addresses": Server.host,
            "unix_socket_directories": str(directory),
            "fsync": "off",
            "max_connections": "200",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        server = PostgresServer(
            "PostgreSQL",
            lambda port: [str(binaries / "postgres"), "-D", str(data), "-p", str(port), *options],
            user=user,
            stop_signal=signal.SIGINT,  # "fast": open connections are ended, not waited for
            ready=lambda server: _postgres_answers(binaries, server),
        )
        with _shared(server):
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _postgres_binaries() -> Path | None:
    # Debian keeps the server's programs out of PATH, one folder a major version.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    initdb = shutil.which("initdb")
    folders += [Path(initdb).resolve().parent] if initdb else []
    return next((folder for folder in reversed(folders) if (folder / "postgres").exists()), None)


def _postgres_user() -> str | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):  # PostgreSQL refuses to run as root
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    missing("PostgreSQL", "root cannot run it and there is no user postgres")


def _postgres_answers(binaries: Path, server: Server) -> bool:
    probe = [str(binaries / "pg_isready"), "--quiet", "-h", server.host, "-p", str(server.port), "-U", "postgres"]
    return server.accepts() and subprocess.run(probe, capture_output=True).returncode == 0


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[Server]:
    """memcached: ``.host``, ``.port``, ``.stop()``, ``.start()`` on the same port (empty again)."""
    with memcached() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Redis without persistence: ``.host``, ``.port``, ``.url``, ``.stop()``, ``.start()``."""
    with redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A private PostgreSQL cluster: ``.host``, ``.port``, ``.url``, ``.stop()``, ``.start()``."""
    with postgres() as server:
        yield server
