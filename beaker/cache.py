"""Caches, the manager that opens them, and the decorators over regions (manual chapters 1, 3 and 5.1.1).

::

    from beaker.cache import CacheManager, cache_region

    @cache_region("short_term")
    def load(search_term): ...

    cache = CacheManager(type="memory", regions="short_term", **{"short_term.expire": "60"})
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from beaker.caching import registry
from beaker.caching.cache import Cache
from beaker.caching.call_key import CallKey
from beaker.caching.decorated import BoundCached, CachedFunction, Settings
from beaker.caching.factory import freeze
from beaker.caching.namespace import EntryNamespaceManager
from beaker.config.parse import parse_cache
from beaker.exceptions import ConfigError
from beaker.keys import func_namespace

__all__ = [
    "Cache",
    "CacheManager",
    "CachedFunction",
    "CallKey",
    "cache_region",
    "cache_regions",
    "region_invalidate",
]

cache_regions: dict[str, dict[str, Any]] = {}
"""The regions' options by name. A CacheManager adds its own; ``cache_regions.update(...)`` adds others."""

_MEMO = 512
"""Open caches a manager remembers; namespaces may be made without end."""


class CacheManager:
    """Opens caches that share one set of options (manual 3.2).

    The options are those of :func:`beaker.util.parse_cache_config_options`, or plain keyword arguments:
    strings are coerced here too. Regions (``cache_regions``, or ``regions`` with ``<region>.<option>``)
    are added to :data:`cache_regions`. Raises ConfigError for options that cannot be used, and
    InvalidCacheBackendError for an unknown ``type``, at once.
    """

    def __init__(self, **kwargs: Any) -> None:
        options = parse_cache(kwargs=kwargs, include_defaults=False)
        self.regions: dict[str, dict[str, Any]] = options.pop("cache_regions", {})
        self.kwargs: dict[str, Any] = options
        self._own: dict[Any, dict[str, Any]] = {None: options}
        self._memo: dict[Any, Cache] = {}
        for given in (options, *self.regions.values()):
            _check(given)
        cache_regions.update(self.regions)

    def get_cache(self, name: str, **kwargs: Any) -> Cache:
        """The cache of namespace ``name``; ``kwargs`` win over the manager's options."""
        return self._open(name, {**self.kwargs, **kwargs})

    def get_cache_region(self, name: str, region: str) -> Cache:
        """The cache of namespace ``name`` as the region says. ConfigError for an unknown region."""
        return self._open(name, Settings(self._registry(region), region, {}, self._open).options())

    def region(
        self,
        region: str,
        *args: Any,
        ignore: Iterable[str] = (),
        key: Callable[..., Any] | str | None = None,
        version: object = None,
    ) -> Callable[[Callable[..., Any]], CachedFunction]:
        """Decorate a function to keep its results as the region says; see :func:`cache_region`."""
        return _decorator(Settings(self._registry(region), region, {}, self._open), args, ignore, key, version)

    def cache(
        self,
        *args: Any,
        ignore: Iterable[str] = (),
        key: Callable[..., Any] | str | None = None,
        version: object = None,
        **kwargs: Any,
    ) -> Callable[[Callable[..., Any]], CachedFunction]:
        """Decorate a function to keep its results; ``kwargs`` as for :meth:`get_cache`.

        ``args``, ``ignore``, ``key`` and ``version`` as for :func:`cache_region`.
        """
        return _decorator(Settings(self._own, None, kwargs, self._open), args, ignore, key, version)

    def invalidate(self, func: Any, *args: Any, **kwargs: Any) -> None:
        """Forget one result of a function decorated by :meth:`cache`.

        ``args``: the decorator's arguments, then the function's. ``kwargs`` as they were given to the
        decorator; a decorated function remembers them, so they are needed for a namespace only.
        """
        own = isinstance(func, (CachedFunction, BoundCached)) and not kwargs
        _flat_invalidate(func, None if own else lambda name: self.get_cache(name, **kwargs), args)

    def region_invalidate(self, namespace: Any, region: str | None, *args: Any) -> None:
        """Forget one result of a function decorated by :meth:`region`; see :func:`region_invalidate`."""
        _region_invalidate(cache_regions if region is None else self._registry(region), namespace, region, args)

    def _registry(self, region: str) -> Mapping[Any, Mapping[str, Any]]:
        return self.regions if region in self.regions else cache_regions

    def _open(self, name: str, options: Mapping[str, Any]) -> Cache:
        identity = (name, freeze(options))
        cache = self._memo.get(identity)
        if cache is None:
            cache = _open(name, options)
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            self._memo[identity] = cache
        return cache

    def __repr__(self) -> str:
        return f"<CacheManager of type {self.kwargs.get('type', 'memory')!r}, regions {sorted(self.regions)}>"


def _check(options: Mapping[str, Any]) -> None:
    # What is wrong is said now and not at the first request. A third party's manager may connect when it
    # is built, so of those only the class is looked up.
    kind = options.get("namespace_class") or options.get("type", "memory")
    if issubclass(registry.load(kind), EntryNamespaceManager):
        _open("", options)


def _open(namespace: str, options: Mapping[str, Any]) -> Cache:
    return Cache(namespace, **options)


def _flat_invalidate(target: Any, cache: Callable[[str], Cache] | None, args: tuple[Any, ...]) -> None:
    """``target``: a cached function, a function, or a namespace. ``cache`` opens the one to look in."""
    if isinstance(target, (CachedFunction, BoundCached)):
        target.invalidate_flat(args, None if cache is None else cache(target.namespace))
        return
    if cache is None:
        raise ConfigError("a namespace alone does not say which region", option="region", expected="a region's name")
    opened = cache(target if isinstance(target, str) else func_namespace(target))
    opened.namespace.discard(opened.call_key(args))


def _decorator(
    settings: Settings,
    deco_args: tuple[Any, ...],
    ignore: Iterable[str],
    key: Callable[..., Any] | str | None,
    version: object,
) -> Callable[[Callable[..., Any]], CachedFunction]:
    def decorate(function: Callable[..., Any]) -> CachedFunction:
        return CachedFunction(function, settings, deco_args, ignore=ignore, key=key, version=version)

    return decorate


def cache_region(
    region: str,
    *deco_args: Any,
    ignore: Iterable[str] = (),
    key: Callable[..., Any] | str | None = None,
    version: object = None,
) -> Callable[[Callable[..., Any]], CachedFunction]:
    """Decorate a function to keep its results as the region says.

    The region is looked up at each call, so it may be configured, or changed, after decorating.
    ``deco_args`` are part of the key: they tell functions of one name in one module apart. ``ignore``,
    ``key``: see :class:`beaker.caching.call_key.CallKey`. A changed ``version`` leaves the old results behind.
    """
    return _decorator(Settings(cache_regions, region, {}, _open), deco_args, ignore, key, version)


def region_invalidate(namespace: Any, region: str | None, *args: Any) -> None:
    """Forget one result of a function decorated by :func:`cache_region` or :meth:`CacheManager.region`.

    ``namespace`` is the decorated function, or its namespace (``module:qualname``). ``region`` may be
    ``None`` for a function. ``args``: the decorator's arguments, then the function's.
    """
    _region_invalidate(cache_regions, namespace, region, args)


def _region_invalidate(
    registry: Mapping[str, Mapping[str, Any]], namespace: Any, region: str | None, args: tuple[Any, ...]
) -> None:
    if region is None:
        _flat_invalidate(namespace, None, args)
        return
    options = Settings(registry, region, {}, _open).options()
    _flat_invalidate(namespace, lambda name: _open(name, options), args)
