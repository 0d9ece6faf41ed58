"""What every SQLite file needs, whichever store opens it."""

from __future__ import annotations

import sqlite3
import time

__all__ = ["enter_wal"]


def enter_wal(connection: sqlite3.Connection, *, timeout: float) -> None:
    """Give a connection a busy timeout (seconds) and its database a write-ahead log."""
    connection.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
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
