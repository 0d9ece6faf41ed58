"""One creator per key: the dogpile algorithm, free of storage, threads and globals.

=============  ==================================================================================
the entry is   what happens
=============  ==================================================================================
fresh          it is returned, after one read
old            the call that gets the lock at once creates; other calls return the old value meanwhile
absent         one call creates; other calls wait for it, ``lock_timeout`` seconds at most, then create
=============  ==================================================================================

A creation begins with a mark (:mod:`beaker.caching.marks`) and stores only while that is there: what is removed or
written meanwhile voids it, and its value reaches its caller only. The call that gets the lock reads again before it
creates, or learns by its mark that nothing was there.

A creation that raises writes nothing; its exception reaches the caller of the creator and those that waited for it, who
do not try one after another. One that was voided keeps it to itself: those that wait may have come after what voided
it. One that hangs is replaced by another call after ``lock_timeout`` seconds.
:class:`Freshness` changes what happens to the old.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from beaker import counters
from beaker._typing import MISSING, MissingType
from beaker.caching.freshness import CachedValue, Freshness, freshness_of
from beaker.caching.lifetime import Unkept
from beaker.caching.marks import Begun, Creation, Mode
from beaker.caching.negative import Failed
from beaker.caching.previous import create_with
from beaker.caching.terms import Terms
from beaker.caching.ways import InThread, Way, run
from beaker.exceptions import CreationAbortedError, CreationTimeout
from beaker.locking.api import Lock
from beaker.locking.creation import Passed

__all__ = ["CachedValue", "Freshness", "Place", "Terms", "aget_or_create", "freshness_of", "get_or_create"]

log = logging.getLogger("beaker.cache")

T = TypeVar("T")


class Place(Protocol):
    """Where the value of one key is kept."""

    def read(self) -> CachedValue | None:
        """The entry, or ``None``."""
        ...

    def begin(self, good: Callable[[Any], bool], *, absent: bool, mode: Mode) -> Begun:
        """Begin a creation, unless there is an entry that is ``good``, or another has the key alone.

        ``absent``: :meth:`read` found nothing a moment ago.
        """
        ...

    def store(self, creation: Creation, value: Any, cost: float) -> CachedValue | None:
        """Store what ``creation`` created in ``cost`` seconds, unless it was voided: what was stored."""
        ...

    @property
    def origin(self) -> Hashable:
        """Equal for places of the same value: what those that wait for one lock share."""
        ...

    def copies(self, entry: Any) -> Callable[[], CachedValue] | None:
        """What returns copies of ``entry``, which was stored, as :meth:`read` would; ``None``: nothing else can."""
        ...

    def is_taken(self, entry: CachedValue) -> bool:
        """Whether another creation has the key alone, as far as ``entry`` shows."""
        ...

    def is_overdue(self, entry: CachedValue) -> bool:
        """Whether this call, which would return the old ``entry``, shall create in place of the creation in flight."""
        ...


def get_or_create(
    place: Place,
    create: Callable[[], T],
    lock: Lock | Callable[[], Lock],
    *,
    found: CachedValue | MissingType | None = MISSING,
    terms: Terms | None = None,
    **named: Any,
) -> T:
    """The fresh value in ``place``, or else what ``create`` returns, stored there.

    * ``create()``: creates the value.
    * ``lock``: a lock, or a function that returns one, called only when it is wanted.
    * ``found``: what ``place.read()`` returned a moment ago; that saves the first read.
    * ``terms``, or their fields as ``named`` arguments.

    Whatever ``place`` and ``create`` raise is raised, with the lock released. ``stale_if_error``
    does not hide a ``CreationAbortedError``: it says that there is no value. An early refresh that fails is
    logged and the fresh value returned.
    """
    terms = Terms(**named) if terms is None else terms
    entry = place.read() if found is MISSING else found
    if terms.settles(entry) and entry is not None:
        value: T = entry.value
        return value
    way = InThread(lock() if callable(lock) else lock)
    return run(way, _Turn(place, create, way, terms).take(entry))


async def aget_or_create(
    place: Place, create: Callable[[], Any], way: Callable[[], Way], terms: Terms, found: CachedValue | None
) -> Any:
    """:func:`get_or_create` for an event loop: ``create()`` returns an awaitable, or the value, ``way()`` the way to
    wait, and ``found`` is what ``place.read()`` has returned."""
    if terms.settles(found) and found is not None:
        return found.value
    return await _Turn(place, create, way(), terms).take(found)


class _Turn(Generic[T]):
    """One call that did not find a fresh value."""

    def __init__(self, place: Place, create: Callable[[], T], way: Way, terms: Terms) -> None:
        self.place = place
        self.create = create
        self.way = way
        self.clock, self.timer, self.starttime, limit, self.policy, _, self.tally, self.has_left = terms
        self.has_waited = False
        self.timeout = -1.0 if limit is None else min(max(limit, 0.0), threading.TIMEOUT_MAX)
        self.failures: int | None = getattr(way.lock, "failures", None)
        self.passing = 0 if way.front is None else way.front.passing
        self.early: float | None = None
        self.found: CachedValue | None = None
        self.error: BaseException | None = None

    async def take(self, entry: CachedValue | None) -> T:
        """The value, where ``entry`` is what was found."""
        absent = entry is None
        old = None if entry is None or self.is_hidden(entry) else entry
        if old is not None and self.is_fresh(old):
            # An early refresh wants a newer value than the fresh one it came for.
            self.early = old.stored
        if old is not None and self.may_return(old):
            if self.place.is_taken(old) or not await self.way.attempt():
                return await self.beside(old)
        elif old is not None and self.policy.on_expired == "recompute":
            return await self.create_beside("join")
        elif not await self.way.attempt():
            absent = False
            self.note_wait()
            if not await self.way.wait(self):
                return await self.without_lock()
        try:
            return await self.with_lock(absent)
        finally:
            self.way.release()

    def note_wait(self) -> None:
        if not self.has_waited:
            self.has_waited = True
            self.tally.waited()

    async def with_lock(self, absent: bool) -> T:
        error = self.shared_error()
        if error is not None:
            current = await self.way.call(self.reread)
            return self.value_of(current) if self.is_good(current) else self.value_or_raise(current, error)
        if self.has_waited and self.takes_unkept():
            return self.value_of(self.found)
        begun = await self.begin("hold", absent=absent)
        if begun.taken:
            return await self.beside_another(begun)
        return await self.finish(begun, held=True)

    async def beside(self, old: CachedValue) -> T:
        """Another call creates, and ``old`` may be returned."""
        return await self.create_beside("seize") if self.is_overdue(old) else self.old_value(old)

    async def beside_another(self, begun: Begun) -> T:
        """Another process has the key alone: return the old value, or wait for the new one."""
        old = None if self.is_hidden(begun.entry) else begun.entry
        if old is not None and self.may_return(old):
            return await self.beside(old)
        if old is not None and self.policy.on_expired == "recompute":
            return await self.create_beside("join")
        self.note_wait()
        latest = await self.begin("hold", timeout=self.timeout)
        if not latest.taken:
            return await self.finish(latest, held=True)
        self.give_up_if_left()
        counters.count("creation_wait_timeout")
        return await self.create_beside("join", held=True)

    async def without_lock(self) -> T:
        if self.found is not None:
            return self.value_of(self.found)
        if self.error is not None:
            return self.value_or_raise(await self.way.call(self.reread), self.error)
        self.give_up_if_left()
        begun = await self.begin("join")
        if begun.creation is not None:
            counters.count("creation_wait_timeout")
        return await self.finish(begun, held=False)

    def give_up_if_left(self) -> None:
        if self.has_left is not None and self.has_left():
            raise CreationTimeout(self.timeout)

    async def create_beside(self, mode: Mode, *, held: bool = False) -> T:
        return await self.finish(await self.begin(mode), held=held)

    async def begin(self, mode: Mode, *, absent: bool = False, timeout: float = 0.0) -> Begun:
        return await self.way.begin(partial(self.place.begin, self.is_good, absent=absent, mode=mode), timeout)

    async def finish(self, begun: Begun, *, held: bool) -> T:
        if begun.creation is None:
            return self.value_of(begun.entry)
        # Not what was found before: what was removed meanwhile must not come back in place of an exception.
        old = None if begun.entry is None or self.is_hidden(begun.entry) else begun.entry
        return await self.create_and_store(begun.creation, old, held=held)

    async def create_and_store(self, creation: Creation, old: CachedValue | None, *, held: bool) -> T:
        cost: float | None = None
        begun = self.timer()
        try:
            value: T = await create_with(old, self.way, self.create)
            cost = seconds = max(0.0, self.timer() - begun)
            if type(value) is Failed:
                self.tally.failed(seconds)
            else:
                self.tally.created(seconds)
            await self.way.store(partial(self.place.store, creation, value, seconds), self.place)
        except BaseException as err:
            self.tally.failed(max(0.0, self.timer() - begun) if cost is None else None)
            intact = await self.way.abandon(creation, err)
            if not isinstance(err, Exception):
                raise
            if held and intact and self.failures is not None:
                self.way.lock.fail(err, self.place.origin)
            if cost is not None:
                raise
            return self.value_or_raise(old, err)
        return value

    # What those ask that wait for a lock

    def is_settled(self) -> bool:
        current = self.reread()
        if current is not None and self.is_fresh(current):
            self.found = current
        else:
            self.error = self.shared_error()
        return self.found is not None or self.error is not None

    def takes(self, passed: Passed) -> bool:
        # What was stored after this call began is what it would read now.
        if passed.number > self.passing and passed.origin == self.place.origin and self.is_good(passed.entry):
            self.found = passed.copy()
        return self.found is not None

    def takes_unkept(self) -> bool:
        """Whether the holder passed on a value that no read finds."""
        passed = None if self.way.front is None else self.way.front.passed
        return passed is not None and isinstance(passed.entry, Unkept) and self.takes(passed)

    def shared_error(self) -> BaseException | None:
        lock = self.way.lock
        if self.failures is None or lock.failures == self.failures or lock.failed != self.place.origin:
            return None
        error: BaseException | None = lock.error
        return error

    # What is known of an entry

    def reread(self) -> CachedValue | None:
        entry = self.place.read()
        return None if self.is_hidden(entry) else entry

    def is_hidden(self, entry: CachedValue | None) -> bool:
        return entry is not None and self.starttime is not None and entry.stored < self.starttime

    def is_fresh(self, entry: CachedValue) -> bool:
        return entry.is_fresh(self.clock(), self.starttime)

    def is_good(self, entry: CachedValue | None) -> bool:
        return entry is not None and self.is_fresh(entry) and entry.stored != self.early

    def may_return(self, old: CachedValue) -> bool:
        """Whether ``old`` may be returned while another call creates."""
        return self.early is not None or self.policy.serves(old, self.clock())

    def is_overdue(self, old: CachedValue) -> bool:
        return self.early is None and self.place.is_overdue(old)

    def value_or_raise(self, old: CachedValue | None, error: BaseException) -> T:
        """The old value in place of ``error``, where the policy says so; else raises ``error``."""
        if old is not None:
            if self.is_fresh(old):
                counters.count("early_refresh_failed")
                log.warning("early refresh of a cached value failed: %s", type(error).__name__)
                return self.value_of(old)
            if not isinstance(error, CreationAbortedError) and self.policy.covers_error(old, self.clock()):
                counters.count("stale_served")
                log.warning("an expired value is served, its creation failed: %s", type(error).__name__)
                return self.old_value(old)
        raise error

    def old_value(self, old: Any) -> T:
        """The value of an entry that was the old one when the call began: expired, unless the refresh is early."""
        if self.early is None:
            self.tally.served_stale()
        return self.value_of(old)

    @staticmethod
    def value_of(entry: Any) -> T:
        value: T = entry.value
        return value
