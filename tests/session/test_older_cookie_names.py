"""What programs in public code do with a session's cookie by Beaker's own private names: Kallithea, RhodeCode, Allura,
Tracim, CKAN."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any

import pytest

from beaker.exceptions import ConfigError
from beaker.middleware import SessionMiddleware
from beaker.session import CookieSession, Session, SessionObject
from beaker.testing import Browser, FakeClock
from beaker.testing.session_harness import SessionHarness, Tab
from tests.session.places import LOCAL

KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
put = SessionHarness.put
Open = Callable[..., Tab]


@pytest.mark.parametrize("place", LOCAL)
def test_a_login_that_is_remembered(open_tab: Open, clock: FakeClock, place: str) -> None:
    """As Kallithea and RhodeCode do it: a date for the cookie, saved, dumped, and looked at."""

    def login(session: Any) -> Any:
        session["user"] = "ann"
        ends = session._set_cookie_expires(dt.datetime.fromtimestamp(clock(), dt.timezone.utc) + year)
        session.save()
        session._update_cookie_out()
        return ends, session.request["set_cookie"], session.request["cookie_out"]

    year = dt.timedelta(days=365)
    tab = open_tab(place)
    ends, _, _ = tab.do(login)
    assert isinstance(ends, dt.datetime)
    (line,) = tab.last.set_cookies
    assert "; Max-Age=31536000;" in line
    assert tab.do(lambda s: s["user"]) == "ann"


@pytest.mark.parametrize("place", LOCAL)
def test_a_cookie_that_is_sent_again(open_tab: Open, place: str) -> None:
    """As Tracim does it: _update_cookie_out() sends what the browser has already, in the response that says so."""
    tab = open_tab(place)
    tab.do(put(a=1))

    def again(session: Any) -> Any:
        session._update_cookie_out()
        return session.request

    request = tab.do(again)
    (line,) = tab.last.set_cookies
    assert tab.do(lambda s: s["a"]) == 1
    assert tab.last.set_cookies == []
    assert request["set_cookie"] is True
    assert request["cookie_out"].partition("=")[0] == line.partition("=")[0]
    tab.do(lambda s: s._update_cookie_out(set_cookie=False))
    assert tab.last.set_cookies == []


@pytest.mark.parametrize("ended", ["deleted", "never saved"])
def test_nothing_to_send_again(open_tab: Open, ended: str) -> None:
    """A session that has ended, or was not saved, gets no cookie."""
    tab = open_tab("memory")

    def handler(session: Any) -> Any:
        if ended == "deleted":
            session.delete()
        session._update_cookie_out()
        return session.request["cookie_out"], len(session.cookie)

    assert tab.do(handler) == (None, 0)
    assert tab.last.set_cookies == []


def test_the_header_that_a_program_replaces() -> None:
    """As Allura does it: a start_response around the middleware takes session.cookie, when the headers are out."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        session["user"] = "ann"
        session.save()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    def remembering(environ: Any, start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            session = environ["beaker.session"]
            session._set_cookie_expires(dt.timedelta(hours=1))
            line = session.cookie[session.key].output(header="")
            kept = [(name, value) for name, value in headers if name != "Set-Cookie"]
            return start_response(status, [*kept, ("Set-Cookie", line.strip())], exc_info)

        return wrapped(environ, start)

    wrapped = SessionMiddleware(app, {"session.type": "memory"})
    answer = Browser(remembering).get("/")
    assert "Max-Age=3600" in dict(answer.headers)["Set-Cookie"]


def test_the_request_of_a_session_of_its_own() -> None:
    """It is the dict that was given, which says after a save what to send."""
    given: dict[str, Any] = {}
    session = Session(given, type="memory")
    session["a"] = 1
    session.save()
    assert session.request is given
    assert session.request["set_cookie"] is True
    assert session.request["cookie_out"].startswith("beaker.session.id=")
    session._set_domain(None)
    session._set_path(None)
    session._set_domain("shop.example")
    session._set_path("/x")
    session._set_cookie_values()
    session._update_cookie_out()
    assert "; Path=/x; Domain=shop.example;" in session.request["cookie_out"]


@pytest.mark.parametrize("kind", ["jar", "values", "both"])
def test_a_cookie_that_is_no_text(kind: str) -> None:
    """CKAN's tests hand on session.cookie, others a dict of names and values."""
    session = CookieSession({}, validate_key=KEY)
    session["a"] = "ü"
    session.save()
    jar = session.cookie
    given: Any = {
        "jar": jar,
        "values": {"other": 5, "beaker.session.id": jar["beaker.session.id"].coded_value},
        "both": SimpleCookie({"other": "x; y", **{name: morsel.coded_value for name, morsel in jar.items()}}),
    }[kind]
    assert CookieSession({"cookie": given}, validate_key=KEY)["a"] == "ü"
    assert SessionObject({"cookie": given}, type="cookie", validate_key=KEY)["a"] == "ü"
    assert Session({"cookie": {"beaker.session.id": 123}}, type="memory").is_new


@pytest.mark.parametrize("cookie", [b"beaker.session.id=x", 5, ["beaker.session.id=x"]])
def test_a_cookie_that_is_none(cookie: Any) -> None:
    """Anything else is a mistake of the program."""
    with pytest.raises(ConfigError, match="cookie"):
        Session({"cookie": cookie}, type="memory")
