"""How costs grow: rows over numbers of keys, sizes of sessions, threads and processes. ``--growth`` runs them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from benchmarks.row import Builder, Place, Row, Store, gets, needs, puts
from benchmarks.rows import files, memory, servers, sessions, sql

KEYS = (10, 1_000, 100_000)
SIZES = (100, 1_000, 10_000, 100_000)
THREADS = (1, 2, 4, 8, 16, 32, 64)
PROCESSES = (1, 2, 4, 8)

BEAKER_KEYS = 1_000
"""Beaker 1.14.1 writes a whole namespace at each put: 100,000 keys would take it hours."""
FILE_KEYS = 10_000
"""100,000 files take a disk longer to create than all other points together."""
COOKIE_SIZE = 1_000
"""A cookie holds 4 KiB."""


def roomy(place: Place) -> Store:
    """A memory cache that evicts none of the keys; Beaker's has no bounds."""
    from beaker.cache import Cache

    bounds = {"max_entries": 1_000_000, "max_bytes": 2**30} if place.implementation == "ours" else {}
    cache = Cache(place.unique, type="memory", expire=3600, **bounds)
    return cache.get, cache.put


MEMORY = {"ours": roomy, "beaker": roomy, "floor": memory.dict_with_lock}
STORES: dict[str, tuple[Mapping[str, Callable[[Place], Store]], tuple[str, ...]]] = {
    "memory": (MEMORY, ()),
    "file": (files.FILES, ()),
    "dbm": (files.DBM, ()),
    "memcached": (servers.MEMCACHED, ("memcached",)),
    "redis": (servers.REDIS, ("redis",)),
    "database (SQLite)": (sql.SQLITE, ()),
}


def point(
    curve: str,
    axis: str,
    at: int,
    work: Mapping[str, Builder],
    *services: str,
    without: Iterable[str] = (),
    **more: int,
) -> Row:
    """One point of a curve, for the floor and both Beakers."""
    names = [name for name in ("ours", "beaker", "floor") if name in work and name not in without]
    row = Row(f"growth: {curve}, {axis} {at:,}", {name: work[name] for name in names}, needs(*services), axis=axis)
    return dataclasses.replace(row, extra={"curve": curve, "at": at}, **{**more, axis: at})  # type: ignore[arg-type]


def _by_keys() -> Iterable[Row]:
    for store, (opened, services) in STORES.items():
        for count in sorted({min(count, FILE_KEYS) for count in KEYS}) if store == "file" else KEYS:
            slow = ["beaker"] if count > BEAKER_KEYS and store != "memory" else []
            for way, work in (("get", gets(opened)), ("put", puts(opened))):
                row = point(f"{store} {way}", "keys", count, work, *services, without=slow)
                # Filling takes longer than anything that is measured: once for both.
                yield dataclasses.replace(row, extra={**row.extra, "filled": f"{store}, {count}"})


def _by_size() -> Iterable[Row]:
    rows: dict[str, Any] = {row.name: row for row in sessions.ROWS}
    for row in rows.values():
        if "untouched" in row.name:
            continue
        for size in SIZES:
            if "cookie" not in row.name or size <= COOKIE_SIZE:
                yield point(row.name, "size", size, row.work, *row.needs)


def _together() -> Iterable[Row]:
    curves: list[tuple[str, Mapping[str, Builder], tuple[str, ...]]] = [
        ("@cache_region hit, memory", memory.ROWS[0].work, ()),
        ("file get, 64 keys", gets(files.FILES), ()),
        ("redis get, 64 keys", gets(servers.REDIS), ("redis",)),
        ("file put, 64 keys", puts(files.FILES), ()),
        ("request, session read, file", sessions.beaker_both("file", "read"), ()),
    ]
    for curve, work, services in curves:
        for axis, counts in (("threads", THREADS), ("processes", PROCESSES)):
            for count in counts:
                yield point(curve, axis, count, work, *services, keys=64)


ROWS: tuple[Row, ...] = (*_by_keys(), *_by_size(), *_together())
