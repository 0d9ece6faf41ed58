"""Counts that threads add to side by side, where no GIL makes ``+=`` one step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, SupportsIndex, TypeVar

from beaker.forks import after_fork

__all__ = ["guarded"]

T = TypeVar("T")
_LABELS = frozenset({"backend", "namespace", "region", "type"})
_mutex = threading.Lock()


def _renew() -> None:
    # A fork while another thread counts would leave it locked in the child.
    global _mutex
    _mutex = threading.Lock()


after_fork(_renew)


class _Places(list[int]):
    """A list whose items read as 0 and add what is assigned."""

    def __getitem__(self, index: Any) -> Any:
        return 0

    def __setitem__(self, index: SupportsIndex | slice, step: Any) -> None:
        with _mutex:
            super().__setitem__(index, super().__getitem__(index) + step)


def _zero(self: Any) -> int:
    # What ``+=`` starts from, so that only its step is assigned.
    return 0


def guarded(plain: type[T]) -> type[T]:
    """A subclass of a tally that loses no count without the GIL: a count reads as 0, and what is assigned is added, by
    one thread at a time. ``stats()`` says what it is."""
    slots: dict[str, Any] = {name: vars(plain)[name] for name in plain.__slots__}  # type: ignore[attr-defined]

    def clear(self: Any) -> None:
        with _mutex:
            for name in slots.keys() - _LABELS - {"places"}:
                slots[name].__set__(self, 0)
            if "places" in slots:
                from beaker.counters.bounds import BOUNDS

                slots["places"].__set__(self, _Places([0] * (len(BOUNDS) + 1)))

    def stats(self: Any) -> Any:
        copy: Any = plain.__new__(plain)
        with _mutex:
            for slot in slots.values():
                slot.__set__(copy, slot.__get__(self))
        return plain.stats(copy)  # type: ignore[attr-defined]

    def adding(slot: Any) -> Callable[[Any, Any], None]:
        def add(self: Any, step: Any) -> None:
            with _mutex:
                slot.__set__(self, slot.__get__(self) + step)

        return add

    counts = {name: property(_zero, adding(slots[name])) for name in slots.keys() - _LABELS - {"places"}}
    return type(plain.__name__, (plain,), {"__slots__": (), "clear": clear, "stats": stats, **counts})
