"""Caches in files: one file a record, or a database file a namespace."""

from __future__ import annotations

import contextlib
import os
import pickle
import sqlite3
import tempfile
from typing import Any

from benchmarks.row import Place, Row, Store, folder, gets, goals, puts
from benchmarks.rows import peers
from benchmarks.rows.options import options


def beaker_file(place: Place) -> Store:
    from beaker.cache import Cache

    cache = Cache("benchmark", expire=3600, **options("file", place))
    return cache.get, cache.put


def beaker_near(place: Place) -> Store:
    from beaker.cache import Cache

    cache = Cache("benchmark near", expire=3600, near=3600, **options("file", place))
    return cache.get, cache.put


def bare_pickles(place: Place) -> Store:
    """Pickles in a dict."""
    kept: dict[str, bytes] = {}

    def put(key: str, value: Any) -> None:
        kept[key] = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    return lambda key: pickle.loads(kept[key]), put


def beaker_dbm(place: Place) -> Store:
    from beaker.cache import Cache

    cache = Cache("benchmark", expire=3600, **options("dbm", place))
    return cache.get, cache.put


def bare_files(place: Place) -> Store:
    """open, read and unpickle; pickle, write to a temporary file and rename."""

    def get(key: str) -> Any:
        with open(f"{place.directory}/{key}", "rb") as file:
            return pickle.loads(file.read())

    def put(key: str, value: Any) -> None:
        descriptor, name = tempfile.mkstemp(dir=place.directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
            os.replace(name, f"{place.directory}/{key}")
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    return get, put


def bare_sqlite(place: Place) -> Store:
    """The standard library's sqlite3 in WAL mode, a commit per put."""
    connection = sqlite3.connect(f"{place.directory}/floor.db", isolation_level=None, check_same_thread=False)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = normal")
    connection.execute("create table if not exists kept (name text primary key, value blob) without rowid")

    def get(key: str) -> Any:
        found = connection.execute("select value from kept where name = ?", (key,)).fetchone()
        return pickle.loads(found[0])

    def put(key: str, value: Any) -> None:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        connection.execute("insert or replace into kept values (?, ?)", (key, data))

    return get, put


FILES = {
    "ours": beaker_file,
    "beaker": beaker_file,
    "diskcache": peers.diskcache,
    "cachelib": lambda place: peers.cachelib("FileSystemCache", place, str(folder(place, "cachelib")), threshold=0),
    "Django": lambda place: peers.django(peers.django_cache("file", place)),
    "floor": bare_files,
}
DBM = {
    "ours": beaker_dbm,
    "beaker": beaker_dbm,
    "dogpile.cache": lambda place: peers.dogpile(
        peers.dogpile_region("dogpile.cache.dbm", place, filename=f"{place.directory}/dogpile.dbm")
    ),
    "floor": bare_sqlite,
}
NEAR = {"ours": beaker_near, "floor": bare_pickles}

_FILE_NOTE = "Floor: open, read, unpickle; pickle, write, rename. diskcache is SQLite."
_NEAR_NOTE = "Records of files, kept in the process. Floor: a pickle in a dict."
_DBM_NOTE = "Floor: sqlite3. Beaker writes its whole dbm at each put; both dbm peers need a lock file."

ROWS = (
    Row("file get, 1 key", gets(FILES), goals=goals(floor=1.3), note=_FILE_NOTE),
    Row("file get, 1,000 keys", gets(FILES), goals=goals(floor=1.3), note=_FILE_NOTE, keys=1000),
    Row("file put, 1 key", puts(FILES), goals=goals(floor=1.3), note=_FILE_NOTE),
    Row("file put, 1,000 keys", puts(FILES), goals=goals(floor=1.3), note=_FILE_NOTE, keys=1000),
    Row(
        "near hit, 1,000 keys",
        gets(NEAR),
        note=_NEAR_NOTE,
        keys=1000,
    ),
    Row("dbm get, 1,000 keys", gets(DBM), note=_DBM_NOTE, keys=1000),
    Row("dbm put, 1,000 keys", puts(DBM), note=_DBM_NOTE, keys=1000),
)
