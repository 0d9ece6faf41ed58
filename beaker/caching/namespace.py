"""Managers: what the values of one namespace are read and written through.

Third parties subclass :class:`NamespaceManager` with nothing but dict operations; the engine above speaks
to :meth:`~NamespaceManager.read` and :meth:`~NamespaceManager.write`, which stand on those. The manager over
a :class:`~beaker.storage.api.Store` is in :mod:`beaker.caching.store_manager`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import cached_property, partial
from types import NoneType
from typing import TYPE_CHECKING, Any

from beaker import clock as _clock
from beaker._typing import Clock
from beaker.caching.access import AccessLocks
from beaker.caching.entry import Entry, FailedEntry, check_reusable
from beaker.caching.freshness import Freshness, Patience, freshness_of
from beaker.caching.marks import Begun, Creation, Good, LocalMarks, Mode
from beaker.caching.negative import Negative, negative_of
from beaker.caching.outage import Flight, Flights, noted
from beaker.caching.timeouts import Timeouts, timeouts_of
from beaker.counters import cache_tally
from beaker.exceptions import BeakerException, ConfigError, StoreUnavailable
from beaker.locking.factories import ThreadLocks
from beaker.locking.registries import WeakValuedRegistry

if TYPE_CHECKING:
    from beaker.caching.stamps import StampHome
    from beaker.caching.unwritten import Unwritten
    from beaker.counters.tallies import CacheTally
    from beaker.locking.factories import Lock

__all__ = ["EntryNamespaceManager", "NamespaceManager"]

_LONGEST = 10**9
"""Seconds, 31 years."""
_threads = ThreadLocks()
_marks: WeakValuedRegistry[tuple[type, str], LocalMarks] = WeakValuedRegistry()


class NamespaceManager(AccessLocks):
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
    same_data: Hashable = None
    """Equal for managers that read what the other one wrote; ``None``: that is known of no other."""
    negative: Negative | None = None
    """How long ``None`` and certain exceptions are kept, if not like other values."""
    sliding: float | None = None
    """Seconds for which a value is valid after it was read."""
    attentive: bool = False
    """Whether a hit is more than reading and returning a value."""
    timeouts: Timeouts | None = None
    """How long calls wait for a creation, if not as long as it takes."""
    keeps_failures: bool = False
    """Whether entries come back as they were written, so that one may be an exception."""
    unwritten: Unwritten | None = None
    """Invalidations that could not be written, where they are made good."""
    warned_too_large = False
    """A value was over the store's limit, and that was said."""

    origin: NamespaceManager | None = None
    """What this is a :meth:`view` of."""
    depends: bool = False
    """Every value depends on stamps, which are read with it: calls go through :meth:`view`."""
    stamp_home: StampHome | None = None
    """Where the stamps of its values are; ``None``: its values can have none."""

    clock: Clock = staticmethod(_clock.now)

    patience: Patience = Patience(time.monotonic)
    """Notices creations that hang; each configured manager has its own."""

    @classmethod
    def _init_dependencies(cls) -> None:
        """Import what the class needs, for managers written for Beaker up to 1.14; called when one is created."""

    def __init__(self, namespace: str) -> None:
        self._init_dependencies()
        self.namespace = namespace
        super().__init__()
        self.marks: LocalMarks = _marks.get((type(self), namespace), LocalMarks)
        """The creations in flight, those of this process; all managers of one name share them."""

    def configure(self, options: Mapping[str, Any]) -> None:
        """Take what concerns the engine (``on_expired``, ``lock_timeout``, ...) from a cache's options."""
        self.freshness = freshness_of(options)
        self.lock_timeout = float(options.get("lock_timeout", type(self).lock_timeout))
        self.negative = negative_of(options)
        self.timeouts = timeouts_of(options)
        self.sliding = options.get("sliding") if self.keeps_failures else None
        self.attentive = bool(self.freshness.early) or self.sliding is not None
        self.on_unavailable = options.get("on_unavailable") or type(self).on_unavailable
        clock = options.get("clock")
        if clock is not None:
            self.clock = clock
        self.patience = Patience(time.monotonic if clock is None else clock)

    # Stamps

    def join_region(self, region: str, stamped: bool) -> None:
        """Belong to ``region``; ``stamped``: its values depend on the region's stamp."""
        if stamped and region:
            raise ConfigError(
                f"values of type {type(self).__name__} cannot depend on a region's stamp",
                option="region_stamp",
                expected="a type that keeps its values in a store",
                hint="leave region_stamp out",
            )

    def forget_region(self, region: str) -> None:
        """Make every value of ``region`` old, in all its namespaces. ConfigError where that takes an option."""
        raise ConfigError(
            f"cache region {region!r} has no stamp",
            option="region_stamp",
            hint=f"set {region}.region_stamp = true in every process that uses the region",
        )

    def view(self, tags: tuple[str, ...] = ()) -> NamespaceManager:
        """The same values for one call, which may be used by one thread at a time; those it reads and writes depend
        on ``tags``, too. ConfigError where values can have no tags."""
        if tags:
            raise ConfigError(
                f"values of type {type(self).__name__} cannot have tags",
                option="tags",
                expected="a type that keeps its values in a store",
                hint="subclass beaker.caching.store_manager.StoreNamespaceManager, or leave tags out",
            )
        return self

    def holds(self, entry: Entry) -> bool:
        """Whether nothing has moved of what ``entry``, which was just stored, depends on."""
        return True

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

    def sharing(self, key: str, value: Any) -> Callable[[], Any] | None:
        """What creates copies of ``value`` for callers that waited for it, as reading it would; ``None``: it is not
        known what reading does to a value."""
        return None

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
        """Store ``value``; ``expiretime`` (whole seconds it is valid for) is a hint for pruning."""
        self[key] = value

    # The dict face

    def has_key(self, key: str) -> bool:
        """``key in self``."""
        return key in self

    def get(self, key: str, default: Any = None) -> Any:
        """The value of ``key``, or ``default``."""
        try:
            return self[key]
        except Exception as err:
            if self._means_more(err, key):
                raise
            return default

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def remove(self) -> None:
        """Remove every value of this namespace, and of no other."""
        self.marks.void_all()
        with self.writing():
            self.do_remove()

    # Locks

    def get_creation_lock(self, key: str) -> Lock:
        """The lock the creator of ``key`` holds: ``acquire(wait) -> bool`` and ``release()``."""
        return _threads.creation(f"{type(self).__module__}.{type(self).__qualname__}\0{self.namespace}", key)

    # What the engine uses

    def read(self, key: str) -> Entry | None:
        """The entry of ``key``, expired or not; ``None`` when there is none that can be understood."""
        with self.reading():
            try:
                stored = self[key]
            except Exception as err:
                if self._means_more(err, key):
                    raise
                return None
        return _entry(stored)

    def write(self, key: str, entry: Entry) -> None:
        """Store ``entry``; it replaces what was there."""
        self.marks.void(key)
        with self.writing():
            # Whole seconds, which is what servers that prune take.
            seconds = None if entry.expiretime is None else min(math.ceil(entry.expiretime), _LONGEST)
            self.set_value(key, (entry.stored, entry.expiretime, entry.value), seconds)

    def discard(self, key: str) -> None:
        """Remove ``key`` if it is there."""
        self.marks.void(key)
        with self.writing():
            try:
                del self[key]
            except Exception as err:
                if self._means_more(err, key):
                    raise

    def _means_more(self, err: Exception, key: str) -> bool:
        """Whether an error says more than that ``key`` is absent.

        Beaker up to 1.14 asked first, so managers of its time raise anything then. A store's own error is not doubted.
        """
        return not isinstance(err, KeyError) and (isinstance(err, BeakerException) or key in self)

    def begin(self, key: str, good: Good, *, absent: bool = False, mode: Mode = "hold") -> Begun:
        """Begin to create the value of ``key``, unless its entry is ``good`` or another has the key alone.

        What :meth:`write`, :meth:`discard` and :meth:`remove` do from then on, here to all managers of one class and
        name in this process, voids the creation. ``absent``: a read found nothing a moment ago.
        """
        entry = self.read(key)
        if entry is not None and good(entry):
            return Begun(entry, None)
        return Begun(entry, self._begin_here(key))

    def restart(self, key: str) -> Begun:
        """Begin to create the value of ``key`` anew; creations of it in flight are voided, the present value stays."""
        self.marks.void(key)
        creation = self._begin_here(key)
        try:
            return Begun(self.read(key), creation)
        except BaseException:
            creation.abandon()
            raise

    def note_unwritten(self, key: str) -> None:
        """The present value was to be replaced, and is still there: it is not to be trusted."""
        if self.unwritten is not None:
            self.unwritten.note(key)

    def _begin_here(self, key: str) -> Creation:
        return self.marks.begin(key, partial(self.write, key), partial(self.discard, key))

    def prolong(self, key: str, entry: Entry, later: Entry) -> None:
        """Put ``later`` in the place of ``entry``, which was read, if that is still there and no creation in flight."""
        if self.marks.has(key):
            return
        creation = self._begin_here(key)
        current = self.read(key)
        if current is None or (current.stored, current.expires) != (entry.stored, entry.expires):
            creation.abandon()
            return
        try:
            creation.store(later)
        finally:
            creation.abandon()

    def is_taken(self, entry: Entry) -> bool:
        """Whether another creation has the key alone, as far as ``entry``, which was read, shows."""
        return False

    def peek(self, key: str) -> Entry | None:
        """The entry of ``key`` if that is known without asking anything outside this process, so that event loops need
        no worker thread; ``None``: :meth:`read` has to be asked."""
        return None

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

    keeps_failures = True

    def __getitem__(self, key: str) -> Any:
        entry = self.read(key)
        if entry is None or isinstance(entry, FailedEntry):
            raise KeyError(key)
        return entry.value

    def __setitem__(self, key: str, value: Any) -> None:
        self.set_value(key, value)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and not isinstance(self.read(key), (FailedEntry, NoneType))

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
