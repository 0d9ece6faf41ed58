"""Creation locks among threads, and one in front of another."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from beaker import forks
from beaker.exceptions import LockError
from beaker.locking.factories import CreationLock, LayeredLock, LayeredLocks, Lock, NullLocks, ThreadLocks
from beaker.testing.lock import PATIENCE, LockContract, elsewhere, wait_until


class TestThreads(LockContract):
    @pytest.fixture
    def locks(self) -> ThreadLocks:
        return ThreadLocks()


class TestLayers(LockContract):
    @pytest.fixture
    def locks(self) -> LayeredLocks:
        return LayeredLocks(ThreadLocks(), ThreadLocks())


# Threads


def test_plain_lock_is_a_lock() -> None:
    """A threading.Lock fits the protocol."""
    lock: Lock = threading.Lock()
    assert lock.acquire(True, 1) is True
    assert lock.acquire(False) is False
    lock.release()


def test_one_object_per_key() -> None:
    """The lock of a key is one object while a thread has it, and nothing is kept afterwards."""
    locks = ThreadLocks()
    lock = locks.creation("n", "k")
    assert locks.creation("n", "k") is lock
    assert locks.creation("n", "k2") is not lock
    gone = weakref.ref(lock)
    del lock
    gc.collect()
    assert gone() is None


def test_the_locks_of_keys_are_renewed_by_the_registry() -> None:
    """Of the locks of a ThreadLocks a fork's child holds none, and those that are free are made anew after a patch."""
    locks = ThreadLocks()
    held, free = locks.creation("ns", "held"), locks.creation("ns", "free")
    (watched,) = [item for item in forks._alive() if item is locks._locks]
    assert not any(item is held or item is free for item in forks._alive())
    other = threading.Thread(target=held.acquire)
    other.start()
    other.join()
    turns = held._turn, free._turn
    watched._renew_locks()
    assert held._turn is turns[0]
    assert free._turn is not turns[1]
    watched._after_fork()
    assert held.acquire(False)
    held.release()


def test_waiting_for_oneself() -> None:
    """A thread that waits for what it holds itself gets LockError instead of a hang."""
    lock = ThreadLocks().creation("n", "k")
    lock.acquire()
    with pytest.raises(LockError, match="waits for itself"):
        lock.acquire(True, PATIENCE)
    assert lock.acquire(False) is False
    lock.release()
    assert elsewhere(lambda: lock.acquire(False)) is True


def test_release_of_free_lock() -> None:
    """Releasing a lock that is not held is an error, and does not release another thread's."""
    lock = ThreadLocks().creation("n", "k")
    with pytest.raises(LockError, match="not held"):
        lock.release()


def test_failure_reaches_the_waiting() -> None:
    """The error of a failed creation is there for those that wait, and is forgotten after the last of them."""
    lock = CreationLock()
    lock.acquire()
    seen: list[tuple[int, BaseException | None]] = []

    def wait() -> None:
        before = lock.failures
        lock.acquire()
        seen.append((lock.failures - before, lock.error))
        lock.release()

    waiters = [threading.Thread(target=wait, daemon=True) for _ in range(3)]
    for waiter in waiters:
        waiter.start()
    wait_until(lambda: len(lock._waiting) == 3)
    error = RuntimeError("no")
    lock.fail(error)
    lock.release()
    for waiter in waiters:
        waiter.join(PATIENCE)
    assert seen == [(1, error)] * 3
    assert lock.error is None


def test_failure_without_waiters_is_forgotten() -> None:
    """Where no thread waits the exception, and the frames it holds, are not kept."""
    lock = CreationLock()
    lock.acquire()
    lock.fail(RuntimeError("no"))
    lock.release()
    assert lock.error is None
    assert lock.failures == 1


def test_null() -> None:
    """NullLocks let every thread in."""
    one, other = NullLocks().creation("n", "k"), NullLocks().creation("n", "k")
    assert one.acquire()
    assert other.acquire(False)
    one.release()
    other.release()


# Layers


class Recorder:
    """A lock that writes down what happens to it."""

    def __init__(self, name: str, log: list[str], answers: bool = True) -> None:
        self.name = name
        self.log = log
        self.answers = answers
        self.error: Exception | None = None

    def acquire(self, wait: bool = True, timeout: float = -1) -> bool:
        self.log.append(f"take {self.name}")
        if self.error:
            raise self.error
        return self.answers

    def release(self) -> None:
        self.log.append(f"free {self.name}")


def test_order() -> None:
    """The first lock is taken first and released last."""
    log: list[str] = []
    lock = LayeredLock(Recorder("1", log), Recorder("2", log))
    assert lock.acquire() is True
    lock.release()
    assert log == ["take 1", "take 2", "free 2", "free 1"]


@pytest.mark.parametrize("wait", [True, False])
def test_half_taken_is_undone(wait: bool) -> None:
    """When the second cannot be taken the first is released."""
    log: list[str] = []
    lock = LayeredLock(Recorder("1", log), Recorder("2", log, answers=False))
    assert (lock.acquire(True, 0.0) if wait else lock.acquire(False)) is False
    assert log == ["take 1", "take 2", "free 1"]


def test_half_taken_is_undone_on_errors() -> None:
    """When the second raises, or the question whether it is needed does, the first is released."""
    log: list[str] = []
    second = Recorder("2", log)
    lock = LayeredLock(Recorder("1", log), second)
    second.error = OSError("disk")
    with pytest.raises(OSError, match="disk"):
        lock.acquire()
    assert log == ["take 1", "take 2", "free 1"]


def test_first_not_taken() -> None:
    """When the first cannot be taken the second is not asked."""
    log: list[str] = []
    lock = LayeredLock(Recorder("1", log, answers=False), Recorder("2", log))
    assert lock.acquire(False) is False
    assert lock.acquire(True, 0.0) is False
    assert lock.acquire_unless(lambda: False, 0.0) is False
    assert set(log) == {"take 1"}


def test_done_after_waiting_in_front() -> None:
    """A thread that waited for the first lock asks whether it is done before it goes to the second."""
    log: list[str] = []
    lock = LayeredLock(CreationLock(), Recorder("2", log))
    lock.first.acquire()
    answers: list[bool] = []
    waiter = threading.Thread(target=lambda: answers.append(lock.acquire_unless(lambda: True, PATIENCE)), daemon=True)
    waiter.start()
    wait_until(lambda: lock.first._waiting)  # type: ignore[attr-defined]
    lock.first.release()
    waiter.join(PATIENCE)
    assert answers == [False]
    assert log == []
    assert lock.acquire(False) is True


def test_done_between_tries() -> None:
    """A second lock that is not notified when it is free is polled, asking in between; then the first is free."""
    log: list[str] = []
    lock = LayeredLock(CreationLock(), Recorder("2", log, answers=False))
    asked: list[int] = []

    def done() -> bool:
        asked.append(1)
        return len(asked) == 4

    assert lock.acquire_unless(done, PATIENCE) is False
    assert log == ["take 2"] * 4
    assert elsewhere(lambda: lock.first.acquire(False)) is True


def test_layers_share_failures() -> None:
    """Waiters learn of failures through the first lock; one that does not count them works as well."""
    lock = LayeredLock(CreationLock(), NullLocks().creation("n", "k"))
    lock.acquire()
    lock.fail(RuntimeError("no"))
    assert lock.failures == 1
    assert isinstance(lock.error, RuntimeError)
    lock.release()
    plain = LayeredLock(threading.Lock(), NullLocks().creation("n", "k"))
    plain.fail(RuntimeError("no"))
    assert (plain.failures, plain.error) == (0, None)
