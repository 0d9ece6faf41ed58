"""Names for calls: canonical, typed, without collisions."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import math
import operator
import pathlib
import subprocess
import sys
import uuid
from collections import OrderedDict, namedtuple
from typing import Any

import pytest

from beaker import keys
from beaker.exceptions import UncacheableArgument

Point = namedtuple("Point", "x y")


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Markup(str):
    """A str that says more by its type."""

    def __str__(self) -> str:
        raise AssertionError("a key is made of what a str holds, not of what it says")


class Slotted(str):
    """A str with a slot."""

    __slots__ = ("more",)


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: int
    b: Any = None


@dataclasses.dataclass
class Thawed:
    a: int


class Keyed:
    def __init__(self, name: Any) -> None:
        self.name = name

    def __cache_key__(self) -> Any:
        return self.name

    def method(self) -> None:
        """Something to bind."""

    @classmethod
    def build(cls) -> None:
        """Something bound to a class."""

    @staticmethod
    def plain() -> None:
        """Something bound to nothing."""


class OtherKeyed(Keyed):
    pass


def function() -> None:
    """Something with a name."""


TZ = dt.timezone(dt.timedelta(hours=1))

DIFFERENT: list[tuple[Any, ...]] = [
    (),
    ("",),
    ("", ""),
    (None,),
    ("None",),
    (True,),
    (False,),
    (1,),
    ("1",),
    (1.0,),
    (b"1",),
    (1 + 0j,),
    (decimal.Decimal(1),),
    (Level.LOW,),
    (Color.RED,),
    (Color.BLUE,),
    ("a b",),
    ("a", "b"),
    ("a", "b", ""),
    ("s1:a",),
    ("as1:b",),
    ("a|",),
    (-1,),
    (10**18,),
    (10**5000,),
    (10**5000 + 1,),
    (0.0,),
    (-0.0,),
    (math.inf,),
    (-math.inf,),
    (math.nan,),
    ("nan",),
    (complex(0, -0.0),),
    (0j,),
    (b"",),
    (b"a b",),
    ((),),
    ([],),
    ({},),
    (set(),),
    (frozenset(),),
    (("a", "b"),),
    (("a",), "b"),
    (["a", "b"],),
    ({"a": "b"},),
    ({"a", "b"},),
    (frozenset({"a", "b"}),),
    ({"a": 1, "b": 2},),
    ({"a": 2, "b": 1},),
    (OrderedDict(a=1, b=2),),
    (OrderedDict(b=2, a=1),),
    ([1, [2, [3]]],),
    ([1, [2], [3]],),
    (range(3),),
    (range(0, 3, 2),),
    ((0, 1, 2),),
    (Point(1, 2),),
    ((1, 2),),
    (dt.date(2020, 1, 1),),
    (dt.datetime(2020, 1, 1),),
    (dt.datetime(2020, 1, 1, fold=1),),
    (dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc),),
    (dt.datetime(2020, 1, 1, 1, tzinfo=TZ),),
    (dt.time(1, 2),),
    (dt.time(1, 2, tzinfo=dt.timezone.utc),),
    (dt.timedelta(1),),
    (dt.timedelta(0, 1),),
    ("2020-01-01",),
    (uuid.UUID(int=1),),
    (uuid.UUID(int=1).hex,),
    (pathlib.PurePosixPath("a"),),
    (pathlib.PureWindowsPath("a"),),
    (Markup("a"),),
    ("a",),
    (Frozen(1),),
    (Frozen(1, "x"),),
    (Keyed("a"),),
    (Keyed(("a",)),),
    (OtherKeyed("a"),),
    (Keyed("a").method,),
    (Keyed("b").method,),
    (Keyed,),
    (OtherKeyed,),
    (OtherKeyed.build,),
    (Keyed.build,),
    (Color,),
    (int,),
    (function,),
    (len,),
    ([].append,),
    ("\ud800",),
    ("\ud83d\udca9",),
    ("\N{PILE OF POO}",),
    ("x" * 1000,),
    ("x" * 1001,),
]


def test_different_calls_have_different_keys() -> None:
    """No two of many easily confused argument lists share a key, as readable key or as digest."""
    for length in (10**6, 250, 0):
        found: dict[str, Any] = {}
        for arguments in DIFFERENT:
            key = keys.cache_key(arguments, key_length=length)
            assert key not in found, f"{arguments!r:.80} and {found[key]!r:.80}"
            found[key] = arguments


def test_equal_calls_have_equal_keys() -> None:
    """The order of a dict or set, and NaN's inequality to itself, do not matter."""
    assert keys.cache_key([{"a": 1, "b": 2}]) == keys.cache_key([{"b": 2, "a": 1}])
    assert keys.cache_key([{"ab", "cd", "ef"}]) == keys.cache_key([{"ef", "cd", "ab"}])
    assert keys.cache_key([math.nan]) == keys.cache_key([float("nan")])
    assert keys.cache_key(("a", 1)) == keys.cache_key(["a", 1])
    assert keys.cache_key([1], {"x": 1, "y": 2}) == keys.cache_key([1], {"y": 2, "x": 1})


