"""Removing what has expired, for stores that keep it until then: bounded, resumable, over several stores.

One run serves three hosts: the cron handler of the deployment kit, ``python -m beaker purge``, a test.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from beaker._typing import Clock
from beaker.caching.cache import Cache
from beaker.clock import now as default_clock
from beaker.config.options import BackendOptions, describe
from beaker.config.parse import is_builtin
from beaker.exceptions import ConfigError, StoreError
from beaker.operations.effective import full_name
from beaker.session.context import SessionContext
from beaker.storage.api import Purging

__all__ = [
    "Outcome", "check_options", "estimated", "keep_cursor", "kept_cursor", "missing", "purge", "purge_on", "purgeable",
    "stores_of",
]  # fmt: skip

NAMESPACE = "beaker.purge"
BATCH = 500
"""Records asked for in one call of a store: what lies between two looks at the clock."""
_CURSOR_SECONDS = 7 * 86400.0

Progress = Callable[["Outcome"], object]


@dataclass
class Outcome:
    """What a run did: records ``removed`` by store, and where to go on (``cursor``, ``None`` when all is done).

    ``error`` is the store's, when one failed; what was removed before it stays removed.
    """

    removed: dict[str, int] = field(default_factory=dict)
    cursor: str | None = None
    error: StoreError | None = None

    @property
    def total(self) -> int:
        """Records removed from all stores."""
        return sum(self.removed.values())

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON; ``error`` is its message."""
        error = None if self.error is None else str(self.error)
        return {"removed": self.removed, "total": self.total, "cursor": self.cursor, "error": error}


def estimated(stores: Iterable[Any], *, limit: int | None = None, clock: Clock = default_clock) -> int | None:
    """About how many records a run over ``stores`` will remove; ``None`` where a store cannot count without reading.

    Raises StoreError as the store does.
    """
    total = 0
    for store in stores:
        count = getattr(store, "expired", None)
        if count is None:
            return limit
        total += count(clock())
    return total if limit is None else min(total, limit)


def stores_of(
    sessions: SessionContext | None = None,
    cache: Mapping[str, Any] | None = None,
    regions: Iterable[str] | None = None,
) -> list[Any]:
    """The stores behind sessions, caches and regions, each once; nothing is connected.

    ``cache`` is what :func:`beaker.config.parse.parse_cache` returns; ``regions`` are the names looked at,
    ``None`` for all of them. Managers that stand on no store (third parties', null) are left out. Raises
    ConfigError, or InvalidCacheBackendError for a missing package.
    """
    found: list[Any] = []
    if sessions is not None:
        revocations = sessions.revocations
        found.append(None if sessions.type == "cookie" else sessions.records.store)
        found.append(None if revocations is None else revocations.store)
    if cache is not None:
        configured: Mapping[str, Any] = cache.get("cache_regions", {})
        names = configured if regions is None else [name for name in regions if name in configured]
        general = {name: value for name, value in cache.items() if name != "cache_regions"}
        for options in (general, *(configured[name] for name in names)):
            found.append(getattr(Cache(NAMESPACE, **options).namespace, "store", None))
    unique = {id(store): store for store in found if store is not None}
    return list(unique.values())


def check_options(kind: str, options: Mapping[str, str]) -> None:
    """Raise ConfigError for an option that the store of type ``kind`` does not use; a third party's may use any."""
    if not is_builtin(kind):
        return
    known, name = describe(BackendOptions), full_name(kind)
    for option in options:
        info = known.get(option)
        used = option.startswith("sa.") if info is None else not info.backends or name in info.backends
        if used and not (option.startswith("sa.") and name != "ext:database"):
            continue
        fitting = [item.name for item in known.values() if not item.backends or name in item.backends]
        near = get_close_matches(option, fitting, n=1)
        raise ConfigError(
            f"{option} is not an option of the type {kind}",
            option=option,
            expected="one of " + ", ".join(fitting),
            hint=f"did you mean {near[0]}?" if near else "",
            code="config.unknown-option",
        )


