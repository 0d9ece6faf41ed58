"""Sessions full of canaries go through every failure while the leak scan (tests/leaks.py) listens."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import CacheManager
from beaker.crypto.keyring import KeyRing, new_key
from beaker.crypto.tokens import store_key
from beaker.exceptions import (
    BeakerException,
    BeakerWarning,
    ConfigError,
    CorruptRecord,
    SessionTooLarge,
    StoreUnavailable,
    UnserializableValue,
    ValueTooLarge,
    WriteConflict,
)
from beaker.middleware import SessionMiddleware
from beaker.session.proxy import SessionObject
from beaker.session.records import NAMESPACE
from beaker.testing.session_harness import COOKIE, SessionHarness, Tab
from tests.leaks import Scan, canary
from tests.session.faults import interrupt
from tests.session.places import LOCAL, MERGING, opened, options_of, tab_of
from tests.storage.shared import session_options

put = SessionHarness.put


def filled(tab: Tab) -> str:
    """Log in, and leave a canary as the user, as a value, deep in a value and in a set."""
    value = canary()
    tab.do(put(card=value, deep=[{"a": (value,)}], seen={value}))
    tab.do(lambda s: s.login(value))
    tab.do(lambda s: s.add("seen", value + "2"))
    return value


@pytest.mark.parametrize("place", LOCAL)
def test_what_goes_well_says_nothing(place: str, tmp_path: Path) -> None:
    """Login, changes, reprs of everything in reach, another id, revocation, logout."""
    tab = opened(place, tmp_path)
    value = filled(tab)

    def look(session: SessionObject) -> str:
        inner: Any = session._session()
        things = (session, inner, inner._snapshot, inner._backend, inner._context, tab.middleware, inner._steps)
        return " ".join(map(repr, things))

    shown = tab.do(look)
    Scan.current.note("reprs", shown)
    assert value not in shown
    thief = tab.copy()
    tab.do(lambda s: s.regenerate_id())
    assert tab.do(lambda s: s.user) == value
    assert tab.do(lambda s: s.get_by_id("x" * 43)) is None
    tab.middleware.revoke(user=value)
    assert tab.do(lambda s: s.user) is None
    assert thief.do(lambda s: s.user) is None
    filled(tab)
    tab.do(lambda s: s.logout())


@pytest.mark.parametrize("place", LOCAL)
def test_values_that_cannot_be_stored_are_not_shown(place: str, tmp_path: Path) -> None:
    """UnserializableValue names the path, which is made of keys, and the type, not the value."""
    tab = opened(place, tmp_path, serializer="json")
    value = filled(tab)

    class Card:
        def __repr__(self) -> str:
            return f"<Card {value}>"

    for bad in (Card(), [value, Card()], {value, Card()}, {"k": {value: 1, "c": Card()}}, value + "\ud800"):
        with pytest.raises(UnserializableValue, match="deep"):
            tab.do(put(deep=bad))
    with pytest.raises((TypeError, BeakerException)):
        tab.do(lambda s: s.login(Card()))
    assert tab.do(lambda s: s["card"]) == value


@pytest.mark.parametrize("place", ["revocable cookie", "file", "memory"])
def test_a_session_that_is_too_large_names_keys_only(place: str, tmp_path: Path) -> None:
    """Beyond the cookie, beyond the store's limit."""
    more: dict[str, Any] = {} if "cookie" in place else {"max_value": 1000}
    if place == "memory":
        more = {"max_bytes": 1000}
    tab = opened(place, tmp_path, **more)
    with pytest.raises((SessionTooLarge, ValueTooLarge)):
        tab.do(put(card=" ".join(canary() for _ in range(200))))


@pytest.mark.parametrize("place", MERGING)
def test_a_conflict_does_not_show_what_it_is_about(place: str, tmp_path: Path) -> None:
    """WriteConflict, and a policy of the application that fails."""

    def policy(key: str, base: Any, mine: Any, theirs: Any) -> Any:
        raise LookupError(key)

    for on_conflict, error in (("raise", WriteConflict), (policy, LookupError)):
        tab = opened(place, tmp_path, on_conflict=on_conflict)
        filled(tab)
        second = tab.copy()

        def late(session: SessionObject, second: Tab = second) -> None:
            session["card"] = canary()
            second.do(put(card=canary()))
            session.save()

        with pytest.raises(error):
            tab.do(late)


@pytest.mark.parametrize("done", [False, True], ids=["undone", "answer lost"])
@pytest.mark.parametrize("place", LOCAL)
def test_an_outage_says_what_failed_only(place: str, done: bool, tmp_path: Path) -> None:
    """A store that fails at each operation of reads, writes, logins and logouts."""
    tab = opened(place, tmp_path)
    store = interrupt(tab.middleware.context)
    for act in (lambda s: s.get("card"), put(card=canary()), lambda s: s.login(canary()), lambda s: s.logout()):
        for at in range(4):
            store.quiet()
            tab.cookies.clear()
            filled(tab)
            store.quiet()
            store.lose(at, done=done, repeat=True)
            try:
                tab.do(act)
            except StoreUnavailable as error:
                Scan.current.exception("an outage", error)
    store.quiet()


