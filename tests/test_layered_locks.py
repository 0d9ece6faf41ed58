"""One lock in front of another: what each is asked for, with the time that is left, and what an abort leaves.

And what a lock keeps: a value that is passed on, and what watches forks for it.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from beaker.exceptions import LockError
from beaker.forks import ForkAware
from beaker.locking.creation import CreationLock, LayeredLock, Passed


class Clock:
    """Seconds that pass where a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Asked:
    """A lock that notes what it is asked for, takes ``seconds`` for it, and raises as told."""

    def __init__(self, clock: Clock, seconds: float = 0.0) -> None:
        self.clock = clock
        self.seconds = seconds
        self.calls: list[Any] = []
        self.free = True
        self.errors: list[BaseException] = []

    def acquire(self, *arguments: Any) -> bool:
        self.calls.append(arguments)
        self.clock.now += self.seconds
        return self.free

    def release(self) -> None:
        self.calls.append("release")
        if self.errors:
            raise self.errors.pop()


class Polling(Asked):
    """One that is polled by itself."""

    poll_interval = 7.0

    def acquire_unless(self, done: Callable[[], bool], timeout: float = -1) -> bool:
        self.calls.append(("unless", done(), timeout))
        return self.free


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_no_limit(clock: Clock) -> None:
    """Without a limit both are waited for without one; the first is called as the simplest locks allow."""
    first, second = Asked(clock, 5.0), Asked(clock)
    lock = LayeredLock(first, second, clock)
    assert lock.acquire() is True
    assert lock.acquire(True, -1) is True
    assert first.calls == [()] * 2
    assert second.calls == [(True, -1)] * 2


@pytest.mark.parametrize(
    ("timeout", "seconds", "left"), [(0.0, 0.0, 0.0), (0.5, 0.25, 0.25), (10.0, 3.0, 7.0), (10.0, 12.0, 0.0)]
)
def test_the_second_gets_what_the_first_has_left(clock: Clock, timeout: float, seconds: float, left: float) -> None:
    """A limit is one for both, and never negative, which would be none."""
    first, second = Asked(clock, seconds), Asked(clock)
    assert LayeredLock(first, second, clock).acquire(True, timeout) is True
    assert first.calls == [(True, timeout)]
    assert second.calls == [(True, left)]


def test_no_wait(clock: Clock) -> None:
    """Without waiting neither is waited for."""
    first, second = Asked(clock), Asked(clock)
    assert LayeredLock(first, second, clock).acquire(False) is True
    assert first.calls == second.calls == [(False,)]


def test_a_second_that_is_polled_by_itself(clock: Clock) -> None:
    """It polls, asks and ends as it likes, within the time that is left; its interval is the pair's."""
    first, second = Asked(clock, 4.0), Polling(clock)
    lock = LayeredLock(first, second, clock)
    assert lock.poll_interval == 7.0
    assert lock.acquire_unless(lambda: False, 10.0) is True
    assert lock.acquire_unless(lambda: True) is True
    assert first.calls == [(False,)] * 2
    assert second.calls == [("unless", False, 6.0), ("unless", True, -1)]


def test_a_second_that_is_tried_again(clock: Clock) -> None:
    """One that cannot poll is tried without waiting; the pair has an interval of its own."""
    first, second = Asked(clock), Asked(clock)
    lock = LayeredLock(first, second, clock)
    assert lock.poll_interval == 0.1
    assert lock.acquire_unless(lambda: pytest.fail("it was free at once")) is True
    assert second.calls == [(False,)]


def test_failures_are_those_of_the_first(clock: Clock) -> None:
    """How many, the last one and whose it was; of a first that counts none there are none."""
    lock = LayeredLock(CreationLock(), Asked(clock), clock)
    error = ValueError("no")
    lock.fail(error, "k")
    assert (lock.failures, lock.error, lock.failed) == (1, error, "k")
    plain = LayeredLock(Asked(clock), Asked(clock), clock)
    plain.fail(error, "k")
    assert [plain.failures, plain.error, plain.failed] == [0, None, None]


class Interrupt(BaseException):
    """What a handler of a signal raises."""


def test_an_abort_after_both_were_taken(clock: Clock) -> None:
    """Both are given up."""
    first, second = Asked(clock), Asked(clock)
    lock = LayeredLock(first, second, clock)

    aborts = [Interrupt()]

    class Taken:
        def __bool__(self) -> bool:
            if aborts:
                raise aborts.pop()
            return True

    second.free = Taken()  # type: ignore[assignment]
    with pytest.raises(Interrupt):
        lock.acquire(False)
    assert first.calls == second.calls == [(False,), "release"]


def test_an_abort_of_a_release(clock: Clock) -> None:
    """The second is released again, as the abort may have come before it was; then the first."""
    first, second = Asked(clock), Asked(clock)
    second.errors = [Interrupt()]
    with pytest.raises(Interrupt):
        LayeredLock(first, second, clock).release()
    assert (first.calls, second.calls) == (["release"], ["release"] * 2)


def test_an_abort_of_a_release_that_was_done(clock: Clock) -> None:
    """A second that another has by now is not released; one that says that it is free is no error."""
    first, second = Asked(clock), Asked(clock)
    second.errors = [Interrupt()]
    second.is_mine = False  # type: ignore[attr-defined]
    with pytest.raises(Interrupt):
        LayeredLock(first, second, clock).release()
    assert (first.calls, second.calls) == (["release"], ["release"])
    for free in (LockError("not held"), RuntimeError("release unlocked lock")):
        second = Asked(clock)
        second.errors = [free, Interrupt()]
        with pytest.raises(Interrupt):
            LayeredLock(first, second, clock).release()
        assert second.calls == ["release"] * 2


def test_a_release_that_fails(clock: Clock) -> None:
    """A failure that the second itself reports is raised, and it is not released again; the first is."""
    first, second = Asked(clock), Asked(clock)
    second.errors = [LockError("lost")]
    with pytest.raises(LockError, match="lost"):
        LayeredLock(first, second, clock).release()
    assert (first.calls, second.calls) == (["release"], ["release"])


def test_a_value_is_passed_on_to_those_who_wait_only() -> None:
    """Released with none waiting, a lock forgets the value that was passed on, also where nothing failed."""
    lock = CreationLock()
    assert lock.acquire()
    lock.pass_on(Passed(lock.will_pass_on(), "k", "entry", lambda: "copy"))
    lock.release()
    assert lock.passed is None


def test_what_watches_forks_for_a_lock_lives_as_long() -> None:
    """The one registration of many locks stays while one of them is in use."""
    watcher = ForkAware()
    watched = weakref.ref(watcher)
    lock = CreationLock(watcher)
    del watcher
    gc.collect()
    assert watched() is not None
    assert lock.acquire()
