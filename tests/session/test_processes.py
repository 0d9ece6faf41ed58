"""Sessions in memory where a server runs several processes: one warning, with the option and the way out."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import flask
import pytest

from beaker.container import MemoryNamespaceManager
from beaker.exceptions import ConfigWarning
from beaker.middleware import SessionMiddleware
from beaker.testing.browser import Browser
from beaker.testing.session_harness import SECRET
from gae.functions import with_session

SEVERAL = {"wsgi.multiprocess": True}


def app(environ: dict[str, Any], start: Any) -> list[bytes]:
    if environ["PATH_INFO"] != "/idle":
        environ["beaker.session"].get("a")
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"x"]


def told(browser: Browser, **environ: Any) -> list[str]:
    """The warnings of two requests that use the session, after one that does not."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for path in ("/idle", "/", "/"):
            browser.get(path, **environ)
    assert all(warning.category is ConfigWarning for warning in caught)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"type": "memory"}, "session.type"),
        ({"type": "hybrid", "store": "memory"}, "session.store"),
        ({"namespace_class": MemoryNamespaceManager}, "session.namespace_class"),
        ({"type": "cookie", "revocation": "memory"}, "session.revocation"),
        ({"type": "file", "revocation": {"type": "memory"}}, "session.revocation"),
    ],
)
def test_memory_of_one_of_several_processes_warns_once(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    """The first use of a session names the option that keeps it in this process, and says what to set instead."""
    browser = Browser(SessionMiddleware(app, secret=SECRET, data_dir=str(tmp_path), **options))
    (message,) = told(browser, **SEVERAL)
    assert message.startswith(f"{named}: the server runs several processes (wsgi.multiprocess)")
    assert f"set {named} to a store they share" in message


@pytest.mark.parametrize("options", [{"type": "file"}, {"type": "cookie"}, {"type": "hybrid", "store": "file"}])
def test_what_processes_share_is_fine(tmp_path: Path, options: dict[str, Any]) -> None:
    """Files and cookies are the same to every process of a host: no warning."""
    assert not told(Browser(SessionMiddleware(app, secret=SECRET, data_dir=str(tmp_path), **options)), **SEVERAL)


def test_one_process_may_keep_sessions_in_memory() -> None:
    """A server that runs one process is not warned about."""
    assert not told(Browser(SessionMiddleware(app, type="memory", secret=SECRET)))


def test_functions_warn_too() -> None:
    """A function with a session says the same."""
    site = flask.Flask("functions")
    function = with_session(type="memory", secret=SECRET)(
        lambda request: str(request.environ["beaker.session"].get("a"))
    )
    with site.test_request_context(environ_overrides=SEVERAL), pytest.warns(ConfigWarning, match=r"session\.type"):
        function(flask.request)
