"""The reader of old pickles: plain values of every protocol come back, anything else ends in one error."""

from __future__ import annotations

import datetime as dt
import decimal
import pickle
import pickletools
import tracemalloc
import uuid
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beaker.session.legacy import unpickle
from beaker.session.legacy.payload import inflated
from beaker.session.legacy.plain import LegacyDataError

ZONES = st.builds(
    dt.timezone,
    st.integers(-1439, 1439).map(lambda minutes: dt.timedelta(minutes=minutes)),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**300), 2**300),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(st.characters()),
    st.binary(),
    st.datetimes(timezones=st.none() | ZONES),
    st.dates(),
    st.times(timezones=st.none() | ZONES),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
HASHABLE = st.recursive(SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.dictionaries(HASHABLE, inner, max_size=5),
        st.sets(HASHABLE, max_size=5),
        st.frozensets(HASHABLE, max_size=5),
    ),
    max_leaves=20,
)


@given(VALUES, st.integers(0, 5))
@example(["\ud800", "a\\u0041\n", b"", bytearray(b"x"), dt.datetime(2024, 10, 27, 2, fold=1)], 0)
@example([uuid.UUID(int=7), uuid.UUID(int=7, is_safe=uuid.SafeUUID.safe), {uuid.UUID(int=8)}], 1)
@example([dt.timezone(dt.timedelta(hours=2), "X"), dt.timezone.utc, decimal.Decimal("-Infinity")], 4)
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    """Whatever Python pickles of them, in any protocol, is read as the same value of the same type."""
    found = unpickle.loads(pickle.dumps(value, protocol))
    assert found == value
    assert type(found) is type(value)
    # Its optimized form is the same pickle.
    assert unpickle.loads(pickletools.optimize(pickle.dumps(value, protocol))) == value


@given(st.binary(max_size=300))
def test_random_bytes_are_one_error(data: bytes) -> None:
    """No bytes raise anything but LegacyDataError."""
    _read_or_refuse(data)


OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
PIECES = st.sampled_from(
    [*OPCODES, b"cdatetime\ndatetime\n", b"cbuiltins\nset\n", b"cuuid\nUUID\n", b"\x00", b"1\n", b"\xff"]
)


@given(st.lists(PIECES, max_size=40).map(b"".join))
@settings(max_examples=500)
def test_random_programs_are_one_error(data: bytes) -> None:
    """Nor do opcodes in any order."""
    _read_or_refuse(b"\x80\x02" + data + b".")


@given(VALUES, st.integers(0, 5), st.data())
def test_damaged_pickles_are_one_error(value: Any, protocol: int, draw: st.DataObject) -> None:
    """Nor does a real pickle with a byte changed, or cut."""
    data = pickle.dumps(value, protocol)
    at = draw.draw(st.integers(0, len(data) - 1))
    _read_or_refuse(data[:at])
    _read_or_refuse(data[:at] + bytes([draw.draw(st.integers(0, 255))]) + data[at + 1 :])


def _read_or_refuse(data: bytes) -> None:
    with suppress(LegacyDataError):
        unpickle.loads(data)


NAMES = [
    ("os", "system"),
    ("posix", "system"),
    ("builtins", "eval"),
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("builtins", "object.__subclasses__"),
    ("copyreg", "__newobj__"),
    ("copyreg", "_reduce_ex"),
    ("functools", "partial"),
    ("datetime", "sys"),
    ("uuid", "os.system"),
    ("decimal", "Context"),
    ("_codecs", "decode"),
    ("codecs", "encode"),
]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_no_other_name_is_known(module: str, name: str) -> None:
    """By either opcode that names something."""
    for data in (
        b"c" + f"{module}\n{name}\n".encode() + b".",
        b"\x80\x04\x8c"
        + bytes([len(module)])
        + module.encode()
        + b"\x8c"
        + bytes([len(name)])
        + name.encode()
        + b"\x93.",
    ):
        with pytest.raises(LegacyDataError, match=r"\(name\)"):
            unpickle.loads(data)


