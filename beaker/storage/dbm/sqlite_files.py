"""SQLite files of records, one file a namespace: the engine of the ``dbm`` store."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from beaker.exceptions import StoreUnavailable
from beaker.locking.files import file_lock
from beaker.paths import unusable, verify_directory
from beaker.storage.sqlite import create_private, enter_wal, trouble

__all__ = ["OPTION", "SqliteFiles"]

log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_APPLICATION_ID = 0x424B5231  # "BKR1": distinguishes our files from any other SQLite database
OPTION = "data_dir (or dbm_dir)"
_OPEN_FILES = 64
_IDLE_CONNECTIONS = 4
_SCHEMA = (
    # The data comes last, so that a purge reads the expiry of a long record without its overflow pages. There
    # is no index on it: keeping one doubles the cost of every write.
    "CREATE TABLE IF NOT EXISTS record"
    " (key BLOB PRIMARY KEY NOT NULL, version INTEGER NOT NULL, expires REAL, data BLOB NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
)
_abandoned: list[sqlite3.Connection] = []
"""Keeps what a child inherited from being collected, which would close it."""


class _File:
    """The idle connections to one path, all to the file that was there when ``identity`` was taken."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.identity: tuple[int, int] | None = None
        self.idle: list[sqlite3.Connection] = []
        self.retired = False
        self.mutex = threading.Lock()

    def drop(self) -> None:
        """Close the idle connections; the busy ones are closed when they come back."""
        self.identity = None
        while self.idle:
            _close(self.idle.pop())


