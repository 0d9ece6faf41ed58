"""The ASGI middleware over the course of a request: when it loads, what it saves, what it sends, what it lets pass."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from beaker._typing import Message, Receive, Scope, Send
from beaker.asgi import AsyncSessionObject, SessionMiddleware
from beaker.cache import CacheManager
from beaker.exceptions import BeakerException, BeakerWarning, ConfigError, StoreUnavailable
from beaker.middleware import SessionMiddleware as WsgiMiddleware
from beaker.testing.browser import Browser
from beaker.testing.session_harness import COOKIE, SECRET, Handler
from tests.asgi.scripts import BODY, START, Script, cookie_of, middleware, talk, websocket_scope
from tests.asgi.tabs import BLOCKING, AsgiTab, http_scope, run
from tests.session.faults import interrupt
from tests.session.places import LOCAL, opened, options_of


def answering(change: Any = None) -> Script:
    """A script that changes the session, saves it, and answers."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        if change is not None:
            change(session)
            session.save()
        await send(START)
        await send(BODY)

    return script


def put(session: AsyncSessionObject) -> None:
    session["a"] = session.get("a", 0) + 1


def reading(seen: list[Any]) -> Script:
    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        seen.append(session.get("a"))
        await send(START)
        await send(BODY)

    return script


def value_in(app: SessionMiddleware, cookie: str) -> Any:
    """What the session of a cookie holds at ``a`` in the next request."""
    handlers: list[Handler] = []
    tab = AsgiTab(AsgiTab.build(handlers, options=app.options), handlers)
    tab.middleware.context = app.context
    tab.middleware._opener = app._opener
    return tab.do_with_header(cookie, lambda session: session.get("a"))


# -- one session under both -----------------------------------------------------------------------


@pytest.mark.parametrize("place", LOCAL)
@pytest.mark.parametrize("first", ["wsgi", "asgi"])
def test_a_cookie_of_one_is_read_by_the_other(place: str, first: str, tmp_path: Path) -> None:
    """Both middlewares over one place share sessions: the values, a change by the other, and a logout."""
    one = opened(place, tmp_path, driver=first)
    other = opened(place, tmp_path, driver="asgi" if first == "wsgi" else "wsgi")
    if place == "memory":
        # Each keeps its own memory unless it is told to share.
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


# -- loading --------------------------------------------------------------------------------------


def test_untouched_costs_nothing() -> None:
    """A session nobody touches adds no header, and the message goes out as it came."""
    sent = run(talk(middleware(answering())))
    assert sent == [START, BODY]
    assert sent[0] is START


def test_eager_loads_before_the_application_and_touches_nothing(tmp_path: Path) -> None:
    """The record is read before the application runs; if that leaves it alone, no header is added and nothing saved."""
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
    """With lazy a request whose application does not load costs no store operation."""
    app = middleware(answering(), load="lazy", type="file", data_dir=str(tmp_path))
    store = interrupt(app.context)
    run(talk(app, cookie=f"{COOKIE}=x"))
    assert store.number == 0


def test_a_store_that_is_down_fails_only_who_touches(tmp_path: Path) -> None:
    """What eager loading raises is raised at the touch, each time; untouched pages are served."""
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


# -- blocking methods -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "cookie", "file"])
def test_blocking_methods_are_refused_in_the_loop(kind: str, tmp_path: Path) -> None:
    """Whatever the type, a method that may block names its asynchronous form; in a thread it works."""
    refused: list[str] = []

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        for name in (*BLOCKING, "commit", "finish"):
            with pytest.raises(BeakerException, match=rf"await session\.a{name}\(\)") as caught:
                getattr(session, name)(*(["x"] if name in ("login", "get_by_id") else []))
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


# -- saving ---------------------------------------------------------------------------------------


def test_headers_are_completed_not_replaced() -> None:
    """Vary and Cache-Control of the application are completed; the others stay as they are, in their order."""
    start = {
        **START,
        "headers": [(b"vary", b"Accept"), (b"set-cookie", b"x=\xe9"), (b"cache-control", b"public, max-age=5")],
    }

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        put(session)
        session.save()
        await send(start)
        await send(BODY)

    headers = run(talk(middleware(script)))[0]["headers"]
    assert headers[0] == (b"set-cookie", b"x=\xe9")
    assert (b"vary", b"Accept, Cookie") in headers
    assert (b"cache-control", b"max-age=5, private, no-store") in headers
    assert len(headers) == 4
    assert len(start["headers"]) == 3, "the application's own message stays as it was"


