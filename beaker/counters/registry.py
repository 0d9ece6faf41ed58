"""The tallies of this process by their names, and all of them at one moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from beaker.counters import events
from beaker.counters.tallies import (
    LOGGER,
    CacheTally,
    LoggedTally,
    SessionTally,
    StoreTally,
    call_listeners,
    creation_listeners,
)
from beaker.forks import after_fork

if TYPE_CHECKING:
    from beaker.counters.stats import Snapshot

__all__ = ["OTHERS", "cache_tally", "on_call", "on_creation", "reset", "session_tally", "snapshot", "store_tally"]

OTHERS = "(others)"
"""The namespace under which those are counted that came after the first 1,000: programs may name them without end."""

_LIMIT = 1_000

_lock = threading.Lock()
_caches: dict[tuple[str, str], CacheTally] = {}
_sessions: dict[str, SessionTally] = {}
_stores: dict[str, StoreTally] = {}
_began = time.monotonic()
_kind: type[CacheTally] = CacheTally
_follows = False


def cache_tally(region: str, namespace: str) -> CacheTally:
    """The counts of ``namespace`` in ``region`` (``""``: in none)."""
    tally = _caches.get((region, namespace))
    if tally is None:
        if not _follows:
            _follow()
        with _lock:
            if len(_caches) >= _LIMIT:
                namespace = OTHERS
            tally = _caches.setdefault((region, namespace), _kind(region, namespace))
    return tally


def session_tally(type: str) -> SessionTally:
    """The counts of sessions of that type."""
    return _sessions.get(type) or _sessions.setdefault(type, SessionTally(type))


def store_tally(backend: str) -> StoreTally:
    """The counts of the stores of that name."""
    return _stores.get(backend) or _stores.setdefault(backend, StoreTally(backend))


def snapshot() -> Snapshot:
    """All counts of this process. What has not happened at all has no entry."""
    from beaker.counters.stats import Snapshot

    with _lock:
        caches = sorted(_caches.items())
    stats = [tally.stats() for _, tally in caches]
    sessions = [tally.stats() for _, tally in sorted(_sessions.items())]
    stores = [tally.stats() for _, tally in sorted(_stores.items())]
    return Snapshot(
        time.monotonic() - _began,
        tuple(one for one in stats if one.calls or one.creations or one.errors or one.bytes_written),
        tuple(one for one in sessions if any(one[1:])),
        tuple(one for one in stores if any(one[1:])),
        MappingProxyType(events.events()),
    )


def on_creation(listener: Callable[[str, str, float, bool], object]) -> Callable[[], None]:
    """Call ``listener(region, namespace, seconds, succeeded)`` after each creation, in its thread.

    Returns a function that ends it.
    """
    return events.added(creation_listeners, listener)


def on_call(listener: Callable[[str, str, float, bool], object]) -> Callable[[], None]:
    """Call ``listener(backend, operation, seconds, failed)`` after each exchange with a server, in its thread.

    Returns a function that ends it.
    """
    return events.added(call_listeners, listener)


def reset() -> None:
    """Set every count to zero. Meant for tests: exporters expect counts that only grow."""
    events.clear()
    _begin()


def _begin() -> None:
    global _began
    _began = time.monotonic()
    tallies: list[CacheTally | SessionTally | StoreTally]
    tallies = [*_caches.values(), *_sessions.values(), *_stores.values()]
    for tally in tallies:
        tally.clear()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    _begin()


after_fork(_after_fork)


def follow_level() -> None:
    """Make every tally log its hits, or not, as the logger's level says."""
    global _kind
    import logging

    wanted = LoggedTally if logging.getLogger(LOGGER).isEnabledFor(logging.DEBUG) else CacheTally
    if _kind is wanted:
        return
    with _lock:
        _kind = wanted
        for tally in _caches.values():
            tally.__class__ = wanted


class _Levels(dict[int, bool]):
    """What a logger remembers of its level. logging clears it whenever a level changes, here or above."""

    def clear(self) -> None:
        super().clear()
        follow_level()


def _follow() -> None:
    """From the first cache on: a process with sessions only starts without the module logging."""
    global _follows
    import logging

    _follows = True
    logger: Any = logging.getLogger(LOGGER)
    # Not public; where it is not there, DEBUG is noticed if it is on now.
    if isinstance(getattr(logger, "_cache", None), dict):
        logger._cache = _Levels()
    follow_level()
