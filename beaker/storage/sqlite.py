"""What every SQLite file needs, whichever store opens it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import time

__all__ = ["create_private", "enter_wal", "trouble"]

_CACHE_KIB = 512
"""What a connection keeps of a database that other connections leave alone: the upper levels of its tree. SQLite's own
2 MiB, with a connection a thread and 64 files, would be most of an instance's memory; the kernel has the pages too."""


def create_private(path: str) -> None:
    """Create ``path``, empty and mode 0600, unless it is there; SQLite gives its ``-wal`` and ``-shm`` files that mode.

    Raises OSError.
    """
    # Linked into place complete: opening the path itself and closing it again would drop the POSIX
    # locks of any connection this process already has to it.
    descriptor, temporary = tempfile.mkstemp(prefix=".new-", dir=os.path.dirname(path) or ".")
    os.close(descriptor)
    try:
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        os.unlink(temporary)


def enter_wal(connection: sqlite3.Connection, *, timeout: float) -> None:
    """Give a connection a busy timeout (seconds) and a small cache of pages, and its database a write-ahead log."""
    connection.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as err:
            # Two processes may switch a new file at once; SQLite then reports "locked" without waiting.
            if "locked" not in str(err) or time.monotonic() >= deadline:
                raise
            time.sleep(0.005)


def trouble(place: str, err: Exception, option: str) -> str:
    """What a message says of a file that SQLite could not use: where, why, and what to do about it.

    Of SQLite's messages those about the file are repeated; any other may quote what an application stores.
    """
    said = str(err)
    for known, advice in _TROUBLES.items():
        if said.startswith(known):
            return f"{place}: {known}; {advice.format(option=option)}"
    return f"{place}: {type(err).__name__}"


_WRITABLE = "set {option} to a place in a directory where this process may create and write files"
_TROUBLES = {
    "unable to open database file": _WRITABLE,
    "attempt to write a readonly database": _WRITABLE,
    "disk I/O error": "see to the disk, its room and its quota, or set {option} to another",
    "database or disk is full": "make room, or set {option} to another disk",
    "database is locked": "another process has held it for longer than the timeout",
}
