"""Mutual exclusion among threads that an exception from outside cannot shut."""

from __future__ import annotations

import contextlib
import threading
import time

from beaker.forks import ForkAware

__all__ = ["Turn", "Turns"]

_LOOK = 1.0
"""Seconds between two looks of a waiter at most, whether or not it was woken."""


class Turn:
    """A lock whose holder is written down in the same step in which it is taken.

    A handler of a signal may raise between any two steps of Python, also between the return of a lock's ``acquire`` and
    the line that notes it; such a lock stays locked for good. Here a holder brings an object of its own, ``place``, and
    can give that up whether or not it got the lock: :meth:`free` of what does not hold it does nothing.
    """

    note: object = None
    """What a holder leaves for the next one."""

    def __init__(self) -> None:
        self._holder: dict[None, object] = {}
        self._guard = threading.Lock()
        self._waiting: dict[object, threading.Lock] = {}

    @property
    def holder(self) -> object:
        """The place that has it, or ``None``."""
        return self._holder.get(None)

    @property
    def is_idle(self) -> bool:
        """Whether no place has it or waits for it."""
        return not (self._holder or self._waiting)

    def take(self, place: object) -> bool:
        """Take it, if it is free now. ``place`` is compared by identity, and used for one acquisition only."""
        return self._holder.setdefault(None, place) is place

    def wait(self, place: object, timeout: float) -> bool:
        """Take it within ``timeout`` seconds. An exception leaves it not held by ``place``."""
        try:
            return self.take(place) or self._wait(place, timeout)
        except BaseException:
            self._leave(place)
            self.free(place)
            raise

    def _wait(self, place: object, timeout: float) -> bool:
        end = time.monotonic() + timeout
        woken = threading.Lock()
        woken.acquire()
        # In the list before the look: a release in between would wake no thread.
        self._waiting[place] = woken
        while not self.take(place):
            left = end - time.monotonic()
            if left <= 0:
                self._leave(place)
                return False
            woken.acquire(True, min(left, _LOOK))
        self._waiting.pop(place, None)
        return True

    def free(self, place: object) -> None:
        """Give it up, if ``place`` has it; from any thread, as often as may be."""
        with self._guard:
            if self._holder.get(None) is place:
                del self._holder[None]
        if self._waiting:
            self._wake()

    def _leave(self, place: object) -> None:
        # It may have been woken for the lock that it does not take: another is woken in its place.
        if self._waiting.pop(place, None) is not None and None not in self._holder:
            self._wake()

    def _wake(self) -> None:
        for woken in list(self._waiting.values())[:1]:
            # Released already: it is awake.
            with contextlib.suppress(RuntimeError):
                woken.release()


class Turns(ForkAware):
    """A :class:`Turn` for each key, while a place has it or waits for it.

    Two threads may get different turns for one key when one of them leaves at that moment, and so may both go on: for
    what is only faster one after the other.
    """

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}
        super().__init__()

    def _after_fork(self) -> None:
        # A thread of the parent that had one does not exist here.
        self._turns = {}

    def __contains__(self, key: str) -> bool:
        return key in self._turns

    def of(self, key: str) -> Turn:
        """The turn of ``key``; :meth:`leave` it."""
        return self._turns.get(key) or self._turns.setdefault(key, Turn())

    def leave(self, key: str, turn: Turn) -> None:
        """Forget the turn of ``key``, if it is idle."""
        if turn.is_idle and self._turns.get(key) is turn:
            self._turns.pop(key, None)
