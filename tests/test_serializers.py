from __future__ import annotations

import collections
import enum
import json
import math
import os
import pickle
import random
import sys
import uuid
import zoneinfo
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beaker.exceptions import ConfigError, CorruptRecord, UnserializableValue
from beaker.serializers import Auto, Custom, Pickle, Serializer, TaggedJson, by_name, is_pickle

FUZZ = int(os.environ.get("BEAKER_FUZZ", "20000"))
JSON = TaggedJson()
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


def spelled(value: Any) -> Any:
    """A value with every type and every detail that ``==`` forgives written out."""
    kind = type(value)
    if kind in (list, tuple):
        return kind.__name__, [spelled(item) for item in value]
    if kind in (set, frozenset):
        return kind.__name__, sorted((spelled(item) for item in value), key=repr)
    if kind is dict:
        return "dict", [(spelled(key), spelled(item)) for key, item in value.items()]
    if kind in (datetime, time):
        zone = value.tzinfo
        name: Any = repr(zone) if isinstance(zone, timezone) else zone
        return kind.__name__, value.replace(tzinfo=None).isoformat(), value.fold, type(zone).__name__, name
    return kind.__name__, repr(value)


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
    """What JSON has is written as anybody's JSON, without spaces, in UTF-8."""
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


class Colour(enum.IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int


class Name(str):
    __slots__ = ()


class OwnZone(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(0)

    tzname = dst = utcoffset  # type: ignore[assignment]


class OwnDate(date):
    pass


UNHOLDABLE = [
    object(),
    object,
    len,
    Colour.RED,
    Point(1),
    Name("n"),
    collections.OrderedDict(a=1),
    collections.defaultdict(list),
    collections.Counter(),
    bytearray(b"x"),
    range(3),
    OwnDate(2024, 1, 1),
    datetime(2024, 1, 1, tzinfo=OwnZone()),
    time(1, tzinfo=zoneinfo.ZoneInfo.no_cache("Europe/Berlin")),
    math.nan,
    math.inf,
    -math.inf,
    complex(math.nan, 0),
    complex(0, math.inf),
    10**4300,
    -(10**4300),
    "\ud800",
    {"\udfff": 1},
    timezone.utc,
    datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=1), "\ud800")),
]


@pytest.mark.parametrize("value", UNHOLDABLE, ids=lambda value: type(value).__name__)
def test_what_would_come_back_changed_is_refused(value: Any) -> None:
    """No subclass, NaN, endless int, lone surrogate or foreign type is quietly turned into something else."""
    for place in (value, [value], (value,), {"k": value}, {1: value}, {"a": [{"b": (1, value)}]}):
        with pytest.raises(UnserializableValue):
            JSON.dumps(place)


def test_unhashable_places_of_refused_values() -> None:
    """A refused value is also found as a key and inside a set."""
    for value in (Point(1), Name("n"), "\ud800", 10**4300, Colour.RED):
        for place in ({value: 1}, {value}, frozenset([value]), {(value,): 1}):
            with pytest.raises(UnserializableValue):
                JSON.dumps(place)


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        (object(), "session", "object"),
        ({"cart": [1, 2, {"when": object()}]}, "session['cart'][2]['when']", "object"),
        ({"t": datetime(2024, 1, 1, tzinfo=timezone(timedelta(0), "\ud800"))}, "session['t']", "str"),
        ({"z": [complex(0, math.nan)]}, "session['z'][0]", "complex"),
        ({"cart": (1, [math.nan])}, "session['cart'][1][0]", "float"),
        ({"a": {5: {b"key": Point(1)}}}, "session['a'][5][bytes]", "Point"),
        ({"tags": {Point(1)}}, "session['tags']{element}", "Point"),
        ({"by": {Point(1): 1}}, "session['by']{key}", "Point"),
        ({"q'uote\n": Name("x")}, 'session["q\'uote\\n"]', "Name"),
        ({"k" * 99: Name("x")}, "session['" + "k" * 39 + "...]", "Name"),
        ({10**30: object()}, "session[int]", "object"),
        ([1, "ok", "\ud800"], "session[2]", "str"),
    ],
)
def test_the_path_leads_to_the_value(value: Any, path: str, kind: str) -> None:
    """The error says where the value is and what it is, and never what it holds."""
    with pytest.raises(UnserializableValue) as caught:
        JSON.dumps(value, "session")
    assert (caught.value.path, caught.value.kind) == (path, kind)
    assert caught.value.__cause__ is None


