"""The manager of caches that share their options (manual 3.2)."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from beaker.caching import invalidation, registry
from beaker.caching.async_cache import off
from beaker.caching.cache import Cache
from beaker.caching.decorated import CachedFunction, CachedMethod
from beaker.caching.decorator import Decorator, Key, not_bare
from beaker.caching.factory import freeze
from beaker.caching.forgetting import Forgetting, forget_in_loop, forgetting
from beaker.caching.invalidation import Homes, move_in_loop, region_forgetter
from beaker.caching.namespace import EntryNamespaceManager
from beaker.caching.regions import manager_of, regions
from beaker.caching.settings import Settings, Switch, named, switch_of
from beaker.caching.tags import Tags
from beaker.config.names import CACHE
from beaker.config.parse import parse_cache
from beaker.exceptions import ConfigError

__all__ = ["CacheManager"]

_MEMO = 512
"""Open caches a manager remembers; an application may name namespaces without end."""


class CacheManager:
    """Opens caches that share one set of options (manual 3.2).

    * The options are those of :func:`beaker.util.parse_cache_config_options`, or plain keyword arguments: strings
      are coerced here too.
    * ``regions`` (names) with ``<region>.<option>``, or ``cache_regions`` (a dict of dicts), are added to
      :data:`beaker.cache.cache_regions`.

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
        self._homes = Homes()
        self._decorated: weakref.WeakSet[Settings] = weakref.WeakSet()
        _check(options)
        for name, region in self.regions.items():
            try:
                _check(region)
            except ConfigError as err:
                raise named(err, f"cache region {name!r}") from err.__cause__
        regions.table.update(self.regions)

    def get_cache(self, name: str, **kwargs: Any) -> Cache:
        """The cache of namespace ``name``; ``kwargs`` win over the manager's options."""
        return self._open(name, {**self.kwargs, **CACHE.from_keywords(kwargs)})

    def get_cache_region(self, name: str, region: str, **kwargs: Any) -> Cache:
        """The cache of namespace ``name`` as the region says; ``kwargs`` win. ConfigError for an unknown region."""
        return self._region(region, kwargs).open(name)

    def region(
        self,
        region: str,
        *args: Any,
        ignore: Iterable[str] = (),
        key: Key = None,
        version: object = None,
        tags: Tags = (),
        **kwargs: Any,
    ) -> Decorator:
        """Decorate a function to keep its results as the region says; see :func:`beaker.cache.cache_region`."""
        not_bare(region, "region('short')")
        settings = self._region(region, CACHE.from_keywords(kwargs))
        self._decorated.add(settings)
        return Decorator(settings, args, ignore, key, version, tags)

    def cache(
        self,
        *args: Any,
        ignore: Iterable[str] = (),
        key: Key = None,
        version: object = None,
        tags: Tags = (),
        **kwargs: Any,
    ) -> Decorator:
        """Decorate a function to keep its results; ``kwargs`` as for :meth:`get_cache`.

        ``args``, ``ignore``, ``key``, ``version`` and ``tags`` as for :func:`beaker.cache.cache_region`.
        """
        if len(args) == 1 and not kwargs:
            not_bare(args[0], "cache()")
        settings = Settings(self._own, None, CACHE.from_keywords(kwargs), self._open, self._switch)
        self._decorated.add(settings)
        return Decorator(settings, args, ignore, key, version, tags)

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
        """Forget one result of a function decorated by :meth:`region`; see :func:`beaker.cache.region_invalidate`."""
        forgetting(namespace, None if region is None else self._region(region).open, args)[1]()

    async def aregion_invalidate(self, namespace: Any, region: str | None, *args: Any) -> None:
        """:meth:`region_invalidate` for an event loop, of any decorated function."""
        await forget_in_loop(*forgetting(namespace, None if region is None else self._region(region).open, args))

    def invalidate_tags(self, *tags: str) -> None:
        """Make every value old that has one of ``tags``, in every process, whichever function or ``put`` gave it.

        It reaches every store that this manager's options, regions, caches and decorators name, by one operation each;
        the stores of other managers it does not. A creation in flight that began before is of no use to calls that
        begin after. StoreUnavailable where a store does not respond; the other stores are reached.
        """
        invalidation.invalidate_tags(self._stamp_homes(), tags)

    async def ainvalidate_tags(self, *tags: str) -> None:
        """:meth:`invalidate_tags` for an event loop."""
        await move_in_loop(self._stamp_homes(), tags)

    def invalidate_region(self, region: str) -> None:
        """Make every value of the region old; see :func:`beaker.cache.invalidate_region`."""
        region_forgetter(self._region(region))[1]()

    async def ainvalidate_region(self, region: str) -> None:
        """:meth:`invalidate_region` for an event loop."""
        manager, work = region_forgetter(self._region(region))
        await off(manager, work)

    def _stamp_homes(self) -> Homes:
        for options in (self.kwargs, *self.regions.values()):
            self._homes.note_options(options, partial(manager_of, options))
        for settings in list(self._decorated):
            options = {**settings.options(), **settings.overrides}
            self._homes.note_options(options, partial(manager_of, options))
        return self._homes

    def _region(self, region: str, overrides: Mapping[str, Any] | None = None) -> Settings:
        table = self.regions if region in self.regions else regions.table
        return regions.follow(Settings(table, region, overrides or {}, self._open, switch_of(region)))

    def _open(self, name: str, options: Mapping[str, Any], region: str = "") -> Cache:
        identity = (name, region, freeze(options))
        cache = self._memo.get(identity)
        if cache is None:
            cache = regions.open(name, options, region)
            self._homes.note(cache.namespace)
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            self._memo[identity] = cache
        return cache

    def __repr__(self) -> str:
        return f"<CacheManager of type {self.kwargs.get('type', 'memory')!r}, regions {sorted(self.regions)}>"


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
