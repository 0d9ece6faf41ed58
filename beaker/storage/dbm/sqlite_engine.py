"""Records in SQLite files: what the ``dbm`` store does to one file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from beaker.storage.dbm.sqlite_files import SqliteFiles, transaction
from beaker.storage.records import new_version

__all__ = ["SqliteEngine"]

_PAGE = 500
_LIVE = "(expires IS NULL OR expires > ?)"
_GET = "SELECT data, expires FROM record WHERE key = ?"
_READ = "SELECT data, expires, version FROM record WHERE key = ?"
_PUT = (
    "INSERT INTO record (key, data, version, expires) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
    " SET data = excluded.data, version = excluded.version, expires = excluded.expires"
)
_INSERT = _PUT + " WHERE record.expires <= ?"
_REPLACE = f"UPDATE record SET data = ?, version = ?, expires = ? WHERE key = ? AND version = ? AND {_LIVE}"
_REMOVE = f"DELETE FROM record WHERE key = ? AND version = ? AND {_LIVE}"
_KEYS = f"SELECT key FROM record WHERE key > ? AND {_LIVE} ORDER BY key LIMIT {_PAGE}"
_FIRST_KEYS = f"SELECT key FROM record WHERE {_LIVE} ORDER BY key LIMIT {_PAGE}"
_SCAN = f"SELECT rowid, expires FROM record WHERE rowid > ? ORDER BY rowid LIMIT {4 * _PAGE}"
_COUNT = "SELECT COUNT(*), COALESCE(SUM(LENGTH(data)), 0), COUNT(CASE WHEN expires < ? THEN 1 END) FROM record"
_PURGE = "DELETE FROM record WHERE rowid = ? AND expires < ?"


class SqliteEngine:
    """Single statements in autocommit mode: each is atomic between threads and processes, and O(log n)."""

    suffix = ".sqlite"
    max_value: int | None = 256 * 2**20

    def __init__(self, directory: str, *, timeout: float, durable: bool) -> None:
        self.files = SqliteFiles(directory, timeout=timeout, durable=durable)

    def close(self) -> None:
        self.files.close_idle()

    def abandon(self) -> None:
        self.files.abandon()

    def renew_locks(self) -> None:
        self.files.renew_locks()

    def get(self, path: str, key: bytes, now: float) -> bytes | None:
        row = self.files.read(path, "get", lambda db: db.execute(_GET, (key,)).fetchone(), None)
        if row is None or (row[1] is not None and row[1] <= now):
            return None
        return row[0] if type(row[0]) is bytes else None

    def read(self, path: str, key: bytes, now: float) -> tuple[bytes, int] | None:
        row = self.files.read(path, "read", lambda db: db.execute(_READ, (key,)).fetchone(), None)
        if row is None or (row[1] is not None and row[1] <= now):
            return None
        return (row[0], row[2]) if type(row[0]) is bytes else None

    def get_many(self, path: str, keys: Sequence[bytes], now: float) -> dict[bytes, bytes]:
        def work(db: sqlite3.Connection) -> dict[bytes, bytes]:
            found = {}
            for key in keys:
                row = db.execute(_GET, (key,)).fetchone()
                if row is not None and (row[1] is None or row[1] > now) and type(row[0]) is bytes:
                    found[key] = row[0]
            return found

        return self.files.read(path, "get_many", work, {})

    def put(self, path: str, key: bytes, data: bytes, expires: float | None) -> None:
        self.files.write(path, "set", _changes(_PUT, (key, data, new_version(), expires)))

    def put_many(self, path: str, items: Sequence[tuple[bytes, bytes]], expires: float | None) -> None:
        rows = [(key, data, new_version(), expires) for key, data in items]

        def work(db: sqlite3.Connection) -> bool:
            with transaction(db):
                db.executemany(_PUT, rows)
            return True

        self.files.write(path, "set_many", work)

    def insert(self, path: str, key: bytes, data: bytes, expires: float | None, now: float) -> int | None:
        """Returns the new version; ``None``: refused."""
        new = new_version()
        done = self.files.write(path, "insert", _changes(_INSERT, (key, data, new, expires, now)))
        return new if done else None

    def replace(
        self, path: str, key: bytes, data: bytes, version: object, expires: float | None, now: float
    ) -> int | None:
        """As :meth:`insert`."""
        new = new_version()
        done = self.files.change(path, "replace", _changes(_REPLACE, (data, new, expires, key, version, now)), False)
        return new if done else None

    def remove(self, path: str, key: bytes, version: object, now: float) -> bool:
        return self.files.change(path, "remove", _changes(_REMOVE, (key, version, now)), False)

    def delete(self, path: str, keys: Sequence[bytes], operation: str) -> None:
        def work(db: sqlite3.Connection) -> bool:
            if len(keys) == 1:
                db.execute("DELETE FROM record WHERE key = ?", (keys[0],))
            else:
                with transaction(db):
                    db.executemany("DELETE FROM record WHERE key = ?", [(key,) for key in keys])
            return True

        self.files.change(path, operation, work, False)

    def clear(self, path: str) -> None:
        self.files.change(path, "clear", _changes("DELETE FROM record", ()), False)

    def keys(self, path: str, now: float) -> Iterator[bytes]:
        statement: str = _FIRST_KEYS
        row: tuple[Any, ...] = (now,)
        while True:
            page: list[bytes] = self.files.read(path, "keys", _rows(statement, row), [])
            yield from page
            if len(page) < _PAGE:
                return
            statement, row = _KEYS, (page[-1], now)

    def count(self, path: str, now: float) -> tuple[int, int, int]:
        """How many records, how many bytes of data, and how many of them have expired."""
        nothing = (0, 0, 0)
        return self.files.read(path, "contents", lambda db: db.execute(_COUNT, (now,)).fetchone(), nothing)

    def purge(self, path: str, now: float, limit: int, after: int) -> tuple[int, int | None]:
        """Remove at most ``limit`` expired of the next 2,000 records; how many went and where to go on."""

        def work(db: sqlite3.Connection) -> tuple[int, int | None]:
            rows = db.execute(_SCAN, (after,)).fetchall()
            doomed = [(rowid, now) for rowid, expires in rows if expires is not None and expires < now]
            position = rows[-1][0] if len(rows) == 4 * _PAGE else None
            if len(doomed) > limit:
                doomed = doomed[:limit]
                position = doomed[-1][0]
            if not doomed:
                return 0, position
            with transaction(db):
                return db.executemany(_PURGE, doomed).rowcount, position

        nothing: tuple[int, int | None] = (0, None)
        return self.files.change(path, "purge", work, nothing)


def _changes(statement: str, row: tuple[Any, ...]) -> Callable[[sqlite3.Connection], bool]:
    def work(db: sqlite3.Connection) -> bool:
        return db.execute(statement, row).rowcount == 1

    return work


def _rows(statement: str, row: tuple[Any, ...]) -> Callable[[sqlite3.Connection], list[bytes]]:
    def work(db: sqlite3.Connection) -> list[bytes]:
        return [key for (key,) in db.execute(statement, row)]

    return work
