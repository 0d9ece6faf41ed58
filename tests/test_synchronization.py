"""The manual's synchronizers: readers and writers among threads and processes, re-entrancy, fork."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.caching.dogpile import get_or_create
from beaker.exceptions import LockError
from beaker.synchronization import (
    ConditionSynchronizer,
    FileSynchronizer,
    NameLock,
    SynchronizerImpl,
    file_synchronizer,
    mutex_synchronizer,
    null_synchronizer,
)
from beaker.testing.hooks import run_threads
from beaker.testing.lock import PATIENCE, elsewhere, wait_until
from tests.dogpiles import Cache

Make = Callable[[str], SynchronizerImpl]


@pytest.fixture(params=["condition", "file", "file without files"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Creates a synchronizer for a name."""
    if request.param == "condition":
        return lambda name: ConditionSynchronizer(f"{tmp_path}{name}")
    return lambda name: FileSynchronizer(name, str(tmp_path), file_locks=request.param == "file")


class Waiter:
    """A thread that acquires, says so, and releases when told."""

    def __init__(self, lock: SynchronizerImpl, kind: str, order: list[str], name: str = "") -> None:
        self.has_it = threading.Event()
        self.may_go = threading.Event()

        def work() -> None:
            getattr(lock, f"acquire_{kind}_lock")()
            order.append(name)
            self.has_it.set()
            self.may_go.wait(PATIENCE)
            getattr(lock, f"release_{kind}_lock")()

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def end(self) -> None:
        self.may_go.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


def free_for(kind: str, lock: SynchronizerImpl) -> bool:
    """Whether another thread gets the lock at once; it gives it back."""

    def work() -> bool:
        got = getattr(lock, f"acquire_{kind}_lock")(wait=False)
        if got:
            getattr(lock, f"release_{kind}_lock")()
        return bool(got)

    return elsewhere(work)


def queued(lock: SynchronizerImpl, count: int) -> Callable[[], bool]:
    """Whether ``count`` threads wait in line."""
    core: Any = lock._core  # type: ignore[attr-defined]
    return lambda: core._waiting == count


def test_many_readers(make: Make) -> None:
    """Readers share; a writer does not get in beside them."""
    one, other = make("x"), make("x")
    assert one.acquire_read_lock() is True
    assert free_for("read", other)
    assert elsewhere(lambda: other.acquire_write_lock(False)) is False
    one.release_read_lock()
    assert free_for("write", other)


def test_one_writer(make: Make) -> None:
    """A writer is alone."""
    one, other = make("x"), make("x")
    assert one.acquire_write_lock() is True
    assert elsewhere(lambda: other.acquire_read_lock(wait=False)) is False
    assert elsewhere(lambda: other.acquire_write_lock(False)) is False
    one.release_write_lock()
    assert free_for("read", other)


def test_reentrant(make: Make) -> None:
    """A thread may take again what it has, and read what it writes; the last release counts."""
    lock, again = make("x"), make("x")
    for first, second in (("write", "write"), ("write", "read"), ("read", "read")):
        getattr(lock, f"acquire_{first}_lock")()
        assert getattr(again, f"acquire_{second}_lock")() is True
        getattr(again, f"release_{second}_lock")()
        assert elsewhere(lambda: make("x").acquire_write_lock(False)) is False, "still held"
        getattr(lock, f"release_{first}_lock")()
        assert free_for("write", make("x"))


def test_reader_cannot_become_writer(make: Make) -> None:
    """A reader that asks to write gets an error instead of waiting for itself, and still reads."""
    lock = make("x")
    lock.acquire_read_lock()
    with pytest.raises(LockError, match="for reading"):
        lock.acquire_write_lock()
    lock.release_read_lock()
    with pytest.raises(LockError, match="does not hold"):
        lock.release_read_lock()


def test_release_by_a_stranger(make: Make) -> None:
    """A thread cannot release what another holds."""
    lock = make("x")
    lock.acquire_write_lock()
    with pytest.raises(LockError, match="does not hold"):
        elsewhere(lock.release_write_lock)
    assert elsewhere(lambda: lock.acquire_read_lock(False)) is False
    lock.release_write_lock()


def test_names_are_apart(make: Make) -> None:
    """Different names do not exclude each other."""
    one, other = make("x"), make("y")
    one.acquire_write_lock()
    assert free_for("write", other)
    one.release_write_lock()


