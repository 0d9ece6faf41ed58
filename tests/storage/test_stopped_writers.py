"""A process that was stopped, not killed, in the middle of a write: its locks stay, and no process waits for ever."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.exceptions import StoreUnavailable
from beaker.storage.dbm import DbmStore
from beaker.storage.files import FileStore
from beaker.storage.sql import SqlStore

TIMEOUT = 0.1
STORES: dict[str, Callable[[Path], Any]] = {
    "file": lambda path: FileStore(path, timeout=TIMEOUT),
    "dbm": lambda path: DbmStore(path, timeout=TIMEOUT),
    "dbm module": lambda path: DbmStore(path, dbmmodule="dbm.dumb", timeout=TIMEOUT),
    "sqlite": lambda path: SqlStore(f"sqlite:///{path}/x.db", engine_options={"connect_args": {"timeout": TIMEOUT}}),
}
HOLDERS = {
    "file": """
for name in glob.glob(f"{path}/.locks/*.lock"):
    fcntl.flock(os.open(name, os.O_RDWR), fcntl.LOCK_EX)
""",
    "dbm module": """
for name in glob.glob(f"{path}/.dbm-*.lock"):
    fcntl.flock(os.open(name, os.O_RDWR), fcntl.LOCK_EX)
""",
    "dbm": """
import sqlite3
kept = [sqlite3.connect(name) for name in glob.glob(f"{path}/*.sqlite") + glob.glob(f"{path}/x.db")]
for connection in kept:
    connection.execute("BEGIN IMMEDIATE")
""",
}
HOLDERS["sqlite"] = HOLDERS["dbm"]


@contextlib.contextmanager
def stopped_in_a_write(kind: str, path: Path) -> Iterator[None]:
    """Another process that holds what a writer holds, stopped by a signal; it continues and ends with the block."""
    program = "\n".join(
        (
            "import fcntl, glob, os, sys",
            "path = sys.argv[1]",
            HOLDERS[kind],
            "print('held', flush=True)",
            "sys.stdin.read()",
        )
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, holder.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield
        finally:
            holder.send_signal(signal.SIGCONT)
            holder.stdin.close()
            holder.wait()


@pytest.mark.parametrize("kind", STORES)
def test_a_stopped_writer(kind: str, tmp_path: Path) -> None:
    """Writes are StoreUnavailable after the timeout, and name the place; once the writer goes on, all is well."""
    store = STORES[kind](tmp_path)
    store.set("n", "k", b"old", ttl=None)
    with stopped_in_a_write(kind, tmp_path):
        for write in (
            lambda: store.set("n", "k", b"new", ttl=None),
            lambda: store.insert("n", "k", b"new", ttl=None),
            lambda: store.delete("n", "k"),
        ):
            with pytest.raises(StoreUnavailable, match=str(tmp_path)):
                write()
        if kind != "dbm module":
            assert store.get("n", "k") == b"old"
    store.set("n", "k", b"new", ttl=None)
    assert store.get("n", "k") == b"new"
