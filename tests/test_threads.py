"""Threads side by side: a small run of the scenario for free-threaded builds, on any build."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from beaker import counters
from beaker.counters.guarded import guarded
from beaker.counters.tallies import CacheTally, SessionTally, StoreTally
from benchmarks import threads


@pytest.fixture
def often() -> Iterator[None]:
    """Threads change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_threads_lose_nothing_and_count_everything(often: None) -> None:
    """Values of all stores, of decorated functions and of near copies are the right ones, and each call is counted."""
    wrong: list[str] = []
    names = [name for name, _, _ in threads.run(8, 3_000, wrong.append)]
    counters.reset()
    assert wrong == []
    assert names == list(threads.SHARES)


@pytest.mark.parametrize("plain", [CacheTally, SessionTally, StoreTally])
def test_guarded_counts_are_those_of_the_plain_ones(plain: type[Any]) -> None:
    """What is counted for builds without the GIL is what is counted with it, and clear() sets it to zero."""
    tallies = [kind(*("x",) * (2 if plain is CacheTally else 1)) for kind in (plain, guarded(plain))]
    for tally in tallies:
        if plain is CacheTally:
            tally.hits += 3
            tally.missed()
            tally.created(0.5)
            tally.created(0.0001)
        elif plain is SessionTally:
            tally.loaded += 1
            tally.merged += True
        else:
            tally.wrote(10, 2)
            tally.called("get", 0.25, failed=True)
    assert tallies[0].stats() == tallies[1].stats()
    for tally in tallies:
        tally.clear()
    assert tallies[0].stats() == tallies[1].stats()
    assert not any(tallies[0].stats()[2:6])


def test_guarded_counts_lose_nothing() -> None:
    """Each thread's additions are there, in the number of each class of seconds, too."""
    tally = guarded(CacheTally)("r", "n")

    def work(_: int) -> None:
        for _ in range(300):
            tally.hits += 1
            tally.created(0.5)

    threads.side_by_side(8, work)
    stats = tally.stats()
    assert (stats.hits, stats.creations, sum(stats.seconds.counts)) == (2400, 2400, 2400)
