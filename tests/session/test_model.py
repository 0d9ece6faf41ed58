"""Two visitors' tabs doing anything in any order, compared with a model a page long; one suite for all places."""

from __future__ import annotations

import operator
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import hypothesis
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from beaker.crypto.keyring import new_key
from beaker.exceptions import BeakerException
from beaker.session.proxy import SessionObject
from beaker.session.records import CLOCKS, TOMBSTONE_TTL
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import COOKIE, Handler
from tests.session.places import DRIVERS, LOCAL, SERVERS, Options, middleware_of, options_by, tab_class

TIMEOUT, ABSOLUTE = 1000.0, 5000.0
BEHIND = 55.0
"""Seconds a clock may be set back without any visitor losing a session: within the skew of a minute."""
TABS, KEYS = st.integers(0, 1), st.sampled_from(["a", "b", "n"])


@dataclass
class Identity:
    """A session id: when it began, when it was ended, and under which id its session went on."""

    created: float
    died: float | None = None
    successor: Identity | None = None


@dataclass
class Holding:
    """What one cookie leads to. Where sessions live in a store all cookies of an id share one of these."""

    identity: Identity
    accessed: float
    values: dict[str, Any] = field(default_factory=dict)
    count: list[int] = field(default_factory=lambda: [0])
    """A number that only grows, of all ids that the session goes on under."""


