"""What a lock is, and how one waits for a lock that does not say when it becomes free."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from beaker import clock as _clock

__all__ = ["Lock", "LockFactory", "PollingLock", "poll"]


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

    The pauses grow from 1 ms by 1.7 up to ``ceiling`` seconds, each shortened by up to a half at random so
    that waiters do not march in step. ``done``, called after each pause, ends the waiting when true.
    """
    end = None if timeout < 0 else timer() + timeout
    pause = 0.001
    while not attempt():
        nap = pause * (1.0 - rng() / 2)
        if end is not None:
            left = end - timer()
            if left <= 0:
                return False
            nap = min(nap, left)
        sleep(nap)
        if done is not None and done():
            return False
        pause = min(pause * 1.7, ceiling)
    return True
