"""What invalidates tags and regions, in every store that some options name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from beaker.caching import registry
from beaker.caching.namespace import EntryNamespaceManager, NamespaceManager
from beaker.caching.settings import Settings
from beaker.caching.stamps import StampHome, check_tag, local
from beaker.exceptions import ConfigError, StoreError
from beaker.loops.hops import in_thread

__all__ = ["Homes", "invalidate_tags", "move_in_loop", "region_forgetter"]


class Homes:
    """Where the stamps are of a set of caches, each store once."""

    def __init__(self) -> None:
        self._homes: dict[int, StampHome] = {id(local): local}

    def __iter__(self) -> Any:
        return iter(list(self._homes.values()))

    def note(self, manager: NamespaceManager) -> None:
        """Add that of ``manager``, if its values can have tags."""
        home = manager.stamp_home
        if home is not None:
            self._homes[id(home)] = home

    def note_options(self, options: Mapping[str, Any], open: Callable[[], NamespaceManager]) -> None:
        """Add that of the cache that ``open()`` opens by ``options``. Managers of third parties, which may connect when
        they are built, are left out: they have none."""
        kind = options.get("namespace_class") or options.get("type") or "memory"
        if issubclass(registry.load(kind), EntryNamespaceManager):
            self.note(open())


def invalidate_tags(homes: Iterable[StampHome], tags: tuple[Any, ...]) -> None:
    """Make every value old, wherever, that has one of ``tags``: one operation a store.

    Every store is tried; then the first StoreUnavailable is raised.
    """
    for tag in tags:
        check_tag(tag)
    failed: StoreError | None = None
    for home in homes:
        try:
            home.move_tags(dict.fromkeys(tags))
        except StoreError as err:
            failed = failed or err
    if failed is not None:
        raise failed


def region_forgetter(settings: Settings) -> tuple[NamespaceManager, Callable[[], None]]:
    """The manager of a region and what makes all its values old. ConfigError where that takes ``region_stamp``."""
    manager = settings.open("").namespace
    if settings.name is None:
        raise ConfigError("there is no region", option="region", expected="a region's name")
    return manager, partial(manager.forget_region, settings.name)


async def move_in_loop(homes: Iterable[StampHome], tags: tuple[Any, ...]) -> None:
    """:func:`invalidate_tags` for an event loop."""
    found = list(homes)
    if found == [local]:
        invalidate_tags(found, tags)
    else:
        await in_thread(partial(invalidate_tags, found, tags))
