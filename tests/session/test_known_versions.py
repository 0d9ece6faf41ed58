"""A request that saves more than once: the store says which version it wrote, so nothing is read in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from beaker.session.proxy import SessionObject
from beaker.storage.api import Written
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import Handler, SessionHarness, Tab
from tests.session.faults import interrupt

put = SessionHarness.put
Open = Callable[..., Tab]


def watch(tab: Tab) -> list[str]:
    """The operations of the store from now on."""
    operations: list[str] = []
    interrupt(tab.middleware.context).before = lambda name, number: operations.append(name)
    return operations


def save(session: SessionObject, **values: Any) -> None:
    session.update(values)
    session.save()
    session.persist()


def saving(*steps: Any, **values: Any) -> Handler:
    """A handler that saves ``values``, then takes each of ``steps``."""

    def handler(session: SessionObject) -> None:
        save(session, **values)
        for step in steps:
            step(session)

    return handler


@pytest.mark.parametrize("place", ["memory", "file", "dbm", "sqlite"])
def test_a_second_save_reads_nothing(open_tab: Open, place: str) -> None:
    """Of what a request saves twice only the first save needs what was loaded."""
    tab = open_tab(place)
    tab.do(put(a=0))
    operations = watch(tab)
    tab.do(saving(saving(b=2), lambda s: s.monotonic("n", 1), saving(c=3), a=1))
    assert operations == ["read", "replace", "replace", "replace", "replace"]
    assert tab.do(lambda s: (s["a"], s["b"], s["c"], s.monotonic("n"))) == (1, 2, 3, 1)


def test_what_was_merged_in_stays(open_tab: Open) -> None:
    """A save that has merged in what another request saved is followed by one that reads the record and keeps it."""
    tab = open_tab("memory")
    tab.do(put(a=0))

    def late(session: SessionObject) -> None:
        session["a"] = 1
        tab.copy().do(put(theirs=1))
        save(session)
        operations.clear()
        save(session, b=2)

    operations = watch(tab)
    tab.do(late)
    assert operations == ["read", "replace"]
    assert tab.do(lambda s: (s["a"], s["b"], s["theirs"])) == (1, 2, 1)

    def counts(session: SessionObject) -> None:
        session["a"] += 0
        tab.copy().do(put(theirs=2))
        session.monotonic("n", 1)
        save(session, b=3)

    tab.do(counts)
    assert tab.do(lambda s: (s["b"], s["theirs"], s.monotonic("n"))) == (3, 2, 1)


def test_a_session_that_has_ended_since_stays_ended(open_tab: Open, clock: FakeClock) -> None:
    """A request that goes on past the end of its session does not bring it back, whether that was deleted or timed out,
    although the store still has the record."""
    tab = open_tab("memory", timeout=600)
    for end in (lambda s: tab.copy().do(lambda s: s.delete()), lambda s: clock.advance(601)):
        tab.do(put(a=0))
        tab.do(saving(end, saving(a=2), a=1))
        assert tab.do(lambda s: s.get("a")) is None
        tab.cookies.clear()
    tab.do(put(a=0))
    tab.do(saving(lambda s: clock.advance(601), lambda s: s.regenerate_id(), save, a=1))
    assert tab.do(lambda s: s.get("a")) is None


def test_a_save_is_an_access(open_tab: Open) -> None:
    """After a save, or a count, no further write records the access, however often that is due."""
    tab = open_tab("memory", touch_interval=0)
    tab.do(put(a=0))
    operations = watch(tab)
    tab.do(saving(lambda s: s.persist(), a=1))
    assert operations == ["read", "replace"]
    operations.clear()
    tab.do(lambda s: s.monotonic("n", 1))
    assert operations == ["read", "replace"]


def test_a_store_that_returns_true_is_read_again(open_tab: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store's plain ``True`` says nothing about the version."""
    tab = open_tab("memory")
    tab.do(put(a=0))
    store: Any = tab.middleware.context.records.store
    replace = store.replace
    monkeypatch.setattr(store, "replace", lambda *args, **options: bool(replace(*args, **options)))
    operations = watch(tab)
    tab.do(saving(saving(b=2), a=1))
    assert operations == ["read", "replace", "read", "replace"]
    assert tab.do(lambda s: (s["a"], s["b"])) == (1, 2)


def test_a_version_is_not_shown() -> None:
    """What a write returns is opaque, also where a log shows it; it is true, as ``True`` is."""
    assert repr(Written(b"version")) == "<Written>"
    assert Written(None)
