"""``session.cookie_expires``: one visitor's cookie ends otherwise than the configured one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from beaker.exceptions import ConfigError
from beaker.session.cookies import MAX_AGE
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import SessionHarness, Tab
from tests.session.places import DRIVERS, LOCAL, opened

put = SessionHarness.put
Open = Callable[..., Tab]
MONTH = dt.timedelta(days=30)


def stay(ends: Any) -> Callable[[Any], None]:
    def handler(session: Any) -> None:
        session["a"] = 1
        session.cookie_expires = ends
        session.save()

    return handler


def saved(change: Callable[[Any], None]) -> Callable[[Any], None]:
    def handler(session: Any) -> None:
        change(session)
        session.save()

    return handler


def life(tab: Tab) -> str | None:
    """Max-Age of the session's cookie in the last response."""
    line = tab.last.set_cookies[0]
    return line.partition("Max-Age=")[2].partition(";")[0] or None


@pytest.mark.parametrize("place", LOCAL)
def test_it_lasts_and_is_renewed(open_tab: Open, clock: FakeClock, place: str) -> None:
    """Beside cookies that end with the browser one session's lasts a month after each visit."""
    tab = open_tab(place, absolute_timeout=10**9, touch_interval=10**6)
    tab.do(stay(MONTH))
    assert life(tab) == str(30 * 86_400)
    clock.advance(3600)
    assert tab.do(lambda s: (s["a"], s.cookie_expires)) == (1, MONTH)
    assert tab.last.set_cookies == []
    clock.advance(2 * 86_400)
    tab.do(lambda s: s["a"])
    assert life(tab) == str(30 * 86_400)
    tab.do(lambda s: s.login("ann"))
    assert life(tab) == str(30 * 86_400), "a new id keeps it"


@pytest.mark.parametrize("place", LOCAL)
def test_it_is_set_in_a_session_that_exists(open_tab: Open, place: str) -> None:
    """The browser has the cookie already: it is sent again, with the end that the session now has."""
    tab = open_tab(place)
    tab.do(put(a=1))
    assert life(tab) is None
    tab.do(stay(3600))
    assert life(tab) == "3600"


@pytest.mark.parametrize("place", LOCAL)
def test_expire_gives_it_up(open_tab: Open, clock: FakeClock, place: str) -> None:
    """The configured end holds again, in a cookie that is sent at once."""
    tab = open_tab(place, cookie_expires=600)
    tab.do(stay(True))
    assert life(tab) is None
    tab.do(saved(lambda s: s.expire()))
    assert life(tab) == "600"
    assert tab.do(lambda s: s.cookie_expires) == 600


@pytest.mark.parametrize("place", LOCAL)
def test_with_the_browser_it_is_not_renewed(open_tab: Open, clock: FakeClock, place: str) -> None:
    """Beside cookies with a life one that ends with the browser is left alone."""
    tab = open_tab(place, cookie_expires=600, touch_interval=10**6)
    tab.do(stay(True))
    clock.advance(300)
    tab.do(lambda s: s["a"])
    assert tab.last.set_cookies == []


def test_dates_and_never(open_tab: Open, clock: FakeClock) -> None:
    """A date holds, without a zone as UTC; False is the 400 days of the option; a new session has no end of its own."""
    tab = open_tab("memory")
    ends = dt.datetime.fromtimestamp(clock() + 5000, dt.timezone.utc)
    tab.do(stay(ends))
    assert life(tab) == "5000"
    assert tab.do(lambda s: s.cookie_expires) == ends
    tab.do(stay(ends.replace(tzinfo=None)))
    assert life(tab) == "5000"
    tab.do(stay(False))
    assert life(tab) == str(MAX_AGE)
    tab.do(lambda s: s.invalidate())
    tab.do(put(a=2))
    assert life(tab) is None


@pytest.mark.parametrize("ends", [1e300, dt.timedelta.max, 10**9])
def test_longer_than_a_browser_allows(open_tab: Open, clock: FakeClock, ends: Any) -> None:
    """Beside a cookie that ends with the browser it is kept 400 days, and renewed."""
    tab = open_tab("memory")
    tab.do(stay(ends))
    assert life(tab) == str(MAX_AGE)
    clock.advance(2 * 86_400)
    tab.do(lambda s: s["a"])
    assert life(tab) == str(MAX_AGE)


@pytest.mark.parametrize("ends", [0, 1, -5, float("nan"), float("inf"), "soon", None, [], dt.datetime(2001, 1, 1)])
def test_what_is_no_end(open_tab: Open, ends: Any) -> None:
    """What no browser could keep is refused when it is set, and nothing has changed."""

    def handler(session: Any) -> None:
        with pytest.raises(ConfigError, match="cookie_expires"):
            session.cookie_expires = ends
        assert "_expires" not in session

    open_tab("memory").do(handler)


@pytest.mark.parametrize(
    "text", ["x; Domain=evil.example", "2030-01-01", "9" * 5000, 0, -1, float("inf"), float("nan"), 10**400, [1], None]
)
def test_a_visitors_text_under_its_key(open_tab: Open, text: Any) -> None:
    """An application that lets a visitor name keys gets the configured end, not an error or another attribute."""
    tab = open_tab("memory", cookie_expires=600)
    tab.do(put(a=1))
    tab.do(put(_expires=text))
    tab.do(lambda s: s.regenerate_id())
    assert life(tab) == "600"
    assert tab.do(lambda s: s.cookie_expires) == 600


@pytest.mark.parametrize("driver", DRIVERS)
def test_on_both_sides(driver: str, clock: FakeClock, tmp_path: Any) -> None:
    """Through the WSGI middleware and the ASGI one."""
    tab = opened("file", tmp_path, clock=clock, driver=driver)
    tab.do(stay(MONTH))
    assert life(tab) == str(30 * 86_400)
    assert tab.do(lambda s: s.cookie_expires) == MONTH
