"""Older copies of one's own hybrid session: what the store has had is not opened from a cookie again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.crypto.tokens import store_key
from beaker.exceptions import StoreUnavailable
from beaker.session.records import TOMBSTONE_TTL
from beaker.session.revocation import Revocations
from beaker.storage.memory import MemoryStore
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import OTHER_SECRET, SECRET, SessionHarness, Tab
from tests.session.faults import Interruptible, interrupt
from tests.session.places import DRIVERS, tab_of
from tests.storage.shared import session_options

Open = Callable[..., Tab]
put = SessionHarness.put
BIG = {"big": "x" * 6000}
SERVERS = ("memcached", "redis", "postgres", "google")


def credit(session: Any) -> Any:
    return session.get("credit")


def shrink(session: Any) -> None:
    session.pop("big")
    session.save()


@pytest.fixture(params=["memory", "file", "dbm", "sqlite", *SERVERS])
def hybrid(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Callable[..., Tab]:
    """``hybrid(driver)``: a tab on hybrid sessions over each kind of store."""
    store: str = request.param
    options = {"type": "memory"} if store == "memory" else session_options(store, request, tmp_path)

    def hybrid(driver: str = "wsgi", **more: Any) -> Tab:
        return tab_of(
            {**options, "type": "hybrid", "store": options["type"], "secret": SECRET, "clock": clock} | more, driver
        )

    return hybrid


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_older_cookie_opens_the_session_of_today(hybrid: Callable[..., Tab], clock: FakeClock, driver: str) -> None:
    """While the session is in the store, an older copy of its cookie leads there; credit is not spent twice."""
    tab = hybrid(driver)
    tab.do(put(credit=10))
    old = tab.copy()
    tab.do(put(**BIG))
    tab.do(put(credit=0))
    assert old.do(credit) == 0
    old.do(put(seen=1))
    assert tab.do(lambda s: (s["credit"], s["seen"])) == (0, 1)
    tab.do(shrink)
    tab.do(put(credit=-1))
    clock.advance(TOMBSTONE_TTL + 1)
    first_return = tab.copy()
    tab.do(put(gone=1))
    assert old.do(credit) in (None, 0)
    tab.do(put(**BIG))
    tab.do(put(credit=-2))
    assert first_return.do(credit) == -2
    assert tab.do(credit) == -2


class TestReturns:
    def test_a_change_made_since_the_return_is_kept_when_the_session_grows_again(self, open_tab: Open) -> None:
        """What the cookie has seen since the session came back goes along to the store."""
        tab = open_tab("hybrid in cookie")
        tab.do(put(a=1, **BIG))
        tab.do(shrink)
        tab.do(put(a=2, b=1))
        tab.do(put(**BIG))
        assert tab.do(lambda s: (s["a"], s["b"], len(s["big"]))) == (2, 1, 6000)
        tab.do(shrink)
        tab.do(lambda s: (s.pop("b"), s.save()))  # type: ignore[func-returns-value]
        tab.do(put(**BIG))
        assert tab.do(lambda s: "b" in s) is False

    def test_copies_of_each_return_are_outdated_by_the_next_move(self, open_tab: Open) -> None:
        """Also of one within the minutes in which the record stays, and after a late write into the record."""
        tab = open_tab("hybrid in cookie")
        tab.do(put(a=0))
        copies = [tab.copy()]
        for n in range(1, 4):
            tab.do(put(**BIG))
            late = tab.copy()
            tab.do(shrink)
            tab.do(put(a=n))
            copies.append(tab.copy())
            if n == 2:
                late.do(put(late=1))
                assert tab.do(lambda s: s["late"]) == 1
        tab.do(put(**BIG))
        tab.do(put(a="now"))
        assert [copy.do(lambda s: s["a"]) for copy in copies] == ["now"] * 4

    def test_a_session_that_never_moved_costs_nothing_more(self, open_tab: Open) -> None:
        """While it stays in its cookie, a request reads what it did before, and writes nothing."""
        tab = open_tab("hybrid in cookie", revocation_check_interval=60)
        tab.do(put(a=1))
        store = interrupt(tab.middleware.context)
        names: list[str] = []
        store.before = lambda name, _: names.append(name)
        tab.do(lambda s: s["a"])
        tab.do(lambda s: s["a"])
        # The ledger is remembered from the first save; the point of the id is asked for once a minute.
        assert names == ["get"]

    def test_logout_with_an_outdated_cookie_ends_the_session(self, open_tab: Open, clock: FakeClock) -> None:
        """In the store, and after its return, when the record is gone."""
        for settle in (False, True):
            tab = open_tab("hybrid in cookie")
            tab.do(put(a=1))
            old = tab.copy()
            tab.do(put(**BIG))
            if settle:
                tab.do(shrink)
                clock.advance(TOMBSTONE_TTL + 1)
                tab.do(put(b=1))
            old.do(lambda s: s.logout())
            assert tab.do(lambda s: s.get("a")) is None

    def test_a_change_of_keys_keeps_older_copies_out(self, open_tab: Open, clock: FakeClock) -> None:
        """While both keys are accepted, a copy under the old one leads to the store, also after a further move."""
        tab = open_tab("hybrid in cookie", validate_key=[SECRET])
        tab.do(put(credit=10))
        old = tab.copy()
        tab.do(put(credit=0, **BIG))
        for keys in ([SECRET, OTHER_SECRET], [OTHER_SECRET, SECRET], [OTHER_SECRET]):
            clock.advance(61)
            current = open_tab("hybrid in cookie", validate_key=keys)
            current.cookies = dict(tab.cookies)
            assert current.do(credit) == 0
            current.do(shrink)
            returned = dict(current.cookies)
            current.do(put(**BIG))
            current.do(put(n=str(keys)))
            tab.cookies = dict(current.cookies)
            for copy in (old.cookies, returned):
                current.cookies = dict(copy)
                assert current.do(lambda s: (s.get("credit"), s.get("n"))) in ((0, str(keys)), (None, None))
            assert keys[0] == OTHER_SECRET or current.do(credit) == 0


class TestInFlight:
    def test_a_request_that_came_with_the_cookie_of_before_a_move_is_merged(self, open_tab: Open) -> None:
        """What it changed, and what the one that moved the session changed, both stay, and nothing goes back."""
        tab = open_tab("hybrid in cookie")
        tab.do(put(credit=10, n=0))
        other = tab.copy()

        def slow(session: Any) -> None:
            session.increment("n")
            other.do(put(credit=0, n=1, **BIG))
            session["mine"] = 1
            session.save()

        tab.do(slow)
        for cookies in (tab, other):
            assert cookies.do(lambda s: [s[key] for key in ("credit", "n", "mine")]) == [0, 2, 1]

    @pytest.mark.parametrize("change", ["login", "regenerate_id", "save"])
    def test_a_process_that_asked_too_early_takes_nothing_back(
        self, open_tab: Open, clock: FakeClock, change: str
    ) -> None:
        """It shows the old copy until it asks again, but what it saves, also under a new id, has the store's values."""
        tab, stale = (open_tab("hybrid in cookie", revocation_check_interval=60) for _ in range(2))
        tab.do(put(credit=10))
        stale.cookies = dict(tab.cookies)
        stale.do(credit)
        tab.do(put(**BIG))
        tab.do(put(credit=0))

        def act(session: Any) -> None:
            assert session["credit"] == 10
            session["x"] = 1
            if change == "save":
                session.save()
            else:
                getattr(session, change)(*(["ann"] if change == "login" else []))

        stale.do(act)
        assert stale.do(lambda s: (s["credit"], s["x"])) == (0, 1)

    @pytest.mark.parametrize("change", ["login", "regenerate_id", "save"])
    def test_an_old_copy_whose_session_went_on_in_another_cookie_saves_nothing(
        self, open_tab: Open, clock: FakeClock, change: str
    ) -> None:
        """Shown by a process that asks rarely, when the record is gone: a login begins anew, all else is dropped."""
        tab, stale = (open_tab("hybrid in cookie", revocation_check_interval=2 * TOMBSTONE_TTL) for _ in range(2))
        tab.do(put(credit=10))
        stale.cookies = dict(tab.cookies)
        tab.do(put(**BIG))
        tab.do(shrink)
        clock.advance(TOMBSTONE_TTL + 1)
        tab.do(put(credit=0))
        points: Any = stale.middleware.context.revocations
        # As if it had asked before the move, and not since.
        for name in [name for name in points._seen if name.startswith("id:")]:
            points._seen[name] = (clock(), {})
        id = tab.do(lambda s: s._session()._snapshot.id)
        points._seen[f"id:{store_key(id)}"] = (clock(), {})

        def act(session: Any) -> None:
            assert session["credit"] == 10
            session["x"] = 1
            if change == "save":
                session.save()
            else:
                getattr(session, change)(*(["ann"] if change == "login" else []))

        before = dict(stale.cookies)
        stale.do(act)
        if change == "login":
            assert stale.do(lambda s: (s.user, s.get("credit"), s["x"])) == ("ann", None, 1)
        else:
            assert stale.cookies == before
            assert stale.do(credit) is None
        assert tab.do(lambda s: (s["credit"], s.get("x"))) == (0, None)

    @pytest.mark.parametrize("done", [False, True], ids=["undone", "answer lost"])
    def test_a_move_that_fails_loses_nothing(self, open_tab: Open, done: bool) -> None:
        """Whichever operation of it fails, the cookie of before opens the session, as it was or as it was saved."""
        tab = open_tab("hybrid in cookie")
        store = interrupt(tab.middleware.context)
        for at in range(12):
            tab.cookies.clear()
            store.quiet()
            tab.do(put(a=1))
            store.quiet()
            store.lose(at, done=done)
            try:
                tab.do(put(a=2, **BIG))
            except StoreUnavailable:
                store.quiet()
                assert tab.do(lambda s: s["a"]) in (1, 2)
                tab.do(put(b=1, **BIG))
            else:
                reached = store.number > at
                store.quiet()
                assert tab.do(lambda s: s["a"]) == 2
                if not reached:
                    return
        raise AssertionError("the move has more operations than were tried")


