"""What replies have to look like: what a proxy, or a server that is no Redis, says is neither data nor success."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["checked", "is_list", "is_number", "is_page", "mget", "records"]

_Work = Callable[[Any], Any]


def mget(*names: str) -> _Work:
    """``MGET``: its work returns bytes or ``None`` for each name, or raises ValueError."""

    def work(client: Any) -> list[bytes | None]:
        found: list[bytes | None] = client.mget(*names)
        if not records(len(names))(found):
            raise ValueError("not a record, or none, for each name")
        return found

    return work


def checked(work: _Work, fits: Callable[[Any], bool]) -> _Work:
    """``work``, whose result has to fit; ValueError for one that does not, or that redis-py cannot read."""

    def ask(client: Any) -> Any:
        try:
            found = work(client)
            if fits(found):
                return found
        except (TypeError, AttributeError, LookupError) as err:
            raise ValueError("not the reply to what was asked") from err
        raise ValueError("not the reply to what was asked")

    return ask


def is_number(found: Any) -> bool:
    """Whether it is a whole number."""
    return type(found) is int


def records(count: int) -> Callable[[Any], bool]:
    """Whether it is a list of so many, each bytes or ``None``."""

    def fits(found: Any) -> bool:
        if not isinstance(found, list) or len(found) != count:
            return False
        return all(record is None or type(record) is bytes for record in found)

    return fits


def is_list(found: Any) -> bool:
    """Whether it is a list of bytes."""
    return isinstance(found, list) and all(type(member) is bytes for member in found)


def is_page(found: Any) -> bool:
    """Whether it is what SCAN or ZSCAN returns: a cursor, or one a node, and a list of bytes, with their scores."""
    cursor, members = found
    cursors = cursor.values() if isinstance(cursor, dict) else (cursor,)
    return all(type(number) is int for number in cursors) and is_list(
        [member[0] if isinstance(member, tuple) else member for member in members]
    )
