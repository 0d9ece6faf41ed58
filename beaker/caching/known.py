"""What this process knows of the stamps of one store, and since when."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from beaker.caching.stamp import Stamp
from beaker.forks import ForkAware

__all__ = ["KnownStamps"]

_LIMIT = 20_000
"""Stamps that are remembered at most."""


class _Seen(NamedTuple):
    stamp: Stamp | None
    """``None``: this process is changing it, or failed to."""
    at: float
    """When it was read, on a clock that never steps; what moved before that was seen."""
    changed: int
    """The tick at which this process last changed it; what was read before is out of date."""


class _Hold:
    """A change of stamps. It is known weakly: one that is aborted at its last lines ends with its frame."""

    __slots__ = ("__weakref__",)


class KnownStamps(ForkAware):
    """The stamps that the near tiers of one store have read.

    A reader takes a :meth:`tick` and the time before it reads, and gives both to :meth:`note` with what it found.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._ticks = itertools.count(1)
        self._oldest = 0
        self._after_fork()
        super().__init__()

    def _renew_locks(self) -> None:
        self._mutex = threading.Lock()

    def _after_fork(self) -> None:
        self._renew_locks()
        self._held: dict[str, list[weakref.ref[_Hold]]] = {}

    def tick(self) -> int:
        """A number that orders what this process does."""
        return next(self._ticks)

    def last(self, name: str) -> Stamp | None:
        """The stamp as it was last seen, however long ago."""
        seen = self._seen.get(name)
        return None if seen is None else seen.stamp

    def recent(self, name: str, now: float, within: float) -> Stamp | None:
        """The stamp as it was less than ``within`` seconds ago."""
        seen = self._seen.get(name)
        return seen.stamp if seen is not None and now - seen.at < within else None

    def stale(self, stamps: Iterable[tuple[str, bytes]], now: float, within: float) -> tuple[str, ...] | None:
        """Those of ``stamps`` (names and tokens) that have to be read again; ``None``: one of them has moved."""
        stale: tuple[str, ...] = ()
        for name, token in stamps:
            seen = self._seen.get(name)
            if seen is None or seen.stamp is None:
                stale += (name,)
            elif seen.stamp.token != token:
                return None
            elif now - seen.at >= within:
                stale += (name,)
        return stale

    def note(self, found: Mapping[str, Stamp | None], at: float, began: int) -> None:
        """Remember ``found``, unless this process has changed it since ``began``."""
        with self._mutex:
            if began < self._oldest:
                return
            for name, stamp in found.items():
                seen = self._seen.get(name)
                if self._is_held(name) or (seen is not None and (seen.changed > began or seen.at > at)):
                    continue
                self._seen[name] = _Seen(stamp, at if stamp is not None else -math.inf, seen.changed if seen else 0)
            self._bound()

    @contextlib.contextmanager
    def holding(self, names: Iterable[str]) -> Iterator[None]:
        """Around a change of ``names``: nothing is known of them, and nothing is noted."""
        changing, hold = tuple(names), _Hold()
        with self._mutex:
            for name in changing:
                self._held[name] = [*self._held.get(name, ()), weakref.ref(hold)]
                self._seen[name] = _Seen(None, -math.inf, self.tick())
        try:
            yield
        finally:
            with self._mutex:
                for name in changing:
                    self._release(name, hold)

    def _is_held(self, name: str) -> bool:
        return name in self._held and self._release(name)

    def _release(self, name: str, ended: _Hold | None = None) -> bool:
        """Forget the hold that has ``ended``, and those whose change was aborted; whether there are others."""
        holds = [hold for hold in self._held.get(name, ()) if hold() is not None and hold() is not ended]
        if holds:
            self._held[name] = holds
        else:
            self._held.pop(name, None)
        return bool(holds)

    def moved(self, stamps: Mapping[str, Stamp]) -> None:
        """This process has written ``stamps``; not for how long they stay so."""
        with self._mutex:
            for name, stamp in stamps.items():
                self._seen[name] = _Seen(stamp, -math.inf, self.tick())
            self._bound()

    def _bound(self) -> None:
        while len(self._seen) > _LIMIT:
            name = next(iter(self._seen))
            if self._is_held(name):
                break
            self._oldest = max(self._oldest, self._seen.pop(name).changed)
