"""``beaker.cache.cache_managers``: the caches this process has opened, for programs that clear them all."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import count
from typing import Any

from beaker.caching.cache import Cache
from beaker.caching.factory import freeze

__all__ = ["OpenCaches"]

_LIMIT = 10_000


class OpenCaches(dict[str, Any]):
    """Caches opened by managers and decorated functions, the last 10,000, by their namespace and a running number.

    ``for cache in cache_managers.values(): cache.clear()`` is safe beside other threads.
    """

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[Hashable, str] = {}
        self._numbers = count(1)

    def note(self, namespace: str, options: Mapping[str, Any], cache: Cache) -> None:
        """Remember ``cache``; a later one of the same namespace and options takes its place."""
        identity = (namespace, freeze(options))
        name = self._names.get(identity)
        if name is None:
            # The options themselves stay out of the name: they hold keys and passwords.
            name = self._names[identity] = f"{namespace}#{next(self._numbers)}"
            if len(self._names) > _LIMIT:
                oldest = next(iter(self._names))
                self.pop(self._names.pop(oldest), None)
        self[name] = cache

    def values(self) -> Any:
        """The caches, as a list of this moment."""
        return list(super().values())

    def items(self) -> Any:
        """Names and caches, as a list of this moment."""
        return list(super().items())

    def clear(self) -> None:
        """Forget which caches are open; they stay open, and so do their values."""
        super().clear()
        self._names.clear()