def test_keyword_arguments() -> None:
    """A keyword argument is not a positional one, and its name counts."""
    made = [
        keys.cache_key([1]),
        keys.cache_key([], {"x": 1}),
        keys.cache_key([], {"y": 1}),
        keys.cache_key(["x", 1]),
        keys.cache_key([1, "x", 1]),
        keys.cache_key([1], {"x": 1}),
        keys.cache_key([{"x": 1}]),
        keys.cache_key([], {"x": "1"}),
        keys.cache_key([], {"xs1:y": 1}),
        keys.cache_key([], {"x": 1, "y": 1}),
    ]
    assert len(set(made)) == len(made)
    assert keys.cache_key([1], {}) == keys.cache_key([1])


def test_readable_and_shortened() -> None:
    """A short key can be read; a longer one in bytes becomes # and 64 hex digits."""
    assert "hello" in keys.cache_key(["hello", 42])
    assert len(keys.cache_key(["x" * 245])) == 250
    for long in ("x" * 246, "é" * 123, "#" * 300):
        key = keys.cache_key([long])
        assert len(key) == 65
        assert key[0] == "#"
    assert keys.cache_key(["#" + "0" * 64]) != "#" + "0" * 64
    assert len(keys.cache_key(["x" * 20], key_length=10)) == 65


def test_keys_are_the_same_in_every_process() -> None:
    """Hash randomization and addresses have no part in a key."""
    program = (
        "from beaker.keys import cache_key, digest; import datetime, uuid\n"
        "print(cache_key([{'b', 'a', 'c'}, {'x': (1, None)}, uuid.UUID(int=3), datetime.date(2020, 1, 1), len, dict]),"
        "digest('n', 'k'))"
    )
    root = pathlib.Path(__file__).parents[1]
    answers = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, cwd=root, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(answers) == 1


def local() -> Any:
    def inner() -> None:
        """Cannot be reached by name."""

    return inner


cyclic: list[Any] = []
cyclic.append(cyclic)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Thawed(1),
        local(),
        lambda: None,
        functools.partial(function),
        bytearray(b"x"),
        cyclic,
        iter(()),
        [object()],
        {"k": object()},
        Keyed(object()),
        object().__repr__,
        Slotted("x"),
        operator.itemgetter(1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_uncacheable(value: Any) -> None:
    """What has no canonical form is refused by position or name, with the remedy and without the value."""
    with pytest.raises(UncacheableArgument, match=r"positional argument 2: .*__cache_key__") as caught:
        keys.cache_key(["secret", value])
    assert "secret" not in str(caught.value)
    assert " at 0x" not in str(caught.value)
    with pytest.raises(UncacheableArgument, match="argument 'name': "):
        keys.cache_key([], {"name": value})


def test_legacy_keys() -> None:
    """legacy joins str() of the arguments by a space, as Beaker up to 1.14 does."""
    assert keys.cache_key(["a", 1, None], legacy=True) == "a 1 None"
    assert keys.cache_key([1], legacy=True) == keys.cache_key(["1"], legacy=True)
    assert len(keys.cache_key(["x" * 300], legacy=True)) == 65
