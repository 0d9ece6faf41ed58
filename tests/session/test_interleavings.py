"""Two requests at the same time, in every order of their store operations.

One request runs whole before the first, second, ... store operation of the other. Whatever the two do,
what either was promised must hold afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from beaker.session.proxy import SessionObject
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import SessionHarness, Tab
from tests.session.faults import Interruptible, interrupt
from tests.session.places import DRIVERS, LOCAL, MERGING

put = SessionHarness.put


@dataclass
class Seen:
    """One request: what it did, whether it found the session alive, and the tab it ran in."""

    act: str
    tab: Tab
    live: bool = False
    fenced: bool = False


def perform(act: str, session: SessionObject, who: str) -> None:
    if act == "read":
        session.get("secret")
    elif act == "logout":
        session.logout()
    elif act == "regenerate":
        session.regenerate_id()
    elif act == "login":
        session.login(who)
    else:
        session[who] = "w" * (3000 if act == "grow" else 1)
        if act == "shrink":
            session["fill"] = ""
        session.increment("n")
        session.save()


ACTS = ("read", "write", "logout", "regenerate", "login")
ENDING = ("logout", "regenerate", "login")


def request(seen: Seen, who: str) -> None:
    """The request, whole; notes what it found and whether it was fenced off in the end."""
    kept: list[Any] = []

    def handler(session: SessionObject) -> None:
        session.get("x")
        seen.live = not session.is_new
        kept.append(session._session())
        perform(seen.act, session, who)

    seen.tab.do(handler)
    seen.fenced = kept[0]._ended


def alive(tab: Tab) -> dict[str, Any] | None:
    """The values of the tab's session; ``None`` when its cookie opens nothing."""
    values: dict[str, Any] | None = tab.do(lambda s: None if s.is_new else {key: s[key] for key in s})
    return values


def interleave(tab: Tab, store: Interruptible, inner: Seen, outer: Seen, at: int) -> bool:
    """``inner`` whole before operation ``at`` of ``outer``; false when ``outer`` has fewer operations."""
    happened: list[int] = []

    def before(_: str, number: int) -> None:
        if number == at and not happened:
            happened.append(at)
            hook, store.before = store.before, None
            request(inner, "inner")
            store.before, store.number = hook, at + 1

    store.quiet()
    store.before = before
    try:
        request(outer, "outer")
    finally:
        store.quiet()
    return bool(happened)


def check(place: str, old: Tab, inner: Seen, outer: Seen) -> None:
    acts = {inner.act, outer.act}
    left = {"old": alive(old), "inner": alive(inner.tab), "outer": alive(outer.tab)}
    if any(seen.act in ENDING and seen.live and not seen.fenced for seen in (inner, outer)):
        assert left["old"] is None, "the old id is alive"
    for seen in (inner, outer):
        if seen.fenced and seen.act != "logout":
            assert not seen.tab.last.set_cookies, "a loser sent a cookie"
        if seen.act == "logout" and seen.live:
            other = outer if seen is inner else inner
            for values in left.values():
                assert values is None or "secret" not in values, "a logout was undone"
            if other.act != "login":
                assert not any(left.values()), "something of a logged-out session lives"
        if seen.act == "login" and "logout" not in acts:
            assert left["inner" if seen is inner else "outer"]["_user"] is not None, "a login was dropped"  # type: ignore[index]
    if "logout" not in acts:
        owners = [values for values in left.values() if values is not None]
        assert owners, "a user was dropped"
        assert any(values.get("secret") == 1 for values in owners), "the session's data is gone"
        if place in MERGING and not acts & set(ENDING):
            writers = [("inner", inner), ("outer", outer)]
            expected = {name for name, seen in writers if seen.act in ("write", "grow", "shrink")}
            for values in owners:
                assert expected <= set(values), "an acknowledged write is lost"
                assert values["n"] == len(expected), "a counter is not exact"
        if place in MERGING and inner.act == "write" and inner.live and outer.act in ENDING and not outer.fenced:
            kept = left["outer"]
            assert kept is not None
            assert kept["inner"] == "w", "a write before the change of the id is lost"
    if acts == {"regenerate"}:
        assert sum(left[name] is not None for name in ("inner", "outer")) == 1, "two live ids"


@pytest.mark.parametrize("outer_act", ACTS)
@pytest.mark.parametrize("inner_act", ACTS)
@pytest.mark.parametrize("place", LOCAL)
@pytest.mark.parametrize("driver", DRIVERS)
def test_every_interleaving_of_two_requests(
    open_tab: Callable[..., Tab], clock: FakeClock, driver: str, place: str, inner_act: str, outer_act: str
) -> None:
    """Writes are kept, counters exact, ended ids dead, logins kept, losers silent: at every point in time."""
    tab = open_tab(place, driver=driver, timeout=1000, absolute_timeout=1e6)
    store = interrupt(tab.middleware.context)
    for at in range(40):
        tab.cookies.clear()
        store.quiet()
        tab.do(put(secret=1, n=0))
        # Both requests find the access time due to be written.
        clock.advance(150)
        old = tab.copy()
        inner, outer = Seen(inner_act, tab.copy()), Seen(outer_act, tab.copy())
        if not interleave(tab, store, inner, outer, at):
            assert at > 0
            return
        check(place, old, inner, outer)
        # Nothing has come back once the life of a late tombstone is over.
        clock.advance(310)
        check(place, old, inner, outer)
    raise AssertionError("a request of forty store operations")


@pytest.mark.parametrize("inner_act", ["write", "grow", "shrink", "logout", "regenerate", "login", "read"])
@pytest.mark.parametrize("outer_act", ["grow", "shrink"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("driver", DRIVERS)
def test_every_interleaving_of_hybrid_transitions(
    open_tab: Callable[..., Tab], clock: FakeClock, driver: str, inner_act: str, outer_act: str, big: bool
) -> None:
    """Moving to the store and back beside another request loses, revives and doubles nothing."""
    tab = open_tab("hybrid in cookie", driver=driver, timeout=2000, absolute_timeout=1e6, cookie_max=1500)
    store = interrupt(tab.middleware.context)
    # A session that stays in its cookie has no record to merge in.
    place = "hybrid in store" if big else "hybrid in cookie"
    for at in range(60):
        tab.cookies.clear()
        store.quiet()
        tab.do(put(secret=1, n=0, fill="f" * (3000 if big else 1)))
        clock.advance(1)
        old = tab.copy()
        inner, outer = Seen(inner_act, tab.copy()), Seen(outer_act, tab.copy())
        if not interleave(tab, store, inner, outer, at):
            assert at > 0
            return
        check(place, old, inner, outer)
        clock.advance(400)
        check(place, old, inner, outer)
    raise AssertionError("a request of sixty store operations")
