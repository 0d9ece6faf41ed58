"""``beaker.cache.clsmap``: manager classes by type, assigned by programs that bring their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from beaker.caching import registry
from beaker.exceptions import InvalidCacheBackendError

__all__ = ["ClassMap", "assigned"]


class ClassMap(MutableMapping[str, Any]):
    """The manager class of each type; ``map["ext:x"] = Manager`` adds one, or replaces one of Beaker's own.

    :func:`beaker.backends.register_backend` is the newer way. KeyError for an unknown type,
    InvalidCacheBackendError for one whose package is missing.
    """

    def __init__(self, clsmap: Mapping[str, Any] | None = None) -> None:
        self._clsmap: dict[str, Any] = dict(clsmap or {})

    def __getitem__(self, name: str) -> Any:
        if name in self._clsmap:
            return self._clsmap[name]
        try:
            return registry.load(name)
        except InvalidCacheBackendError:
            if name in registry.known():
                raise
            raise KeyError(name) from None

    def __setitem__(self, name: str, manager: Any) -> None:
        self._clsmap[name] = manager

    def __delitem__(self, name: str) -> None:
        del self._clsmap[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*registry.known(), *self._clsmap}))

    def __len__(self) -> int:
        return len({*registry.known(), *self._clsmap})

    def __contains__(self, name: object) -> bool:
        return name in self._clsmap or name in registry.known()

    def __repr__(self) -> str:
        return f"<ClassMap with {len(self._clsmap)} assigned>"


def assigned(clsmap: Mapping[str, Any], name: str) -> Any:
    """What a program has put into ``clsmap``, or into the mapping it has put in its place; ``None`` if nothing."""
    own = clsmap._clsmap if isinstance(clsmap, ClassMap) else clsmap
    return own.get(name)
