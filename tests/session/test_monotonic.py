"""``session.monotonic()``: numbers that older cookies, changes of the id and requests at once do not set back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from beaker._typing import Receive, Send
from beaker.exceptions import BeakerException, ConfigError, StoreUnavailable
from beaker.session.records import TOMBSTONE_TTL
from beaker.session.snapshot import Snapshot
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import Handler, SessionHarness, Tab
from tests.asgi.scripts import BODY, START, middleware, talk
from tests.asgi.tabs import run
from tests.session.faults import each_failure
from tests.session.places import DRIVERS, LOCAL, SERVERS, opened, options_by, options_of, tab_of

Open = Callable[..., Tab]
put = SessionHarness.put


def counted(key: str = "spent", n: int = 0) -> Handler:
    return lambda session: session.monotonic(key, n)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("place", [*LOCAL, *SERVERS])
def test_a_number_only_grows(
    place: str, driver: str, request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock
) -> None:
    """It counts at once, without a save; older copies of the cookie show it, also from before a login."""
    tab = tab_of({**options_by(place, request, tmp_path), "clock": clock}, driver)
    tab.do(put(credit=10))
    old = tab.copy()
    assert [tab.do(counted()), tab.do(counted(n=3)), tab.do(counted(n=4)), tab.do(counted("other", 1))] == [0, 3, 7, 1]
    assert (old.do(counted()), old.do(counted(n=1))) == (7, 8)
    tab.do(lambda s: s.login("ann"))
    assert tab.do(counted()) == 8
    tab.do(lambda s: s.regenerate_id())
    assert tab.do(lambda s: (s["credit"], s.monotonic("spent", 1), s.monotonic("other"), s.user)) == (10, 9, 1, "ann")


@pytest.mark.parametrize("place", LOCAL)
class TestEverywhere:
    def test_a_new_session_or_one_with_a_new_id_is_saved_first(self, open_tab: Open, place: str) -> None:
        """The number belongs to the session that the response's cookie leads to; reading 0 begins none."""
        tab = open_tab(place)
        assert tab.do(counted()) == 0
        assert not tab.last.set_cookies
        assert tab.do(lambda s: (s.monotonic("a", 2), s.login("ann"), s.monotonic("a", 1))[2]) == 3
        assert tab.do(lambda s: (s.monotonic("a"), s.user)) == (3, "ann")

    def test_counting_is_an_access(self, open_tab: Open, clock: FakeClock, place: str) -> None:
        """A visitor whose requests do nothing but count stays, for as long after each as after any other request."""
        tab = open_tab(place, timeout=1000, touch_interval=0)
        tab.do(put(a=1))
        for n in (1, 2, 3):
            clock.advance(999)
            assert tab.do(counted(n=1)) == n
        clock.advance(999)
        assert tab.do(lambda s: s["a"]) == 1

    def test_what_is_not_saved_is_not_saved_by_counting(self, open_tab: Open, place: str) -> None:
        """The session's own changes stay its own until they are saved, and can be saved after it."""
        tab = open_tab(place)
        tab.do(put(a=1))
        tab.do(lambda s: (s.update(a=2), s.monotonic("n", 1)))
        assert tab.do(lambda s: s["a"]) == 1
        tab.do(lambda s: (s.update(a=3), s.monotonic("n", 1), s.save()))  # type: ignore[func-returns-value]
        assert tab.do(lambda s: (s["a"], s.monotonic("n"))) == (3, 2)

    def test_requests_at_once_each_count(self, open_tab: Open, place: str) -> None:
        """Two requests that hold the same session, or the same cookie, get different sums."""
        tab = open_tab(place)
        tab.do(put(a=1))
        other, seen = tab.copy(), []

        def slow(session: Any) -> None:
            session.get("a")
            seen.append(other.do(counted(n=1)))
            seen.append(session.monotonic("spent", 1))

        tab.do(slow)
        assert seen == [1, 2]
        assert tab.do(counted()) == 2

    @pytest.mark.parametrize("done", [False, True], ids=["undone", "answer lost"])
    def test_a_failing_store_counts_nothing_twice(self, open_tab: Open, place: str, done: bool) -> None:
        """What raised may have counted once; what returned has counted once, whichever operation failed."""
        tab = open_tab(place)
        for found in each_failure(tab, put(a=1), counted(n=1), done=done, most=14):
            least = 0 if isinstance(found, StoreUnavailable) else found
            assert tab.do(counted()) in (least, 1)

    def test_a_session_that_has_ended_counts_nothing(self, open_tab: Open, place: str) -> None:
        """A request in flight at the logout gets an error; a later one with the old cookie begins at 0."""
        tab = open_tab(place)
        tab.do(put(a=1))
        tab.do(counted(n=1))
        other = tab.copy()

        def late(session: Any) -> None:
            session.get("a")
            other.do(lambda s: s.logout())
            with pytest.raises(BeakerException) as caught:
                session.monotonic("spent", 1)
            assert caught.value.code == "session.has-ended"

        kept = tab.copy()
        tab.do(late)
        assert not tab.last.set_cookies
        assert kept.do(lambda s: s.get("a")) is None

    def test_what_cannot_be_counted_is_refused(self, open_tab: Open, place: str) -> None:
        """A key is a text, a step a whole number from 0 on: anything else is an error before anything is written."""
        tab = open_tab(place)
        tab.do(put(a=1))
        for arguments in ((1, 1), ("a", -1), ("a", 1.5), ("a", True), ("a", "1")):
            wrong: Any = arguments
            with pytest.raises(ConfigError):
                tab.do(counted(*wrong))
        reader = open_tab(place, readonly=True)
        reader.cookies = dict(tab.cookies)
        assert place == "memory" or reader.do(counted()) == 0
        with pytest.raises(BeakerException, match="read-only"):
            reader.do(counted(n=1))


