"""Three-way merge of concurrent changes to one session: pure functions over packed values.

``base`` is what was loaded, ``mine`` what this request leaves, ``theirs`` what the store has by now. A
key changed on one side only takes that side; changed equally, either; changed differently, the policy
decides. Counters and sets changed by operations (increment, add, discard) are applied again to ``theirs``,
so nothing is lost whatever the policy says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from beaker.session.values import Packed

__all__ = ["Delta", "Merged", "Operation", "apply_operations", "diff", "merge"]

Resolve = Callable[[bytes, "bytes | None", "bytes | None", "bytes | None"], "bytes | None"]
Operate = Callable[["bytes | None", "tuple[Operation, ...]"], "bytes | None"]


class Operation(NamedTuple):
    """One commutative change: ``increment``, ``add`` or ``discard`` with its argument."""

    name: str
    argument: Any

    def __repr__(self) -> str:
        return f"<Operation {self.name}>"


class Delta(NamedTuple):
    """What a request changed: keys set, keys deleted, keys changed by operations."""

    sets: Packed
    deletes: frozenset[bytes]
    operations: Mapping[bytes, tuple[Operation, ...]] = MappingProxyType({})

    def __bool__(self) -> bool:
        return bool(self.sets or self.deletes)

    def __repr__(self) -> str:
        return f"<Delta of {len(self.sets)} set, {len(self.deletes)} deleted>"

    @property
    def touched(self) -> set[bytes]:
        return {*self.sets, *self.deletes}


class Merged(NamedTuple):
    """The outcome: the values to write, and the keys on which both sides had differed."""

    values: Packed
    conflicts: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"<Merged of {len(self.values)} values, {len(self.conflicts)} conflicts>"


def diff(base: Packed, mine: Packed, operations: Mapping[bytes, tuple[Operation, ...]] | None = None) -> Delta:
    """How ``mine`` differs from ``base``. ``operations`` lists the keys that only operations changed."""
    sets = {name: data for name, data in mine.items() if base.get(name) != data}
    deletes = frozenset(name for name in base if name not in mine)
    kept = {name: steps for name, steps in (operations or {}).items() if name in sets}
    return Delta(sets, deletes, kept)


def merge(
    base: Packed,
    delta: Delta,
    theirs: Packed,
    resolve: Resolve,
    operate: Operate,
) -> Merged:
    """``delta`` applied to ``theirs``.

    ``resolve(name, base, mine, theirs)`` returns the bytes to keep for a conflicting key, ``None`` to
    delete it; ``operate(theirs, operations)`` applies operations to serialized bytes, ``None`` for an absent key.
    """
    values = dict(theirs)
    conflicts: list[bytes] = []
    for name in sorted(delta.touched):
        ours, before, now = delta.sets.get(name), base.get(name), theirs.get(name)
        operations = delta.operations.get(name)
        if now == before:
            outcome = ours
        elif operations is not None and (done := _operated(operate, now, operations)) is not None:
            # Also where both sides came to the same value: two additions are two.
            (outcome,) = done
        elif now == ours:
            outcome = ours
        else:
            conflicts.append(name)
            outcome = resolve(name, before, ours, now)
        if outcome is None:
            values.pop(name, None)
        else:
            values[name] = outcome
    return Merged(values, tuple(conflicts))


def _operated(operate: Operate, now: bytes | None, steps: tuple[Operation, ...]) -> tuple[bytes | None] | None:
    try:
        return (operate(now, steps),)
    except TypeError:
        # Another request put something there that cannot be counted or added to: a conflict like any other.
        return None


def apply_operations(value: Any, operations: tuple[Operation, ...]) -> Any:
    """``value`` (``None``: absent) after the operations, in order.

    ``increment`` starts from 0; ``add`` and ``discard`` work on a set or on a list; ``add`` creates a set when absent.
    Raises TypeError when the value is of another kind.
    """
    for name, argument in operations:
        if name == "increment":
            value = (0 if value is None else value) + argument
        elif value is None:
            value = {argument} if name == "add" else None
        elif isinstance(value, list):
            if name == "discard":
                value = [item for item in value if item != argument]
            elif argument not in value:
                value = [*value, argument]
        elif isinstance(value, (set, frozenset)):
            value = value | {argument} if name == "add" else value - {argument}
        else:
            raise TypeError(f"{name} works on a set or a list, not on {type(value).__name__}")
    return value
