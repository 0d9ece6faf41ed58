"""Requests at the same time, stepped by hand: who wins, what is kept, which cookie may be sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.session.proxy import SessionObject
from beaker.session.records import Tombstone
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import COOKIE, NEW_SECRET, SECRET, Handler, Tab
from tests.session.places import LOCAL, MERGING, options_of


def put(**values: Any) -> Handler:
    def handler(session: SessionObject) -> None:
        session.update(values)
        session.save()

    return handler


def overlap(tab: Tab, first: Handler, then: Handler) -> Tab:
    """``first`` runs whole in another tab while the request of ``then`` has loaded its session; the other tab."""
    other = tab.copy()

    def late(session: SessionObject) -> Any:
        session.get("x")
        other.do(first)
        return then(session)

    tab.do(late)
    return other


@pytest.mark.parametrize("place", LOCAL)
class TestEverywhere:
    def test_a_reader_that_renews_its_cookie_after_a_key_change_does_not_undo_a_login(
        self, open_tab: Callable[..., Tab], place: str
    ) -> None:
        """A cookie of the old key is sealed anew only while its session lives: a login meanwhile keeps its cookie."""
        tab = open_tab(place)
        tab.do(put(a=1))
        rotated = open_tab(place, validate_key=[NEW_SECRET, SECRET], secret=None)
        rotated.cookies = dict(tab.cookies)
        other = overlap(rotated, lambda s: s.login("ann"), lambda s: s.get("a"))
        assert not rotated.last.set_cookies
        assert other.do(lambda s: s.user) == "ann"

    def test_two_changes_of_the_id_leave_one_live_id(self, open_tab: Callable[..., Tab], place: str) -> None:
        """Of two requests that regenerate one session at the same time one wins, the other sends no cookie."""
        tab = open_tab(place)
        tab.do(put(a=1))
        old = tab.copy()
        other = overlap(tab, lambda s: s.regenerate_id(), lambda s: s.regenerate_id())
        assert not tab.last.set_cookies
        assert old.do(lambda s: s.get("a")) is None
        assert other.do(lambda s: s.get("a")) == 1

    def test_a_logout_follows_a_session_that_moved_meanwhile(self, open_tab: Callable[..., Tab], place: str) -> None:
        """A logout in flight while another request changes the id ends the session under its new id too."""
        tab = open_tab(place)
        tab.do(lambda s: s.login("ann"))
        other = overlap(tab, lambda s: s.regenerate_id(), lambda s: s.logout())
        assert other.do(lambda s: s.user) is None

    def test_a_dead_id_does_not_hide_a_live_one(self, open_tab: Callable[..., Tab], place: str) -> None:
        """Of two cookies of our name that verify, the one whose session lives is used (a narrower path left over)."""
        tab = open_tab(place)
        tab.do(put(a=1))
        dead = tab.cookies[COOKIE]
        tab.do(lambda s: s.invalidate())
        tab.cookies.clear()
        tab.do(put(a=2))
        header = f"{COOKIE}={dead}; {COOKIE}={tab.cookies[COOKIE]}"
        assert tab.copy().do_with_header(header, lambda s: s.get("a")) == 2

    def test_revert_after_a_save_goes_back_to_what_was_saved(self, open_tab: Callable[..., Tab], place: str) -> None:
        """revert() after persist() in the same request brings back the saved values, of any serializable type."""
        tab = open_tab(place)
        value: Any = {"k": (1,)} if "cookie" in place or "hybrid" in place else Path("/pickled")

        def handler(session: SessionObject) -> Any:
            session["a"] = value
            session.save()
            session.persist()
            session["a"] = None
            session.revert()
            return session["a"]

        assert tab.do(handler) == value

    def test_a_late_logout_after_an_outage_of_nothing_is_repeatable(
        self, open_tab: Callable[..., Tab], place: str
    ) -> None:
        """Two logouts of one session at the same time are one logout."""
        tab = open_tab(place)
        tab.do(lambda s: s.login("ann"))
        old = tab.copy()
        overlap(tab, lambda s: s.logout(), lambda s: s.logout())
        assert old.do(lambda s: s.user) is None


class Sorted:
    """A value only pickle can hold, whose pickle differs after a round trip (interned attribute names)."""

    def __init__(self, *names: str) -> None:
        self.names = [("x" + name)[1:] for name in names]
        self.index = {("x" + name)[1:]: 1 for name in names}
        self.__dict__.update({("x" + name)[1:]: name for name in names})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sorted) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("place", [place for place in MERGING if "hybrid" not in place])
class TestMerging:
    def test_an_unchanged_pickled_value_is_no_change(self, open_tab: Callable[..., Tab], place: str) -> None:
        """With auto a request that only reads a pickled value writes nothing and overwrites no concurrent change."""
        tab = open_tab(place, auto=True)
        tab.do(lambda s: s.update(p=Sorted("alpha", "beta")))
        overlap(tab, lambda s: s.update(p=Sorted("gamma")), lambda s: s["p"])
        assert tab.do(lambda s: s["p"]) == Sorted("gamma")

    def test_an_increment_of_what_became_a_text_is_a_conflict(self, open_tab: Callable[..., Tab], place: str) -> None:
        """A number that another request turned into text cannot be added to: the policy decides, nothing is raised."""
        tab = open_tab(place)
        tab.do(put(n=1))

        def plus(session: SessionObject) -> None:
            session.increment("n")
            session.save()

        before = counters.snapshot().events.get("merge_conflicts{mine}", 0)
        overlap(tab, put(n="text"), plus)
        assert tab.do(lambda s: s["n"]) == 2
        assert counters.snapshot().events["merge_conflicts{mine}"] == before + 1

    def test_lock_reads_what_the_last_holder_left(self, open_tab: Callable[..., Tab], place: str) -> None:
        """After lock() the session holds what other requests saved, so that read, change, save under it is exact."""
        tab = open_tab(place)
        tab.do(put(n=1))

        def locked(session: SessionObject) -> None:
            session.lock()
            try:
                session["n"] = session["n"] + 1
                session.save()
                session.persist()
            finally:
                session.unlock()

        overlap(tab, locked, locked)
        assert tab.do(lambda s: s["n"]) == 3


class TestHybrid:
    """Out of the cookie, and back, while other requests are in flight."""

    @pytest.fixture
    def tab(self, open_tab: Callable[..., Tab]) -> Tab:
        return open_tab("hybrid in cookie", cookie_max=900)

    def test_changes_after_the_return_are_kept(self, tab: Tab, clock: FakeClock) -> None:
        """A session that came back into the cookie keeps every later change, before and after it has settled."""
        tab.do(put(big="x" * 2000))
        tab.do(put(big="", a=0))
        for turn in range(1, 12):
            tab.do(put(a=turn))
            assert tab.do(lambda s: s["a"]) == turn
            clock.advance(60)

    def test_a_returned_session_settles(self, tab: Tab, clock: FakeClock) -> None:
        """Some minutes after its return a session has no record any more and goes on in the cookie alone."""
        tab.do(put(big="x" * 2000))
        tab.do(put(big="", a=0))
        clock.advance(400)
        tab.do(put(a=1))
        records = tab.middleware.context.records
        raw = tab.do(lambda s: s._snapshot.id)
        assert records.load(raw) == "gone"
        assert tab.do(lambda s: s["a"]) == 1

    def test_two_requests_that_move_a_session_out_are_merged(self, tab: Tab) -> None:
        """Both requests that outgrow the cookie at the same time keep what they added."""
        tab.do(put(a=1))
        overlap(tab, put(b="x" * 2000), put(c="y" * 2000))
        assert tab.do(lambda s: (s["a"], len(s["b"]), len(s["c"]))) == (1, 2000, 2000)

    def test_a_writer_that_holds_the_pointer_during_the_return_is_kept(self, tab: Tab) -> None:
        """A request that loaded from the store and saves after another moved the session back loses nothing."""
        tab.do(put(big="x" * 2000, a=1, b=1))
        other = overlap(tab, put(big="", a=2), put(b=2))
        assert tab.do(lambda s: (s["a"], s["b"], s["big"])) == (2, 2, "")
        assert other.do(lambda s: (s["a"], s["b"], s["big"])) == (2, 2, "")

    def test_a_writer_with_the_copy_and_one_with_the_pointer_are_merged(self, tab: Tab, clock: FakeClock) -> None:
        """After the return a change by the new token and one by the old pointer are both kept."""
        tab.do(put(big="x" * 2000, a=1, b=1))
        pointer = tab.copy()
        tab.do(put(big=""))
        copy = tab.copy()
        copy.do(put(a=2))
        pointer.do(put(b=2))
        assert copy.do(lambda s: (s["a"], s["b"])) == (2, 2)
        clock.advance(400)
        assert pointer.do(lambda s: (s["a"], s["b"])) == (2, 2)

    @pytest.mark.parametrize("state", ["small", "big", "returned"])
    def test_logout_holds_in_every_state(self, tab: Tab, clock: FakeClock, state: str) -> None:
        """A logged-out session stays dead in the cookie, in the store and on its way back, whatever is in flight."""
        tab.do(lambda s: s.login("ann"))
        if state != "small":
            tab.do(put(big="x" * 2000))
        if state == "returned":
            tab.do(put(big=""))
        kept = tab.copy()
        late = overlap(tab, lambda s: s.logout(), put(more="y" * 3000))
        assert not tab.last.set_cookies
        for _ in range(4):
            assert kept.do(lambda s: s.user) is None
            assert tab.do(lambda s: s.user) is None
            assert late.do(lambda s: s.user) is None
            clock.advance(250)

    @pytest.mark.parametrize("state", ["small", "big", "returned"])
    @pytest.mark.parametrize("whom", [{"user": "ann"}, {"everybody": True}])
    def test_revocation_holds_in_every_state(
        self, tab: Tab, clock: FakeClock, state: str, whom: dict[str, Any]
    ) -> None:
        """revoke() of the user, or of everybody, ends the session wherever it lives, also for a request in flight."""
        tab.do(lambda s: s.login("ann"))
        if state != "small":
            tab.do(put(big="x" * 2000))
        if state == "returned":
            tab.do(put(big=""))
        clock.advance(1)
        kept = tab.copy()
        overlap(tab, lambda s: tab.middleware.revoke(**whom), put(more="y" * 3000))
        for _ in range(4):
            assert kept.do(lambda s: s.user) is None
            assert tab.do(lambda s: s.user) is None
            clock.advance(250)

    def test_an_anonymous_logout_is_not_undone_by_a_move_to_the_store(self, tab: Tab, clock: FakeClock) -> None:
        """A request that outgrows the cookie after a logout leaves no live record under the dead id."""
        tab.do(put(a=1))
        raw = tab.do(lambda s: s._snapshot.id)
        overlap(tab, lambda s: s.delete(), put(big="x" * 2000))
        assert tab.middleware.context.records.load(raw) in (Tombstone(clock()), "gone")


def test_places_of_this_file_are_real(tmp_path: Path) -> None:
    """Every place named here has options."""
    assert all(options_of(place, tmp_path) for place in LOCAL)
