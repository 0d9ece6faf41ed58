"""Logouts that come late, through an old cookie, or when the store is full."""

from __future__ import annotations

import operator
from collections.abc import Callable

import pytest

from beaker.exceptions import StoreUnavailable
from beaker.session.proxy import SessionObject
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import COOKIE, Handler, SessionHarness, Tab
from tests.session.faults import Interruptible, interrupt
from tests.session.places import LOCAL

Open = Callable[..., Tab]

put = SessionHarness.put
MOVES: dict[str, Handler] = {"login": operator.methodcaller("login", "bob"), "regenerate": lambda s: s.regenerate_id()}
RECORDS = tuple(place for place in LOCAL if "cookie" not in place and place != "hybrid in store")
"""The places where a record in the store is the whole session."""


def fill(store: Interruptible) -> None:
    """From now on every write to the store fails; reads and removals work."""

    def full(name: str, number: int) -> None:
        if name in ("insert", "replace", "set"):
            raise StoreUnavailable("no space left", backend="test", operation=name)

    store.before = full


@pytest.mark.parametrize("place", LOCAL)
@pytest.mark.parametrize("later", [0, 60])
@pytest.mark.parametrize("move", MOVES)
def test_a_logout_with_the_cookie_of_before_a_new_id_ends_the_session(
    open_tab: Open, clock: FakeClock, place: str, later: float, move: str
) -> None:
    """Whoever logs out in a tab that has not seen the new id is logged out, after several moves too."""
    tab = open_tab(place)
    tab.do(lambda s: s.login("ann"))
    other = tab.copy()
    tab.do(MOVES[move])
    tab.do(put(a=1))
    tab.do(MOVES[move])
    assert tab.do(lambda s: s["a"]) == 1
    clock.advance(later)
    other.do(lambda s: s.logout())
    assert tab.do(lambda s: (s.user, s.get("a"))) == (None, None)


@pytest.mark.parametrize("place", LOCAL)
def test_a_logout_with_a_dead_cookie_ends_no_session_of_another_login(open_tab: Open, place: str) -> None:
    """A logout follows changes of the id; a session that began after a logout is another one."""
    tab = open_tab(place)
    tab.do(lambda s: s.login("ann"))
    stale = tab.copy()
    tab.do(lambda s: s.logout())
    tab.do(lambda s: s.login("ann"))
    stale.do(lambda s: s.logout())
    assert tab.do(lambda s: s.user) == "ann"


@pytest.mark.parametrize("place", RECORDS)
@pytest.mark.parametrize("changed", [False, True])
def test_a_logout_in_a_full_store_ends_the_session(open_tab: Open, place: str, changed: bool) -> None:
    """Where no tombstone can be written the record is removed, also one changed since it was loaded."""
    tab = open_tab(place)
    tab.do(lambda s: s.login("ann"))
    kept, store = tab.copy(), interrupt(tab.middleware.context)

    def logout(session: SessionObject) -> None:
        assert session.user == "ann"
        if changed:
            kept.do(put(a=1))
        fill(store)
        session.logout()

    tab.do(logout)
    assert kept.do(lambda s: s.user) is None
    store.quiet()
    assert kept.do(lambda s: s.user) is None


@pytest.mark.parametrize("place", RECORDS)
def test_a_late_writer_does_not_bring_back_what_a_full_store_removed(open_tab: Open, place: str) -> None:
    """A request that had loaded the session writes nothing after that either."""
    tab = open_tab(place)
    tab.do(lambda s: s.login("ann"))
    kept, store = tab.copy(), interrupt(tab.middleware.context)

    def late(session: SessionObject) -> None:
        session["a"] = 1
        fill(store)
        kept.do(lambda s: s.logout())
        store.quiet()
        session.save()

    tab.do(late)
    assert tab.do(lambda s: s.user) is None


@pytest.mark.parametrize("place", ["revocable cookie", "hybrid in cookie", "hybrid in store"])
def test_a_logout_that_cannot_be_noted_is_an_error_where_cookies_carry_the_session(open_tab: Open, place: str) -> None:
    """A copy of the cookie would open the session again, so a logout in a full store raises."""
    tab = open_tab(place)
    tab.do(lambda s: s.login("ann"))
    fill(interrupt(tab.middleware.context))
    with pytest.raises(StoreUnavailable):
        tab.do(lambda s: s.logout())


@pytest.mark.parametrize("place", RECORDS)
def test_a_logout_is_an_error_when_the_record_can_neither_be_marked_nor_removed(open_tab: Open, place: str) -> None:
    """Then the session lives on, and no cookie pretends that it was ended."""
    tab = open_tab(place)
    tab.do(lambda s: s.login("ann"))
    kept, store = tab.copy(), interrupt(tab.middleware.context)
    store.lose(1, done=False, repeat=True)
    with pytest.raises(StoreUnavailable):
        tab.do(lambda s: s.logout())
    assert tab.cookies == kept.cookies
    store.quiet()
    assert tab.do(lambda s: s.user) == "ann"


@pytest.mark.parametrize("place", ["memory", "hybrid in store"])
@pytest.mark.parametrize("end", ["logout", "login"])
def test_a_request_that_reads_the_ended_session_anew_writes_nothing_more(open_tab: Open, place: str, end: str) -> None:
    """It has saved before the end, so that its cookie was due; sent now, it would replace the one that the browser has
    got since."""
    tab = open_tab(place)
    tab.do(put(a=1))
    other = tab.copy()

    def slow(session: SessionObject) -> bool:
        put(a=2)(session)
        session.regenerate_id()
        session.persist()
        line = session.__dict__["_headers"]["cookie_out"]
        other.cookies[COOKIE] = line.partition(";")[0].partition("=")[2]
        other.do(lambda s: s.login("ann") if end == "login" else s.logout())
        session.load()
        empty = "a" not in session and session.is_new
        put(late=1)(session)
        return empty

    assert tab.do(slow)
    assert not tab.last.set_cookies
    assert other.do(lambda s: (s.user, s.get("late"))) == ("ann" if end == "login" else None, None)


@pytest.mark.parametrize("place", LOCAL)
def test_what_was_found_to_have_ended_is_not_there_when_it_is_read_anew(open_tab: Open, place: str) -> None:
    """A save found the end and wrote nothing; ``load()`` then shows an empty session, not the ended one."""
    tab = open_tab(place)
    tab.do(lambda s: s.login("ann"))
    other = tab.copy()

    def slow(session: SessionObject) -> object:
        assert session.user == "ann"
        other.do(lambda s: s.logout())
        put(a=2)(session)
        session.persist()
        session.load()
        return session.user

    assert tab.do(slow) is None
    assert not tab.last.set_cookies


@pytest.mark.parametrize("place", LOCAL)
@pytest.mark.parametrize("again", [False, True])
def test_a_logout_after_a_new_id_that_came_too_late_ends_the_session(open_tab: Open, place: str, again: bool) -> None:
    """Another tab was first to change the id; a logout in this request ends the session under the id it has now."""
    tab = open_tab(place)
    tab.do(put(a=1))
    other = tab.copy()

    def slow(session: SessionObject) -> None:
        assert session["a"] == 1
        other.do(lambda s: s.login("ann"))
        session.regenerate_id()
        session.persist()
        if again:
            session.load()
        session.logout()

    tab.do(slow)
    assert other.do(lambda s: (s.user, s.get("a"))) == (None, None)
