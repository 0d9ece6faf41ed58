"""gae.app.compose around an ASGI application: the same addresses, sessions and caches."""

from __future__ import annotations

import asyncio
import json
import logging
import weakref
from pathlib import Path
from typing import Any

import pytest

from beaker.exceptions import ConfigError
from beaker.storage import breaker
from gae.app import compose
from gae.asgi import AsyncApplication, environ_of
from tests.asgi.scripts import cookie_of, talk
from tests.asgi.tabs import http_scope

KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
TASKS = "a-secret-of-schedulers-5d0f1c"
SESSION = {"type": "memory", "secret": KEY}


async def counting(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        return
    session = scope["session"]
    session["n"] = session.get("n", 0) + 1
    session.save()
    cache = scope["beaker.cache"].get_cache("n")
    body = f"{session['n']} {await cache.aget('k', createfunc=lambda: 'made')} {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    return monkeypatch


async def ask(app: Any, path: str, query: bytes = b"", secret: str = "") -> tuple[int, str]:
    scope = http_scope(path)
    scope["query_string"] = query
    scope["headers"] = [(b"x-beaker-tasks-secret", secret.encode())] if secret else []
    sent = await talk(app, scope)
    return sent[0]["status"], sent[1]["body"].decode()


def test_sessions_caches_and_addresses(environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Sessions and caches are in the scope; warmup, purge and health are served; the rest is the application's."""
    environment.setenv("BEAKER_TASKS_SECRET", TASKS)
    warmed: list[str] = []
    # Servers that other tests stopped are not this application's.
    environment.setattr(breaker, "_breakers", weakref.WeakValueDictionary())
    with caplog.at_level(logging.INFO, "gae"):
        app = compose(counting, session=SESSION, cache={"type": "memory"}, prefetch=[lambda: warmed.append("x")])
    assert isinstance(app, AsyncApplication)
    assert "session" in caplog.text

    async def calls() -> None:
        first = await talk(app)
        assert first[1]["body"].startswith(b"1 made")
        assert (await talk(app, cookie=cookie_of(first)))[1]["body"].startswith(b"2 made")
        assert await ask(app, "/healthz") == (200, "ok\n")
        assert await ask(app, "/_ah/warmup") == (200, "ok\n")
        assert warmed == ["x"]
        assert (await ask(app, "/tasks/beaker/purge"))[0] == 403
        status, report = await ask(app, "/tasks/beaker/purge", secret=TASKS)
        assert (status, json.loads(report)["done"]) == (200, True)
        assert json.loads((await ask(app, "/healthz", b"stores=1", TASKS))[1])["ok"] is True
        assert (await ask(app, "/other"))[1].endswith("/other")
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await app({"type": "lifespan"}, None, send)  # type: ignore[arg-type]
        assert sent == [{"type": "lifespan.startup.complete"}]

    asyncio.run(calls())


def test_without_handlers(environment: pytest.MonkeyPatch) -> None:
    """handlers=False leaves the addresses to the application."""
    app = compose(counting, session=SESSION, handlers=False)
    assert asyncio.run(ask(app, "/healthz"))[1].endswith("/healthz")


async def a_view(request: Any) -> str:
    return "x"


@pytest.mark.parametrize(
    ("name", "status"), [(b"x-appengine-cron", 200), (b"x_appengine_cron", 403), (b"x-appengine_cron", 403)]
)
def test_only_the_platform_says_cron(environment: pytest.MonkeyPatch, name: bytes, status: int) -> None:
    """App Engine takes X-Appengine-Cron from strangers; no other spelling stands for it."""
    environment.setenv("GAE_ENV", "standard")
    environment.setenv("GOOGLE_CLOUD_PROJECT", "demo")
    app = compose(counting, session=SESSION, cache={"type": "memory"})
    scope = http_scope("/tasks/beaker/purge")
    scope["headers"] = [(name, b"true")]
    assert asyncio.run(talk(app, scope))[0]["status"] == status


def test_headers_sent_twice_are_all_there() -> None:
    """As WSGI has them: joined by commas."""
    headers = [(b"forwarded", b"for=a"), (b"x-cloud-trace-context", b"1/2;o=1"), (b"forwarded", b"for=b")]
    assert environ_of({**http_scope(), "headers": headers})["HTTP_FORWARDED"] == "for=a,for=b"


def test_functions_to_prefetch_may_come_from_an_iterator(environment: pytest.MonkeyPatch) -> None:
    """They are looked at once when composing, and called at the warmup."""
    warmed: list[str] = []
    functions = iter([lambda: warmed.append("x")])
    app = compose(counting, session=SESSION, cache={"type": "memory"}, prefetch=functions)
    asyncio.run(ask(app, "/_ah/warmup"))
    assert warmed == ["x"]


async def prefetch() -> None: ...


@pytest.mark.parametrize(
    ("app", "options", "said"),
    [
        (a_view, {}, "no ASGI application"),
        (counting, {"ndb": True}, "ndb"),
        (counting, {"prefetch": [prefetch]}, "prefetch"),
        (5, {}, "no application"),
    ],
)
def test_what_is_refused(app: Any, options: dict[str, Any], said: str, environment: pytest.MonkeyPatch) -> None:
    """What it was given, and what an ASGI application cannot have, is said at once."""
    with pytest.raises(ConfigError, match=said):
        compose(app, session=SESSION, **options)
