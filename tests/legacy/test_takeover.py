"""How an old session becomes one of ours: once, for all requests, for good, and not while a store is away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.exceptions import StoreUnavailable
from beaker.session.proxy import SessionObject
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import SessionHarness, Tab
from tests.legacy.corpus import COOKIE, MADE, cookie_of, pick, remains, until
from tests.session.faults import WRITES, interrupt
from tests.session.places import LOCAL

put = SessionHarness.put
Arrive = Callable[..., Tab]

FILE = pick(beaker="1.14.1", type="file", serializer="pickle", crypto=None, unsigned=None)
SIGNED = pick(beaker="1.14.1", type="cookie", serializer="json", crypto=None)
BOTH = pytest.mark.parametrize("vector", [FILE, SIGNED], ids=["id", "data"])
HOUR = 3600.0
STORED = pytest.mark.parametrize("place", ["memory", "file", "sqlite", "hybrid in cookie", "hybrid in store"])


def number(session: SessionObject) -> Any:
    return session.get("number")


def refused(reason: str) -> int:
    return counters.snapshot().events.get(f"legacy_refused{{{reason}}}", 0)


@BOTH
@STORED
def test_requests_that_arrive_together_meet_one_session(place: str, vector: Any, arrive: Arrive) -> None:
    """Whatever moment the second comes at, both read the old session and both cookies lead to the same new one."""
    tab = arrive(vector, place)
    old = dict(tab.cookies)
    watch = interrupt(tab.middleware.context)
    for moment in range(20):
        first, second = tab.copy(), tab.copy()
        first.cookies, second.cookies = dict(old), dict(old)
        met: list[int] = []

        def other(name: str, at: int, second: Tab = second, moment: int = moment, met: list[int] = met) -> None:
            if at == moment:
                watch.before = None
                assert second.do(number) == vector["number"]
                second.do(put(second="here"))
                met.append(at)

        # Everything back to the moment before the first request, the old record included.
        _forget(tab)
        arrive(vector, place)
        watch.quiet()
        watch.before = other
        assert first.do(number) == vector["number"]
        watch.quiet()
        if not met:
            assert moment >= 3
            return
        assert first.cookies[COOKIE] != vector["cookie"]
        assert first.do(lambda session: session.get("second")) == "here"
        assert second.do(lambda session: session.id) == first.do(lambda session: session.id)
    raise AssertionError("a request of so many operations")


def _forget(tab: Tab) -> None:
    records = tab.middleware.context.records
    for namespace in ("beaker.session", "beaker.session.legacy"):
        records.store.inner.clear(namespace)


@BOTH
@pytest.mark.parametrize("type", ["cookie", "revocable cookie"])
def test_requests_that_arrive_together_meet_one_cookie_session(type: str, vector: Any, arrive: Arrive) -> None:
    """Cookie sessions: a request that was sent before our cookie arrived still finds the old session."""
    tab = arrive(vector, type)
    late = tab.copy()
    assert tab.do(number) == vector["number"]
    tab.do(put(more=1))
    assert late.do(number) == vector["number"]
    assert late.do(lambda session: session.id) == tab.do(lambda session: session.id)


@BOTH
@STORED
def test_a_lost_answer_is_made_up_for(place: str, vector: Any, arrive: Arrive, tmp_path: Path) -> None:
    """When any operation of our store fails, before or after it was done, the next request has the session."""
    for done in (False, True):
        failed = at = 0
        while at == failed:
            tab = arrive(vector, place)
            watch = interrupt(tab.middleware.context)
            _forget(tab)
            watch.quiet()
            watch.lose(at, done=done)
            old = dict(tab.cookies)
            try:
                tab.do(number)
            except StoreUnavailable:
                tab.cookies = old
            failed += watch.number > at
            watch.quiet()
            assert tab.do(number) == vector["number"]
            at += 1
        assert failed >= 3


@STORED
def test_the_old_session_does_not_come_back(place: str, arrive: Arrive, tmp_path: Path, clock: FakeClock) -> None:
    """Also where its record could not be removed, and whenever the old cookie is presented until the policy ends."""
    tab = arrive(FILE, place)
    old = cookie_of(FILE)
    assert tab.do(number) == FILE["number"]
    # As if the removal had failed, or another instance of the old fleet had written it once more.
    arrive(FILE, place)
    tab.do(lambda session: session.logout())
    for later in (0, 301, 10 * 86400, 18 * 86400):
        clock.advance(later)
        before = refused("moved")
        assert tab.do_with_header(old, lambda session: dict(session.items()).get("number")) is None
        assert later in (0, 301) or refused("moved") == before + 1


@pytest.mark.parametrize("place", ["memory", "hybrid in cookie", "revocable cookie"])
@BOTH
def test_a_logout_in_the_first_request_ends_it(vector: Any, place: str, arrive: Arrive, tmp_path: Path) -> None:
    """The first request of an old session may be the logout: the record is removed, both cookies are cleared."""
    tab = arrive(vector, place, key="new")
    tab.do(lambda session: session.logout())
    assert tab.cookies == {}
    assert not remains(vector, tmp_path / "old")
    assert tab.do_with_header(cookie_of(vector), number) is None


@pytest.mark.parametrize("place", ["memory", "hybrid in cookie", "revocable cookie", "cookie"])
@BOTH
def test_an_old_cookie_of_another_name_goes(vector: Any, place: str, arrive: Arrive) -> None:
    """The response that sets our cookie also drops the old one."""
    tab = arrive(vector, place, key="new")
    assert tab.do(number) == vector["number"]
    assert set(tab.cookies) == {"new"}
    assert any(line.startswith(f"{COOKIE}=;") and "Max-Age=0" in line for line in tab.last.set_cookies)
    assert tab.do(number) == vector["number"]


@pytest.mark.parametrize("place", ["memory", "hybrid in cookie", "revocable cookie", "cookie"])
@BOTH
def test_keep_leaves_the_old_session_to_the_old_fleet(
    vector: Any, place: str, arrive: Arrive, tmp_path: Path, clock: FakeClock
) -> None:
    """With ``keep`` record and cookie stay while both fleets serve; a logout still ends the old session."""
    tab = arrive(vector, place, key="new", policy={"keep": True})
    assert tab.do(number) == vector["number"]
    assert tab.cookies[COOKIE] == vector["cookie"]
    assert remains(vector, tmp_path / "old") is (vector is FILE)
    tab.do(put(number="newer"))
    assert tab.do(number) == "newer"
    tab.do(lambda session: session.logout())
    assert tab.cookies == {}
    assert not remains(vector, tmp_path / "old")
    if place != "cookie":
        clock.advance(400)
        assert tab.do_with_header(cookie_of(vector), number) is None


@pytest.mark.parametrize("place", ["memory", "hybrid in cookie", "revocable cookie", "cookie"])
@BOTH
def test_a_read_only_deployment_reads_and_moves_nothing(
    vector: Any, place: str, arrive: Arrive, tmp_path: Path
) -> None:
    """With ``readonly`` the session is there, and record and cookie stay for who may write."""
    tab = arrive(vector, place, readonly=True)
    done: list[str] = []
    if place != "cookie":
        interrupt(tab.middleware.context).before = lambda name, at: done.append(name)
    for _ in range(2):
        assert tab.do(number) == vector["number"]
        assert tab.last.set_cookies == []
    assert not set(done) & set(WRITES)
    assert remains(vector, tmp_path / "old") is (vector is FILE)


@BOTH
def test_a_read_only_deployment_finds_what_was_moved(vector: Any, arrive: Arrive) -> None:
    """The old cookie leads there to the session that a writing one has taken over."""
    arrive(vector, "file").do(put(number="newer"))
    reader = arrive(vector, "file", readonly=True)
    watch, done = interrupt(reader.middleware.context), list[str]()
    watch.before = lambda name, at: done.append(name)
    assert reader.do(number) == "newer"
    assert reader.last.set_cookies == []
    assert not set(done) & set(WRITES)


@pytest.mark.parametrize("place", ["memory", "hybrid in cookie", "revocable cookie", "cookie"])
@BOTH
def test_after_until_nothing_is_read(vector: Any, place: str, arrive: Arrive, clock: FakeClock, tmp_path: Path) -> None:
    """From that second on; what was taken over before goes on."""
    tab = arrive(vector, place, policy={"until": until(1)}, timeout=None)
    late = tab.copy()
    assert tab.do(number) == vector["number"]
    arrive(vector)
    clock.seconds = MADE + 86400 - 1
    assert tab.do(number) == vector["number"]
    clock.advance(1)
    before = refused("until")
    assert late.do(number) is None
    assert refused("until") == before + 1
    assert tab.do(number) == vector["number"]


@BOTH
def test_a_session_of_after_the_cut_is_refused(vector: Any, arrive: Arrive) -> None:
    """``since`` is when the old fleet ended: what claims to have begun later was created with a stolen key."""
    before = refused("created")
    assert arrive(vector, policy={"since": until(-1)}).do(number) is None
    assert refused("created") == before + 1
    assert arrive(vector, policy={"since": until(0)}).do(number) == vector["number"]


@BOTH
def test_an_old_session_is_as_old_as_it_is(vector: Any, arrive: Arrive, clock: FakeClock) -> None:
    """Our timeouts count from the old stamps."""
    clock.seconds = MADE + 3000
    assert arrive(vector, timeout=2900).do(number) is None
    assert arrive(vector, absolute_timeout=2900).do(number) is None
    assert arrive(vector, timeout=4000).do(number) == vector["number"]


@BOTH
@STORED
def test_revoking_everybody_includes_old_sessions(place: str, vector: Any, arrive: Arrive) -> None:
    """A session that began before the point is not taken over."""
    tab = arrive(vector, place)
    tab.middleware.context.revoke(everybody=True)
    assert tab.do(number) is None


@pytest.mark.parametrize("place", ["memory", "hybrid in cookie", "revocable cookie", "cookie"])
def test_what_is_ours_comes_first(place: str, arrive: Arrive, clock: FakeClock) -> None:
    """Beside our session an old cookie does nothing; nor when ours was ended elsewhere, at once and later."""
    tab = _beside_ours(place, arrive)
    assert tab.do(number) == "ours"
    if place != "cookie":
        elsewhere = tab.copy()
        del elsewhere.cookies[COOKIE]
        elsewhere.do(lambda session: session.logout())
        for later in (0, 400):
            clock.advance(later)
            assert tab.do(number) is None


@pytest.mark.parametrize("place", ["memory", "hybrid in cookie", "revocable cookie", "cookie"])
def test_a_logout_ends_the_old_session_beside_ours(place: str, arrive: Arrive) -> None:
    """It is of the visitor: also where the old session was never taken over, and its record is still there."""
    tab = _beside_ours(place, arrive)
    tab.do(lambda session: session.logout())
    assert tab.cookies == {}
    arrive(FILE, place)
    if place != "cookie":
        assert tab.do_with_header(cookie_of(FILE), number) is None


def _beside_ours(place: str, arrive: Arrive) -> Tab:
    tab = arrive(FILE, place, key="new")
    old = tab.cookies.pop(COOKIE)
    tab.do(put(number="ours"))
    tab.cookies[COOKIE] = old
    return tab


@BOTH
@pytest.mark.parametrize("place", [*LOCAL, "cookie"])
@pytest.mark.parametrize("ahead", [61.0, HOUR, 365 * 24 * HOUR])
def test_a_session_of_a_host_whose_clock_was_ahead_is_taken_over(
    place: str, vector: Any, ahead: float, arrive: Arrive, clock: FakeClock
) -> None:
    """Its times count as now: it goes on, and ends as if it had begun with the takeover."""
    clock.advance(-60 - ahead)
    tab = arrive(vector, place, timeout=HOUR, absolute_timeout=2 * HOUR, policy={"until": until(1 - ahead / 86400)})
    assert tab.do(number) == vector["number"]
    assert tab.do(lambda s: max(s.created, s.last_accessed)) <= clock()
    tab.do(put(a=1))
    clock.advance(HOUR - 1)
    assert tab.do(lambda s: (s.get("number"), s.get("a"))) == (vector["number"], 1)
    clock.advance(HOUR - 1)
    tab.do(put(a=2))
    clock.advance(3)
    assert tab.do(number) is None