def test_a_cookie_session_without_a_store_refuses_at_once(open_tab: Open) -> None:
    """There is nothing that an older cookie would not set back: a clear error, also where the number is only read."""
    tab = open_tab("revocable cookie", revocation=None)
    for n in (0, 1):
        with pytest.raises(ConfigError, match=r"session\.revocation") as caught:
            tab.do(counted(n=n))
        assert caught.value.code == "session.no-revocation"


class TestHybrid:
    def test_it_lives_in_the_store_from_then_on(self, open_tab: Open, clock: FakeClock) -> None:
        """However small; neither a copy of before, nor one of before the last return, nor a late pointer loses it."""
        tab = open_tab("hybrid in cookie")
        tab.do(put(a=1))
        first = tab.copy()
        tab.do(put(big="x" * 6000))
        pointer = tab.copy()
        tab.do(lambda s: (s.pop("big"), s.save()))  # type: ignore[func-returns-value]
        returned = tab.copy()
        assert len(returned.cookies["beaker.session.id"]) < 400
        assert pointer.do(counted(n=1)) == 1
        assert returned.do(counted(n=1)) == 2
        for _ in range(2):
            tab.do(put(b=1))
            assert [copy.do(counted()) for copy in (tab, first, pointer, returned)] == [2] * 4
            assert isinstance(tab.middleware.context.records.load(_raw(tab)), Snapshot)
            clock.advance(TOMBSTONE_TTL + 1)

    def test_counting_after_a_late_write_outdates_the_copies_of_before(self, open_tab: Open) -> None:
        """A request that merges what a late pointer wrote, counts and saves: no older copy is merged in again."""
        tab = open_tab("hybrid in cookie")
        tab.do(put(a=1, big="x" * 6000))
        late = tab.copy()
        tab.do(lambda s: (s.pop("big"), s.save()))  # type: ignore[func-returns-value]
        tab.do(put(credit=10))
        old = tab.copy()
        late.do(put(late=1))
        tab.do(lambda s: (s.monotonic("n", 1), s.update(x=1), s.save()))  # type: ignore[func-returns-value]
        tab.do(put(credit=0))
        old.do(put(seen=1))
        assert tab.do(lambda s: (s["credit"], s["late"], s["x"], s["seen"], s.monotonic("n"))) == (0, 1, 1, 1, 1)

    def test_a_process_that_asked_too_early_counts_right(self, open_tab: Open) -> None:
        """It may show an older session for a while, but no older number."""
        tab, stale = (open_tab("hybrid in cookie", revocation_check_interval=60) for _ in range(2))
        tab.do(put(a=1))
        stale.cookies = dict(tab.cookies)
        stale.do(lambda s: s["a"])
        assert tab.do(counted(n=1)) == 1
        assert (stale.do(counted()), stale.do(counted(n=1)), tab.do(counted())) == (1, 2, 2)


def _raw(tab: Tab) -> bytes:
    id: bytes = tab.do(lambda s: s._session()._snapshot.id)
    return id


@pytest.mark.parametrize("place", LOCAL)
def test_in_an_event_loop_it_is_awaited(place: str, tmp_path: Path) -> None:
    """``amonotonic`` counts; the plain name is refused there, whatever the type."""
    seen: list[Any] = []

    async def page(session: Any, receive: Receive, send: Send) -> None:
        session["a"] = 1
        seen.append(await session.amonotonic("n", 2))
        with pytest.raises(BeakerException, match=r"session\.amonotonic"):
            session.monotonic("n")
        seen.append(await session.amonotonic("n"))
        await send(START)
        await send(BODY)

    run(talk(middleware(page, **options_of(place, tmp_path))))
    assert seen == [2, 2]


@pytest.mark.parametrize("place", ["file", "revocable cookie", "hybrid in cookie"])
def test_two_processes_that_count_lose_nothing(place: str, tmp_path: Path) -> None:
    """As many as were counted, and no sum twice."""
    tabs = [opened(place, tmp_path) for _ in range(2)]
    tabs[0].do(put(a=1))
    tabs[1].cookies = dict(tabs[0].cookies)

    def count(tab: Tab) -> list[Any]:
        return [tab.do(counted(n=1)) for _ in range(10)]

    with ThreadPoolExecutor(2) as pool:
        sums = [number for numbers in pool.map(count, tabs) for number in numbers]
    assert sorted(sums) == list(range(1, 21))
