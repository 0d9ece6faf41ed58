"""What a cache does, to be awaited: the same operations under the prefix ``a``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from beaker.caching.lifetime import Lifetime
from beaker.caching.namespace import NamespaceManager
from beaker.loops.hops import in_thread

if TYPE_CHECKING:
    from beaker.caching.value import Value

__all__ = ["AsyncForms", "off"]

T = TypeVar("T")


async def off(manager: NamespaceManager, work: Callable[[], T]) -> T:
    """``work()``, which asks the store of ``manager``: in a worker thread where that may block."""
    return await in_thread(work) if manager.blocks else work()


class AsyncForms:
    """The operations of :class:`~beaker.cache.Cache` for event loops; they take and raise the same."""

    namespace: NamespaceManager

    async def aget(self, key: Any, *, createfunc: Any = None, **kw: Any) -> Any:
        """:meth:`Cache.get`, to be awaited. ``createfunc`` (no arguments) is called in the event loop and returns an
        awaitable, or the value if that takes no time."""
        value = self._value(key, kw, createfunc)
        if value.createfunc is not None:
            return await value.aget_or_create(value.createfunc)
        entry = await value.acounted_entry()
        if entry is None:
            raise KeyError(key)
        return entry.value

    async def aput(self, key: Any, value: Any, **kw: Any) -> None:
        """:meth:`Cache.put`, to be awaited."""
        place = self._value(key, kw)
        await off(place.namespace, partial(place.set_value, value))

    async def aremove_value(self, key: Any, **kw: Any) -> None:
        """:meth:`Cache.remove_value`, to be awaited."""
        value = self._value(key, kw)
        await off(value.namespace, value.clear_value)

    async def ahas_key(self, key: Any) -> bool:
        """:meth:`Cache.has_key`, to be awaited."""
        value = self._value(key, {})
        return await off(value.namespace, value.has_current_value)

    async def aclear(self) -> None:
        """:meth:`Cache.clear`, to be awaited."""
        await off(self.namespace, self.clear)

    async def akeys(self) -> list[Any]:
        """:meth:`Cache.keys`, to be awaited."""
        return await off(self.namespace, self.keys)

    async def aget_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """:meth:`Cache.get_many`, to be awaited."""
        return await off(self.namespace, partial(self.get_many, list(keys)))

    async def aput_many(self, values: Mapping[Any, Any], *, expire: Lifetime = None, tags: Any = ()) -> None:
        """:meth:`Cache.put_many`, to be awaited."""
        await off(self.namespace, partial(self.put_many, values, expire=expire, tags=tags))

    async def aremove_many(self, keys: Iterable[Any]) -> None:
        """:meth:`Cache.remove_many`, to be awaited."""
        await off(self.namespace, partial(self.remove_many, list(keys)))

    aset_value = aput
    aget_value = aget
    aremove = aremove_value

    if TYPE_CHECKING:

        def _value(self, key: Any, kw: dict[str, Any], createfunc: Any = None) -> Value: ...
        def clear(self) -> None: ...
        def keys(self) -> list[Any]: ...
        def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]: ...
        def put_many(self, values: Mapping[Any, Any], *, expire: Lifetime = None, tags: Any = ()) -> None: ...
        def remove_many(self, keys: Iterable[Any]) -> None: ...
