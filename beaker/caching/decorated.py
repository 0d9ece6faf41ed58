"""Cached functions: what ``cache_region``, ``CacheManager.region`` and ``CacheManager.cache`` make."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from beaker.caching.cache import Cache
from beaker.caching.call_key import CallKey
from beaker.caching.entry import Entry
from beaker.config.coerce import as_bool
from beaker.exceptions import ConfigError
from beaker.keys import cache_key, func_namespace

__all__ = ["BoundCached", "CachedFunction", "Settings"]

_NEVER = -2


class Settings:
    """Where a cached function finds its options, each time it is called.

    ``registry[name]`` are the options (a region's, or a manager's own), ``overrides`` what the decorator
    said. Nothing is looked at before the first call, so a function may be decorated before anything is
    configured. ``open(namespace, options)`` makes the cache.
    """

    def __init__(
        self,
        registry: Mapping[Any, Mapping[str, Any]],
        name: str | None,
        overrides: Mapping[str, Any],
        open: Callable[[str, Mapping[str, Any]], Cache],
    ) -> None:
        self.registry = registry
        self.name = name
        self.overrides = dict(overrides)
        self.open = open

    def options(self) -> Mapping[str, Any]:
        """The live mapping, without the overrides. ConfigError for a region nobody configured."""
        try:
            return self.registry[self.name]
        except KeyError:
            known = ", ".join(sorted(name for name in self.registry if name is not None)) or "none"
            raise ConfigError(
                f"cache region {self.name!r} is not configured",
                option="regions",
                expected=f"one of the configured regions ({known})",
                hint="configure it by CacheManager(regions=...) or beaker.cache.cache_regions.update(...)",
            ) from None


class _Bound(NamedTuple):
    """A function's cache as of one state of its options."""

    options: Mapping[str, Any]
    snapshot: dict[str, Any]
    cache: Cache
    read: Callable[[str], Entry | None]
    clock: Callable[[], float]
    arity: int
    limit: int
    direct: bool
    strict: bool

    def __repr__(self) -> str:
        return f"<bound to {self.cache!r}>"


