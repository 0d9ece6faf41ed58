"""Options that decide what a save does: conflict policy, read-only, save_timeout, touches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from beaker import counters
from beaker.exceptions import BeakerException, WriteConflict
from beaker.session.proxy import SessionObject
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import Handler, SessionHarness, Tab
from tests.session.faults import interrupt
from tests.session.places import LOCAL, MERGING

put = SessionHarness.put
Open = Callable[..., Tab]


def overlap(tab: Tab, first: Handler, then: Handler) -> None:
    other = tab.copy()

    def late(session: SessionObject) -> None:
        session.get("x")
        other.do(first)
        then(session)

    tab.do(late)


@pytest.mark.parametrize("place", MERGING)
class TestConflict:
    @pytest.mark.parametrize(("policy", "kept"), [("mine", "late"), ("theirs", "early")])
    def test_mine_and_theirs(self, open_tab: Open, place: str, policy: str, kept: str) -> None:
        """on_conflict = mine keeps the later save's value, theirs the earlier one's; both are counted."""
        tab = open_tab(place, on_conflict=policy)
        tab.do(put(k="base", other=1))
        name = f"merge_conflicts{{{policy}}}"
        before = counters.snapshot().events.get(name, 0)
        overlap(tab, put(k="early"), put(k="late", other=2))
        assert tab.do(lambda s: (s["k"], s["other"])) == (kept, 2)
        assert counters.snapshot().events[name] == before + 1

    def test_raise(self, open_tab: Open, place: str) -> None:
        """on_conflict = raise: WriteConflict reaches the application and nothing of the late request is written."""
        tab = open_tab(place, on_conflict="raise")
        tab.do(put(k="base", other=1))
        with pytest.raises(WriteConflict):
            overlap(tab, put(k="early"), put(k="late", other=2))
        assert tab.do(lambda s: (s["k"], s["other"])) == ("early", 1)
        overlap(tab, put(k="again"), put(other=3))
        assert tab.do(lambda s: (s["k"], s["other"])) == ("again", 3)

    def test_a_callable(self, open_tab: Open, place: str) -> None:
        """A callable gets the key and the three values, None for an absent one, and returns the value to keep."""
        asked: list[Any] = []

        def join(key: Any, base: Any, mine: Any, theirs: Any) -> Any:
            asked.append((key, base, mine, theirs))
            return [mine, theirs]

        tab = open_tab(place, on_conflict=join)
        tab.do(put(k=("base",)))
        overlap(tab, put(k=("early",)), put(k=("late",)))
        assert asked == [("k", ("base",), ("late",), ("early",))]
        assert tab.do(lambda s: s["k"]) == [("late",), ("early",)]

    def test_who_the_visitor_is_is_never_decided_by_a_race(self, open_tab: Open, place: str) -> None:
        """Of two requests that change a key beginning with an underscore the late one's whole write is dropped."""
        tab = open_tab(place)
        tab.do(put(_role="user"))
        overlap(tab, put(_role="guest"), put(_role="admin", other=1))
        assert tab.do(lambda s: (s["_role"], s.get("other"))) == ("guest", None)
        assert not tab.last.set_cookies

    def test_a_save_under_siege_ends_with_an_error(self, open_tab: Open, place: str) -> None:
        """A writer that loses to other requests for save_timeout seconds gets WriteConflict; what they wrote stays."""
        tab = open_tab(place, save_timeout=0.5)
        tab.do(put(n=0, k=0))
        other, store = tab.copy(), interrupt(tab.middleware.context)

        def siege(name: str, _: int) -> None:
            if name == "replace":
                store.before = None
                other.do(lambda s: (s.increment("n"), s.save())[0])  # type: ignore[func-returns-value]
                store.before = siege

        store.before = siege
        with pytest.raises(WriteConflict, match=r"0\.5 s"):
            tab.do(put(k=1))
        store.quiet()
        n, k = tab.do(lambda s: (s["n"], s["k"]))
        assert n > 3
        assert k == 0


