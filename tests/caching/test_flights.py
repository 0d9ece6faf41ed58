"""Creations without a store: who is passed a value or an error, and how often a backend is written about."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from beaker import forks
from beaker.caching.outage import Flight, Flights, _Notices
from beaker.caching.ways import run
from beaker.testing import FakeClock


class Way:
    """Waits for nothing: ``free`` and ``waiting(call)`` say how that ends."""

    def __init__(self, free: bool = True, waiting: Callable[[Any], bool] = lambda call: True) -> None:
        self.free = free
        self.waiting = waiting
        self.released = 0

    async def attempt(self) -> bool:
        return self.free

    async def wait(self, call: Any) -> bool:
        return self.waiting(call)

    def release(self) -> None:
        self.released += 1


class Work:
    """Creates 1, 2, ..., or raises; its values are shared as tuples."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self.error = error

    async def __call__(self) -> int:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.calls


def get(flight: Flight, way: Any, work: Work, timeout: float = 30.0) -> Any:
    return run(way, flight.create(way, work, lambda value: lambda: ("copy", value), timeout))


def beside(flight: Flight, work: Work) -> Callable[[Any], bool]:
    """A wait during which another call's creation ends, while still another waits."""

    def waiting(call: Any) -> bool:
        flight.lock._waiting.add(-1)
        with contextlib.suppress(ValueError):
            get(flight, Way(), work)
        return True

    return waiting


def test_a_call_alone() -> None:
    """It creates each time, gives the lock up, and nothing of its value is kept."""
    flight, work, way = Flight(), Work(), Way()
    assert (flight.passed, flight.copy) == (0, None)
    assert [get(flight, way, work) for _ in range(2)] == [1, 2]
    assert (way.released, flight.passed, flight.copy) == (2, 2, None)


def test_a_call_that_waited() -> None:
    """It gets a copy of what was created meanwhile; a later one, which waits for nothing, creates."""
    flight, theirs, mine = Flight(), Work(), Work()
    way = Way(False, beside(flight, theirs))
    assert get(flight, way, mine) == ("copy", 1)
    assert (theirs.calls, mine.calls, way.released) == (1, 0, 1)
    assert flight.copy is not None
    assert get(flight, Way(), mine) == 1
    flight.lock._waiting.clear()
    assert get(flight, Way(), mine) == 2
    assert flight.copy is None


def test_a_copy_that_is_gone() -> None:
    """A call that waited creates, where the value of the creation that ended is not kept any more."""
    flight, theirs, mine = Flight(), Work(), Work()

    def waiting(call: Any) -> bool:
        get(flight, Way(), theirs)
        return True

    assert get(flight, Way(False, waiting), mine) == 1
    assert (theirs.calls, mine.calls) == (1, 1)


def test_a_failure_is_shared() -> None:
    """A call that waited raises what the creation raised meanwhile; a later one creates, also where it is known."""
    flight, theirs, mine = Flight(), Work(ValueError("no")), Work()
    with pytest.raises(ValueError, match="no"):
        get(flight, Way(False, beside(flight, theirs)), mine)
    assert (theirs.calls, mine.calls) == (1, 0)
    assert flight.lock.error is theirs.error
    assert get(flight, Way(), mine) == 1


def test_a_failure_that_is_gone() -> None:
    """A call that waited creates, where the failure is not kept any more."""
    flight, mine = Flight(), Work()

    def waiting(call: Any) -> bool:
        flight.lock.failures += 1
        return True

    assert get(flight, Way(False, waiting), mine) == 1


@pytest.mark.parametrize(("timeout", "seconds"), [(-1.0, -1.0), (2.0, 2.0), (1e300, threading.TIMEOUT_MAX)])
def test_time_that_runs_out(timeout: float, seconds: float) -> None:
    """The call creates without the lock; while it waits nothing settles it, as there is no store to read."""
    asked: list[Any] = []

    def waiting(call: Any) -> bool:
        asked.append((call.timeout, call.is_settled(), call.takes(None), call.shared_error()))
        return False

    way = Way(False, waiting)
    assert get(Flight(), way, Work(), timeout) == 1
    assert asked == [(seconds, False, False, None)]
    assert way.released == 0


def test_one_flight_for_each_key() -> None:
    """Calls for one key of one namespace share it while one of them has it."""
    flights = Flights()
    flight = flights.of("n", "k")
    assert flights.of("n", "k") is flight
    assert flight is not flights.of("n", "other") is not flights.of("other", "k")


def test_a_line_a_minute_for_each_backend() -> None:
    """The first one is due at once, the next a minute later, for each backend by itself, also in a forked child."""
    clock = FakeClock()
    notices = _Notices(clock)
    assert [notices.is_due("a"), notices.is_due("a"), notices.is_due("b")] == [True, False, True]
    clock.advance(59.5)
    assert not notices.is_due("a")
    clock.advance(0.5)
    assert [notices.is_due("a"), notices.is_due("a")] == [True, False]
    assert any(watched is notices for watched in forks._alive())
    notices._after_fork()
    assert notices.is_due("a")
