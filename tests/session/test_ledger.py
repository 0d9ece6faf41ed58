"""The ledger of revocations: what it decides when stores forget, clocks are wrong, and applications share a store."""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.exceptions import CorruptRecord
from beaker.session.revocation import NAMESPACE, Revocations
from beaker.storage.memory import MemoryStore
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import NEW_SECRET, OTHER_SECRET, SECRET, Handler, SessionHarness, Tab
from tests.session.faults import Interruptible
from tests.session.places import LOCAL, MERGING, options_of, tab_of
from tests.storage.shared import session_options

Open = Callable[..., Tab]
put = SessionHarness.put
login: Callable[[str], Handler] = lambda name: operator.methodcaller("login", name)  # noqa: E731
HOUR = 3600.0
ENDS: dict[str, Callable[[Tab], Any]] = {
    "logout": lambda tab: tab.do(lambda s: s.logout()),
    "revoke the user": lambda tab: tab.middleware.revoke(user="ann"),
    "revoke everybody": lambda tab: tab.middleware.revoke(everybody=True),
}
IN_COOKIES = ("revocable cookie", "hybrid in cookie", "hybrid in store")
SERVERS = ("memcached", "redis", "postgres", "google")


def user(session: Any) -> Any:
    return session.user


def store_of(tab: Tab) -> Any:
    points = tab.middleware.context.revocations
    assert points is not None
    return points.store


def begins_anew(tab: Tab, clock: FakeClock) -> None:
    """The store forgets its points, as in a restart, and each process what it remembers of them."""
    store_of(tab).clear(NAMESPACE)
    clock.advance(61)


def test_a_session_that_begins_after_a_restart_lives_in_every_process(clock: FakeClock) -> None:
    """A process that remembers the ledger of before gives no new session the lost name, which others would refuse."""
    store = MemoryStore(clock=clock)
    first, second = (Revocations(store, interval=60, lifetime=None, clock=clock) for _ in range(2))
    before = first.mark()
    store.clear(NAMESPACE)
    after = first.mark()
    assert second.revoked_at(before) == 0.0
    assert second.revoked_at(after) is None
    assert first.revoked_at(after) is None


class TestForgetting:
    """Lost points end sessions; they never open them."""

    @pytest.fixture(params=[*LOCAL, *(f"hybrid on {server}" for server in SERVERS)])
    def tab(self, request: pytest.FixtureRequest, open_tab: Open, tmp_path: Path, clock: FakeClock) -> Tab:
        place: str = request.param
        if place in LOCAL:
            return open_tab(place)
        options = session_options(place.removeprefix("hybrid on "), request, tmp_path)
        return tab_of({**options, "type": "hybrid", "store": options["type"], "secret": SECRET, "clock": clock})

    @pytest.mark.parametrize("end", ENDS)
    def test_a_store_that_forgot_its_points_opens_no_ended_session(self, tab: Tab, clock: FakeClock, end: str) -> None:
        """After a restart of the store what had ended stays ended, and whoever logs in anew stays in."""
        tab.do(login("ann"))
        kept = tab.copy()
        ENDS[end](tab)
        begins_anew(tab, clock)
        assert kept.do(user) is None
        tab.do(login("ann"))
        assert tab.do(user) == "ann"
        assert kept.do(user) is None

    def test_sessions_of_before_the_store_s_beginning_are_over(self, tab: Tab, clock: FakeClock) -> None:
        """Which of them were ended is not known; a later revocation counts from the new beginning on."""
        tab.do(login("ann"))
        begins_anew(tab, clock)
        other = tab.copy()
        other.cookies.clear()
        other.do(login("bob"))
        assert (tab.do(user), other.do(user)) == (None, "bob")
        tab.middleware.revoke(user="bob")
        clock.advance(61)
        assert other.do(user) is None


@pytest.mark.parametrize("place", LOCAL)
class TestClocks:
    @pytest.mark.parametrize("ahead", [-HOUR, 61.0, HOUR, 365 * 24 * HOUR])
    @pytest.mark.parametrize("end", ["revoke the user", "revoke everybody"])
    def test_a_host_with_a_wrong_clock_locks_nobody_out(
        self, open_tab: Open, clock: FakeClock, place: str, ahead: float, end: str
    ) -> None:
        """What its revocation ended is over at once; a login after it holds, and so does a new session."""
        tab = open_tab(place)
        tab.do(login("ann"))
        old, admin = tab.copy(), open_tab(place)
        admin.middleware.context.clock = wrong = FakeClock(clock() + ahead)
        points = admin.middleware.context.revocations
        assert points is not None
        points._clock = wrong
        ENDS[end](admin)
        clock.advance(61)
        assert old.do(user) is None
        tab.cookies.clear()
        tab.do(login("ann"))
        clock.advance(61)
        assert tab.do(user) == "ann"
        old.do(put(cart=1))
        assert old.do(lambda s: s.get("cart")) == 1

    def test_a_logout_by_a_host_with_a_wrong_clock_lets_the_browser_begin_anew(
        self, open_tab: Open, clock: FakeClock, place: str
    ) -> None:
        """A time in the future does not make every later request one that was in flight."""
        tab = open_tab(place)
        tab.do(login("ann"))
        kept = tab.copy()
        clock.advance(50)
        tab.do(lambda s: s.logout())
        clock.advance(-40)
        kept.do(put(cart=1))
        assert kept.do(lambda s: (s.user, s.get("cart"))) == (None, 1)


