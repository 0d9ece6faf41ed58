"""Cache keys of random arguments."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from beaker import keys

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(st.characters()), st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.lists(values, max_size=3), st.lists(values, max_size=3))
def test_keys_are_injective(left: list[Any], right: list[Any]) -> None:
    """Equal keys mean equal arguments, in value and type."""
    same = keys.cache_key(left, key_length=10**9) == keys.cache_key(right, key_length=10**9)
    assert same == (canonical(left) == canonical(right))


def canonical(value: Any) -> str:
    if isinstance(value, dict):
        return "dict" + repr(sorted((key, canonical(item)) for key, item in value.items()))
    if isinstance(value, (list, tuple)):
        return type(value).__name__ + repr([canonical(item) for item in value])
    return type(value).__name__ + repr(value)
