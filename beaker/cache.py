"""Caches, the manager that opens them, and the decorators over regions (manual chapters 1, 3 and 5.1.1).

::

    from beaker.cache import CacheManager, cache_region

    @cache_region("short_term")
    def load(search_term): ...

    cache = CacheManager(type="memory", regions="short_term", **{"short_term.expire": "60"})
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from beaker.caching import invalidation, object_pool, registry
from beaker.caching.async_cache import off
from beaker.caching.cache import Cache
from beaker.caching.call_key import CallKey
from beaker.caching.class_map import ClassMap, assigned
from beaker.caching.decorated import CachedFunction, CachedMethod
from beaker.caching.decorated_async import AsyncCachedFunction, AsyncCachedMethod
from beaker.caching.decorator import Decorator, Key, not_bare
from beaker.caching.forgetting import forget_in_loop, forgetting
from beaker.caching.invalidation import move_in_loop, region_forgetter
from beaker.caching.manager import CacheManager
from beaker.caching.previous import Previous, previous
from beaker.caching.regions import regions
from beaker.caching.said import DO_NOT_KEEP, NOT_MODIFIED, DoNotKeep
from beaker.caching.tags import Tags
from beaker.config.names import CACHE
from beaker.serving import request_scope

__all__ = [
    "DO_NOT_KEEP",
    "NOT_MODIFIED",
    "AsyncCachedFunction",
    "AsyncCachedMethod",
    "Cache",
    "CacheManager",
    "CachedFunction",
    "CachedMethod",
    "CallKey",
    "DoNotKeep",
    "Previous",
    "ainvalidate_region",
    "ainvalidate_tags",
    "aregion_invalidate",
    "cache_managers",
    "cache_region",
    "cache_regions",
    "clsmap",
    "invalidate_region",
    "invalidate_tags",
    "previous",
    "region_invalidate",
    "request_scope",
    "reset",
]

cache_regions: dict[str, dict[str, Any]] = regions.table
"""The regions' options by name. A CacheManager adds its own; ``cache_regions.update(...)`` adds more."""

cache_managers = regions.opened
"""The caches this process has opened, by a name that begins with the namespace."""

_backends = ClassMap
clsmap: Mapping[str, Any] = ClassMap()
"""Manager classes by type. Assign to an item, or put another mapping in its place, to bring your own."""
registry.consult(lambda name: assigned(clsmap, name))


def cache_region(
    region: str,
    *deco_args: Any,
    ignore: Iterable[str] = (),
    key: Key = None,
    version: object = None,
    tags: Tags = (),
    **options: Any,
) -> Decorator:
    """Decorate a function to keep its results as the region says.

    * ``region``: its name. It is looked up at each call, so it may be configured, or changed, after decorating.
    * ``deco_args``: part of the key; they distinguish functions of one name in one module.
    * ``ignore``, ``key``: which arguments matter; see :class:`beaker.cache.CallKey`.
    * ``version``: a changed one leaves the old results behind.
    * ``tags``: what :func:`invalidate_tags` makes results old by: texts such as ``"user:{id}"``, in which the
      function's parameters stand for the call's arguments, or callables that are given those and return a tag or
      several.
    * ``options``: cache options that win over the region's, such as ``expire``.

    ConfigError for what cannot be cached. A ConfigWarning, with ``strict`` an error, when two functions would share
    results: both of one name in one file, or closures over objects without a canonical form.
    """
    not_bare(region, "cache_region('short')")
    return Decorator(regions.settings(region, CACHE.from_keywords(options)), deco_args, ignore, key, version, tags)


def region_invalidate(namespace: Any, region: str | None, *args: Any) -> None:
    """Forget one result of a function decorated by :func:`cache_region` or :meth:`CacheManager.region`.

    * ``namespace``: the decorated function or method, or its namespace (``module:qualname``).
    * ``region``: its name; may be ``None`` for a decorated function.
    * ``args``: the decorator's arguments, then the function's. Without any, and when only the decorator's are there
      and the function cannot be called without any, all results of the function are forgotten.
    """
    forgetting(namespace, None if region is None else regions.settings(region).open, args)[1]()


async def aregion_invalidate(namespace: Any, region: str | None, *args: Any) -> None:
    """:func:`region_invalidate` for an event loop, of any decorated function."""
    await forget_in_loop(*forgetting(namespace, None if region is None else regions.settings(region).open, args))


def invalidate_tags(*tags: str) -> None:
    """Make every value old that has one of ``tags``, in every process, whichever function or ``put`` gave it.

    It reaches every store that a region in :data:`cache_regions` or a cache of this process uses, by one operation
    each. StoreUnavailable where one does not respond; the others are reached.
    """
    invalidation.invalidate_tags(regions.homes(), tags)


async def ainvalidate_tags(*tags: str) -> None:
    """:func:`invalidate_tags` for an event loop."""
    await move_in_loop(regions.homes(), tags)


def invalidate_region(region: str) -> None:
    """Make every value of the region old, in every process: whichever function or cache, under whatever namespace.

    One operation. ConfigError unless the region has the option ``region_stamp``, which makes its values depend on a
    stamp of the region. Type ``memory`` needs no option: every namespace is emptied that the region has opened in this
    process. StoreUnavailable where the store does not respond.
    """
    region_forgetter(regions.settings(region))[1]()


async def ainvalidate_region(region: str) -> None:
    """:func:`invalidate_region` for an event loop."""
    manager, work = region_forgetter(regions.settings(region))
    await off(manager, work)


def reset() -> None:
    """Forget everything that memory caches of this process hold, in all managers and regions.

    For tests: values of one test are then not seen by the next, although both configure the same region. Regions
    and what other stores hold stay.
    """
    object_pool.clear_all()


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
            regions.replace(value)
        elif name == "cache_managers":
            regions.opened = value

    def __getattr__(self, name: str) -> Any:
        if name == "util":
            return import_module("beaker.util")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


sys.modules[__name__].__class__ = _Module
