"""``python -m beaker explain MODULE:APPLICATION``: what it finds in an application, and what is no application."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from beaker.__main__ import main


def run(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    return main(arguments, out=out), out.getvalue()


PLAIN_APP = """
from beaker.middleware import CacheMiddleware, SessionMiddleware

def page(environ, start_response):
    raise AssertionError("nothing is called")

class Theirs:
    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        return self.app(environ, start_response)

app = Theirs(SessionMiddleware(Theirs(CacheMiddleware(page, **{"cache.regions": "short", "cache.short.expire": "60"})),
                               {"session.type": "memory", "session.timeout": "1h",
                                "session.secret": "a-key-of-this-test-4c1f9be07d2836a5"}))
bare = page
"""


@pytest.fixture
def applications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a module of its own in it."""
    (tmp_path / "an_application.py").write_text(PLAIN_APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "an_application", raising=False)
    return tmp_path


def test_explain_reports_the_composed_application(applications: Path) -> None:
    """The options of the middlewares that are found, through another's, with the application's arguments as origin."""
    status, told = run("explain", "an_application:app", "--json")
    report = json.loads(told)
    rows = {(row["scope"], row["option"]): row for row in report["options"]}
    assert status == 0
    assert (rows["session", "timeout"]["value"], rows["session", "timeout"]["origin"]) == ("3600 s", "argument")
    assert rows["session", "type"]["value"] == "memory"
    assert rows["cache.short", "expire"]["value"] == "60 s"
    assert rows["session", "auto"]["origin"] == "default"
    found = next(item for item in report["detected"] if item["name"] == "application")
    assert found["reason"] == "SessionMiddleware, CacheMiddleware"


def test_explain_reports_what_compose_made(applications: Path) -> None:
    """Of an application of the deployment kit the origins are those its settings know."""
    (applications / "a_kit_application.py").write_text(
        "from gae.app import compose\napp = compose(lambda e, s: [], regions={'short': {'expire': 60}})\n"
    )
    status, told = run("explain", "a_kit_application", "--json")
    rows = {(row["scope"], row["option"]): row for row in json.loads(told)["options"]}
    assert status == 0
    assert rows["cache.short", "expire"]["value"] == "60 s"
    assert rows["session", "secret"]["origin"] == "laptop default"


FRAMEWORKS = """
from fastapi import FastAPI
from flask import Flask

import beaker.asgi
from beaker.middleware import SessionMiddleware

class Quart:
    middleware = ["a.dotted.path"]  # of another meaning than Litestar's

    def __init__(self):
        self.asgi_app = beaker.asgi.SessionMiddleware(self.asgi_app, type="memory", timeout=60)

    async def asgi_app(self, scope, receive, send):
        raise AssertionError("nothing is called")

flask, quart, fastapi, wrong = Flask(__name__), Quart(), FastAPI(), FastAPI()
flask.wsgi_app = SessionMiddleware(flask.wsgi_app, type="memory", timeout=60)
fastapi.add_middleware(beaker.asgi.SessionMiddleware, config={"session.type": "memory", "session.timeout": "60"})
wrong.add_middleware(beaker.asgi.SessionMiddleware, config={"session.timeout": "soon"})
"""


@pytest.mark.parametrize("framework", ["flask", "quart", "fastapi"])
def test_explain_looks_into_frameworks(framework: str, applications: Path) -> None:
    """A middleware within a framework's object is found, and one without a key has started: that is no error."""
    (applications / "in_frameworks.py").write_text(FRAMEWORKS)
    status, told = run("explain", f"in_frameworks:{framework}", "--json")
    report = json.loads(told)
    assert [row["value"] for row in report["options"] if row["option"] == "timeout"] == ["60 s"]
    assert (status, report["ok"]) == (0, True)
    status, told = run("explain", "in_frameworks:wrong", "--json")
    (finding,) = json.loads(told)["findings"]
    assert (status, finding["code"]) == (1, "config.invalid-option")


@pytest.mark.parametrize(
    "name", ["an_application:nothing", "an_application:bare", "no_such_module:app", ":app", "that_ends:app"]
)
def test_an_application_that_is_not_there_is_a_wrong_call(
    name: str, applications: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2 and a sentence; nothing is reported."""
    (applications / "that_ends.py").write_text("raise SystemExit(7)")
    status, told = run("explain", name)
    assert (status, told) == (2, "")
    assert "[explain.no-application]" in capsys.readouterr().err
