"""Creation locks step by step: how long waiters wait, coroutines that hold or wait, closed loops, forks, aborts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from beaker import forks
from beaker.exceptions import LockError
from beaker.locking import creation
from beaker.locking.creation import CreationLock, LoopHolder, Passed
from beaker.locking.turn import Turn


class Given:
    """A signal that counts how often it is given; ``heard`` is false where its loop was closed."""

    def __init__(self, heard: bool = True) -> None:
        self.heard = heard
        self.times = 0

    def set(self) -> bool:
        self.times += 1
        return self.heard


class Loop:
    """What a holder asks of its event loop."""

    def __init__(self, *, running: bool = True, closed: bool = False) -> None:
        self.running = running
        self.closed = closed

    def is_running(self) -> bool:
        return self.running

    def is_closed(self) -> bool:
        return self.closed


class Abort(BaseException):
    """What a handler of a signal raises."""


class Waited(Turn):
    """A turn that another thread has until ``taken_after`` waits; each wait takes as long as asked, by the clock."""

    def __init__(self, clock: list[float], taken_after: int) -> None:
        super().__init__()
        self.clock = clock
        self.taken_after = taken_after
        self.waits: list[float] = []

    def take(self, place: object) -> bool:
        return len(self.waits) >= self.taken_after and super().take(place)

    def wait(self, place: object, timeout: float) -> bool:
        self.waits.append(timeout)
        self.clock[0] += timeout
        return False


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[bool, list[float]]]:
    """What ``acquire(*arguments)`` returns, and the seconds of each wait, where the lock is free after some waits."""

    def call(*arguments: Any, taken_after: int = 5, step: float = 0.0) -> tuple[bool, list[float]]:
        clock = [100.0]

        def monotonic() -> float:
            clock[0] += step
            return clock[0]

        monkeypatch.setattr(creation, "time", SimpleNamespace(monotonic=monotonic))
        lock = CreationLock()
        lock._turn = turn = Waited(clock, taken_after)
        return lock.acquire(*arguments), turn.waits

    return call


def test_a_waiter_looks_every_second(waits: Callable[..., tuple[bool, list[float]]]) -> None:
    """Without a limit it waits until the lock is free, a second at a time, as the holder's loop may be closed."""
    assert waits() == (True, [1.0] * 5)
    assert waits(True, -1) == (True, [1.0] * 5)


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(0.0, [0.0]), (0.5, [0.5]), (1.0, [1.0]), (1.5, [1.0, 0.5]), (2.0, [1.0, 1.0])]
)
def test_a_limit_is_waited_for_once(
    waits: Callable[..., tuple[bool, list[float]]], timeout: float, seconds: list[float]
) -> None:
    """The looks of a waiter add up to its limit."""
    assert waits(True, timeout) == (False, seconds)


def test_a_wait_whose_time_is_over_asks_for_no_time(waits: Callable[..., tuple[bool, list[float]]]) -> None:
    """Time that passes between two steps makes no negative wait."""
    assert waits(True, 0.0, step=0.25) == (False, [0.0])


def test_no_wait(waits: Callable[..., tuple[bool, list[float]]]) -> None:
    """Without waiting there is one look."""
    assert waits(False) == (False, [])
    assert waits(False, taken_after=0) == (True, [])


def test_a_lock_at_its_beginning() -> None:
    """It is free, nothing failed, nothing is passed on, and values are numbered from 1."""
    lock = CreationLock()
    assert (lock.error, lock.failed, lock.passed, lock.replaced) == (None, None, None, None)
    assert (lock.failures, lock.passing, lock.is_awaited, lock.has_coroutines, lock.is_mine) == (
        0,
        0,
        False,
        False,
        False,
    )
    assert [lock.will_pass_on() for _ in range(3)] == [1, 2, 3]
    assert lock.passing == 3


def test_whoever_takes_it_notices_a_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and coroutines alike ask before they take it whether threading was patched."""
    asked: list[str] = []
    monkeypatch.setattr(creation, "notice_patch", lambda: asked.append("patch"))
    lock = CreationLock()
    lock.acquire(False)
    assert asked == ["patch"]
    lock.acquire_for(LoopHolder(None, None))
    assert asked == ["patch"] * 2


def test_a_patch_renews_what_is_free() -> None:
    """After a patch of threading a free lock is made anew; one that is held stays so until it is released."""
    lock = CreationLock()
    turn = lock._turn
    lock._renew_locks()
    assert lock._turn is not turn
    turn = lock._turn
    assert lock.acquire(False)
    lock._renew_locks()
    assert lock._turn is turn
    lock.release()


# Aborts


class Aborting(Turn):
    """Raises once, after it was taken or before it is freed."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def take(self, place: object) -> bool:
        taken = super().take(place)
        self._abort("take")
        return taken

    def free(self, place: object) -> None:
        self._abort("free")
        super().free(place)

    def _abort(self, step: str) -> None:
        if self.at == step:
            self.at = ""
            raise Abort


