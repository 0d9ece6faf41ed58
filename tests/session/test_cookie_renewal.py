"""A cookie with a lifetime of its own does not end while its session is in use."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

import flask
import pytest

from beaker.session.cookies import MAX_AGE
from beaker.session.proxy import SessionObject
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import SECRET, SessionHarness, Tab
from gae.functions import with_session
from tests.session.faults import interrupt
from tests.session.places import LOCAL, MERGING

put = SessionHarness.put
Open = Callable[..., Tab]
_SETS = re.compile(r"([^=]+)=([^;]*);.*?(?:Max-Age=(\d+)|$)")


class Jar:
    """What a browser keeps of the cookies that ``tab`` got, and for how long."""

    def __init__(self, tab: Tab, clock: FakeClock) -> None:
        self.tab = tab
        self.clock = clock
        self.until: dict[str, float] = {}
        self.renewed = 0

    def do(self, handler: Callable[[SessionObject], Any]) -> Any:
        """One request, with the cookies that have not expired by now."""
        for name in [name for name, until in self.until.items() if until <= self.clock()]:
            self.tab.cookies.pop(name, None)
        found = self.tab.do(handler)
        for line in self.tab.last.set_cookies:
            match = _SETS.match(line)
            assert match is not None, line
            self.until[match[1]] = self.clock() + float(match[3] or "inf")
        self.renewed += bool(self.tab.last.set_cookies)
        return found


LIVES = [300, "60", 10, dt.timedelta(hours=1), dt.timedelta(days=30), False]


def seconds(given: Any) -> float:
    if given is False:
        return MAX_AGE
    return given.total_seconds() if isinstance(given, dt.timedelta) else float(given)


MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "no access times": {"save_accessed_time": False},
    "rare writes": {"touch_interval": 10**8},
    "timeout": {"timeout": MAX_AGE},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("life", LIVES, ids=str)
@pytest.mark.parametrize("place", [*LOCAL, "keyless"])
def test_an_active_visitor_stays(open_tab: Open, clock: FakeClock, place: str, life: Any, mode: str) -> None:
    """A session that is read often enough outlives many lives of its cookie, which is renewed well before its end."""
    keyless = {"secret": None} if place == "keyless" else {}
    tab = open_tab("file" if keyless else place, cookie_expires=life, absolute_timeout=10**9, **keyless, **MODES[mode])
    jar = Jar(tab, clock)
    jar.do(put(a=1))
    jar.renewed = 0
    step = seconds(life) / 5
    for _ in range(25):
        clock.advance(step)
        assert jar.do(lambda s: s.get("a")) == 1
        assert min(jar.until.values()) - clock() > 0.7 * seconds(life), "not well before its end"
    assert jar.renewed >= 5


@pytest.mark.parametrize("place", LOCAL)
def test_a_cookie_is_not_renewed_at_each_request(open_tab: Open, clock: FakeClock, place: str) -> None:
    """A cookie is renewed at most once in a tenth of its life: 200 requests over one life renew it ten times."""
    jar = Jar(open_tab(place, cookie_expires=3600, touch_interval=10**6), clock)
    jar.do(put(a=1))
    jar.renewed = 0
    for _ in range(200):
        clock.advance(18)
        jar.do(lambda s: s["a"])
    assert jar.renewed == 10


@pytest.mark.parametrize("place", MERGING)
def test_saves_elsewhere_do_not_stand_for_the_cookie(open_tab: Open, clock: FakeClock, place: str) -> None:
    """A job that saves the session every few seconds, and drops the cookies it gets, does not delay the renewal."""
    tab = open_tab(place, cookie_expires=300)
    jar = Jar(tab, clock)
    jar.do(put(a=1, big="x" * 300))
    job = tab.copy()
    for n in range(100):
        clock.advance(10)
        job.do(put(n=n))
        if n % 6 == 0:
            assert jar.do(lambda s: s.get("a")) == 1


@pytest.mark.parametrize("place", ["memory", "file", "hybrid in store"])
def test_a_renewal_writes_nothing(open_tab: Open, clock: FakeClock, place: str) -> None:
    """Without access times the cookie is renewed and the store is only read."""
    tab = open_tab(place, cookie_expires=300, save_accessed_time=False)
    tab.do(put(a=1, big="x" * 300))
    store = interrupt(tab.middleware.context)
    calls: list[str] = []
    store.before = lambda name, _: calls.append(name)
    clock.advance(100)
    tab.do(lambda s: s["a"])
    assert tab.last.set_cookies
    assert set(calls) <= {"read", "get", "get_many"}


@pytest.mark.parametrize("place", ["file", "revocable cookie", "hybrid in cookie", "hybrid in store"])
def test_a_service_that_only_reads_renews_too(open_tab: Open, clock: FakeClock, place: str) -> None:
    """readonly keeps the session from being written, but its cookie is still renewed."""
    writer = open_tab(place, cookie_expires=300)
    writer.do(put(a=1))
    reader = open_tab(place, cookie_expires=300, readonly=True)
    reader.cookies = writer.cookies
    jar = Jar(reader, clock)
    for _ in range(20):
        clock.advance(60)
        assert jar.do(lambda s: s.get("a")) == 1
        assert min(jar.until.values()) - clock() > 200


@pytest.mark.parametrize("place", LOCAL)
def test_a_session_ended_meanwhile_gets_no_cookie(open_tab: Open, clock: FakeClock, place: str) -> None:
    """A renewal never brings back the cookie of a session that another tab has ended or moved to another id."""
    for ending in (lambda s: s.delete(), lambda s: s.login("ann")):
        tab = open_tab(place, cookie_expires=300, save_accessed_time=False)
        tab.do(put(a=1))
        clock.advance(100)
        other = tab.copy()

        def late(session: SessionObject, other: Tab = other, ending: Any = ending) -> None:
            session.get("a")
            other.do(ending)

        tab.do(late)
        assert not tab.last.set_cookies


@pytest.mark.parametrize("end", [True, dt.datetime(2033, 1, 1)])
@pytest.mark.parametrize("place", LOCAL)
def test_what_has_no_end_of_its_own_is_not_renewed(open_tab: Open, clock: FakeClock, place: str, end: Any) -> None:
    """A cookie that ends with the browser, or at a fixed date, is sent once."""
    tab = open_tab(place, cookie_expires=end, touch_interval=10**8)
    tab.do(put(a=1))
    for _ in range(5):
        clock.advance(1000)
        tab.do(lambda s: s["a"])
        assert not tab.last.set_cookies


def test_an_older_cookie_is_renewed_at_once(open_tab: Open, clock: FakeClock) -> None:
    """A cookie from before cookies were renewed has no date: it is replaced at once by one that has."""
    before = open_tab("file")
    before.do(put(a=1))
    after = open_tab("file", cookie_expires=300)
    after.cookies = before.cookies
    assert after.do(lambda s: s["a"]) == 1
    assert after.last.set_cookies
    after.do(lambda s: s["a"])
    assert not after.last.set_cookies


def test_in_functions(clock: FakeClock) -> None:
    """with_session renews it too."""

    @with_session(type="memory", secret=SECRET, cookie_expires=300, clock=clock)
    def function(request: Any) -> str:
        session = request.environ["beaker.session"]
        if not session.get("a"):
            session["a"] = 1
            session.save()
            return "new"
        return "known"

    app = flask.Flask("function")
    app.add_url_rule("/", "run", lambda: function(flask.request))
    client, cookie, until, answers = app.test_client(use_cookies=False), "", 0.0, []
    for _ in range(20):
        sent = {"Cookie": cookie} if clock() < until else {}
        answer = client.get("/", headers=sent)
        answers.append(answer.text)
        if "Set-Cookie" in answer.headers:
            cookie, until = answer.headers["Set-Cookie"].partition(";")[0], clock() + 300
        clock.advance(60)
    assert answers == ["new", *["known"] * 19]
