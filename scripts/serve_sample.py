"""Runs the sample under gunicorn until it is told to stop, with a Datastore emulator beside it if asked."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from gae import emulator  # noqa: E402  (the checkout must be importable first)

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


def main(arguments: list[str]) -> int:
    port = os.environ.get("PORT", "8080")
    if not port.isdigit():
        print("PORT must be a number", file=sys.stderr)
        return 2
    environ = dict(os.environ, PYTHONPATH=str(ROOT))
    with contextlib.ExitStack() as stack:
        if "--datastore" in arguments:
            host = environ.get("DATASTORE_EMULATOR_HOST")
            if host is None:
                try:
                    host = stack.enter_context(emulator.start()).host
                except emulator.EmulatorNotFound as missing:
                    print(missing, file=sys.stderr)
                    return 1
            environ |= {
                "DATASTORE_EMULATOR_HOST": host,
                "BEAKER_SESSION_TYPE": "ext:google",
                "BEAKER_CACHE_TYPE": "ext:google",
            }
            environ.setdefault("GOOGLE_CLOUD_PROJECT", "beaker-local")
            print(f"Datastore emulator on {host}", flush=True)
        print(f"Serving samples/appengine on http://127.0.0.1:{port} (Ctrl-C stops)", flush=True)
        server = subprocess.Popen(command(port), cwd=ROOT, env=environ)

        def stop(number: int, frame: FrameType | None) -> None:
            server.terminate()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        status = server.wait()
    return 0 if status in (0, -signal.SIGTERM, -signal.SIGINT) else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
