"""Revocation: who is ended by it, who is not, and who may come back."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest

from beaker.session.proxy import SessionObject
from beaker.session.records import CLOCKS
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import COOKIE, Handler, Tab
from tests.session.places import LOCAL


def put(**values: Any) -> Handler:
    def handler(session: SessionObject) -> None:
        session.update(values)
        session.save()

    return handler


@pytest.mark.parametrize("place", LOCAL)
class TestRevocation:
    def test_everybody_means_those_without_a_name_too(self, open_tab: Callable[..., Tab], place: str) -> None:
        """revoke(everybody=True) ends sessions without a login as well."""
        tab = open_tab(place, revocation_check_interval=0)
        tab.do(put(a=1))
        tab.middleware.revoke(everybody=True)
        assert tab.do(lambda s: s.get("a")) is None

    def test_a_user_is_ended_on_every_device_and_others_are_not(
        self, open_tab: Callable[..., Tab], clock: FakeClock, place: str
    ) -> None:
        """revoke(user=) ends the user's sessions, on all devices, and no other user's."""
        tab = open_tab(place, revocation_check_interval=0)
        ann, phone, bob = tab.copy(), tab.copy(), tab.copy()
        for visitor, name in ((ann, "ann"), (phone, "ann"), (bob, "bob")):
            visitor.do(operator.methodcaller("login", name))
        clock.advance(1)
        tab.middleware.revoke(user="ann")
        assert [visitor.do(lambda s: s.user) for visitor in (ann, phone, bob)] == [None, None, "bob"]

    def test_a_revoked_user_can_log_in_again(self, open_tab: Callable[..., Tab], clock: FakeClock, place: str) -> None:
        """A login after the revocation holds, also from a browser whose anonymous session is older than it."""
        tab = open_tab(place, revocation_check_interval=0)
        tab.do(put(cart=1))
        clock.advance(10)
        tab.middleware.revoke(user="ann")
        clock.advance(10)
        tab.do(lambda s: s.login("ann"))
        assert tab.do(lambda s: (s.user, s.get("cart"))) == ("ann", 1)

    def test_a_change_of_password_ends_all_sessions_but_the_one_that_did_it(
        self, open_tab: Callable[..., Tab], clock: FakeClock, place: str
    ) -> None:
        """revoke(user) and login(user) in one request: every other session of the user ends, this one goes on."""
        tab = open_tab(place, revocation_check_interval=0)
        other = tab.copy()
        tab.do(lambda s: s.login("ann"))
        other.do(lambda s: s.login("ann"))
        clock.advance(5)

        def change_password(session: SessionObject) -> None:
            session.get("x")
            tab.middleware.revoke(user="ann")
            session.login("ann")

        tab.do(change_password)
        assert (tab.do(lambda s: s.user), other.do(lambda s: s.user)) == ("ann", None)

    def test_a_clock_behind_cannot_undo_a_logout(
        self, open_tab: Callable[..., Tab], clock: FakeClock, place: str
    ) -> None:
        """A logout on a host whose clock is behind that of the host that created the session ends it all the same."""
        tab = open_tab(place, revocation_check_interval=0)
        tab.do(lambda s: s.login("ann"))
        kept = tab.copy()
        clock.advance(-30)
        tab.do(lambda s: s.logout())
        for _ in range(3):
            assert kept.do(lambda s: s.user) is None
            clock.advance(400)

    def test_a_user_no_key_can_be_made_of_is_refused_at_the_login(
        self, open_tab: Callable[..., Tab], place: str
    ) -> None:
        """login() raises for a user that revocation could never name, and the session stays as it was."""
        tab = open_tab(place)
        tab.do(put(a=1))
        with pytest.raises(TypeError):
            tab.do(lambda s: s.login(object()))
        assert tab.do(lambda s: (s.user, s["a"])) == (None, 1)


@pytest.mark.parametrize("place", ["hybrid in cookie", "hybrid in store"])
class TestHybridIdentity:
    def test_a_token_of_before_the_move_dies_with_its_id(self, open_tab: Callable[..., Tab], place: str) -> None:
        """regenerate_id() of a session in the store also ends the token that carried it while it was small."""
        tab = open_tab("hybrid in cookie", cookie_max=600)
        tab.do(lambda s: s.login("ann"))
        thief = tab.copy()
        tab.do(put(big="x" * 2000))
        assert len(tab.cookies[COOKIE]) < 600
        tab.do(lambda s: s.regenerate_id())
        assert tab.do(lambda s: s.user) == "ann"
        assert thief.do(lambda s: s.user) is None


@pytest.mark.parametrize("place", LOCAL)
@pytest.mark.parametrize("end", ["logout", "revoke"])
class TestDeadCookies:
    """A browser that still holds the cookie of a session that was ended elsewhere."""

    def ended(self, open_tab: Callable[..., Tab], place: str, end: str) -> Tab:
        tab = open_tab(place, revocation_check_interval=0)
        tab.do(lambda s: s.login("ann"))
        phone = tab.copy()
        if end == "logout":
            tab.do(lambda s: s.logout())
        else:
            tab.middleware.revoke(user="ann")
        return phone

    def test_it_gets_a_new_session_some_seconds_later(
        self, open_tab: Callable[..., Tab], clock: FakeClock, place: str, end: str
    ) -> None:
        """A visitor whose session was ended may fill a cart again: nothing of the old session is in it."""
        phone = self.ended(open_tab, place, end)
        clock.advance(CLOCKS + 1)
        phone.do(put(cart=1))
        assert phone.do(lambda s: (s.user, s.get("cart"))) == (None, 1)

    def test_a_request_that_began_before_the_end_writes_nothing(
        self, open_tab: Callable[..., Tab], clock: FakeClock, place: str, end: str
    ) -> None:
        """However long it takes: its cookie could replace the one the browser has got since."""
        tab = open_tab(place, revocation_check_interval=0)
        tab.do(lambda s: s.login("ann"))
        sent = dict(tab.cookies)
        slow = SessionObject({"HTTP_COOKIE": f"{COOKIE}={sent[COOKIE]}"}, context=tab.middleware.context)
        clock.advance(1)
        if end == "logout":
            tab.do(lambda s: s.logout())
        else:
            tab.middleware.revoke(user="ann")
        clock.advance(200)
        put(cart=1)(slow)
        assert [name for name, _ in slow.commit()] == ["Vary"]


@pytest.mark.parametrize("place", LOCAL)
def test_a_session_says_when_it_began(open_tab: Callable[..., Tab], clock: FakeClock, place: str) -> None:
    """``created`` stays over requests and begins anew with a login, as the key ``_creation_time`` does."""
    tab = open_tab(place)
    began = clock()
    tab.do(put(a=1))
    clock.advance(50)
    seen = tab.do(lambda s: (s.created, s["_creation_time"], s.login("ann"), s.created, s["_creation_time"]))
    assert seen == (began, began, None, began + 50, began + 50)
    clock.advance(50)
    assert tab.do(lambda s: (s.created, s["_creation_time"])) == (began + 50, began + 50)
