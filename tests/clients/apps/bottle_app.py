"""Bottle with Beaker's middleware, and Cork's login on top of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bottle
from cork import Cork
from cork.backends import JsonBackend
from serving import served

from beaker.middleware import SessionMiddleware

KEY = "K2l9ZgT8v5mQwXy0Rj3uBn7sPd1fHc6e"


def test_bottle_counts(tmp_path: Path) -> None:
    """A session in request.environ, saved by auto."""
    app = bottle.Bottle()

    @app.route("/visit")
    def visit() -> str:
        session = bottle.request.environ["beaker.session"]
        session["visits"] = session.get("visits", 0) + 1
        return str(session["visits"])

    options = {"session.type": "file", "session.data_dir": str(tmp_path), "session.auto": True}
    with served(SessionMiddleware(app, options)) as browser:
        one = browser()
        assert [one.get("/visit"), one.get("/visit"), browser().get("/visit")] == ["1", "2", "1"]


def test_cork_logs_in_and_out(tmp_path: Path) -> None:
    """Cork keeps the user's name in the session: a login opens a page, a logout closes it again."""
    backend = JsonBackend(str(tmp_path), initialize=True)
    backend.roles["user"] = 60
    cork: Any = Cork(backend=backend)
    hashed = cork._hash("ada", "difference")
    hashed = hashed.decode() if isinstance(hashed, bytes) else hashed
    told = {"email_addr": "a@example.org", "desc": "Ada", "creation_date": "2026-01-01 00:00:00"}
    backend.users["ada"] = {"role": "user", "hash": hashed, "last_login": "2026-01-01 00:00:00", **told}
    app = bottle.Bottle()

    @app.route("/login/<password>")
    def login(password: str) -> str:
        return str(cork.login("ada", password))

    @app.route("/page")
    def page() -> str:
        return str(cork.current_user.username) if not cork.user_is_anonymous else "nobody"

    @app.route("/logout")
    def logout() -> str:
        cork.logout(success_redirect="/page", fail_redirect="/page")
        return ""

    options = {"session.type": "cookie", "session.validate_key": KEY, "session.timeout": 3600, "session.httponly": True}
    with served(SessionMiddleware(app, options)) as browser:
        one = browser()
        assert one.get("/page") == "nobody"
        assert one.get("/login/wrong") == "False"
        assert one.get("/login/difference") == "True"
        assert one.get("/page") == "ada"
        assert browser().get("/page") == "nobody"
        assert one.get("/logout") == "nobody"
        assert one.get("/page") == "nobody"
