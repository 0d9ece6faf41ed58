"""So many threads at a time, in the order in which they came."""

from __future__ import annotations

import contextlib
import threading
import time

__all__ = ["Turnstile"]

_LOOK = 1.0
"""Seconds between two looks of a waiter at most, whether or not it was woken."""


class Turnstile:
    """Lets ``room`` callers in at a time, those that came first.

    A caller brings an object of its own, ``place``, compared by identity. Being in and waiting are one entry in one
    dict: an exception from outside, as of a signal's handler, leaves nothing behind that :meth:`leave` does not remove.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._places: dict[object, threading.Lock | None] = {}

    def enter(self, place: object, timeout: float) -> bool:
        """Wait for at most ``timeout`` seconds. :meth:`leave` it in either case, also after an exception."""
        places = self._places
        places[place] = None
        return len(places) <= self.room or self._wait(place, timeout)

    def _wait(self, place: object, timeout: float) -> bool:
        end = time.monotonic() + timeout
        woken = threading.Lock()
        woken.acquire()
        # In the list before the look: a caller that leaves in between would wake no thread.
        self._places[place] = woken
        while not self._is_in(place):
            left = end - time.monotonic()
            if left <= 0:
                return False
            woken.acquire(True, min(left, _LOOK))
        self._places[place] = None
        return True

    def _is_in(self, place: object) -> bool:
        return place in list(self._places)[: self.room]

    def leave(self, place: object) -> None:
        """Let the next one in, if ``place`` was in; as often as may be."""
        places = self._places
        places.pop(place, None)
        if len(places) >= self.room:
            for woken in list(places.values())[: self.room]:
                if woken is not None:
                    # Released already: it is awake.
                    with contextlib.suppress(RuntimeError):
                        woken.release()

    def reset(self) -> None:
        """In a forked child: the parent's threads do not exist here."""
        self._places = {}
