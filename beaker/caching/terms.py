"""What one call for a cached value goes by."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import NamedTuple

from beaker._typing import Clock
from beaker.caching.freshness import CachedValue, Freshness
from beaker.counters.tallies import CacheTally

__all__ = ["Terms"]

_DEFAULT = Freshness()


class Terms(NamedTuple):
    """What one call goes by.

    * ``clock`` says what is fresh (seconds since the epoch), ``timer`` how long something took.
    * ``starttime``: entries stored before it (seconds since the epoch) count as absent.
    * ``lock_timeout``: seconds to wait for another creation before creating, ``None`` for no limit.
    * ``tally``: where the call is counted.
    * ``has_left``: whether nothing waits for the call any more, so that it need not wait for another creation.
    """

    clock: Clock
    timer: Callable[[], float] = time.monotonic
    starttime: float | None = None
    lock_timeout: float | None = 30.0
    policy: Freshness = _DEFAULT
    rng: Callable[[], float] = random.random
    tally: CacheTally = CacheTally("", "")
    has_left: Callable[[], bool] | None = None

    def __repr__(self) -> str:
        return f"<terms: {self.policy}, starttime={self.starttime}, lock_timeout={self.lock_timeout}>"

    def settles(self, entry: CachedValue | None) -> bool:
        """Whether ``entry`` is the result of a call that finds it, without more ado. The call is counted."""
        now = self.clock() if entry is not None else 0.0
        if entry is None or not entry.is_fresh(now, self.starttime):
            self.tally.missed()
            return False
        self.tally.hits += 1
        return not self.policy.early or not self.policy.is_due_early(entry, now, self.rng)
