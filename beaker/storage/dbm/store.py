"""The ``dbm`` store: one database file a namespace, in one directory."""

from __future__ import annotations

import os
import re
import time
import weakref
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Protocol

from beaker import clock as _clock
from beaker._typing import Clock
from beaker.counters import store_tally
from beaker.crypto.place import PlaceKey
from beaker.exceptions import ConfigError, StoreUnavailable
from beaker.forks import ForkAware, ForkGate
from beaker.keys import encode_text, namespace_digest
from beaker.paths import expect_directory, unusable
from beaker.storage.api import Bulk, Contents, Describing, Listing, Purging, Store, Versioned, Written
from beaker.storage.dbm.module_engine import ModuleEngine, load_module
from beaker.storage.dbm.sqlite_engine import SqliteEngine
from beaker.storage.dbm.sqlite_files import OPTION
from beaker.storage.records import check_size, expires_at

__all__ = ["DbmStore"]

_BATCH = 500
_LAST = 2**63 - 1
_PLAIN = re.compile(rb"[a-z0-9_\-]")
_ESCAPED = re.compile(rb"%([0-9a-f]{2})")
_LONGEST_NAME = 180


class _Engine(Protocol):
    suffix: str
    max_value: int | None

    def close(self) -> None: ...
    def abandon(self) -> None: ...
    def renew_locks(self) -> None: ...
    def get(self, path: str, key: bytes, now: float) -> bytes | None: ...
    def read(self, path: str, key: bytes, now: float) -> tuple[bytes, int] | None: ...
    def get_many(self, path: str, keys: Sequence[bytes], now: float) -> dict[bytes, bytes]: ...
    def put(self, path: str, key: bytes, data: bytes, expires: float | None) -> None: ...
    def put_many(self, path: str, items: Sequence[tuple[bytes, bytes]], expires: float | None) -> None: ...
    def insert(self, path: str, key: bytes, data: bytes, expires: float | None, now: float) -> int | None: ...
    def replace(
        self, path: str, key: bytes, data: bytes, version: object, expires: float | None, now: float
    ) -> int | None: ...
    def remove(self, path: str, key: bytes, version: object, now: float) -> bool: ...
    def delete(self, path: str, keys: Sequence[bytes], operation: str) -> None: ...
    def clear(self, path: str) -> None: ...
    def keys(self, path: str, now: float) -> Iterator[bytes]: ...
    def purge(self, path: str, now: float, limit: int, after: int) -> tuple[int, int | None]: ...
    def count(self, path: str, now: float) -> tuple[int, int, int]: ...