def nested(depth: int, wrap: Any) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS = {
    "lists": lambda value: [value],
    "dicts": lambda value: {"k": value},
    "tuples": lambda value: (value,),
    "pairs": lambda value: {1: value},
    "frozensets": lambda value: frozenset([value]),
    "keys": lambda value: {value if isinstance(value, (int, tuple)) else 1: 1} if value == 1 else (value,),
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_depth_is_limited_alike_in_both_directions(wrap: Any) -> None:
    """64 containers inside each other come back; 65 are refused before anything is written."""
    assert spelled(JSON.loads(JSON.dumps(nested(64, wrap)))) == spelled(nested(64, wrap))
    with pytest.raises(UnserializableValue, match="64"):
        JSON.dumps(nested(65, wrap))


def test_a_value_inside_itself_is_refused() -> None:
    """A list that holds itself is an error, not an endless loop."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(UnserializableValue):
        JSON.dumps({"loop": loop})


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"~t":["tuple",['])
@pytest.mark.parametrize("closed", [True, False])
def test_deep_input_is_refused_before_it_is_parsed(opening: bytes, closed: bool) -> None:
    """A million brackets are no stack overflow, whatever the application did to the recursion limit."""
    closing = {b"[": b"]", b'{"a":': b"}", b'{"~t":["tuple",[': b"]]}"}[opening]
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        for depth in (300, 100_000):
            with pytest.raises(CorruptRecord):
                JSON.loads(opening * depth + b"1" + closing * depth * closed)
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize(
    ("opening", "closing"), [(b'["]",', b',"["]'), (b'{"}":"}","k":', b',"{":"{"}'), (b'["\\\\","]",', b',"["]')]
)
def test_depth_cannot_hide_behind_strings(opening: bytes, closing: bytes) -> None:
    """Brackets in strings that seem to close what is open do not make deep input look flat."""
    for depth in (300, 50_000):
        with pytest.raises(CorruptRecord):
            JSON.loads(opening * depth + b"1" + closing * depth)
    assert JSON.loads(opening * 60 + b"1" + closing * 60)


def test_brackets_in_strings_are_not_depth() -> None:
    """Text full of brackets, quotes and backslashes is text."""
    for text in ("[" * 5000, "]{" * 3000, '\\"[' * 1000, '"[\\' * 999):
        assert JSON.loads(JSON.dumps([text, {text: text}])) == [text, {text: text}]
    wide = [[[number]] for number in range(1000)]
    assert JSON.loads(JSON.dumps(wide)) == wide


MALFORMED = [
    b"",
    b" ",
    b"nul",
    b"{",
    b"[1,]",
    b"[1] ",
    b" [1]",
    b"[1][2]",
    b"\xff",
    b'"\xed\xa0\x80"',
    b"\xef\xbb\xbf1",
    b"NaN",
    b"[Infinity]",
    b"-Infinity",
    b"1e999",
    b"[-1e400]",
    b"1" * 4301,
    b"[-" + b"1" * 4301 + b"]",
    b'"\\ud800"',
    b'["\\\\\\ud83d\\ude00"]',
    b'{"a":1,"a":1}',
    b'{"a":{"b":1,"b":2}}',
    b'{"~t":1}',
    b'{"~t":[]}',
    b'{"~t":["tuple"]}',
    b'{"~t":["tuple",[],1]}',
    b'{"~t":["tuple",[]],"x":1}',
    b'{"~t":["nope",[]]}',
    b'{"~t":[1,[]]}',
    b'{"~t":[["tuple"],[]]}',
    b'{"~t":["tuple",{}]}',
    b'{"~t":["tuple","ab"]}',
    b'{"~t":["set",[1,1]]}',
    b'{"~t":["set",[1,true]]}',
    b'{"~t":["set",[[1]]]}',
    b'{"~t":["set",[{}]]}',
    b'{"~t":["frozenset",null]}',
    b'{"~t":["dict",[[1]]]}',
    b'{"~t":["dict",[[1,2,3]]]}',
    b'{"~t":["dict",[[1,2],[1,3]]]}',
    b'{"~t":["dict",[[[],2]]]}',
    b'{"~t":["dict",{"a":1}]}',
    b'{"~t":["bytes","A"]}',
    b'{"~t":["bytes","AA=="]}'.replace(b"AA", b"AB"),
    b'{"~t":["bytes","A A="]}',
    b'{"~t":["bytes",5]}',
    b'{"~t":["bytes","\xc3\xa9"]}',
    b'{"~t":["date","2024-13-01"]}',
    b'{"~t":["date","20240101"]}',
    b'{"~t":["date","2024-W01-1"]}',
    b'{"~t":["date",20240101]}',
    b'{"~t":["datetime","2024-01-01T00:00:00"]}',
    b'{"~t":["datetime",["2024-01-01 00:00:00",0,null]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00+00:00",0,null]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00Z",0,null]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00",2,null]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00",false,null]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00",0,[99999999999999]]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00",0,["0"]]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00",0,[0,1]]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00",0,[0,"a","b"]]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00",0,"No/Such_Zone"]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00",0,"Europe"]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00",0,"../../etc/passwd"]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00",0,"/etc/passwd"]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00",0,""]]}',
    b'{"~t":["datetime",["2024-01-01T00:00:00",0,5]]}',
    b'{"~t":["time",["24:00:00",0,null]]}',
    b'{"~t":["time",["01:02",0,null]]}',
    b'{"~t":["timedelta",[0,86400,0]]}',
    b'{"~t":["timedelta",[1.0,0,0]]}',
    b'{"~t":["timedelta",[true,0,0]]}',
    b'{"~t":["timedelta",[1e300,0,0]]}',
    b'{"~t":["timedelta",["1",0,0]]}',
    b'{"~t":["decimal","1_0"]}',
    b'{"~t":["decimal"," 1"]}',
    b'{"~t":["decimal","1e5"]}',
    b'{"~t":["decimal",1]}',
    b'{"~t":["decimal","x"]}',
    b'{"~t":["decimal",[0,[1],0]]}',
    b'{"~t":["uuid","12345678-1234-5678-1234-567812345678"]}',
    b'{"~t":["uuid","zz"]}',
    b'{"~t":["uuid",1]}',
    b'{"~t":["complex",[1,2]]}',
    b'{"~t":["complex","1+2j"]}',
    b'{"\\u007et":["nope",[]]}',
]


@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: repr(data[:60])[2:-1])
def test_malformed_input_is_a_corrupt_record(data: bytes) -> None:
    """Anything dumps would not write is refused with one error, which shows none of it."""
    with pytest.raises(CorruptRecord) as caught:
        JSON.loads(data)
    assert "2024" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["../x", "/x", "a.b/c", "a\0b", "a/b/c/d/e", "x" * 40, "", "Europe/", "é"])
def test_odd_zone_names_never_reach_the_file_system(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name no zone has is refused before zoneinfo looks for a file or a package called so."""
    monkeypatch.setattr(zoneinfo, "ZoneInfo", lambda key: pytest.fail("asked"))
    data = json.dumps({"~t": ["datetime", ["2024-01-01T00:00:00", 0, name]]}).encode()
    with pytest.raises(CorruptRecord):
        JSON.loads(data)


def test_mutated_input_is_refused_or_is_a_value() -> None:
    """Changed bytes give a CorruptRecord or a value that round-trips, never another exception."""
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    source = JSON.dumps(
        {
            "a": (1, {2.5, "x"}, b"bytes"),
            "b": {1: datetime(2024, 1, 1, tzinfo=BERLIN), None: time(1, tzinfo=timezone.utc)},
            "c": [date(2024, 1, 1), timedelta(1, 2, 3), Decimal("1.5E+7"), uuid.UUID(int=5), 1 + 2j, "é\n"],
            "~t": frozenset([1]),
        }
    )
    for _ in range(FUZZ // 4):
        data = bytearray(source)
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(data))
            way = draw.randrange(4)
            if way == 0:
                data[place] = draw.randrange(256)
            elif way == 1:
                del data[place : place + draw.randint(1, 5)]
            elif way == 2:
                data[place:place] = bytes(draw.choices(b'[]{}",:0159e-.truenl~\\', k=draw.randint(1, 3)))
            else:
                data[place] = draw.choice(b"0123456789")
        try:
            value = JSON.loads(bytes(data))
        except CorruptRecord:
            continue
        assert spelled(JSON.loads(JSON.dumps(value))) == spelled(value), seed


@pytest.fixture
def lifted_limit() -> Iterator[None]:
    before = sys.get_int_max_str_digits()
    yield
    sys.set_int_max_str_digits(before)


@pytest.mark.parametrize("limit", [0, 100_000, 4300, 640])
@pytest.mark.usefixtures("lifted_limit")
def test_ints_are_bounded_whatever_python_allows(limit: int) -> None:
    """An application that lifted or lowered Python's own limit gets the same 4,300 digits at most."""
    sys.set_int_max_str_digits(limit)
    allowed = min(limit or 4300, 4300)
    for value in (10**allowed - 1, -(10**allowed) + 1):
        assert JSON.loads(JSON.dumps([value])) == [value]
        assert JSON.loads(JSON.dumps({1: value})) == {1: value}
    for data in (b"1" * 4301, b"[" + b"9" * 50_000 + b"]"):
        with pytest.raises(CorruptRecord):
            JSON.loads(data)
    for place in (10**4300, [10**4300], {"a": -(10**4300)}, (10**4300,)):
        with pytest.raises(UnserializableValue):
            JSON.dumps(place)
    if limit == 640:
        for place in (10**700, [10**700], (10**700,)):
            with pytest.raises(UnserializableValue):
                JSON.dumps(place)


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
    """A serializer of ours is used as it is; permission to pickle reaches auto."""
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
    """Whatever a user's object raises or answers arrives as one of our errors."""
    custom = by_name(Foreign(made))
    with pytest.raises(UnserializableValue, match=r"session\['x'\]"):
        custom.dumps(1, "session['x']")
    with pytest.raises(CorruptRecord):
        custom.loads(b"x")
    assert by_name(Foreign("é")).dumps(1) == "é".encode()
