"""What applications written for Starlette's SessionMiddleware rely on, behind that one and ours with ``auto``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware as Theirs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from beaker.asgi import SessionMiddleware as Ours
from beaker.testing import FakeClock
from beaker.testing.session_harness import SECRET
from tests.asgi.scripts import talk
from tests.asgi.tabs import http_scope

KINDS = ("cookie", "memory", "file")
App = Callable[..., Any]


def theirs(app: App, **attributes: Any) -> App:
    return Theirs(app, secret_key=SECRET, **attributes)


def ours(kind: str, at: Path) -> Callable[..., App]:
    names = {"session_cookie": "key", "https_only": "secure", "path": "cookie_path", "domain": "cookie_domain"}

    def wrap(app: App, **attributes: Any) -> App:
        given = {names.get(name, name): value for name, value in attributes.items()}
        if "max_age" in given:
            age = given.pop("max_age")
            given["cookie_expires"] = True if age is None else age
        if "same_site" in given:
            given["samesite"] = given.pop("same_site").title()
        return Ours(app, type=kind, secret=SECRET, data_dir=str(at), auto=True, **given)

    return wrap


@pytest.fixture(params=["Starlette", *KINDS])
def wrap(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., App]:
    """Puts one of the middlewares around an application, under Starlette's names of options."""
    return theirs if request.param == "Starlette" else ours(request.param, tmp_path)


def values(session: Any) -> dict[str, Any]:
    """What the application has put there: ours has two stamps beside it, as Beaker's."""
    return {name: value for name, value in session.items() if name not in ("_creation_time", "_accessed_time")}


async def view(request: Request) -> Response:
    return JSONResponse(values(request.session))


async def update(request: Request) -> Response:
    request.session.update(await request.json())
    return JSONResponse(values(request.session))


async def clear(request: Request) -> Response:
    request.session.clear()
    return JSONResponse(values(request.session))


async def untouched(request: Request) -> Response:
    return JSONResponse({})


PAGES: list[Route | Mount] = [
    Route("/view", view),
    Route("/update", update, methods=["POST"]),
    Route("/clear", clear, methods=["POST"]),
    Route("/untouched", untouched),
]


class Visitor:
    """Keeps cookies as a browser does, and what the last response said."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.cookies: dict[str, str] = {}
        self.set: SimpleCookie = SimpleCookie()
        self.headers: dict[bytes, bytes] = {}

    def ask(self, path: str, data: bytes | None = None, *, scheme: str = "http") -> Any:
        scope = http_scope(path, method="GET" if data is None else "POST", scheme=scheme)
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        body = {"type": "http.request", "body": data or b"", "more_body": False}
        sent = asyncio.run(talk(self.app, scope, [body], cookie=cookies))
        self.headers = dict(sent[0]["headers"])
        self.set = SimpleCookie(self.headers.get(b"set-cookie", b"").decode())
        for name, morsel in self.set.items():
            if morsel["max-age"] == "0" or "1970" in morsel["expires"]:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value
        return sent[1]["body"].decode()


def site(wrap: Callable[..., App], **attributes: Any) -> Visitor:
    return Visitor(wrap(Starlette(routes=PAGES), **attributes))


def test_values_last_until_they_are_cleared(wrap: Callable[..., App]) -> None:
    """Empty at first, kept from request to request, and empty again after clear()."""
    visitor = site(wrap)
    assert visitor.ask("/view") == "{}"
    assert visitor.ask("/update", b'{"some":"data"}') == '{"some":"data"}'
    assert visitor.ask("/view") == '{"some":"data"}'
    assert visitor.ask("/update", b'{"more":1}') == '{"some":"data","more":1}'
    assert visitor.ask("/clear", b"") == "{}"
    assert visitor.ask("/view") == "{}"


def test_reading_sends_no_cookie_and_says_that_it_varies(wrap: Callable[..., App]) -> None:
    """Only a change sends a cookie; a page that looked at the session of a visitor varies by cookie, others do not."""
    visitor = site(wrap)
    visitor.ask("/untouched")
    assert b"vary" not in visitor.headers
    visitor.ask("/view")
    assert b"set-cookie" not in visitor.headers
    visitor.ask("/update", b'{"some":"data"}')
    assert len(visitor.set) == 1
    assert visitor.headers[b"vary"] == b"Cookie"
    visitor.ask("/view")
    assert b"set-cookie" not in visitor.headers
    assert visitor.headers[b"vary"] == b"Cookie"


def test_clearing_what_was_empty_sends_nothing(wrap: Callable[..., App]) -> None:
    """A visitor without a session gets none by clear()."""
    visitor = site(wrap)
    visitor.ask("/clear", b"")
    assert visitor.cookies == {}


def test_a_cookie_that_is_not_ours_is_an_empty_session(wrap: Callable[..., App]) -> None:
    """What was tampered with, or is somebody's text, opens nothing and raises nothing."""
    visitor = site(wrap, session_cookie="session")
    visitor.ask("/update", b'{"some":"data"}')
    (value,) = visitor.cookies.values()
    for cookie in ("invalid", value[:-2], value + "x", '"' + value, value.swapcase()):
        visitor.cookies = {"session": cookie}
        assert visitor.ask("/view") == "{}"


