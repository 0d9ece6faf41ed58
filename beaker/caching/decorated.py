"""Cached functions: what ``cache_region``, ``CacheManager.region`` and ``CacheManager.cache`` return.

::

    Decorator       what the decorator was given; applied to a function it returns a
    CachedFunction  its CallKey names each call, its Settings find the cache, a Value gets or creates the result
    CachedMethod    a cached function bound to an instance or a class
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from beaker.caching.cache import Cache
from beaker.caching.call_key import CallKey
from beaker.caching.entry import Entry
from beaker.caching.freshness import MAX_AHEAD
from beaker.caching.identity import namespace_of
from beaker.caching.settings import Binding, Settings, named
from beaker.caching.tags import Tags, TagsOf
from beaker.caching.value import Value
from beaker.counters import cache_tally
from beaker.exceptions import ConfigError, StoreUnavailable, UncacheableArgument, UnserializableValue
from beaker.keys import cache_key, positional_key

if TYPE_CHECKING:
    from beaker.counters import CacheStats

__all__ = ["CachedClassMethod", "CachedFunction", "CachedMethod", "CachedStaticMethod"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
D = TypeVar("D")
_CONSTANT = frozenset({str, int, bytes, bool, type(None)})


class CachedFunction(Generic[P, R]):
    """A function whose results are kept; called, inspected and pickled like the function.

    * ``original``: the function itself.
    * ``namespace``: the name its results are kept under: ``module:qualname``, and for a local function or a
      lambda a digest of what distinguishes it from others of that name.
    """

    def __init__(
        self,
        function: Callable[..., R],
        settings: Settings,
        deco_args: tuple[Any, ...] = (),
        *,
        ignore: Iterable[str] = (),
        key: Callable[..., Any] | str | None = None,
        version: object = None,
        tags: Tags = (),
    ) -> None:
        functools.update_wrapper(self, function)
        self.original = cast("Callable[P, R]", function)
        self.deco_args = deco_args
        self.settings = settings
        self.namespace = namespace_of(function) + ("" if version is None else f";version={version}")
        self.calls = CallKey(function, ignore, key)
        self._tags = TagsOf(self.calls, tags) if tags else None
        self._bound: Binding | None = None
        constant = _CONSTANT.issuperset(map(type, deco_args))
        self._prefix = None if not constant else cache_key(deco_args, key_length=sys.maxsize) if deco_args else ""
        """What every key begins with, where it is sure to stay."""

    # Calling

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        settings = self.settings
        bound = self._bound
        options = settings.registry.get(settings.name)
        if bound is None or bound.options is not options or options.get("enabled", True) is not True:
            if not settings.enabled():
                return self.original(*args, **kwargs)
            bound = self._bind()
        _, _, _, read, clock, limit, tally, direct, _ = bound
        prefix = self._prefix
        if kwargs or len(args) != self.calls.arity or not limit or prefix is None:
            key = self._key(bound, args, kwargs)
        else:
            try:
                key = positional_key(prefix, args, limit)
            except UncacheableArgument as err:
                raise self.calls.blamed(err, args, kwargs) from None
        if self._tags is not None or bound.depends:
            return self._call_stamped(bound, key, args, kwargs)
        try:
            entry = read(key)
        except StoreUnavailable as err:
            return self._create(
                functools.partial(self._value(bound, key, args, kwargs).create_unread, err), args, kwargs
            )
        if direct and entry is not None:
            value, stored, expiretime, _ = entry
            if stored >= settings.switch.since and (
                expiretime is None or stored - MAX_AHEAD <= clock() < stored + expiretime
            ):
                tally.hits += 1
                result: R = value
                return result
        if bound.snapshot != settings.options():
            # The region's options were changed in place since they were read.
            self._bound = None
            return self(*args, **kwargs)
        return self._create(self._value(bound, key, args, kwargs).get_or_create, args, kwargs, entry)

    def _call_stamped(self, bound: Binding, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> R:
        if bound.snapshot != self.settings.options():
            bound = self._bind()
            key = self._key(bound, args, kwargs)
        return self._create(self._value(bound, key, args, kwargs).get_or_create, args, kwargs)

    def _create(
        self, take: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], *found: Entry | None
    ) -> R:
        try:
            return cast("R", take(lambda: self.original(*args, **kwargs), *found))
        except UnserializableValue as err:
            raise named(err, f"the result of {self.__qualname__}") from err.__cause__

    def _bind(self) -> Binding:
        bound = self._bound = self.settings.bind(self.namespace, self._bound)
        return bound

    def _key(self, bound: Binding, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        try:
            if not kwargs and len(args) == self.calls.arity and bound.limit and self._prefix is not None:
                return positional_key(self._prefix, args, bound.limit)
            return bound.cache.call_key(self.deco_args + self.calls.flat(args, kwargs, strict=bound.cache.strict))
        except UncacheableArgument as err:
            raise self.calls.blamed(err, args, kwargs) from None

    def _value(self, bound: Binding, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Value:
        switch = self.settings.switch
        switch.off = False
        since = max(switch.since, bound.cache.starttime or 0.0)
        tags = () if self._tags is None else self._tags.of(args, kwargs)
        return bound.cache.value(key, starttime=since if since > 0 else None, tags=tags)

    # Beside calling

    @overload
    def get(self, *args: P.args, **kwargs: P.kwargs) -> R | None: ...
    @overload
    def get(self, *args: Any, default: D, **kwargs: Any) -> R | D: ...
    def get(self, *args: Any, **kwargs: Any) -> Any:
        """The result that is kept for the call with these arguments, else ``default`` (``None``).

        The function never runs. ``default`` is a keyword of its own, unless the function has a parameter of that name.
        """
        default, place = self._kept(args, kwargs)
        entry = None if place is None else place.counted_entry()
        return default if entry is None else entry.value

    def _kept(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Value | None]:
        default = None if self.calls.accepts("default") else kwargs.pop("default", None)
        if not self.settings.enabled():
            return default, None
        bound = self._bind()
        return default, self._value(bound, self._key(bound, args, kwargs), args, kwargs)

    def set(self, value: R, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Keep ``value`` as the result of the call with these arguments. UnserializableValue and ValueTooLarge
        where the store cannot hold it; nothing is kept while caching is switched off."""
        if self.settings.enabled():
            bound = self._bind()
            self._value(bound, self._key(bound, args, kwargs), args, kwargs).set_value(value)

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function now, keep and return its result. When it raises the old result stays."""
        if not self.settings.enabled():
            return self.original(*args, **kwargs)
        bound = self._bind()
        return self._create(self._value(bound, self._key(bound, args, kwargs), args, kwargs).refresh, args, kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the result of the call with these arguments, written in any way."""
        bound = self._bind()
        bound.cache.namespace.discard(self._key(bound, args, kwargs))

    def invalidate_all(self) -> None:
        """Forget the results of all calls of this function, and of others under the same ``namespace``."""
        self._bind().cache.clear()

    @property
    def _arg_namespace(self) -> str:
        """``namespace``, for programs written for Beaker up to 1.14."""
        return self.namespace

    @property
    def _arg_region(self) -> str:
        """Name of the region, as for :attr:`_arg_namespace`. AttributeError when it has none, as there."""
        if self.settings.name is None:
            raise AttributeError("_arg_region")
        return self.settings.name

    def stats(self) -> CacheStats:
        """What this process has counted of calls of this function, and of others under the same ``namespace``."""
        return cache_tally(self.settings.name or "", self.namespace).stats()

    def invalidate_flat(self, args: tuple[Any, ...], cache: Cache | None = None, *instance: Any) -> None:
        """Forget the call that the manual's form names: the decorator's arguments, then the function's.

        ``cache``: there and not in the function's own. Without the function's arguments, where it has some that
        are required, or without any: every call. ConfigError when ``args`` do not begin with the decorator's
        arguments: nothing would be found.
        """
        self.forgetting(args, cache, *instance)[1]()

    def forgetting(
        self, args: tuple[Any, ...], cache: Cache | None = None, *instance: Any
    ) -> tuple[Cache, Callable[[], None]]:
        """What :meth:`invalidate_flat` does, to be called, and in which cache."""
        count = len(self.deco_args)
        if args and args[:count] != self.deco_args:
            raise ConfigError(
                f"the decorator's arguments must come first to invalidate {self.__qualname__}",
                option="args",
                expected=f"{count} decorator arguments, then the function's",
                hint="or call its .invalidate(...) with the function's arguments alone",
            )
        bound = self._bind() if cache is None else self._bind()._replace(cache=cache)
        call = (*instance, *args[count:])
        if not args or (len(args) == count and not self.calls.fits(call)):
            return bound.cache, bound.cache.clear
        return bound.cache, functools.partial(bound.cache.namespace.discard, self._key(bound, call, {}))

    # Being a function and a method

    def __set_name__(self, owner: type, name: str) -> None:
        self.calls.takes_instance()

    # Type checkers look through @classmethod and @staticmethod, so the first parameter says what is bound: it
    # takes the class, or an instance, or (a static method's) neither.
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], R], instance: None, owner: type[S]
    ) -> CachedFunction[Concatenate[S, Q], R]: ...
    @overload
    def __get__(self: Callable[Concatenate[S, Q], R], instance: Any, owner: S) -> CachedMethod[Q, R]: ...
    @overload
    def __get__(self: Callable[Concatenate[S, Q], R], instance: S, owner: type | None = None) -> CachedMethod[Q, R]: ...
    @overload
    def __get__(self, instance: Any, owner: type | None = None) -> CachedFunction[P, R]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else CachedMethod(self, instance)

    def __reduce__(self) -> str:
        # As for any function: a pickle holds its name.
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<cached {self.original!r}>"

    __name__: str
    __qualname__: str


