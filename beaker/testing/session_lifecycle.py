"""Sessions over time, on the wire, and among requests at the same time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beaker.session.proxy import SessionObject
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import COOKIE, NEW_SECRET, SECRET, Handler, SessionHarness, Tab

__all__ = ["SessionCourse"]


class SessionCourse(SessionHarness):
    """Expiry, headers, overlapping requests, rotation of keys."""

    # -- time --------------------------------------------------------------------------------------

    def test_idle_timeout(self, make: Callable[..., Tab], clock: FakeClock) -> None:
        """A session that was not used for `timeout` seconds is over; one in use is not."""
        tab = make(timeout=100)
        tab.do(self.put(a=1))
        for _ in range(5):
            clock.advance(60)
            assert tab.do(lambda s: s.get("a")) == 1
        clock.advance(101)
        assert tab.do(lambda s: (s.get("a"), s.is_new)) == (None, True)

    def test_absolute_timeout(self, make: Callable[..., Tab], clock: FakeClock) -> None:
        """However busy, a session ends `absolute_timeout` seconds after it began."""
        tab = make(timeout=100, absolute_timeout=250)
        tab.do(self.put(a=1))
        for _ in range(4):
            clock.advance(60)
            assert tab.do(lambda s: s.get("a")) == 1
        clock.advance(20)
        assert tab.do(lambda s: s.get("a")) is None

    def test_stamps(self, tab: Tab, clock: FakeClock) -> None:
        """last_accessed is None at first, then the last access; the stamps are keys of the session."""
        start = clock()
        assert tab.do(lambda s: s.last_accessed) is None
        tab.do(self.put(a=1))
        clock.advance(400)
        assert tab.do(lambda s: (s.last_accessed, s["_creation_time"], s["_accessed_time"])) == (
            start,
            start,
            start + 400,
        )
        clock.advance(400)
        assert tab.do(lambda s: s.last_accessed) == start + 400

    def test_a_session_from_the_future_goes_on_and_ends(self, make: Callable[..., Tab], clock: FakeClock) -> None:
        """A clock that was ahead neither ends a session when it is corrected nor makes it immortal."""
        tab = make(timeout=100)
        clock.advance(3600)
        tab.do(self.put(a=1))
        clock.advance(-3600)
        assert tab.do(lambda s: s.get("a")) == 1
        clock.advance(3700)
        assert tab.do(lambda s: s.get("a")) is None

    # -- headers -----------------------------------------------------------------------------------

    def test_headers_say_what_happened(self, tab: Tab) -> None:
        """Untouched: no header. Read: Vary. Cookie sent: Vary, Cache-Control and one Set-Cookie."""
        assert tab.do(lambda s: None) is None
        assert {name for name, _ in tab.last.headers} == {"Content-Type"}
        tab.do(lambda s: s.get("a"))
        assert {name for name, _ in tab.last.headers} == {"Content-Type", "Vary"}
        tab.do(self.put(a=1))
        assert {name for name, _ in tab.last.headers} == {"Content-Type", "Vary", "Cache-Control", "Set-Cookie"}
        assert tab.last.header("Cache-Control") == "private, no-store"
        tab.do(lambda s: s.get("a"))
        assert not tab.last.set_cookies

    def test_domain_and_path_of_the_session_reach_the_cookie(self, tab: Tab) -> None:
        """session.domain and session.path are sent with the cookie and last as long as the session."""

        def aim(session: SessionObject) -> None:
            session.domain, session.path = "example.org", "/shop"
            session.save()

        tab.do(aim)
        assert "Domain=example.org" in tab.last.set_cookies[0]
        assert "Path=/shop" in tab.last.set_cookies[0]
        assert tab.do(lambda s: (s.domain, s.path)) == ("example.org", "/shop")

    # -- concurrency -------------------------------------------------------------------------------

    def overlap(self, tab: Tab, first: Handler, then: Handler) -> Any:
        """``first`` runs, whole, while the request of ``then`` has loaded the session and not yet ended."""
        other = tab.copy()

        def late(session: SessionObject) -> Any:
            session.get("x")
            other.do(first)
            return then(session)

        answer = tab.do(late)
        self.other = other
        return answer

    def test_concurrent_changes_of_two_keys_are_both_kept(self, tab: Tab) -> None:
        """Two requests at the same time that change different keys lose nothing."""
        tab.do(self.put(a=1, b=1, c=1))

        def mine(session: SessionObject) -> None:
            session["b"] = 2
            del session["c"]
            session.save()

        self.overlap(tab, self.put(a=2), mine)
        if self.merges:
            assert tab.do(lambda s: (s["a"], s["b"], "c" in s)) == (2, 2, False)

    def test_concurrent_increments_are_exact(self, tab: Tab) -> None:
        """increment, add and discard of two requests at the same time all count."""
        tab.do(self.put(n=1, tags={"old"}))

        def plus(session: SessionObject) -> None:
            session.increment("n", 5)
            session.add("tags", "first")
            session.save()

        def more(session: SessionObject) -> None:
            session.increment("n", 10)
            session.increment("n", 100)
            session.add("tags", "second")
            session.discard("tags", "old")
            session.save()

        self.overlap(tab, plus, more)
        if self.merges:
            assert tab.do(lambda s: (s["n"], s["tags"])) == (116, {"first", "second"})

    def test_equal_concurrent_increments_count_twice(self, tab: Tab) -> None:
        """Two requests that add the same number come to the same sum, and still both count."""
        tab.do(self.put(n=1))

        def plus(session: SessionObject) -> None:
            session.increment("n")
            session.save()

        self.overlap(tab, plus, plus)
        if self.merges:
            assert tab.do(lambda s: s["n"]) == 3

    def test_a_request_under_way_does_not_resurrect_a_logged_out_session(self, tab: Tab) -> None:
        """A reader or writer that outlives a logout writes nothing back and sends no cookie."""
        for late in (lambda s: s.get("a"), self.put(a=3), lambda s: s.regenerate_id()):
            tab.do(self.put(a=1))
            old = tab.copy()
            self.overlap(tab, lambda s: s.logout(), late)
            if not self.survives_delete:
                assert not tab.last.set_cookies
                assert old.do(lambda s: s.get("a")) is None
            tab.cookies.clear()

    def test_a_request_under_way_does_not_undo_a_login(self, tab: Tab) -> None:
        """Old requests that end after a login neither revive the old id nor overwrite the new cookie."""
        tab.do(self.put(a=1))
        old = tab.copy()
        self.overlap(tab, lambda s: s.login("ann"), self.put(a=2))
        if not self.survives_delete:
            assert not tab.last.set_cookies
            assert old.do(lambda s: s.get("a")) is None
        assert self.other.do(lambda s: s.user) == "ann"

    def test_keys_rotate_without_logging_anybody_out(self, make: Callable[..., Tab]) -> None:
        """A cookie of an older key opens, and is sealed with the new one by the next response."""
        name = "validate_key"
        tab = make(**{name: SECRET, "secret": None})
        tab.do(self.put(a=1))
        old_cookie = tab.cookies[COOKIE]
        rotated = make(**{name: [NEW_SECRET, SECRET], "secret": None})
        rotated.cookies = dict(tab.cookies)
        assert rotated.do(lambda s: s["a"]) == 1
        assert rotated.cookies[COOKIE] != old_cookie
        retired = make(**{name: [NEW_SECRET], "secret": None})
        retired.cookies = {COOKIE: old_cookie}
        assert retired.do(lambda s: s.get("a")) is None

    def test_context_repr_shows_no_key(self, make: Callable[..., Tab]) -> None:
        """Nothing printable of a configured middleware holds a secret."""
        tab = make(validate_key=SECRET, secret=None)
        context = tab.middleware.context
        told = " ".join(map(repr, (tab.app, context, context.options, context.ring, context.cookie)))
        assert SECRET not in told
