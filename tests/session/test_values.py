"""Values of a session as bytes: one by one, all together, and again."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaker.config.parse import parse_session
from beaker.exceptions import CorruptRecord, UnserializableValue
from beaker.serialization.serializers import TaggedJson
from beaker.session.context import SessionContext
from beaker.session.values import NOTHING, ValueCodec, pack_items, unpack_items
from beaker.testing.session_harness import SECRET
from tests.values import spelled

CODEC = ValueCodec(None, may_pickle=True)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8), st.binary(max_size=8)
)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner))
KEYS = st.one_of(st.text(max_size=5), st.integers(), st.booleans(), st.tuples(st.integers(), st.text(max_size=3)))


@given(st.dictionaries(st.binary(max_size=300), st.binary(max_size=300), max_size=8))
def test_items_come_back_as_they_were(packed: dict[bytes, bytes]) -> None:
    """Any pieces, short and long, in their order."""
    data = b"head" + pack_items(packed)
    assert list(unpack_items(data, 4).items()) == list(packed.items())


@given(st.dictionaries(st.binary(max_size=140), st.binary(max_size=140), min_size=1, max_size=4), st.data())
def test_items_cut_or_longer_are_corrupt(packed: dict[bytes, bytes], data: Any) -> None:
    """No prefix and no continuation of a record is another record."""
    whole = pack_items(packed)
    with pytest.raises(CorruptRecord):
        unpack_items(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CorruptRecord):
        unpack_items(whole + b"\0")


def test_endless_lengths_are_corrupt() -> None:
    """Lengths beyond what a record can be, and a key twice."""
    for data in (b"\xff" * 8, b"\x01\xff\xff\xff\xff\xff\x01", b"\x81", b"\x02\x01\x01\x01\x01abac"):
        with pytest.raises(CorruptRecord):
            unpack_items(data)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_what_did_not_change_packs_as_it_was(session: dict[Any, Any]) -> None:
    """Taking over what is known gives the same bytes as serializing anew."""
    packed = CODEC.pack(session.items())
    loaded = CODEC.unpack(packed, trusted=True)
    base = CODEC.base(packed, loaded)
    assert CODEC.pack(loaded.items(), base) == CODEC.pack(loaded.items()) == CODEC.repack(loaded, base)


@given(st.dictionaries(KEYS, VALUES, max_size=6), st.dictionaries(KEYS, VALUES, max_size=3), st.integers(1, 3))
def test_what_changed_packs_as_if_nothing_was_known(
    session: dict[Any, Any], changes: dict[Any, Any], rounds: int
) -> None:
    """Values replaced, and others added and removed, in a session that was read before; it unpacks to the same."""
    codec = ValueCodec("auto", may_pickle=True)
    packed = codec.pack(session.items(), NOTHING)
    for _ in range(rounds):
        loaded = codec.unpack(packed, trusted=True)
        base = codec.remembered(packed) or codec.base(packed, loaded)
        for key in list(loaded)[:rounds]:
            changes = {**changes, key: loaded[key]}
            if rounds == 3:
                del loaded[key]
        loaded.update(changes)
        packed = codec.repack(loaded, base)
        assert packed == CODEC.pack(loaded.items())
        assert list(packed) == list(CODEC.pack(loaded.items()))
        assert spelled([codec.unpack(packed, trusted=True)]) == spelled([CODEC.unpack(packed, trusted=True)])


def test_changes_are_never_taken_for_known() -> None:
    """Mutated inside, replaced by something equal of another type, a key of another type, a key gone."""
    packed = CODEC.pack({"list": [1], "one": 1, 1: "x", "gone": None, "kept": "text" * 3}.items())
    loaded = CODEC.unpack(packed, trusted=True)
    base = CODEC.base(packed, loaded)
    loaded["list"].append(2)
    loaded["one"] = True
    del loaded["gone"]
    value = loaded.pop(1)
    loaded[True] = value
    expected = {b'"list"': b"J[1,2]", b'"one"': b"Jtrue", b"true": b'J"x"', b'"kept"': b'J"texttexttext"'}
    assert CODEC.pack(loaded.items(), base) == expected == CODEC.repack(loaded, base)


def test_a_key_of_another_type_in_the_same_place_is_a_change() -> None:
    """1 and True are equal, and so are the lists of keys that hold them."""
    packed = CODEC.pack([(1, "x")])
    base = CODEC.base(packed, CODEC.unpack(packed, trusted=True))
    assert CODEC.repack({True: "x"}, base) == {b"true": b'J"x"'}


def test_a_change_writes_a_key_as_this_codec_spells_it() -> None:
    """Of a record that spells it otherwise; what did not change keeps its spelling, or reads would write."""
    packed = {b'"\\u0061"': b"J1", b'"b"': b"J2"}
    codec = ValueCodec("auto", may_pickle=True)
    loaded = codec.unpack(packed, trusted=True)
    base = codec.base(packed, loaded)
    assert codec.repack(loaded, base) == packed
    assert codec.repack({**loaded, "a": 5}, base) == {b'"a"': b"J5", b'"b"': b"J2"}


def test_a_key_has_one_name_whatever_was_read_before() -> None:
    """A record that spells a key otherwise teaches no codec to write it so: two names of a key would not merge."""
    codec = ValueCodec("auto", may_pickle=True)
    assert codec.unpack({b'"\\u0061"': b"J1"}, trusted=True) == {"a": 1}
    assert codec.pack([("a", 1)]) == {b'"a"': b"J1"}
    assert codec.unpack({b'"a"': b"J2"}, trusted=True) == {"a": 2}


def test_two_names_of_one_key_are_not_known() -> None:
    """Where nothing shows which name a value came from, it is serialized anew."""
    packed = {b"1": b"J5", b"true": b"J5", b'"a"': b"J6"}
    assert CODEC.base(packed, CODEC.unpack(packed, trusted=True)) is NOTHING


@given(st.lists(VALUES, max_size=6))
def test_many_at_once_are_what_each_is(items: list[Any]) -> None:
    """loads_each() returns what loads() returns for each part."""
    json = TaggedJson()
    parts = [data for data in map(dumped, items) if data is not None]
    assert spelled(json.loads_each(parts)) == spelled([json.loads(part) for part in parts])


def dumped(value: Any) -> bytes | None:
    try:
        return TaggedJson().dumps(value)
    except UnserializableValue:
        return None


@pytest.mark.parametrize(
    "parts",
    [
        (b"1,2", b"3"),
        (b"[1", b"2]", b"3,4"),
        (b"1]", b"[2"),
        (b"", b"1"),
        (b'"a', b'b"'),
        (b"1 ", b"]"),
        (b"[" * 300,) * 2,
    ],
)
def test_parts_that_are_nothing_alone_are_nothing_together(parts: tuple[bytes, ...]) -> None:
    """Pieces that form our JSON only when joined with commas are refused, as each of them is."""
    with pytest.raises(CorruptRecord):
        TaggedJson().loads_each(parts)


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"type": "cookie", "secret": SECRET}, "a cookie never holds a pickle"),
        ({"type": "cookie", "secret": SECRET, "serializer": "json"}, "a cookie never holds a pickle"),
        ({"type": "hybrid", "secret": SECRET, "store": "memory"}, "a cookie never holds a pickle"),
        ({"type": "ext:database", "url": "sqlite://"}, "set session.secret so that it may be pickled"),
        ({"type": "memory", "serializer": "json"}, "leave session.serializer at auto"),
    ],
)
def test_the_advice_fits_the_place(options: dict[str, Any], advice: str) -> None:
    """A type that JSON does not hold: the advice works there, and mentions pickles only where they are possible."""
    context = SessionContext(parse_session(kwargs=options))
    with pytest.raises(UnserializableValue, match=advice) as caught:
        context.values.pack([("colour", Colour.RED)])
    assert "session['colour'] holds Colour" in str(caught.value)


def test_what_no_serializer_holds_is_said() -> None:
    """Where pickle failed as well, it is not advised."""
    context = SessionContext(parse_session(kwargs={"type": "memory"}))
    with pytest.raises(UnserializableValue, match=r"a pickle cannot hold it either"):
        context.values.pack([("f", lambda: 1)])
    context.values.pack([("colour", Colour.RED)])