class CachedStaticMethod(CachedFunction[P, R]):
    """A cached function above ``@staticmethod``."""

    def __set_name__(self, owner: type, name: str) -> None:
        """Its first parameter is an argument."""

    def __get__(self, instance: Any, owner: type | None = None) -> CachedStaticMethod[P, R]:  # type: ignore[override]
        return self


class CachedClassMethod(CachedFunction[P, R]):
    """A cached function above ``@classmethod``."""

    def __get__(self, instance: Any, owner: type | None = None) -> CachedMethod[P, R]:  # type: ignore[override]
        return CachedMethod(self, type(instance) if owner is None else owner)


class CachedMethod(Generic[P, R]):
    # A cached function bound to an instance or a class, like a bound method; so is its docstring.

    __slots__ = ("__func__", "__self__")

    def __init__(self, function: CachedFunction[..., R], instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__func__(self.__self__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.__func__.__doc__

    @property
    def original(self) -> Callable[P, R]:
        """The function, bound."""
        return functools.partial(self.__func__.original, self.__self__)

    @property
    def namespace(self) -> str:
        """See :class:`CachedFunction`."""
        return self.__func__.namespace

    @property
    def __signature__(self) -> inspect.Signature:
        signature = inspect.signature(self.__func__.original)
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    @overload
    def get(self, *args: P.args, **kwargs: P.kwargs) -> R | None: ...
    @overload
    def get(self, *args: Any, default: D, **kwargs: Any) -> R | D: ...
    def get(self, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`CachedFunction.get`."""
        return self.__func__.get(self.__self__, *args, **kwargs)

    def set(self, value: R, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """See :meth:`CachedFunction.set`."""
        self.__func__.set(value, self.__self__, *args, **kwargs)

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """See :meth:`CachedFunction.refresh`."""
        return self.__func__.refresh(self.__self__, *args, **kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """See :meth:`CachedFunction.invalidate`."""
        self.__func__.invalidate(self.__self__, *args, **kwargs)

    def invalidate_all(self) -> None:
        """See :meth:`CachedFunction.invalidate_all`: those of other instances too."""
        self.__func__.invalidate_all()

    def stats(self) -> CacheStats:
        """See :meth:`CachedFunction.stats`: those of other instances too."""
        return self.__func__.stats()

    def invalidate_flat(self, args: tuple[Any, ...], cache: Cache | None = None) -> None:
        """See :meth:`CachedFunction.invalidate_flat`; the instance is not among ``args``."""
        self.forgetting(args, cache)[1]()

    def forgetting(self, args: tuple[Any, ...], cache: Cache | None = None) -> tuple[Cache, Callable[[], None]]:
        """See :meth:`CachedFunction.forgetting`."""
        return self.__func__.forgetting(args, cache, self.__self__)