class CachedFunction:
    """A function whose results are kept; called like the function itself.

    It has the function's name, docstring and signature, and works as a method. ``original`` is the
    function. UncacheableArgument when no key can be made from an argument. With the option ``enabled``
    off the function simply runs.
    """

    def __init__(
        self,
        function: Any,
        settings: Settings,
        deco_args: tuple[Any, ...] = (),
        *,
        ignore: Iterable[str] = (),
        key: Callable[..., Any] | str | None = None,
        version: object = None,
    ) -> None:
        # Above @classmethod or @staticmethod the decorator is handed the descriptor.
        self._kind = type(function) if isinstance(function, (classmethod, staticmethod)) else None
        function = function.__func__ if self._kind is not None else function
        _check(function)
        functools.update_wrapper(self, function)
        self.original: Callable[..., Any] = function
        self.deco_args = deco_args
        self.settings = settings
        self.namespace = func_namespace(function) + ("" if version is None else f";version={version}")
        self._calls = CallKey(function, ignore, key)
        if self._kind is classmethod:
            self._calls.takes_instance()
        self._bound: _Bound | None = None

    # Calling

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        settings = self.settings
        bound = self._bound
        options = settings.registry.get(settings.name)
        if bound is None or bound.options is not options or options.get("enabled", True) is not True:
            if not self._enabled():
                return self.original(*args, **kwargs)
            bound = self._bind()
        _, _, _, read, clock, arity, limit, direct, _ = bound
        if kwargs or len(args) != arity:
            key = self._key(args, kwargs, bound)
        else:
            key = cache_key(self.deco_args + args, key_length=limit)
        entry = read(key)
        if direct and entry is not None:
            value, stored, expiretime, _ = entry
            if expiretime is None or clock() < stored + expiretime:
                return value
        return self._make(bound, key, entry, args, kwargs)

    def _make(
        self, bound: _Bound, key: str, entry: Entry | None, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        if bound.snapshot != self.settings.options():
            # The region's options were changed in place since they were read.
            self._bound = None
            return self(*args, **kwargs)
        return bound.cache.value(key).get_or_create(lambda: self.original(*args, **kwargs), entry)

    def _enabled(self) -> bool:
        value = self.settings.overrides.get("enabled")
        return as_bool("enabled", self.settings.options().get("enabled", True) if value is None else value)

    def _bind(self) -> _Bound:
        options = self.settings.options()
        bound = self._bound
        if bound is None or bound.snapshot != options:
            overrides = self.settings.overrides
            cache = self.settings.open(self.namespace, {**options, **overrides})
            manager = cache.namespace
            switched_off = not as_bool("enabled", overrides.get("enabled", True))
            bound = self._bound = _Bound(
                # A mapping that no registry holds sends every call the long way round.
                {} if switched_off else options,
                dict(options),
                cache,
                manager.read,
                manager.clock,
                _NEVER if cache.legacy_keys else self._calls.arity,
                cache.key_length,
                cache.starttime is None and not manager.freshness.early,
                cache.strict,
            )
        elif bound.options is not options and as_bool("enabled", self.settings.overrides.get("enabled", True)):
            bound = self._bound = bound._replace(options=options)
        return bound

    def _key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], bound: _Bound) -> str:
        return bound.cache.call_key(self.deco_args + self._calls.flat(args, kwargs, strict=bound.strict))

    # Beside calling

    def invalidate(self, *args: Any, **kwargs: Any) -> None:
        """Forget the result of the call with these arguments, written in any way."""
        bound = self._bind()
        bound.cache.namespace.discard(self._key(args, kwargs, bound))

    def refresh(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function now, keep and answer its result. When it raises the old result stays."""
        bound = self._bind()
        key = self._key(args, kwargs, bound)
        return bound.cache.value(key).refresh(lambda: self.original(*args, **kwargs))

    def invalidate_all(self) -> None:
        """Forget the results of all calls of this function (and of others of its qualified name)."""
        self._bind().cache.clear()

    def invalidate_flat(self, args: tuple[Any, ...], cache: Cache | None = None) -> None:
        """Forget the call that the manual's form names: the decorator's arguments, then the function's.

        ``cache``: there and not in the function's own. ConfigError when ``args`` do not begin with the
        decorator's arguments: nothing would be found.
        """
        count = len(self.deco_args)
        if tuple(args[:count]) != self.deco_args:
            raise ConfigError(
                f"the decorator's arguments must come first to invalidate {self.__qualname__}",
                option="args",
                expected=f"{count} decorator arguments, then the function's",
                hint="or call its .invalidate(...) with the function's arguments alone",
            )
        bound = self._bind()
        target = bound.cache if cache is None else cache
        flat = self._calls.flat(tuple(args[count:]), {}, strict=bound.strict)
        target.namespace.discard(target.call_key(self.deco_args + flat))

    # Being a function and a method

    def __set_name__(self, owner: type, name: str) -> None:
        if self._kind is None:
            self._calls.takes_instance()

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if self._kind is staticmethod:
            return self
        if self._kind is classmethod:
            return BoundCached(self, owner if owner is not None else type(instance))
        return self if instance is None else BoundCached(self, instance)

    def __reduce__(self) -> str:
        # As for any function: a pickle holds its name.
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<cached {self.original!r}>"

    __name__: str
    __qualname__: str


class BoundCached:
    # A cached function bound to an instance or a class, like a bound method; so is its docstring.

    __slots__ = ("__func__", "__self__")

    def __init__(self, function: CachedFunction, instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.__func__(self.__self__, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__func__, name)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self.__func__.__doc__

    @property
    def original(self) -> Callable[..., Any]:
        """The function, bound."""
        return functools.partial(self.__func__.original, self.__self__)

    @property
    def __signature__(self) -> inspect.Signature:
        signature = inspect.signature(self.__func__.original)
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    def invalidate(self, *args: Any, **kwargs: Any) -> None:
        """See :meth:`CachedFunction.invalidate`."""
        self.__func__.invalidate(self.__self__, *args, **kwargs)

    def refresh(self, *args: Any, **kwargs: Any) -> Any:
        """See :meth:`CachedFunction.refresh`."""
        return self.__func__.refresh(self.__self__, *args, **kwargs)

    def invalidate_flat(self, args: tuple[Any, ...], cache: Cache | None = None) -> None:
        """See :meth:`CachedFunction.invalidate_flat`; the instance is not among ``args``."""
        count = len(self.__func__.deco_args)
        self.__func__.invalidate_flat((*args[:count], self.__self__, *args[count:]), cache)


def _check(function: Any) -> None:
    if not callable(function):
        raise ConfigError("only a function can be cached", option="function", got=type(function).__name__)
    for test, what in (
        (inspect.iscoroutinefunction, "a coroutine function"),
        (inspect.isasyncgenfunction, "an asynchronous generator function"),
        (inspect.isgeneratorfunction, "a generator function"),
    ):
        if test(function):
            raise ConfigError(
                f"{function.__qualname__} is {what}: what it returns can be used once only and cannot be cached",
                option="function",
                hint="cache a function that returns the finished value",
            )
