"""What this process has counted: calls of caches, sessions, store operations, and events.

::

    events    what is unusual (bad tokens, merge conflicts, corrupt records), and good tokens by their key
    tallies   the counts themselves, which the code that does the work adds to
    stats     what a reader gets: immutable, the same shape always
    spent     what one request has cost so far

A count is one addition to an attribute of an object that its caller already has, without a lock: additions of two
threads cannot mix under CPython's global interpreter lock. A free-threaded build may lose single counts. A forked
child begins with nothing, so that the counts of all processes may be added up.

Labels are names of the program (a region, a namespace, a type) and words of our own, never data of a user.
"""

from beaker.counters.events import count, count_key, on_count
from beaker.counters.registry import cache_tally, on_call, on_creation, reset, session_tally, snapshot, store_tally
from beaker.counters.spent import Spent, measured
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
