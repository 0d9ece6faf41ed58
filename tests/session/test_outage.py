"""A store that fails, at each of its operations, before and after it did its work."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import pytest

from beaker.exceptions import StoreUnavailable
from beaker.session.proxy import SessionObject
from beaker.testing.session_harness import COOKIE, Handler, Tab


class Flaky:
    """Passes everything on to ``store``, but fails once at ``operation``: before it, or after it was done."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.backend, self.max_value = store.backend, store.max_value
        self.operation, self.after = "", False

    @property
    def trusted(self) -> bool:
        return bool(self.store.trusted)

    def fail(self, operation: str, *, after: bool = False) -> None:
        self.operation, self.after = operation, after

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        fails = self.operation == name
        if fails:
            self.operation = ""
        if fails and not self.after:
            raise StoreUnavailable("no answer", backend=self.backend, operation=name)
        answer = getattr(self.store, name)(*args, **kwargs)
        if fails:
            raise StoreUnavailable("the answer was lost", backend=self.backend, operation=name)
        return answer

    def read(self, namespace: str, key: str) -> Any:
        return self._call("read", namespace, key)

    def get(self, namespace: str, key: str) -> Any:
        return self._call("get", namespace, key)

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        self._call("set", namespace, key, data, ttl=ttl)

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> Any:
        return self._call("insert", namespace, key, data, ttl=ttl)

    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> Any:
        return self._call("replace", namespace, key, data, version, ttl=ttl)

    def remove(self, namespace: str, key: str, version: Hashable) -> Any:
        return self._call("remove", namespace, key, version)

    def delete(self, namespace: str, key: str) -> None:
        self._call("delete", namespace, key)

    def clear(self, namespace: str) -> None:
        self._call("clear", namespace)


def put(**values: Any) -> Handler:
    def handler(session: SessionObject) -> None:
        session.update(values)
        session.save()

    return handler


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    tab = open_tab("memory")
    records = tab.middleware.context.records
    records.store = Flaky(records.store)
    return tab


def flaky(tab: Tab) -> Flaky:
    store: Flaky = tab.middleware.context.records.store
    return store


def test_an_unreadable_store_is_an_error_and_changes_no_cookie(tab: Tab) -> None:
    """A read that cannot be done raises StoreUnavailable; the session is there again when the store is."""
    tab.do(put(a=1))
    cookie = tab.cookies[COOKIE]
    flaky(tab).fail("read")
    with pytest.raises(StoreUnavailable, match="memory read"):
        tab.do(lambda s: s.get("a"))
    assert tab.cookies[COOKIE] == cookie
    assert tab.do(lambda s: s["a"]) == 1


def test_an_application_that_goes_on_gets_no_new_session(tab: Tab) -> None:
    """An application that catches the error and responds sends no cookie and writes nothing."""
    tab.do(put(a=1))

    def handler(session: SessionObject) -> None:
        with pytest.raises(StoreUnavailable):
            session.get("a")

    flaky(tab).fail("read")
    tab.do(handler)
    assert not tab.last.set_cookies
    assert tab.do(lambda s: s["a"]) == 1


def test_a_save_that_failed_is_an_error_and_the_old_values_stay(tab: Tab) -> None:
    """A write that was not done raises and leaves what was stored."""
    tab.do(put(a=1))
    flaky(tab).fail("replace")
    with pytest.raises(StoreUnavailable):
        tab.do(put(a=2))
    assert tab.do(lambda s: s["a"]) == 1


def test_a_new_session_that_could_not_be_stored_sends_no_cookie(tab: Tab) -> None:
    """The cookie of a session goes out only after its record is there."""
    flaky(tab).fail("insert")
    with pytest.raises(StoreUnavailable):
        tab.do(put(a=1))
    assert not tab.cookies


@pytest.mark.parametrize("operation", ["insert", "replace"])
def test_a_write_whose_answer_was_lost_is_recognised(tab: Tab, operation: str) -> None:
    """The write's own id in the record shows that it was done: no error, no second addition."""

    def add(session: SessionObject) -> None:
        session.increment("n")
        session.save()

    tab.do(add)
    if operation == "insert":
        # What a store needs once, for revocations, is there by now; the next session is new.
        tab.do(lambda s: s.delete())
    flaky(tab).fail(operation, after=True)
    tab.do(add)
    assert tab.do(lambda s: s["n"]) == (2 if operation == "replace" else 1)


@pytest.mark.parametrize(("operation", "after"), [("insert", False), ("replace", False), ("read", False)])
def test_a_change_of_the_id_that_failed_leaves_one_live_id(tab: Tab, operation: str, after: bool) -> None:
    """Whichever step fails, the old cookie still works, no new one was sent, and no second record is left."""
    tab.do(put(a=1))
    old = tab.copy()
    flaky(tab).fail(operation, after=after)
    with pytest.raises(StoreUnavailable):
        tab.do(lambda s: s.regenerate_id())
    assert tab.cookies == old.cookies
    assert old.do(lambda s: s["a"]) == 1
    assert len(list(flaky(tab).store.keys("beaker.session"))) == 1
