"""What this process has counted: calls of caches, sessions, store operations, and events.

::

    events    what is unusual (bad tokens, merge conflicts, corrupt records), and good tokens by their key
    tallies   the counts themselves, which the code that does the work adds to
    stats     what a reader gets: immutable, the same shape always
    spent     what one request has cost so far

A count is one addition to an attribute of an object that its caller already has, without a lock: additions of two
threads cannot mix under CPython's global interpreter lock; a build without it takes one (``guarded``). A forked child
begins with nothing, so that the counts of all processes may be added up.

Labels are names of the program (a region, a namespace, a type) and words of our own, never data of a user.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from beaker.counters.events import count, count_key, on_count
from beaker.counters.registry import cache_tally, on_call, on_creation, reset, session_tally, snapshot, store_tally
from beaker.counters.spent import Spent, measured

if TYPE_CHECKING:
    from beaker.counters.stats import CacheStats, Histogram, SessionStats, Snapshot, StoreStats

__all__ = [
    "CacheStats",
    "Histogram",
    "SessionStats",
    "Snapshot",
    "Spent",
    "StoreStats",
    "cache_tally",
    "count",
    "count_key",
    "measured",
    "on_call",
    "on_count",
    "on_creation",
    "reset",
    "session_tally",
    "snapshot",
    "store_tally",
]


def __getattr__(name: str) -> Any:
    # A process counts from its start, and its counts are read later if at all: these are five classes.
    if name in __all__:
        return getattr(import_module("beaker.counters.stats"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # help(), completion and documentation find names that are loaded when used.
    return sorted({*globals(), *__all__})
