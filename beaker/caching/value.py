"""The dogpile algorithm on a manager: one creator per key, however the manager locks and stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beaker._typing import MISSING, MissingType
from beaker.caching.dogpile import get_or_create
from beaker.caching.entry import Entry
from beaker.caching.namespace import NamespaceManager
from beaker.locking.factories import CreationLock, PollingLock, poll

__all__ = ["obtain", "recreate"]


def obtain(
    namespace: NamespaceManager,
    key: str,
    createfunc: Callable[[], Any],
    expiretime: float | None = None,
    starttime: float | None = None,
    found: Entry | MissingType | None = MISSING,
) -> Any:
    """The current value of ``key``, or what ``createfunc()`` makes, stored for ``expiretime`` seconds.

    ``found`` is what a read a moment ago answered; it saves that read. Expiry policy and ``lock_timeout``
    are the manager's; see :func:`beaker.caching.dogpile.get_or_create` for who creates and what is raised.
    """
    call = _Call(namespace, key, createfunc, expiretime, found)
    return get_or_create(
        call.read,
        call.write,
        call.create,
        call.lock,
        clock=namespace.clock,
        starttime=starttime,
        lock_timeout=namespace.lock_timeout,
        policy=namespace.freshness,
    )


def recreate(
    namespace: NamespaceManager, key: str, createfunc: Callable[[], Any], expiretime: float | None = None
) -> Any:
    """What ``createfunc()`` makes now, stored in place of whatever is there."""
    call = _Call(namespace, key, createfunc, expiretime, None)
    value = call.create()
    call.write(value)
    return value


class _Call:
    __slots__ = ("cost", "createfunc", "expiretime", "found", "key", "namespace")

    def __init__(
        self,
        namespace: NamespaceManager,
        key: str,
        createfunc: Callable[[], Any],
        expiretime: float | None,
        found: Entry | MissingType | None,
    ) -> None:
        self.namespace = namespace
        self.key = key
        self.createfunc = createfunc
        self.expiretime = expiretime
        self.found = found
        self.cost = 0.0

    def read(self) -> Entry | None:
        found, self.found = self.found, MISSING
        return self.namespace.read(self.key) if found is MISSING else found

    def create(self) -> Any:
        clock = self.namespace.clock
        begun = clock()
        value = self.createfunc()
        self.cost = max(0.0, clock() - begun)
        return value

    def write(self, value: Any) -> None:
        expiretime = self.namespace.freshness.jittered(self.expiretime)
        self.namespace.write(self.key, Entry(value, self.namespace.clock(), expiretime, self.cost))

    def lock(self) -> Any:
        lock: Any = self.namespace.get_creation_lock(self.key)
        return lock if isinstance(lock, (CreationLock, PollingLock)) else _Foreign(lock)


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
