"""A store that fails at the first, second, ... operation of a request, before or after doing it, once or always."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from beaker.exceptions import StoreUnavailable
from beaker.session.proxy import SessionObject
from beaker.testing.session_harness import SessionHarness, Tab
from tests.session.faults import interrupt
from tests.session.places import LOCAL

put = SessionHarness.put

ACTS: dict[str, Callable[[SessionObject], None]] = {
    "read": lambda s: s.get("secret"),
    "login": lambda s: s.login("ann"),
    "regenerate": lambda s: s.regenerate_id(),
    "logout": lambda s: s.logout(),
}


def write(session: SessionObject) -> None:
    session.increment("n")
    session["fill"] = "f" * 3000
    session.save()


ACTS["write"] = write


def alive(tab: Tab) -> dict[str, Any] | None:
    values: dict[str, Any] | None = tab.do(lambda s: None if s.is_new else {key: s[key] for key in s})
    return values


def expected_after_error(act: str, once: bool, values: dict[str, Any] | None) -> None:
    """What may be found under the cookie from before a failed request."""
    if act == "logout":
        assert values is None or values["secret"] == 1
        return
    if once:
        assert values is not None, "one failed operation has cost a session"
    if values is not None:
        assert values["secret"] == 1
        assert values["n"] in ((0, 1) if act == "write" else (0,))


@pytest.mark.parametrize("repeat", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("done", [False, True], ids=["undone", "answer lost"])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("place", LOCAL)
def test_every_operation_fails_once(
    open_tab: Callable[..., Tab], place: str, act: str, done: bool, repeat: bool
) -> None:
    """The error reaches the application, no cookie changes, nothing is lost or counted twice, no id doubles."""
    # A cookie session takes its size from the cookie; all others may grow.
    more: dict[str, Any] = {"chunks": 3} if place == "revocable cookie" else {}
    tab = open_tab(place, timeout=1000, absolute_timeout=1e6, **more)
    store = interrupt(tab.middleware.context)
    for at in range(40):
        tab.cookies.clear()
        store.quiet()
        tab.do(put(secret=1, n=0))
        old = tab.copy()
        store.quiet()
        store.lose(at, done=done, repeat=repeat)
        try:
            tab.do(ACTS[act])
        except StoreUnavailable:
            assert tab.cookies == old.cookies, "a failed request changed the cookie"
            store.quiet()
            expected_after_error(act, not repeat, alive(old))
        else:
            reached = store.number > at
            store.quiet()
            left = alive(tab)
            if act == "logout":
                assert left is None
                assert alive(old) is None
            else:
                assert left is not None
                assert left["secret"] == 1
                assert left["n"] == (act == "write")
                assert (alive(old) is None) or act in ("read", "write")
            if not reached:
                assert at > 0
                return
    raise AssertionError("a request of forty store operations")


@pytest.mark.parametrize("place", ["memory", "file", "sqlite"])
def test_an_answer_lost_to_a_client_that_tries_again_by_itself(open_tab: Callable[..., Tab], place: str) -> None:
    """A write that was done, and whose repetition was then refused, counts once, and its cookie is sent."""
    tab = open_tab(place)
    context = tab.middleware.context
    tab.do(put(secret=1, n=0))
    for act in ("write", "login", "regenerate"):
        inner = context.records.store

        class Repeating:
            def __getattr__(self, name: str, inner: Any = inner) -> Any:
                found = getattr(inner, name)
                if name not in ("replace", "insert"):
                    return found

                def twice(*args: Any, **kwargs: Any) -> Any:
                    found(*args, **kwargs)
                    return found(*args, **kwargs)

                return twice

        context.records.store = Repeating()
        tab.do(ACTS[act])
        context.records.store = inner
    assert tab.do(lambda s: (s["n"], s.user, s["secret"])) == (1, "ann", 1)
