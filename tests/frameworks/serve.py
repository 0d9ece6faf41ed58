"""Runs one of the servers: ``python serve.py SERVER PORT DATA``, in an environment that has it."""

from __future__ import annotations

import os
import socketserver
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"


def application() -> Any:
    """The site; imported late, because gunicorn's gevent worker patches first."""
    from tests.frameworks.site import Site

    return Site()


def gunicorn(worker: str, port: int) -> None:
    from gunicorn.app.base import BaseApplication

    class Served(BaseApplication):  # type: ignore[misc]
        def load_config(self) -> None:
            options = {"bind": f"{HOST}:{port}", "worker_class": worker, "threads": 4, "control_socket_disable": True}
            for name, value in options.items():
                self.cfg.set(name, value)

        def load(self) -> Any:
            return application()

    Served().run()


def waitress(port: int) -> None:
    # By import_module, because the checkout's own environment does not have it.
    server: Any = import_module("waitress")
    server.serve(application(), host=HOST, port=port, threads=4)


def wsgiref(port: int) -> None:
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

    class Threaded(socketserver.ThreadingMixIn, WSGIServer):
        daemon_threads = True

    server = Threaded((HOST, port), WSGIRequestHandler)
    server.set_app(application())
    server.serve_forever()


def werkzeug(port: int) -> None:
    from werkzeug.serving import run_simple

    run_simple(HOST, port, application(), threaded=True)


def main(server: str, port: int, data: str) -> None:
    # "tests" must be importable, and the modules of this folder must not hide other packages.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    os.environ["FRAMEWORKS_DATA"] = data
    kind, _, worker = server.partition("-")
    if kind == "gunicorn":
        gunicorn(worker, port)
    else:
        {"waitress": waitress, "wsgiref": wsgiref, "werkzeug": werkzeug}[kind](port)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
