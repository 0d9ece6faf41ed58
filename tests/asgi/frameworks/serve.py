"""Runs one of the servers: ``python serve.py SERVER PORT DATA``, in an environment that has it."""

from __future__ import annotations

import os
import resource
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"


def site() -> Any:
    from tests.asgi.frameworks.site import Site

    return Site()


def uvicorn(port: int) -> None:
    server: Any = import_module("uvicorn")
    server.run(site(), host=HOST, port=port, log_level="warning")


def gunicorn(port: int) -> None:
    from gunicorn.app.base import BaseApplication

    class Served(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            worker = "uvicorn_worker.UvicornWorker"
            options = {"bind": f"{HOST}:{port}", "worker_class": worker, "control_socket_disable": True}
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            return site()

    Served().run()


if __name__ == "__main__":
    # "tests" must be importable, and the modules of this folder must not hide other packages.
    sys.path[0] = str(Path(__file__).resolve().parents[3])
    # A crowd of clients has a connection each.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.environ["FRAMEWORKS_DATA"] = sys.argv[3]
    {"uvicorn": uvicorn, "gunicorn": gunicorn}[sys.argv[1]](int(sys.argv[2]))