@pytest.mark.parametrize("place", LOCAL)
@pytest.mark.parametrize("differs", ["key", "secret"])
@pytest.mark.parametrize("end", ENDS)
def test_applications_on_one_store_do_not_end_each_other_s_sessions(
    open_tab: Open, clock: FakeClock, place: str, differs: str, end: str
) -> None:
    """Points hold for one cookie name and one key, also where both applications know the same users."""
    name = "secret" if "memory file dbm sqlite".find(place) >= 0 else "validate_key"
    other = open_tab(place, **({"key": "other"} if differs == "key" else {name: NEW_SECRET}))
    mine = open_tab(place)
    other.do(login("ann"))
    mine.do(login("ann"))
    ENDS[end](other)
    clock.advance(61)
    assert (mine.do(user), other.do(user)) == ("ann", None)


class TestPoints:
    def points(self, clock: FakeClock, store: Any = None, **more: Any) -> tuple[Revocations, Interruptible]:
        store = Interruptible(MemoryStore(clock=clock)) if store is None else store
        return Revocations(store, interval=60.0, lifetime=None, clock=clock, **more), store

    def test_the_answer_of_one_process_stays_when_the_point_is_lost(self, clock: FakeClock) -> None:
        """A session that a process knows to be over does not open in it again, remembered, read or asked for fresh."""
        points, store = self.points(clock)
        began = points.mark()
        points.revoke(user="ann")
        for key in list(store.inner.keys(NAMESPACE)):
            if "user:" in key:
                store.inner.delete(NAMESPACE, key)
        seen = []
        for _ in range(4):
            seen += [points.revoked_at(began, "ann"), points.revoked_at(began, "ann", fresh=True)]
            clock.advance(61)
        assert None not in seen
        assert points.revoked_at(points.mark(), "ann") is None

    def test_two_processes_that_begin_a_ledger_at_once_share_it(self, clock: FakeClock) -> None:
        """The second process continues with the ledger of the first."""
        first, store = self.points(clock)
        second, _ = self.points(clock, store.inner)
        marks = []

        def between(name: str, _: int) -> None:
            if name == "insert":
                store.quiet()
                marks.append(second.mark())

        store.before = between
        marks.append(first.mark())
        assert marks[0] == marks[1]
        assert first.revoked_at(marks[0]) is second.revoked_at(marks[1]) is None

    def test_a_process_that_asked_too_early_looks_again_before_it_ends_a_session(self, clock: FakeClock) -> None:
        """A ledger that another process has begun since this one looked costs one more read, and no session."""
        early, store = self.points(clock)
        late, _ = self.points(clock, store.inner)
        assert early.revoked_at(b"") is None
        mark = late.mark()
        assert early.revoked_at(mark) is None
        asked = store.number
        assert early.revoked_at(mark) is None
        assert store.number == asked

    def test_a_dead_mark_costs_one_read_in_all(self, clock: FakeClock) -> None:
        """A beginning that is known to be lost is not looked for again."""
        points, store = self.points(clock)
        mark = points.mark()
        store.inner.clear(NAMESPACE)
        clock.advance(61)
        assert points.revoked_at(mark) == 0.0
        asked = store.number
        assert [points.revoked_at(mark) for _ in range(3)] == [0.0] * 3
        assert store.number == asked

    def test_revocations_at_once_each_count(self, clock: FakeClock) -> None:
        """Two hosts that revoke at the same moment: what began before both is over for either user."""
        first, store = self.points(clock)
        second, _ = self.points(clock, store.inner)
        before = first.mark()

        def between(name: str, _: int) -> None:
            if name == "replace":
                store.quiet()
                second.revoke(user="bob")

        store.before = between
        first.revoke(user="ann")
        marks = [points.mark(fresh=True) for points in (first, second)]
        assert marks[0] == marks[1] != before
        for name in ("ann", "bob"):
            assert first.revoked_at(before, name, fresh=True) is not None
            assert second.revoked_at(marks[0], name, fresh=True) is None

    def test_a_session_without_a_mark_is_ended_by_every_revocation(self, clock: FakeClock) -> None:
        """A session from an older Beaker, or from before points were kept, may have begun before any of them."""
        points, _ = self.points(clock)
        adopted = points.adopted()
        assert [points.revoked_at(mark, "ann") for mark in (b"", adopted)] == [None, None]
        points.revoke(user="ann")
        assert None not in [points.revoked_at(mark, "ann") for mark in (b"", adopted)]
        assert [points.revoked_at(mark, "bob") for mark in (b"", adopted)] == [None, None]

    def test_a_point_that_was_moved_or_changed_does_not_open(self, tmp_path: Path, clock: FakeClock) -> None:
        """A record under another's name raises, so that it neither ends nor opens anything."""
        tab = tab_of({**options_of("hybrid in cookie", tmp_path), "clock": clock})
        tab.do(login("ann"))
        tab.middleware.revoke(user="bob")
        store = store_of(tab)
        first, second = list(store.keys(NAMESPACE))
        records = store.get(NAMESPACE, first), store.get(NAMESPACE, second)
        store.set(NAMESPACE, first, records[1], ttl=None)
        store.set(NAMESPACE, second, records[0], ttl=None)
        with pytest.raises(CorruptRecord):
            tab.do(user)


