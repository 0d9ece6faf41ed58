"""The manager over a store: entries become records, and the store's capabilities are used where it has them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from beaker.caching.entry import Entry, EntryCodec, MarkedEntry
from beaker.caching.factory import codec_for, lease_for, locks_for
from beaker.caching.freshness import Freshness
from beaker.caching.marks import Begun, Creation, Good, LocalMarks, Mode
from beaker.caching.namespace import EntryNamespaceManager
from beaker.caching.outage import Flight, Flights
from beaker.caching.stored_marks import StoredMarks
from beaker.storage.api import Bulk, Listing, Store, Versioned, shared_store

if TYPE_CHECKING:
    from beaker._typing import Clock
    from beaker.locking.factories import Lock

__all__ = ["StoreNamespaceManager"]


class StoreNamespaceManager(EntryNamespaceManager):
    """The values of one namespace of a ``store``.

    A read is one store call.

    * ``namespace``: its name.
    * ``store``: where the records are.
    * ``serializer``, ``secret``, ``encrypt_key``: how values become records; see
      ``beaker.caching.factory.codec_for``.
    * ``lock``, ``lock_dir``, ``lease_ttl``: who may create a value; see ``beaker.caching.factory.locks_for``.
      ``locks``: a LockFactory in their place.
    * ``clock``: returns seconds since the epoch.
    * Those of :meth:`configure`. Other options are ignored, since one mapping configures backends of several types.
    """

    def __init__(self, namespace: str, store: Store, **options: Any) -> None:
        self.store = store
        self.configure(options)
        self.codec: EntryCodec = codec_for(store, options)
        self._locks = options.get("locks") or locks_for(store, options)
        super().__init__(namespace)
        self._stored_marks: StoredMarks | None = None
        if isinstance(store, Versioned):
            lease = None if options.get("locks") else lease_for(store, options)
            # A function of its own, not a method: a circle would keep every manager until it is collected.
            keep = functools.partial(_kept, self.freshness, self.clock)
            self._stored_marks = StoredMarks(store, self.codec, namespace, clock=self.clock, keep=keep, lease=lease)
        else:
            self.marks = shared_store(("marks", store, namespace), LocalMarks)

    def get_creation_lock(self, key: str) -> Lock:
        lock: Lock = self._locks.creation(self.namespace, key)
        return lock

    def flight(self, key: str) -> Flight:
        flights: Flights = shared_store(("flights", self.store), Flights)
        return flights.of(self.namespace, key)

    def sharing(self, key: str, value: Any) -> Callable[[], Any]:
        return self.codec.copier(value)

    def read(self, key: str) -> Entry | None:
        data = self.store.get(self.namespace, key)
        if data is None:
            return None
        self.tally.bytes_read += len(data)
        return self.codec.decode(self.namespace, key, data)

    def begin(self, key: str, good: Good, *, absent: bool = False, mode: Mode = "hold") -> Begun:
        """As :meth:`NamespaceManager.begin`; with a store that knows versions for all processes and hosts."""
        if self._stored_marks is None:
            return super().begin(key, good, absent=absent, mode=mode)
        self._stored_marks.tally = self.tally
        return self._stored_marks.begin(key, good, absent=absent, mode=mode)

    def restart(self, key: str) -> Creation:
        if self._stored_marks is None:
            return super().restart(key)
        self._stored_marks.tally = self.tally
        return self._stored_marks.restart(key)

    def is_taken(self, entry: Entry) -> bool:
        return (
            isinstance(entry, MarkedEntry)
            and self._stored_marks is not None
            and self._stored_marks.is_taken(entry.mark)
        )

    def write(self, key: str, entry: Entry) -> None:
        self.marks.void(key)
        data = self.codec.encode(self.namespace, key, entry)
        self.store.set(self.namespace, key, data, ttl=self.keep(entry))
        self.tally.bytes_written += len(data)

    def discard(self, key: str) -> None:
        self.marks.void(key)
        self.store.delete(self.namespace, key)

    def do_remove(self) -> None:
        self.store.clear(self.namespace)

    def keys(self) -> Iterable[str]:
        """The keys that are there, in no order. NotImplementedError where the store cannot list."""
        if isinstance(self.store, Listing):
            return self.store.keys(self.namespace)
        return super().keys()

    def read_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        if not isinstance(self.store, Bulk):
            return super().read_many(keys)
        found = self.store.get_many(self.namespace, keys)
        self.tally.bytes_read += sum(map(len, found.values()))
        entries = {key: self.codec.decode(self.namespace, key, data) for key, data in found.items()}
        return {key: entry for key, entry in entries.items() if entry is not None}

    def write_many(self, entries: Mapping[str, Entry]) -> None:
        if not isinstance(self.store, Bulk):
            return super().write_many(entries)
        for key in entries:
            self.marks.void(key)
        # A store's batch has one ttl; everything is encoded first, so a bad value stores nothing.
        batches: dict[float | None, dict[str, bytes]] = {}
        for key, entry in entries.items():
            batches.setdefault(self.keep(entry), {})[key] = self.codec.encode(self.namespace, key, entry)
        for ttl, items in batches.items():
            self.store.set_many(self.namespace, items, ttl=ttl)
            self.tally.bytes_written += sum(map(len, items.values()))

    def discard_many(self, keys: Iterable[str]) -> None:
        if not isinstance(self.store, Bulk):
            return super().discard_many(keys)
        keys = list(keys)
        for key in keys:
            self.marks.void(key)
        self.store.delete_many(self.namespace, keys)


def _kept(freshness: Freshness, clock: Clock, entry: Entry) -> float | None:
    return freshness.keeps(entry, clock())