@pytest.mark.parametrize("key", [True, False], ids=["key", "no key"])
def test_a_damaged_record_is_not_quoted(key: bool, tmp_path: Path) -> None:
    """Bits turned in the stored bytes, and in what is inside an envelope that is right."""
    options: dict[str, Any] = {"type": "file", "data_dir": str(tmp_path), "invalidate_corrupt": False}
    tab = tab_of(options | ({"secret": new_key()} if key else {}))
    filled(tab)
    records = tab.middleware.context.records
    name = store_key(tab.do(lambda s: s._snapshot.id))
    good = records.store.get(NAMESPACE, name)
    inside = records.envelope.open(NAMESPACE, name, good).payload
    draw = random.Random(5)

    def damaged(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(draw.randint(1, 3)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        return bytes(changed[: len(changed) - draw.choice([0, 0, 1, 40])])

    caught = 0
    for turn in range(400):
        bad = damaged(good)
        if turn % 2:
            bad = records.envelope.seal(NAMESPACE, name, damaged(inside), stored=0.0, expires=None)
        records.store.set(NAMESPACE, name, bad, ttl=None)
        try:
            tab.do(lambda s: s.get("card"))
        except CorruptRecord as error:
            Scan.current.exception("a damaged record", error)
            caught += 1
    assert caught > 300


def test_a_cookie_that_is_refused_is_not_quoted(tmp_path: Path) -> None:
    """Cut, changed, of another key, expired, and not ASCII; also when a corrupt session is an error."""
    for place in ("revocable cookie", "hybrid in cookie", "hybrid in store", "file"):
        tab = opened(place, tmp_path, invalidate_corrupt=False, timeout=60)
        filled(tab)
        good = tab.cookies[COOKIE]
        for bad in (good[:-1], good[1:], good[:40] + "é" + good[41:], good + "=", good.swapcase()):
            tab.cookies[COOKIE] = bad
            assert tab.do(lambda s: s.is_new)
        strange = opened(place, tmp_path / "other", validate_key=new_key(), secret=None)
        strange.cookies[COOKIE] = good
        assert strange.do(lambda s: s.is_new)


def test_late_changes_warn_without_values(tmp_path: Path) -> None:
    """The warning about a change after the headers names the path only."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        session = environ["beaker.session"]
        session["card"] = canary()
        session.save()
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"x"
        session["card"] = canary()
        session.save()

    tab = Tab(SessionMiddleware(app, **options_of("revocable cookie", tmp_path)), [])
    with pytest.warns(BeakerWarning, match="after the headers"):
        tab.get()


def test_other_misuse_is_told_without_values(tmp_path: Path) -> None:
    """A read-only session, a pickle of one, a revoke without a store, a lock that is held."""
    tab = opened("file", tmp_path)
    filled(tab)
    readonly = opened("file", tmp_path, readonly=True)
    readonly.cookies = dict(tab.cookies)
    with pytest.raises(BeakerException):
        readonly.do(put(card=canary()))
    with pytest.raises(TypeError):
        tab.do(lambda s: s._session().__reduce__())
    revoking = opened("revocable cookie", tmp_path, revocation=False)
    with pytest.raises(BeakerException):
        revoking.middleware.revoke(user=canary())


@pytest.mark.parametrize("server", ["memcached", "redis", "postgres"])
def test_a_server_that_is_gone_is_named_and_nothing_else(
    server: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The driver's own errors, with their statements and parameters, do not come along."""
    tab = tab_of({**session_options(server, request, tmp_path), "secret": new_key()})
    filled(tab)
    request.getfixturevalue(f"{server}_server").stop()
    for act in (lambda s: s.get("card"), put(card=canary()), lambda s: s.login(canary()), lambda s: s.logout()):
        with pytest.raises(StoreUnavailable):
            tab.do(act)
    tab.cookies.clear()
    with pytest.raises(StoreUnavailable):
        tab.do(put(card=canary()))


def test_a_redis_without_memory_is_not_asked_to_repeat_what_it_was_sent(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A refused write names the server's code."""
    import redis

    options = session_options("redis", request, tmp_path)
    tab = tab_of({**options, "secret": new_key()})
    filled(tab)
    with redis.Redis.from_url(options["url"]) as client:
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises((StoreUnavailable, ValueTooLarge)):
                tab.do(put(card=canary()))
        finally:
            client.config_set("maxmemory", "0")


@pytest.mark.parametrize("column", ["data", "version"])
def test_a_table_that_does_not_fit_is_named_without_the_row(
    column: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """SQLAlchemy would print the statement's parameters, which are the session."""
    import sqlalchemy

    options = session_options("postgres", request, tmp_path)
    tab = tab_of({**options, "secret": new_key()})
    filled(tab)
    engine = sqlalchemy.create_engine(options["url"])
    with engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {options['table_name']} DROP COLUMN {column}")
    engine.dispose()
    for act in (lambda s: s.get("card"), put(card=canary())):
        with pytest.raises(BeakerException):
            tab.do(act)


def test_a_store_that_cannot_be_made_does_not_show_its_options(tmp_path: Path) -> None:
    """Stores are kept by their options, keys and urls among them: no KeyError of that search comes along."""
    key = new_key()
    KeyRing.from_option(key)
    with pytest.raises(ConfigError) as caught:
        CacheManager(type="ext:redis", secret=key, url=f"redis://:{key}@host/not-a-number").get_cache("n")
    Scan.current.exception("a store", caught.value)
    assert not isinstance(caught.value.__context__, KeyError)
