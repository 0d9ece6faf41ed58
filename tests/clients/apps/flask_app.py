"""Flask whose session is Beaker's, by a SessionInterface over the WSGI environ, as CKAN does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flask
import pytest
from flask.sessions import SessionInterface
from serving import served

from beaker.middleware import SessionMiddleware

KEY = "K2l9ZgT8v5mQwXy0Rj3uBn7sPd1fHc6e"


class BeakerSessionInterface(SessionInterface):
    def open_session(self, app: Any, request: Any) -> Any:
        return request.environ.get("beaker.session")

    def save_session(self, app: Any, session: Any, response: Any) -> None:
        session.save()


def application(**options: Any) -> Any:
    app = flask.Flask("shop")
    app.session_interface = BeakerSessionInterface()

    @app.route("/visit")
    def visit() -> str:
        flask.session["visits"] = flask.session.get("visits", 0) + 1
        return str(flask.session["visits"])

    @app.route("/flash")
    def flash() -> str:
        flask.flash("saved")
        return "ok"

    @app.route("/flashed")
    def flashed() -> str:
        return ",".join(map(str, flask.get_flashed_messages()))

    @app.route("/leave")
    def leave() -> str:
        flask.session.invalidate()  # type: ignore[attr-defined]
        return "left"

    app.wsgi_app = SessionMiddleware(app.wsgi_app, options)  # type: ignore[method-assign]
    return app


@pytest.mark.parametrize("kind", ["file", "cookie"])
def test_visits(kind: str, tmp_path: Path) -> None:
    """Visits count, messages flash, leaving ends the session."""
    options = {"beaker.session.type": kind, "beaker.session.data_dir": str(tmp_path), "beaker.session.key": "ckan"}
    options["beaker.session.validate_key" if kind == "cookie" else "beaker.session.secret"] = KEY
    with served(application(**options)) as browser:
        one = browser()
        assert [one.get("/visit"), one.get("/visit"), browser().get("/visit")] == ["1", "2", "1"]
        assert [one.get("/flash"), one.get("/flashed"), one.get("/flashed")] == ["ok", "saved", ""]
        assert [one.get("/leave"), one.get("/visit")] == ["left", "1"]
