"""The counts themselves. Whoever does the work holds the object it adds to."""

from __future__ import annotations

import operator
import sys
import threading
from bisect import bisect_left
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from beaker.counters.bounds import BOUNDS
from beaker.counters.spent import current

if TYPE_CHECKING:
    from beaker.counters.stats import CacheStats, SessionStats, StoreStats

__all__ = ["CacheTally", "SessionTally", "StoreTally", "call_listeners", "creation_listeners"]

LOGGER = "beaker.counters"
"""Logs each call of a cache at DEBUG."""

creation_listeners: list[Callable[[str, str, float, bool], object]] = []
"""Called with region, namespace, seconds and whether it succeeded, after each creation."""

call_listeners: list[Callable[[str, str, float, bool], object]] = []
"""Called with backend, operation, seconds and whether it got no response, after each exchange with a server."""


class CacheTally:
    """The calls of one namespace in one region. ``hits`` is added to where a value is returned; the rest by methods.

    Each call is logged at DEBUG. So that a call costs no question whether it shall be, the class of all tallies is
    changed while DEBUG is on (:func:`follow_level`).
    """

    __slots__ = (
        "bytes_read", "bytes_written", "creations", "errors", "hits", "memo_hits", "misses", "namespace", "near_hits",
        "places", "region", "seconds", "stale", "waits",
    )  # fmt: skip
    hits: int

    def __init__(self, region: str, namespace: str) -> None:
        self.region = region
        self.namespace = namespace
        self.clear()

    def clear(self) -> None:
        """Set every count to zero."""
        _set_hits(self, 0)
        self.misses = self.near_hits = self.memo_hits = self.stale = self.creations = self.waits = self.errors = 0
        self.bytes_read = self.bytes_written = 0
        self.seconds = 0.0
        self.places = [0] * (len(BOUNDS) + 1)

    def stats(self) -> CacheStats:
        """The counts of this moment."""
        from beaker.counters.stats import CacheStats, Histogram

        return CacheStats(
            self.region,
            self.namespace,
            hits=_get_hits(self),
            misses=self.misses,
            stale=self.stale,
            creations=self.creations,
            seconds=Histogram(tuple(self.places), self.seconds),
            waits=self.waits,
            errors=self.errors,
            bytes_read=self.bytes_read,
            bytes_written=self.bytes_written,
            near_hits=self.near_hits,
            memo_hits=self.memo_hits,
        )

    def missed(self) -> None:
        """A call found no current value."""
        self.misses += 1
        spent = current()
        if spent is not None:
            spent.misses += 1
        self.say("miss")

    def served_stale(self) -> None:
        """A call returns an expired value."""
        self.stale += 1
        spent = current()
        if spent is not None:
            spent.stale += 1
        self.say("expired value served")

    def waited(self) -> None:
        """A call begins to wait for the creation of another."""
        self.waits += 1
        spent = current()
        if spent is not None:
            spent.waits += 1
        self.say("wait for another call's creation")

    def created(self, seconds: float) -> None:
        """The function has returned, after so long."""
        self.creations += 1
        self.seconds += seconds
        self.places[bisect_left(BOUNDS, seconds)] += 1
        spent = current()
        if spent is not None:
            spent.creations += 1
            spent.creation_seconds += seconds
        self.say("creation, %.6f s", seconds)
        for listener in creation_listeners:
            listener(self.region, self.namespace, seconds, True)

    def failed(self, seconds: float | None = None) -> None:
        """The function has raised, after so long; ``None``: its value could not be stored."""
        self.errors += 1
        spent = current()
        if spent is not None:
            spent.errors += 1
        self.say("creation failed" if seconds is not None else "value not stored")
        if seconds is not None:
            for listener in creation_listeners:
                listener(self.region, self.namespace, seconds, False)

    def say(self, what: str, *args: float) -> None:
        """Log a call, without its key, while DEBUG is on."""


class SessionTally:
    """The sessions of one type."""

    __slots__ = ("ended", "loaded", "merged", "saved", "type")

    def __init__(self, type: str) -> None:
        self.type = type
        self.clear()

    def clear(self) -> None:
        """Set every count to zero."""
        self.loaded = self.saved = self.merged = self.ended = 0

    def stats(self) -> SessionStats:
        """The counts of this moment."""
        from beaker.counters.stats import SessionStats

        return SessionStats(self.type, self.loaded, self.saved, self.merged, self.ended)