def test_attributes_of_the_cookie(wrap: Callable[..., App]) -> None:
    """HttpOnly and SameSite=Lax always; Secure, Domain, Max-Age as configured, the last not for a browser's session."""
    visitor = site(wrap, session_cookie="named", https_only=True, domain=".example.com", max_age=3600)
    visitor.ask("/update", b'{"some":"data"}', scheme="https")
    morsel = visitor.set["named"]
    assert morsel["httponly"]
    assert morsel["secure"]
    assert morsel["samesite"].lower() == "lax"
    assert morsel["domain"].lstrip(".") == "example.com"
    assert morsel["max-age"] == "3600"
    visitor = site(wrap, max_age=None, same_site="strict")
    visitor.ask("/update", b'{"some":"data"}')
    (morsel,) = visitor.set.values()
    assert (morsel["max-age"], morsel["expires"], morsel["secure"]) == ("", "", "")
    assert morsel["samesite"].lower() == "strict"


def test_a_cookie_for_a_mounted_application(wrap: Callable[..., App]) -> None:
    """The cookie of an application below another one is for its own path."""
    below = wrap(Starlette(routes=PAGES), path="/second")
    visitor = Visitor(Starlette(routes=[Mount("/second", app=below)]))
    assert visitor.ask("/second/update", b'{"some":"data"}') == '{"some":"data"}'
    (morsel,) = visitor.set.values()
    assert morsel["path"] == "/second"
    assert visitor.ask("/second/view") == '{"some":"data"}'


@pytest.mark.parametrize("change", ["setdefault", "pop", "popitem", "update", "__ior__", "__delitem__"])
def test_every_way_to_change_is_a_change(wrap: Callable[..., App], change: str) -> None:
    """Each changing method of a dict is saved."""
    arguments: dict[str, list[Any]] = {
        "setdefault": ["b", 2], "pop": ["a"], "popitem": [], "update": [{"b": 2}], "__ior__": [{"b": 2}],
        "__delitem__": ["a"],
    }  # fmt: skip

    async def touch(request: Request) -> Response:
        changed = getattr(request.session, change)(*arguments[change])
        if change == "__ior__":
            assert changed is request.session
        return JSONResponse(values(request.session))

    visitor = Visitor(wrap(Starlette(routes=[*PAGES, Route("/touch", touch)])))
    visitor.ask("/update", b'{"a":1}')
    after = visitor.ask("/touch")
    assert after == ("{}" if change in ("pop", "popitem", "__delitem__") else '{"a":1,"b":2}')
    assert visitor.ask("/view") == after


@pytest.mark.parametrize("kind", KINDS)
def test_it_expires(kind: str, tmp_path: Path) -> None:
    """After ``timeout`` seconds the cookie opens an empty session, as theirs does after ``max_age``."""
    clock = FakeClock()
    app = Ours(
        Starlette(routes=PAGES), type=kind, secret=SECRET, data_dir=str(tmp_path), auto=True, timeout=60, clock=clock
    )
    visitor = Visitor(app)
    visitor.ask("/update", b'{"some":"data"}')
    clock.advance(59)
    assert visitor.ask("/view") == '{"some":"data"}'
    clock.advance(61)
    assert visitor.ask("/view") == "{}"
