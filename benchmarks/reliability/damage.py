"""Records that are damaged on purpose, in the place where a store keeps them."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import sqlite3
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.reliability.place import HOURS, Place

_LOOKS = 5
"""Times that a server is asked for its keys before it is believed to have none."""


def damage(place: Place, count: int, source: random.Random) -> int | None:
    """Flip a bit in some records and cut others short, at most ``count``; how many, ``None``: not possible here."""
    damagers: dict[str, Callable[[Place, int, random.Random], int | None]] = {
        "file": _files,
        "dbm": _sqlite,
        "sqlite": _sqlite,
        "redis": _redis,
        "postgres": _postgres,
        "memcached": _memcached,
        "google": _entities,
        "google on firestore": _entities,
    }
    damager = damagers.get(place.kind)
    return None if damager is None else damager(place, count, source)


def _files(place: Place, count: int, source: random.Random) -> int:
    assert place.path is not None
    files = sorted(path for path in place.path.rglob("*") if path.is_file() and path.stat().st_size > 40)
    chosen = source.sample(files, min(count, len(files)))
    for path in chosen:
        path.write_bytes(spoiled(path.read_bytes(), source))
    return len(chosen)


def _sqlite(place: Place, count: int, source: random.Random) -> int | None:
    assert place.path is not None
    done = 0
    for path in sorted(place.path.rglob("*")):
        if not path.is_file() or path.read_bytes()[:6] != b"SQLite":
            continue
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
            for table, columns in _blobs(connection):
                key = columns[0]
                rows = connection.execute(f'SELECT rowid, "{key}" FROM "{table}"').fetchall()
                rows = [row for row in rows if isinstance(row[1], bytes) and len(row[1]) > 40]
                for rowid, value in source.sample(rows, min(count - done, len(rows))):
                    change = f'UPDATE "{table}" SET "{key}" = ? WHERE rowid = ?'
                    connection.execute(change, (spoiled(value, source), rowid))
                    done += 1
    return done or None


def _redis(place: Place, count: int, source: random.Random) -> int:
    import redis

    done = 0
    with contextlib.closing(redis.Redis.from_url(place.config["url"])) as client:
        keys = sorted(client.scan_iter(f"*{place.config.get('prefix', '')}*"))
        for key in source.sample(keys, min(count, len(keys))):
            if client.type(key) == b"string":
                value = client.get(key)
                if isinstance(value, bytes) and len(value) > 40:
                    client.set(key, spoiled(value, source), keepttl=True)
                    done += 1
    return done


def _postgres(place: Place, count: int, source: random.Random) -> int:
    import sqlalchemy as sa

    engine = sa.create_engine(place.config["url"])
    try:
        table = sa.Table(place.config["table_name"], sa.MetaData(), autoload_with=engine)
        keys = list(table.primary_key.columns)
        with engine.begin() as connection:
            found = connection.execute(sa.select(*keys, table.c.data)).fetchall()
            rows = [row for row in found if len(row.data) > 40]
            chosen = source.sample(rows, min(count, len(rows)))
            for row in chosen:
                same = sa.and_(*(key == value for key, value in zip(keys, row, strict=False)))
                change = sa.update(table).where(same)
                connection.execute(change.values(data=spoiled(bytes(row.data), source)))
        return len(chosen)
    finally:
        engine.dispose()


def _memcached(place: Place, count: int, source: random.Random) -> int:
    from pymemcache.client import base

    open_client: Any = base.Client
    flags = _Flags()
    with contextlib.closing(open_client(place.config["url"], serde=flags, timeout=5, default_noreply=False)) as client:
        mine, long = place.config.get("prefix", "").encode(), list[tuple[bytes, tuple[bytes, int]]]()
        for _ in range(_LOOKS):
            # The crawler passes over an item that another thread of the server holds at that moment.
            values = client.get_many([key for key in _memcached_keys(place.config["url"]) if mine in key])
            if long := sorted((key, value) for key, value in values.items() if len(value[0]) > 40):
                break
        chosen = source.sample(long, min(count, len(long)))
        for key, (value, kept) in chosen:
            client.set(key, (spoiled(value, source), kept), expire=HOURS)
    return len(chosen)


def _memcached_keys(url: str) -> list[bytes]:
    # pymemcache's `raw_command` returns the last piece only of a reply that comes in several.
    host, _, port = url.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection, connection.makefile("rb") as reply:
        connection.sendall(b"lru_crawler metadump all\r\n")
        lines = list(itertools.takewhile(lambda line: line != b"END\r\n", reply))
    names = [line.split()[0].removeprefix(b"key=") for line in lines if line.startswith(b"key=")]
    return [urllib.parse.unquote_to_bytes(name) for name in names]


def _entities(place: Place, count: int, source: random.Random) -> int:
    from google.cloud import datastore

    open_client: Any = datastore.Client
    os.environ["DATASTORE_EMULATOR_HOST"] = place.config["emulator_host"]
    try:
        client = open_client(project=place.config["project"])
    finally:
        del os.environ["DATASTORE_EMULATOR_HOST"]
    with contextlib.closing(client):
        found = [entity for entity in client.query(kind="beaker_cache").fetch() if len(entity.get("data", b"")) > 40]
        chosen = source.sample(sorted(found, key=lambda entity: entity.key.name), min(count, len(found)))
        for entity in chosen:
            entity["data"] = spoiled(entity["data"], source)
            client.put(entity)
    return len(chosen)


class _Flags:
    """Values of memcached as pairs with their flags."""

    def serialize(self, key: bytes, value: tuple[bytes, int]) -> tuple[bytes, int]:
        return value

    def deserialize(self, key: bytes, value: bytes, flags: int) -> tuple[bytes, int]:
        return value, flags


def spoiled(value: bytes, source: random.Random) -> bytes:
    """With one bit changed, or cut short."""
    place = source.randrange(len(value))
    if source.random() < 0.5:
        return value[:place]
    return value[:place] + bytes([value[place] ^ 1 << source.randrange(8)]) + value[place + 1 :]


def _blobs(connection: sqlite3.Connection) -> Iterator[tuple[str, list[str]]]:
    """Tables, and their columns of type BLOB that are called data or value."""
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        columns = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
        names = [row[1] for row in columns if row[1] in ("data", "value")]
        if names:
            yield table, names
