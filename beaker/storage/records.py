"""What every table of records shares: expiry times, version numbers, WAL mode."""

from __future__ import annotations

import os
import sqlite3
import time

__all__ = ["enter_wal", "expires_at", "new_version"]


def expires_at(now: float, ttl: float | None) -> float | None:
    """When a record written at ``now`` ends, in seconds since the epoch; ``None``: never."""
    return None if ttl is None or ttl == float("inf") else now + ttl


def new_version() -> int:
    """A random number of 63 bits: a record inserted again never meets a version it had before."""
    return int.from_bytes(os.urandom(8), "big") >> 1


def enter_wal(connection: sqlite3.Connection, *, timeout: float) -> None:
    """Give a connection a busy timeout (seconds) and its database a write-ahead log."""
    connection.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as err:
            # Two processes may switch a new file at once; SQLite then answers "locked" without waiting.
            if "locked" not in str(err) or time.monotonic() >= deadline:
                raise
            time.sleep(0.005)
