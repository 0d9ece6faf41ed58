"""Where the dogpile algorithm finds one key, and what it calls to create its value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beaker.caching.entry import Entry
from beaker.caching.marks import Begun, Good, Mode
from beaker.caching.namespace import NamespaceManager
from beaker.exceptions import StoreUnavailable

__all__ = ["Began", "KeyPlace"]


class Began:
    """A creation function that knows whether it was called."""

    __slots__ = ("_called", "_create")

    def __init__(self, create: Callable[[], Any]) -> None:
        self._create = create
        self._called = False

    def __call__(self) -> Any:
        self._called = True
        return self._create()

    def tolerate(self, manager: NamespaceManager, err: StoreUnavailable) -> None:
        """Go on without the store, or raise ``err``."""
        # What the function itself raised is the caller's, as is the failure of a store it used.
        if self._called:
            raise err
        manager.tolerate(err)


class KeyPlace:
    """A :class:`~beaker.caching.value.Value` as :func:`~beaker.caching.dogpile.get_or_create` sees it."""

    __slots__ = ("copies", "key", "manager", "store")

    def __init__(self, value: Any) -> None:
        self.key = value.key
        self.manager: NamespaceManager = value.namespace
        self.store = value.store_if_possible
        self.copies = value.copies

    def read(self) -> Entry | None:
        return self.manager.read(self.key)

    def begin(self, good: Good, *, absent: bool, mode: Mode) -> Begun:
        return self.manager.begin(self.key, good, absent=absent, mode=mode)

    def is_taken(self, entry: Any) -> bool:
        return self.manager.is_taken(entry)

    def is_overdue(self, entry: Any) -> bool:
        manager = self.manager
        return manager.patience.ended(self.key, entry.stored, manager.lock_timeout)
