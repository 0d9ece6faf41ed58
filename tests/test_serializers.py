from __future__ import annotations

import json
import pickle
import sys
import zoneinfo
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beaker.exceptions import ConfigError, CorruptRecord, UnserializableValue
from beaker.serialization.serializers import Auto, Custom, Pickle, Serializer, by_name, is_pickle
from tests.values import BERLIN, JSON, Point, spelled

zones = st.none() | st.just(timezone.utc) | st.sampled_from([BERLIN, zoneinfo.ZoneInfo("UTC")])
zones |= st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
zones |= st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)), st.text(max_size=5))
finite = st.floats(allow_nan=False, allow_infinity=False)
hashable = (
    st.none()
    | st.booleans()
    | st.integers()
    | finite
    | st.text()
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=zones, allow_imaginary=True)
    | st.times(timezones=zones)
    | st.builds(lambda when: when.replace(fold=1), st.datetimes())
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.complex_numbers(allow_nan=False, allow_infinity=False)
)
hashable |= st.lists(hashable, max_size=3).map(tuple) | st.frozensets(hashable, max_size=3)
values = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.just("~t"), inner, max_size=4)
        | st.dictionaries(hashable, inner, max_size=4)
        | st.sets(hashable, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
@example({"~t": ["tuple", [1]]})
@example({"a": {"~t": 1, "b": ("~t",)}})
@example({1: "a", "1": "b", (1,): "c", None: "d", 1.5: "e"})
@example(['"~t":', "\u2028 \x7f \x00 é 😀 \\ud800"])
@example([Decimal("NaN"), Decimal("-sNaN12"), Decimal("-Infinity"), Decimal("1E+30"), Decimal("-0.00")])
@example([0.0, -0.0, 5e-324, 1.7976931348623157e308, 1e22, 10**4299, -(10**4299), complex(-0.0, 0.0)])
@example([datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN), datetime.min, datetime.max, time(2, fold=1)])
@example([timedelta.min, timedelta.max, date.min, date.max, b"", set(), frozenset(), (), {}, [], ""])
def test_json_round_trips_are_exact(value: Any) -> None:
    """What JSON takes it gives back, equal and of the same types in every part."""
    data = JSON.dumps(value)
    assert spelled(JSON.loads(data)) == spelled(value)
    assert JSON.dumps(JSON.loads(data)) == data


@given(values)
def test_auto_and_pickle_round_trip_too(value: Any) -> None:
    """Pickle and auto keep the same promise."""
    for serializer in (Pickle(), Auto(allow_pickle=True), Auto(allow_pickle=True, prefer_pickle=True)):
        assert spelled(serializer.loads(serializer.dumps(value))) == spelled(value)


def test_plain_values_are_plain_json() -> None:
    """What JSON has is written as plain JSON, without spaces, in UTF-8."""
    value: Any = {"name": "Zoë", "n": [1, 2.5, True, None, {"deep": []}]}
    assert JSON.dumps(value) == '{"name":"Zoë","n":[1,2.5,true,null,{"deep":[]}]}'.encode()
    for scalar in ("a", 5, -5, 1 << 70, 2.5, True, False, None):
        assert JSON.dumps(scalar) == json.dumps(scalar).encode()


def test_equal_sets_make_equal_bytes() -> None:
    """A set is written in one order, so that an unchanged session is seen to be unchanged."""
    words = [f"word {number}" for number in range(50)]
    backwards: set[str] = set()
    backwards.update(reversed(words))
    backwards.add("another")
    backwards.remove("another")
    assert JSON.dumps(set(words)) == JSON.dumps(backwards)
    assert JSON.dumps({frozenset(words), (1, "a")}) == JSON.dumps({(1, "a"), frozenset(backwards)})


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def test_pickles_are_executed_only_where_allowed(tmp_path: Path) -> None:
    """An attacker's pickle given to JSON or to auto without permission is corrupt and never runs."""
    trap = tmp_path / "sprung"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(Trap(trap), protocol)
        for serializer in (JSON, Auto(), by_name("json"), by_name("auto")):
            with pytest.raises(CorruptRecord):
                serializer.loads(data)
        assert not trap.exists()
    Pickle().loads(data).close()
    assert trap.exists(), "the trap itself does not work"


