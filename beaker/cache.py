"""Caches, the manager that opens them, and the decorators over regions (manual chapters 1, 3 and 5.1.1).

::

    from beaker.cache import CacheManager, cache_region

    @cache_region("short_term")
    def load(search_term): ...

    cache = CacheManager(type="memory", regions="short_term", **{"short_term.expire": "60"})
"""

from __future__ import annotations

import inspect
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from beaker.caching import object_pool, registry
from beaker.caching.cache import Cache
from beaker.caching.call_key import CallKey
from beaker.caching.class_map import ClassMap, assigned
from beaker.caching.decorated import CachedFunction, CachedMethod
from beaker.caching.decorated_async import AsyncCachedFunction, AsyncCachedMethod
from beaker.caching.decorator import Decorator
from beaker.caching.factory import freeze
from beaker.caching.forgetting import Forgetting, forget_in_loop, forgetting
from beaker.caching.namespace import EntryNamespaceManager
from beaker.caching.open_caches import OpenCaches
from beaker.caching.settings import Settings, Switch, named, switch_of
from beaker.config.names import CACHE
from beaker.config.parse import parse_cache
from beaker.exceptions import ConfigError

__all__ = [
    "AsyncCachedFunction",
    "AsyncCachedMethod",
    "Cache",
    "CacheManager",
    "CachedFunction",
    "CachedMethod",
    "CallKey",
    "aregion_invalidate",
    "cache_managers",
    "cache_region",
    "cache_regions",
    "clsmap",
    "region_invalidate",
    "reset",
]

cache_regions: dict[str, dict[str, Any]] = {}
"""The regions' options by name. A CacheManager adds its own; ``cache_regions.update(...)`` adds more."""

cache_managers = OpenCaches()
"""The caches this process has opened, by a name that begins with the namespace."""

_backends = ClassMap
clsmap: Mapping[str, Any] = ClassMap()
"""Manager classes by type. Assign to an item, or put another mapping in its place, to bring your own."""
registry.consult(lambda name: assigned(clsmap, name))

_following: weakref.WeakSet[Settings] = weakref.WeakSet()
"""Settings of functions whose region is looked up in this module's ``cache_regions``."""

_MEMO = 512
"""Open caches a manager remembers; an application may name namespaces without end."""

Key = Callable[..., Any] | str | None
"""What the option ``key`` of a decorator may be."""