CALLS = [
    b"cbuiltins\nbytes\n(J\xff\xff\xff\x7ftR.",  # bytes(2 ** 31 - 1)
    b"cbuiltins\nbytearray\n(J\xff\xff\xff\x7ftR.",
    b"cbuiltins\nobject\n)R.",
    b"cuuid\nUUID\n)R.",
    b"cuuid\nUUID\n)\x81.",  # created, and never given its state
    b"cuuid\nUUID\n)\x81}b.",
    b"cdatetime\ndatetime\n)\x81.",
    b"cdatetime\ndatetime\n(Vshort\ntR.",
    b"ccopy_reg\n_reconstructor\n(cdatetime\ndatetime\nc__builtin__\nobject\nNtR.",
    b"c_codecs\nencode\n(Vx\nVzlib\ntR.",
    b"c_codecs\nencode\n(Vx\nVrot13\ntR.",
    b"cdecimal\nDecimal\n(F1.5\ntR.",
    b"cbuiltins\nset\n(I1\ntR.",
    b"cdatetime\ntimezone\n(cdatetime\ntimedelta\n(I9\ntRtR.",
    b"cbuiltins\nset\n.",  # a class is not a value
    b"(.",  # nor a mark
    b"S'\\d'\n.",  # escapes that Python 2 did not write, and of which Python warns
    b"S'\\N{DIGIT ONE}'\n.",
    b"]q\x00h\x00a.",  # a list that holds itself
    b"}q\x00h\x00Ns.",  # a dict as a key
    b"Pid\n.",
    b"i__builtin__\nset\n.",
    b"\x82\x01.",
]


@pytest.mark.parametrize("data", CALLS)
def test_constructors_take_only_what_python_writes(data: bytes) -> None:
    """Other arguments, calls of what is not a class, and opcodes that reach outside are refused."""
    with pytest.raises(LegacyDataError):
        unpickle.loads(data)


def test_text_of_python_2(tmp_path: object) -> None:
    """Its ``str`` is text where it is UTF-8, else bytes; also as a key and in a set."""
    assert unpickle.loads(b"(dp0\nS'caf\\xc3\\xa9'\np1\nS'\\xff'\np2\ns.") == {"café": b"\xff"}
    assert unpickle.loads(b"S'\\t\\n\\r\\\\\\'\"~ []\\x7f'\n.") == "\t\n\r\\'\"~ []\x7f"
    assert unpickle.loads(b"\x80\x02U\x02\xc3\xa9.") == "é"
    assert unpickle.loads(b"\x80\x02c__builtin__\nset\n]U\x01aa\x85R.") == {"a"}
    assert unpickle.loads(b"\x80\x02T\x01\x00\x00\x00\x80.") == b"\x80"


def test_limits() -> None:
    """64 levels and ``limit`` bytes are read, one more is not."""
    deep: Any = []
    for _ in range(63):
        deep = [deep]
    assert unpickle.loads(pickle.dumps(deep)) == deep
    with pytest.raises(LegacyDataError, match="depth"):
        unpickle.loads(pickle.dumps([[deep]]))
    data = pickle.dumps(b"x" * 100)
    assert unpickle.loads(data, limit=len(data))
    with pytest.raises(LegacyDataError, match="size"):
        unpickle.loads(data, limit=len(data) - 1)
    with pytest.raises(LegacyDataError, match="rest"):
        unpickle.loads(pickle.dumps(1) + b"x")


LONG = b"T" + (30_000).to_bytes(4, "little") + b"a" * 30_000 + b"q\x00"
REPEATED = {
    "text of Python 2": LONG + b"0](" + b"h\x00" * 17_000 + b"e.",
    "text": LONG.replace(b"T", b"X", 1) + b"0](" + b"h\x00" * 17_000 + b"e.",
    "encoded": LONG.replace(b"T", b"X", 1)
    + b"0c_codecs\nencode\nq\x01]("
    + b"h\x01h\x00Vlatin1\n\x86R" * 2_000
    + b"e.",
    "joined": LONG + b"0c__builtin__\nbytes\nq\x01](" + b"h\x01h\x00\x85R" * 5_000 + b"e.",
    "integer": b"\x8b\xf9\x06\x00\x00" + b"\x7f" * 1_785 + b"q\x000](" + b"h\x00" * 30_000 + b"e.",
    "decimal": b"cdecimal\nDecimal\nV" + b"9" * 4_300 + b"\n\x85Rq\x000](" + b"h\x00" * 29_000 + b"e.",
}


@pytest.mark.parametrize("name", REPEATED)
def test_what_is_repeated_counts_each_time(name: str) -> None:
    """A long text or number that a few bytes each name thousands of times is not built, or written out, as often."""
    assert len(REPEATED[name]) < 65_536
    tracemalloc.start()
    try:
        with pytest.raises(LegacyDataError, match="values"):
            unpickle.loads(b"\x80\x02" + REPEATED[name])
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_a_zlib_bomb_reserves_no_memory() -> None:
    """What is beyond the limit is not unpacked first and measured then."""
    bomb = zlib.compress(bytes(50_000_000), 9)
    tracemalloc.start()
    try:
        with pytest.raises(LegacyDataError, match="size"):
            inflated(bomb, 65_536)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
