"""Records in files of a ``dbm`` module: opened for each operation, under a file lock."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import stat
import struct
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from beaker.exceptions import ConfigError, InvalidCacheBackendError, StoreUnavailable
from beaker.locking.files import file_lock, stripe_of
from beaker.paths import unusable, verify_directory
from beaker.storage.dbm.sqlite_files import OPTION
from beaker.storage.records import new_version

__all__ = ["ModuleEngine", "load_module"]

log = logging.getLogger(__name__)

_HEAD = struct.Struct(">Qd")  # version, expires
_NEVER = float("inf")
_STRIPES = 256
_TAILS = ("", ".db", ".dat", ".dir", ".bak", ".pag", "-wal", "-shm")
_SYSTEM_FAULTS = frozenset({
    errno.EACCES, errno.EPERM, errno.EAGAIN, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EROFS,
    errno.EDQUOT, errno.EFBIG, errno.ENOLCK, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT,
})  # fmt: skip
_OLD_NAMES = {"anydbm": "dbm", "dumbdbm": "dbm.dumb", "gdbm": "dbm.gnu"}


def load_module(given: str | ModuleType) -> Any:
    """The dbm module named, or given as an object; Python 2's ``anydbm``, ``dumbdbm``, ``gdbm`` too.

    :class:`~beaker.exceptions.InvalidCacheBackendError` when it cannot be imported,
    :class:`~beaker.exceptions.ConfigError` when it is not a dbm module (no ``open``, no ``error``).
    """
    module: Any = given
    if isinstance(given, str):
        try:
            module = import_module(_OLD_NAMES.get(given, given))
        except ImportError as err:
            raise InvalidCacheBackendError(
                f"the dbm module {given!r} is not installed",
                option="dbmmodule",
                hint="leave dbmmodule out for the journalled default, or name dbm.dumb, which is always there",
                code="config.missing-package",
            ) from err
    if not callable(getattr(module, "open", None)) or not hasattr(module, "error"):
        raise ConfigError(
            "dbmmodule is not a dbm module",
            option="dbmmodule",
            expected="a module with open() and error",
            got=type(given).__name__,
        )
    return module


class ModuleEngine:
    """What the named module offers and no more: whether a killed process loses data is up to it.

    Readers share a lock, a writer has it alone: ``flock`` on one of at most 256 files in ``lock_dir``.
    """

    suffix = ".dbm"
    max_value: int | None = None

    def __init__(self, module: Any, directory: str, lock_dir: str, *, timeout: float) -> None:
        self._module = module
        self._directory = directory
        self._lock_dir = lock_dir
        self._timeout = timeout
        errors = module.error if isinstance(module.error, tuple) else (module.error,)
        self._errors: tuple[type[Exception], ...] = (
            *errors,
            OSError,
            ValueError,
            SyntaxError,  # dbm.dumb evaluates the lines of its index
            sqlite3.Error,  # dbm.sqlite3 lets it through when it opens
        )

    def close(self) -> None:
        """Nothing stays open between operations."""

    abandon = renew_locks = close

    def _exists(self, path: str, operation: str) -> bool:
        with self._failing(operation):
            return bool(self._parts(path))

    def get(self, path: str, key: bytes, now: float) -> bytes | None:
        record = self._read(path, key, now, "get")
        return None if record is None else record[0]

    def read(self, path: str, key: bytes, now: float) -> tuple[bytes, int] | None:
        return self._read(path, key, now, "read")

    def _read(self, path: str, key: bytes, now: float, operation: str) -> tuple[bytes, int] | None:
        with self._reading(path, operation) as db:
            return None if db is None else _live(db, key, now)

    def get_many(self, path: str, keys: Sequence[bytes], now: float) -> dict[bytes, bytes]:
        with self._reading(path, "get_many") as db:
            records = {} if db is None else {key: _live(db, key, now) for key in keys}
        return {key: record[0] for key, record in records.items() if record is not None}

    def put(self, path: str, key: bytes, data: bytes, expires: float | None) -> None:
        self._put(path, ((key, data),), expires, "set")

    def put_many(self, path: str, items: Sequence[tuple[bytes, bytes]], expires: float | None) -> None:
        self._put(path, items, expires, "set_many")

    def _put(self, path: str, items: Sequence[tuple[bytes, bytes]], expires: float | None, operation: str) -> None:
        with self._writing(path, operation) as db:
            for key, data in items:
                db[_name(key)] = _pack(data, expires, new_version())

    def insert(self, path: str, key: bytes, data: bytes, expires: float | None, now: float) -> int | None:
        """Returns the new version; ``None``: refused."""
        with self._writing(path, "insert") as db:
            if _live(db, key, now) is not None:
                return None
            new = new_version()
            db[_name(key)] = _pack(data, expires, new)
            return new

    def replace(
        self, path: str, key: bytes, data: bytes, version: object, expires: float | None, now: float
    ) -> int | None:
        """As :meth:`insert`."""
        if not self._exists(path, "replace"):
            return None
        with self._writing(path, "replace") as db:
            record = _live(db, key, now)
            if record is None or record[1] != version:
                return None
            new = new_version()
            db[_name(key)] = _pack(data, expires, new)
            return new

    def remove(self, path: str, key: bytes, version: object, now: float) -> bool:
        if not self._exists(path, "remove"):
            return False
        with self._writing(path, "remove") as db:
            record = _live(db, key, now)
            if record is None or record[1] != version:
                return False
            del db[_name(key)]
            return True

    def delete(self, path: str, keys: Sequence[bytes], operation: str) -> None:
        if self._exists(path, operation):
            with self._writing(path, operation) as db:
                _drop(db, keys)

    def clear(self, path: str) -> None:
        if self._exists(path, "clear"):
            with self._writing(path, "clear") as db:
                for name in list(db.keys()):
                    del db[name]

    def keys(self, path: str, now: float) -> Iterator[bytes]:
        with self._reading(path, "keys") as db:
            live = [] if db is None else _live_keys(db, now)
        yield from live

    def count(self, path: str, now: float) -> tuple[int, int, int]:
        """How many records, how many bytes of data, and how many of them have expired; reads all of them."""
        if not self._exists(path, "contents"):
            return 0, 0, 0
        with self._reading(path, "contents") as db:
            found = [_unpack(db[name]) for name in ([] if db is None else list(db.keys()))]
        records = [record for record in found if record is not None]
        return len(records), sum(len(record[0]) for record in records), sum(record[2] < now for record in records)

    def purge(self, path: str, now: float, limit: int, after: int) -> tuple[int, int | None]:
        """Remove at most ``limit`` expired records; always looks at all of them."""
        if not self._exists(path, "purge"):
            return 0, None
        with self._writing(path, "purge") as db:
            return _purge(db, now, limit)

    def _parts(self, path: str) -> list[str]:
        found = []
        for tail in _TAILS:
            # Not exists(): a file that cannot be looked at is not an absent one.
            with contextlib.suppress(FileNotFoundError):
                os.lstat(path + tail)
                found.append(path + tail)
        return found

    @contextlib.contextmanager
    def _reading(self, path: str, operation: str) -> Iterator[Any]:
        if not self._exists(path, operation):
            yield None
            return
        with self._failing(operation), self._lock(path, shared=True):
            db = self._open(path, "r")
            if db is None:
                log.warning("dbm file %s cannot be read: its records count as absent", path)
                yield None
                return
            with contextlib.closing(db):
                yield db

    @contextlib.contextmanager
    def _writing(self, path: str, operation: str) -> Iterator[Any]:
        with self._failing(operation):
            verify_directory(self._directory)
            with self._lock(path, shared=False):
                db = self._open(path, "c")
                if db is None:
                    self._quarantine(path)
                    db = self._module.open(path, "c", 0o600)
                with contextlib.closing(db):
                    yield db

    @contextlib.contextmanager
    def _failing(self, operation: str) -> Iterator[None]:
        try:
            yield
        except self._errors as err:
            raise StoreUnavailable(self._reason(err), backend="dbm", operation=operation) from err

    def _reason(self, err: Exception) -> str:
        if not isinstance(err, TimeoutError) and not (isinstance(err, OSError) and err.errno in errno.errorcode):
            # gdbm has numbers of its own; what else a module raises may quote a key.
            return f"{self._directory}: {type(err).__name__}"
        if self._lock_dir != self._directory and str(getattr(err, "filename", None) or "").startswith(self._lock_dir):
            return unusable(self._lock_dir, err, "lock_dir")
        return unusable(self._directory, err, OPTION)

    def _open(self, path: str, flag: str) -> Any:
        """The open database, or ``None`` when its files are not one this module can read."""
        # A module would wait for a pipe's writer, and follow a link.
        if not all(stat.S_ISREG(os.lstat(part).st_mode) for part in self._parts(path)):
            return None
        try:
            return self._module.open(path, flag, 0o600)
        except self._errors as err:
            # gdbm reports a bad file by numbers of its own, so only what is surely the system's counts as such.
            if isinstance(err, sqlite3.OperationalError) or (isinstance(err, OSError) and err.errno in _SYSTEM_FAULTS):
                raise
            return None

    def _quarantine(self, path: str) -> None:
        aside = f"{path}.corrupt-{os.urandom(4).hex()}"
        for part in self._parts(path):
            os.rename(part, aside + part[len(path) :])
        log.error("dbm file %s is corrupt or foreign: moved aside to %s", path, aside)

    def _lock(self, path: str, *, shared: bool) -> contextlib.AbstractContextManager[None]:
        stripe = stripe_of(os.path.basename(path), _STRIPES)
        stem = os.path.join(self._lock_dir, f".dbm-{stripe:02x}")
        return file_lock(f"{stem}.lock", timeout=self._timeout, shared=shared, gate=f"{stem}.gate.lock")


def _name(key: bytes) -> bytes:
    # Not every module takes an empty key.
    return b"k" + key


def _pack(data: bytes, expires: float | None, version: int) -> bytes:
    return _HEAD.pack(version, _NEVER if expires is None else expires) + data


def _unpack(stored: bytes) -> tuple[bytes, int, float] | None:
    if len(stored) < _HEAD.size:
        return None
    version, expires = _HEAD.unpack_from(stored)
    return stored[_HEAD.size :], version, expires


def _live(db: Any, key: bytes, now: float) -> tuple[bytes, int] | None:
    try:
        stored = db[_name(key)]
    except KeyError:
        return None
    record = _unpack(stored)
    return None if record is None or record[2] <= now else record[:2]


# Loops over a file that is locked are functions of their own: see tests/faults/test_loops.py.


def _live_keys(db: Any, now: float) -> list[bytes]:
    # Not every module's object can be iterated over, all have keys().
    names = [name[1:] for name in list(db.keys())]
    return [key for key in names if _live(db, key, now) is not None]


def _drop(db: Any, keys: Sequence[bytes]) -> None:
    for key in keys:
        if _name(key) in db:
            del db[_name(key)]


def _purge(db: Any, now: float, limit: int) -> tuple[int, int | None]:
    gone = 0
    for name in list(db.keys()):
        if gone >= limit:
            return gone, 0
        record = _unpack(db[name])
        if record is None or record[2] < now:
            del db[name]
            gone += 1
    return gone, None