def test_auto_pickles_what_json_cannot_hold_when_allowed() -> None:
    """With permission auto falls back to pickle value by value, without it the error stays; either reads JSON."""
    allowed, forbidden = Auto(allow_pickle=True), Auto()
    assert not is_pickle(allowed.dumps({"a": (1,)}))
    data = allowed.dumps(Point(1))
    assert is_pickle(data)
    assert type(allowed.loads(data)) is Point
    with pytest.raises(UnserializableValue, match=r"session\['p'\]"):
        forbidden.dumps(Point(1), "session['p']")
    assert forbidden.loads(allowed.dumps((1, 2))) == (1, 2)
    prefers = Auto(allow_pickle=True, prefer_pickle=True)
    assert is_pickle(prefers.dumps(1))
    assert prefers.loads(JSON.dumps((1,))) == (1,)
    with pytest.raises(ConfigError):
        Auto(prefer_pickle=True)


class Broken:
    def __reduce__(self) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize("value", [lambda: 1, Broken(), sys, open], ids=["lambda", "raises", "module", "ok"])
def test_pickle_errors(value: Any) -> None:
    """What pickle refuses is an UnserializableValue with the path; a builtin by name is fine."""
    if value is open:
        assert Pickle().loads(Pickle().dumps(value)) is open
        return
    with pytest.raises(UnserializableValue, match=r"session\['x'\]"):
        Pickle().dumps(value, "session['x']")


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x80\x05", b"cno.such\nthing\n.", pickle.dumps([1])[:-1], b"\x80\xff."]
)
def test_broken_pickles_are_corrupt_records(data: bytes) -> None:
    """A pickle that cannot be loaded is a CorruptRecord, whatever pickle raised."""
    with pytest.raises(CorruptRecord):
        Pickle().loads(data)


def test_pickles_are_of_a_protocol_every_python_reads() -> None:
    """Protocol 5, so that a fleet of mixed Pythons understands itself."""
    assert Pickle().dumps([1])[:2] == b"\x80\x05"


@pytest.mark.parametrize("option", ["json", "pickle", "auto", " JSON ", JSON, pickle, json])
def test_by_name(option: object) -> None:
    """Names in any case and objects with loads and dumps become serializers."""
    serializer = by_name(option)
    assert isinstance(serializer, Serializer)
    assert serializer.loads(serializer.dumps({"a": [1]})) == {"a": [1]}


def test_by_name_keeps_ours_and_wraps_others() -> None:
    """One of our serializers is used as it is; permission to pickle reaches auto."""
    assert by_name(JSON) is JSON
    wrapped = by_name(json)
    assert isinstance(wrapped, Custom)
    assert wrapped.inner is json
    auto = by_name("auto", allow_pickle=True)
    assert isinstance(auto, Auto)
    assert auto.allow_pickle


@pytest.mark.parametrize("option", ["yaml", "", None, 5, object(), b"json", type("Half", (), {"dumps": len})()])
def test_by_name_refuses_the_rest(option: object) -> None:
    """Anything else is a ConfigError that names the option."""
    with pytest.raises(ConfigError, match="data_serializer"):
        by_name(option, option="data_serializer")


class Foreign:
    """A user's serializer that fails in its own ways."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def dumps(self, obj: Any) -> Any:
        if isinstance(self.made, Exception):
            raise self.made
        return self.made

    def loads(self, data: bytes) -> Any:
        raise KeyError(data)


@pytest.mark.parametrize("made", [ZeroDivisionError(), 5, None, "\ud800", bytearray(b"x")])
def test_a_users_serializer_keeps_our_errors(made: Any) -> None:
    """Whatever a user's object raises or returns arrives as one of our errors."""
    custom = by_name(Foreign(made))
    with pytest.raises(UnserializableValue, match=r"session\['x'\]"):
        custom.dumps(1, "session['x']")
    with pytest.raises(CorruptRecord):
        custom.loads(b"x")
    assert by_name(Foreign("é")).dumps(1) == "é".encode()
