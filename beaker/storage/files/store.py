"""One file per record under one directory per namespace; readers take no lock and create nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from math import inf
from typing import NamedTuple

from beaker import clock as _clock
from beaker._typing import Clock
from beaker.counters import store_tally
from beaker.crypto.place import PlaceKey
from beaker.exceptions import StoreUnavailable
from beaker.keys import digest, encode_text, namespace_digest
from beaker.locking.stripes import Stripes
from beaker.paths import atomic_write, expect_directory, safe_name, unusable, verify_directory
from beaker.storage.api import Contents, Describing, Listing, Purging, Store, Versioned, Written
from beaker.storage.files import sweep
from beaker.storage.files.record import Record, encode, load, version_in
from beaker.storage.names import record_name
from beaker.storage.records import check_size, expiry

__all__ = ["FileStore"]

_DIRECTORY = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0)
_RETRIES = 100
_OPTION = "data_dir (or file_dir)"
_MEMO = 1_000
"""Namespaces whose directory name is remembered."""


class _Place(NamedTuple):
    directory: str
    name: str
    stripe: int
    namespace: bytes
    key: bytes


class FileStore(Store, Versioned, Listing, Purging, Describing):
    """Bytes in files below a directory; every capability but ``Bulk``.

    - ``directory``: where the records are; created, mode 0700, by the first write. On a local file system.
    - ``durable``: flush every write to the disk before it returns, so that it survives a power cut; default false,
      with which an acknowledged write survives a killed process. A flush takes milliseconds.
    - ``max_value``: bytes of a value at most; default ``None``, no limit.
    - ``lock_dir``: where the 256 lock files are by which writers of several processes exclude each other; default
      ``.locks`` inside ``directory``. Every process that writes must name the same one.
    - ``file_locks``: true, the default, for those; false for locks among the threads of this process only, which is
      right when one process writes. ConfigError for true on a platform that has no ``fcntl``.
    - ``timeout``: seconds a write waits for another writer, then :class:`~beaker.exceptions.StoreUnavailable`;
      default 10. It takes that long only when a process was stopped in the middle of a write.
    - ``digest_filenames``: true, the default, names files by digests; false by the keys, where they fit.
    - ``clock``: seconds since the epoch; decides what has expired.

    Readers take no lock and create nothing. A file that is truncated, foreign, or a copy of another record's file is
    an absent record. Any other :class:`OSError` becomes :class:`~beaker.exceptions.StoreUnavailable`, the old record
    intact. ``place_key`` signs the records where no other key does.
    """

    backend = "file"
    trusted = False

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        clock: Clock = _clock.now,
        durable: bool = False,
        max_value: int | None = None,
        lock_dir: str | os.PathLike[str] | None = None,
        digest_filenames: bool = True,
        file_locks: bool = True,
        timeout: float = 10.0,
    ) -> None:
        self.directory = os.path.abspath(os.fspath(directory))
        self.max_value = max_value
        self._tally = store_tally(self.backend)
        self._clock = clock
        self._durable = durable
        self._digest_filenames = digest_filenames
        locks = os.path.join(self.directory, ".locks") if lock_dir is None else os.path.abspath(os.fspath(lock_dir))
        expect_directory(self.directory, _OPTION)
        self.place_key = PlaceKey(self.directory, backend=self.backend, option=_OPTION)
        self._lock_dir = None if lock_dir is None else locks
        if file_locks:
            expect_directory(locks, "lock_dir")
        self._stripes = Stripes(locks if file_locks else None, timeout=timeout)
        self._memo: dict[str, tuple[str, bytes]] = {}

    # Store

    def get(self, namespace: str, key: str) -> bytes | None:
        record = self._get(namespace, key, "get")
        data = None if record is None else record.data
        self._tally.read(data)
        return data

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        self._write(namespace, key, data, ttl, "set", None)
        if ttl is not None and ttl <= 0:
            self._tally.deleted()
        else:
            self._tally.wrote(len(data))

    def delete(self, namespace: str, key: str) -> None:
        self._unlink(namespace, key, "delete", None)
        self._tally.deleted()

    def clear(self, namespace: str) -> None:
        # Renamed first, so that the namespace is empty at one moment; a writer that is inside the old
        # directory writes there, which is as if it had come before.
        trash = f"{self.directory}/{sweep.TRASH}{os.urandom(8).hex()}"
        try:
            with suppress(FileNotFoundError):
                os.rename(self._namespace(namespace)[0], trash)
        except OSError as err:
            raise self._unavailable("clear", err) from err
        self._tally.deleted()
        # What cannot be removed now is out of sight already, and left to purge().
        with suppress(OSError):
            sweep.remove_tree(trash)

    # Versioned

    def read(self, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        record = self._get(namespace, key, "read")
        self._tally.read(None if record is None else record.data)
        return None if record is None else (record.data, record.version)

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> bool | Written:
        done = self._write(namespace, key, data, ttl, "insert", lambda current: current is None)
        return self._tally.tried(bool(done), len(data)) and done

    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> bool | Written:
        done = self._write(namespace, key, data, ttl, "replace", _has(version))
        return self._tally.tried(bool(done), len(data)) and done

    def remove(self, namespace: str, key: str, version: Hashable) -> bool:
        return self._tally.removed(self._unlink(namespace, key, "remove", _has(version)))

    # Listing, Purging

    def keys(self, namespace: str) -> Iterator[str]:
        directory, name = self._namespace(namespace)
        now = self._clock()
        try:
            for path in sweep.record_files(directory):
                record = load(path, head_only=True)
                if record is not None and record.namespace == name and record.expires > now:
                    yield record.key.decode("utf-8", "surrogatepass")
        except OSError as err:
            raise self._unavailable("keys", err) from err

    def purge(
        self, now: float, limit: int, *, cursor: str | None = None, deadline: float | None = None
    ) -> tuple[int, str | None]:
        """See :class:`~beaker.storage.api.Purging`. A call looks at 10 times ``limit`` files, at least
        1,000. It also removes what killed writers left: temporary files over 60 seconds old, unreadable
        records as old, what a ``clear`` began to remove, and empty directories."""
        try:
            gone, after = sweep.Sweep(self.directory, now, limit, cursor, deadline, self._purge_file).run()
        except OSError as err:
            raise self._unavailable("purge", err) from err
        self._tally.deleted(gone)
        return gone, after

    def contents(self, now: float) -> Iterator[Contents]:
        """What each namespace holds; reads the head of every file. The times are those of the files."""
        try:
            for directory in sorted(sweep.names(self.directory)):
                yield from self._contents_of(f"{self.directory}/{directory}", now)
        except OSError as err:
            raise self._unavailable("contents", err) from err

    def _contents_of(self, directory: str, now: float) -> Iterator[Contents]:
        found: dict[bytes, Contents] = {}
        for path in sweep.record_files(directory):
            record = load(path, head_only=True)
            if record is None:
                continue
            with suppress(FileNotFoundError):
                status = os.stat(path)
                so_far = found.get(record.namespace, Contents("", 0, 0))
                found[record.namespace] = Contents(
                    "",
                    so_far.records + 1,
                    (so_far.size or 0) + status.st_size,
                    min(status.st_mtime, inf if so_far.oldest is None else so_far.oldest),
                    max(status.st_mtime, -inf if so_far.newest is None else so_far.newest),
                    (so_far.expired or 0) + (record.expires < now),
                )
        for name, so_far in sorted(found.items()):
            yield so_far._replace(namespace=name.decode("utf-8", "surrogatepass"))

    def _purge_file(self, path: str, now: float) -> bool | None:
        """Remove one expired record's file; ``None`` when it holds no record of Beaker's."""
        record = load(path, head_only=True)
        if record is None:
            return None
        if record.expires >= now:
            return False
        text = [part.decode("utf-8", "surrogatepass") for part in (record.namespace, record.key)]
        with self._stripes(int(digest(*text)[-2:], 16)):
            record = load(path, head_only=True)
            if record is None or record.expires >= now:
                return False
            os.unlink(path)
            return True

    # below

    def _namespace(self, namespace: str) -> tuple[str, bytes]:
        found = self._memo.get(namespace)
        if found is None:
            name = namespace_digest(namespace)[:32] if self._digest_filenames else safe_name(namespace)
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            found = self._memo[namespace] = (f"{self.directory}/{name}", encode_text(namespace))
        return found

    def _place(self, namespace: str, key: str) -> _Place:
        directory, raw = self._namespace(namespace)
        pair = record_name(namespace, key)
        name = pair if self._digest_filenames else safe_name(key)
        return _Place(f"{directory}/{pair[:2]}", name + sweep.RECORD, int(pair[-2:], 16), raw, encode_text(key))

    def _get(self, namespace: str, key: str, operation: str) -> Record | None:
        place = self._place(namespace, key)
        try:
            return self._live(place, f"{place.directory}/{place.name}", None)
        except OSError as err:
            raise self._unavailable(operation, err) from err

    def _live(self, place: _Place, path: str, dir_fd: int | None) -> Record | None:
        record = load(path, dir_fd=dir_fd)
        # The names are compared because a file can be copied over another, or be another user's work.
        if record is None or record.key != place.key or record.namespace != place.namespace:
            return None
        return None if record.expires != inf and record.expires <= self._clock() else record

    def _write(
        self,
        namespace: str,
        key: str,
        data: bytes,
        ttl: float | None,
        operation: str,
        allowed: Callable[[Record | None], bool] | None,
    ) -> bool | Written:
        check_size(data, self.max_value, self.backend, operation)
        place = self._place(namespace, key)
        if ttl is not None and ttl <= 0:
            return self._change(place, None, operation, allowed)
        blob = encode(place.namespace, place.key, expiry(self._clock(), ttl), data)
        return self._change(place, blob, operation, allowed) and Written(version_in(blob))

    def _unlink(
        self, namespace: str, key: str, operation: str, allowed: Callable[[Record | None], bool] | None
    ) -> bool:
        place = self._place(namespace, key)
        try:
            # Looked at before the lock is taken: removing what is not there must create no lock file.
            os.lstat(f"{place.directory}/{place.name}")
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as err:
            raise self._unavailable(operation, err) from err
        return self._change(place, None, operation, allowed)

    def _change(
        self, place: _Place, record: bytes | None, operation: str, allowed: Callable[[Record | None], bool] | None
    ) -> bool:
        """Write the record's file, or remove it (``None``), if what is there now is ``allowed``."""
        try:
            with self._stripes(place.stripe):
                for _ in range(_RETRIES):
                    with suppress(FileNotFoundError):
                        return self._change_once(place, record, allowed)
                    # The directory is not there yet, or a clear() or an rm took it away.
                    if allowed is not None and not allowed(None):
                        return False
                    if record is None:
                        return True
                    verify_directory(self.directory)
                    verify_directory(place.directory)
        except OSError as err:
            raise self._unavailable(operation, err) from err
        reason = f"{self.directory}: it is removed again and again while a record is written"
        raise StoreUnavailable(reason, backend=self.backend, operation=operation)

    def _change_once(
        self, place: _Place, record: bytes | None, allowed: Callable[[Record | None], bool] | None
    ) -> bool:
        # Check and write go through one open directory: a clear() between the two cannot slip in a
        # fresh directory under the same path.
        fd = os.open(place.directory, _DIRECTORY)
        try:
            if allowed is not None and not allowed(self._live(place, place.name, fd)):
                return False
            if record is not None:
                atomic_write(place.name, record, durable=self._durable, dir_fd=fd)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(place.name, dir_fd=fd)
            return True
        finally:
            os.close(fd)

    def _unavailable(self, operation: str, err: OSError) -> StoreUnavailable:
        # The record's own path may be readable, and then holds a key: only the directory is named.
        directory, option = self.directory, _OPTION
        if self._lock_dir is not None and str(err.filename or "").startswith(self._lock_dir):
            directory, option = self._lock_dir, "lock_dir"
        return StoreUnavailable(unusable(directory, err, option), backend=self.backend, operation=operation)


def _has(version: Hashable) -> Callable[[Record | None], bool]:
    return lambda current: current is not None and current.version == version
