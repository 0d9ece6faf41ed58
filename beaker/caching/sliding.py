"""Values that are valid as long as they are read: each read renews them, at intervals, and never past their end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from beaker import counters
from beaker.caching.entry import Entry, SlidingEntry, StampedEntry, stamps_of
from beaker.caching.stamped import with_stamps
from beaker.exceptions import StoreError

if TYPE_CHECKING:
    from beaker.caching.namespace import NamespaceManager

__all__ = ["renew", "slid"]

_SHARE = 0.25
"""Of its sliding time that has to pass before a value is renewed again."""


def slid(manager: NamespaceManager, entry: Entry) -> Entry:
    """``entry`` as its cache keeps it: valid for the sliding time, and renewed until it would have expired."""
    seconds = manager.sliding
    if seconds is None or type(entry) not in (Entry, StampedEntry):
        return entry
    if entry.expiretime is not None and entry.expiretime <= seconds:
        return entry
    end = math.inf if entry.expires is None else entry.expires
    return with_stamps(SlidingEntry.until(end, entry._replace(expiretime=seconds)), stamps_of(entry))


def renew(manager: NamespaceManager, key: str, entry: Entry) -> None:
    """Renew ``entry``, which a read of ``key`` has found fresh, if it is time.

    What was removed or written since that read stays so. A store that cannot be written now is counted only
    (``sliding_unwritten``): the value is there all the same.
    """
    seconds = manager.sliding
    if seconds is None or not isinstance(entry, SlidingEntry):
        return
    now = manager.clock()
    until = min(now + seconds, entry.end)
    if now < entry.expires - (1.0 - _SHARE) * seconds or until <= entry.expires:
        return
    renewed = SlidingEntry.until(entry.end, entry._replace(expiretime=until - entry.stored))
    later = with_stamps(renewed, stamps_of(entry))
    try:
        manager.prolong(key, entry, later)
    except StoreError as err:
        counters.count("sliding_unwritten", err.backend)
