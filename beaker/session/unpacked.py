"""What a process remembers of packed values: unpacked once, each request gets objects of its own from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from operator import is_
from typing import Any, Final

__all__ = ["CHANGEABLE", "IMMUTABLE", "Copy", "Unpacked", "copier"]

IMMUTABLE: Final = frozenset({str, bytes, int, float, bool, type(None)})
CHANGEABLE: Final = object()
"""Stands for a value that an application may change in place: the loaded one says nothing of the present."""

Copy = tuple["Callable[[], Any]", Any]
"""What makes a changeable value anew, and such a value that only this module holds, ``None`` if there is none."""


class Unpacked:
    """The values of one ``packed`` session that this process has loaded or saved; see :meth:`ValueCodec.unpack`.

    ``plain`` has each value by its key, or :data:`CHANGEABLE`, in the order of ``packed``. Without ``copies`` of those
    it says what of ``packed`` still holds, and no more. ``pure``: all of it is JSON, which needs no trust. ``size`` is
    the bytes of ``packed``.
    """

    __slots__ = ("copies", "names", "packed", "plain", "pure", "size")

    def __init__(
        self,
        packed: dict[bytes, bytes],
        plain: dict[Any, Any] | None,
        names: dict[Any, bytes],
        copies: Mapping[Any, Copy],
        *,
        pure: bool,
        size: int,
    ) -> None:
        self.packed = packed
        self.plain = plain
        """``None``: it was unpacked once, and may never be again."""
        self.names = names
        self.copies = copies
        self.pure = pure
        self.size = size

    def __repr__(self) -> str:
        return f"<Unpacked of {len(self.packed)} values>"

    def fresh(self, plain: dict[Any, Any]) -> dict[Any, Any]:
        """The values, those that can be changed in place as new objects."""
        values = plain.copy()
        for key, (copy, _) in self.copies.items():
            values[key] = copy()
        return values

    def holds(self, key: Any, value: Any) -> bool:
        """Whether a changeable ``value`` plainly is as it was: a flat list or dict of the very same objects."""
        kept = self.copies.get(key)
        if kept is None or type(value) is not type(kept[1]):
            return False
        was: Any = kept[1]
        if type(value) is list:
            return len(value) == len(was) and all(map(is_, value, was))
        if type(value) is dict:
            same = len(value) == len(was) and all(map(is_, value, was))
            return same and all(map(is_, value.values(), was.values()))
        return False


def copier(value: Any, data: bytes, load: Callable[[bytes], Any]) -> Copy:
    """What makes a new object equal to ``value``, whose bytes are ``data``."""
    kind = type(value)
    inside = value.values() if kind is dict else value if kind in (list, set) else None
    # Copying copies one level.
    if inside is not None and IMMUTABLE.issuperset(map(type, inside)):
        own = value.copy()
        return own.copy, own
    return partial(load, data), None
