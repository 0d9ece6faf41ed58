"""An event that an exception from outside cannot shut."""

from __future__ import annotations

import contextlib
import threading

__all__ = ["Flag"]


class Flag:
    """Given once; one thread waits for it.

    ``threading.Event`` and ``Semaphore`` take their lock in a step of Python: where a signal's handler raises in it,
    the lock stays taken, and every later ``set()`` and ``wait()`` stands still for good.
    """

    def __init__(self) -> None:
        self._given = False
        self._gate = threading.Lock()
        self._gate.acquire()

    def is_set(self) -> bool:
        """Whether it was given."""
        return self._given

    def set(self) -> None:
        """Give it, from any thread, as often as may be."""
        self._given = True
        # Open already: it was given before.
        with contextlib.suppress(RuntimeError):
            self._gate.release()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait so many seconds at most (``None``: no limit); whether it was given."""
        if not self._given:
            self._gate.acquire(True, -1 if seconds is None else max(0.0, seconds))
        return self._given