@pytest.mark.parametrize("place", IN_COOKIES)
def test_a_change_of_keys_keeps_what_was_ended(open_tab: Open, clock: FakeClock, place: str) -> None:
    """Before, while and after both keys are accepted; the ledger moves to the new key before the old one goes."""
    steps = ([SECRET], [SECRET, OTHER_SECRET], [OTHER_SECRET, SECRET], [OTHER_SECRET])
    tab = open_tab(place, validate_key=steps[0])
    tab.do(login("ann"))
    kept, bob = tab.copy(), tab.copy()
    bob.cookies.clear()
    bob.do(login("bob"))
    tab.middleware.revoke(user="ann")
    for keys in steps:
        clock.advance(61)
        current = open_tab(place, validate_key=keys)
        for visitor, name in ((kept, None), (bob, "bob"), (Tab(tab.middleware, tab.handlers), None)):
            current.cookies = visitor.cookies
            assert current.do(user) == name
        current.do(login("carl"))
        assert current.do(user) == "carl"


STEPS = {"a minute back": -61.0, "an hour back": -HOUR, "an hour ahead": HOUR}


@pytest.mark.parametrize("place", LOCAL)
@pytest.mark.parametrize("step", STEPS)
def test_a_clock_step_and_its_correction_end_no_session(
    open_tab: Open, clock: FakeClock, place: str, step: str
) -> None:
    """The session goes on with its id and its values, after the step, after what was written then, and after both."""
    tab = open_tab(place, timeout=2 * HOUR, absolute_timeout=24 * HOUR)
    tab.do(login("ann"))
    tab.do(put(a=1))
    id = tab.do(lambda s: s.id)
    for number, moved in enumerate((STEPS[step], -STEPS[step]), 2):
        clock.advance(moved)
        cookies = dict(tab.cookies)
        assert tab.do(lambda s: (s.id, s.user)) == (id, "ann")
        if moved < 0:
            assert tab.cookies == cookies
        tab.do(put(a=number))
        assert tab.do(lambda s: (s.id, s["a"])) == (id, number)
    # Which of the two clocks was wrong is not known: the later access counts.
    clock.advance(2 * HOUR + max(0.0, STEPS[step]))
    assert tab.do(user) is None


@pytest.mark.parametrize("place", LOCAL)
def test_a_clock_that_is_behind_by_more_than_the_timeout_ends_no_session(
    open_tab: Open, clock: FakeClock, place: str
) -> None:
    """Neither what it reads nor what it writes nor a changed id does; and no stamp that it shows is in its future."""
    tab = open_tab(place, timeout=HOUR / 2, absolute_timeout=24 * HOUR)
    tab.do(login("ann"))
    for access in (user, put(a=1), lambda s: s.regenerate_id()):
        clock.advance(-HOUR)
        tab.do(access)
        assert tab.do(lambda s: max(s.created, s.last_accessed, s["_creation_time"])) <= clock()
        clock.advance(HOUR)
        assert tab.do(user) == "ann"
    clock.advance(HOUR / 2)
    assert tab.do(user) is None


@pytest.mark.parametrize("place", MERGING)
def test_a_record_from_the_future_does_not_last_longer_once_it_is_read(
    open_tab: Open, clock: FakeClock, place: str
) -> None:
    """The first access after the correction stamps it anew, so that it ends when it should."""
    tab = open_tab(place, timeout=HOUR)
    clock.advance(365 * 24 * HOUR)
    tab.do(login("ann"))
    clock.advance(-365 * 24 * HOUR)
    assert tab.do(user) == "ann"
    clock.advance(HOUR)
    assert tab.do(user) is None
