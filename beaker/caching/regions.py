"""The regions of the process, the caches it has opened, and the functions that follow them."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any

from beaker.caching.cache import Cache
from beaker.caching.invalidation import Homes
from beaker.caching.namespace import NamespaceManager
from beaker.caching.open_caches import OpenCaches
from beaker.caching.settings import Settings, switch_of

__all__ = ["Regions", "manager_of", "regions"]


class Regions:
    """What stands behind ``beaker.cache.cache_regions`` and ``cache_managers``, which programs may replace."""

    def __init__(self) -> None:
        self.table: dict[str, dict[str, Any]] = {}
        """Options by the regions' names."""
        self.opened = OpenCaches()
        self.following: weakref.WeakSet[Settings] = weakref.WeakSet()
        """Settings of functions whose region is looked up in :attr:`table`."""

    def replace(self, table: dict[str, dict[str, Any]]) -> None:
        """Put ``table`` in the place of the present one, for decorated functions too."""
        self.table = table
        for settings in self.following:
            settings.registry = table

    def follow(self, settings: Settings) -> Settings:
        """``settings``; they follow the table if it is theirs."""
        if settings.registry is self.table:
            self.following.add(settings)
        return settings

    def settings(self, region: str, overrides: Mapping[str, Any] | None = None) -> Settings:
        """Those of ``region``, which is looked up when they are used; ``overrides`` win over it."""
        return self.follow(Settings(self.table, region, overrides or {}, self.open, switch_of(region)))

    def open(self, namespace: str, options: Mapping[str, Any], region: str = "") -> Cache:
        """The cache of ``namespace``, which is remembered among those that are open."""
        cache = Cache(namespace, region=region, **options)
        self.opened.note(namespace, options, cache)
        return cache

    def homes(self) -> Homes:
        """Where stamps are of every region, and of every cache that is open."""
        homes = Homes()
        decorated = [
            {**settings.registry.get(settings.name, {}), **settings.overrides} for settings in list(self.following)
        ]
        for options in (*self.table.values(), *decorated):
            homes.note_options(options, partial(manager_of, options))
        for cache in self.opened.values():
            homes.note(cache.namespace)
        return homes


def manager_of(options: Mapping[str, Any]) -> NamespaceManager:
    """A manager by ``options``, of no namespace."""
    return Cache("", **options).namespace


regions = Regions()
