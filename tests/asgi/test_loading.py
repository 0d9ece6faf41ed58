"""When the session of an ASGI request is loaded, and what refuses to block its event loop."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from beaker._typing import Receive, Scope, Send
from beaker.asgi import AsyncSessionObject, SessionMiddleware
from beaker.exceptions import BeakerException, StoreUnavailable
from beaker.testing.session_harness import COOKIE
from tests.asgi.scripts import (
    BODY,
    START,
    answering,
    cookie_of,
    middleware,
    put,
    reading,
    talk,
)
from tests.asgi.tabs import BLOCKING, http_scope, run
from tests.session.faults import interrupt
from tests.session.places import LOCAL, opened


@pytest.mark.parametrize("place", LOCAL)
@pytest.mark.parametrize("first", ["wsgi", "asgi"])
def test_a_cookie_of_one_is_read_by_the_other(place: str, first: str, tmp_path: Path) -> None:
    """Both middlewares over one place share sessions: the values, a change by the other, and a logout."""
    one = opened(place, tmp_path, driver=first)
    other = opened(place, tmp_path, driver="asgi" if first == "wsgi" else "wsgi")
    if place == "memory":
        # Each keeps its own memory unless configured to share.
        other.middleware.context, other.middleware._opener = one.middleware.context, one.middleware._opener

    def write(session: Any) -> None:
        session["n"] = session.get("n", 0) + 1
        session.save()

    one.do(write)
    other.cookies = dict(one.cookies)
    other.do(write)
    one.cookies = dict(other.cookies)
    assert one.do(lambda session: session["n"]) == 2
    one.do(lambda session: session.logout())
    assert other.do(lambda session: session.get("n")) is None


def test_one_session_under_two_names() -> None:
    """scope["beaker.session"], or the key asked for, and scope["session"] are one object."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["mine"] is scope["session"])
        await send(START)
        await send(BODY)

    run(talk(SessionMiddleware(app, {"session.type": "memory"}, "mine")))
    assert seen == [True]


def test_untouched_costs_nothing() -> None:
    """An untouched session adds no header, and the message goes out as it came."""
    sent = run(talk(middleware(answering())))
    assert sent == [START, BODY]
    assert sent[0] is START


def test_eager_loads_before_the_application_and_touches_nothing(tmp_path: Path) -> None:
    """The record is read before the application runs; an untouched session adds no header and saves nothing."""
    app = middleware(answering(put), type="file", data_dir=str(tmp_path))
    cookie = cookie_of(run(talk(app)))
    store = interrupt(app.context)
    done: list[str] = []
    store.before = lambda name, number: done.append(name)
    app.app = middleware(answering(), type="memory").app
    assert run(talk(app, cookie=cookie)) == [START, BODY]
    assert done
    assert not set(done) & {"insert", "replace", "set"}


def test_lazy_is_loaded_when_awaited(tmp_path: Path) -> None:
    """Touched before load() is awaited, a lazy session is an error that says so, with a cookie or without."""
    seen: list[Any] = []

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        assert not hasattr(session, "mark_accessed")
        for touch in (put, len, lambda s: s.user, lambda s: s.save()):
            with pytest.raises(BeakerException, match=r"await session\.load\(\)") as caught:
                touch(session)
            assert caught.value.code == "session.not-loaded"
        assert await session.load() is session
        put(session)
        session.save()
        seen.append(session["a"])
        await send(START)
        await send(BODY)

    for options in ({"type": "file", "data_dir": str(tmp_path)}, {"type": "memory"}, {"type": "cookie"}):
        app = middleware(script, load="lazy", **options)
        cookie = cookie_of(run(talk(app)))
        run(talk(app, cookie=cookie))
    assert seen == [1, 2] * 3


def test_a_lazy_session_left_alone_reads_nothing(tmp_path: Path) -> None:
    """With lazy, a request whose application does not load the session costs no store operation."""
    app = middleware(answering(), load="lazy", type="file", data_dir=str(tmp_path))
    store = interrupt(app.context)
    run(talk(app, cookie=f"{COOKIE}=x"))
    assert store.number == 0


