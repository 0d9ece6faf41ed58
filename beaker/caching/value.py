"""One key of a namespace: its current value, and the dogpile algorithm when there is none."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from beaker import counters
from beaker._typing import MISSING, MissingType
from beaker.caching.dogpile import get_or_create
from beaker.caching.entry import Entry, check_reusable
from beaker.caching.marks import Begun, Creation, Good, Mode
from beaker.caching.namespace import NamespaceManager
from beaker.exceptions import BeakerWarning, StoreUnavailable, UnserializableValue, ValueTooLarge, warn
from beaker.locking.factories import CreationLock, PollingLock, poll

__all__ = ["Value", "current_entry"]


_TICK = 0.001
"""Seconds within which two times may be the same to a coarse clock."""


def current_entry(namespace: NamespaceManager, key: str, starttime: float | None = None) -> Entry | None:
    """The entry of ``key`` if it has not expired and was not stored before ``starttime``; one read."""
    entry = namespace.read(key)
    return entry if entry is not None and entry.is_fresh(namespace.clock(), starttime) else None


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
        entry = self.current_entry()
        if entry is None:
            self.namespace.tally.missed()
            raise KeyError(self.key)
        self.namespace.tally.hits += 1
        return entry.value

    def get_or_create(self, create: Callable[[], Any], found: Entry | MissingType | None = MISSING) -> Any:
        """The current value, or what ``create()`` returns, stored for ``expiretime`` seconds.

        ``found`` is what a read a moment ago returned; it saves that read. The expiry policy and
        ``lock_timeout`` are the manager's. See :func:`beaker.caching.dogpile.get_or_create` for who
        creates and what is raised. When the store or its locks cannot be asked, ``create`` runs and its value is
        returned, once in this process at a time, unless the manager's ``on_unavailable`` is ``raise``.
        """
        begun = False

        def run() -> Any:
            nonlocal begun
            begun = True
            return create()

        try:
            entry = self.namespace.read(self.key) if found is MISSING else found
        except StoreUnavailable as err:
            return self.create_unread(err, create)
        try:
            return self._get_or_create(run, entry)
        except StoreUnavailable as err:
            # What the function itself raised is the caller's, as is the failure of a store it used.
            if begun:
                raise
            self.namespace.tolerate(err)
        return self.create_without_store(create)

    def create_unread(self, err: StoreUnavailable, create: Callable[[], Any]) -> Any:
        """:meth:`create_without_store` where reading raised ``err``, if ``on_unavailable`` allows it."""
        self.namespace.tally.missed()
        self.namespace.tolerate(err)
        return self.create_without_store(create)

    def create_without_store(self, create: Callable[[], Any]) -> Any:
        """What ``create()`` returns, or another thread's at the same time, kept nowhere."""
        manager = self.namespace

        def reusable() -> Any:
            value = self._timed(create)[0]
            _check(value)
            return value

        return manager.flight(self.key).create(
            reusable, lambda value: manager.sharing(self.key, value), manager.lock_timeout
        )

    def _get_or_create(self, create: Callable[[], Any], found: Entry | None) -> Any:
        manager = self.namespace
        return get_or_create(
            _Place(self),
            create,
            self._lock,
            found=found,
            clock=manager.clock,
            timer=manager.patience.timer,
            starttime=self.starttime,
            lock_timeout=manager.lock_timeout,
            policy=manager.freshness,
            tally=manager.tally,
        )

    def _timed(self, create: Callable[[], Any]) -> tuple[Any, float]:
        """What ``create()`` returns, and the seconds it took, which are counted."""
        timer, tally = self.namespace.patience.timer, self.namespace.tally
        begun = timer()
        try:
            value = create()
        except BaseException:
            tally.failed(max(0.0, timer() - begun))
            raise
        cost = max(0.0, timer() - begun)
        tally.created(cost)
        return value, cost

    def refresh(self, create: Callable[[], Any]) -> Any:
        """What ``create()`` returns now, stored in place of what is there. When it raises, that stays.

        Creations that began before are voided. When the value is written or removed before this one ends, the result
        is returned and not stored.
        """
        creation = self.namespace.restart(self.key)
        try:
            value, cost = self._timed(create)
            self.store(creation, value, cost)
        except BaseException:
            creation.abandon()
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

    def store_if_possible(self, creation: Creation, value: Any, cost: float) -> None:
        """:meth:`store`; where ``on_unavailable`` allows it, a store that does not respond is noted and not raised."""
        try:
            self.store(creation, value, cost)
        except StoreUnavailable as err:
            creation.abandon()
            self.namespace.tolerate(err)

    def store(self, creation: Creation, value: Any, cost: float) -> None:
        """Store what ``creation`` created in ``cost`` seconds, unless it was voided.

        A value over the store's limit is not kept, which is warned of once.
        """
        _check(value)
        manager = self.namespace
        entry = Entry(value, self._now(), manager.freshness.jittered(self.expiretime), cost)
        try:
            creation.store(entry)
        except ValueTooLarge as err:
            # What it was to replace must not be taken for it.
            creation.abandon(drop=True)
            counters.count("cache_too_large", err.backend)
            if not manager.warned_too_large:
                manager.warned_too_large = True
                warn(BeakerWarning(f"a result of {manager.namespace!r} is computed by each call: {err}", code=err.code))

    def _now(self) -> float:
        # A clock that stands still must not make a value that is stored now one from before `starttime`.
        now, start = self.namespace.clock(), self.starttime
        return start if start is not None and 0 < start - now < _TICK else now

    def _lock(self) -> Any:
        lock: Any = self.namespace.get_creation_lock(self.key)
        return lock if isinstance(lock, (CreationLock, PollingLock)) else _Foreign(lock)


def _check(value: Any) -> None:
    try:
        check_reusable(value)
    except UnserializableValue:
        if inspect.iscoroutine(value):
            value.close()  # or Python warns, too, that it was never awaited
        raise


class _Place:
    """A :class:`Value` as :func:`~beaker.caching.dogpile.get_or_create` sees it."""

    __slots__ = ("key", "manager", "store")

    def __init__(self, value: Value) -> None:
        self.key = value.key
        self.manager = value.namespace
        self.store = value.store_if_possible

    def read(self) -> Entry | None:
        return self.manager.read(self.key)

    def begin(self, good: Good, *, absent: bool, mode: Mode) -> Begun:
        return self.manager.begin(self.key, good, absent=absent, mode=mode)

    def is_taken(self, entry: Any) -> bool:
        return self.manager.is_taken(entry)

    def is_overdue(self, entry: Any) -> bool:
        manager = self.manager
        return manager.patience.ended(self.key, entry.stored, manager.lock_timeout)


class _Foreign:
    """A third party's lock, which knows ``wait`` but no timeout: a synchronizer or anything with ``acquire``."""

    poll_interval = 0.05

    def __init__(self, lock: Any) -> None:
        writer = hasattr(lock, "acquire_write_lock")
        self._try: Callable[[bool], Any] = lock.acquire_write_lock if writer else lock.acquire
        self._give_up: Callable[[], Any] = lock.release_write_lock if writer else lock.release

    def _attempt(self) -> bool:
        return self._try(False) is not False

    def acquire(self, wait: bool = True, timeout: float = -1, /) -> bool:
        return poll(self._attempt, timeout=timeout, ceiling=self.poll_interval) if wait else self._attempt()

    def acquire_unless(self, done: Callable[[], bool], timeout: float = -1) -> bool:
        return poll(self._attempt, timeout=timeout, done=done, ceiling=self.poll_interval)

    def release(self) -> None:
        self._give_up()
