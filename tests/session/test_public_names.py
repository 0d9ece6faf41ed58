"""What ``session.`` offers: the manual's names and our documented additions, nothing of the parts between them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from beaker.middleware import SessionMiddleware
from beaker.session import SessionObject
from beaker.session.base import BaseSession
from beaker.session.opening import CookieSession, Session
from beaker.testing.session_harness import Tab
from tests.session.places import LOCAL

MANUAL = {
    # 2.2.1 and 2.5
    "id", "last_accessed", "domain", "path",
    # 5.1.4: Session and CookieSession
    "save", "revert", "lock", "unlock", "delete", "invalidate", "expire", "is_new",
}  # fmt: skip
OF_THE_PROXY = {"persist", "get_by_id", "accessed", "dirty", "commit", "finish", "release"}
ADDED = {
    "add",
    "cookie_expires",
    "created",
    "discard",
    "has_key",
    "increment",
    "login",
    "logout",
    "monotonic",
    "regenerate_id",
    "unavailable",
    "user",
}
# What programs written for Beaker up to 1.14 use; docs/migrating.md says what each does here.
OLDER = {"cookie", "dirty", "key", "load", "namespace", "request"}
OF_A_DICT = {name for name in dir(dict) if not name.startswith("_")}


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


@pytest.mark.parametrize("place", LOCAL)
def test_a_session_shows_documented_names_only(open_tab: Callable[..., Tab], place: str) -> None:
    """dir() of a session of every type, new and loaded, and of the proxy in environ, are these lists."""
    tab = open_tab(place)

    def look(session: SessionObject) -> tuple[set[str], set[str]]:
        session["a"] = 1
        session.save()
        return public(session._session()), public(session)

    for _ in range(2):
        inner, proxy = tab.do(look)
        assert inner == MANUAL | ADDED | OLDER | OF_A_DICT
        assert proxy == MANUAL | ADDED | OLDER | OF_A_DICT | OF_THE_PROXY


@pytest.mark.parametrize("place", ["memory", "revocable cookie"])
def test_looking_at_the_names_loads_nothing(open_tab: Callable[..., Tab], place: str) -> None:
    """A debugger that lists the names of an untouched session does not touch it."""
    names, accessed = open_tab(place).do(lambda s: (public(s), s.accessed()))
    assert names == MANUAL | ADDED | OLDER | OF_A_DICT | OF_THE_PROXY
    assert not accessed


def test_every_name_is_documented() -> None:
    """Every name that is not a dict's has a docstring, and a line in docs/api.md."""
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
    listed = {word for line in page.splitlines() if ":members:" in line for word in line.replace(",", " ").split()}
    for name in MANUAL | ADDED | OF_THE_PROXY:
        assert name in listed, name
        owner = SessionObject if name in OF_THE_PROXY else BaseSession
        assert name == "last_accessed" or getattr(owner, name).__doc__, name


def test_the_documented_classes_keep_their_places() -> None:
    """What docs/api.md names can be imported from there, and beaker.session exports the manual's classes."""
    import beaker.session
    from beaker.session.state import SessionState

    assert issubclass(BaseSession, SessionState)
    assert (beaker.session.Session, beaker.session.CookieSession) == (Session, CookieSession)
    assert SessionMiddleware.session is None


def test_every_older_name_is_documented() -> None:
    """Those of Beaker up to 1.14 have a row in docs/migrating.md."""
    page = (Path(__file__).parents[2] / "docs" / "migrating.md").read_text("utf-8")
    for name in OLDER:
        assert re.search(rf"[`.]{name}\b", page), name


def test_the_operators_of_a_dict(open_tab: Callable[..., Tab]) -> None:
    """``|=`` changes the session and keeps it, ``|`` is a dict of both, and reversed() goes through the keys."""
    tab = open_tab("memory")

    def operate(session: SessionObject) -> None:
        same = session
        same |= {"a": 1, "b": 2}
        assert same is session
        session |= [("c", 3)]
        assert {"c": 0, "d": 4} | session == {**session, "d": 4}
        assert session | {"c": 0} == {**session, "c": 0}
        assert session | session == dict(session)
        assert type(session | {}) is dict
        assert [key for key in reversed(session) if len(key) == 1] == ["c", "b", "a"]
        session.save()

    tab.do(operate)
    assert tab.do(lambda session: [session[key] for key in "abc"]) == [1, 2, 3]


def test_popitem_leaves_what_is_not_the_application_s(open_tab: Callable[..., Tab]) -> None:
    """It returns values until none is left, then raises KeyError; the session's stamps stay."""
    tab = open_tab("memory")

    def empty(session: SessionObject) -> list[object]:
        session.update(a=1, b=2)
        found = [session.popitem(), session.popitem()]
        with pytest.raises(KeyError, match="no value"):
            session.popitem()
        assert set(session) == {"_creation_time", "_accessed_time"}
        return found

    assert tab.do(empty) == [("b", 2), ("a", 1)]