class CacheManager:
    """Opens caches that share one set of options (manual 3.2).

    * The options are those of :func:`beaker.util.parse_cache_config_options`, or plain keyword arguments: strings
      are coerced here too.
    * ``regions`` (names) with ``<region>.<option>``, or ``cache_regions`` (a dict of dicts), are added to
      :data:`cache_regions`.

    Raises ConfigError for options that cannot be used, and InvalidCacheBackendError for an unknown ``type``, at
    once; an error in a region names the region.
    """

    def __init__(self, *misplaced: Any, **kwargs: Any) -> None:
        if misplaced:
            raise ConfigError(
                "CacheManager takes its options by name",
                option="options",
                got=type(misplaced[0]).__name__,
                expected="keyword arguments",
                hint="for a dict: CacheManager(**options)",
            )
        _check_regions(kwargs.get("cache_regions"))
        options = parse_cache(kwargs=kwargs, include_defaults=False)
        self.regions: dict[str, dict[str, Any]] = options.pop("cache_regions", {})
        self.kwargs: dict[str, Any] = options
        self._own: dict[Any, dict[str, Any]] = {None: options}
        self._switch = Switch()
        self._memo: dict[Any, Cache] = {}
        _check(options)
        for name, region in self.regions.items():
            try:
                _check(region)
            except ConfigError as err:
                raise named(err, f"cache region {name!r}") from err.__cause__
        cache_regions.update(self.regions)

    def get_cache(self, name: str, **kwargs: Any) -> Cache:
        """The cache of namespace ``name``; ``kwargs`` win over the manager's options."""
        return self._open(name, {**self.kwargs, **CACHE.from_keywords(kwargs)})

    def get_cache_region(self, name: str, region: str, **kwargs: Any) -> Cache:
        """The cache of namespace ``name`` as the region says; ``kwargs`` win. ConfigError for an unknown region."""
        return self._region(region, kwargs).open(name)

    def region(
        self, region: str, *args: Any, ignore: Iterable[str] = (), key: Key = None, version: object = None
    ) -> Decorator:
        """Decorate a function to keep its results as the region says; see :func:`cache_region`."""
        _not_bare(region, "region('short')")
        return Decorator(self._region(region), args, ignore, key, version)

    def cache(
        self, *args: Any, ignore: Iterable[str] = (), key: Key = None, version: object = None, **kwargs: Any
    ) -> Decorator:
        """Decorate a function to keep its results; ``kwargs`` as for :meth:`get_cache`.

        ``args``, ``ignore``, ``key`` and ``version`` as for :func:`cache_region`.
        """
        if len(args) == 1 and not kwargs:
            _not_bare(args[0], "cache()")
        return Decorator(
            Settings(self._own, None, CACHE.from_keywords(kwargs), self._open, self._switch), args, ignore, key, version
        )

    def invalidate(self, func: Any, *args: Any, **kwargs: Any) -> None:
        """Forget one result of a function decorated by :meth:`cache`; without ``args`` all of them.

        * ``func``: the decorated function or method, or its namespace.
        * ``args``: the decorator's arguments, then the function's. When only the decorator's are there, and the
          function cannot be called without any, all its results are forgotten.
        * ``kwargs``: as they were given to the decorator; a decorated function remembers them, so they are needed
          for a namespace only.
        """
        self._forgetting(func, args, kwargs)[1]()

    async def ainvalidate(self, func: Any, *args: Any, **kwargs: Any) -> None:
        """:meth:`invalidate` for an event loop, of any decorated function."""
        await forget_in_loop(*self._forgetting(func, args, kwargs))

    def _forgetting(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Forgetting:
        own = isinstance(func, (CachedFunction, CachedMethod)) and not kwargs
        return forgetting(func, None if own else lambda name: self.get_cache(name, **kwargs), args)

    def region_invalidate(self, namespace: Any, region: str | None, *args: Any) -> None:
        """Forget one result of a function decorated by :meth:`region`; see :func:`region_invalidate`."""
        forgetting(namespace, None if region is None else self._region(region).open, args)[1]()

    async def aregion_invalidate(self, namespace: Any, region: str | None, *args: Any) -> None:
        """:meth:`region_invalidate` for an event loop, of any decorated function."""
        await forget_in_loop(*forgetting(namespace, None if region is None else self._region(region).open, args))

    def _region(self, region: str, overrides: Mapping[str, Any] | None = None) -> Settings:
        regions = self.regions if region in self.regions else cache_regions
        settings = Settings(regions, region, overrides or {}, self._open, switch_of(region))
        return _follow(settings)

    def _open(self, name: str, options: Mapping[str, Any], region: str = "") -> Cache:
        identity = (name, region, freeze(options))
        cache = self._memo.get(identity)
        if cache is None:
            cache = _open(name, options, region)
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            self._memo[identity] = cache
        return cache

    def __repr__(self) -> str:
        return f"<CacheManager of type {self.kwargs.get('type', 'memory')!r}, regions {sorted(self.regions)}>"


def cache_region(
    region: str, *deco_args: Any, ignore: Iterable[str] = (), key: Key = None, version: object = None
) -> Decorator:
    """Decorate a function to keep its results as the region says.

    * ``region``: its name. It is looked up at each call, so it may be configured, or changed, after decorating.
    * ``deco_args``: part of the key; they distinguish functions of one name in one module.
    * ``ignore``, ``key``: which arguments matter; see :class:`beaker.cache.CallKey`.
    * ``version``: a changed one leaves the old results behind.

    ConfigError for what cannot be cached. A ConfigWarning, with ``strict`` an error, when two functions would share
    results: both of one name in one file, or closures over objects without a canonical form.
    """
    _not_bare(region, "cache_region('short')")
    return Decorator(_shared_region(region), deco_args, ignore, key, version)


def region_invalidate(namespace: Any, region: str | None, *args: Any) -> None:
    """Forget one result of a function decorated by :func:`cache_region` or :meth:`CacheManager.region`.

    * ``namespace``: the decorated function or method, or its namespace (``module:qualname``).
    * ``region``: its name; may be ``None`` for a decorated function.
    * ``args``: the decorator's arguments, then the function's. Without any, and when only the decorator's are there
      and the function cannot be called without any, all results of the function are forgotten.
    """
    forgetting(namespace, None if region is None else _shared_region(region).open, args)[1]()


async def aregion_invalidate(namespace: Any, region: str | None, *args: Any) -> None:
    """:func:`region_invalidate` for an event loop, of any decorated function."""
    await forget_in_loop(*forgetting(namespace, None if region is None else _shared_region(region).open, args))


def reset() -> None:
    """Forget everything that memory caches of this process hold, in all managers and regions.

    For tests: values of one test are then not seen by the next, although both configure the same region. Regions
    and what other stores hold stay.
    """
    object_pool.clear_all()


def _shared_region(region: str) -> Settings:
    return _follow(Settings(cache_regions, region, {}, _open, switch_of(region)))


def _follow(settings: Settings) -> Settings:
    if settings.registry is cache_regions:
        _following.add(settings)
    return settings


def _not_bare(given: Any, right: str) -> None:
    if right != "cache()" and not isinstance(given, str):
        raise ConfigError(
            "the decorator needs a region",
            option="region",
            expected="a region's name",
            got=type(given).__name__,
            hint=f"write @{right}",
        )
    if inspect.isroutine(given):
        raise ConfigError(
            "the decorator takes its arguments before the function", option="args", hint=f"write @{right}"
        )


def _check_regions(given: Any) -> None:
    if given is None:
        return
    if not isinstance(given, Mapping) or not all(isinstance(options, Mapping) for options in given.values()):
        raise ConfigError(
            "cache_regions cannot be used",
            option="cache_regions",
            expected="a dict from each region's name to the dict of its options",
            got=type(given).__name__ if not isinstance(given, Mapping) else "other values",
        )


def _check(options: Mapping[str, Any]) -> None:
    # What is wrong is said now and not at the first request. A third party's manager may connect when it
    # is built, so of those only the class is looked up.
    kind = options.get("namespace_class") or options.get("type", "memory")
    if issubclass(registry.load(kind), EntryNamespaceManager):
        Cache("", **options)


def _open(namespace: str, options: Mapping[str, Any], region: str = "") -> Cache:
    cache = Cache(namespace, region=region, **options)
    cache_managers.note(namespace, options, cache)
    return cache


def _cache_decorate(
    deco_args: tuple[Any, ...], manager: CacheManager | None, options: Mapping[str, Any] | None, region: str | None
) -> Decorator:
    """:func:`cache_region`, :meth:`CacheManager.region` or :meth:`CacheManager.cache`, by what is given."""
    if manager is None:
        return cache_region(str(region), *deco_args)
    return manager.cache(*deco_args, **(options or {})) if region is None else manager.region(region, *deco_args)


class _Module(ModuleType):
    # Programs put mappings of their own in the place of this module's; decorated functions follow.

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "cache_regions":
            for settings in _following:
                settings.registry = value

    def __getattr__(self, name: str) -> Any:
        if name == "util":
            return import_module("beaker.util")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


sys.modules[__name__].__class__ = _Module
