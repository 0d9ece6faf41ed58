"""What frameworks and programs ask a session for besides the manual's names."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from beaker.container import MemoryNamespaceManager
from beaker.exceptions import ConfigError, SessionTooLarge
from beaker.middleware import SessionMiddleware
from beaker.session import CookieSession, Session, SessionObject
from beaker.session import shared as shared_contexts
from beaker.session.base import BaseSession
from beaker.testing import Browser, FakeClock

KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"


def known(directory: Path, id: str = "abc.progress", **options: Any) -> Session:
    return Session({}, id=id, use_cookies=False, type="file", data_dir=str(directory), **options)


# -- ids the application chooses


def test_an_id_of_the_applications_own(tmp_path: Path) -> None:
    """Without a cookie the application names the session: the same name is the same session, another name another."""
    session = known(tmp_path)
    assert (session.id, session.is_new) == ("abc.progress", True)
    session["value"] = 1
    session.save()
    again = known(tmp_path)
    assert (again["value"], again.id, again.is_new) == (1, "abc.progress", False)
    assert "value" not in known(tmp_path, "abc.progres")
    assert "value" not in known(tmp_path, "ünïcödé")


def test_two_that_begin_it_keep_both_changes(tmp_path: Path) -> None:
    """Two processes that begin one session at the same moment do not overwrite each other's keys."""
    one, other = known(tmp_path), known(tmp_path)
    one["a"] = 1
    one.save()
    other["b"] = 2
    other.save()
    assert {key: known(tmp_path)[key] for key in "ab"} == {"a": 1, "b": 2}


def test_it_can_begin_again(tmp_path: Path) -> None:
    """After delete() the same id is free at once, and keeps its name in the object that deleted it."""
    session = known(tmp_path)
    session["a"] = 1
    session.save()
    session.delete()
    assert session.id == "abc.progress"
    assert "a" not in known(tmp_path)
    again = known(tmp_path)
    again["b"] = 2
    again.save()
    session["c"] = 3
    session.save()
    assert {key: value for key, value in known(tmp_path).items() if len(key) == 1} == {"b": 2, "c": 3}


def test_no_cookie_reaches_it(tmp_path: Path) -> None:
    """Bare ids in cookies, where there is no key, lead to no session that the application named."""
    session = known(tmp_path)
    session["a"] = 1
    session.save()
    for cookie in ("abc.progress", session._snapshot.id.hex(), session._snapshot.id[:32].hex()):
        found = SessionObject({"HTTP_COOKIE": f"beaker.session.id={cookie}"}, type="file", data_dir=str(tmp_path))
        assert "a" not in found


def test_with_cookies_an_unknown_id_is_a_new_session(tmp_path: Path) -> None:
    """Where cookies carry the id, an id that was never issued names nothing: supplying one fixes no session."""
    session = Session({}, id="abc.progress", type="file", data_dir=str(tmp_path))
    assert (session.is_new, len(session.id)) == (True, 43)


def test_it_ends_by_its_timeout(tmp_path: Path, fake_clock: FakeClock) -> None:
    """Like any session's, its record is over after the timeout."""
    session = known(tmp_path, timeout=60, clock=fake_clock)
    session["a"] = 1
    session.save()
    fake_clock.advance(59)
    assert "a" in known(tmp_path, timeout=60, clock=fake_clock)
    fake_clock.advance(62)
    assert "a" not in known(tmp_path, timeout=60, clock=fake_clock)


# -- load


def test_load_reads_anew(tmp_path: Path) -> None:
    """What other requests saved is there, what this object changed and did not save is gone."""
    mine, theirs = known(tmp_path), known(tmp_path)
    theirs["value"] = 1
    theirs.save()
    mine["value"] = 2
    mine["mine"] = True
    mine.load()
    assert mine["value"] == 1
    assert "mine" not in mine
    theirs.load()
    theirs["value"] = 3
    theirs.save()
    mine.load()
    mine["more"] = 4
    mine.save()
    assert {key: known(tmp_path)[key] for key in ("value", "more")} == {"value": 3, "more": 4}


def test_load_of_a_session_that_ended() -> None:
    """It is empty and new, under another id, unless the application named it."""
    session = Session({}, type="memory", key="tests.ended")
    session["a"] = 1
    session.save()
    old = session.id
    other = Session({}, id=old, type="memory", key="tests.ended")
    assert other["a"] == 1
    other.delete()
    session.load()
    assert (session.is_new, "a" in session, session.id != old) == (True, False, True)