def test_an_abort_as_it_is_taken() -> None:
    """The lock is free again."""
    lock = CreationLock()
    lock._turn = Aborting("take")
    with pytest.raises(Abort):
        lock.acquire()
    assert lock._holder is None


def test_an_abort_as_it_is_released() -> None:
    """The lock is free, and the abort goes on."""
    lock = CreationLock()
    lock._turn = Aborting("free")
    assert lock.acquire()
    with pytest.raises(Abort):
        lock.release()
    assert lock._holder is None


# Coroutines


def test_a_coroutine_that_does_not_hold_it() -> None:
    """Only the holder gives it up, once."""
    lock = CreationLock()
    one, other = LoopHolder(Loop(), "one"), LoopHolder(Loop(), "other")
    assert lock.acquire_for(one) is True
    assert lock.acquire_for(other) is False
    assert lock.release_for(other) is False
    assert lock.acquire(False) is False
    assert lock.release_for(one) is True
    assert lock.release_for(one) is False
    assert one.end() is other.end() is False
    assert lock.acquire(False) is True


def test_a_release_that_another_thread_has_begun() -> None:
    """Whose holding was ended already is not ended twice."""
    lock, holder = CreationLock(), LoopHolder(Loop(), "one")
    assert lock.acquire_for(holder)
    assert holder.end() is True
    assert lock.release_for(holder) is False
    assert lock.acquire(False) is False


@pytest.mark.parametrize(
    ("loop", "stops"), [(None, True), (Loop(), True), (Loop(running=False), False)], ids=["unknown", "runs", "stands"]
)
def test_a_thread_that_waits_for_its_own_loop(loop: Any, stops: bool) -> None:
    """A thread is refused to wait for a coroutine of the loop that it runs; one of another thread's is waited for."""
    lock, holder = CreationLock(), LoopHolder(loop, "task")
    assert (holder.stops_for(threading.get_ident()), holder.stops_for(-1)) == (stops, False)
    assert lock.acquire_for(holder)
    if stops:
        with pytest.raises(LockError, match="waits for itself") as caught:
            lock.acquire(True, 0.0)
        assert caught.value.code == "lock.waits-for-itself"
    else:
        assert lock.acquire(True, 0.0) is False
    assert not lock.is_awaited


def test_a_task_that_waits_for_itself() -> None:
    """A task that holds it is refused to wait for it; another one is not, nor where tasks cannot be told apart."""
    lock: Any = CreationLock()
    given, task = Given(), object()
    assert lock.acquire_for(LoopHolder(Loop(), task))
    with pytest.raises(LockError, match="waits for itself") as caught:
        lock.await_by(given, LoopHolder(Loop(), task))
    assert caught.value.code == "lock.waits-for-itself"
    assert not lock.has_coroutines
    lock.await_by(given, LoopHolder(Loop(), object()))
    assert lock.has_coroutines is lock.is_awaited is True
    unknown = CreationLock()
    assert unknown.acquire_for(LoopHolder(None, None))
    unknown.await_by(given, LoopHolder(None, None))
    assert unknown.has_coroutines


def test_a_coroutine_holds_for_no_thread() -> None:
    """What a coroutine holds is not the thread's in which it runs; what the thread holds is no other's."""
    lock: Any = CreationLock()
    holder = LoopHolder(Loop(), "task")
    assert lock.acquire_for(holder)
    mine = [lock.is_mine]
    lock.release_for(holder)
    assert lock.acquire()
    mine.append(lock.is_mine)
    lock._holder.thread = -1
    mine.append(lock.is_mine)
    assert mine == [False, True, False]


class Begun:
    """A thread that runs at once, in the caller's."""

    def __init__(self, target: Callable[[], object], **_: Any) -> None:
        self.start = target


