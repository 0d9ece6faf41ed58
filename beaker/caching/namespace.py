"""Managers: what the values of one namespace are read and written through.

Third parties subclass :class:`NamespaceManager` with nothing but dict operations; the engine above speaks
to :meth:`~NamespaceManager.read` and :meth:`~NamespaceManager.write`, which stand on those. The manager over
a :class:`~beaker.storage.api.Store` is in :mod:`beaker.caching.store_manager`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from beaker import clock as _clock
from beaker._typing import Clock
from beaker.caching.entry import Entry, check_reusable
from beaker.caching.freshness import Freshness, Patience, freshness_of
from beaker.caching.marks import Begun, Creation, Good, LocalMarks, Mode
from beaker.caching.outage import Flight, Flights, noted
from beaker.counters import cache_tally
from beaker.exceptions import StoreUnavailable
from beaker.locking.factories import ThreadLocks
from beaker.locking.registries import WeakValuedRegistry

if TYPE_CHECKING:
    from beaker.counters.tallies import CacheTally
    from beaker.locking.factories import Lock

__all__ = ["EntryNamespaceManager", "NamespaceManager"]

_threads = ThreadLocks()
_marks: WeakValuedRegistry[tuple[type, str], LocalMarks] = WeakValuedRegistry()


class NamespaceManager:
    """The values of one namespace, by key (manual 5.1.2).

    A subclass gives ``__getitem__`` (KeyError when absent), ``__setitem__``, ``__contains__``,
    ``__delitem__``, ``keys`` and ``do_remove``. All managers of one name and the same options
    share the data. Override :meth:`set_value` to learn how long a value is valid,
    :meth:`get_access_lock` when reading beside a writer is not safe, and :meth:`get_creation_lock` when
    creators on several hosts must agree; the default is one creator per key in this process.
    """

    freshness: Freshness = Freshness()
    """What happens at expiry; set by the cache's options."""
    lock_timeout: float = 30.0
    """Seconds a call waits for another creation, or gets the old value, before it creates the value itself."""
    on_unavailable: str = "create"
    """``create``: a value is created without its store when that cannot be asked; ``raise``: the error is raised."""
    blocks: bool = True
    """Its operations may wait for something outside this process: event loops call them in worker threads."""
    warned_too_large = False
    """A value was over the store's limit, and that was said."""

    clock: Clock = staticmethod(_clock.now)

    patience: Patience = Patience(time.monotonic)
    """Notices creations that hang; each configured manager has its own."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.access_lock: Any = self.get_access_lock()
        self.marks: LocalMarks = _marks.get((type(self), namespace), LocalMarks)
        """The creations in flight, those of this process; all managers of one name share them."""

    def configure(self, options: Mapping[str, Any]) -> None:
        """Take what concerns the engine (``on_expired``, ``lock_timeout``, ...) from a cache's options."""
        self.freshness = freshness_of(options)
        self.lock_timeout = float(options.get("lock_timeout", type(self).lock_timeout))
        self.on_unavailable = options.get("on_unavailable") or type(self).on_unavailable
        clock = options.get("clock")
        if clock is not None:
            self.clock = clock
        self.patience = Patience(time.monotonic if clock is None else clock)

    # Counting

    @cached_property
    def tally(self) -> CacheTally:
        """Where the calls are counted; a cache sets the one of its region."""
        return cache_tally("", self.namespace)

    # Without a store

    def tolerate(self, err: StoreUnavailable) -> None:
        """Note that a value is created without its store, for which ``err`` is the reason; or raise ``err``."""
        if self.on_unavailable == "raise":
            raise err
        noted(err)

    def flight(self, key: str) -> Flight:
        """The creation of ``key`` without a store."""
        flights = self.__dict__.setdefault("_flights", Flights())
        found: Flight = flights.of(self.namespace, key)
        return found

    def sharing(self, key: str, value: Any) -> Callable[[], Any]:
        """What makes copies of ``value`` for callers that waited for it, as reading it would."""
        return lambda: value

    # What a subclass brings

    def __getitem__(self, key: str) -> Any:
        raise NotImplementedError

    def __setitem__(self, key: str, value: Any) -> None:
        raise NotImplementedError

    def __contains__(self, key: object) -> bool:
        raise NotImplementedError

    def __delitem__(self, key: str) -> None:
        raise NotImplementedError

    def keys(self) -> Iterable[str]:
        """The keys that are there, in no order. A store that cannot list raises NotImplementedError."""
        raise NotImplementedError(f"{type(self).__name__} cannot list its keys")

    def do_remove(self) -> None:
        """Remove every value of the namespace; called by :meth:`remove` under the write lock."""
        raise NotImplementedError

    def set_value(self, key: str, value: Any, expiretime: float | None = None) -> None:
        """Store ``value``; ``expiretime`` (seconds it is valid for) is a hint for pruning."""
        self[key] = value

    # The dict face

    def has_key(self, key: str) -> bool:
        """``key in self``."""
        return key in self

    def get(self, key: str, default: Any = None) -> Any:
        """The value of ``key``, or ``default``."""
        try:
            return self[key]
        except KeyError:
            return default

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def remove(self) -> None:
        """Remove every value of this namespace, and of no other."""
        self.marks.void_all()
        with self.writing():
            self.do_remove()

    # Locks

    def get_access_lock(self) -> Any:
        """A many-readers-one-writer synchronizer, or ``None`` where single operations are atomic."""
        return None

    def get_creation_lock(self, key: str) -> Lock:
        """The lock the creator of ``key`` holds: ``acquire(wait) -> bool`` and ``release()``."""
        return _threads.creation(f"{type(self).__module__}.{type(self).__qualname__}\0{self.namespace}", key)

    def acquire_read_lock(self) -> bool:
        """Begin reading; many may."""
        if self.access_lock is not None:
            self.access_lock.acquire_read_lock()
        return True

    def release_read_lock(self) -> None:
        if self.access_lock is not None:
            self.access_lock.release_read_lock()

    def acquire_write_lock(self, wait: bool = True, replace: bool = False) -> bool:
        """Begin writing, alone. ``False`` when ``wait`` is false and the lock is taken.

        ``replace`` is what Beaker 1.6 and later call it with; nothing is dropped for it.
        """
        return self.access_lock is None or self.access_lock.acquire_write_lock(wait) is not False

    def release_write_lock(self) -> None:
        if self.access_lock is not None:
            self.access_lock.release_write_lock()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """The read lock for the length of a ``with`` block."""
        self.acquire_read_lock()
        try:
            yield
        finally:
            self.release_read_lock()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """The write lock for the length of a ``with`` block."""
        self.acquire_write_lock()
        try:
            yield
        finally:
            self.release_write_lock()

    # What the engine uses

    def read(self, key: str) -> Entry | None:
        """The entry of ``key``, expired or not; ``None`` when there is none that can be understood."""
        with self.reading():
            try:
                stored = self[key]
            except KeyError:
                return None
        return _entry(stored)

    def write(self, key: str, entry: Entry) -> None:
        """Store ``entry``; it replaces what was there."""
        self.marks.void(key)
        with self.writing():
            self.set_value(key, (entry.stored, entry.expiretime, entry.value), entry.expiretime)

    def discard(self, key: str) -> None:
        """Remove ``key`` if it is there."""
        self.marks.void(key)
        with self.writing(), contextlib.suppress(KeyError):
            del self[key]

    def begin(self, key: str, good: Good, *, absent: bool = False, mode: Mode = "hold") -> Begun:
        """Begin to create the value of ``key``, unless its entry is ``good`` or another has the key alone.

        What :meth:`write`, :meth:`discard` and :meth:`remove` do from then on, here to all managers of one class and
        name in this process, voids the creation. ``absent``: a read found nothing a moment ago.
        """
        entry = self.read(key)
        if entry is not None and good(entry):
            return Begun(entry, None)
        return Begun(entry, self._begin_here(key))

    def restart(self, key: str) -> Creation:
        """Begin to create the value of ``key`` anew; creations of it in flight are voided, the present value stays."""
        self.marks.void(key)
        return self._begin_here(key)

    def _begin_here(self, key: str) -> Creation:
        return self.marks.begin(key, lambda entry: self.write(key, entry), lambda: self.discard(key))

    def is_taken(self, entry: Entry) -> bool:
        """Whether another creation has the key alone, as far as ``entry``, which was read, shows."""
        return False

    def read_many(self, keys: Iterable[str]) -> dict[str, Entry]:
        """The entries of those ``keys`` that are there."""
        found = ((key, self.read(key)) for key in keys)
        return {key: entry for key, entry in found if entry is not None}

    def write_many(self, entries: Mapping[str, Entry]) -> None:
        """Store all ``entries``. Not atomic: after an error some may be stored."""
        for key, entry in entries.items():
            self.write(key, entry)

    def discard_many(self, keys: Iterable[str]) -> None:
        """Remove all ``keys``."""
        for key in keys:
            self.discard(key)


