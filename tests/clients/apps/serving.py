"""A real server for one application, and a browser with cookies."""

from __future__ import annotations

import contextlib
import http.cookiejar
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from waitress.server import create_server


class Browser:
    """Keeps its cookies. ``get`` returns the body; ``status`` is the last response's."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))
        self.status = 0

    def get(self, path: str) -> str:
        try:
            with self._opener.open(self.address + path, timeout=20) as response:
                self.status = response.status
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            self.status = error.code
            return str(error.read().decode())


@contextlib.contextmanager
def served(app: Any) -> Iterator[Callable[[], Browser]]:
    """``app`` under waitress on a free port: a function that opens a browser."""
    server = create_server(app, host="127.0.0.1", port=0, threads=4)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield lambda: Browser(f"http://127.0.0.1:{server.effective_port}")
    finally:
        server.close()
        thread.join()
        server.task_dispatcher.shutdown()
