from __future__ import annotations

import collections
import enum
import math
import sys
import zoneinfo
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any

import pytest

from beaker.exceptions import CorruptRecord, UnserializableValue
from tests.values import JSON, Name, Point, spelled


class Colour(enum.IntEnum):
    RED = 1


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
    """A million brackets do not overflow the stack, whatever the application did to the recursion limit."""
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
