"""Chapter 2 of the manual: its examples, run, and the names of 5.1.3 and 5.1.4."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.crypto.keyring import KeyRing
from beaker.crypto.tokens import DataTokens
from beaker.exceptions import BeakerWarning, ConfigWarning
from beaker.middleware import CacheMiddleware, SessionMiddleware
from beaker.runtime import Runtime
from beaker.session import CookieSession, Session, SessionObject, SignedCookie
from beaker.testing.browser import Browser
from beaker.testing.session_harness import OTHER_SECRET, SECRET


def names(callable_: Any) -> list[str]:
    return [name for name in inspect.signature(callable_).parameters if name != "self"]


def test_the_complete_example_runs(tmp_path: Path) -> None:
    """2.2: the application of the manual under SessionMiddleware, without a save()."""

    def simple_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        user = "logged_in" in session
        session["user_id"] = 10
        start_response("200 OK", [("Content-type", "text/plain")])
        return [f"User is logged in: {user}".encode()]

    options = {"session.type": "file", "session.cookie_expires": True, "session.data_dir": str(tmp_path)}
    browser = Browser(SessionMiddleware(simple_app, options))
    assert browser.get().text == "User is logged in: False"
    assert not browser.cookies, "nothing was saved, so nothing is remembered"


def test_the_example_runs_with_the_options_of_the_manual(tmp_path: Path) -> None:
    """2.2 to the letter: type file without a data_dir and without a secret is a configuration that works."""
    runtime = Runtime(temp_dir=str(tmp_path))
    with pytest.warns(ConfigWarning, match="set data_dir"):
        SessionMiddleware(_show, {"session.type": "file", "session.cookie_expires": True}, runtime=runtime)


def test_attributes_and_special_keys(tmp_path: Path) -> None:
    """2.2.1: id, last_accessed, and the keys _accessed_time and _creation_time."""
    session = Session({}, type="file", data_dir=str(tmp_path))
    assert session.last_accessed is None
    assert isinstance(session.id, str)
    assert len(session.id) >= 40
    assert session["_accessed_time"] == session["_creation_time"]


def test_save_stores_and_the_request_dict_gets_the_cookie(tmp_path: Path) -> None:
    """5.1.4: a Session over a plain dict loads from its cookie and leaves the new one in cookie_out."""
    request: dict[str, Any] = {}
    session = Session(request, type="file", data_dir=str(tmp_path), secret=SECRET)
    session["name"] = "Fred Smith"
    session.save()
    assert request["set_cookie"] is True
    cookie = request["cookie_out"].partition(";")[0]
    again = Session({"cookie": cookie}, type="file", data_dir=str(tmp_path), secret=SECRET)
    assert again["name"] == "Fred Smith"
    assert not again.is_new
    by_id = Session({}, id=session.id, use_cookies=False, type="file", data_dir=str(tmp_path), secret=SECRET)
    assert by_id["name"] == "Fred Smith"


def test_cookie_session_over_a_dict() -> None:
    """5.1.4: CookieSession keeps the data in the cookie; deleting clears it."""
    request: dict[str, Any] = {}
    session = CookieSession(request, validate_key=SECRET, encrypt_key=OTHER_SECRET)
    session["a"] = 1
    session.save()
    cookie = request["cookie_out"].partition(";")[0]
    again = CookieSession({"cookie": cookie}, validate_key=SECRET, encrypt_key=OTHER_SECRET)
    assert again["a"] == 1
    again.expire()
    again.delete()
    assert "a" not in again
    again.invalidate()
    assert again.is_new


def test_session_object_is_lazy_and_finds_by_id(tmp_path: Path) -> None:
    """2.1.1, 5.1.4: accessed() is False until the first touch; get_by_id finds a saved session and creates none."""
    session = SessionObject({}, type="file", data_dir=str(tmp_path))
    assert not session.accessed()
    session["a"] = 1
    assert session.accessed()
    session.save()
    session.persist()
    found = session.get_by_id(session.id)
    assert found is not None
    assert found["a"] == 1
    before = sorted(tmp_path.rglob("*"))
    assert session.get_by_id("A" * 43) is None
    assert session.get_by_id("../../etc/passwd") is None
    from_outside: list[Any] = [None, 5, b"A" * 43, ""]
    assert [session.get_by_id(each) for each in from_outside] == [None] * 4
    assert sorted(tmp_path.rglob("*")) == before


def test_persist_saves_at_once(tmp_path: Path) -> None:
    """2.3: persist() after save() is durable before the request ends, and an exception later does not undo it."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        session["a"] = 1
        session.save()
        session.persist()
        ids.append(session.id)
        raise RuntimeError("something catastrophic")

    ids: list[str] = []
    middleware = SessionMiddleware(app, type="file", data_dir=str(tmp_path))
    with pytest.raises(RuntimeError):
        Browser(middleware).get()
    found = SessionObject({}, context=middleware.context).get_by_id(ids[0])
    assert found is not None
    assert found["a"] == 1


