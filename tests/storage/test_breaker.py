"""The circuit breaker by itself, on a clock of the test's."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from beaker import counters
from beaker.exceptions import StoreRefused, StoreUnavailable, ValueTooLarge, WriteConflict
from beaker.storage import breaker as breakers
from beaker.storage.breaker import Breaker
from beaker.testing import FakeClock


@pytest.fixture
def breaker(fake_clock: FakeClock) -> Iterator[Breaker]:
    counters.reset()
    yield Breaker("redis", "10.0.0.1:6379", timer=fake_clock, rng=lambda: 1.0)
    counters.reset()


def fail(
    breaker: Breaker, error: BaseException | None = None, clock: FakeClock | None = None, takes: float = 0
) -> None:
    raised = error or StoreUnavailable("no response", backend="redis")

    def call() -> None:
        with breaker("get"):
            if clock is not None:
                clock.advance(takes)
            raise raised

    with pytest.raises(type(raised)):
        call()


def is_rejected(breaker: Breaker) -> bool:
    try:
        with breaker("get"):
            raise KeyError
    except StoreUnavailable as err:
        return (err.code, err.backend, err.operation) == ("store.circuit-open", "redis", "get")
    except KeyError:
        return False


def test_five_failures_in_a_row_open_it(breaker: Breaker) -> None:
    """Four do not, a success in between starts the count anew, and an open circuit rejects without a call."""
    for _ in range(3):
        for _ in range(4):
            fail(breaker)
        with breaker("get"):
            pass
    assert breaker.state().state == "closed"
    for _ in range(5):
        fail(breaker)
    assert breaker.state()[:4] == ("redis", "10.0.0.1:6379", "open", 5)
    assert is_rejected(breaker)
    assert counters.snapshot().events == {"circuit_opened{redis}": 1, "circuit_rejected{redis}": 1}


@pytest.mark.parametrize(
    "error",
    [
        ValueTooLarge(2, 1),
        WriteConflict("later"),
        StoreRefused("OOM"),
    ],
    ids=lambda error: error.code,
)
def test_a_reply_is_no_failure(breaker: Breaker, error: Exception) -> None:
    """A refusal by the server, or a mistake of the caller's, shows that it responds."""
    for _ in range(4):
        fail(breaker)
    fail(breaker, error)
    for _ in range(4):
        fail(breaker)
    assert breaker.state().state == "closed"


def test_an_aborted_call_says_nothing(breaker: Breaker) -> None:
    """KeyboardInterrupt and the like neither open the circuit nor end a row of failures."""
    for _ in range(20):
        fail(breaker, KeyboardInterrupt())
    assert breaker.state().failures == 0
    for _ in range(4):
        fail(breaker)
    fail(breaker, KeyboardInterrupt())
    fail(breaker)
    assert breaker.state().state == "open"


def test_one_probe_after_a_growing_pause(breaker: Breaker, fake_clock: FakeClock) -> None:
    """Pauses double from 0.1 s; a server that refuses at once is tried each second at least."""
    for _ in range(5):
        fail(breaker)
    pauses = []
    for _ in range(6):
        pauses.append(breaker.state().retry_in)
        assert is_rejected(breaker)
        fake_clock.advance(pauses[-1] + 1e-6)
        fail(breaker)
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0], abs=1e-5)


def test_a_hanging_server_costs_a_tenth_of_the_time(breaker: Breaker, fake_clock: FakeClock) -> None:
    """The pause grows to ten times what a probe took, 30 s at most."""
    for _ in range(5):
        fail(breaker)
    for takes, longest in ((2.0, 20.0), (5.0, 30.0)):
        for _ in range(12):
            fake_clock.advance(breaker.state().retry_in + 1e-6)
            fail(breaker, clock=fake_clock, takes=takes)
        assert breaker.state().retry_in == pytest.approx(longest, abs=1e-5)


def test_only_one_call_probes(breaker: Breaker, fake_clock: FakeClock) -> None:
    """While the probe is in flight other calls are rejected; its success lets everything through again."""
    for _ in range(5):
        fail(breaker)
    fake_clock.advance(1)
    with breaker("get"):
        assert breaker.state().state == "probing"
        fake_clock.advance(5)
        assert is_rejected(breaker)
    assert breaker.state()[2:4] == ("closed", 0)
    assert not is_rejected(breaker)


def test_an_aborted_probe_is_followed_by_a_pause(breaker: Breaker, fake_clock: FakeClock) -> None:
    """A probe that ends by KeyboardInterrupt leaves the circuit open, and another follows."""
    for _ in range(5):
        fail(breaker)
    fake_clock.advance(1)
    fail(breaker, KeyboardInterrupt())
    assert is_rejected(breaker)
    fake_clock.advance(1)
    with breaker("get"):
        pass
    assert breaker.state().state == "closed"


def test_a_probe_whose_thread_vanished_is_not_waited_for(breaker: Breaker, fake_clock: FakeClock) -> None:
    """After a minute another call probes."""
    for _ in range(5):
        fail(breaker)
    fake_clock.advance(1)
    breaker("get").__enter__()
    fake_clock.advance(59)
    assert is_rejected(breaker)
    fake_clock.advance(1)
    assert not is_rejected(breaker)


def test_a_late_failure_prolongs_nothing(breaker: Breaker, fake_clock: FakeClock) -> None:
    """Calls that were in flight when the circuit opened do not move the next probe."""
    late = breaker("get")
    late.__enter__()
    for _ in range(5):
        fail(breaker)
    before = breaker.state().retry_in
    late.__exit__(StoreUnavailable, StoreUnavailable("late"), None)
    assert breaker.state().retry_in == before


def test_both_ends_of_an_outage_are_logged(breaker: Breaker, caplog: pytest.LogCaptureFixture) -> None:
    """One error when the circuit opens, one warning when it closes, naming backend and address."""
    with caplog.at_level(logging.WARNING, "beaker.store"):
        for _ in range(5):
            fail(breaker)
        for _ in range(5):
            assert is_rejected(breaker)
        breakers.retry()
        with breaker("get"):
            pass
    assert [record.getMessage() for record in caplog.records] == [
        "redis 10.0.0.1:6379 does not respond: calls fail at once until it does",
        "redis 10.0.0.1:6379 responds again",
    ]


def test_the_states_of_a_process(breaker: Breaker) -> None:
    """Every breaker is listed while its store lives."""
    assert breaker.state() in breakers.states()


def test_a_child_begins_closed(breaker: Breaker) -> None:
    """A forked child tries its own connections, whatever happened to the parent's."""
    for _ in range(5):
        fail(breaker)
    pid = os.fork()
    if pid == 0:
        os._exit(1 if is_rejected(breaker) else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert is_rejected(breaker)