class Sessions(RuleBasedStateMachine):
    place: ClassVar[str]
    options: ClassVar[Callable[[Path], Options]]
    driver: ClassVar[str] = "wsgi"

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="beaker-model-"))
        self.clock = FakeClock()
        self.latest = self.clock()
        self.keys = [new_key()]
        self.handlers: list[Handler] = []
        self.shared = self.place not in ("revocable cookie", "hybrid in cookie")
        self.build()
        self.tabs = [tab_class(self.driver)(self.middleware, self.handlers) for _ in range(2)]
        self.held: list[Holding | None] = [None, None]

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    def build(self) -> None:
        options = {**type(self).options(self.directory), "timeout": TIMEOUT, "absolute_timeout": ABSOLUTE}
        options |= {"touch_interval": 0, "validate_key": list(self.keys), "secret": None, "clock": self.clock}
        self.middleware = middleware_of(self.driver, self.handlers, options)

    # -- the model ---------------------------------------------------------------------------------

    def alive(self, tab: int) -> Holding | None:
        """What the tab's cookie opens now."""
        holding = self.held[tab]
        now = self.clock()
        if holding is None or holding.identity.died is not None:
            return None
        if now - holding.accessed >= TIMEOUT or now - holding.identity.created >= ABSOLUTE:
            return None
        return holding

    def fenced(self, tab: int) -> bool:
        """The tab's session ended a moment ago, so that its requests write nothing."""
        holding = self.held[tab]
        if holding is None or holding.identity.died is None:
            return False
        ended = self.clock() - holding.accessed >= TIMEOUT or self.clock() - holding.identity.created >= ABSOLUTE
        if not self.shared and ended:
            return False
        # An end in the future, after a clock was set back, says nothing of requests in flight.
        return abs(self.clock() - holding.identity.died) <= CLOCKS

    def access(self, tab: int) -> Holding | None:
        """A request of the tab: an access to a session is noted, unless the clock was set back meanwhile."""
        holding = self.alive(tab)
        if holding is not None and self.clock() >= holding.accessed:
            self.renew(tab, holding)
        return self.alive(tab)

    def renew(self, tab: int, holding: Holding) -> None:
        if self.shared:
            holding.accessed = self.clock()
        else:
            self.held[tab] = Holding(holding.identity, self.clock(), dict(holding.values))

    def write(self, tab: int, key: str, value: Callable[[dict[str, Any]], int]) -> None:
        """A save of the tab in which ``key`` becomes ``value(earlier values)``."""
        if self.fenced(tab):
            return
        holding = self.access(tab)
        if holding is None:
            holding = self.held[tab] = Holding(Identity(self.clock()), self.clock())
        new = value(holding.values)
        if holding.values.get(key) != new:
            self.renew(tab, holding)
            now_held = self.held[tab]
            assert now_held is not None
            now_held.values[key] = new

    # -- the rules ---------------------------------------------------------------------------------

    @rule(tab=TABS)
    def read(self, tab: int) -> None:
        seen = self.tabs[tab].do(lambda s: {key: s[key] for key in s if not key.startswith("_")})
        holding = self.access(tab)
        assert seen == ({} if holding is None else {k: v for k, v in holding.values.items() if k != "_user"})

    @rule(tab=TABS)
    def ask_user(self, tab: int) -> None:
        user = self.tabs[tab].do(lambda s: s.user)
        holding = self.access(tab)
        assert user == (None if holding is None else holding.values.get("_user"))

    @rule(tab=TABS, key=KEYS, value=st.integers(0, 99))
    def put(self, tab: int, key: str, value: int) -> None:
        def handler(session: SessionObject) -> None:
            session[key] = value
            session.save()

        self.tabs[tab].do(handler)
        self.write(tab, key, lambda values: value)

    @rule(tab=TABS, key=KEYS)
    def remove(self, tab: int, key: str) -> None:
        def handler(session: SessionObject) -> None:
            if session.pop(key, None) is not None:
                session.save()

        self.tabs[tab].do(handler)
        holding = self.access(tab)
        if holding is not None and key in holding.values:
            self.renew(tab, holding)
            now_held = self.held[tab]
            assert now_held is not None
            del now_held.values[key]

    @rule(tab=TABS, by=st.integers(1, 9))
    def increment(self, tab: int, by: int) -> None:
        def handler(session: SessionObject) -> None:
            session.increment("n", by)
            session.save()

        self.tabs[tab].do(handler)
        self.write(tab, "n", lambda values: values.get("n", 0) + by)

    @rule(tab=TABS, n=st.integers(0, 2))
    def count(self, tab: int, n: int) -> None:
        """A number that only grows is the same for every cookie of the session, and follows it to its new ids."""
        if not self.shared:
            return
        if self.fenced(tab):
            with pytest.raises(BeakerException, match="ended meanwhile"):
                self.tabs[tab].do(lambda s: s.monotonic("m", n))
            return
        seen = self.tabs[tab].do(lambda s: s.monotonic("m", n))
        holding = self.access(tab)
        if holding is None and n:
            holding = self.held[tab] = Holding(Identity(self.clock()), self.clock())
        if holding is not None:
            holding.count[0] += n
        assert seen == (0 if holding is None else holding.count[0])

    @rule(tab=TABS, other=TABS, value=st.integers(0, 99))
    def overlap(self, tab: int, other: int, value: int) -> None:
        """Both requests have loaded before either saves; they change different keys."""
        if tab == other or not self.shared:
            return
        first, second = self.tabs[tab], self.tabs[other]

        def put_b(session: SessionObject) -> None:
            session["b"] = value
            session.save()

        def late(session: SessionObject) -> None:
            session.get("x")
            second.do(put_b)
            session["a"] = value
            session.save()

        first.do(late)
        same = self.alive(tab) is not None and self.alive(tab) is self.alive(other)
        for which, key in ((other, "b"), (tab, "a")):
            self.write(which, key, lambda values: value)
        assert not same or self.alive(tab) is self.alive(other)

    @rule(tab=TABS, copied=st.booleans())
    def regenerate(self, tab: int, copied: bool) -> None:
        if copied:
            self.copy_cookies(tab, 1 - tab)
        self.tabs[tab].do(lambda s: s.regenerate_id())
        holding = self.access(tab)
        if holding is not None:
            self.move(tab, holding, holding.identity.created)
        self.read(1 - tab)

    @rule(tab=TABS, name=st.sampled_from(["ann", "bob"]), copied=st.booleans())
    def login(self, tab: int, name: str, copied: bool) -> None:
        if copied:
            self.copy_cookies(tab, 1 - tab)
        self.tabs[tab].do(lambda s: s.login(name))
        holding = self.access(tab)
        if holding is None:
            self.held[tab] = Holding(Identity(self.clock()), self.clock())
        else:
            self.move(tab, holding, self.clock())
        now_held = self.held[tab]
        assert now_held is not None
        now_held.values["_user"] = name
        self.read(1 - tab)

    def move(self, tab: int, holding: Holding, created: float) -> None:
        holding.identity.died = self.clock()
        holding.identity.successor = Identity(created)
        self.held[tab] = Holding(holding.identity.successor, self.clock(), dict(holding.values), holding.count)

    @rule(tab=TABS, copied=st.booleans(), way=st.sampled_from(["logout", "delete", "invalidate"]))
    def end(self, tab: int, copied: bool, way: str) -> None:
        if copied:
            self.copy_cookies(tab, 1 - tab)
        self.tabs[tab].do(operator.methodcaller(way))
        holding = self.alive(tab)
        if holding is not None:
            holding.identity.died = self.clock()
        elif self.held[tab] is not None:
            self.end_successors(self.held[tab])
        if COOKIE not in self.tabs[tab].cookies:
            self.held[tab] = None
        self.read(1 - tab)

    def end_successors(self, holding: Holding | None) -> None:
        """A logout with a cookie from before a change of the id, for as long as the end of the old id is known."""
        now = self.clock()
        assert holding is not None
        if not self.shared and self.is_over(holding):
            return
        lasts, at = (TOMBSTONE_TTL if self.shared else ABSOLUTE), holding.identity
        while at.successor is not None and at.died is not None and now < at.died + lasts:
            if self.shared:
                at.died = now
            at = at.successor
        if at is not holding.identity and (at.died is None or self.shared):
            at.died = now

    def is_over(self, holding: Holding) -> bool:
        now = self.clock()
        return now - holding.accessed >= TIMEOUT or now - holding.identity.created >= ABSOLUTE

    @rule(tab=TABS, other=TABS)
    def copy_cookies(self, tab: int, other: int) -> None:
        """Another device, or a thief, with the cookie of this moment."""
        self.tabs[other].cookies = dict(self.tabs[tab].cookies)
        held = self.held[tab]
        copied = held is None or self.shared
        self.held[other] = held if copied or held is None else Holding(held.identity, held.accessed, dict(held.values))

    @rule(seconds=st.sampled_from([1.0, 70.0, 290.5, 400.25, 999.5, 1200.0, 400 * 86400.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.latest = max(self.latest, self.clock())

    @rule(seconds=st.sampled_from([0.5, 20.0, BEHIND]))
    def set_clock_back(self, seconds: float) -> None:
        """The clock is corrected, or the next request reaches another host: no visitor is logged out."""
        self.clock.advance(max(-seconds, self.latest - BEHIND - self.clock()))

    @rule()
    def rotate(self) -> None:
        """A new key seals, the one before it still opens. No live session is lost."""
        for number, tab in enumerate(self.tabs):
            if self.alive(number) is None:
                # What a dead cookie of a dropped key leads to is no longer known, so such a one is not kept here.
                tab.cookies.clear()
                self.held[number] = None
        for tab in self.tabs:
            tab.do(lambda s: s.get("a"))
        for number in range(2):
            self.access(number)
        self.keys = [new_key(), *self.keys][:2]
        self.build()
        for tab in self.tabs:
            tab.app = tab.middleware = self.middleware
            tab.do(lambda s: s.get("a"))
        for number in range(2):
            self.access(number)


@pytest.mark.parametrize("place", [*LOCAL, *SERVERS])
@pytest.mark.parametrize("driver", DRIVERS)
def test_any_order_of_actions_agrees_with_the_model(
    driver: str, place: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Login, logout, set, delete, increment, overlap, regenerate, expire, rotate, clock jumps, copy: as the model."""
    if place in LOCAL:
        examples, options = 40, lambda directory: options_by(place, request, directory)
    else:
        # One table or project for all examples: every session has an id of its own.
        there = options_by(place, request, tmp_path)
        examples, options = 15 if "google" in place else 40, lambda directory: there
    machine = type("Sessions", (Sessions,), {"place": place, "options": staticmethod(options), "driver": driver})
    settings = hypothesis.settings(max_examples=examples, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(machine, settings=settings)