def test_a_failing_request_saves_nothing(tmp_path: Path) -> None:
    """2.3: save() alone is not carried out when the request ends with an exception, in the body too."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        environ["beaker.session"]["a"] = 1
        environ["beaker.session"].save()
        start_response("200 OK", [("Content-Type", "text/plain")])
        if environ["REQUEST_METHOD"] == "GET":
            raise RuntimeError
        yield b""

    with pytest.raises(RuntimeError):
        Browser(SessionMiddleware(app, type="file", data_dir=str(tmp_path))).get()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_signed_cookie() -> None:
    """5.1.4: SignedCookie signs values and loads only those that verify under their own name."""
    jar = SignedCookie(SECRET)
    jar["user"] = "fred"
    token = jar["user"].coded_value
    assert "fred" not in token
    assert SignedCookie(SECRET, f"a=b c; user={token}")["user"].value == "fred"
    assert "user" not in SignedCookie(OTHER_SECRET, f"user={token}")
    assert "admin" not in SignedCookie(SECRET, f"admin={token}"), "a value is good under its own name only"
    assert "user" not in SignedCookie(SECRET, f"user={token[:-2]}")
    assert SignedCookie([OTHER_SECRET, SECRET], f"user={token}")["user"].value == "fred"


def test_a_jar_leaves_out_what_is_no_text() -> None:
    """A token of the same name and key that holds other bytes, as a session's does, is left out and counted."""
    tokens = DataTokens(KeyRing.from_option(SECRET), "user", encrypt=False)
    token = tokens.seal(b"\xff\xfe", created=0.0, issued=0.0, expires=None)
    before = counters.snapshot().events.get("bad_token{version}", 0)
    assert "user" not in SignedCookie(SECRET, f"user={token}")
    assert counters.snapshot().events["bad_token{version}"] == before + 1


def test_lock_and_unlock(tmp_path: Path) -> None:
    """5.1.4: lock() keeps another request of the same session out until unlock()."""
    from beaker.exceptions import LockTimeout

    session = Session({}, type="file", data_dir=str(tmp_path), lock_ttl=30)
    session.save()
    other = Session({}, id=session.id, use_cookies=False, type="file", data_dir=str(tmp_path), lock_ttl=0.05)
    session.lock()
    try:
        with pytest.raises(LockTimeout):
            other.lock()
    finally:
        session.unlock()
    other.lock()
    other.unlock()
    other.unlock()


SIGNATURES = {
    SessionMiddleware: ["wrap_app", "config", "environ_key", "kwargs"],
    CacheMiddleware: ["app", "config", "environ_key", "kwargs"],
    Session: [
        "request", "id", "invalidate_corrupt", "use_cookies", "type", "data_dir", "key", "timeout", "cookie_expires",
        "cookie_domain", "secret", "secure", "namespace_class", "namespace_args",
    ],
    CookieSession: [
        "request", "key", "timeout", "cookie_expires", "cookie_domain", "encrypt_key", "validate_key", "secure",
        "kwargs",
    ],
    SessionObject: ["environ", "params"],
    SignedCookie: ["secret", "input"],
}  # fmt: skip


@pytest.mark.parametrize("owner", SIGNATURES, ids=lambda owner: owner.__name__)
def test_signatures_are_the_manuals(owner: type) -> None:
    """5.1.3 and 5.1.4: constructors take the manual's names in its order."""
    assert names(owner) == SIGNATURES[owner]


@pytest.mark.parametrize("name", ["save", "revert", "lock", "unlock", "delete", "invalidate"])
def test_session_has_the_manuals_methods(name: str) -> None:
    """5.1.4: Session's methods; save takes accessed_only."""
    assert callable(getattr(Session, name))
    assert names(Session.save) == ["accessed_only"]


@pytest.mark.parametrize("name", ["persist", "get_by_id", "accessed"])
def test_session_object_has_the_manuals_methods(name: str) -> None:
    """5.1.4: SessionObject's own methods."""
    assert callable(getattr(SessionObject, name))


def test_unprefixed_configuration_is_all_options(tmp_path: Path) -> None:
    """5.1.3: without any session. key the whole dict is options; keyword arguments win."""
    middleware = SessionMiddleware(
        lambda e, s: [], {"type": "file", "data_dir": str(tmp_path), "timeout": "900"}, timeout="60"
    )
    assert middleware.options.timeout == 60.0


def test_late_changes_of_a_streamed_body_are_kept(tmp_path: Path) -> None:
    """What a body changes while it streams is saved at its end; a cookie session warns instead."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        session = environ["beaker.session"]
        session.increment("n")
        session.save()
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"first"
        session["late"] = True
        session.save()
        yield b"second"

    browser = Browser(SessionMiddleware(app, type="file", data_dir=str(tmp_path), secret=SECRET))
    browser.get()
    assert browser.get().text == "firstsecond"
    reader = Browser(SessionMiddleware(_show, type="file", data_dir=str(tmp_path), secret=SECRET))
    reader.cookies = dict(browser.cookies)
    assert reader.get().text == "{'n': 2, 'late': True}"
    with pytest.warns(BeakerWarning, match="the change is lost"):
        Browser(SessionMiddleware(app, type="cookie", validate_key=SECRET)).get()


def _show(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    session = environ["beaker.session"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr({key: session[key] for key in session if not key.startswith("_")}).encode()]


def test_a_framework_that_sends_the_cookie_itself_finds_it(tmp_path: Path) -> None:
    """pyramid_beaker subclasses SessionObject and reads the cookie from __dict__ after persist()."""

    class Factory(SessionObject):
        def __init__(self, environ: dict[str, Any]) -> None:
            SessionObject.__init__(self, environ, type="file", data_dir=str(tmp_path), secret=SECRET)

    session = Factory({})
    session["a"] = 1
    session.save()
    session.persist()
    headers = session.__dict__["_headers"]
    assert headers["set_cookie"] is True
    again = Factory({"HTTP_COOKIE": headers["cookie_out"].partition(";")[0]})
    assert again["a"] == 1
    again.persist()
    assert again.__dict__["_headers"] == {"set_cookie": False, "cookie_out": None}