class SqliteFiles:
    """Connections to the files of one directory: at most 64 files and 4 idle connections each stay open.

    A connection serves one thread at a time. A file that was removed or replaced by another process is
    noticed at the next operation (one ``stat``). ``timeout`` is the seconds a write waits for another
    process; ``durable`` makes every commit survive a power cut.
    """

    suffix = ".sqlite"
    backend = "dbm"

    def __init__(self, directory: str, *, timeout: float, durable: bool) -> None:
        self._directory = directory
        self._timeout = timeout
        self._durable = durable
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._mutex = threading.Lock()

    def close_idle(self) -> None:
        """Close every connection that is not at work; the next operation opens one."""
        with self._mutex:
            files = tuple(self._files.values())
        for file in files:
            with file.mutex:
                file.drop()

    def abandon(self) -> None:
        """In a forked child: forget the inherited connections without closing them."""
        for file in self._files.values():
            _abandoned.extend(file.idle)
        self._files = OrderedDict()
        self._mutex = threading.Lock()

    def renew_locks(self) -> None:
        """After a patch of :mod:`threading`."""
        self._mutex = threading.Lock()
        for file in self._files.values():
            file.mutex = threading.Lock()

    def read(self, path: str, operation: str, work: Work[T], absent: T) -> T:
        """``work(connection)``, or ``absent`` when there is no file or it is not one of Beaker's databases."""
        return self._run(path, operation, work, absent, creates=False)

    def change(self, path: str, operation: str, work: Work[T], absent: T) -> T:
        """Like :meth:`read` for a delete: creates no file, moves a file that cannot be used aside."""
        return self._run(path, operation, work, absent, creates=False, heals=True)

    def write(self, path: str, operation: str, work: Work[bool]) -> bool:
        """``work(connection)`` on the file, which is created when absent and moved aside when corrupt."""
        return self._run(path, operation, work, False, creates=True, heals=True)

    def _run(self, path: str, operation: str, work: Work[T], absent: T, *, creates: bool, heals: bool = False) -> T:
        for attempt in (1, 2, 3):
            file = self._file(path)
            try:
                held = self._acquire(file, creates)
                if held is None:
                    return absent
                connection, identity = held
                try:
                    result = work(connection)
                except BaseException:
                    _close(connection)
                    raise
                self._release(file, connection, identity)
                return result
            except sqlite3.Error as err:
                last = attempt == 3
                if not last and str(err).startswith("no such table"):
                    with file.mutex:
                        file.drop()
                elif not last and _is_corruption(err):
                    with file.mutex:
                        found = file.identity
                        file.drop()
                    if not heals:
                        log.warning("dbm file %s cannot be read (%s): its records count as absent", path, err)
                        return absent
                    try:
                        self._quarantine(path, found)
                    except OSError as failure:
                        raise self._unavailable(failure, operation) from failure
                else:
                    raise self._unavailable(err, operation) from err
            except OSError as err:
                raise self._unavailable(err, operation) from err
        raise AssertionError("unreachable")

    def _unavailable(self, err: Exception, operation: str) -> StoreUnavailable:
        reason = (
            unusable(self._directory, err, OPTION)
            if isinstance(err, OSError)
            else trouble(self._directory, err, OPTION)
        )
        return StoreUnavailable(reason, backend=self.backend, operation=operation)

    # connections

    def _file(self, path: str) -> _File:
        with self._mutex:
            file = self._files.get(path)
            if file is not None:
                self._files.move_to_end(path)
                return file
            file = self._files[path] = _File(path)
            if len(self._files) <= _OPEN_FILES:
                return file
            _, oldest = self._files.popitem(last=False)
        with oldest.mutex:
            oldest.retired = True
            oldest.drop()
        return file

    def _acquire(self, file: _File, creates: bool) -> tuple[sqlite3.Connection, tuple[int, int]] | None:
        with file.mutex:
            try:
                status = _status(file.path)
            except FileNotFoundError:
                file.drop()
                if not creates:
                    return None
                verify_directory(os.path.dirname(file.path))
                create_private(file.path)
                status = _status(file.path)
            identity = (status.st_dev, status.st_ino)
            if identity != file.identity:
                file.drop()
                file.identity = identity
            connection = file.idle.pop() if file.idle else self._open(file.path, creates)
            return None if connection is None else (connection, identity)

    def _release(self, file: _File, connection: sqlite3.Connection, identity: tuple[int, int]) -> None:
        with file.mutex:
            if identity == file.identity and not file.retired and len(file.idle) < _IDLE_CONNECTIONS:
                file.idle.append(connection)
                return
        _close(connection)

    def _open(self, path: str, creates: bool) -> sqlite3.Connection | None:
        # mode=rw: SQLite itself must not bring back a file that is removed at this moment.
        connection = sqlite3.connect(
            f"{Path(path).absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            if not _is_ours(connection):
                if not creates:
                    connection.close()
                    return None
                if not self._durable:
                    # Creating a file costs three syncs otherwise; one that a power cut spoils is moved aside.
                    connection.execute("PRAGMA synchronous = OFF")
                enter_wal(connection, timeout=self._timeout)
                with transaction(connection):
                    for statement in _SCHEMA:
                        connection.execute(statement)
            else:
                enter_wal(connection, timeout=self._timeout)
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
        except BaseException:
            _close(connection)
            raise
        return connection

    def _quarantine(self, path: str, identity: tuple[int, int] | None) -> None:
        with file_lock(os.path.join(self._directory, ".quarantine.lock"), timeout=self._timeout):
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                return
            if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) != identity:
                return  # another process was faster: what is there now is new
            aside = f"{path}.corrupt-{os.urandom(4).hex()}"
            for tail in ("-wal", "-shm", ""):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(path + tail, aside + tail)
        log.error("dbm file %s is corrupt or foreign: moved aside to %s", path, aside)


def _status(path: str) -> os.stat_result:
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        # A link, a pipe or a directory in the place of a file is not our database, like any other file that is not.
        raise sqlite3.DatabaseError("no regular file")
    return found


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Several statements as one; the write lock is taken at once, so that none of them can deadlock."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_ours(connection: sqlite3.Connection) -> bool:
    # In this order: another process may create the schema, number included, between the two questions.
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (identity,) = connection.execute("PRAGMA application_id").fetchone()
    if identity == _APPLICATION_ID:
        return True
    if identity or tables:
        raise sqlite3.DatabaseError("a database of another application")
    return False


def _is_corruption(err: sqlite3.Error) -> bool:
    # SQLITE_CORRUPT and SQLITE_NOTADB arrive as the bare class; busy, full and the like as subclasses.
    return type(err) is sqlite3.DatabaseError


def _close(connection: sqlite3.Connection) -> None:
    try:
        connection.close()
    except sqlite3.Error as err:
        log.debug("closing a dbm file failed: %s", err)
