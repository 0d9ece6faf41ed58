"""The last hour of each region: calls a minute, hits among them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from beaker import counters
from beaker.forks import ForkAware

__all__ = ["MINUTES", "History", "Minute"]

MINUTES = 60
"""How far back it goes. A minute costs two numbers for each region."""
_REGIONS = 200
_MINUTE = 60.0


class Minute(NamedTuple):
    """What one region did in one minute."""

    hits: int = 0
    misses: int = 0


class History(ForkAware):
    """Samples of the counts, taken by requests: there is no thread, since platforms stop those between requests.

    The first request of a minute takes one; what has been counted since the one before belongs to the minute in which
    that was taken, as there was no request in between. Thread-safe; a forked child begins anew, as the counts do.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._renew_locks()
        self._after_fork()

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()

    def _after_fork(self) -> None:
        self._renew_locks()
        self.due = 0.0
        self._began = self._minute()
        self._minutes: deque[tuple[int, dict[str, Minute]]] = deque(maxlen=MINUTES)
        self._last: tuple[int, dict[str, Minute]] = (self._began, _now())

    def _minute(self) -> int:
        return int(self._clock() // _MINUTE)

    def note(self) -> None:
        """A request has come."""
        if self._clock() >= self.due and not self._lock.locked():
            # A block, which an exception of a signal's handler cannot leave locked.
            with self._lock:
                self._sample()

    def _sample(self) -> None:
        minute, counts = self._minute(), _now()
        self.due = (minute + 1) * _MINUTE
        before, old = self._last
        if minute != before:
            self._minutes.append((before, _difference(counts, old)))
            self._last = (minute, counts)

    def regions(self) -> dict[str, list[Minute]]:
        """By region the minutes of the last hour, oldest first, the present one last."""
        with self._lock:
            self._sample()
            before, old = self._last
            known = [*self._minutes, (before, _difference(_now(), old))]
        end = self._minute()
        first = end - MINUTES + 1
        rows: dict[str, list[Minute]] = {}
        for minute, counts in known:
            if minute < first:
                continue
            for region, count in counts.items():
                rows.setdefault(region, [Minute()] * MINUTES)[minute - first] = count
        return rows


def _now() -> dict[str, Minute]:
    sums: dict[str, Minute] = {}
    for stats in counters.snapshot().regions()[:_REGIONS]:
        sums[stats.region] = Minute(stats.hits, stats.misses)
    return sums


def _difference(counts: Mapping[str, Minute], old: Mapping[str, Minute]) -> dict[str, Minute]:
    found = {}
    for region, count in counts.items():
        before = old.get(region, Minute())
        # Counts that were set to zero begin again.
        hits, misses = max(0, count.hits - before.hits), max(0, count.misses - before.misses)
        if hits or misses:
            found[region] = Minute(hits, misses)
    return found
