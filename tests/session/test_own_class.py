"""The option ``session_class``: an application's own class in place of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from beaker.session.opening import CookieSession, Session
from beaker.session.proxy import SessionObject
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import COOKIE, SessionHarness, Tab

put = SessionHarness.put


class OwnSession(Session):
    def total(self) -> int:
        return sum(self.get("prices", ()))


class OwnCookieSession(CookieSession):
    def total(self) -> int:
        return sum(self.get("prices", ()))


OWN = pytest.mark.parametrize(
    ("place", "own"), [("memory", OwnSession), ("revocable cookie", OwnCookieSession)], ids=["store", "cookie"]
)


@OWN
def test_its_methods_are_the_sessions(place: str, own: type[Any], open_tab: Callable[..., Tab]) -> None:
    """The session in ``environ`` is of the class, and is kept like any other."""
    tab = open_tab(place, session_class=own)
    tab.do(put(prices=[3, 4]))
    assert tab.do(lambda s: (s.total(), type(s._session()))) == (7, own)


def test_it_is_found_by_id(open_tab: Callable[..., Tab]) -> None:
    """``get_by_id()`` returns a session of the class."""
    tab = open_tab("memory", session_class=OwnSession)
    tab.do(put(prices=[3, 4]))
    id = tab.do(lambda s: s.id)
    tab.cookies.clear()
    found = tab.do(lambda s: s.get_by_id(id))
    assert (found.total(), type(found)) == (7, OwnSession)


def test_one_of_a_cookie_is_not(open_tab: Callable[..., Tab]) -> None:
    """A cookie session is not found by its id."""
    tab = open_tab("revocable cookie", session_class=OwnCookieSession)
    tab.do(put(a=1))
    assert tab.do(lambda s: s.get_by_id(s.id)) is None


@OWN
def test_a_request_that_began_before_the_logout_writes_nothing(
    place: str, own: type[Any], open_tab: Callable[..., Tab], clock: FakeClock
) -> None:
    """The request began with its SessionObject, not when the session was first touched."""
    tab = open_tab(place, session_class=own, revocation_check_interval=0)
    tab.do(lambda s: s.login("ann"))
    slow = SessionObject({"HTTP_COOKIE": f"{COOKIE}={tab.cookies[COOKIE]}"}, context=tab.middleware.context)
    clock.advance(1)
    tab.do(lambda s: s.logout())
    clock.advance(30)
    put(cart=1)(slow)
    assert [name for name, _ in slow.commit()] == ["Vary"]
