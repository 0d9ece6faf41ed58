"""What a lock is, and how one waits for a lock that does not say when it becomes free."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

from beaker import clock as _clock

__all__ = ["Lock", "LockFactory", "PollingLock", "pauses", "poll"]


class Lock(Protocol):
    """Mutual exclusion; a plain ``threading.Lock`` is one."""

    def acquire(self, wait: bool = True, timeout: float = -1, /) -> bool:
        """Take it. ``False``: not free now (``wait`` false) or not within ``timeout`` seconds.

        -1 is no limit; ``timeout`` means nothing without ``wait`` and is then not passed.
        """
        ...

    def release(self) -> None:
        """Give it up."""
        ...


@runtime_checkable
class PollingLock(Protocol):
    """A :class:`Lock` that has to be tried again and again, so that a waiter can look elsewhere between two tries."""

    poll_interval: float
    """Seconds between two tries at most."""

    def acquire(self, wait: bool = True, timeout: float = -1, /) -> bool:
        """See :meth:`Lock.acquire`."""
        ...

    def acquire_unless(self, done: Callable[[], bool], timeout: float = -1) -> bool:
        """Take it, waiting at most ``timeout`` seconds, unless ``done()``, called after every wait, is true.

        ``False``: not held, because done or because the time ran out. An exception from ``done`` leaves
        the lock not held.
        """
        ...

    def release(self) -> None:
        """See :meth:`Lock.release`."""
        ...


class LockFactory(Protocol):
    """Gives locks by name."""

    def creation(self, namespace: str, key: str) -> Lock:
        """The lock held while the value of ``key`` is computed; costs no I/O until it is taken."""
        ...


def poll(
    attempt: Callable[[], bool],
    *,
    timeout: float = -1,
    done: Callable[[], bool] | None = None,
    ceiling: float = 0.05,
    timer: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = _clock.sleep,
    rng: Callable[[], float] = random.random,
) -> bool:
    """Call ``attempt`` until it is true, for ``timeout`` seconds (-1: no limit); whether it was.

    It waits by :func:`pauses`. ``done``, called after each pause, ends the waiting when true.
    """
    naps = pauses(timeout=timeout, ceiling=ceiling, timer=timer, rng=rng)
    while not attempt():
        nap = next(naps, None)
        if nap is None:
            return False
        sleep(nap)
        if done is not None and done():
            return False
    return True


def pauses(
    *,
    timeout: float = -1,
    ceiling: float = 0.05,
    timer: Callable[[], float] = time.monotonic,
    rng: Callable[[], float] = random.random,
) -> Iterator[float]:
    """Seconds to wait before each further try, as long as ``timeout`` from now on (-1: for ever) lasts.

    They grow from 1 ms by 1.7 up to ``ceiling`` seconds, each shortened by up to a half at random so that waiters do
    not march in step.
    """
    end = None if timeout < 0 else timer() + timeout

    def naps() -> Iterator[float]:
        pause = 0.001
        while True:
            nap = pause * (1.0 - rng() / 2)
            if end is not None:
                left = end - timer()
                if left <= 0:
                    return
                nap = min(nap, left)
            yield nap
            pause = min(pause * 1.7, ceiling)

    return naps()
