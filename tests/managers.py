"""A third party's manager, as the manual's words alone have it written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from beaker.container import NamespaceManager

__all__ = ["DictManager", "DictOperations"]


class DictOperations:
    """What a dict does, on ``data``."""

    data: Any

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.data[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self.data

    def __delitem__(self, key: str) -> None:
        del self.data[key]

    def keys(self) -> Iterable[str]:
        return self.data.keys()


class DictManager(DictOperations, NamespaceManager):
    """A third party's manager: a plain dict, nothing but dict operations."""

    spaces: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, namespace: str, **kwargs: Any) -> None:
        super().__init__(namespace)
        self.data = self.spaces.setdefault(namespace, {})

    def do_remove(self) -> None:
        self.data.clear()
