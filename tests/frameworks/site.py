"""The site every server serves: ``/VARIANT/FRAMEWORK/CASE`` is one response, bare or behind one of our middlewares."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from beaker.middleware import CacheMiddleware, SessionMiddleware
from gae.app import compose
from tests.frameworks import applications

KEY = "hH3xq0bJw2kNnR8sT5vYzA7cEfGiKmPo9rUtXwZyB1d"
TYPES = ("memory", "file", "cookie", "hybrid")
DATA = os.environ.get("FRAMEWORKS_DATA", "")


def options(kind: str) -> dict[str, Any]:
    """Session options for one type, its files in a directory of this server."""
    more: dict[str, Any] = {"store": "file"} if kind == "hybrid" else {}
    if kind in ("file", "hybrid"):
        more["data_dir"] = os.path.join(DATA, kind)
    return {"type": kind, "secret": KEY, **more}


def variants(app: Any) -> dict[str, Any]:
    """``app`` bare and behind each of our WSGI middlewares."""
    return {
        "bare": app,
        **{kind: SessionMiddleware(app, **options(kind)) for kind in TYPES},
        # Its applications leave the session alone (applications.visit).
        "untouched": SessionMiddleware(app, **options("memory")),
        "cache": CacheMiddleware(app, type="memory"),
        "compose": compose(app, session=options("cookie"), cache={"type": "memory"}),
    }


class Site:
    """Takes the variant and the framework off the path; what is left is the application's own address."""

    def __init__(self) -> None:
        self._apps: dict[str, dict[str, Any]] = {}
        for name, build in applications.BUILDERS.items():
            self._apps[name] = variants(build())
        self._apps["functions"] = applications.functions()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        _, variant, framework, case = environ["PATH_INFO"].split("/", 3)
        environ["PATH_INFO"] = f"/{case}"
        environ["frameworks.untouched"] = variant == "untouched"
        app: Any = self._apps[framework][variant]
        response: Iterable[bytes] = app(environ, start_response)
        return response
