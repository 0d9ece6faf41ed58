"""The manager over a dictionary, as third parties subclass it."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from beaker.caching.namespace import NamespaceManager

__all__ = ["AbstractDictionaryNSManager"]


class AbstractDictionaryNSManager(NamespaceManager):
    """The values of one namespace in ``self.dictionary``, a mapping that the subclass sets.

    ::

        class Mine(AbstractDictionaryNSManager):
            def __init__(self, namespace, **options):
                super().__init__(namespace)
                self.dictionary = dictionaries.get(namespace, dict)
    """

    dictionary: MutableMapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.dictionary[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.dictionary[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self.dictionary

    def __delitem__(self, key: str) -> None:
        del self.dictionary[key]

    def keys(self) -> Iterable[str]:
        return list(self.dictionary.keys())

    def do_remove(self) -> None:
        self.dictionary.clear()
