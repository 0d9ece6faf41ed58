"""How many values share one hash: what a set or a dict of them costs.

Text and bytes are hashed under a key that no client knows. Numbers, and what is made of numbers (tuples, frozensets,
complex, UUIDs), are not: 20,000 integers that are equal modulo 2**61-1 keep a set busy for seconds, at every reading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable
from typing import Final

__all__ = ["MOST_ALIKE", "Hashes", "crowded"]

MOST_ALIKE: Final = 64
"""So many elements of one set, or keys of one dict, may have the same hash: no honest data comes near, and the work on
what is hostile stays proportional to its size."""


def crowded(values: Collection[Hashable]) -> bool:
    """Whether more than :data:`MOST_ALIKE` of ``values`` have the same hash. Raises TypeError for one that has none."""
    if len(values) <= MOST_ALIKE:
        return False
    hashes = list(map(hash, values))
    # Most of the time all are different, which a set finds out faster than a count.
    return len(set(hashes)) <= len(hashes) - MOST_ALIKE and max(Counter(hashes).values()) > MOST_ALIKE


class Hashes:
    """The count for a container that is filled bit by bit."""

    def __init__(self, values: Iterable[Hashable]) -> None:
        self._count = Counter(map(hash, values))

    def crowded_by(self, values: Iterable[Hashable]) -> bool:
        """Add ``values`` to the count, and say whether more than :data:`MOST_ALIKE` have the same hash now."""
        added = list(map(hash, values))
        self._count.update(added)
        return any(self._count[value] > MOST_ALIKE for value in added)
