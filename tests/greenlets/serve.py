"""Runs the site on greenlets: ``python serve.py WAY PORT DATA``, in an environment that has gevent and gunicorn."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HOST = "127.0.0.1"


def preload(port: int, workers: int) -> None:
    """gunicorn imports the application, forks, and only then does gevent replace the locks."""
    options = ["--bind", f"{HOST}:{port}", "--worker-class", "gevent", "--workers", str(workers), "--preload"]
    options += ["--timeout", "300", "--no-control-socket"]
    os.environ["PYTHONPATH"] = sys.path[0]
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *options, "tests.greenlets.site:application"])


def late(port: int) -> None:
    """One process that imports the application before gevent replaces the locks."""
    from gevent import monkey
    from gevent.pywsgi import WSGIServer

    from tests.greenlets.site import application

    monkey.patch_all()
    WSGIServer((HOST, port), application).serve_forever()


def main(way: str, port: int, data: str) -> None:
    # "tests" must be importable, and the modules of this folder must not hide other packages.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    os.environ["GREENLETS_DATA"] = data
    if way == "late":
        late(port)
    else:
        preload(port, int(way.removeprefix("preload-")))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