@pytest.mark.parametrize("place", LOCAL)
class TestReadOnly:
    def test_it_writes_nothing(self, open_tab: Open, clock: FakeClock, place: str) -> None:
        """readonly: no data, no access time, no cookie, no lock of its own; a change that is to be saved raises."""
        tab = open_tab(place, timeout=1000)
        tab.do(put(a=1))
        reader, seen = read_only(open_tab, tab, place, timeout=1000)
        clock.advance(500)
        assert reader.do(lambda s: s["a"]) == 1
        assert reader.do(lambda s: (s.save(), s["a"])[1]) == 1  # type: ignore[func-returns-value]
        assert not reader.last.set_cookies
        for change in (put(a=2), lambda s: s.login("x"), lambda s: s.delete(), lambda s: s.regenerate_id()):
            with pytest.raises(BeakerException, match="read-only"):
                reader.do(change)
        assert set(seen) <= {"read", "get", "get_many"}
        clock.advance(501)
        assert tab.do(lambda s: s.get("a")) is None

    def test_it_does_not_bury_what_was_revoked(self, open_tab: Open, clock: FakeClock, place: str) -> None:
        """A revoked session is not shown; ending its record is left to a deployment that writes."""
        tab = open_tab(place)
        tab.do(lambda s: s.login("ann"))
        reader, seen = read_only(open_tab, tab, place)
        clock.advance(1)
        reader.middleware.revoke(user="ann")
        seen.clear()
        assert reader.do(lambda s: s.user) is None
        assert set(seen) <= {"read", "get", "get_many"}


def read_only(open_tab: Open, tab: Tab, place: str, **more: Any) -> tuple[Tab, list[str]]:
    """The browser of ``tab`` at a read-only deployment, and the operations its stores will see."""
    reader = open_tab(place, readonly=True, **more)
    reader.middleware.context._records = None
    reader.cookies = dict(tab.cookies)
    seen: list[str] = []
    interrupt(reader.middleware.context).before = lambda name, _: seen.append(name)
    return reader, seen


@pytest.mark.parametrize("late", [False, True])
def test_a_reader_of_a_session_that_came_back_writes_nothing(late: bool, open_tab: Open, clock: FakeClock) -> None:
    """What was left of it in the store stays, and what was written there late is shown without a save."""
    options = {"cookie_max": 600, "timeout": 10_000}
    tab = open_tab("hybrid in cookie", **options)
    tab.do(put(a=1, big="x" * 2000))
    pointer = tab.copy()
    tab.do(lambda s: (s.pop("big"), s.save()))  # type: ignore[func-returns-value]
    tab.do(put(b=2))
    if late:
        pointer.do(put(c=3))
    else:
        clock.advance(400)
    reader, seen = read_only(open_tab, tab, "hybrid in cookie", **options)
    for _ in range(2):
        assert reader.do(lambda s: (s["a"], s["b"], s.get("c"), getattr(s._place, "came_back", 0) > 0)) == (
            1,
            2,
            3 if late else None,
            not late,
        )
    assert set(seen) <= {"read", "get", "get_many"}


@pytest.mark.parametrize("place", [place for place in MERGING if "hybrid" not in place])
class TestTouch:
    @pytest.mark.parametrize(("timeout", "interval"), [(1000, 100), (36000, 300), (None, 300)])
    def test_the_default_interval(
        self, open_tab: Open, clock: FakeClock, place: str, timeout: float | None, interval: float
    ) -> None:
        """A read-only request records its access when the recorded one is a tenth of timeout old, 300 s at most."""
        tab = open_tab(place, timeout=timeout)
        tab.do(put(a=1))
        store = interrupt(tab.middleware.context)
        writes: list[str] = []
        store.before = lambda name, _: writes.append(name) if name == "replace" else None
        clock.advance(interval - 1)
        tab.do(lambda s: s["a"])
        assert writes == []
        clock.advance(1)
        tab.do(lambda s: s["a"])
        assert writes == ["replace"]
        tab.do(lambda s: s["a"])
        assert writes == ["replace"]

    def test_a_touch_never_writes_data_over_a_concurrent_save(
        self, open_tab: Open, clock: FakeClock, place: str
    ) -> None:
        """The access of a reader that a writer overtakes is not recorded, and the writer's data stays."""
        tab = open_tab(place, timeout=1000)
        tab.do(put(a=1))
        clock.advance(500)
        overlap(tab, put(a=2), lambda s: s["a"])
        assert tab.do(lambda s: s["a"]) == 2

    def test_without_access_times_reads_write_nothing(self, open_tab: Open, clock: FakeClock, place: str) -> None:
        """save_accessed_time = false: reads write nothing, and the session ends by its age alone."""
        tab = open_tab(place, absolute_timeout=3000, save_accessed_time=False)
        tab.do(put(a=1))
        store = interrupt(tab.middleware.context)
        writes: list[str] = []
        store.before = lambda name, _: writes.append(name) if name == "replace" else None
        for _ in range(3):
            clock.advance(900)
            assert tab.do(lambda s: s["a"]) == 1
        assert writes == []
        clock.advance(300)
        assert tab.do(lambda s: s.get("a")) is None
