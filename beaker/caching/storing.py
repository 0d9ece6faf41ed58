"""What becomes of a value that was created: it is stored, refused, or kept out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beaker import counters
from beaker.caching.entry import REUSABLE, Entry, new_entry
from beaker.caching.lifetime import Lifetime, Unkept, lifetime
from beaker.caching.marks import Creation
from beaker.caching.namespace import NamespaceManager
from beaker.caching.negative import Failed
from beaker.caching.said import DO_NOT_KEEP, DoNotKeep
from beaker.caching.sliding import slid
from beaker.caching.stamped import with_stamps
from beaker.caching.storeless import check
from beaker.exceptions import BeakerWarning, StoreUnavailable, UnserializableValue, ValueTooLarge, warn

__all__ = ["Storing"]

_TICK = 0.001
"""Seconds within which two times may be the same to a coarse clock."""


class Storing:
    """How a :class:`~beaker.caching.value.Value` stores what was created."""

    key: str
    namespace: NamespaceManager
    expiretime: Lifetime
    starttime: float | None

    def store_if_possible(self, creation: Creation, value: Any, cost: float) -> Entry | None:
        """:meth:`store`; where ``on_unavailable`` allows it, a store that does not respond is noted and not raised."""
        try:
            return self.store(creation, value, cost)
        except StoreUnavailable as err:
            creation.abandon()
            self.namespace.tolerate(err)
            return None

    def store(self, creation: Creation, value: Any, cost: float) -> Entry | None:
        """Store what ``creation`` created in ``cost`` seconds, unless it was voided. What was stored is returned.

        A value over the store's limit is not kept, which is warned of once. One not to be kept takes the old one
        with it, and is returned for those that wait.
        """
        # What most values need none of is not called: it would be a quarter of storing one in memory.
        if type(value) not in REUSABLE:
            check(value)
        manager, expire, start = self.namespace, self.expiretime, self.starttime
        life = expire if manager.negative is None and not callable(expire) else self._life(value)
        if life is DO_NOT_KEEP:
            return Unkept(value, self._now(), None, cost) if creation.abandon(drop=True) else None
        if manager.freshness.jitter:
            life = manager.freshness.jittered(life)
        entry = stored = new_entry((value, manager.clock() if start is None else self._now(), life, cost))
        if manager.negative is not None and type(value) is Failed:
            stored = manager.negative.entry(value, entry.stored, entry.expiretime or 0.0, cost)
        else:
            stamps = getattr(creation, "stamps", ())
            if stamps or manager.sliding is not None:
                entry = stored = slid(manager, with_stamps(entry, stamps))
        try:
            if creation.store(stored):
                return entry
        except ValueTooLarge as err:
            # What it was to replace must not be taken for it.
            creation.abandon(drop=True)
            counters.count("cache_too_large", err.backend)
            if not manager.warned_too_large:
                (manager.origin or manager).warned_too_large = True
                warn(BeakerWarning(f"a result of {manager.namespace!r} is computed by each call: {err}", code=err.code))
        return None

    def copies(self, entry: Entry) -> Callable[[], Entry] | None:
        """What returns copies of ``entry``, which was stored, as a read would; ``None``: nothing else can."""
        negative = self.namespace.negative
        if negative is not None and type(entry.value) is Failed:
            failure = entry.value.failure
            return lambda: entry._replace(value=Failed(negative.rebuild(failure) or RuntimeError(), failure))
        try:
            copy = self.namespace.sharing(self.key, entry.value) if self.namespace.holds(entry) else None
        except UnserializableValue:
            # Whether the store could hold what is not kept was not looked at.
            copy = None
        return None if copy is None else lambda: entry._replace(value=copy())

    def _life(self, value: Any) -> float | DoNotKeep | None:
        negative = self.namespace.negative
        if negative is not None and (value is None or type(value) is Failed):
            return negative.seconds or DO_NOT_KEEP
        return lifetime(self.expiretime, value)

    def catching(self, create: Callable[[], Any], *, loops: bool = False) -> Callable[[], Any]:
        """``create``, whose exceptions are results where they are to be kept."""
        negative = self.namespace.negative
        manager = self.namespace
        # What depends on tags would have nowhere to say so.
        if negative is None or not negative.errors or not manager.keeps_failures or bool(getattr(manager, "names", ())):
            return create
        return negative.catching(create, loops=loops)

    def _now(self) -> float:
        # A clock that stands still must not make a value that is stored now one from before `starttime`.
        now, start = self.namespace.clock(), self.starttime
        return start if start is not None and 0 < start - now < _TICK else now