class DbmStore(Store, Versioned, Listing, Describing, Purging, Bulk, ForkAware):
    """Records in one database file a namespace, in one directory; every capability.

    - ``directory``: where the files are; created, mode 0700, by the first write. Not on a network file system:
      SQLite's locks do not hold there.
    - ``dbmmodule``: a name (``dbm.gnu``, ``dbm.ndbm``, ``dbm.dumb``) or a module object to use as it is: opened for
      each operation under a lock file. Whether it survives a killed writer, and how large a value may be, is up to
      the module. Default ``None``: SQLite in WAL mode.
    - ``lock_dir``: where the lock files for a ``dbmmodule`` are, 256 at most; default ``directory``. Every process
      must name the same one. SQLite needs none.
    - ``digest_filenames``: true, the default, names files by digests; false by the namespaces, where they are short.
    - ``durable``: sync every write, so that a power cut loses nothing; default false. SQLite only.
    - ``max_value``: bytes of a value at most; default 256 MiB in SQLite, with a ``dbmmodule`` none.
    - ``timeout``: seconds a write waits for other processes, then :class:`~beaker.exceptions.StoreUnavailable`;
      default 10.
    - ``clock``: seconds since the epoch; decides what has expired.

    With SQLite an operation is O(log n) in the number of keys and safe between threads and processes of one machine,
    and a process killed at any moment loses nothing that was acknowledged. A file that
    is not one of Beaker's databases counts as absent, is logged, and is moved aside (``*.corrupt-*``) by the next
    write. A full disk or a missing permission is StoreUnavailable. ``place_key`` signs the records
    where no other key does.
    """

    backend = "dbm"
    trusted = False
    rough = True

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        dbmmodule: str | ModuleType | None = None,
        lock_dir: str | os.PathLike[str] | None = None,
        digest_filenames: bool = True,
        durable: bool = False,
        max_value: int | None = None,
        timeout: float = 10.0,
        clock: Clock = _clock.now,
    ) -> None:
        self.directory = os.path.abspath(os.fspath(directory))
        self._clock = clock
        self._tally = store_tally(self.backend)
        self._digest_filenames = digest_filenames
        expect_directory(self.directory, OPTION)
        self.place_key = PlaceKey(self.directory, backend=self.backend, option=OPTION)
        self._engine: _Engine
        if dbmmodule is None:
            self._engine = SqliteEngine(self.directory, timeout=timeout, durable=durable)
        else:
            locks = self.directory if lock_dir is None else os.path.abspath(os.fspath(lock_dir))
            expect_directory(locks, "lock_dir")
            self._engine = ModuleEngine(load_module(dbmmodule), self.directory, locks, timeout=timeout)
        self.max_value = self._engine.max_value if max_value is None else max_value
        self._gate = ForkGate()
        self._watch_forks()
        self._finalizer = weakref.finalize(self, self._engine.close)

    def close(self) -> None:
        """Close the open files. The store stays usable: the next operation opens what it needs."""
        with self._gate:
            self._engine.close()

    # Store

    def get(self, namespace: str, key: str) -> bytes | None:
        with self._gate:
            data = self._engine.get(self._path(namespace), encode_text(key), self._clock())
        self._tally.read(data)
        return data

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        check_size(data, self.max_value, self.backend, "set")
        if ttl is not None and ttl <= 0:
            self._delete(namespace, (key,), "set")
            return
        expires = expires_at(self._clock(), ttl)
        with self._gate:
            self._engine.put(self._path(namespace), encode_text(key), data, expires)
        self._tally.wrote(len(data))

    def delete(self, namespace: str, key: str) -> None:
        self._delete(namespace, (key,), "delete")

    def clear(self, namespace: str) -> None:
        with self._gate:
            self._engine.clear(self._path(namespace))
        self._tally.deleted()

    # Versioned

    def read(self, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        with self._gate:
            found = self._engine.read(self._path(namespace), encode_text(key), self._clock())
        self._tally.read(None if found is None else found[0])
        return found

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> bool | Written:
        check_size(data, self.max_value, self.backend, "insert")
        now = self._clock()
        with self._gate:
            new = self._engine.insert(self._path(namespace), encode_text(key), data, expires_at(now, ttl), now)
        return self._tally.tried(new is not None, len(data)) and Written(new)

    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> bool | Written:
        check_size(data, self.max_value, self.backend, "replace")
        now = self._clock()
        expires = expires_at(now, ttl)
        with self._gate:
            new = self._engine.replace(self._path(namespace), encode_text(key), data, version, expires, now)
        return self._tally.tried(new is not None, len(data)) and Written(new)

    def remove(self, namespace: str, key: str, version: Hashable) -> bool:
        with self._gate:
            done = self._engine.remove(self._path(namespace), encode_text(key), version, self._clock())
        return self._tally.removed(done)

    # Listing, Purging

    def keys(self, namespace: str) -> Iterator[str]:
        """The live keys, read a page at a time: what is written meanwhile may or may not be among them."""
        pages = self._engine.keys(self._path(namespace), self._clock())
        while True:
            with self._gate:
                key = next(pages, None)
            if key is None:
                return
            yield key.decode("utf-8", "surrogatepass")

    def contents(self, now: float) -> Iterator[Contents]:
        """What each file holds, expired records included; goes through all of them.

        A namespace is named by its digest where its file is. ``newest`` is the file's own time.
        """
        for name in self._files("", "contents"):
            path = os.path.join(self.directory, name)
            with self._gate:
                # Before it is opened, which touches files of its own beside it.
                changed = _changed(path)
                records, size, over = self._engine.count(path, now)
            if records:
                yield Contents(self._namespace(name), records, size, None, changed, over)

    def purge(
        self, now: float, limit: int, *, cursor: str | None = None, deadline: float | None = None
    ) -> tuple[int, str | None]:
        """See :class:`~beaker.storage.api.Purging`; walks through all records, so give it a ``deadline``.

        ``deadline`` is looked at every 2,000 records; a call gets at least that far. ``cursor`` as
        returned, or :class:`~beaker.exceptions.ConfigError`.
        """
        end = None if deadline is None else time.monotonic() + deadline
        start, position = _place(cursor)
        gone = 0
        for name in self._files(start):
            after: int | None = position if name == start else 0
            while after is not None:
                if gone >= limit:
                    return gone, f"{name}:{after}"
                with self._gate:
                    path = os.path.join(self.directory, name)
                    removed, after = self._engine.purge(path, now, min(_BATCH, limit - gone), after)
                gone += removed
                self._tally.deleted(removed)
                if after is not None and end is not None and time.monotonic() >= end:
                    return gone, f"{name}:{after}"
            if end is not None and time.monotonic() >= end:
                return gone, f"{name}:{_LAST}"
        return gone, None

    # Bulk

    def get_many(self, namespace: str, keys: Iterable[str]) -> dict[str, bytes]:
        names = {encode_text(key): key for key in keys}
        with self._gate:
            found = self._engine.get_many(self._path(namespace), tuple(names), self._clock())
        self._tally.read_many(len(names), sum(map(len, found.values())))
        return {names[name]: data for name, data in found.items()}

    def set_many(self, namespace: str, items: Mapping[str, bytes], *, ttl: float | None) -> None:
        """All of ``items`` in one transaction."""
        for data in items.values():
            check_size(data, self.max_value, self.backend, "set_many")
        if ttl is not None and ttl <= 0:
            self._delete(namespace, items, "set_many")
        elif items:
            rows = [(encode_text(key), data) for key, data in items.items()]
            expires = expires_at(self._clock(), ttl)
            with self._gate:
                self._engine.put_many(self._path(namespace), rows, expires)
            self._tally.wrote(sum(map(len, items.values())), len(rows))

    def delete_many(self, namespace: str, keys: Iterable[str]) -> None:
        self._delete(namespace, keys, "delete_many")

    def _delete(self, namespace: str, keys: Iterable[str], operation: str) -> None:
        names = [encode_text(key) for key in keys]
        if names:
            with self._gate:
                self._engine.delete(self._path(namespace), names, operation)
            self._tally.deleted(len(names))

    # files

    def _path(self, namespace: str) -> str:
        return os.path.join(self.directory, self._name(namespace) + self._engine.suffix)

    def _name(self, namespace: str) -> str:
        if not self._digest_filenames:
            # Capitals are escaped as well: some file systems do not distinguish A from a.
            readable = "n-" + _escape(encode_text(namespace))
            if len(readable) <= _LONGEST_NAME:
                return readable
        return namespace_digest(namespace)

    def _namespace(self, name: str) -> str:
        base = name.removesuffix(self._engine.suffix)
        if not base.startswith("n-"):
            return f"#{base}"
        return _ESCAPED.sub(lambda found: bytes((int(found[1], 16),)), base[2:].encode()).decode(
            "utf-8", "surrogatepass"
        )

    def _files(self, start: str, operation: str = "purge") -> Iterator[str]:
        """Names of the databases from ``start`` on, in order."""
        suffix = self._engine.suffix
        found = set()
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    base, mark, tail = entry.name.partition(suffix)
                    if mark and "corrupt" not in tail and base + mark >= start:
                        found.add(base + mark)
        except FileNotFoundError:
            return
        except OSError as err:
            reason = unusable(self.directory, err, OPTION)
            raise StoreUnavailable(reason, backend=self.backend, operation=operation) from err
        yield from sorted(found)

    # forks

    def _before_fork(self) -> None:
        self._gate.close()
        self._engine.close()

    def _after_fork_in_parent(self) -> None:
        self._gate.open()

    def _after_fork(self) -> None:
        self._engine.abandon()
        self._gate.reset()

    def _renew_locks(self) -> None:
        self._engine.renew_locks()
        self._gate.renew_locks()


def _changed(path: str) -> float | None:
    # SQLite writes beside the file first, and a reader leaves an empty file there; modules have endings of their own.
    times = []
    for name in (path, f"{path}-wal", f"{path}.db", f"{path}.dat", f"{path}.pag"):
        with suppress(OSError):
            found = os.stat(name)
            if found.st_size or name == path:
                times.append(found.st_mtime)
    return max(times, default=None)


def _place(cursor: str | None) -> tuple[str, int]:
    name, _, position = (cursor or ":0").rpartition(":")
    if not position.isdigit():
        raise ConfigError(
            "the cursor is not from this store",
            option="cursor",
            expected="what purge() returned",
            code="purge.bad-cursor",
        )
    return name, int(position)


def _escape(name: bytes) -> str:
    return "".join(chr(byte) if _PLAIN.match(bytes((byte,))) else f"%{byte:02x}" for byte in name)
