"""One key of a namespace: its current value, and the dogpile algorithm when there is none."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from beaker import counters
from beaker._typing import MISSING, MissingType
from beaker.caching.dogpile import Terms, aget_or_create, get_or_create
from beaker.caching.entry import Entry, check_reusable
from beaker.caching.marks import Begun, Creation
from beaker.caching.namespace import NamespaceManager
from beaker.caching.outage import Flight
from beaker.caching.place import Began, KeyPlace
from beaker.caching.ways import InLoop, InThread, Way, run
from beaker.exceptions import BeakerWarning, StoreUnavailable, UnserializableValue, ValueTooLarge, warn
from beaker.locking.factories import CreationLock, NullLock, PollingLock, ThreadLocks
from beaker.locking.foreign import ForeignLock
from beaker.loops.hops import in_thread

__all__ = ["Value", "current_entry"]


_TICK = 0.001
"""Seconds within which two times may be the same to a coarse clock."""


def current_entry(namespace: NamespaceManager, key: str, starttime: float | None = None) -> Entry | None:
    """The entry of ``key`` if it has not expired and was not stored before ``starttime``; one read."""
    entry = namespace.read(key)
    return entry if entry is not None and entry.is_fresh(namespace.clock(), starttime) else None


_fronts = ThreadLocks()
"""For the coroutines of this process, before locks of third parties."""


class Value:
    """One key of a namespace, with expiry and creation (manual 5.1.2).

    * ``key``, ``namespace``: the key, and the manager that keeps it.
    * ``createfunc``: creates the value; called without arguments. ``None``: the value is only read.
    * ``expiretime``: seconds for which a value created or set here is valid, ``None`` for ever. A stored
      value keeps its own.
    * ``starttime``: values stored before this time (seconds since the epoch) count as absent.

    It keeps nothing between two calls, so threads may share it.
    """

    def __init__(
        self,
        key: str,
        namespace: NamespaceManager,
        createfunc: Callable[[], Any] | None = None,
        expiretime: float | None = None,
        starttime: float | None = None,
    ) -> None:
        self.key = key
        self.namespace = namespace
        self.createfunc = createfunc
        self.expiretime = expiretime
        self.starttime = starttime

    def has_value(self) -> bool:
        """Whether a value is stored, expired or not."""
        return self.namespace.read(self.key) is not None

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
        return entry

    def get_or_create(self, create: Callable[[], Any], found: Entry | MissingType | None = MISSING) -> Any:
        """The current value, or what ``create()`` returns, stored for ``expiretime`` seconds.

        ``found`` is what a read a moment ago returned; it saves that read. The expiry policy and
        ``lock_timeout`` are the manager's. See :func:`beaker.caching.dogpile.get_or_create` for who
        creates and what is raised. When the store or its locks cannot be asked, ``create`` runs and its value is
        returned, once in this process at a time, unless the manager's ``on_unavailable`` is ``raise``.
        """
        begun = Began(create)
        try:
            entry = self.namespace.read(self.key) if found is MISSING else found
        except StoreUnavailable as err:
            return self.create_unread(err, create)
        try:
            return get_or_create(KeyPlace(self), begun, self._lock, terms=self._terms(), found=entry)
        except StoreUnavailable as err:
            begun.tolerate(self.namespace, err)
        return self.create_without_store(create)

    async def aget_or_create(self, create: Callable[[], Any], found: Entry | MissingType | None = MISSING) -> Any:
        """:meth:`get_or_create` for an event loop; ``create()`` returns an awaitable, or the value."""
        begun = Began(create)
        try:
            entry = await self._read_in_loop() if found is MISSING else found
        except StoreUnavailable as err:
            self._unread(err)
            return await self.acreate_without_store(create)
        try:
            return await aget_or_create(KeyPlace(self), begun, self._in_loop, self._terms(), entry)
        except StoreUnavailable as err:
            begun.tolerate(self.namespace, err)
        return await self.acreate_without_store(create)

    async def _read_in_loop(self) -> Entry | None:
        manager = self.namespace
        return await in_thread(lambda: manager.read(self.key)) if manager.blocks else manager.read(self.key)

    def create_unread(self, err: StoreUnavailable, create: Callable[[], Any]) -> Any:
        """:meth:`create_without_store` where reading raised ``err``, if ``on_unavailable`` allows it."""
        self._unread(err)
        return self.create_without_store(create)

    def _unread(self, err: StoreUnavailable) -> None:
        self.namespace.tally.missed()
        self.namespace.tolerate(err)

    def create_without_store(self, create: Callable[[], Any]) -> Any:
        """What ``create()`` returns, or another call's at the same time, kept nowhere."""
        flight = self.namespace.flight(self.key)
        way = InThread(flight.lock)
        return run(way, self._fly(flight, way, create))

    async def acreate_without_store(self, create: Callable[[], Any]) -> Any:
        """:meth:`create_without_store` for an event loop."""
        flight = self.namespace.flight(self.key)
        return await self._fly(flight, InLoop(flight.lock, self._front, blocks=False), create)

    async def _fly(self, flight: Flight, way: Way, create: Callable[[], Any]) -> Any:
        manager = self.namespace

        async def reusable() -> Any:
            value, _ = await self._timed(way, create)
            _check(value)
            return value

        return await flight.create(way, reusable, lambda value: manager.sharing(self.key, value), manager.lock_timeout)

    async def _timed(self, way: Way, create: Callable[[], Any]) -> tuple[Any, float]:
        """What ``create()`` returns, and the seconds it took, which are counted."""
        timer, tally = self.namespace.patience.timer, self.namespace.tally
        begun = timer()
        try:
            value = await way.create(create)
        except BaseException:
            tally.failed(max(0.0, timer() - begun))
            raise
        cost = max(0.0, timer() - begun)
        tally.created(cost)
        return value, cost

    def _terms(self) -> Terms:
        manager = self.namespace
        return Terms(
            manager.clock,
            manager.patience.timer,
            self.starttime,
            manager.lock_timeout,
            manager.freshness,
            tally=manager.tally,
        )

    def refresh(self, create: Callable[[], Any]) -> Any:
        """What ``create()`` returns now, stored in place of what is there. When it raises, that stays.

        Creations that began before are voided. When the value is written or removed before this one ends, the result
        is returned and not stored.
        """
        way = InThread(NullLock())
        return run(way, self._refresh(way, create))

    async def arefresh(self, create: Callable[[], Any]) -> Any:
        """:meth:`refresh` for an event loop."""
        return await self._refresh(InLoop(NullLock(), self._front, blocks=self.namespace.blocks), create)

    async def _refresh(self, way: Way, create: Callable[[], Any]) -> Any:
        manager = self.namespace
        creation: Any = (await way.begin(lambda: Begun(None, manager.restart(self.key)))).creation
        try:
            value, cost = await self._timed(way, create)
            await way.call(lambda: self.store(creation, value, cost))
        except BaseException as err:
            await way.abandon(creation, err)
            raise
        return value

    def set_value(self, value: Any, storedtime: float | None = None) -> None:
        """Store ``value``, as if at ``storedtime`` (seconds since the epoch; default now).

        UnserializableValue for what the store cannot hold, and for what can be used once only; ValueTooLarge.
        """
        check_reusable(value)
        stored = self._now() if storedtime is None else storedtime
        self.namespace.write(self.key, Entry(value, stored, self.expiretime))

    def clear_value(self) -> None:
        """Remove the value if it is there."""
        self.namespace.discard(self.key)

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

        A value over the store's limit is not kept, which is warned of once.
        """
        _check(value)
        manager = self.namespace
        entry = Entry(value, self._now(), manager.freshness.jittered(self.expiretime), cost)
        try:
            if creation.store(entry):
                return entry
        except ValueTooLarge as err:
            # What it was to replace must not be taken for it.
            creation.abandon(drop=True)
            counters.count("cache_too_large", err.backend)
            if not manager.warned_too_large:
                manager.warned_too_large = True
                warn(BeakerWarning(f"a result of {manager.namespace!r} is computed by each call: {err}", code=err.code))
        return None

    def copies(self, entry: Entry) -> Callable[[], Entry]:
        """What returns copies of ``entry``, which was stored, as a read would."""
        copy = self.namespace.sharing(self.key, entry.value)
        return lambda: entry._replace(value=copy())

    def _now(self) -> float:
        # A clock that stands still must not make a value that is stored now one from before `starttime`.
        now, start = self.namespace.clock(), self.starttime
        return start if start is not None and 0 < start - now < _TICK else now

    def _lock(self) -> Any:
        lock: Any = self.namespace.get_creation_lock(self.key)
        return lock if isinstance(lock, (CreationLock, PollingLock, NullLock)) else ForeignLock(lock)

    def _front(self) -> CreationLock:
        return _fronts.creation(f"{type(self.namespace).__qualname__}\0{self.namespace.namespace}", self.key)

    def _in_loop(self) -> InLoop:
        return InLoop(self._lock(), self._front, blocks=self.namespace.blocks)


def _check(value: Any) -> None:
    try:
        check_reusable(value)
    except UnserializableValue:
        if inspect.iscoroutine(value):
            value.close()  # or Python warns, too, that it was never awaited
        raise
