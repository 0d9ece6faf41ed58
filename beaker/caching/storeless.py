"""A value without a store: created where none can be asked, and returned."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from beaker.caching.entry import Entry, check_reusable
from beaker.caching.namespace import NamespaceManager
from beaker.caching.negative import Failed
from beaker.caching.outage import Flight
from beaker.caching.place import KeyPlace, NoValue
from beaker.caching.previous import create_with
from beaker.caching.ways import InLoop, InThread, Way, run
from beaker.exceptions import StoreUnavailable, UnserializableValue
from beaker.locking.factories import CreationLock

__all__ = ["Storeless", "check"]


class Storeless:
    """What :class:`~beaker.caching.value.Value` does when its store cannot be asked."""

    key: str
    namespace: NamespaceManager

    def create_unread(self, err: StoreUnavailable, create: Callable[[], Any]) -> Any:
        """:meth:`create_without_store` where reading raised ``err``, if ``on_unavailable`` allows it."""
        self._unread(err)
        return self.create_without_store(create)

    def _unread(self, err: StoreUnavailable) -> None:
        self.namespace.tally.missed()
        self.namespace.tolerate(err)

    def create_without_store(self, create: Callable[[], Any]) -> Any:
        """What ``create()`` returns, or another call's at the same time, kept nowhere."""
        limits = self.namespace.timeouts
        if limits is None:
            return self._create_without_store(create)
        place = KeyPlace(self)
        return limits.run(place.origin, lambda outcome: self._create_without_store(create), False, NoValue())

    def _create_without_store(self, create: Callable[[], Any]) -> Any:
        flight = self.namespace.flight(self.key)
        way = InThread(flight.lock)
        return run(way, self._fly(flight, way, create))

    async def acreate_without_store(self, create: Callable[[], Any]) -> Any:
        """:meth:`create_without_store` for an event loop."""
        limits = self.namespace.timeouts
        if limits is None:
            return await self._acreate_without_store(create)
        work = partial(self._acreate_without_store, create)
        return await limits.arun(KeyPlace(self).origin, lambda outcome: work(), False, NoValue(), _here)

    async def _acreate_without_store(self, create: Callable[[], Any]) -> Any:
        flight = self.namespace.flight(self.key)
        return await self._fly(flight, InLoop(flight.lock, self._front, blocks=False), create)

    async def _fly(self, flight: Flight, way: Way, create: Callable[[], Any]) -> Any:
        manager = self.namespace

        async def reusable() -> Any:
            value, _ = await self._timed(way, create)
            check(value)
            return value

        def share(value: Any) -> Callable[[], Any]:
            return manager.sharing(self.key, value) or (lambda: value)

        return await flight.create(way, reusable, share, manager.lock_timeout)

    async def _timed(self, way: Way, create: Callable[[], Any], old: Entry | None = None) -> tuple[Any, float]:
        """What ``create()`` returns in place of ``old``, and the seconds it took, which are counted."""
        timer, tally = self.namespace.patience.timer, self.namespace.tally
        begun = timer()
        try:
            value = await create_with(old, way, create)
        except BaseException:
            tally.failed(max(0.0, timer() - begun))
            raise
        cost = max(0.0, timer() - begun)
        if type(value) is Failed:
            tally.failed(cost)
        else:
            tally.created(cost)
        return value, cost

    if TYPE_CHECKING:

        def _front(self) -> CreationLock: ...


async def _here(work: Callable[[], Any]) -> Any:
    return work()


def check(value: Any) -> None:
    """UnserializableValue for what can be used once only."""
    try:
        check_reusable(value)
    except UnserializableValue:
        if inspect.iscoroutine(value):
            value.close()  # or Python warns, too, that it was never awaited
        raise
