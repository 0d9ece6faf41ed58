"""Every session real Beakers wrote, taken over by every kind of our sessions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.session.proxy import SessionObject
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import SECRET, SessionHarness, Tab
from tests.legacy.corpus import COOKIE, LOCAL, REMOTE, VECTORS, Vector, cookie_of, expected, label, pick, remains, until

PLACES = ("memory", "file", "sqlite", "encrypted file", "cookie", "revocable cookie", "hybrid in cookie")


put = SessionHarness.put


def values_of(session: SessionObject) -> dict[str, Any]:
    return {key: value for key, value in session._session().items() if key not in ("_accessed_time", "_creation_time")}


def typed(value: Any) -> Any:
    """``value`` with its types spelled out, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return {(type(key), key): typed(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value), [typed(item) for item in value]
    return type(value), value


def taken_over(tab: Tab, vector: Vector) -> None:
    """The session is whole, of its old age, and goes on under our cookie."""
    refused = {name: n for name, n in counters.snapshot().events.items() if name.startswith("legacy_refused")}
    found, is_new, created = tab.do(lambda session: (values_of(session), session.is_new, session["_creation_time"]))
    assert typed(found) == typed(expected(vector))
    assert not is_new
    assert created < tab.middleware.context.clock() - 50
    assert tab.cookies[COOKIE] != vector["cookie"]
    assert tab.cookies[COOKIE][0] in "AB"
    tab.do(put(more="than before"))
    assert typed(tab.do(values_of)) == typed({**expected(vector), "more": "than before"})
    assert {n: c for n, c in counters.snapshot().events.items() if n.startswith("legacy_refused")} == refused


def ends_for_good(tab: Tab, vector: Vector, clock: FakeClock) -> None:
    """After a logout neither cookie opens anything, at once or when tombstones are gone."""
    ours = f"{COOKIE}={tab.cookies[COOKIE]}"
    tab.do(lambda session: session.logout())
    assert COOKIE not in tab.cookies
    for later in (0, 400):
        clock.advance(later)
        for header in (ours, cookie_of(vector)):
            assert tab.do_with_header(header, values_of) == {}


@pytest.mark.parametrize("vector", LOCAL, ids=label)
@pytest.mark.parametrize("place", PLACES)
def test_every_old_session_is_read(
    place: str, vector: Vector, arrive: Callable[..., Tab], clock: FakeClock, tmp_path: Path
) -> None:
    """Its values are what the application had put in; its old cookie dies with it."""
    tab = arrive(vector, place)
    taken_over(tab, vector)
    if vector["type"] != "cookie":
        assert remains(vector, tmp_path / "old") is (place in ("cookie", "revocable cookie"))
    if place != "cookie":
        ends_for_good(tab, vector, clock)


@pytest.mark.parametrize("vector", REMOTE, ids=label)
@pytest.mark.parametrize("place", ["file", "revocable cookie", "hybrid in cookie"])
def test_every_old_session_of_a_server_is_read(
    place: str,
    vector: Vector,
    arrive: Callable[..., Tab],
    clock: FakeClock,
    tmp_path: Path,
    memcached_server: Any,
    redis_server: Any,
) -> None:
    """As above, from memcached and Redis."""
    url = redis_server.url if vector["type"] == "ext:redis" else memcached_server.address
    tab = arrive(vector, place, at=url)
    taken_over(tab, vector)
    assert remains(vector, tmp_path, url) is (place == "revocable cookie")
    ends_for_good(tab, vector, clock)


@pytest.mark.parametrize("vector", [v for v in LOCAL if v["beaker"] == "1.14.1"], ids=label)
@pytest.mark.parametrize("type", ["ext:redis", "ext:memcached"])
def test_the_new_store_may_be_a_server(
    type: str, vector: Vector, arrive: Callable[..., Tab], clock: FakeClock, memcached_server: Any, redis_server: Any
) -> None:
    """The marks of sessions taken over last there for all the time until the policy ends."""
    url = redis_server.url if type == "ext:redis" else memcached_server.address
    tab = arrive(vector, "memory", type=type, url=url, secret=SECRET, policy={"until": until(80)})
    # Other tests may have taken over the same session on this server.
    tab.middleware.context.records.store.clear("beaker.session.legacy")
    tab.middleware.context.records.store.clear("beaker.session")
    taken_over(tab, vector)
    ends_for_good(tab, vector, clock)


def test_the_corpus_is_whole() -> None:
    """Every version, store and kind of encryption that the reader promises is in it."""
    assert {vector["beaker"] for vector in VECTORS} == {"1.5.4", "1.6.4", "1.8.1", "1.11.0", "1.13.0", "1.14.1"}
    for serializer in ("pickle", "json"):
        for type in ("cookie", "file", "dbm", "ext:database", "ext:memcached", "ext:redis"):
            assert pick(beaker="1.14.1", type=type, serializer=serializer)
        for crypto in ("gcm", "ctr"):
            for nonce in (128, 48):
                assert pick(beaker="1.14.1", type="cookie", serializer=serializer, crypto=crypto, nonce=nonce)
            assert pick(beaker="1.14.1", type="file", serializer=serializer, crypto=crypto)
