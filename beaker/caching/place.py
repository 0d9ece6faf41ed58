"""Where the dogpile algorithm finds one key, and what it calls to create its value."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from beaker import counters
from beaker.caching.entry import Entry, FailedEntry
from beaker.caching.freshness import overdue_by
from beaker.caching.marks import Begun, Good, Mode
from beaker.caching.namespace import NamespaceManager
from beaker.caching.terms import Terms
from beaker.exceptions import StoreUnavailable

__all__ = ["Began", "KeyPlace", "NoValue", "OldValue", "PresentValue"]


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
        return self.seen(self.manager.read(self.key))

    def seen(self, entry: Entry | None) -> Entry | None:
        """``entry``, which was read; of an exception that is kept, what this cache takes it for."""
        if not isinstance(entry, FailedEntry):
            return entry
        negative = self.manager.negative
        return None if negative is None else negative.seen(entry, self.manager.clock())

    def begin(self, good: Good, *, absent: bool, mode: Mode) -> Begun:
        begun = self.manager.begin(
            self.key, good if self.manager.negative is None else self._good(good), absent=absent, mode=mode
        )
        return begun._replace(entry=self.seen(begun.entry)) if isinstance(begun.entry, FailedEntry) else begun

    def _good(self, good: Good) -> Good:
        def is_good(entry: Entry) -> bool:
            seen = self.seen(entry)
            return seen is not None and good(seen)

        return is_good

    @property
    def origin(self) -> Hashable:
        manager = self.manager
        return manager if manager.same_data is None else manager.same_data, manager.namespace, self.key

    def is_taken(self, entry: Any) -> bool:
        return self.manager.is_taken(entry)

    def is_overdue(self, entry: Any) -> bool:
        manager = self.manager
        return manager.patience.ended(self.key, entry.stored, manager.lock_timeout)


class OldValue:
    """What is stored now, for a call that does not wait any longer (:class:`beaker.caching.timeouts.Fallback`)."""

    def __init__(self, place: KeyPlace, terms: Terms) -> None:
        self._place = place
        self._terms = terms

    def may_return(self, entry: Entry | None) -> bool:
        """Whether ``entry`` is one that a soft timeout returns."""
        start, policy = self._terms.starttime, self._terms.policy
        if entry is None or (start is not None and entry.stored < start):
            return False
        return policy.max_stale is None or overdue_by(entry, self._terms.clock()) < policy.max_stale

    def stale(self) -> tuple[Any] | None:
        # What was removed meanwhile must not come back.
        entry = self._read()
        return self._told(entry) if entry is not None and self.may_return(entry) else None

    def in_place_of_error(self) -> tuple[Any] | None:
        entry, now = self._read(), self._terms.clock()
        if entry is None or not (self._is_fresh(entry) or self._terms.policy.covers_error(entry, now)):
            return None
        counters.count("stale_served")
        return self._told(entry)

    def _read(self) -> Entry | None:
        try:
            entry = self._place.read()
        except StoreUnavailable:
            return None
        start = self._terms.starttime
        return None if entry is None or (start is not None and entry.stored < start) else entry

    def _is_fresh(self, entry: Entry) -> bool:
        return entry.is_fresh(self._terms.clock(), self._terms.starttime)

    def _told(self, entry: Entry) -> tuple[Any]:
        if not self._is_fresh(entry):
            self._terms.tally.served_stale()
        return (entry.value,)


class PresentValue(OldValue):
    """The value that a refresh is to replace, for a call that does not wait any longer."""

    @property
    def origin(self) -> Hashable:
        """Not that of creations: one may refresh its own key, which takes no lock."""
        return "refresh", self._place.origin

    def stale(self) -> tuple[Any] | None:
        entry = self._read()
        return (entry.value,) if entry is not None and self.may_return(entry) else None

    def in_place_of_error(self) -> None:
        # A refresh that fails says so, with or without a value that stays.
        return None


class NoValue:
    """Where no store can be asked there is none."""

    def stale(self) -> None:
        return None

    def in_place_of_error(self) -> None:
        return None
