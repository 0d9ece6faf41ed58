"""Keys of arguments whose class extends one that has a key."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import functools
import pathlib
import uuid
from collections import OrderedDict
from typing import Any

import pytest

from beaker import keys
from beaker.exceptions import UncacheableArgument


class Word(str):
    pass


class Money(decimal.Decimal):
    pass


class Day(dt.date):
    pass


class Moment(dt.datetime):
    pass


class Id(uuid.UUID):
    pass


class Place(type(pathlib.Path())):  # type: ignore[misc]
    pass


class Pairs(OrderedDict[str, int]):
    pass


@dataclasses.dataclass(frozen=True)
class Size:
    width: int

    @functools.cached_property
    def area(self) -> int:
        return self.width**2


class Box(Size):
    pass


class OtherDay(dt.date):
    __slots__ = ("calendar",)


@pytest.mark.parametrize(
    "heavy",
    [
        Word("a"),
        Money("1.0"),
        Day(2026, 1, 1),
        Moment(2026, 1, 1),
        Id(int=1),
        Place("/a"),
        Pairs(a=1),
        Box(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_subclass_with_state_is_refused(heavy: Any) -> None:
    """What extends a type and has an attribute holds more than a key could say: two such values would share one."""
    assert keys.cache_key([heavy])
    object.__setattr__(heavy, "more", 1)
    with pytest.raises(UncacheableArgument, match="holds more"):
        keys.cache_key([heavy])


def test_subclass_with_slots_is_refused() -> None:
    """Slots of a class that extends another hold more than a key could say."""
    with pytest.raises(UncacheableArgument, match="holds more"):
        keys.cache_key([OtherDay(2026, 1, 1)])


def test_cached_properties_are_no_state() -> None:
    """A cached property that was computed neither refuses nor changes a key."""
    box = Box(3)
    before = keys.cache_key([box])
    assert box.area == 9
    assert keys.cache_key([box]) == before


class SaysSeven(int):
    def __int__(self) -> int:
        return 7

    def __repr__(self) -> str:
        return "7"


class SaysNothing(tuple[int, ...]):
    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


class SaysSame(bytes):
    def __bytes__(self) -> bytes:
        return b"same"

    def hex(self, *args: Any) -> str:
        return "00"


class SaysOne(float):
    def __float__(self) -> float:
        return 1.0

    def __repr__(self) -> str:
        return "1.0"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (SaysSeven(1), SaysSeven(2)),
        (SaysNothing((1,)), SaysNothing((2,))),
        (SaysSame(b"a"), SaysSame(b"b")),
        (SaysOne(2), SaysOne(3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_value_is_and_not_what_it_says(one: Any, other: Any) -> None:
    """Two values of a simple type's subclass have two keys, whatever its methods say of them."""
    assert keys.cache_key([one]) != keys.cache_key([other])
