"""What all store suites share: the hooks a backend overrides, names that are hard, threads that report."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from beaker.testing.clock import FakeClock

__all__ = ["ODD_NAMES", "STRESS", "StoreHooks", "run_threads"]

STRESS = max(1, int(os.environ.get("BEAKER_STRESS", "1")))
"""Multiplies the rounds of the concurrent tests (environment variable ``BEAKER_STRESS``)."""

ODD_NAMES = (
    "",
    "\0",
    "a\0b",
    "x" * 10_000,
    "x" * 9_999 + "y",
    "ключ",
    "\N{PILE OF POO}",
    "\ud83d\udca9",
    "\ud800",
    "x/../y",
    "../../etc/passwd",
    "/",
    ".",
    "..",
    "__x__",
    "a b",
    "a%20b",
    "A",
    "a",
    "é",
    "e\u0301",
    "a\n",
    "a ",
    "'; DROP TABLE beaker_cache; --",
)
"""Legal names that narrow stores stumble over; all different, so all must stay apart."""


class StoreHooks:
    """What a backend's test class overrides; shared by all suites here."""

    server_clock = False
    """True when a server decides what has expired, so that no injected clock can."""
    shortest_ttl = 1.0
    """Seconds; the smallest ttl the server honours. Used with ``server_clock`` only."""
    large = 3 * 2**20
    """Bytes of the large value; a smaller ``max_value`` wins."""
    threads = 4
    rounds = 25

    @pytest.fixture
    def clock(self) -> FakeClock:
        """The clock to build ``store`` with."""
        return FakeClock()

    @pytest.fixture
    def store(self) -> Any:
        """The store under test. Override."""
        raise NotImplementedError("override the store fixture")

    @pytest.fixture
    def ns(self) -> str:
        """A namespace no other test uses."""
        return f"contract-{uuid.uuid4().hex}"

    def footprint(self, store: Any) -> int:
        """How many files, rows, entities or records the backend holds now. Override."""
        raise NotImplementedError("override footprint()")

    def second_store(self, store: Any) -> Any:
        """Another object on the same data, as another process would have. Override for SharedContract."""
        raise NotImplementedError("override second_store()")

    def ttl(self) -> float:
        """A ttl in seconds that :meth:`pass_ttl` lets run out."""
        return self.shortest_ttl if self.server_clock else 30.0

    def pass_ttl(self, clock: FakeClock, gone: Callable[[], bool], *, deadline: float = 15.0) -> None:
        """Let :meth:`ttl` run out and check that ``gone()`` is true then."""
        if not self.server_clock:
            clock.advance(self.ttl())
            assert gone(), "an expired record must be absent at the very second its ttl ends"
            return
        end = time.monotonic() + deadline
        while not gone():
            assert time.monotonic() < end, f"a record with ttl {self.ttl()} s still lives after {deadline} s"
            time.sleep(0.02)


def run_threads(count: int, work: Callable[[int], None], *, timeout: float = 120.0) -> None:
    """Run ``work(0)`` ... ``work(count - 1)`` in threads that start together; raise what one raised.

    ``timeout`` is seconds for all of them; a thread that is still busy then fails the test.
    """
    start = threading.Barrier(count)
    failures: list[BaseException] = []

    def body(index: int) -> None:
        try:
            start.wait(timeout)
            work(index)
        except BaseException as err:
            failures.append(err)

    threads = [threading.Thread(target=body, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    if failures:
        raise failures[0]
    assert not any(thread.is_alive() for thread in threads), f"a thread is still busy after {timeout} s"
