"""Readers that never pause, and a writer between them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.storage.dbm import DbmStore
from beaker.storage.files import FileStore
from beaker.storage.memory import MemoryStore
from beaker.storage.sql import SqlStore
from beaker.testing.hooks import run_threads

READERS, WRITES = 16, 20
STORES: dict[str, Callable[[Path], Any]] = {
    "memory": lambda path: MemoryStore(),
    "file": lambda path: FileStore(path, timeout=10.0),
    "dbm": lambda path: DbmStore(path, timeout=10.0),
    "dbm module": lambda path: DbmStore(path, dbmmodule="dbm.dumb", timeout=10.0),
    "sqlite": lambda path: SqlStore(f"sqlite:///{path}/x.db", timeout=10.0),
}


@pytest.mark.parametrize("kind", STORES)
def test_readers_do_not_starve_a_writer(kind: str, tmp_path: Path) -> None:
    """Each write beside sixteen threads that read all the time is acknowledged, and each of them reads on."""
    store = STORES[kind](tmp_path)
    store.set("n", "k", b"0", ttl=None)
    written = threading.Event()
    reads = [0] * READERS

    def work(me: int) -> None:
        if me < READERS:
            last = 0
            while not written.is_set() or not reads[me]:
                seen = int(store.get("n", "k"))
                assert seen >= last
                last, reads[me] = seen, reads[me] + 1
        else:
            try:
                for number in range(1, WRITES + 1):
                    store.set("n", "k", b"%d" % number, ttl=None)
            finally:
                written.set()

    run_threads(READERS + 1, work)
    assert store.get("n", "k") == b"%d" % WRITES
    assert all(reads)
    getattr(store, "close", lambda: None)()
