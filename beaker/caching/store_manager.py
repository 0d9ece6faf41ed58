"""The manager over a store: entries become records, and the store's capabilities are used where it has them."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from beaker import serving
from beaker.caching.copies import NOTHING, Copies
from beaker.caching.entry import Entry, EntryCodec, MarkedEntry, stamps_of
from beaker.caching.factory import codec_for, lease_for, locks_for
from beaker.caching.freshness import Freshness
from beaker.caching.marks import Begun, Creation, Good, LocalMarks, Mode
from beaker.caching.namespace import EntryNamespaceManager
from beaker.caching.outage import Flight, Flights
from beaker.caching.stamped import Known, StoredCreation, stamped_now, without
from beaker.caching.stamps import NAMESPACE, Stamp, StampBook, name_of
from beaker.caching.stored_marks import StoredMarks
from beaker.caching.unwritten import leaves_doubt, unwritten_of
from beaker.exceptions import ConfigError, StoreUnavailable
from beaker.storage.api import Bulk, Listing, Store, Versioned, shared_store

if TYPE_CHECKING:
    from beaker._typing import Clock
    from beaker.caching.near import Seen
    from beaker.locking.factories import Lock

__all__ = ["StoreNamespaceManager"]


class StoreNamespaceManager(Copies, EntryNamespaceManager):
    """The values of one namespace of a ``store``.

    A read is one store call.

    * ``namespace``: its name.
    * ``store``: where the records are.
    * ``serializer``, ``secret``, ``encrypt_key``: how values become records; see
      ``beaker.caching.factory.codec_for``.
    * ``lock``, ``lock_dir``, ``lease_ttl``: who may create a value; see ``beaker.caching.factory.locks_for``.
      ``locks``: a LockFactory in their place.
    * ``auto_recovery``: an invalidation that could not be written is made good before the key is read; default true.
    * ``clock``: returns seconds since the epoch.
    * ``near``, ``near_copy``, ``max_entries``, ``max_bytes``: a near tier; see ``beaker.caching.near``.
    * ``memo``: a request remembers what it has read, as ``near_copy`` says; see ``beaker.caching.memo``.
    * Those of :meth:`configure`. Other options are ignored, since one mapping configures backends of several types.
    """

    names: tuple[str, ...] = ()
    """The stamps on which every value depends that is read and written here."""
    known: Known | None = None
    """What the last read learnt of them, for the creation that begins at once; of a view only."""

    def __init__(self, namespace: str, store: Store, **options: Any) -> None:
        if namespace == NAMESPACE:
            raise ConfigError(f"the namespace {NAMESPACE!r} is where stamps are kept", option="namespace")
        self._book: StampBook | None = None
        self.store = store
        self.configure(options)
        self.codec: EntryCodec = codec_for(store, options)
        self.same_data = self.codec
        self._locks = options.get("locks") or locks_for(store, options)
        if options.get("auto_recovery") is not False:
            self.unwritten = unwritten_of(store, namespace)
        if options.get("memo"):
            self.memo, self.memo_objects = True, options.get("near_copy") == "objects"
            serving.want()
        self.near = self._near_tier(namespace, options) if options.get("near") else None
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

    @property
    def stamp_home(self) -> StampBook:  # type: ignore[override]
        """The stamps of the store."""
        return self._book or self._open_book()

    def _open_book(self) -> StampBook:
        store = self.store
        book: StampBook = shared_store(("stamps", store), functools.partial(StampBook, store, self.clock))
        if self.unwritten is not None and book.unwritten is None:
            book.unwritten = unwritten_of(store, NAMESPACE)
        self._book = book
        return book

    def join_region(self, region: str, stamped: bool) -> None:
        if stamped and region:
            self.names = (name_of("r", region),)
            self.depends = True

    def forget_region(self, region: str) -> None:
        if not self.depends:
            super().forget_region(region)
        self.stamp_home.move_for_all((name_of("r", region),))

    def view(self, tags: tuple[str, ...] = ()) -> StoreNamespaceManager:
        view = copy.copy(self)
        view.names = (*self.names, *(name_of("t", tag) for tag in tags))
        view.known = None
        view.origin = self.origin or self
        return view

    def holds(self, entry: Entry) -> bool:
        if not stamps_of(entry):
            return True
        try:
            return Known(self.stamp_home.read, ()).holds(entry)
        except StoreUnavailable:
            return False

    def read(self, key: str) -> Entry | None:
        if self.unwritten is not None and self.unwritten.pending:
            self._recover(key)
        if self.memo and (memo := self._memo()) is not None:
            return memo.read(self, key)
        if self.near is not None:
            return self.near.read(self, key)
        if self.names:
            return self._read_stamped((key,)).get(key)
        data = self.store.get(self.namespace, key)
        if data is None:
            return None
        self.tally.bytes_read += len(data)
        entry = self.codec.decode(self.namespace, key, data)
        return entry if entry is None or type(entry) is Entry else self._known().current(entry)

    def _known(self) -> Known:
        return Known(self._look, self.names)

    def _look(self, names: Iterable[str]) -> dict[str, Stamp | None]:
        return self.stamp_home.read(names) if self.near is None else self.near.look(names)

    def _read_stamped(self, keys: Iterable[str]) -> dict[str, Entry]:
        return self.understand(*self.stamp_home.read_with(self.namespace, keys, self.names))

    def understand(self, records: Mapping[str, bytes], found: Mapping[str, Stamp | None]) -> dict[str, Entry]:
        """The entries in ``records`` that hold by the stamps ``found``, and by others that are looked up."""
        known = self._known()
        known.found.update(found)
        if self.names:
            self.known = known
        self.tally.bytes_read += sum(map(len, records.values()))
        entries = {key: self.codec.decode(self.namespace, key, data) for key, data in records.items()}
        known.learn(entry for entry in entries.values() if entry is not None)
        return {key: entry for key, entry in entries.items() if entry is not None and known.holds(entry)}

    def begin(self, key: str, good: Good, *, absent: bool = False, mode: Mode = "hold") -> Begun:
        """As :meth:`NamespaceManager.begin`; with a store that knows versions for all processes and hosts."""
        known = self.known if absent and self.known is not None else self._known()
        if not known.found:
            known.found = self._look(self.names) if self.names else {}
        good = known.good(good)
        if self._stored_marks is None:
            begun = super().begin(key, good, absent=absent, mode=mode)
        else:
            self._stored_marks.tally = self.tally
            begun = self._stored_marks.begin(key, good, absent=absent, mode=mode)
        self.known = None
        return self._begun(key, begun, known)

    def restart(self, key: str) -> Begun:
        if self._stored_marks is None:
            return self._begun(key, super().restart(key), self._known(), restarted=True)
        self._stored_marks.tally = self.tally
        try:
            restarted = self._stored_marks.restart(key)
        except BaseException as err:
            if leaves_doubt(err):
                self.note_unwritten(key)
            raise
        return self._begun(key, restarted, self._known(), restarted=True)

    def _recording(self, *keys: str, whole: bool = False) -> contextlib.AbstractContextManager[None]:
        return NOTHING if self.unwritten is None else self.unwritten.changing(*keys, whole=whole)

    def _recover(self, key: str) -> None:
        unwritten = self.unwritten
        if unwritten is None or not unwritten.concerns(key):
            return
        if self.near is None:
            unwritten.recover(key)
            return
        try:
            with self.near.changing():
                unwritten.recover(key)
        except StoreUnavailable:
            unwritten.note(key)
            raise

    def _begun(self, key: str, begun: Begun, known: Known, *, restarted: bool = False) -> Begun:
        near = self.near
        stored = None if near is None else near.changed if restarted else functools.partial(near.forget, key)
        try:
            creation = None if begun.creation is None else self._stamped(begun.creation, known, stored)
            if creation is not None and serving.wanted:
                from beaker.caching.memo import RememberedCreation

                creation = RememberedCreation(creation, self, key, keeps=self.memo)
            return without(begun._replace(creation=creation), known)
        except BaseException:
            if begun.creation is not None:
                begun.creation.abandon()
            raise

    def _stamped(self, creation: Creation, known: Known, stored: Callable[[], None] | None) -> Creation:
        if not self.names:
            return creation if stored is None else StoredCreation(creation, self.stamp_home, {}, self.keep, stored)
        found = known.found or self._look(self.names)
        stamps = self.stamp_home.ensure({name: found[name] for name in self.names})
        return StoredCreation(creation, self.stamp_home, stamps, self.keep, stored)

    def _begin_here(self, key: str) -> Creation:
        return self.marks.begin(key, lambda entry: self._put(key, entry), lambda: self.discard(key))

    def prolong(self, key: str, entry: Entry, later: Entry) -> None:
        if self._stored_marks is None:
            # The store is asked whether the value is still there, not a copy of it.
            self._drop_copies(key)
            super().prolong(key, entry, later)
        else:
            self._stored_marks.prolong(key, entry, later)
        # They would be renewed again by each hit.
        self._drop_copies(key)

    def is_taken(self, entry: Entry) -> bool:
        return (
            isinstance(entry, MarkedEntry)
            and self._stored_marks is not None
            and self._stored_marks.is_taken(entry.mark)
        )

    def write(self, key: str, entry: Entry) -> None:
        with self._recording(key):
            if self.names:
                entry = self._with_stamps((entry,))[0]
            if self.near is None and not serving.wanted:
                # There are no copies.
                self._put(key, entry)
            elif not self._put_and_move({key: entry}):
                with self._changing(key):
                    self._put(key, entry)

    def note_unwritten(self, key: str) -> None:
        super().note_unwritten(key)
        with self._changing(key) if serving.wanted else NOTHING:
            pass

    def _put(self, key: str, entry: Entry) -> None:
        self.marks.void(key)
        data = self.codec.encode(self.namespace, key, entry)
        self.store.set(self.namespace, key, data, ttl=self.keep(entry))
        self.tally.bytes_written += len(data)

    def _with_stamps(self, entries: Iterable[Entry]) -> list[Entry]:
        """``entries`` as depending on the stamps as they are now; what a creation has created, as they were then."""
        given = list(entries)
        if not self.names or not given or stamps_of(given[0]):
            return given
        return stamped_now(self.stamp_home, self._look(self.names), given, self.keep)

    def discard(self, key: str) -> None:
        self.marks.void(key)
        with self._recording(key):
            if not self._put_and_move({key: None}):
                with self._changing(key):
                    self.store.delete(self.namespace, key)

    def do_remove(self) -> None:
        with self._recording(whole=True), self._changing():
            self.store.clear(self.namespace)

    def keys(self) -> Iterable[str]:
        """The keys that are there, in no order. NotImplementedError where the store cannot list."""
        if isinstance(self.store, Listing):
            return self.store.keys(self.namespace)
        return super().keys()

    def read_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        if self.unwritten is not None and self.unwritten.pending:
            keys = list(keys)
            for key in keys:
                self._recover(key)
        if self.memo and (memo := self._memo()) is not None:
            return memo.read_many(self, keys)
        if self.near is not None:
            return self.near.read_many(self, keys)
        if self.names:
            return self._read_stamped(keys)
        if not isinstance(self.store, Bulk):
            return super().read_many(keys)
        return self.understand(self.store.get_many(self.namespace, keys), {})

    def fetch(self, keys: Iterable[str], seen: Seen) -> dict[str, Entry]:
        """The entries of ``keys``, from the near tier or the store; ``seen`` is given each with its record."""
        if self.near is not None:
            return self.near.read_many(self, keys, seen)
        records, found = self.stamp_home.read_with(self.namespace, keys, self.names)
        entries = self.understand(records, found)
        for key, entry in entries.items():
            seen(key, records[key], entry)
        return entries

    def write_many(self, entries: Mapping[str, Entry]) -> None:
        store = self.store
        if not isinstance(store, Bulk):
            return super().write_many(entries)
        for key in entries:
            self.marks.void(key)
        with self._recording(*entries):
            self._write_all(store, dict(zip(entries, self._with_stamps(entries.values()), strict=True)))

    def _write_all(self, store: Bulk, entries: Mapping[str, Entry]) -> None:
        if self._put_and_move(entries):
            return
        # A store's batch has one ttl, and the clock goes on between two entries of one end. Everything is encoded
        # first, so a bad value stores nothing.
        batches: dict[float | None, dict[str, bytes]] = {}
        for key, entry in entries.items():
            until = self.freshness.kept_until(entry)
            batches.setdefault(until, {})[key] = self.codec.encode(self.namespace, key, entry)
        now = self.clock()
        with self._changing(*entries):
            for until, items in batches.items():
                store.set_many(self.namespace, items, ttl=None if until is None else max(0.0, until - now))
                self.tally.bytes_written += sum(map(len, items.values()))

    def discard_many(self, keys: Iterable[str]) -> None:
        if not isinstance(self.store, Bulk):
            return super().discard_many(keys)
        keys = list(keys)
        for key in keys:
            self.marks.void(key)
        with self._recording(*keys):
            if not self._put_and_move(dict.fromkeys(keys)):
                with self._changing(*keys):
                    self.store.delete_many(self.namespace, keys)


def _kept(freshness: Freshness, clock: Clock, entry: Entry) -> float | None:
    return freshness.keeps(entry, clock())
