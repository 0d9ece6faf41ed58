"""What of an old session's content is kept, and what is reported about taking it over."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.exceptions import SessionTooLarge
from beaker.session.proxy import SessionObject
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import Tab
from tests.legacy.corpus import COOKIE, MADE, expected, pick, remains
from tests.legacy.test_forgeries import data_cookie

Arrive = Callable[..., Tab]

FILE = pick(beaker="1.14.1", type="file", serializer="pickle", crypto=None, unsigned=None)
SIGNED = pick(beaker="1.14.1", type="cookie", serializer="json", crypto=None)


def number(session: SessionObject) -> Any:
    return session.get("number")


@pytest.mark.parametrize("place", ["memory", "hybrid in cookie", "revocable cookie"])
def test_every_copy_of_an_old_cookie_ends_with_the_session(place: str, arrive: Arrive, clock: FakeClock) -> None:
    """Beaker sent a new cookie at each save: whichever came first, after a logout none opens anything."""
    copies = [data_cookie(_stored("x", at=at)) for at in (1, 2)]
    tab = arrive(SIGNED, place)
    assert tab.do_with_header(f"{COOKIE}={copies[1]}", lambda session: session["x"]) == 2
    tab.do(lambda session: session.logout())
    clock.advance(400)
    for copy in copies:
        assert tab.do_with_header(f"{COOKIE}={copy}", lambda session: session.get("x")) is None


def test_the_takeover_is_counted(arrive: Arrive) -> None:
    """``legacy_tokens`` counts the sessions taken over, by what carried them; ours do not count."""
    for vector, kind in ((FILE, "id"), (SIGNED, "cookie")):
        before = counters.snapshot().events.get(f"legacy_tokens{{{kind}}}", 0)
        tab = arrive(vector)
        tab.do(number)
        tab.do(number)
        assert counters.snapshot().events[f"legacy_tokens{{{kind}}}"] == before + 1


def test_the_application_keeps_all_but_bookkeeping(arrive: Arrive) -> None:
    """Old stamps, ids, domain and path are not values of the new session."""
    keys = arrive(SIGNED).do(lambda session: set(session._session()))
    assert keys - {"_accessed_time", "_creation_time"} == set(expected(SIGNED))


def _stored(key: str, **values: Any) -> bytes:
    stamps = {"_creation_time": MADE, "_accessed_time": MADE, "_id": "0" * 32, "_domain": None, "_path": "/"}
    values[key] = values.pop("at", None)
    return pickle.dumps({**stamps, **values}, 2)


def test_path_and_domain_of_the_application_are_kept(arrive: Arrive) -> None:
    """Those that can be sent are kept; those that would break out of the header are not."""
    tab = arrive(SIGNED)
    told = {"_path": "/shop", "_domain": "shop.example"}
    header = f"{COOKIE}={data_cookie(_stored('x', **told))}"
    assert tab.do_with_header(header, lambda session: (session.path, session.domain)) == ("/shop", "shop.example")
    evil = {"_path": "/;HttpOnly", "_domain": "a\r\nb", "_id": "1" * 32}
    header = f"{COOKIE}={data_cookie(_stored('x', **evil))}"
    tab.cookies.clear()
    assert tab.do_with_header(header, lambda session: (session.path, session.domain)) == ("/", None)


@pytest.mark.parametrize("user", ["sys-user-17", 17, ("a", 1), [1], {"a": {1}}])
def test_what_an_old_application_called_user_can_be_revoked(user: Any, arrive: Arrive) -> None:
    """``_user`` is what login() notes here: whatever an old session has there fails no request."""
    tab = arrive(SIGNED)
    header = f"{COOKIE}={data_cookie(_stored('x', at='here', _user=user))}"
    assert tab.do_with_header(header, lambda session: (session.user, session["x"])) == (user, "here")
    tab.middleware.context.revoke(user=user)
    assert tab.do(lambda session: session.get("x")) is None


def test_a_record_without_stamps_is_of_now(arrive: Arrive, tmp_path: Path, clock: FakeClock) -> None:
    """Beaker's clear() dropped them: such a record in the store is still a session."""
    tab = arrive(FILE)
    (path,) = (tmp_path / "old").rglob("*.cache")
    path.write_bytes(pickle.dumps({"session": base64.b64encode(pickle.dumps({"number": 3}, 2)).decode()}))
    assert tab.do(lambda session: (session["number"], session["_creation_time"])) == (3, clock())


def test_a_large_session_is_not_lost_to_a_small_cookie(arrive: Arrive, tmp_path: Path) -> None:
    """A session in a store that does not fit into a cookie fails loudly, and its record stays."""
    tab = arrive(FILE, "cookie", cookie_max=300)
    with pytest.raises(SessionTooLarge):
        tab.do(number)
    assert remains(FILE, tmp_path / "old")
