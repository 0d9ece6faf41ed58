"""A Pyramid application whose sessions and caches come from pyramid_beaker, configured by text as in an INI file."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pyramid.config import Configurator
from serving import served

from beaker.cache import cache_region

KEY = "K2l9ZgT8v5mQwXy0Rj3uBn7sPd1fHc6e"
calls = count(1)


@cache_region("short_term", "prices")
def price(name: str) -> str:
    return f"{name} {next(calls)}"


def visit(request: Any) -> str:
    session = request.session
    session["visits"] = session.get("visits", 0) + 1
    session.flash("welcome")
    return f"{session['visits']} {session.new} {price('tea')}"


def leave(request: Any) -> str:
    request.session.invalidate()
    return "left"


def token(request: Any) -> str:
    return str(request.session.get_csrf_token())


def flashed(request: Any) -> str:
    return ",".join(request.session.pop_flash())


def broken(request: Any) -> str:
    request.session["visits"] = 1000
    raise ValueError("the view fails")


def application(**settings: str) -> Any:
    config = Configurator(settings={"cache.regions": "short_term", "cache.type": "memory", **settings})
    config.include("pyramid_beaker")
    for view in (visit, leave, token, flashed, broken):
        config.add_route(view.__name__, f"/{view.__name__}")
        config.add_view(view, route_name=view.__name__, renderer="string")
    config.add_view(lambda error, request: "failed", context=ValueError, renderer="string")
    return config.make_wsgi_app()


@pytest.mark.parametrize("kind", ["file", "cookie", "memory", "dbm"])
def test_visits(kind: str, tmp_path: Path) -> None:
    """Sessions last over requests, belong to one browser, carry flash and CSRF, end, and survive a failing view."""
    settings = {
        "session.type": kind,
        "session.key": "shop",
        "session.timeout": "3600",
        "session.cookie_expires": "true",
    }
    settings |= {
        "session.data_dir": str(tmp_path),
        "session.validate_key" if kind == "cookie" else "session.secret": KEY,
    }
    settings["session.cookie_on_exception"] = "false"
    with served(application(**settings)) as browser:
        one, other = browser(), browser()
        first = one.get("/visit").split()
        assert first[:2] == ["1", "True"]
        assert one.get("/visit").split() == ["2", "False", *first[2:]]
        assert other.get("/visit").split()[0] == "1"
        assert one.get("/flashed") == "welcome,welcome"
        assert one.get("/flashed") == ""
        assert one.get("/token") == one.get("/token") != other.get("/token")
        assert one.get("/broken") == "failed"
        assert one.get("/visit").split()[0] in ("3", "1001")
        assert one.get("/leave") == "left"
        assert one.get("/visit").split()[:2] == ["1", "True"]
    assert [cookie.name for cookie in one.jar] == ["shop"]
