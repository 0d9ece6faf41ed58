"""One key of a namespace: its current value, and the dogpile algorithm when there is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from types import NoneType
from typing import Any, TypeVar

from beaker._typing import MISSING, MissingType
from beaker.caching.dogpile import Terms, aget_or_create, get_or_create
from beaker.caching.entry import Entry, FailedEntry, check_reusable
from beaker.caching.lifetime import Lifetime, lifetime
from beaker.caching.marks import Creation
from beaker.caching.namespace import NamespaceManager
from beaker.caching.negative import Failed
from beaker.caching.place import Began, KeyPlace, OldValue, PresentValue
from beaker.caching.said import DO_NOT_KEEP
from beaker.caching.sliding import renew, slid
from beaker.caching.storeless import Storeless
from beaker.caching.storing import Storing
from beaker.caching.timeouts import Outcome
from beaker.caching.unwritten import leaves_doubt
from beaker.caching.ways import InLoop, InThread, Way, run
from beaker.exceptions import StoreUnavailable
from beaker.locking.factories import CreationLock, NullLock, PollingLock, ThreadLocks
from beaker.locking.foreign import ForeignLock
from beaker.loops.hops import in_thread

__all__ = ["Value", "current_entry"]


T = TypeVar("T")


def current_entry(namespace: NamespaceManager, key: str, starttime: float | None = None) -> Entry | None:
    """The entry of ``key`` if it has not expired and was not stored before ``starttime``; one read."""
    entry = namespace.read(key)
    return entry if entry is not None and entry.is_fresh(namespace.clock(), starttime) else None


_fronts = ThreadLocks()
"""For the coroutines of this process, before locks of third parties."""


class Value(Storing, Storeless):
    """One key of a namespace, with expiry and creation (manual 5.1.2).

    * ``key``, ``namespace``: the key, and the manager that keeps it.
    * ``createfunc``: creates the value; called without arguments. ``None``: the value is only read.
    * ``expiretime``: seconds for which a value created or set here is valid, ``None`` for ever, or a
      function of the value that returns them. A stored value keeps its own.
    * ``starttime``: values stored before this time (seconds since the epoch) count as absent.

    It keeps nothing between two calls, so threads may share it.
    """

    def __init__(
        self,
        key: str,
        namespace: NamespaceManager,
        createfunc: Callable[[], Any] | None = None,
        expiretime: Lifetime = None,
        starttime: float | None = None,
    ) -> None:
        self.key = key
        self.namespace = namespace
        self.createfunc = createfunc
        self.expiretime = expiretime
        self.starttime = starttime

    def has_value(self) -> bool:
        """Whether a value is stored, expired or not."""
        return not isinstance(self.namespace.read(self.key), (FailedEntry, NoneType))

    def current_entry(self) -> Entry | None:
        """The stored value with its stamps, unless it has expired."""
        return current_entry(self.namespace, self.key, self.starttime)

    def has_current_value(self) -> bool:
        """Whether a value is stored that has not expired."""
        return self.current_entry() is not None

    def can_have_value(self) -> bool:
        """Whether :meth:`get_value` has something to return."""
        return self.createfunc is not None or self.has_current_value()

    def get_value(self) -> Any:
        """The value, created by ``createfunc`` when there is no current one.

        One caller creates it while other callers wait or get the old one. KeyError when there is no current
        value and no ``createfunc``. What ``createfunc`` raises reaches the caller; the old value stays.
        """
        if self.createfunc is not None:
            return self.get_or_create(self.createfunc)
        entry = self.counted_entry()
        if entry is None:
            raise KeyError(self.key)
        return entry.value

    def counted_entry(self) -> Entry | None:
        """:meth:`current_entry` for a call that is counted."""
        entry, tally = self.current_entry(), self.namespace.tally
        if entry is None:
            tally.missed()
        else:
            tally.hits += 1
            self._renew(entry)
        return entry

    def _renew(self, entry: Entry) -> None:
        if self.namespace.sliding is not None:
            renew(self.namespace, self.key, entry)

    async def acounted_entry(self) -> Entry | None:
        """:meth:`counted_entry` for an event loop."""
        manager = self.namespace
        if not manager.blocks:
            return self.counted_entry()
        entry = manager.peek(self.key)
        if entry is None or manager.sliding is not None or not entry.is_fresh(manager.clock(), self.starttime):
            return await in_thread(self.counted_entry)
        manager.tally.hits += 1
        return entry

    def get_or_create(self, create: Callable[[], Any], found: Entry | MissingType | None = MISSING) -> Any:
        """The current value, or what ``create()`` returns, stored for ``expiretime`` seconds.

        ``found`` is what a read a moment ago returned; it saves that read. The expiry policy and
        ``lock_timeout`` are the manager's. See :func:`beaker.caching.dogpile.get_or_create` for who
        creates and what is raised. When the store or its locks cannot be asked, ``create`` runs and its value is
        returned, once in this process at a time, unless the manager's ``on_unavailable`` is ``raise``.
        """
        try:
            entry = self.namespace.read(self.key) if found is MISSING else found
        except StoreUnavailable as err:
            return self.create_unread(err, create)
        place = KeyPlace(self)
        seen, limits = None if entry is None else place.seen(entry), self.namespace.timeouts
        if seen is not None and self._is_sliding(seen):
            renew(self.namespace, self.key, seen)
        if limits is None or self._is_found(seen):
            return self._take(place, create, seen)
        fallback = OldValue(place, self._terms())

        def work(outcome: Outcome) -> Any:
            return self._take(place, create, seen, outcome)

        return _result(limits.run(place.origin, work, fallback.may_return(seen), fallback))

    def _take(
        self, place: KeyPlace, create: Callable[[], Any], seen: Entry | None, outcome: Outcome | None = None
    ) -> Any:
        begun = Began(create if self.namespace.negative is None else self.catching(create))
        try:
            return _result(get_or_create(place, begun, self._lock, terms=self._terms(outcome), found=seen))
        except StoreUnavailable as err:
            begun.tolerate(self.namespace, err)
        return self._create_without_store(create)

    def _is_sliding(self, seen: Entry) -> bool:
        manager = self.namespace
        return manager.sliding is not None and seen.is_fresh(manager.clock(), self.starttime)

    def _is_found(self, seen: Entry | None) -> bool:
        manager = self.namespace
        return seen is not None and not manager.freshness.early and seen.is_fresh(manager.clock(), self.starttime)

    async def aget_or_create(self, create: Callable[[], Any], found: Entry | MissingType | None = MISSING) -> Any:
        """:meth:`get_or_create` for an event loop; ``create()`` returns an awaitable, or the value."""
        try:
            entry = await self._read_in_loop() if found is MISSING else found
        except StoreUnavailable as err:
            self._unread(err)
            return await self.acreate_without_store(create)
        place = KeyPlace(self)
        seen, limits = place.seen(entry), self.namespace.timeouts
        if seen is not None and self._is_sliding(seen):
            await self._off(partial(renew, self.namespace, self.key, seen))
        if limits is None or self._is_found(seen):
            return await self._atake(place, create, seen)
        fallback = OldValue(place, self._terms())

        def work(outcome: Outcome) -> Awaitable[Any]:
            return self._atake(place, create, seen, outcome)

        return _result(await limits.arun(place.origin, work, fallback.may_return(seen), fallback, self._off))

    async def _atake(
        self, place: KeyPlace, create: Callable[[], Any], seen: Entry | None, outcome: Outcome | None = None
    ) -> Any:
        begun = Began(self.catching(create, loops=True))
        try:
            return _result(await aget_or_create(place, begun, self._in_loop, self._terms(outcome), seen))
        except StoreUnavailable as err:
            begun.tolerate(self.namespace, err)
        return await self._acreate_without_store(create)

    async def _read_in_loop(self) -> Entry | None:
        manager = self.namespace
        found = manager.peek(self.key) if manager.blocks else None
        return found or await self._off(partial(manager.read, self.key))

    async def _off(self, work: Callable[[], T]) -> T:
        return await in_thread(work) if self.namespace.blocks else work()

    def _terms(self, outcome: Outcome | None = None) -> Terms:
        manager = self.namespace
        limit, limits = manager.lock_timeout, manager.timeouts
        if outcome is not None and limits is not None and limits.hard is not None:
            limit = min(limit, limits.hard)
        return Terms(
            manager.clock,
            manager.patience.timer,
            self.starttime,
            limit,
            manager.freshness,
            tally=manager.tally,
            has_left=None if outcome is None else outcome.has_left,
        )

    def refresh(self, create: Callable[[], Any]) -> Any:
        """What ``create()`` returns now, stored in place of what is there. When it raises, that stays.

        Creations that began before are voided. When the value is written or removed before this one ends, the result
        is returned and not stored. With timeouts, the old value is returned or CreationTimeout raised while it goes on.
        """
        limits, work = self.namespace.timeouts, partial(self._refresh_here, create)
        if limits is None:
            return _result(work())
        fallback = PresentValue(KeyPlace(self), self._terms())
        has_old = limits.soft is not None and fallback.stale() is not None
        return _result(limits.run(fallback.origin, lambda outcome: work(), has_old, fallback))

    def _refresh_here(self, create: Callable[[], Any]) -> Any:
        way = InThread(NullLock())
        return run(way, self._refresh(way, self.catching(create)))

    async def arefresh(self, create: Callable[[], Any]) -> Any:
        """:meth:`refresh` for an event loop."""
        limits, work = self.namespace.timeouts, partial(self._arefresh_here, create)
        if limits is None:
            return _result(await work())
        fallback = PresentValue(KeyPlace(self), self._terms())
        has_old = limits.soft is not None and await self._off(fallback.stale) is not None
        return _result(await limits.arun(fallback.origin, lambda outcome: work(), has_old, fallback, self._off))

    async def _arefresh_here(self, create: Callable[[], Any]) -> Any:
        way = InLoop(NullLock(), self._front, blocks=self.namespace.blocks)
        return await self._refresh(way, self.catching(create, loops=True))

    async def _refresh(self, way: Way, create: Callable[[], Any]) -> Any:
        manager = self.namespace
        begun = await way.begin(lambda: manager.restart(self.key))
        creation: Any = begun.creation
        old = None if isinstance(begun.entry, FailedEntry) else begun.entry
        if old is not None and self.starttime is not None and old.stored < self.starttime:
            old = None
        try:
            value, cost = await self._timed(way, create, old)
            await way.call(lambda: self._store_anew(creation, value, cost))
        except BaseException as err:
            await way.abandon(creation, err)
            raise
        return value

    def _store_anew(self, creation: Creation, value: Any, cost: float) -> None:
        # What could not be stored was to take the old value's place.
        try:
            self.store(creation, value, cost)
        except BaseException as err:
            if leaves_doubt(err):
                self.namespace.note_unwritten(self.key)
            raise

    def set_value(self, value: Any, storedtime: float | None = None) -> None:
        """Store ``value``, as if at ``storedtime`` (seconds since the epoch; default now).

        UnserializableValue for what the store cannot hold, and for what can be used once only; ValueTooLarge.
        """
        check_reusable(value)
        life = lifetime(self.expiretime, value)
        if life is DO_NOT_KEEP:
            self.clear_value()
            return
        stored = self._now() if storedtime is None else storedtime
        self.namespace.write(self.key, slid(self.namespace, Entry(value, stored, life)))

    def clear_value(self) -> None:
        """Remove the value if it is there."""
        self.namespace.discard(self.key)

    def _lock(self) -> Any:
        lock: Any = self.namespace.get_creation_lock(self.key)
        return lock if isinstance(lock, (CreationLock, PollingLock, NullLock)) else ForeignLock(lock)

    def _front(self) -> CreationLock:
        return _fronts.creation(f"{type(self.namespace).__qualname__}\0{self.namespace.namespace}", self.key)

    def _in_loop(self) -> InLoop:
        return InLoop(self._lock(), self._front, blocks=self.namespace.blocks)


def _result(value: Any) -> Any:
    if type(value) is not Failed:
        return value
    error = value.error
    try:
        raise error
    finally:
        # Its traceback refers to this frame, which would keep it.
        del error, value
