"""The laws of the three-way merge, for any values; and how each policy resolves a conflict."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaker.session.merge import Delta, Operation, apply_operations, diff, merge
from beaker.session.values import Packed, ValueCodec

CODEC = ValueCodec("json", may_pickle=False)
NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
VALUES = st.one_of(st.integers(-9, 9), st.text(max_size=3), st.lists(st.integers(0, 3), max_size=2), st.none())
STATES = st.dictionaries(NAMES, VALUES).map(lambda values: CODEC.pack(values.items()))


def no_conflict(*_: Any) -> bytes | None:
    raise AssertionError("a conflict was seen where there is none")


def mine(name: bytes, base: bytes | None, mine: bytes | None, theirs: bytes | None) -> bytes | None:
    return mine


def operate(theirs: bytes | None, operations: tuple[Operation, ...]) -> bytes | None:
    value = None if theirs is None else CODEC.load(theirs, trusted=False)
    return CODEC.pack([("v", apply_operations(value, operations))]).popitem()[1]


def applied(base: Packed, delta: Delta, theirs: Packed, resolve: Any = no_conflict) -> Packed:
    return merge(base, delta, theirs, resolve, operate).values


@given(STATES, STATES)
def test_identity(base: Packed, theirs: Packed) -> None:
    """A request that changed nothing leaves what other requests wrote."""
    assert not diff(base, base)
    assert applied(base, diff(base, base), theirs) == theirs


@given(STATES, STATES)
def test_alone(base: Packed, after: Packed) -> None:
    """Where no other request wrote, the outcome is exactly what the request left."""
    assert applied(base, diff(base, after), base) == after


@given(STATES, STATES, STATES)
def test_idempotence(base: Packed, after: Packed, theirs: Packed) -> None:
    """Merging what is already merged changes nothing more."""
    delta = diff(base, after)
    once = applied(base, delta, theirs, mine)
    assert applied(base, delta, once, mine) == once


@given(STATES, STATES, STATES)
def test_disjoint_changes_commute(base: Packed, one: Packed, two: Packed) -> None:
    """Changes of different keys come out the same in either order, with every change in it."""
    first, second = diff(base, one), diff(base, two)
    kept = {name: data for name, data in second.sets.items() if name not in first.touched}
    second = Delta(kept, second.deletes - first.touched)
    there = applied(base, second, applied(base, first, base))
    back = applied(base, first, applied(base, second, base))
    assert there == back
    assert all(there[name] == data for name, data in {**first.sets, **second.sets}.items())
    assert not there.keys() & (first.deletes | second.deletes)


@given(STATES, STATES)
def test_equal_changes_are_no_conflict(base: Packed, after: Packed) -> None:
    """Two requests that do the same end where each would have alone."""
    delta = diff(base, after)
    assert applied(base, delta, applied(base, delta, base)) == after


@given(STATES, st.lists(st.tuples(STATES, st.booleans()), min_size=1, max_size=5))
def test_the_outcome_is_some_serial_order(base: Packed, requests: list[tuple[Packed, bool]]) -> None:
    """Requests that all loaded `base` and save one by one: each key holds what the last to change it left."""
    now = base
    expected = dict(base)
    for after, _ in requests:
        delta = diff(base, after)
        now = applied(base, delta, now, mine)
        expected.update(delta.sets)
        for name in delta.deletes:
            expected.pop(name, None)
    assert now == expected


NUMBERS = st.lists(st.integers(-5, 5), min_size=1, max_size=4)


@given(st.integers(-99, 99), st.lists(NUMBERS, min_size=1, max_size=5), st.randoms())
def test_additions_are_exact_in_any_order(start: int, requests: list[list[int]], order: Any) -> None:
    """Every addition of every request counts once, whoever saves first."""
    base = CODEC.pack([("n", start)])
    order.shuffle(requests)
    now = base
    for steps in requests:
        operations = tuple(Operation("increment", step) for step in steps)
        after = CODEC.pack([("n", apply_operations(start, operations))])
        now = applied(base, diff(base, after, {b'"n"': operations}), now)
    assert CODEC.unpack(now, trusted=False)["n"] == start + sum(map(sum, requests))


ITEMS = st.integers(0, 5)


@given(st.sets(ITEMS), st.lists(st.tuples(st.sampled_from(["add", "discard"]), ITEMS), max_size=4), st.sets(ITEMS))
def test_additions_to_sets_meet(start: set[int], steps: list[tuple[str, int]], others: set[int]) -> None:
    """add and discard beside another request's additions: for each item both requests' will, in some order."""
    base = CODEC.pack([("s", start)])
    operations = tuple(Operation(name, item) for name, item in steps)
    after = CODEC.pack([("s", apply_operations(start, operations))])
    theirs = CODEC.pack([("s", start | others)])
    found = CODEC.unpack(applied(base, diff(base, after, {b'"s"': operations}), theirs), trusted=False)["s"]
    touched = {item for _, item in steps}
    assert found - touched == (start | others) - touched
    for item in touched - others:
        assert (item in found) == (item in apply_operations(start, operations))


def test_a_list_takes_each_item_once() -> None:
    """add and discard work on lists and frozen sets too, and refuse what is neither."""
    assert apply_operations([1], (Operation("add", 2), Operation("add", 2), Operation("discard", 1))) == [2]
    assert apply_operations(frozenset({1}), (Operation("add", 2),)) == frozenset({1, 2})
    assert apply_operations(None, (Operation("discard", 1),)) is None
    with pytest.raises(TypeError, match="set or a list"):
        apply_operations({"a": 1}, (Operation("add", 2),))


@pytest.mark.parametrize(
    ("before", "ours", "now"),
    [(b"0", b"1", b"2"), (b"0", None, b"2"), (b"0", b"1", None), (None, b"1", b"2")],
    ids=["set and set", "delete and set", "set and delete", "both new"],
)
def test_a_true_conflict_is_asked_once_with_all_three_sides(
    before: bytes | None, ours: bytes | None, now: bytes | None
) -> None:
    """resolve() gets base, mine and theirs, and what it returns is kept; None deletes the key."""
    name = b'"k"'

    def state(data: bytes | None) -> Packed:
        return {} if data is None else {name: data}

    for answer in (b"answer", None):
        asked: list[Any] = []

        def resolve(*sides: Any, asked: list[Any] = asked, answer: bytes | None = answer) -> bytes | None:
            asked.append(sides)
            return answer

        merged = merge(state(before), diff(state(before), state(ours)), state(now), resolve, operate)
        assert asked == [(name, before, ours, now)]
        assert merged.values == state(answer)
        assert merged.conflicts == (name,)


def test_an_operation_that_cannot_be_applied_is_a_conflict() -> None:
    """A counter that another request has replaced by text: resolve() decides, as for any two changes."""
    base, theirs = CODEC.pack([("n", 1)]), CODEC.pack([("n", "text")])
    ours = CODEC.pack([("n", 2)])
    delta = diff(base, ours, {b'"n"': (Operation("increment", 1),)})
    merged = merge(base, delta, theirs, lambda name, before, mine, now: now, operate)
    assert (merged.values, merged.conflicts) == (theirs, (b'"n"',))


def test_operations_on_an_absent_value() -> None:
    """increment counts from 0, add begins a set."""
    assert apply_operations(None, (Operation("increment", 3),)) == 3
    assert apply_operations(None, (Operation("add", 3),)) == {3}


def test_a_delta_is_true_where_anything_changed() -> None:
    """A key that was only set, or only deleted, is a change."""
    assert diff({}, {b"a": b"1"})
    assert diff({b"a": b"1"}, {})
    assert not diff({b"a": b"1"}, {b"a": b"1"})