def _entry(stored: object) -> Entry | None:
    # A plain tuple and not an Entry is kept in foreign managers: what they pickle stays readable
    # even when our classes change. Anything else there was not written by this class.
    if not (isinstance(stored, tuple) and len(stored) == 3):
        return None
    when, expiretime, value = stored
    if not isinstance(when, (int, float)) or not (expiretime is None or isinstance(expiretime, (int, float))):
        return None
    return Entry(value, float(when), expiretime)


class EntryNamespaceManager(NamespaceManager):
    """A manager that stands on ``read``, ``write`` and ``discard``, and gets its dict operations from them."""

    def __getitem__(self, key: str) -> Any:
        entry = self.read(key)
        if entry is None:
            raise KeyError(key)
        return entry.value

    def __setitem__(self, key: str, value: Any) -> None:
        self.set_value(key, value)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.read(key) is not None

    def __delitem__(self, key: str) -> None:
        if self.read(key) is None:
            raise KeyError(key)
        self.discard(key)

    def set_value(self, key: str, value: Any, expiretime: float | None = None) -> None:
        """Store ``value``, valid for ``expiretime`` seconds from now."""
        check_reusable(value)
        self.write(key, Entry(value, self.clock(), expiretime))

    def keep(self, entry: Entry) -> float | None:
        """Seconds from now for which the data behind ``entry`` is kept, ``None`` for ever."""
        return self.freshness.keeps(entry, self.clock())
