"""What a process remembers of a session's values: no request sees what another one did to its own objects."""

from __future__ import annotations

import copy
import datetime
import operator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from beaker.exceptions import CorruptRecord
from beaker.middleware import SessionMiddleware
from beaker.session.values import NOTHING, ValueCodec
from beaker.testing import Browser, FakeClock

SECRET = "a-key-of-this-test-51c07f93ab2e48d6f0"

VALUES: dict[Any, Any] = {
    "text": "a" * 9,
    "number": 12.5,
    "flag": True,
    "list": ["a", 1],
    "deep": {"a": [1, 2]},
    "set": {1, 2},
    "day": datetime.date(2026, 11, 26),
    7: None,
}


def changed(values: dict[Any, Any]) -> None:
    values["text"] = "b"
    values["list"].append("c")
    values["deep"]["a"].append(3)
    values["set"].add(3)


@pytest.mark.parametrize("written_here", [True, False])
def test_each_unpacking_gives_objects_of_its_own(written_here: bool) -> None:
    """Of a record that this process has written, and of one that it has read several times."""
    packed = ValueCodec(None, may_pickle=False).pack(VALUES.items(), NOTHING)
    codec = ValueCodec(None, may_pickle=False)
    if written_here:
        packed = codec.pack(VALUES.items(), NOTHING)
    for _ in range(5):
        values = codec.unpack(packed, trusted=False)
        assert values == VALUES
        assert [type(value) for value in values.values()] == [type(value) for value in VALUES.values()]
        assert list(values) == list(VALUES)
        changed(values)


@pytest.mark.parametrize("large", [{"v": "x" * 5_000}, {"k" * 5_000: 1}, dict.fromkeys(map(str, range(40)), 1)])
def test_a_large_session_is_not_remembered(large: dict[Any, Any]) -> None:
    """Five hundred sessions of a megabyte would fill an instance; small ones are remembered."""
    codec = ValueCodec(None, may_pickle=False)
    assert codec.unpack(codec.pack(large.items(), NOTHING), trusted=False) == large
    assert not codec._unpacked
    codec.pack({"v": "x" * 3_000}.items(), NOTHING)
    assert len(codec._unpacked) == 1


def test_what_is_changed_after_packing_is_not_in_the_record() -> None:
    """A list that the application goes on changing after a save has the saved items in the next request."""
    codec = ValueCodec(None, may_pickle=False)
    values: dict[str, Any] = {"list": [1], "deep": [[1]]}
    packed = codec.pack(values.items(), NOTHING)
    values["list"].append(2)
    values["deep"][0].append(2)
    assert codec.unpack(packed, trusted=False) == {"list": [1], "deep": [[1]]}


@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_a_change_in_place_is_packed(rounds: int) -> None:
    """However often the session was unpacked before, a changed list has other bytes, and an equal value its own."""
    codec = ValueCodec(None, may_pickle=False)
    packed = ValueCodec(None, may_pickle=False).pack(VALUES.items())
    for _ in range(rounds):
        values = codec.unpack(packed, trusted=False)
        known = codec.remembered(packed) or codec.base(packed, values)
        assert codec.pack(values.items(), known) == packed == codec.repack(values, known)
        changed(values)
        for again in codec.pack(values.items(), known), codec.repack(values, known):
            differs = {name for name, data in again.items() if packed[name] != data}
            assert differs == {b'"text"', b'"list"', b'"deep"', b'"set"'}


def test_a_pickle_needs_trust_each_time() -> None:
    """A record with a pickle is refused without trust, also after it was read with it."""
    codec = ValueCodec("pickle", may_pickle=True)
    packed = codec.pack([("a", "text")], NOTHING)
    for _ in range(3):
        assert codec.unpack(packed, trusted=True) == {"a": "text"}
        with pytest.raises(CorruptRecord):
            codec.unpack(packed, trusted=False)


def test_what_is_remembered_is_bounded() -> None:
    """In sessions and in keys of a session."""
    codec = ValueCodec(None, may_pickle=False)
    kept = [codec.pack([("a", number)], NOTHING) for number in range(2000)]
    large = codec.pack([(f"k{number}", number) for number in range(33)], NOTHING)
    assert sum(codec.remembered(packed) is not None for packed in kept) <= 512
    assert codec.remembered(large) is None
    assert codec.unpack(large, trusted=False)["k32"] == 32


