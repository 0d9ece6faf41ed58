"""Sessions whose store is unavailable: what works, what raises, what is never pretended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from beaker import counters
from beaker.exceptions import StoreUnavailable
from beaker.testing import FakeClock
from beaker.testing.session_harness import Tab


class Switch:
    """A store that can be switched off."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.off: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        if name in self.off:
            raise StoreUnavailable("off", backend="memory", operation=name)
        return getattr(self.store, name)


ALL = ("get", "read", "insert", "replace", "remove", "delete", "set")


def tab_with_switch(open_tab: Callable[..., Tab], **options: Any) -> tuple[Tab, Switch]:
    tab = open_tab("memory", **options)
    records = tab.middleware.context.records
    switch = records.store = Switch(records.store)
    return tab, switch


def put(**values: Any) -> Callable[[Any], None]:
    def handler(session: Any) -> None:
        session.update(values)
        session.save()

    return handler


def test_read_only_gives_an_empty_marked_session(open_tab: Callable[..., Tab]) -> None:
    """The application runs, nothing of what it sets is written, no cookie changes, and afterwards all is as before."""
    counters.reset()
    tab, switch = tab_with_switch(open_tab, on_unavailable="read_only", auto=True)
    tab.do(put(a=1))
    assert tab.do(lambda s: s.unavailable) is False
    before = dict(tab.cookies)
    switch.off = ALL
    assert tab.do(lambda s: (s.unavailable, dict(s).get("a"), s.user)) == (True, None, None)
    tab.do(put(a=2))
    assert not tab.last.set_cookies
    switch.off = ()
    assert dict(tab.cookies) == before
    assert tab.do(lambda s: (s.unavailable, s["a"])) == (False, 1)
    assert counters.snapshot().events["session_unavailable{memory}"] == 2


@pytest.mark.parametrize("act", ["login", "logout", "delete", "invalidate", "regenerate_id", "lock"])
def test_nothing_is_pretended(open_tab: Callable[..., Tab], act: str) -> None:
    """Logging in or out, a new id and a lock need the store: they raise, and the session lives on unchanged."""
    tab, switch = tab_with_switch(open_tab, on_unavailable="read_only")
    tab.do(put(a=1))
    switch.off = ALL

    def handler(session: Any) -> None:
        with pytest.raises(StoreUnavailable):
            getattr(session, act)(*(("ann",) if act == "login" else ()))

    tab.do(handler)
    assert not tab.last.set_cookies
    switch.off = ()
    assert tab.do(lambda s: (s["a"], s.user)) == (1, None)


def test_a_session_that_was_read_is_not_lost_for_a_time(open_tab: Callable[..., Tab], clock: FakeClock) -> None:
    """With ``read_only`` a page that only read costs nothing when the access cannot be recorded; a change raises."""
    tab, switch = tab_with_switch(open_tab, on_unavailable="read_only", timeout=1000)
    tab.do(put(a=1))
    clock.advance(500)
    switch.off = ("replace", "insert")
    assert tab.do(lambda s: s["a"]) == 1
    with pytest.raises(StoreUnavailable):
        tab.do(put(a=2))


def test_one_session_by_its_id_is_never_taken_for_absent(open_tab: Callable[..., Tab]) -> None:
    """``get_by_id`` raises: ``None`` would say that there is no such session."""
    tab, switch = tab_with_switch(open_tab, on_unavailable="read_only")
    tab.do(put(a=1))
    id = tab.do(lambda s: s.id)
    switch.off = ALL

    def handler(session: Any) -> None:
        with pytest.raises(StoreUnavailable):
            session.get_by_id(id)

    tab.do(handler)


def test_raise_is_the_default_of_sessions(open_tab: Callable[..., Tab]) -> None:
    """Without the option the application gets the error, and no cookie changes."""
    tab, switch = tab_with_switch(open_tab)
    tab.do(put(a=1))
    before = dict(tab.cookies)
    switch.off = ALL
    with pytest.raises(StoreUnavailable):
        tab.do(lambda s: s.get("a"))
    assert dict(tab.cookies) == before
