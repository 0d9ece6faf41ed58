"""What a Redis holds for us, by the indexes of its namespaces: SCAN finds them, their members are only counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from operator import methodcaller
from typing import Any

from beaker.storage.api import Contents
from beaker.storage.redis.replies import checked, is_number, is_page

__all__ = ["contents"]

_LOOKED_AT = 1_000
"""Keys of the server that one SCAN looks at."""
_SCANS = 2_000
"""How many of them there are at most: two million keys, whoever they belong to."""

Run = Callable[[str, Callable[[Any], Any]], Any]


def contents(run: Run, prefix: str, now: float, *, clustered: bool) -> Iterator[Contents]:
    """One Contents a namespace; see :meth:`RedisStore.contents`."""
    index = re.compile(rf"{re.escape(prefix)}:\{{([0-9a-f]+)(?:\.[0-9a-f]+)?\}}:i".encode())
    found: dict[str, set[bytes]] = {}
    left = _SCANS
    targets = run("contents", lambda client: client.get_primaries()) if clustered else [None]
    stopped = False
    for target in targets:
        cursor: int | None = None
        while cursor != 0:
            if not left:
                stopped = True
                break
            left -= 1
            cursor, keys = _scan(run, f"{prefix}:{{*}}:i", cursor or 0, target)
            for key in keys:
                match = index.fullmatch(key)
                if match:
                    found.setdefault(match[1].decode(), set()).add(key)
    for digest, indexes in sorted(found.items()):
        records = sum(run("contents", checked(methodcaller("zcard", key), is_number)) for key in indexes)
        over = sum(
            run("contents", checked(methodcaller("zcount", key, "-inf", int(now * 1000)), is_number)) for key in indexes
        )
        if records:
            yield Contents(f"#{digest}", records, None, expired=over, at_least=stopped)


def _scan(run: Run, pattern: str, cursor: int, target: Any) -> tuple[int, list[bytes]]:
    aimed = {} if target is None else {"target_nodes": target}
    ask = methodcaller("scan", cursor=cursor, match=pattern, count=_LOOKED_AT, _type="ZSET", **aimed)
    following, keys = run("contents", checked(ask, is_page))
    # In a cluster the cursors are those of each node that was asked.
    return (next(iter(following.values())) if isinstance(following, dict) else int(following)), keys