STATES = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        "abcd", st.sampled_from([0, "t", None, [], [1], [[1]], {"k": 1}, {"k": [1]}, {1}, (1, [2])])
    ),
)


@hypothesis.settings(deadline=None)
@hypothesis.given(st.lists(st.tuples(STATES, st.booleans()), min_size=2, max_size=6))
@hypothesis.example([({"a": [1], "b": 0}, True), ({"a": [1], "b": "t"}, False)])
def test_a_session_reads_as_what_it_was_set_to(states: list[tuple[dict[str, Any], bool]]) -> None:
    """Whichever of two processes saves it next, whichever of its values changed, and however often it is read."""
    codecs = [ValueCodec(None, may_pickle=False), ValueCodec(None, may_pickle=False)]
    packed: dict[bytes, bytes] = {}
    for wanted, second in states:
        codec = codecs[second]
        loaded = codec.unpack(packed, trusted=False)
        base = codec.remembered(packed) or codec.base(packed, loaded)
        # What is equal stays the object that was loaded, as when a request changes the other keys only.
        mine = {key: loaded[key] if key in loaded and loaded[key] == value else value for key, value in wanted.items()}
        packed = codec.repack(copy.deepcopy(mine), base)
        for _ in range(3):
            assert codec.unpack(packed, trusted=False) == wanted
        packed = dict(packed)


def test_a_list_that_another_process_saved_is_there_after_a_change_of_another_key(tmp_path: Path) -> None:
    """For the request after the one that changed it: it got a bare object in place of the list."""
    actions: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        actions.pop()(environ["beaker.session"])
        environ["beaker.session"].save()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    first, second = (Browser(SessionMiddleware(app, type="file", data_dir=str(tmp_path), secret=SECRET)) for _ in "12")
    seen: list[Any] = []
    actions.append(lambda session: session.update(cart=["tea"], visits=0))
    first.get()
    second.cookies = dict(first.cookies)
    for visits in (1, 2):
        actions.append(operator.methodcaller("update", visits=visits))
        second.get()
        actions.append(lambda session: seen.append((session["cart"], session["visits"])))
        second.get()
    assert seen == [(["tea"], 1), (["tea"], 2)]


@pytest.mark.parametrize("kind", ["cookie", "memory"])
def test_no_request_sees_what_another_did_to_its_objects(kind: str) -> None:
    """What a request changes in place and does not save is not in the next one, however often the record came."""
    seen: list[list[int]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        if "list" not in session:
            session["list"] = [1]
            session.save()
        seen.append(list(session["list"]))
        session["list"].append(2)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    browser = Browser(SessionMiddleware(app, type=kind, secret=SECRET, save_accessed_time=False))
    for _ in range(5):
        browser.get("/")
    assert seen == [[1], [1, 2], [1, 2], [1, 2], [1, 2]]


@pytest.mark.parametrize(("size", "kept"), [(3_000, 1), (30_000, 0)])
def test_a_large_session_in_a_cookie_is_not_remembered(size: int, kept: int) -> None:
    """Deflated it fits in its cookie; in the memory of the process it would be as long as it is."""
    seen: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        if "text" in session:
            seen.append(len(session["text"]))
        else:
            session["text"] = "x" * size
            session.save()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    middleware = SessionMiddleware(app, type="cookie", secret=SECRET, compress=True)
    browser = Browser(middleware)
    for _ in range(3):
        browser.get("/")
    assert seen == [size, size]
    backend: Any = middleware._opener.backend
    assert len(backend._decoded) == kept


def test_an_older_cookie_with_the_same_values_has_its_own_time(fake_clock: FakeClock) -> None:
    """A cookie is as old as it says, also after this process has sealed or read a later one of equal content."""
    ages: list[float] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        if environ["PATH_INFO"] == "/new":
            session["a"] = 1
            session.save()
        elif session.last_accessed is not None:
            ages.append(fake_clock() - session.last_accessed)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    options: dict[str, Any] = {"type": "cookie", "secret": SECRET, "timeout": 100, "touch_interval": 10}
    browser = Browser(SessionMiddleware(app, clock=fake_clock, **options))
    browser.get("/new")
    older = browser.copy()
    fake_clock.advance(40)
    browser.get("/")
    assert browser.cookies != older.cookies
    fake_clock.advance(20)
    for tab in (browser, older):
        tab.get("/")
    assert ages == [40, 20, 60]
