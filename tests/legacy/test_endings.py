"""What old cookies lead to once their session was ended, revoked or damaged, and what errors say about them."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.exceptions import StoreUnavailable
from beaker.session.legacy.records import open_records
from beaker.session.proxy import SessionObject
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import SessionHarness, Tab
from tests.legacy.corpus import COOKIE, pick
from tests.legacy.test_forgeries import Deployment, stamped
from tests.session.faults import interrupt

put = SessionHarness.put
Arrive = Callable[..., Tab]

FILE = pick(beaker="1.14.1", type="file", serializer="pickle", crypto=None, unsigned=None)
SEALED = pick(beaker="1.14.1", type="file", serializer="pickle", crypto="gcm")
SIGNED = pick(beaker="1.14.1", type="cookie", serializer="json", crypto=None)
BOTH = pytest.mark.parametrize("vector", [FILE, SIGNED], ids=["id", "data"])
STORED = pytest.mark.parametrize("place", ["memory", "hybrid in cookie"])


def number(session: SessionObject) -> Any:
    return session.get("number")


@BOTH
@STORED
@pytest.mark.parametrize("moment", range(8))
def test_a_logout_beside_a_takeover_wins(moment: int, place: str, vector: Any, arrive: Arrive) -> None:
    """A logout that presents an old cookie beside ours ends it, whatever a request with it alone was doing."""
    tab = arrive(vector, place, key="new")
    old = tab.cookies.pop(COOKIE)
    tab.do(put(number="ours"))
    tab.cookies[COOKIE] = old
    late = tab.copy()
    late.cookies = {COOKIE: old}
    watch = interrupt(tab.middleware.context)

    def other(name: str, at: int) -> None:
        if at == moment:
            watch.before = None
            tab.do(lambda session: session.logout())

    watch.before = other
    late.do(number)
    if watch.before is not None:
        watch.quiet()
        tab.do(lambda session: session.logout())
    assert late.do(number) is None
    assert late.do_with_header(f"{COOKIE}={old}", number) is None


@BOTH
@STORED
@pytest.mark.parametrize("end", ["login", "logout", "regenerate_id"])
def test_a_reader_that_comes_late_sends_no_cookie(end: str, place: str, vector: Any, arrive: Arrive) -> None:
    """Its session was given another id, or ended, while it ran: the browser has got the cookie that counts."""
    first = arrive(vector, place)
    second = first.copy()
    arguments = ["ann"] if end == "login" else []

    def slow(session: SessionObject) -> Any:
        found = number(session)
        second.do(lambda other: getattr(other, end)(*arguments))
        return found

    assert first.do(slow) == vector["number"]
    assert first.last.set_cookies == []
    assert second.do(lambda session: session.user) == ("ann" if end == "login" else None)


@BOTH
def test_revoking_everybody_reaches_readers(vector: Any, arrive: Arrive) -> None:
    """A read-only deployment does not show an old session that was revoked."""
    tab = arrive(vector, "file", readonly=True)
    assert tab.do(number) == vector["number"]
    tab.middleware.context.revoke(everybody=True)
    assert tab.do(number) is None


@STORED
def test_a_logout_beside_a_dead_cookie_ends_the_old_session(place: str, arrive: Arrive, clock: FakeClock) -> None:
    """Our session is over, the old one was never taken over: after the logout it does not appear."""
    tab = arrive(FILE, place, key="new", timeout=None)
    old = tab.cookies.pop(COOKIE)
    tab.do(put(number="ours"))
    tab.copy().do(lambda session: session.logout())
    clock.advance(400)
    tab.cookies[COOKIE] = old
    tab.do(lambda session: session.logout())
    assert tab.do_with_header(f"{COOKIE}={old}", number) is None


def test_a_plain_record_is_no_sealed_one(tmp_path: Path) -> None:
    """Where sessions were encrypted, who can write to the old store cannot put a session there."""
    deployment = Deployment(SEALED, tmp_path)
    for name in SEALED["files"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(pickle.dumps({"session": stamped(number=1)}, 2))
    assert deployment.open(SEALED["cookie"]).is_new


@BOTH
def test_a_damaged_new_record_is_no_error_of_the_request(vector: Any, arrive: Arrive) -> None:
    """What took the old session's place cannot be read: ``invalidate_corrupt`` turns that into a new session."""
    tab = arrive(vector, invalidate_corrupt=True)
    tab.do(number)
    store = tab.middleware.context.records.store
    (key,) = store.keys("beaker.session")
    store.set("beaker.session", key, b"garbage", ttl=None)
    assert tab.do_with_header(f"{COOKIE}={vector['cookie']}", number) is None


def test_an_unreachable_old_store_does_not_tell_ids(tmp_path: Path) -> None:
    """The file's name and the query's parameter are the session's id: no traceback shows them."""
    id = "0123456789abcdef" * 2
    # A file where the old store has its folders.
    (tmp_path / "0").touch()
    for kind, location in (("file", {"file_dir": str(tmp_path)}), ("ext:database", {"url": "sqlite://"})):
        with pytest.raises(StoreUnavailable) as caught:
            open_records(kind, location, 1000).read(id)
        assert caught.value.__cause__ is not None
        assert id not in "".join(traceback.format_exception(caught.value))
        assert id not in repr(caught.value.__context__)
