from __future__ import annotations

import json
import random
import sys
import uuid
import zoneinfo
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest

from beaker.exceptions import CorruptRecord, UnserializableValue
from tests.values import BERLIN, FUZZ, JSON, spelled

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