def test_what_a_closed_loop_holds_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another takes it at once, and what the coroutine left is done once, in a thread."""
    monkeypatch.setattr(threading, "Thread", Begun)
    lock, left = CreationLock(), []
    holder = LoopHolder(Loop(), "task")
    holder.left = lambda: left.append("done")
    assert lock.acquire_for(holder)
    assert (lock.acquire(False), left) == (False, [])
    holder.loop.closed = True
    assert lock.acquire(False) is True
    assert (left, lock.is_mine) == (["done"], True)


def test_a_closed_loop_that_left_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is begun for nothing; a coroutine of no known loop keeps it."""
    monkeypatch.setattr(threading, "Thread", None)
    lock = CreationLock()
    assert lock.acquire_for(LoopHolder(Loop(closed=True), "task"))
    assert lock.acquire_for(LoopHolder(None, "task"))
    assert lock.acquire(False) is False


def test_a_closed_loop_whose_lock_another_thread_is_releasing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it left is done by one thread only."""
    monkeypatch.setattr(threading, "Thread", None)
    lock, holder = CreationLock(), LoopHolder(Loop(closed=True), "task")
    holder.left = lambda: None
    assert lock.acquire_for(holder)
    holder.end()
    assert lock.acquire(False) is False


def awaited(*heard: bool) -> tuple[Any, LoopHolder, list[Given]]:
    """A lock that one coroutine holds, for which others wait."""
    lock, holder = CreationLock(), LoopHolder(Loop(), "holder")
    assert lock.acquire_for(holder)
    signals = [Given(each) for each in heard]
    for signal in signals:
        lock.await_by(signal, LoopHolder(Loop(), object()))
    return lock, holder, signals


def test_a_release_wakes_one() -> None:
    """The first that waits and whose loop is there; those of closed loops are forgotten."""
    lock, holder, signals = awaited(False, True, True)
    lock.replaced = 1.0
    lock.release_for(holder)
    assert [signal.times for signal in signals] == [1, 1, 0]
    assert list(lock._signals) == signals[1:]
    assert lock.replaced is None


def test_what_is_reported_wakes_all() -> None:
    """A failure, or a value that is passed on, is known to all that wait; those of closed loops are forgotten."""
    lock, holder, signals = awaited(False, True, True)
    error = ValueError("no")
    lock.fail(error, "k")
    assert [signal.times for signal in signals] == [1, 1, 1]
    assert (lock.error, lock.failed, lock.failures) == (error, "k", 1)
    passed = Passed(lock.will_pass_on(), "k", "entry", lambda: "copy")
    lock.pass_on(passed)
    assert [signal.times for signal in signals] == [1, 2, 2]
    lock.release_for(holder)
    assert (lock.error, lock.passed is passed) == (error, True)
    for signal in signals[1:]:
        lock.leave(signal)
    assert (lock.error, lock.failed, lock.passed, lock.is_awaited) == (None, None, None, False)


def test_who_leaves_hands_on() -> None:
    """A coroutine that stops waiting for a free lock wakes the next one in its place; for a held one it need not."""
    lock, holder, signals = awaited(True, True)
    lock.fail(ValueError("no"))
    lock.leave(signals[0])
    assert [signal.times for signal in signals] == [1, 1]
    assert list(lock._signals) == signals[1:]
    lock.leave(signals[1])
    assert lock.error is not None
    lock.release_for(holder)
    assert lock.error is None
    lock, holder, signals = awaited(True, True)
    lock.release_for(holder)
    lock.leave(signals[0])
    assert [signal.times for signal in signals] == [1, 1]


# A forked child, as the hook leaves it


def test_a_child_of_the_thread_that_holds_it() -> None:
    """The lock is free, nothing of the parent's failures is known, and one release of what was inherited is due."""
    lock: Any = CreationLock()
    assert any(watched is lock for watched in forks._alive())
    assert lock.acquire()
    lock._waiting.add(-1)
    lock.fail(ValueError("parent's"), "k")
    lock.pass_on(Passed(1, "k", "entry", lambda: "copy"))
    lock.replaced = 1.0
    lock._after_fork()
    assert (lock.error, lock.failed, lock.passed, lock.replaced) == (None, None, None, None)
    assert not lock.is_awaited
    assert lock.acquire(False)
    lock.release()
    assert lock.acquire(False)
    lock.release()
    lock.release()
    with pytest.raises(LockError, match="not held"):
        lock.release()


def test_a_child_of_another_thread() -> None:
    """What a coroutine or another thread held in the parent is free, and no release of it is due."""
    lock, holder = CreationLock(), LoopHolder(Loop(), "task")
    assert lock.acquire_for(holder)
    lock._after_fork()
    assert lock.acquire(False)
    assert lock.release_for(holder) is False
    assert lock.is_mine
    lock.release()
    with pytest.raises(LockError, match="not held"):
        lock.release()