def missing(store: Any) -> str:
    """Why ``store`` cannot hold a record yet: its directory, database file or table is not there; else ``""``.

    Nothing is made. A server is asked only for a table; whether a Datastore kind was ever used cannot be asked.
    """
    directory = getattr(store, "directory", None)
    if directory is not None:
        return "" if os.path.isdir(directory) else f"the directory {directory} does not exist"
    exists = getattr(store, "exists", None)
    return "" if exists is None or exists() else f"the {store.backend} store's database or table does not exist"


def purgeable(stores: Iterable[Any]) -> list[Any]:
    """Those of ``stores`` whose expired records stay until they are purged."""
    return [store for store in stores if isinstance(store, Purging)]


def purge(
    stores: Sequence[Any],
    *,
    limit: int | None = None,
    deadline: float | None = None,
    cursor: str | None = None,
    clock: Clock = default_clock,
    monotonic: Callable[[], float] = time.monotonic,
    progress: Progress | None = None,
) -> Outcome:
    """Remove expired records from ``stores`` (:func:`purgeable` ones), one store after the other.

    - ``limit``: records at most; ``deadline``: seconds, about. Neither: until all is done.
    - ``cursor``: where an earlier run over the same stores ended.
    - ``progress``: called with the outcome so far after each batch.

    Safe beside readers, writers and other runs. Raises ValueError for a cursor that no run returned.
    """
    end = None if deadline is None else monotonic() + deadline
    first, position = _place(cursor, len(stores))
    outcome = Outcome()
    names = _names(stores)
    for index in range(first, len(stores)):
        outcome.removed[names[index]] = 0
        while True:
            asked = BATCH if limit is None else min(BATCH, limit - outcome.total)
            left = None if end is None else end - monotonic()
            if asked <= 0 or (left is not None and left <= 0):
                outcome.cursor = f"{index}:{position or ''}"
                return outcome
            try:
                gone, position = stores[index].purge(clock(), asked, cursor=position, deadline=left)
            except StoreError as error:
                outcome.cursor, outcome.error = f"{index}:{position or ''}", error
                return outcome
            outcome.removed[names[index]] += gone
            outcome.cursor = f"{index}:{position}" if position is not None else f"{index + 1}:"
            if progress is not None:
                progress(outcome)
            if position is None:
                break
    outcome.cursor = None
    return outcome


def purge_on(stores: Sequence[Any], *, limit: int | None = None, deadline: float | None = None) -> Outcome:
    """A :func:`purge` that goes on where the last one ended, by a cursor that the stores keep. Raises StoreError."""
    try:
        outcome = purge(stores, limit=limit, deadline=deadline, cursor=kept_cursor(stores))
    except ValueError:
        # It is of another configuration.
        outcome = purge(stores, limit=limit, deadline=deadline)
    keep_cursor(stores, outcome.cursor)
    return outcome


def kept_cursor(stores: Sequence[Any]) -> str | None:
    """Where :func:`keep_cursor` says the last run ended; ``None`` when nothing usable is kept."""
    if not stores:
        return None
    data = stores[0].get(NAMESPACE, "cursor")
    return None if data is None else data.decode("ascii", "replace")


def keep_cursor(stores: Sequence[Any], cursor: str | None) -> None:
    """Remember ``cursor`` for a week in the first store: a scheduler calls one url and keeps nothing itself."""
    if not stores:
        return
    if cursor is None:
        stores[0].delete(NAMESPACE, "cursor")
    else:
        stores[0].set(NAMESPACE, "cursor", cursor.encode("ascii"), ttl=_CURSOR_SECONDS)


def _place(cursor: str | None, count: int) -> tuple[int, str | None]:
    if cursor is None:
        return 0, None
    index, colon, position = cursor.partition(":")
    if not (colon and index.isascii() and index.isdigit() and len(index) < 6 and int(index) <= count):
        raise ValueError("cursor is not one that a purge of these stores returned")
    return int(index), position or None


def _names(stores: Sequence[Any]) -> list[str]:
    names: list[str] = []
    for store in stores:
        same = sum(name.partition(" ")[0] == store.backend for name in names)
        names.append(store.backend if not same else f"{store.backend} {same + 1}")
    return names
