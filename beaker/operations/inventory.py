"""What is in a store: namespaces with counts, sizes and ages, and the stamps of one record. Keys and values are data of
visitors: no list has any, and a value is shown only to a person who asks for that one record."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from beaker.crypto.envelope import stamps
from beaker.exceptions import ConfigError
from beaker.keys import namespace_digest
from beaker.storage.api import Bulk, Contents, Describing, Listing

__all__ = ["contents", "lines_of", "listable", "record", "rows_of"]

_KINDS = ("session", "ended session", "cached value", "creation in flight", "cached value with tags")
_PAGE = 200
_OWN = ("beaker.session", "beaker.session.revoked", "beaker.stamps", "beaker.purge")
"""Namespaces of Beaker itself, recognized where a store keeps digests."""


def listable(stores: Iterable[Any]) -> list[Any]:
    """Those of ``stores`` that can say what they hold."""
    return [store for store in stores if isinstance(store, (Describing, Listing))]


def contents(
    store: Any, now: float, namespace: str | None = None, *, seen: Callable[[int], object] = int
) -> Iterator[Contents]:
    """What ``store`` holds, of each namespace or of one. Raises StoreError; ConfigError where one must be named.

    ``seen`` is called with the number of records that were read so far, where they are counted one by one.
    """
    if isinstance(store, Describing) and namespace is None:
        yield from map(_named, store.contents(now))
    elif isinstance(store, Describing) and not _is_rough(store):
        found = store.contents(now)
        yield from (item for item in found if item.namespace == namespace)
    elif namespace is None:
        raise ConfigError(
            f"the {store.backend} store does not know its namespaces",
            option="NAMESPACE",
            hint="name one: beaker.session, or that of a cache",
            code="config.no-listing",
        )
    else:
        yield _counted(store, namespace, seen)


def _is_rough(store: Any) -> bool:
    """Whether one namespace is better counted by its keys: the store knows less of all of them, or has no names."""
    return isinstance(store, Listing) and getattr(store, "rough", False)


def _named(item: Contents) -> Contents:
    if not item.namespace.startswith("#"):
        return item
    digits = item.namespace[1:]
    known = (name for name in _OWN if namespace_digest(name).startswith(digits))
    return item._replace(namespace=next(known, item.namespace)) if digits else item


def _counted(store: Any, namespace: str, seen: Callable[[int], object]) -> Contents:
    keys, records, total = iter(store.keys(namespace)), 0, 0
    times: list[float] = []
    while page := list(itertools.islice(keys, _PAGE)):
        for data in _read(store, namespace, page):
            records += 1
            total += len(data)
            seal = stamps(data)
            if seal is not None:
                times = [min([seal.stored, *times]), max([seal.stored, *times])]
        seen(records)
    oldest, newest = (times[0], times[-1]) if times else (None, None)
    return Contents(namespace, records, total, oldest, newest)


def _read(store: Any, namespace: str, keys: Sequence[str]) -> Iterable[bytes]:
    if isinstance(store, Bulk):
        return store.get_many(namespace, keys).values()
    return (data for key in keys if (data := store.get(namespace, key)) is not None)


def record(store: Any, namespace: str, key: str) -> dict[str, Any] | None:
    """The stamps of one record, without its key and value; ``None`` when it is not there. Raises StoreError."""
    data = store.get(namespace, key)
    if data is None:
        return None
    found = stamps(data)
    told: dict[str, Any] = {"store": store.backend, "namespace": namespace, "size": len(data)}
    if found is None:
        return {**told, "kind": "not a record of Beaker"}
    kind = _KINDS[found.kind] if found.kind < len(_KINDS) else "unknown"
    return {**told, "kind": kind, "stored": found.stored, "expires": found.expires, "seal": found.seal}


def rows_of(store: Any, found: Iterable[Contents], now: float) -> Iterator[tuple[str, ...]]:
    """Lines of a table."""
    for item in found:
        yield (
            store.backend,
            f"{'at least ' * item.at_least}{item.records:,}",
            "-" if item.expired is None else f"{item.expired:,}",
            "-" if item.size is None else size(item.size),
            ago(item.oldest, now),
            ago(item.newest, now),
            item.namespace,
        )


def lines_of(told: dict[str, Any], now: float) -> list[tuple[str, str]]:
    """What :func:`record` returned, for people."""
    shown = {**told, "size": size(told["size"])}
    for name in ("stored", "expires"):
        if name in told:
            when = told[name]
            shown[name] = "never" if when is None else f"{_at(when)}, {ago(when, now)}"
    return [(name, str(value)) for name, value in shown.items()]


def size(number: float) -> str:
    """Bytes for people."""
    for divisor, unit in ((10**9, "GB"), (10**6, "MB"), (1000, "kB")):
        if number >= divisor:
            return f"{number / divisor:.1f} {unit}"
    return f"{number:.0f} B"


def ago(when: float | None, now: float) -> str:
    """How long ago that was, or how long it is until then, for people."""
    if when is None:
        return "-"
    seconds = abs(now - when)
    text = f"{seconds:.0f} s"
    for limit, unit, divisor in ((120, "min", 60), (7200, "h", 3600), (172_800, "d", 86_400)):
        if seconds >= limit:
            text = f"{seconds / divisor:.0f} {unit}"
    return f"{text} ago" if when <= now else f"in {text}"


def _at(when: float) -> str:
    try:
        return dt.datetime.fromtimestamp(when, dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        # The stamps of a record that was damaged can be any number.
        return f"{when:g} s"
