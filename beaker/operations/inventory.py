"""What is in a store: namespaces with counts, sizes and ages, and the stamps of one record. Keys and values are data of
visitors: no list has any, and a value is shown only to a person who asks for that one record."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from beaker.crypto.envelope import stamps
from beaker.exceptions import ConfigError
from beaker.storage.api import Bulk, Contents, Describing, Listing

__all__ = ["contents", "lines_of", "listable", "record", "rows_of"]

_KINDS = ("session", "ended session", "cached value", "creation in flight")
_PAGE = 200


def listable(stores: Iterable[Any]) -> list[Any]:
    """Those of ``stores`` that can say what they hold."""
    return [store for store in stores if isinstance(store, (Describing, Listing))]


def contents(store: Any, now: float, namespace: str | None = None) -> Iterator[Contents]:
    """What ``store`` holds, of each namespace or of one. Raises StoreError; ConfigError where one must be named."""
    if isinstance(store, Describing):
        found = store.contents(now)
        yield from found if namespace is None else (item for item in found if item.namespace == namespace)
    elif namespace is None:
        raise ConfigError(
            f"the {store.backend} store does not know its namespaces",
            option="NAMESPACE",
            hint="name one: beaker.session, or that of a cache",
            code="config.no-listing",
        )
    else:
        yield _counted(store, namespace)


def _counted(store: Any, namespace: str) -> Contents:
    keys, records, total = iter(store.keys(namespace)), 0, 0
    times: list[float] = []
    while page := list(itertools.islice(keys, _PAGE)):
        for data in _read(store, namespace, page):
            records += 1
            total += len(data)
            seal = stamps(data)
            if seal is not None:
                times = [min([seal.stored, *times]), max([seal.stored, *times])]
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
            f"{item.records:,}",
            f"{item.expired:,}",
            size(item.size),
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
    return dt.datetime.fromtimestamp(when, dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
