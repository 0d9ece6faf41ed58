"""Stores that really forget: restarted servers without persistence, and memory that runs out of room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.session.revocation import NAMESPACE
from beaker.storage.memory import MemoryStore
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import SECRET, SessionHarness, Tab
from tests.session.places import DRIVERS, tab_of
from tests.session.test_ledger import ENDS
from tests.storage.shared import session_options

put = SessionHarness.put


def user(session: Any) -> Any:
    return session.user


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("type", ["hybrid", "cookie"])
@pytest.mark.parametrize("server", ["memcached", "redis"])
@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_what_had_ended_stays_ended_after_a_restart(
    server: str, type: str, driver: str, kill: bool, request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock
) -> None:
    """Also for processes that knew nothing of it; a session of before is over, and a login of after it holds."""
    options = session_options(server, request, tmp_path)
    store = {"type": "hybrid", "store": options.pop("type")} if type == "hybrid" else {}
    if type == "cookie":
        store, options = {"type": "cookie", "revocation": options}, {}
        options["revocation"] = {**store["revocation"], "type": f"ext:{server}"}
    options = {**store, **options, "secret": SECRET, "clock": clock}
    tab, ended = tab_of(options, driver), {}
    for name, end in ENDS.items():
        tab.cookies.clear()
        tab.do(lambda s: s.login("ann"))
        tab.do(lambda s: s.monotonic("n", 1) if type == "cookie" else None)
        ended[name] = dict(tab.cookies)
        end(tab)
    tab.cookies.clear()
    tab.do(lambda s: s.login("bob"))
    running = request.getfixturevalue(f"{server}_server")
    running.stop(kill=kill)
    running.start()
    clock.advance(61)
    for process in (tab_of(options, driver), tab):
        bob = tab.copy()
        for cookies in (*ended.values(), bob.cookies):
            process.cookies = dict(cookies)
            assert process.do(user) is None
        process.do(lambda s: s.login("carl"))
        assert process.do(user) == "carl"


class TestPinnedInMemory:
    def open(self, clock: FakeClock, store: MemoryStore, **more: Any) -> Tab:
        tab = tab_of({"type": "hybrid", "store": "memory", "secret": SECRET, "clock": clock, **more})
        points: Any = tab.middleware.context.revocations
        points._points.store, tab.middleware.context.records.store = store, store
        store.pin(NAMESPACE)
        return tab

    @pytest.mark.parametrize("bound", [{"max_entries": 40}, {"max_bytes": 40 * 700}], ids=["entries", "bytes"])
    def test_visitors_do_not_push_points_out(self, clock: FakeClock, bound: dict[str, Any]) -> None:
        """A thousand records of other sessions leave what was ended where it is."""
        store = MemoryStore(clock=clock, **bound)
        tab = self.open(clock, store)
        tab.do(lambda s: s.login("ann"))
        kept = tab.copy()
        tab.do(lambda s: s.logout())
        bob = tab.copy()
        bob.do(lambda s: s.login("bob"))
        for n in range(1000):
            store.set("beaker.session", str(n), b"x" * 200, ttl=None)
            if n % 20 == 0:
                # The ledger is in use, the point is not.
                clock.advance(61)
                assert bob.do(user) == "bob"
        other = self.open(clock, store)
        other.cookies = dict(kept.cookies)
        assert other.do(user) is None
        assert bob.do(user) == "bob"
        assert len(store) <= bound.get("max_entries", 10**9)
        assert store.bytes_used <= bound.get("max_bytes", 10**9)
        assert "999" in set(store.keys("beaker.session"))

    @pytest.mark.parametrize("bound", [{"max_entries": 40}, {"max_bytes": 40 * 700}], ids=["entries", "bytes"])
    def test_more_points_than_fit_end_every_session_of_before(self, clock: FakeClock, bound: dict[str, Any]) -> None:
        """They go all together with the ledger, so that nothing opens again; and they leave room for sessions."""
        store = MemoryStore(clock=clock, **bound)
        tab = self.open(clock, store)
        tab.do(lambda s: s.login("ann"))
        kept = tab.copy()
        tab.do(lambda s: s.logout())
        store.set("beaker.session", "bystander", b"x", ttl=None)
        for _ in range(60):
            tab.cookies.clear()
            tab.do(put(a=1))
            tab.do(lambda s: s.logout())
            store.get("beaker.session", "bystander")
        clock.advance(61)
        other = self.open(clock, store)
        other.cookies = dict(kept.cookies)
        assert other.do(user) is None
        assert store.get("beaker.session", "bystander") == b"x"
        assert sum(1 for _ in store.keys(NAMESPACE)) <= 21


def test_a_context_pins_its_points(open_tab: Callable[..., Tab]) -> None:
    """What a session's configuration opens in memory is pinned without being told."""
    tab = open_tab("memory")
    tab.do(lambda s: s.login("ann"))
    points: Any = tab.middleware.context.revocations
    assert list(points.store._pinned) == [NAMESPACE]