def test_a_streamed_body_saves_late_changes(tmp_path: Path) -> None:
    """What changes after the start is saved when the application returns; a cookie that would need warns."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        put(session)
        session.save()
        await send(START)
        await send({**BODY, "more_body": True})
        put(session)
        session.save()
        await send(BODY)

    app = middleware(script, type="file", data_dir=str(tmp_path), cookie_expires=3600)
    cookie = cookie_of(run(talk(app)))
    assert value_in(app, cookie) == 2
    with pytest.warns(BeakerWarning, match="after the headers"):
        run(talk(middleware(script, type="cookie")))


def test_a_late_first_touch_warns() -> None:
    """First touched after the start, a session can send neither Vary nor a cookie, and says so."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY)
        put(session)
        session.save()

    with pytest.warns(BeakerWarning, match="after the headers"):
        assert run(talk(middleware(script))) == [START, BODY]


@pytest.mark.parametrize("begun", [False, True])
def test_an_application_that_raises_saves_nothing(begun: bool) -> None:
    """Before the start nothing is saved; after it nothing that came later."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        put(session)
        session.save()
        if begun:
            await send(START)
        put(session)
        session.save()
        raise ValueError("the application fails")

    app = middleware(answering(put))
    cookie = cookie_of(run(talk(app)))
    app.app = middleware(script).app
    with pytest.raises(ValueError, match="fails"):
        run(talk(app, cookie=cookie))
    assert value_in(app, cookie) == (2 if begun else 1)


@pytest.mark.parametrize(("begun", "saves"), [(False, 1), (True, 3)])
def test_a_cancelled_request_saves_what_was_asked_for_in_its_response(begun: bool, saves: int, tmp_path: Path) -> None:
    """Cancelled before its start a request saves nothing; after it what save() was called for."""

    app = middleware(answering(put), type="file", data_dir=str(tmp_path))
    cookie = cookie_of(run(talk(app)))

    async def cancelled() -> None:
        waiting = asyncio.Event()

        async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
            put(session)
            session.save()
            if begun:
                await send(START)
            put(session)
            session.save()
            waiting.set()
            await asyncio.Event().wait()

        app.app = middleware(script).app
        task = asyncio.create_task(talk(app, cookie=cookie))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancelled())
    assert value_in(app, cookie) == saves


def test_a_client_that_has_gone_loses_nothing_that_was_asked_for(tmp_path: Path) -> None:
    """A server may raise OSError when the client is gone; what the stream saved before stays, as under WSGI."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await send(START)
        put(session)
        session.save()
        await send({"type": "http.response.body", "body": b"gone"})

    app = middleware(answering(put), type="file", data_dir=str(tmp_path))
    cookie = cookie_of(run(talk(app)))

    async def touched(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        session.get("a")
        await script(session, receive, send)

    app.app = middleware(touched).app

    async def gone(message: Message) -> None:
        if message.get("body") == b"gone":
            raise OSError("the client has gone")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(OSError, match="gone"):
        run(app(http_scope(headers=[(b"cookie", cookie.encode())]), receive, gone))
    assert value_in(app, cookie) == 2


def test_a_failed_save_is_no_success(tmp_path: Path) -> None:
    """A start whose session cannot be saved raises and is not sent; an error page of the application's own may follow."""
    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        put(session)
        session.save()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await send(START)
            session.save()
        await send({**START, "status": 503})
        await send(BODY)

    app = middleware(script, type="file", data_dir=str(tmp_path))
    interrupt(app.context).lose(0, done=False, repeat=True)
    sent = run(talk(app))
    assert [message.get("status") for message in sent] == [503, None]
    assert not cookie_of(sent)


def test_what_is_no_response_passes() -> None:
    """Early hints before the start, and trailers after the body, go out untouched, and lifespan has no session."""
    hint = {"type": "http.response.early_hint", "links": [b"</x.css>; rel=preload"]}
    trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": False}
    scopes: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(dict(scope))
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.complete"})
            return
        await send(hint)
        scope["session"]["a"] = 1
        scope["session"].save()
        await send({**START, "trailers": True})
        await send(BODY)
        await send(trailers)

    whole = SessionMiddleware(app, type="memory", secret=SECRET)
    sent = run(talk(whole))
    assert (sent[0], sent[2:]) == (hint, [BODY, trailers])
    assert cookie_of(sent)
    assert run(talk(whole, {"type": "lifespan", "headers": []}, [{"type": "lifespan.startup"}]))
    assert "session" not in scopes[1]


# -- websockets -----------------------------------------------------------------------------------


def accepting(before: Any = None, after: Any = None) -> Script:
    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await receive()
        if before is not None:
            await before(session)
        await send({"type": "websocket.accept", "headers": [(b"x-own", b"1")]})
        if after is not None:
            await after(session)
        await send({"type": "websocket.close"})

    return script


async def saved(session: AsyncSessionObject) -> None:
    put(session)
    session.save()


async def persisted(session: AsyncSessionObject) -> None:
    put(session)
    session.save()
    await session.apersist()


def test_the_handshake_takes_the_cookie_along() -> None:
    """A session saved before the websocket is accepted is saved with the handshake, which sends its cookie."""
    app = middleware(accepting(before=saved))
    sent = run(talk(app, websocket_scope(), [{"type": "websocket.connect"}]))
    assert [name for name, _ in sent[0]["headers"]] == [b"x-own", b"set-cookie"]
    assert value_in(app, cookie_of(sent)) == 1


@pytest.mark.parametrize("change", [saved, persisted])
def test_a_session_saved_in_a_websocket_stays_saved(change: Any, tmp_path: Path) -> None:
    """A stored session changed after the handshake is saved by apersist() or at the end, without a warning."""
    app = middleware(answering(put), type="file", data_dir=str(tmp_path), cookie_expires=3600)
    cookie = cookie_of(run(talk(app)))
    app.app = middleware(accepting(after=change)).app
    run(talk(app, websocket_scope(cookie), [{"type": "websocket.connect"}]))
    assert value_in(app, cookie) == 2


def test_a_cookie_that_a_websocket_cannot_send_warns() -> None:
    """A new session after the handshake, or data kept in the cookie, is lost and says so."""
    for kind in ("memory", "cookie"):
        for change in (saved, persisted):
            app = middleware(accepting(after=change), type=kind)
            with pytest.warns(BeakerWarning, match="after the headers"):
                run(talk(app, websocket_scope(), [{"type": "websocket.connect"}]))


def test_a_refused_handshake() -> None:
    """Closed at once the session is saved and a lost cookie warned of; a denial response carries the cookie."""

    async def close(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await saved(session)
        await send({"type": "websocket.close", "code": 1008})

    async def deny(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await saved(session)
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    app = middleware(deny)
    sent = run(talk(app, websocket_scope(), [{"type": "websocket.connect"}]))
    cookie = cookie_of(sent)
    assert {name for name, _ in sent[0]["headers"]} == {b"vary", b"set-cookie", b"cache-control"}
    app.app = middleware(close).app
    run(talk(app, websocket_scope(cookie), [{"type": "websocket.connect"}]))
    assert value_in(app, cookie) == 2
    with pytest.warns(BeakerWarning, match="headers are not sent"):
        run(talk(middleware(close), websocket_scope(), [{"type": "websocket.connect"}]))


def test_a_websocket_whose_client_leaves_keeps_what_was_saved(tmp_path: Path) -> None:
    """Frameworks raise when the client closes; save() before that counts."""

    async def script(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await saved(session)
        assert (await receive())["type"] == "websocket.disconnect"
        raise RuntimeError("WebSocketDisconnect")

    app = middleware(answering(put), type="file", data_dir=str(tmp_path))
    cookie = cookie_of(run(talk(app)))
    app.app = middleware(script).app
    with pytest.raises(RuntimeError, match="Disconnect"):
        run(talk(app, websocket_scope(cookie), [{"type": "websocket.connect"}]))
    assert value_in(app, cookie) == 2


# -- what is passed in ----------------------------------------------------------------------------


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return []


class Wsgi:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


async def two(scope: Any, receive: Any) -> None: ...


async def right(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize("wrong", [None, "x", wsgi, Wsgi(), two, lambda: None, lambda scope: right, CacheManager()])
def test_what_is_no_asgi_application(wrong: Any) -> None:
    """It is refused at construction; for a WSGI application the middleware it belongs to is named."""
    with pytest.raises(ConfigError, match="scope, receive, send") as caught:
        SessionMiddleware(wrong, type="memory")
    assert caught.value.option == "app"
    assert not callable(wrong) or "beaker.middleware.SessionMiddleware" in str(caught.value)


def test_the_reverse_names_this_middleware() -> None:
    """An ASGI application given to the WSGI middleware."""
    with pytest.raises(ConfigError, match=r"beaker\.asgi\.SessionMiddleware"):
        WsgiMiddleware(right, type="memory")  # type: ignore[arg-type]
    Browser(WsgiMiddleware(wsgi, type="memory"))


def test_options_are_those_of_wsgi(tmp_path: Path) -> None:
    """Mistakes in options are found at construction, and `load` takes two words."""
    with pytest.raises(ConfigError, match="'eager' or 'lazy'"):
        SessionMiddleware(right, load="early")
    with pytest.raises(ConfigError, match="options are complete"):
        SessionMiddleware(right, options=SessionMiddleware(right, type="memory").options, secret=SECRET)
    with pytest.raises(ConfigError):
        SessionMiddleware(right, type="ext:redsi")
    assert SessionMiddleware(right, {"beaker.session.type": "file", "beaker.session.data_dir": str(tmp_path)})
    assert SECRET not in repr(SessionMiddleware(right, **options_of("file", tmp_path)))