def test_load_of_a_cookie_session() -> None:
    """There is nothing newer than what the request brought."""
    request: dict[str, Any] = {}
    session = CookieSession(request, validate_key=KEY)
    session["a"] = 1
    session.save()
    header = request["cookie_out"].partition(";")[0]
    loaded = CookieSession({"cookie": header}, validate_key=KEY)
    loaded["a"] = 2
    loaded.load()
    assert loaded["a"] == 1


# -- the session's own names


def test_the_cookie_to_send(fake_clock: FakeClock) -> None:
    """session.cookie[session.key] has value and attributes as the header line has them."""
    environ = {"wsgi.url_scheme": "https"}
    options: dict[str, Any] = {"key": "shop", "cookie_path": "/x", "secure": True, "partitioned": True}
    options["clock"] = fake_clock
    session = SessionObject(environ, type="memory", cookie_expires=300, **options)
    session["a"] = 1
    session.save()
    session.persist()
    morsel = session.cookie[session.key]
    sent = session.__dict__["_headers"]["cookie_out"]
    assert sent.startswith(f"shop={morsel.coded_value};")
    assert (morsel["path"], morsel["max-age"], bool(morsel["httponly"]), bool(morsel["secure"])) == (
        "/x",
        "300",
        True,
        True,
    )
    assert SessionObject({"HTTP_COOKIE": sent.partition(";")[0]}, type="memory", **options)["a"] == 1


def test_the_namespace_behind_a_session() -> None:
    """One key with the values; removing it ends the session."""
    session = Session({}, type="memory", key="tests.namespace")
    assert "session" not in session.namespace
    session["a"] = 1
    session.save()
    assert session.namespace.namespace == session.id
    assert session.namespace["session"]["a"] == 1
    assert list(session.namespace.keys()) == ["session"]
    id = session.id
    session.namespace.remove()
    assert "a" not in Session({}, id=id, type="memory", key="tests.namespace")


def test_dirty_means_unsaved_changes() -> None:
    """For a session as for the object in the environ."""
    session = Session({}, type="memory")
    assert session.dirty() is False
    session["a"] = 1
    assert session.dirty() is True
    session.save()
    assert session.dirty() is False


# -- what frameworks find in __dict__


def test_the_entries_of_the_object_in_the_environ() -> None:
    """_params, _environ, _sess, _dirty and _headers are there under these names, before and after use."""
    environ: dict[str, Any] = {}
    session = SessionObject(environ, type="memory", key="shop")
    inner = session.__dict__
    assert (inner["_params"], inner["_environ"], inner["_sess"]) == ({"type": "memory", "key": "shop"}, environ, None)
    assert inner["_headers"] == {"set_cookie": False, "cookie_out": None}
    session["a"] = 1
    session.save()
    assert inner["_dirty"] is True
    assert inner["_sess"] is session._session()
    assert isinstance(session._session(), BaseSession)
    assert json.loads(json.dumps(session._session()))["a"] == 1
    del inner["_dirty"]
    assert session.dirty() is False


def test_the_entries_of_a_session_that_no_page_has_touched() -> None:
    """Behind a middleware they are there too, of one object, and asking for them is no access."""
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        inner = session.__dict__
        seen.append((inner["_environ"] is environ, inner["_sess"], inner["_headers"], set(inner["_params"])))
        assert session.__dict__ is inner
        assert vars(session) is inner
        inner["_mine"] = 1
        assert session._mine == 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    browser = Browser(SessionMiddleware(app, {"session.type": "memory"}))
    assert "Vary" not in dict(browser.get("/").headers)
    assert seen == [(True, None, {"set_cookie": False, "cookie_out": None}, {"context"})]


def test_an_access_can_be_forgotten() -> None:
    """TurboGears sets _sess to None after looking: nothing is saved or sent, and a later access loads anew."""
    seen: list[bool] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        session["a"] = 1
        session.__dict__["_sess"] = None
        seen.append(session.accessed())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    browser = Browser(SessionMiddleware(app, {"session.type": "memory", "session.auto": True}))
    assert "Vary" not in dict(browser.get("/").headers)
    assert seen == [False]


def test_a_session_of_the_applications_own_in_its_place(tmp_path: Path) -> None:
    """The recipe of Pylons: take the parameters, name an id, put that session into _sess."""
    options = {"session.type": "file", "session.data_dir": str(tmp_path), "session.use_cookies": False}

    def app(environ: Any, start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        params = session.__dict__["_params"]
        session.__dict__["_sess"] = Session({}, **{**params, "id": environ["PATH_INFO"]})
        session["visits"] = session.get("visits", 0) + 1
        session.save()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(session["visits"]).encode()]

    browser = Browser(SessionMiddleware(app, options))
    assert [browser.get(path).text for path in ("/one", "/one", "/two")] == ["1", "2", "1"]


