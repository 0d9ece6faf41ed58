"""The places a session can live in, by name: suites over all types are parametrized with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.middleware import SessionMiddleware
from beaker.testing.session_harness import OTHER_SECRET, SECRET, Handler, Tab
from tests.asgi.tabs import AsgiTab
from tests.storage.shared import session_options

__all__ = [
    "DRIVERS", "LOCAL", "MERGING", "SERVERS", "middleware_of", "opened", "options_by", "options_of", "tab_class",
    "tab_of",
]  # fmt: skip

Options = dict[str, Any]

_PLACES: dict[str, Callable[[Path], Options]] = {
    "memory": lambda at: {"type": "memory", "secret": SECRET},
    "file": lambda at: {"type": "file", "data_dir": str(at), "secret": SECRET},
    "dbm": lambda at: {"type": "dbm", "data_dir": str(at), "secret": SECRET},
    "sqlite": lambda at: {"type": "ext:database", "url": f"sqlite:///{at}/sessions.db", "secret": SECRET},
    "encrypted file": lambda at: {
        "type": "file",
        "data_dir": str(at),
        "validate_key": SECRET,
        "encrypt_key": OTHER_SECRET,
    },
    "revocable cookie": lambda at: {
        "type": "cookie",
        "validate_key": SECRET,
        "revocation": {"type": "file", "data_dir": str(at)},
        "revocation_check_interval": 0,
    },
    "hybrid in cookie": lambda at: {
        "type": "hybrid",
        "store": "file",
        "data_dir": str(at),
        "validate_key": SECRET,
        "revocation_check_interval": 0,
    },
    "hybrid in store": lambda at: {
        "type": "hybrid",
        "store": "file",
        "data_dir": str(at),
        "validate_key": SECRET,
        "cookie_max": 160,
        "revocation_check_interval": 0,
    },
}

LOCAL = tuple(_PLACES)
"""Every place that needs no server."""
MERGING = ("memory", "file", "dbm", "sqlite", "encrypted file", "hybrid in store")
"""Those where requests at the same time share a record."""
SERVERS = ("memcached", "redis", "postgres", "google", "google on firestore", "hybrid on google")
"""Every place on a real server; requests at the same time share a record on all of them."""

DRIVERS = ("wsgi", "asgi")
"""The middlewares that sessions are used through."""


def options_of(place: str, directory: Path) -> Options:
    """The session options of a place, with everything it keeps under ``directory``."""
    return _PLACES[place](directory)


def options_by(place: str, request: pytest.FixtureRequest, directory: Path) -> Options:
    """:func:`options_of`, also for a place on a server, which ``request`` then starts and no other test uses."""
    if place in _PLACES:
        return options_of(place, directory)
    if place == "hybrid on google":
        moved = _PLACES["hybrid in store"](directory)
        google = session_options("google", request, directory)
        return {**moved, **google, "type": "hybrid", "store": google["type"], "data_dir": None}
    return {**session_options(place, request, directory), "secret": SECRET}


def middleware_of(driver: str, handlers: list[Handler], options: Options) -> Any:
    """A middleware of a driver, whose application calls the last of ``handlers`` with the session."""
    if driver == "asgi":
        return AsgiTab.build(handlers, **options)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        handlers.pop()(environ["beaker.session"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    return SessionMiddleware(app, **options)


def tab_class(driver: str) -> type[Tab]:
    """The class of tabs that send requests to a driver's middleware."""
    return AsgiTab if driver == "asgi" else Tab


def tab_of(options: Options, driver: str = "wsgi") -> Tab:
    """A browser tab on a middleware of its own."""
    handlers: list[Handler] = []
    return tab_class(driver)(middleware_of(driver, handlers, options), handlers)


def opened(place: str, directory: Path, driver: str = "wsgi", **more: Any) -> Tab:
    """A tab on a local place."""
    return tab_of({**options_of(place, directory), **more}, driver)
