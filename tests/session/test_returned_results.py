"""What a session does with its backend's results: values it takes over, ends, where a cookie is cleared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from beaker.session import SessionObject
from beaker.testing.session_harness import COOKIE, SessionHarness, Tab
from tests.session.faults import interrupt
from tests.session.places import LOCAL, MERGING

put = SessionHarness.put
Open = Callable[..., Tab]


def overlap(tab: Tab, first: Callable[[SessionObject], Any], second: Callable[[SessionObject], Any]) -> None:
    """``first`` runs, whole, in another tab while the request of ``second`` has loaded the session."""
    other = tab.copy()

    def late(session: SessionObject) -> Any:
        session.get("x")
        other.do(first)
        return second(session)

    tab.do(late)


@pytest.mark.parametrize("place", LOCAL)
def test_two_logouts_of_one_request_clear_the_cookie_where_it_was(open_tab: Open, place: str) -> None:
    """The second logout ends an empty session; the cookie to be cleared is the one the request came with."""
    tab = open_tab(place)

    def aim(session: SessionObject) -> None:
        session.domain, session.path = "example.org", "/shop"
        session.save()

    tab.do(aim)
    tab.cookies.update({name: value.partition(";")[0].split("=", 1)[1] for name, value in _sent(tab).items()})
    tab.do(lambda s: (s.logout(), s.logout()))
    (line,) = tab.last.set_cookies
    assert "Domain=example.org" in line
    assert "Path=/shop" in line
    assert "Max-Age=0" in line


def _sent(tab: Tab) -> dict[str, str]:
    return {line.partition("=")[0]: line for line in tab.last.set_cookies}


@pytest.mark.parametrize("place", LOCAL)
def test_a_path_set_before_the_logout_does_not_move_what_is_cleared(open_tab: Open, place: str) -> None:
    """session.path of a session that is deleted unsaved leaves the cookie to be cleared where it was sent to."""
    tab = open_tab(place)
    tab.do(put(a=1))

    def leave(session: SessionObject) -> None:
        session.path = "/shop"
        session.logout()

    tab.do(leave)
    (line,) = tab.last.set_cookies
    assert "Max-Age=0" in line
    assert "Path=/;" in line


@pytest.mark.parametrize("place", LOCAL)
def test_a_domain_set_after_the_logout_does_not_move_what_is_cleared(open_tab: Open, place: str) -> None:
    """session.domain of the new, unsaved session leaves the old cookie to be cleared."""
    tab = open_tab(place)
    tab.do(put(a=1))

    def leave(session: SessionObject) -> None:
        session.logout()
        session.domain = "example.org"

    tab.do(leave)
    (line,) = tab.last.set_cookies
    assert "Max-Age=0" in line
    assert "Domain" not in line


def pointer_holder(open_tab: Open) -> tuple[Tab, Tab]:
    """A tab whose hybrid session came back to the cookie, and one that still holds the pointer to its record."""
    tab = open_tab("hybrid in cookie", cookie_max=400)
    tab.do(put(big="x" * 600))
    pointer = tab.copy()
    tab.do(lambda s: s.clear() or s.update(a=1) or s.save())  # type: ignore[func-returns-value]
    assert tab.do(lambda s: s._place.came_back) > 0
    return tab, pointer


def test_a_renewed_id_takes_in_what_was_written_late(open_tab: Open) -> None:
    """A new id merges what a holder of the pointer wrote meanwhile; a further save in that request keeps it."""
    tab, pointer = pointer_holder(open_tab)

    def renew(session: SessionObject) -> Any:
        session.get("a")
        pointer.do(put(late=1))
        session.regenerate_id()
        session.save()
        session.persist()
        seen = session.get("late")
        session["after"] = 2
        session.save()
        return seen

    assert tab.do(renew) == 1
    assert tab.do(lambda s: (s["a"], s.get("late"), s.get("after"))) == (1, 1, 2)


def test_a_login_that_races_with_a_late_one_is_dropped_not_raised(open_tab: Open) -> None:
    """Two requests that say who the visitor is: the one that comes late writes nothing and raises nothing."""
    tab, pointer = pointer_holder(open_tab)

    def renew(session: SessionObject) -> None:
        session.get("a")
        pointer.do(put(_role="guest"))
        session["_role"] = "admin"
        session.regenerate_id()
        session.save()

    tab.do(renew)
    assert not tab.last.set_cookies
    assert tab.do(lambda s: s.get("_role")) == "guest"


@pytest.mark.parametrize("place", ["memory", "file", "hybrid in store"])
def test_a_new_id_after_a_save_that_races_over_the_visitor_is_dropped(open_tab: Open, place: str) -> None:
    """The same for a session in a store that was already saved in the request that renews its id."""
    tab = open_tab(place)
    tab.do(put(a=1))
    other = tab.copy()

    def renew(session: SessionObject) -> None:
        session["b"] = 1
        session.save()
        session.persist()
        other.do(put(_role="guest"))
        session["_role"] = "admin"
        session.regenerate_id()
        session.save()

    tab.do(renew)
    assert not tab.last.set_cookies
    assert tab.do(lambda s: s.get("_role")) == "guest"


@pytest.mark.parametrize("place", MERGING)
def test_a_lost_save_keeps_what_a_logout_has_to_end(open_tab: Open, place: str) -> None:
    """A request whose save came too late can still log out: the session under its new id ends too."""
    tab = open_tab(place)
    tab.do(put(a=1))
    other = tab.copy()

    def late(session: SessionObject) -> None:
        session["b"] = 1
        other.do(lambda s: s.regenerate_id())
        session.save()
        session.persist()
        session.logout()

    tab.do(late)
    assert other.do(lambda s: (s.is_new, s.get("a"))) == (True, None)


@pytest.mark.parametrize("place", LOCAL)
def test_a_failed_logout_leaves_the_session_as_it_was(open_tab: Open, place: str) -> None:
    """delete() raises when the store is away; the session is still there for who catches that, and lives on."""
    from beaker.exceptions import StoreUnavailable

    tab = open_tab(place)
    tab.do(put(a=1))
    store = interrupt(tab.middleware.context)

    def attempt(session: SessionObject) -> Any:
        before = session.id
        store.quiet()
        store.lose(0, done=False, repeat=True)
        try:
            with pytest.raises(StoreUnavailable):
                session.logout()
        finally:
            store.quiet()
        return session.id == before, session["a"], session.is_new

    assert tab.do(attempt) == (True, 1, False)
    assert COOKIE in tab.cookies
    assert tab.do(lambda s: s.get("a")) == 1