def test_a_session_beside_the_visitors() -> None:
    """environ["beaker.get_session"]() is a new session without a cookie; with an id it is that stored one."""
    ids: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        get_session = environ["beaker.get_session"]
        if not ids:
            session = get_session()
            session["user"] = "ada"
            session.save()
            ids.append(session.id)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(get_session(ids[0])["user"]).encode()]

    browser = Browser(SessionMiddleware(app, {"session.type": "memory"}))
    answer = browser.get("/")
    assert (answer.text, "Set-Cookie" in dict(answer.headers)) == ("ada", False)
    assert browser.get("/").text == "ada"


def test_webtest_finds_the_session() -> None:
    """webtest_varname names it in paste.testing_variables, where there are any."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        environ["beaker.session"]["a"] = 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    wrapped = SessionMiddleware(app, {"session.type": "memory", "session.webtest_varname": "mine"})
    variables: dict[str, Any] = {}
    list(wrapped({"paste.testing_variables": variables}, lambda *_: bytes))
    assert variables["mine"]["a"] == 1
    list(wrapped({}, lambda *_: bytes))


# -- one context for equal options


def test_equal_options_share_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frameworks pass their options with every request: keys are derived, and warnings given, the first time only."""
    monkeypatch.setattr(shared_contexts, "_contexts", {})
    options: dict[str, Any] = {"type": "memory", "secret": KEY, "nonsense": 1}
    with pytest.warns(UserWarning, match="nonsense"):
        first = SessionObject({}, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = SessionObject({}, **options)
    assert first._context is second._context
    assert SessionObject({}, type="memory", secret=KEY)._context is not first._context


def test_options_that_only_look_equal_are_told_apart() -> None:
    """As cookie_expires True is valid and 1, which equals it, is an error; two classes of one name are two."""
    assert SessionObject({}, type="memory", cookie_expires=True)._context.options.cookie_expires is True
    with pytest.raises(ConfigError):
        SessionObject({}, type="memory", cookie_expires=1)
    one, other = (type("Manager", (MemoryNamespaceManager,), {}) for _ in range(2))
    contexts = [SessionObject({}, namespace_class=kind)._context for kind in (one, other, one)]
    assert contexts[0] is contexts[2] is not contexts[1]


def test_wrong_options_are_wrong_each_time() -> None:
    """An error is not remembered as a context."""
    for _ in range(2):
        with pytest.raises(ConfigError):
            SessionObject({}, type="memory", secret="short")


def test_many_configurations_do_not_pile_up() -> None:
    """An application that passes other options with every request keeps a bounded number of contexts."""
    for number in range(200):
        SessionObject({}, type="memory", key=f"k{number}")
    assert len(shared_contexts._contexts) <= shared_contexts._LIMIT


# -- what must not be lost silently


def test_a_framework_that_sends_one_cookie_gets_one() -> None:
    """A cookie session over several cookies is refused by persist(), where only the first would be sent."""
    options: dict[str, Any] = {"type": "cookie", "validate_key": KEY, "chunks": 3}
    session = SessionObject({}, **options)
    session["a"] = os.urandom(2200).hex()
    session.save()
    with pytest.raises(SessionTooLarge, match="several cookies"):
        session.persist()
    small = SessionObject({}, **options)
    small["a"] = "little"
    small.save()
    small.persist()
    sent = small.__dict__["_headers"]["cookie_out"]
    assert SessionObject({"HTTP_COOKIE": sent.partition(";")[0]}, **options)["a"] == "little"


def test_a_session_without_its_cookie_needs_a_store() -> None:
    """Session(type="cookie") says at once that nothing would keep it."""
    for options in ({}, {"id": "abc", "use_cookies": False}):
        with pytest.raises(ConfigError, match="store"):
            Session({}, type="cookie", validate_key=KEY, **options)  # type: ignore[arg-type]


def test_a_hybrid_session_of_a_known_id() -> None:
    """A type that has a store keeps a session the application named there."""
    options: dict[str, Any] = {"type": "hybrid", "secret": KEY, "store": "memory", "use_cookies": False}
    session = Session({}, id="abc.progress", **options)
    session["a"] = 1
    session.save()
    assert Session({}, id="abc.progress", **options)["a"] == 1
