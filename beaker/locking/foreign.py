"""Locks of third parties."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beaker.locking.api import poll

__all__ = ["ForeignLock"]


class ForeignLock:
    """A third party's lock, which knows ``wait`` but no timeout: a synchronizer or anything with ``acquire``."""

    poll_interval = 0.05

    def __init__(self, lock: Any) -> None:
        writer = hasattr(lock, "acquire_write_lock")
        self._try: Callable[[bool], Any] = lock.acquire_write_lock if writer else lock.acquire
        self._give_up: Callable[[], Any] = lock.release_write_lock if writer else lock.release

    def _attempt(self) -> bool:
        return self._try(False) is not False

    def acquire(self, wait: bool = True, timeout: float = -1, /) -> bool:
        return poll(self._attempt, timeout=timeout, ceiling=self.poll_interval) if wait else self._attempt()

    def acquire_unless(self, done: Callable[[], bool], timeout: float = -1) -> bool:
        return poll(self._attempt, timeout=timeout, done=done, ceiling=self.poll_interval)

    def release(self) -> None:
        self._give_up()
