"""Values made to share one hash: sets and dicts of them are refused, in whatever they are written and read."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import Cache
from beaker.exceptions import CorruptRecord, UnserializableValue
from beaker.serialization.hashes import MOST_ALIKE, crowded
from beaker.serialization.serializers import Auto, Pickle
from beaker.serialization.tags import TAG
from beaker.session import Session
from beaker.session.legacy import unpickle
from beaker.session.legacy.plain import LegacyDataError
from beaker.session.values import ValueCodec
from tests.values import JSON, spelled

SECRET = "6bf2a7a1f4d94ee1a8e8b0c35d7a49f0c2f1"
P = 2**61 - 1

ALIKE: dict[str, Callable[[int], Any]] = {
    "int": lambda n: n * P + 7,
    "negative": lambda n: -n * P - 7,
    "decimal": lambda n: Decimal(n * P + 7),
    "complex": lambda n: complex(5e6 - 1_000_003.0 * n, float(n)),
    "uuid": lambda n: uuid.UUID(int=n * P + 7),
    "tuple": lambda n: (1, n * P),
    "frozenset": lambda n: frozenset([n * P]),
    "nested": lambda n: ((frozenset([(n * P,)]),),),
}
"""``n`` (0 and more) to one of a kind's values, all with the same hash."""


def some(kind: str, count: int) -> list[Any]:
    values = [ALIKE[kind](n) for n in range(count)]
    assert len(set(map(hash, values))) == 1
    assert len(set(values)) == count
    return values


@pytest.mark.parametrize("kind", ALIKE)
def test_what_is_written(kind: str) -> None:
    """64 come back; more are refused in a set, a frozenset and as keys, wherever it lies; by pickle too, at the top."""
    few, many = some(kind, MOST_ALIKE), some(kind, MOST_ALIKE + 1)
    for make in (set, frozenset, dict.fromkeys):
        assert spelled(JSON.loads(JSON.dumps(make(few)))) == spelled(make(few))
        for value in (make(many), [make(many)], {"a": {"b": (make(many),)}}):
            with pytest.raises(UnserializableValue, match="same hash") as caught:
                JSON.dumps(value)
            assert caught.value.code == "value.same-hash"
        for serializer in (Pickle(), Auto(allow_pickle=True), Auto(allow_pickle=True, prefer_pickle=True)):
            with pytest.raises(UnserializableValue, match="same hash"):
                serializer.dumps(make(many))


def text_of(kind: str, shape: str, count: int) -> bytes:
    """Tagged JSON with ``count`` values of one hash, as a hostile writer may spell it."""
    if shape == "dict":
        return b",".join(JSON.dumps([value, 1]) for value in some(kind, count)).join([b'{"~t":["dict",[', b"]]}"])
    return b",".join(map(JSON.dumps, some(kind, count))).join(
        [b'{"%s":["%s",[' % (TAG.encode(), shape.encode()), b"]]}"]
    )


@pytest.mark.parametrize("shape", ["set", "frozenset", "dict"])
@pytest.mark.parametrize("kind", ALIKE)
def test_what_is_read(kind: str, shape: str) -> None:
    """A record with more than 64 of them is corrupt; with 64 it is read."""
    assert len(JSON.loads(text_of(kind, shape, MOST_ALIKE))) == MOST_ALIKE
    for wrap in (b"%s", b'{"a":[%s]}'):
        with pytest.raises(CorruptRecord):
            JSON.loads(wrap % text_of(kind, shape, MOST_ALIKE + 1))


def test_honest_data_of_any_size() -> None:
    """Grids of negative and other coordinates, in which -1 and -2 share a hash, and a hundred thousand numbers."""
    grid = {(x, y, z) for x in range(-12, 12) for y in range(-12, 12) for z in range(-12, 12)}
    assert len(set(map(hash, grid))) < len(grid)
    for value in (grid, set(range(-50_000, 50_000)), {1.5 * n for n in range(10_000)}, dict.fromkeys(range(-500, 500))):
        assert JSON.loads(JSON.dumps(value)) == value


def test_session_keys() -> None:
    """The keys of a session are those of a dict as well."""
    codec = ValueCodec("json", may_pickle=False)
    few, many = dict.fromkeys(some("int", MOST_ALIKE), 1), dict.fromkeys(some("int", MOST_ALIKE + 1), 1)
    assert codec.unpack(codec.pack(few.items()), trusted=False) == few
    with pytest.raises(UnserializableValue, match="same hash"):
        codec.pack(many.items())
    with pytest.raises(CorruptRecord):
        codec.unpack({JSON.dumps(key): b"J1" for key in many}, trusted=False)


@pytest.mark.parametrize("options", [{}, {"secret": SECRET}, {"secret": SECRET, "serializer": "pickle"}])
def test_sessions_and_caches(options: dict[str, Any], tmp_path: Path) -> None:
    """What the application is told names the place; the session and the cache keep what they had."""
    hostile = set(some("int", MOST_ALIKE + 1))
    session = Session({}, type="file", data_dir=str(tmp_path), **options)
    session["seen"] = {1, 2}
    session.save()
    session["seen"] = hostile
    with pytest.raises(UnserializableValue, match="same hash"):
        session.save()
    assert Session({}, type="file", data_dir=str(tmp_path), id=session.id, **options)["seen"] == {1, 2}
    cache = Cache("n", type="file", data_dir=str(tmp_path), **options)
    cache.put("k", {1, 2})
    with pytest.raises(UnserializableValue, match="same hash"):
        cache.put("k", hostile)
    assert cache.get("k") == {1, 2}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", ["int", "decimal", "complex", "tuple", "frozenset"])
def test_old_pickles(kind: str, protocol: int) -> None:
    """The reader of old pickles refuses them, in whatever steps the pickle builds a set or a dict."""
    few, many = some(kind, MOST_ALIKE), some(kind, MOST_ALIKE + 1)
    for make in (set, frozenset, dict.fromkeys):
        assert unpickle.loads(pickle.dumps(make(few), protocol), limit=2**20) == make(few)
        with pytest.raises(LegacyDataError):
            unpickle.loads(pickle.dumps(make(many), protocol), limit=2**20)


def test_old_pickles_step_by_step() -> None:
    """One element or key at a time is counted as well."""
    numbers = [pickle.dumps(number, 2)[2:-1] for number in some("int", MOST_ALIKE + 1)]
    for start, step in ((b"\x8f", b"(%s\x90"), (b"}", b"%sNs")):
        for count, good in ((MOST_ALIKE, True), (MOST_ALIKE + 1, False)):
            data = b"\x80\x04" + start + b"".join(step % number for number in numbers[:count]) + b"."
            if good:
                assert len(unpickle.loads(data, limit=2**20)) == count
            else:
                with pytest.raises(LegacyDataError):
                    unpickle.loads(data, limit=2**20)


def test_the_count_itself_is_of_hashes_only() -> None:
    """Nothing is compared while it is found out: values that cannot be compared are counted."""

    class Odd:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared")

    assert crowded([Odd() for _ in range(MOST_ALIKE + 1)])
    assert not crowded([Odd() for _ in range(MOST_ALIKE)])