class TestPoints:
    """A point that outdates cookies, and the end of an id, are one record."""

    @pytest.mark.parametrize("first", ["outdate", "end"])
    def test_an_end_is_never_taken_back(self, clock: FakeClock, first: str) -> None:
        """Whichever of the two comes in between the steps of the other, the id has ended."""
        inner, id = MemoryStore(clock=clock), b"i" * 32
        for at in range(8):
            inner.clear("beaker.session.revoked")
            store = Interruptible(inner)
            one, two = (Revocations(s, interval=0.0, lifetime=None, clock=clock) for s in (store, inner))
            one.outdate(id, 0)
            mark = one.mark()
            store.quiet()

            def between(_: str, number: int, at: int = at, store: Any = store, two: Any = two) -> None:
                if number == at:
                    store.before = None
                    two.end_id(id) if first == "outdate" else two.outdate(id, 1)

            store.before = between
            one.outdate(id, 1) if first == "outdate" else one.end_id(id)
            reached = store.before is None
            if not reached:
                two.end_id(id)
            assert one.standing(mark, id=id, fresh=True).revoked is not None
            one.outdate(id, None)
            assert two.standing(mark, id=id, fresh=True).revoked is not None
            if not reached:
                return

    def test_serials_only_grow(self, clock: FakeClock) -> None:
        """A late request that outdates less changes nothing; ``None`` outdates all there are."""
        points = Revocations(MemoryStore(clock=clock), interval=0.0, lifetime=None, clock=clock)
        mark, id = points.mark(), b"i" * 32
        seen = []
        for serial in (0, 0, 3, 1, None, 4):
            points.outdate(id, serial)
            seen.append(points.standing(mark, id=id).serial)
        assert seen == [1, 1, 4, 4, 5, 5]
