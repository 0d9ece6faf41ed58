"""Older copies of one's own hybrid session: what the store has had is not opened from a cookie again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.crypto.tokens import store_key
from beaker.exceptions import StoreUnavailable
from beaker.session.backends.hybrid import HybridBackend
from beaker.session.records import CLOCKS, TOMBSTONE_TTL, Tombstone
from beaker.session.revocation import Revocations
from beaker.storage.memory import MemoryStore
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import OTHER_SECRET, SECRET, Handler, SessionHarness, Tab
from tests.session.faults import Interruptible, each_failure, interrupt
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


def changing(change: str) -> Handler:
    """Sees the credit of before, sets ``x``, then saves, logs in or changes the id."""

    def act(session: Any) -> None:
        assert session["credit"] == 10
        session["x"] = 1
        if change == "save":
            session.save()
        else:
            getattr(session, change)(*(["ann"] if change == "login" else []))

    return act


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

    def test_a_request_that_moves_out_late_keeps_what_came_back_meanwhile(self, open_tab: Open) -> None:
        """Another request moved the session out and back just before: what its new cookie holds is merged later."""
        tab, late = (open_tab("hybrid in cookie") for _ in range(2))
        tab.do(put(a=1))
        late.cookies = dict(tab.cookies)
        store = interrupt(late.middleware.context)

        def before(name: str, number: int) -> None:
            if name == "insert":
                store.quiet()
                tab.do(put(**BIG))
                tab.do(shrink)
                tab.do(put(c=1))

        store.before = before
        late.do(put(b=1, **BIG))
        assert not late.last.set_cookies
        for each in (tab, late):
            assert each.do(lambda s: (s["a"], s["b"], s["c"], len(s["big"]))) == (1, 1, 1, 6000)

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

        stale.do(changing(change))
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

        before = dict(stale.cookies)
        stale.do(changing(change))
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
        for found in each_failure(tab, put(a=1), put(a=2, **BIG), done=done, most=12):
            if isinstance(found, StoreUnavailable):
                assert tab.do(lambda s: s["a"]) in (1, 2)
                tab.do(put(b=1, **BIG))
            else:
                assert tab.do(lambda s: s["a"]) == 2

    @pytest.mark.parametrize("change", ["save", "login", "regenerate_id", "monotonic"])
    def test_a_move_that_was_cut_off_takes_nothing_back(
        self, open_tab: Open, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        """A request died after it had stored the session: what its cookie has seen since is not lost to that record."""

        def die(*args: object) -> None:
            raise StoreUnavailable("killed")

        def act(session: Any) -> None:
            session.increment("n")
            session.update(BIG if change == "save" else {})
            session.save()
            if change != "save":
                arguments: dict[str, tuple[Any, ...]] = {"login": ("ann",), "monotonic": ("m", 1)}
                getattr(session, change)(*arguments.get(change, ()))

        tab = open_tab("hybrid in cookie")
        tab.do(put(a=1, n=1, gone=1))
        with monkeypatch.context() as dying, contextlib.suppress(StoreUnavailable):
            dying.setattr(HybridBackend, "_outdate", die)
            tab.do(put(a=2, **BIG))
        clock.advance(CLOCKS + 1)
        tab.do(put(a=3, n=5, b=1))
        tab.do(lambda s: (s.pop("gone"), s.save()))  # type: ignore[func-returns-value]
        tab.do(act)
        assert tab.do(lambda s: [s.get(key) for key in ("a", "b", "n", "gone")]) == [3, 1, 6, None]
        assert tab.do(lambda s: "big" in s) is (change == "save")

    @pytest.mark.parametrize("done", [False, True], ids=["undone", "answer lost"])
    def test_a_new_id_that_fails_loses_nothing(self, open_tab: Open, done: bool) -> None:
        """Another request moved the session out just before; whichever operation fails, one of the two ids opens it."""
        for at in range(20):
            tab, late = (open_tab("hybrid in cookie") for _ in range(2))
            tab.do(put(a=1))
            late.cookies = dict(tab.cookies)
            store = interrupt(late.middleware.context)

            def act(session: Any, tab: Tab = tab, store: Interruptible = store, at: int = at) -> None:
                session.get("a")
                tab.do(put(b=1, **BIG))
                store.quiet()
                store.lose(at, done=done)
                session.regenerate_id()

            with contextlib.suppress(StoreUnavailable):
                late.do(act)
            reached = store.number > at
            store.quiet()
            assert (1, 1) in [each.do(lambda s: (s.get("a"), s.get("b"))) for each in (tab, late)]
            if not reached:
                return
        raise AssertionError("a change of the id has more operations than were tried")

    @pytest.mark.parametrize("what", ["many writes", "the end of a return"])
    def test_a_new_id_leaves_a_tombstone_whatever_comes_in_between(
        self, open_tab: Open, clock: FakeClock, what: str
    ) -> None:
        """Nothing opens under the old id, and what was written there in time goes along to the new one."""
        tab, late = (open_tab("hybrid in cookie") for _ in range(2))
        tab.do(put(a=1))
        if what == "the end of a return":
            tab.do(put(**BIG))
            tab.do(shrink)
        late.cookies = dict(tab.cookies)
        store = interrupt(late.middleware.context)
        before: list[int] = []

        def between(name: str, number: int) -> None:
            if name == "replace" and len(before) < (12 if what == "many writes" else 1):
                before.append(number)
                if what != "many writes":
                    clock.advance(TOMBSTONE_TTL + 1)
                tab.do(put(n=len(before)))

        ids: list[bytes] = []

        def act(session: Any) -> None:
            session.get("a")
            ids.append(session._session()._snapshot.id)
            if what == "many writes":
                tab.do(put(**BIG))
            store.before = between
            session.login("ann")

        late.do(act)
        store.quiet()
        assert isinstance(late.middleware.context.records.load(ids[0]), Tombstone)
        assert tab.do(lambda s: s.get("a")) is None
        assert late.do(lambda s: (s["a"], s.user)) == (1, "ann")
        if what == "many writes":
            assert late.do(lambda s: s["n"]) == len(before)


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
