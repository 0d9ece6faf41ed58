"""Cached coroutine functions: what the decorators return for ``async def``.

They find their cache and name their calls like any :class:`CachedFunction`; what may wait is awaited.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from importlib import import_module
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from beaker.caching.async_cache import off
from beaker.caching.decorated import CachedClassMethod, CachedFunction, CachedMethod, CachedStaticMethod
from beaker.caching.settings import named
from beaker.exceptions import UnserializableValue

__all__ = [
    "AsyncCachedClassMethod",
    "AsyncCachedFunction",
    "AsyncCachedMethod",
    "AsyncCachedStaticMethod",
]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
D = TypeVar("D")


class AsyncCachedFunction(CachedFunction[P, Coroutine[Any, Any, R]], Generic[P, R]):
    """A coroutine function whose results are kept; awaited, inspected and pickled like the function.

    One call creates, in the event loop; other calls of this process wait for it there, each ``lock_timeout`` seconds at
    most, or get the old value. A creator that is cancelled hands over to one that waits. Stores that block are called
    in worker threads.
    """

    def __init__(self, function: Callable[..., Coroutine[Any, Any, R]], *args: Any, **kwargs: Any) -> None:
        super().__init__(function, *args, **kwargs)
        _mark(self)

    async def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        settings, bound = self.settings, self._bound
        options = settings.registry.get(settings.name)
        if bound is None or bound.options is not options or options.get("enabled", True) is not True:
            if not settings.enabled():
                return await self.original(*args, **kwargs)
            bound = self._bind()
        elif bound.snapshot != options:
            bound = self._bind()
        key = self._key(bound, args, kwargs)
        if bound.direct and self._tags is None and not bound.cache.namespace.blocks:
            # What is near is found without any more coroutines; what is not is read once more.
            entry = bound.read(key)
            if entry is not None and entry.stored >= settings.switch.since and entry.is_fresh(bound.clock()):
                bound.tally.hits += 1
                result: R = entry.value
                return result
        return await self._acreate(self._value(bound, key, args, kwargs).aget_or_create, args, kwargs)

    async def _acreate(
        self, take: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> R:
        try:
            return cast("R", await take(partial(self.original, *args, **kwargs)))
        except UnserializableValue as err:
            raise named(err, f"the result of {self.__qualname__}") from err.__cause__

    @overload  # type: ignore[override]
    async def get(self, *args: P.args, **kwargs: P.kwargs) -> R | None: ...
    @overload
    async def get(self, *args: Any, default: D, **kwargs: Any) -> R | D: ...
    async def get(self, *args: Any, **kwargs: Any) -> Any:
        """:meth:`CachedFunction.get`, to be awaited."""
        default, place = self._kept(args, kwargs)
        entry = None if place is None else await place.acounted_entry()
        return default if entry is None else entry.value

    async def set(self, value: R, /, *args: P.args, **kwargs: P.kwargs) -> None:  # type: ignore[override]
        """:meth:`CachedFunction.set`, to be awaited."""
        if self.settings.enabled():
            bound = self._bind()
            place = self._value(bound, self._key(bound, args, kwargs), args, kwargs)
            await off(place.namespace, partial(place.set_value, value))

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """:meth:`CachedFunction.refresh`, to be awaited."""
        if not self.settings.enabled():
            return await self.original(*args, **kwargs)
        bound = self._bind()
        return await self._acreate(
            self._value(bound, self._key(bound, args, kwargs), args, kwargs).arefresh, args, kwargs
        )

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:  # type: ignore[override]
        """:meth:`CachedFunction.invalidate`, to be awaited."""
        bound = self._bind()
        manager = bound.cache.namespace
        await off(manager, partial(manager.discard, self._key(bound, args, kwargs)))

    async def invalidate_all(self) -> None:  # type: ignore[override]
        """:meth:`CachedFunction.invalidate_all`, to be awaited."""
        cache = self._bind().cache
        await off(cache.namespace, cache.clear)

    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], Coroutine[Any, Any, R]], instance: None, owner: type[S]
    ) -> AsyncCachedFunction[Concatenate[S, Q], R]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], Coroutine[Any, Any, R]], instance: Any, owner: S
    ) -> AsyncCachedMethod[Q, R]: ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], Coroutine[Any, Any, R]], instance: S, owner: type | None = None
    ) -> AsyncCachedMethod[Q, R]: ...
    @overload
    def __get__(self, instance: Any, owner: type | None = None) -> AsyncCachedFunction[P, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else AsyncCachedMethod(self, instance)


class AsyncCachedStaticMethod(AsyncCachedFunction[P, R], CachedStaticMethod[P, Coroutine[Any, Any, R]]):
    """An async cached function above ``@staticmethod``."""

    def __get__(self, instance: Any, owner: type | None = None) -> AsyncCachedStaticMethod[P, R]:  # type: ignore[override]
        return self


class AsyncCachedClassMethod(AsyncCachedFunction[P, R], CachedClassMethod[P, Coroutine[Any, Any, R]]):
    """An async cached function above ``@classmethod``."""

    def __get__(self, instance: Any, owner: type | None = None) -> AsyncCachedMethod[P, R]:  # type: ignore[override]
        return AsyncCachedMethod(self, type(instance) if owner is None else owner)


class AsyncCachedMethod(CachedMethod[P, Coroutine[Any, Any, R]], Generic[P, R]):
    # An async cached function bound to an instance or a class, like a bound method; so is its docstring.

    __slots__ = ()

    @overload  # type: ignore[override]
    async def get(self, *args: P.args, **kwargs: P.kwargs) -> R | None: ...
    @overload
    async def get(self, *args: Any, default: D, **kwargs: Any) -> R | D: ...
    async def get(self, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`AsyncCachedFunction.get`."""
        return await cast(Any, self.__func__).get(self.__self__, *args, **kwargs)

    async def set(self, value: R, /, *args: P.args, **kwargs: P.kwargs) -> None:  # type: ignore[override]
        """See :meth:`AsyncCachedFunction.set`."""
        await cast(Any, self.__func__).set(value, self.__self__, *args, **kwargs)

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """See :meth:`AsyncCachedFunction.refresh`."""
        return await self.__func__.refresh(self.__self__, *args, **kwargs)

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:  # type: ignore[override]
        """See :meth:`AsyncCachedFunction.invalidate`."""
        await cast(Any, self.__func__).invalidate(self.__self__, *args, **kwargs)

    async def invalidate_all(self) -> None:  # type: ignore[override]
        """See :meth:`AsyncCachedFunction.invalidate_all`: those of other instances too."""
        await cast(Any, self.__func__).invalidate_all()


def _mark(function: Any) -> None:
    # Frameworks ask whether to await what a function returns.
    mark = getattr(inspect, "markcoroutinefunction", None)
    if mark is not None:
        mark(function)
    else:
        function._is_coroutine = import_module("asyncio.coroutines")._is_coroutine
