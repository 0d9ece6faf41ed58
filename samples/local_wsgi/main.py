"""A visit counter on the standard library's server, with Beaker's middleware alone and everything in files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from wsgiref.simple_server import make_server

from beaker.middleware import CacheMiddleware, SessionMiddleware
from beaker.session import get as get_session

DATA = Path(__file__).with_name("data")
GREETING_SECONDS = 1.0

OPTIONS = {
    "session.type": "file",
    "session.data_dir": str(DATA / "sessions"),
    # `python -m beaker keys new` creates one; it is read again when the file changes.
    "session.secret": f"file:{DATA / 'secret.key'}",
    "cache.type": "file",
    "cache.data_dir": str(DATA / "cache"),
    "cache.expire": "60",
}


def counter(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Says how often this visitor came, and a greeting that takes a second to compute, once a minute."""
    if environ.get("PATH_INFO", "/") != "/":
        start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"There is one page: /\n"]
    session = get_session(environ)
    visits = session.increment("visits")
    session.save()
    cache = environ["beaker.cache"].get_cache("greetings")
    text = f"{cache.get('greeting', createfunc=greeting)} This is visit {visits}.\n"
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]


def greeting() -> str:
    """Stands for something slow."""
    time.sleep(GREETING_SECONDS)
    return f"Good day, it was {time.strftime('%H:%M:%S')} when I looked."


app = SessionMiddleware(CacheMiddleware(counter, OPTIONS), OPTIONS)

if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    with make_server("127.0.0.1", port, app) as server:
        print(f"Serving on http://127.0.0.1:{port} (Ctrl-C stops)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("Stopped.")