class StoreTally:
    """The operations on one backend, of this process and of the request that is served."""

    __slots__ = (
        "backend", "bytes_read", "bytes_written", "calls", "deletes", "errors", "reads", "refused", "seconds",
        "writes",
    )  # fmt: skip

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.clear()

    def clear(self) -> None:
        """Set every count to zero."""
        self.reads = self.writes = self.deletes = self.refused = self.bytes_read = self.bytes_written = 0
        self.calls = self.errors = 0
        self.seconds = 0.0

    def stats(self) -> StoreStats:
        """The counts of this moment."""
        from beaker.counters.stats import StoreStats

        counts: dict[str, Any] = {name: getattr(self, name) for name in StoreStats._fields}
        return StoreStats(**counts)

    def read(self, data: bytes | None) -> None:
        """One record was asked for; ``data``: what was found."""
        size = 0 if data is None else len(data)
        self.reads += 1
        self.bytes_read += size
        spent = current()
        if spent is not None:
            spent.add(self.backend, reads=1, bytes_read=size)

    def read_many(self, records: int, size: int) -> None:
        """So many records were asked for, and so many bytes found."""
        self.reads += records
        self.bytes_read += size
        spent = current()
        if spent is not None:
            spent.add(self.backend, reads=records, bytes_read=size)

    def wrote(self, size: int, records: int = 1) -> None:
        """So many records were written, of ``size`` bytes together."""
        self.writes += records
        self.bytes_written += size
        spent = current()
        if spent is not None:
            spent.add(self.backend, writes=records, bytes_written=size)

    def tried(self, done: bool, size: int) -> bool:
        """A conditional write was carried out, or refused; returns ``done``."""
        if done:
            self.wrote(size)
        else:
            self.refuse()
        return done

    def deleted(self, records: int = 1) -> None:
        """A deletion of so many records was carried out."""
        self.deletes += records
        spent = current()
        if spent is not None:
            spent.add(self.backend, deletes=records)

    def removed(self, done: bool) -> bool:
        """A conditional deletion was carried out, or refused; returns ``done``."""
        if done:
            self.deleted()
        else:
            self.refuse()
        return done

    def refuse(self, records: int = 1) -> None:
        """Conditional writes or deletions were refused."""
        self.refused += records
        spent = current()
        if spent is not None:
            spent.add(self.backend, refused=records)

    def called(self, operation: str, seconds: float, *, failed: bool) -> None:
        """One exchange with the server took so long; ``failed``: it got no response."""
        self.calls += 1
        self.seconds += seconds
        self.errors += failed
        spent = current()
        if spent is not None:
            spent.add(self.backend, calls=1, seconds=seconds, errors=failed)
        for listener in call_listeners:
            listener(self.backend, operation, seconds, failed)


_slot: Any = vars(CacheTally)["hits"]
_get_hits: Callable[[CacheTally], int] = _slot.__get__
_set_hits: Callable[[CacheTally, int], None] = _slot.__set__
_mutex = threading.Lock()


def _add_hits(tally: CacheTally, step: int) -> None:
    with _mutex:
        _set_hits(tally, _get_hits(tally) + step)
    tally.say("hit")


if not getattr(sys, "_is_gil_enabled", lambda: True)():
    from beaker.counters.guarded import guarded

    CacheTally, SessionTally, StoreTally = map(guarded, (CacheTally, SessionTally, StoreTally))  # type: ignore[misc]


class LoggedTally(CacheTally):
    """A tally whose ``hits += 1`` logs the hit: reading gives False, a 0, and what is assigned is added."""

    __slots__ = ()
    # Read by C: at the start of a function of Python another thread may change the class back, and the slot would
    # then be assigned what was meant to be added.
    hits: int = property(operator.not_, _add_hits)  # type: ignore[assignment]

    def say(self, what: str, *args: float) -> None:
        import logging

        log = logging.getLogger(LOGGER)
        if log.isEnabledFor(logging.DEBUG):
            log.debug(f"{what}: region %r, namespace %r", *args, self.region, self.namespace, stacklevel=3)
