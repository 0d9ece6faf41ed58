"""Runs the sample under gunicorn until it is told to stop, with a Datastore emulator beside it if asked."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gae import emulator  # noqa: E402  (the checkout must be importable first)

PORT_SECONDS, EMULATOR_SECONDS = 3.0, 10.0
WORKERS, THREADS = os.environ.get("WORKERS", "1"), os.environ.get("THREADS", "8")


def command(port: str) -> list[str]:
    """The server: gunicorn where it exists, else the standard library's."""
    if os.name != "posix" or importlib.util.find_spec("gunicorn") is None:
        return [sys.executable, "-m", "samples.appengine", port]
    gunicorn = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--no-control-socket"]
    return [
        *gunicorn,
        "--workers",
        WORKERS,
        "--worker-class",
        "gthread",
        "--threads",
        THREADS,
        "samples.appengine.main:app",
    ]


def is_free(port: int) -> bool:
    """Whether the server can listen there; one that has just been killed gets a moment to be gone."""
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return True
            except OSError:
                if time.monotonic() > deadline:
                    return False
        time.sleep(0.1)


def die_with_parent() -> None:
    """Have the kernel end this child with us, SIGKILL included; else it would keep the port."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)


def start_emulator(folder: Path) -> emulator.Emulator:
    """An emulator whose data are in ``folder``; in memory only while another one has them."""
    mark = folder.parent / f"{folder.name}.pid"
    deadline = time.monotonic() + EMULATOR_SECONDS
    # One that was killed with its script writes its data for a second or two.
    while runs(mark, folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    if runs(mark, folder):
        print(f"{folder} is in use by another emulator: this one keeps its data in memory", flush=True)
        return emulator.start()
    started = emulator.start(data_dir=folder)
    mark.write_text(str(started.pid))
    return started


def runs(mark: Path, folder: Path) -> bool:
    """Whether the process that ``mark`` names is an emulator on ``folder``."""
    try:
        pid = int(mark.read_text())
    except (OSError, ValueError):
        return False
    shown = subprocess.run(["ps", "-ww", "-p", str(pid), "-o", "args="], capture_output=True, text=True).stdout
    return str(folder) in shown


def main(arguments: list[str]) -> int:
    port = os.environ.get("PORT", "8080")
    if not port.isdigit() or not 0 < int(port) < 65536:
        print("PORT must be a number from 1 to 65535", file=sys.stderr)
        return 2
    if not is_free(int(port)):
        print(f"Port {port} is taken. PORT=9000 scripts/serve serves on another one.", file=sys.stderr)
        return 1
    environ = dict(os.environ, PYTHONPATH=str(ROOT))
    # What is relative is below the checkout for the server, too.
    data = (ROOT / environ.get("BEAKER_DATA_DIR", "data")).resolve()
    with contextlib.ExitStack() as stack:
        if "--datastore" in arguments:
            host = environ.get("DATASTORE_EMULATOR_HOST")
            if host is None:
                try:
                    host = stack.enter_context(start_emulator(data / "datastore")).host
                except emulator.EmulatorError as error:
                    print(error, file=sys.stderr)
                    return 1
            environ |= {
                "DATASTORE_EMULATOR_HOST": host,
                "BEAKER_SESSION_TYPE": "ext:google",
                "BEAKER_CACHE_TYPE": "ext:google",
            }
            environ.setdefault("GOOGLE_CLOUD_PROJECT", "beaker-local")
            print(f"Datastore emulator on {host}", flush=True)
        print(f"Serving samples/appengine on http://127.0.0.1:{port} (Ctrl-C stops)", flush=True)
        # A session of its own: Ctrl-C would reach gunicorn's workers twice, from the terminal and from gunicorn, and
        # the second SIGINT blocks a worker inside the handler of the first (seen in one of ten, for 30 seconds).
        server = subprocess.Popen(
            command(port),
            cwd=ROOT,
            env=environ,
            start_new_session=True,
            preexec_fn=die_with_parent if os.name == "posix" else None,
        )

        def stop(number: int, frame: FrameType | None) -> None:
            server.terminate()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        status = server.wait()
    return 0 if status in (0, -signal.SIGTERM, -signal.SIGINT) else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
