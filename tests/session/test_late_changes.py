"""Changes of the session after the headers were sent: kept where that is possible, warned about where it is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.exceptions import BeakerWarning
from beaker.middleware import SessionMiddleware
from beaker.testing.browser import Browser
from beaker.testing.session_harness import SECRET


def test_late_changes_warn_only_when_a_cookie_was_needed(tmp_path: Path) -> None:
    """A stored session takes a late change in silence, also with a cookie of limited life; a cookie session warns."""

    def app(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        session = environ["beaker.session"]
        session["a"] = 1
        session.save()
        start("200 OK", [("Content-Type", "text/plain")])
        yield b"x"
        session["late"] = 2
        session.save()

    stores: dict[str, Any] = {"type": "file", "data_dir": str(tmp_path), "secret": SECRET, "cookie_expires": 3600}
    browser = Browser(SessionMiddleware(app, **stores))
    browser.get()
    browser.get()
    in_cookie = Browser(SessionMiddleware(app, type="cookie", validate_key=SECRET))
    with pytest.warns(BeakerWarning, match="after the headers"):
        in_cookie.get("/path")


def test_a_late_first_touch_warns(tmp_path: Path) -> None:
    """A session first touched after the headers cannot send Vary or a cookie, and warns once."""

    def app(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        yield b"x"
        environ["beaker.session"]["a"] = 1
        environ["beaker.session"].save()

    with pytest.warns(BeakerWarning, match="after the headers") as caught:
        answer = Browser(SessionMiddleware(app, type="file", data_dir=str(tmp_path), secret=SECRET)).get()
    assert not answer.set_cookies
    assert 1 <= len(caught) <= 2
