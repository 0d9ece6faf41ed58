"""Finds, starts and stops Google's local emulators: the real Datastore protocol without an account.

Two kinds that behave differently: ``datastore`` refuses a conflicting commit at once, ``firestore`` (in
Datastore mode) locks pessimistically and enforces the entity size. They need Java.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

from beaker.exceptions import BeakerException
from beaker.forks import after_fork

__all__ = ["Emulator", "EmulatorError", "EmulatorNotFound", "find_jar", "find_java", "start"]

Kind = Literal["datastore", "firestore"]

DEFAULT_PROJECT = "beaker-local"
"""The project name used with an emulator when none is named; emulators accept any."""

_JARS: Mapping[str, str] = {
    "datastore": "cloud-datastore-emulator/CloudDatastore.jar",
    "firestore": "cloud-firestore-emulator/cloud-firestore-emulator.jar",
}
_CLASSES: Mapping[str, str] = {
    "datastore": "com.google.cloud.datastore.emulator.CloudDatastore",
    "firestore": "com.google.cloud.datastore.emulator.firestore.CloudFirestore",
}
_PACKAGES: Mapping[str, str] = {"datastore": "cloud-datastore-emulator", "firestore": "cloud-firestore-emulator"}
_FOLDERS = (
    "~/google-cloud-sdk",
    "/usr/lib/google-cloud-sdk",
    "/usr/share/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "/snap/google-cloud-cli/current",
    "/snap/google-cloud-sdk/current",
    "/opt/homebrew/share/google-cloud-sdk",
    "/usr/local/share/google-cloud-sdk",
)
# The JVM's server compiler pays off after minutes; an emulator lives for seconds (0.55 s against 0.8 s to start).
_JVM_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
_ATTEMPTS = 3
_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))

# The kernel then ends the emulator with us even after SIGKILL, which no atexit function survives. exec
# keeps the pid, so the emulator stays our direct child.
_DIE_WITH_PARENT = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class EmulatorError(BeakerException, RuntimeError):
    """The emulator is there but did not start; the message ends with the last lines it printed."""

    code = "emulator.failed"


class EmulatorNotFound(EmulatorError):
    """The emulator or Java is not installed; the message says what to install."""

    code = "emulator.not-installed"


def find_jar(kind: str = "datastore", *, environ: Mapping[str, str] | None = None) -> Path | None:
    """The emulator's jar, or ``None``.

    Looked for in this order: the file named by ``DATASTORE_EMULATOR_JAR`` (kind ``datastore``) or
    ``FIRESTORE_EMULATOR_JAR``, the SDK that ``gcloud`` on ``PATH`` belongs to, the SDK's usual folders.
    """
    environ = os.environ if environ is None else environ
    named = environ.get(f"{kind.upper()}_EMULATOR_JAR")
    if named:
        path = Path(named).expanduser()
        return path if path.is_file() else None
    folders = [Path(folder).expanduser() for folder in _FOLDERS]
    gcloud = shutil.which("gcloud", path=environ.get("PATH"))
    if gcloud:
        folders.insert(0, Path(gcloud).resolve().parents[1])
    for folder in folders:
        jar = folder / "platform" / _JARS[kind]
        if jar.is_file():
            return jar
    return None


def find_java(*, environ: Mapping[str, str] | None = None) -> str | None:
    """The Java launcher: the one of ``JAVA_HOME``, else ``java`` on ``PATH``, else ``None``."""
    environ = os.environ if environ is None else environ
    home = environ.get("JAVA_HOME")
    if home:
        java = Path(home) / "bin" / "java"
        if java.is_file():
            return str(java)
    return shutil.which("java", path=environ.get("PATH"))


def start(
    kind: Kind = "datastore",
    *,
    port: int | None = None,
    data_dir: str | Path | None = None,
    project: str = DEFAULT_PROJECT,
    timeout: float = 30.0,
    environ: Mapping[str, str] | None = None,
) -> Emulator:
    """Start an emulator on localhost and return once it replies; a ``with`` block ends it.

    Nothing is led to it yet: ``os.environ.update(emulator.environ)`` before the application is built, or give a store
    ``emulator_host=emulator.host``.

    - ``kind``: ``datastore`` or ``firestore``.
    - ``port``: default: a free one.
    - ``data_dir``: keeps the data on disk between runs (``datastore`` only); without it nothing is written.
    - ``project``: the project that :attr:`Emulator.environ` names.
    - ``timeout``: seconds until one attempt must reply.
    - ``environ``: where emulator and Java are looked for; default: the process's environment.

    Raises :class:`EmulatorNotFound` when the emulator or Java is missing, :class:`EmulatorError` when it does not
    come up, ``ValueError`` for an unknown kind or ``data_dir`` with ``firestore``.
    """
    if kind not in _JARS:
        raise ValueError(f"unknown emulator {kind!r}: expected 'datastore' or 'firestore'")
    if data_dir is not None and kind == "firestore":
        raise ValueError("the Firestore emulator keeps its data in memory: data_dir works with 'datastore' only")
    jar, java = find_jar(kind, environ=environ), find_java(environ=environ)
    if jar is None or java is None:
        raise EmulatorNotFound(_advice(kind, jar, java, os.environ if environ is None else environ))
    attempts = _ATTEMPTS if port is None else 1
    for attempt in range(1, attempts + 1):
        chosen = _free_port() if port is None else port
        emulator = Emulator(kind, chosen, project, _command(kind, java, jar, chosen, data_dir))
        try:
            emulator._wait_until_ready(timeout)
            return emulator
        except EmulatorError:
            emulator.stop()
            if attempt == attempts:
                raise
        except BaseException:
            emulator.stop()
            raise
    raise AssertionError("unreachable: the loop returns or raises")


class Emulator:
    """A running emulator. ``host`` is ``localhost:PORT``, what ``DATASTORE_EMULATOR_HOST`` wants.

    It ends with :meth:`stop`, at the end of a ``with`` block, when this process ends, and on Linux (when
    started from the main thread) also when this process is killed.
    """

    def __init__(self, kind: Kind, port: int, project: str, command: list[str]) -> None:
        self.kind = kind
        self.port = port
        self.host = f"localhost:{port}"
        self.project = project
        self._output: IO[bytes] = tempfile.TemporaryFile()
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT
        )
        self._atexit = _weakly(self, Emulator.stop)
        atexit.register(self._atexit)
        after_fork(self._disown)

    @property
    def environ(self) -> dict[str, str]:
        """The variables that lead Google's client libraries, and Beaker, to this emulator."""
        return {"DATASTORE_EMULATOR_HOST": self.host, "GOOGLE_CLOUD_PROJECT": self.project}

    @property
    def pid(self) -> int | None:
        """The process id of the emulator, ``None`` once stopped."""
        return self._process.pid if self._process is not None else None

    def reset(self) -> None:
        """Forget every entity of every project. Raises :class:`EmulatorError` when it does not answer."""
        try:
            self._request("POST", "/reset")
        except OSError as err:
            raise EmulatorError(f"the {self.kind} emulator on {self.host} did not reset: {err}") from err

    def stop(self) -> None:
        """End the emulator and wait until it is gone (about a second). Harmless when already stopped."""
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self._atexit)
        try:
            if process.poll() is None:
                self._ask_to_stop(process)
        finally:
            self._output.close()

    def __enter__(self) -> Emulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ask_to_stop(self, process: subprocess.Popen[bytes]) -> None:
        # /shutdown is what writes the data file of a data_dir completely; the signals are for one that hangs.
        steps: tuple[Callable[[], object], ...] = (
            lambda: self._request("POST", "/shutdown"),
            process.terminate,
            process.kill,
        )
        for step in steps:
            try:
                step()
            except OSError:
                continue
            try:
                process.wait(10)
                return
            except subprocess.TimeoutExpired:
                continue
        process.wait()

    def _disown(self) -> None:
        # A forked child that ends must not take its parent's emulator with it.
        atexit.unregister(self._atexit)
        self._process = None

    def _wait_until_ready(self, timeout: float) -> None:
        process = self._process
        end = time.monotonic() + timeout
        while process is not None and time.monotonic() < end:
            try:
                self._request("GET", "/")
            except OSError:
                if process.poll() is not None:
                    break
                time.sleep(0.02)
                continue
            # On a taken port the emulator ends with rc 0 while the health check is served by the one
            # that holds the port: only a live child whose own log names the port counts.
            if self._announced():
                return
            if process.poll() is not None:
                break
            time.sleep(0.02)
        raise EmulatorError(f"the {self.kind} emulator did not start on {self.host}:\n{self._tail()}")

    def _announced(self) -> bool:
        return (
            str(self.port).encode() in self._tail_bytes() and self._process is not None and self._process.poll() is None
        )

    def _tail_bytes(self) -> bytes:
        # The child shares this descriptor's offset: seeking would overwrite its own output.
        return os.pread(self._output.fileno(), 1 << 16, 0)

    def _tail(self) -> str:
        return "\n".join(self._tail_bytes().decode(errors="replace").splitlines()[-15:])

    def _request(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(
            f"http://{self.host}{path}", method=method, data=b"" if method == "POST" else None
        )
        with _LOCAL.open(request, timeout=5) as answer:
            body: bytes = answer.read()
        return body


def _command(kind: str, java: str, jar: Path, port: int, data_dir: str | Path | None) -> list[str]:
    command = [java, *_JVM_OPTIONS, "-cp", str(jar), _CLASSES[kind], "start", "--host=localhost", f"--port={port}"]
    if kind == "firestore":
        command.append("--database-mode=datastore-mode")
    elif data_dir is None:
        command.append("--testing")
    else:
        folder = Path(data_dir).expanduser().resolve()
        folder.mkdir(parents=True, exist_ok=True)
        command += ["--store_on_disk=true", "--consistency=1.0", str(folder)]
    # The kernel counts the *thread* that started the child as its parent, and only the main one lives as long as we do.
    if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
        return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, *command]
    return command


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port


def _weakly(emulator: Emulator, method: Callable[[Emulator], None]) -> Callable[[], None]:
    reference = weakref.ref(emulator)

    def call() -> None:
        live = reference()
        if live is not None:
            method(live)

    return call


def _advice(kind: str, jar: Path | None, java: str | None, environ: Mapping[str, str]) -> str:
    missing = []
    if jar is None:
        variable = f"{kind.upper()}_EMULATOR_JAR"
        package = _PACKAGES[kind]
        if environ.get(variable):
            missing.append(f"{variable} names a file that does not exist")
        else:
            missing.append(
                f"the {kind} emulator of the Google Cloud SDK was not found: `gcloud components install {package}`, "
                f"or on Debian with Google's apt repository `apt-get install google-cloud-cli-{kind}-emulator`, "
                f"or name its jar in {variable} (SDK: https://cloud.google.com/sdk/docs/install)"
            )
    if java is None:
        missing.append(
            "Java was not found: install a Java 17 (or newer) runtime, on Debian `apt-get install default-jre-headless`"
        )
    return "; ".join(missing)
