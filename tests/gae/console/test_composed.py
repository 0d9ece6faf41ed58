"""The console in front of what compose builds, WSGI and ASGI."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from beaker.exceptions import ConfigError
from beaker.testing import Browser
from gae.app import compose
from gae.console import ConsoleOptions
from tests.asgi.scripts import talk
from tests.asgi.tabs import http_scope
from tests.gae.console.sites import (
    KEY,
    LET_IN,
    SECRET,
    inner,
    token_of,
)


def test_compose_puts_it_in_front(monkeypatch: pytest.MonkeyPatch, weather: Any) -> None:
    """By a variable or an argument, at its path; sessions, options with origin and findings are the application's."""
    monkeypatch.setenv("BEAKER_CONSOLE", "true")
    monkeypatch.setenv("BEAKER_CONSOLE_SECRET", SECRET)
    session = {"type": "memory", "secret": KEY}
    for more in ({}, {"console": ConsoleOptions(secret=SECRET, path="/_beaker")}):
        app = compose(inner, session=session, cache={"type": "memory"}, **more)  # type: ignore[call-overload]
        browser = Browser(app)
        page = browser.get("/_beaker/", **LET_IN).text
        assert "session.memory-bound" in page
        assert "argument" in page
        assert "&lt;set&gt;" in page
        assert app.sessions.context.ring.current.kid.hex() in page
        for hidden in (KEY, SECRET):
            assert hidden not in page
        assert browser.get("/x").text == "inner /x"
    app = compose(inner, session=session, console=False)
    assert Browser(app).get("/_beaker/").text == "inner /_beaker/"
    with pytest.raises(ConfigError, match="settings are complete"):
        compose(inner, settings=app.settings, console=True)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inner"})


def test_compose_of_an_asgi_application(weather: Any) -> None:
    """The same page, guard and buttons; a body that goes on for ever is read as far as a form may be long."""
    import asyncio

    session = {"type": "memory", "secret": KEY}
    app = compose(asgi, session=session, console=ConsoleOptions(secret=SECRET))
    let_in = [(b"authorization", LET_IN["HTTP_AUTHORIZATION"].encode()), (b"host", b"x")]

    def ask(method: str, headers: list[tuple[bytes, bytes]], body: bytes = b"", more: bool = False) -> tuple[int, str]:
        scope = {**http_scope("/_beaker/"), "method": method, "headers": headers}
        read: list[int] = []

        async def receive() -> Any:
            read.append(1)
            assert len(read) < 10_000
            return {"type": "http.request", "body": body, "more_body": more}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(app(scope, receive, send))
        return sent[0]["status"], sent[1]["body"].decode()

    assert ask("GET", []) == (401, "unauthorized\n")
    assert ask("GET", [(b"x_appengine_user_is_admin", b"1")])[0] == 401
    status, page = ask("GET", let_in)
    assert status == 200
    body = f"token={token_of(page)}&action=invalidate&region=short".encode()
    form = [*let_in, (b"content-type", b"application/x-www-form-urlencoded")]
    status, page = ask("POST", [*form, (b"content-length", str(len(body)).encode())], body)
    assert (status, "Region short is invalidated" in page) == (200, True)
    assert weather("bern-of-visitor-77") == 2
    assert ask("POST", [*form, (b"content-length", b"5")], b"x" * 100, more=True)[0] in (400, 403)
    assert ask("POST", [*form, (b"origin", b"https://evil.example")], body)[0] == 403
    assert asyncio.run(talk(app, http_scope("/other")))[1]["body"] == b"inner"


def test_an_application_without_it_does_without_its_modules() -> None:
    """Nothing of the console is imported unless it is asked for."""
    code = (
        "import sys; from gae.app import compose;"
        f"compose(lambda environ, start: [], session={{'type': 'memory', 'secret': '{KEY}'}});"
        "sys.exit(any(name.startswith('gae.console') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
