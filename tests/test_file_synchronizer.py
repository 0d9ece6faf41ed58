"""FileSynchronizer: its files, other processes, writers that must not starve, fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from beaker import runtime
from beaker.exceptions import LockError, StoreUnavailable
from beaker.synchronization import FileSynchronizer
from beaker.testing.lock import PATIENCE, elsewhere, wait_until
from tests.processes import CONTEXT, fresh

ROOT = Path(__file__).parents[1]


def test_files_are_bounded_and_stay(tmp_path: Path) -> None:
    """2,000 names create 256 files at most, none before the first lock, and none is unlinked."""
    locks = [FileSynchronizer(str(number), tmp_path / "locks", file_locks=True) for number in range(2000)]
    assert list(tmp_path.iterdir()) == []
    counts = []
    for lock in locks:
        lock.acquire_read_lock()
        lock.release_read_lock()
        counts.append(len(os.listdir(tmp_path / "locks")))
    assert counts == sorted(counts)
    assert 200 < counts[-1] <= 256


def colliding(lock_dir: Path) -> tuple[FileSynchronizer, FileSynchronizer]:
    """Two names that share a lock file."""
    seen: dict[Any, FileSynchronizer] = {}
    for number in range(1000):
        lock = FileSynchronizer(str(number), lock_dir, file_locks=True)
        if lock._core in seen:
            return seen[lock._core], lock
        seen[lock._core] = lock
    raise AssertionError("no two names share a file")


def test_shared_stripe(tmp_path: Path) -> None:
    """Names that share a file do not deadlock a thread: it is re-entrant, or raises at once."""
    one, other = colliding(tmp_path)
    one.acquire_write_lock()
    assert other.acquire_write_lock() is True
    other.release_write_lock()
    one.release_write_lock()
    one.acquire_read_lock()
    with pytest.raises(LockError):
        other.acquire_write_lock()
    one.release_read_lock()


def test_directory_in_the_way(tmp_path: Path) -> None:
    """A lock file that cannot be opened is StoreUnavailable, and the threads' lock is free again."""
    lock = FileSynchronizer("x", tmp_path / "file" / "locks", file_locks=True)
    (tmp_path / "file").write_bytes(b"")
    for acquire in (lock.acquire_read_lock, lock.acquire_write_lock) * 2:
        with pytest.raises(StoreUnavailable, match=r"file/locks: a file is in the way; set lock_dir"):
            elsewhere(acquire)


def test_serverless_touches_no_file(tmp_path: Path) -> None:
    """Where the runtime has no shared disk the synchronizer is among threads, and creates no file."""
    try:
        runtime.override(runtime.Runtime(platform=runtime.Platform.FUNCTIONS))
        lock = FileSynchronizer("x", tmp_path / "locks")
        assert lock.acquire_write_lock()
        assert elsewhere(lambda: FileSynchronizer("x", tmp_path / "locks").acquire_read_lock(False)) is False
        lock.release_write_lock()
    finally:
        runtime.override(None)
    assert list(tmp_path.iterdir()) == []


def hold(directory: str, kind: str, pipe: Connection) -> None:
    """In a child process: acquire, say so, release when told."""
    lock = FileSynchronizer("x", directory, file_locks=True)
    pipe.send("started")
    getattr(lock, f"acquire_{kind}_lock")()
    pipe.send("held")
    pipe.recv()
    getattr(lock, f"release_{kind}_lock")()


class Child:
    """Another process that holds the lock."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = fresh(hold, str(directory), kind, theirs)
        self.process.start()
        self.expect("started")

    def expect(self, word: str) -> None:
        assert self.pipe.poll(PATIENCE)
        assert self.pipe.recv() == word

    def end(self) -> None:
        self.pipe.send("end")
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[[str], Child]]:
    """Starts a process that holds the lock for reading or writing."""
    started: list[Child] = []

    def start(kind: str) -> Child:
        started.append(Child(tmp_path, kind))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.join(PATIENCE)
        one.pipe.close()


def test_processes(tmp_path: Path, child: Callable[[str], Child]) -> None:
    """A writer keeps other processes out, a reader lets other readers in; a killed one holds nothing."""
    lock = FileSynchronizer("x", tmp_path, file_locks=True)
    writer = child("write")
    writer.expect("held")
    assert lock.acquire_read_lock(False) is False
    assert lock.acquire_write_lock(False) is False
    writer.end()
    reader = child("read")
    reader.expect("held")
    assert lock.acquire_read_lock(False) is True
    lock.release_read_lock()
    assert lock.acquire_write_lock(False) is False
    reader.process.kill()
    assert lock.acquire_write_lock() is True
    lock.release_write_lock()


def test_readers_do_not_starve_a_writer(tmp_path: Path, child: Callable[[str], Child]) -> None:
    """While readers of this process overlap without a gap, a writer of another process gets its turn."""
    lock = FileSynchronizer("x", tmp_path, file_locks=True)
    stop = threading.Event()
    entries = [0, 0]
    failures: list[BaseException] = []

    def read(me: int) -> None:
        # Neither lets go before the other has come in, unless the other is kept out: by the waiting writer.
        try:
            while not stop.is_set():
                seen = entries[1 - me]
                lock.acquire_read_lock()
                entries[me] += 1
                for _ in range(300):
                    if stop.wait(0.001) or entries[1 - me] != seen:
                        break
                lock.release_read_lock()
        except BaseException as err:
            failures.append(err)

    readers = [threading.Thread(target=read, args=(me,), daemon=True) for me in (0, 1)]
    for reader in readers:
        reader.start()
    wait_until(lambda: all(entries))
    writer = child("write")
    writer.expect("held")
    writer.end()
    stop.set()
    for reader in readers:
        reader.join(PATIENCE)
    assert failures == []


FORK = """
import os, sys
from beaker.synchronization import ConditionSynchronizer, FileSynchronizer, NameLock
files = FileSynchronizer("x", sys.argv[1], file_locks=True)
threads = ConditionSynchronizer("x")
name = NameLock("x")
files.acquire_write_lock(); files.acquire_read_lock(); threads.acquire_write_lock(); name.acquire()
if not os.fork():
    assert threads.acquire_write_lock(False) and name.acquire(False)
    threads.release_write_lock(); name.release()
    files.release_read_lock(); files.release_write_lock(); threads.release_write_lock(); name.release()
    assert name.acquire(False) and not name.acquire(False)
    assert not files.acquire_write_lock(False), "the parent's lock was freed by the child"
    assert not files.acquire_read_lock(False)
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
files.release_read_lock(); files.release_write_lock(); threads.release_write_lock(); name.release()
if not os.fork():
    files.acquire_write_lock()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
assert files.acquire_write_lock(False)
"""


def test_fork(tmp_path: Path) -> None:
    """A forked child holds nothing and frees nothing of its parent's."""
    # In a process of its own: this one may have threads, beside which Python 3.12 warns of forking.
    subprocess.run([sys.executable, "-c", FORK, str(tmp_path)], check=True, timeout=60, cwd=ROOT)