def test_a_store_that_is_down_fails_only_who_touches(tmp_path: Path) -> None:
    """An error of eager loading is raised at each touch; pages that touch nothing are served."""
    raised: list[Any] = []

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                session.get("a")
        store.quiet()
        await session.load()
        raised.append(session["a"])
        await send(START)
        await send(BODY)

    app = middleware(answering(put), type="file", data_dir=str(tmp_path))
    cookie = cookie_of(run(talk(app)))
    store = interrupt(app.context)
    store.lose(0, done=False, repeat=True)
    app.app = middleware(answering()).app
    assert run(talk(app, cookie=cookie)) == [START, BODY]
    app.app = middleware(script).app
    store.lose(0, done=False, repeat=True)
    run(talk(app, cookie=cookie))
    assert raised == [1]


def test_cookies_in_several_headers() -> None:
    """HTTP/2 may split the Cookie header; a session's cookie is found in each part."""
    seen: list[Any] = []
    app = middleware(answering(put))
    cookie = cookie_of(run(talk(app)))
    app.app = middleware(reading(seen)).app
    headers = [(b"cookie", b"x=1"), (b"cookie", cookie.encode()), (b"cookie", b"y=\xe9")]
    run(talk(app, http_scope(headers=headers)))
    assert seen == [1]


@pytest.mark.parametrize(("scheme", "secure"), [("https", True), ("http", False)])
def test_secure_follows_the_scheme(scheme: str, secure: bool) -> None:
    """Over https the cookie is Secure."""
    sent = run(talk(middleware(answering(put)), http_scope(scheme=scheme)))
    (line,) = [value for name, value in sent[0]["headers"] if name == b"set-cookie"]
    assert (b"Secure" in line) is secure


@pytest.mark.parametrize("kind", ["memory", "cookie", "file"])
def test_blocking_methods_are_refused_in_the_loop(kind: str, tmp_path: Path) -> None:
    """Whatever the type, a method that may block names its asynchronous form; in a thread it works."""
    refused: list[str] = []

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        for name in (*(name for name in BLOCKING if name != "load"), "commit", "finish", "release"):
            with pytest.raises(BeakerException, match=rf"await session\.a{name}\(\)") as caught:
                getattr(session, name)(*(["x"] if name in ("login", "get_by_id", "monotonic") else []))
            refused.append(caught.value.code)
            assert asyncio.iscoroutinefunction(getattr(session, f"a{name}"))
        await asyncio.to_thread(session.login, "ann")
        await asyncio.to_thread(session.persist)
        assert session.user == "ann"
        await send(START)
        await send(BODY)

    app = middleware(script, type=kind, data_dir=str(tmp_path))
    assert cookie_of(run(talk(app)))
    assert set(refused) == {"session.blocking-call"}

    async def admin() -> None:
        app.revoke(user="ann")

    with pytest.raises(BeakerException, match=r"await arevoke\(\)"):
        run(admin())


def test_revoked_by_await(tmp_path: Path) -> None:
    """arevoke() ends the sessions of a user; so does revoke() where no loop runs."""
    for revoke in (lambda app: run(app.arevoke(user="ann")), lambda app: app.revoke(user="ann")):
        for options in ({"type": "file", "data_dir": str(tmp_path)}, {"type": "memory"}):
            seen: list[Any] = []

            async def login(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
                await session.alogin("ann")
                await send(START)
                await send(BODY)

            async def ask(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
                seen.append(session.user)  # noqa: B023
                await send(START)
                await send(BODY)

            app = middleware(login, revocation_check_interval=0, **options)
            cookie = cookie_of(run(talk(app)))
            app.app = middleware(ask).app
            run(talk(app, cookie=cookie))
            revoke(app)
            run(talk(app, cookie=cookie))
            assert seen == ["ann", None]


def test_found_by_id(tmp_path: Path) -> None:
    """aget_by_id() finds a live session, which can be changed, saved and ended; anything else is None."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        put(session)
        session.save()
        await session.apersist()
        other = await session.aget_by_id(session.id)
        assert other is not None
        other["b"] = 2
        other.save()
        await other.apersist()
        again = await session.aget_by_id(session.id)
        assert again is not None
        assert (again["a"], again["b"]) == (1, 2)
        await again.adelete()
        assert await session.aget_by_id(session.id) is None
        assert await session.aget_by_id("x") is None
        await send(START)
        await send(BODY)

    for options in ({"type": "file", "data_dir": str(tmp_path)}, {"type": "memory"}):
        run(talk(middleware(script, **options)))