def test_first_come_first_served(make: Make) -> None:
    """A writer that waits goes before readers that came later, and these before the next writer."""
    lock = make("x")
    order: list[str] = []
    reader = Waiter(lock, "read", order, "reader 1")
    assert reader.has_it.wait(PATIENCE)
    line = []
    for number, (kind, name) in enumerate(
        [("write", "writer 1"), ("read", "reader 2"), ("read", "reader 3"), ("write", "writer 2")]
    ):
        line.append(Waiter(lock, kind, order, name))
        wait_until(queued(lock, number + 1))
    assert elsewhere(lambda: lock.acquire_read_lock(False)) is False, "a waiting writer keeps new readers out"
    reader.end()
    assert line[0].has_it.wait(PATIENCE)
    assert order == ["reader 1", "writer 1"]
    line[0].end()
    assert line[1].has_it.wait(PATIENCE)
    assert line[2].has_it.wait(PATIENCE)
    line[1].end()
    assert "writer 2" not in order
    line[2].end()
    line[3].end()
    assert order[-1] == "writer 2"


def test_writers_lose_no_increment(make: Make) -> None:
    """Threads that read and write under the lock see consistent data and lose nothing."""
    state = {"a": 0, "b": 0}

    def work(index: int) -> None:
        lock = make("x")
        for _ in range(50):
            if index % 2:
                lock.acquire_write_lock()
                state["a"] += 1
                threading.Event().wait(0)
                state["b"] += 1
                lock.release_write_lock()
            else:
                lock.acquire_read_lock()
                assert state["a"] == state["b"]
                lock.release_read_lock()

    run_threads(6, work)
    assert state == {"a": 150, "b": 150}


def test_is_a_creation_lock(make: Make) -> None:
    """Any synchronizer serves as a creation lock, by its write side, with a bounded wait."""
    lock = make("x")
    assert lock.acquire() is True
    assert elsewhere(lambda: make("x").acquire(False)) is False
    assert elsewhere(lambda: make("x").acquire(True, 0.01)) is False
    lock.release()
    cache = Cache()
    assert get_or_create(cache, lambda: 42, lock, clock=cache.clock) == 42


# Names


def test_name_lock() -> None:
    """Equal names are one lock, other names, and no name, are not."""
    one, other, nameless = NameLock("a"), NameLock("a"), NameLock()
    assert one.acquire() is True
    assert other.acquire(False) is False
    assert other.acquire(True, 0.01) is False
    assert NameLock("b").acquire(wait=False) is True
    assert nameless.acquire(False) is True
    assert NameLock().acquire(False) is True
    one.release()
    with other:
        assert one.acquire(False) is False
    with pytest.raises(LockError, match="not held"):
        one.release()


def test_reentrant_name_lock() -> None:
    """With reentrant=True its thread may take it again, and other threads not before the last release."""
    lock = NameLock("a", reentrant=True)
    assert lock.acquire()
    assert NameLock("a", reentrant=True).acquire()
    lock.release()
    assert elsewhere(lambda: NameLock("a", reentrant=True).acquire(False)) is False
    lock.release()
    assert elsewhere(lambda: NameLock("a", reentrant=True).acquire(False)) is True


def test_factories(tmp_path: Path) -> None:
    """The manual's factories return a file lock where there is a directory, else one among threads, or none."""
    assert isinstance(file_synchronizer("x", lock_dir=str(tmp_path)), FileSynchronizer)
    assert isinstance(file_synchronizer("x"), ConditionSynchronizer)
    assert isinstance(file_synchronizer("x", lock_dir=None, other=1), ConditionSynchronizer)
    assert isinstance(mutex_synchronizer("x", lock_dir=str(tmp_path)), ConditionSynchronizer)
    null = null_synchronizer()
    assert null.acquire_write_lock()
    assert null.acquire_read_lock(wait=False)
    assert null.acquire()
    null.release_read_lock()
    null.release_write_lock()
    null.release()


def test_signatures() -> None:
    """Names and order of the arguments are the manual's (5.1.5)."""
    assert list(inspect.signature(ConditionSynchronizer).parameters) == ["identifier"]
    assert list(inspect.signature(FileSynchronizer).parameters)[:2] == ["identifier", "lock_dir"]
    assert str(inspect.signature(NameLock)).startswith("(identifier: 'object' = None, reentrant: 'bool' = False)")
    assert list(inspect.signature(SynchronizerImpl).parameters) == []
