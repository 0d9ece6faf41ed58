"""The near tier: copies of a shared store's values in this process, correct over processes and hosts.

Each namespace has a stamp in the store (:mod:`beaker.caching.stamps`), its generation. What writes or removes a value
moves it afterwards, so that copies of before are known to be old by whoever reads the stamp; it is read at most every
``near`` seconds for all keys of the namespace together. A copy belongs to the token that was known *before* its value
was read: had the two been read the other way round, a value of before a change might be taken for one of after it.

So a call gets a copy only if its token, and those of its tags and its region, were the present ones less than ``near``
seconds ago. What this process itself changes, it knows at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from beaker.caching import defaults
from beaker.caching.entry import Entry, EntryCodec, MarkedEntry, stamps_of
from beaker.caching.factory import runtime_of, store_for
from beaker.caching.freshness import MAX_AHEAD
from beaker.caching.object_pool import LivePool, LiveSpace
from beaker.caching.stamp import Stamp
from beaker.caching.stamps import StampBook, name_of
from beaker.counters.tallies import CacheTally
from beaker.exceptions import ConfigError, StoreUnavailable, ValueTooLarge
from beaker.forks import ForkAware, notice_patch
from beaker.locking.registries import WeakValuedRegistry
from beaker.storage.api import Change, Store

__all__ = ["LIVES", "Near", "near_for"]

LIVES = 10
"""A copy lives for at most so many times ``near``: what a writer changed that does not move stamps is seen then."""


Seen = Callable[[str, bytes | None, Entry], None]
"""Is given the key of what was read, its record, unless an object is kept in its place, and its entry."""


class _Manager(Protocol):
    """What a tier asks of the manager that it belongs to, or of a view of it."""

    namespace: str
    names: tuple[str, ...]
    codec: EntryCodec

    @property
    def tally(self) -> CacheTally: ...

    def understand(self, records: Mapping[str, bytes], found: Mapping[str, Stamp | None]) -> dict[str, Entry]: ...


class _Copy(NamedTuple):
    """A value, as the pool keeps it: a record's bytes, or the entry."""

    value: Any
    stored: float
    expiretime: float | None
    stamps: tuple[tuple[str, bytes], ...]
    born: float


class _Namespace(ForkAware):
    """What all managers of one namespace of one store share."""

    def __init__(self) -> None:
        self.spaces: dict[Hashable, LiveSpace] = {}
        self.failures = 0
        self.error: StoreUnavailable | None = None
        self._renew_locks()
        super().__init__()

    def _renew_locks(self) -> None:
        self.lock = threading.Lock()

    _after_fork = _renew_locks

    def drop(self, key: str | None = None) -> None:
        """Drop the copies of ``key``, or all."""
        for space in list(self.spaces.values()):
            if key is None:
                space.pool.clear(space)
            else:
                space.pool.discard(space, key)


_namespaces: WeakValuedRegistry[tuple[Store, str], _Namespace] = WeakValuedRegistry()


class Near:
    """The near tier of one manager.

    * ``seconds``: how old what is known of a stamp may be.
    * ``objects``: the values themselves are kept, which all callers share; else bytes, from which each gets its own.
    * ``pool``: bounds the copies, with all live objects of this process under the same bounds.
    * ``clock`` says what has expired, ``timer`` how long ago a stamp was read.
    """

    def __init__(
        self,
        book: StampBook,
        store: Store,
        namespace: str,
        codec: object,
        *,
        seconds: float,
        objects: bool,
        pool: LivePool,
        clock: Callable[[], float],
        timer: Callable[[], float],
    ) -> None:
        self.seconds = seconds
        self._objects = objects
        self._pool = pool
        self._clock = clock
        self._timer = timer
        self._book = book
        self._known = book.known
        self._name = name_of("n", namespace)
        self._shared = _namespaces.get((store, namespace), _Namespace)
        kind = ("near", store, namespace, codec if objects else None)
        self._space = self._shared.spaces.setdefault((pool, kind), pool.space(kind))

    # Reading

    def peek(self, manager: _Manager, key: str, seen: Seen | None = None) -> Entry | None:
        """The value that :meth:`read` returns without asking the store, if there is one."""
        copy = self._usable(manager, key)
        if copy is None or self._known.stale(copy.stamps, self._timer(), self.seconds) != ():
            return None
        return self._entry(manager, key, copy, seen)

    def read(self, manager: _Manager, key: str, seen: Seen | None = None) -> Entry | None:
        """The entry of ``key``, from here or from the store. ``seen`` is given each that was read, with its record."""
        copy = self._usable(manager, key)
        if copy is not None and self._is_confirmed(copy):
            return self._entry(manager, key, copy, seen)
        return self.read_far(manager, (key,), seen).get(key)

    def read_many(self, manager: _Manager, keys: Iterable[str], seen: Seen | None = None) -> dict[str, Entry]:
        """The entries of ``keys``, those that are not here from the store in one batch."""
        wanted = list(keys)
        near = {key: entry for key in wanted if (entry := self.peek(manager, key, seen)) is not None}
        far = [key for key in wanted if key not in near]
        return {**near, **self.read_far(manager, far, seen)} if far else near

    def _usable(self, manager: _Manager, key: str) -> _Copy | None:
        copy: Any = self._space.get(key)
        if copy is None or self._timer() - copy.born >= LIVES * self.seconds:
            return None
        if copy.expiretime is not None:
            now = self._clock()
            if not copy.stored - MAX_AHEAD <= now < copy.stored + copy.expiretime:
                return None
        if manager.names and not {name for name, _ in copy.stamps}.issuperset(manager.names):
            return None
        return copy  # type: ignore[no-any-return]

    def _entry(self, manager: _Manager, key: str, copy: _Copy, seen: Seen | None) -> Entry | None:
        manager.tally.near_hits += 1
        record: bytes | None = None if self._objects else copy.value
        entry: Entry | None = copy.value if record is None else manager.codec.decode(manager.namespace, key, record)
        if seen is not None and entry is not None:
            seen(key, record, entry)
        return entry

    def _is_confirmed(self, copy: _Copy) -> bool:
        known, shared = self._known, self._shared
        stale = known.stale(copy.stamps, self._timer(), self.seconds)
        if stale:
            failures = shared.failures
            notice_patch()
            # One call reads the stamps; those that came meanwhile have its result.
            with shared.lock:
                if shared.failures != failures and shared.error is not None:
                    raise shared.error
                stale = known.stale(copy.stamps, self._timer(), self.seconds)
                if stale:
                    try:
                        self._read(stale)
                    except StoreUnavailable as err:
                        shared.failures, shared.error = shared.failures + 1, err
                        raise
                    stale = known.stale(copy.stamps, self._timer(), self.seconds)
        return stale == ()

    def _read(self, names: Iterable[str]) -> dict[str, Stamp | None]:
        began, at = self._known.tick(), self._timer()
        found = self._book.read(names)
        self._known.note(found, at, began)
        return found

    def look(self, names: Iterable[str]) -> dict[str, Stamp | None]:
        """The stamps called ``names``, as they were less than ``near`` seconds ago."""
        now, wanted = self._timer(), list(names)
        recent = {name: stamp for name in wanted if (stamp := self._known.recent(name, now, self.seconds)) is not None}
        missing = [name for name in wanted if name not in recent]
        return {**recent, **self._read(missing)} if missing else dict(recent)

    def read_far(self, manager: _Manager, keys: Iterable[str], seen: Seen | None = None) -> dict[str, Entry]:
        """The entries of ``keys`` from the store, in one batch with the stamps that are due; copies stay here."""
        known, name = self._known, self._name
        began, at = known.tick(), self._timer()
        before = known.last(name)
        recent: dict[str, Stamp | None] = {}
        for wanted in (name, *manager.names):
            stamp = known.recent(wanted, at, self.seconds)
            if stamp is not None:
                recent[wanted] = stamp
        ask = [wanted for wanted in (name, *manager.names) if wanted not in recent]
        records, found = self._book.read_with(manager.namespace, keys, ask)
        known.note(found, at, began)
        entries = manager.understand(records, {**recent, **found})
        now = {**recent, **found}[name]
        if now is None:
            self._create()
        elif self._belong(before, now):
            for key, entry in entries.items():
                self._keep(key, records[key], entry, now.token, at)
        if seen is not None:
            for key, entry in entries.items():
                seen(key, records[key], entry)
        return entries

    @staticmethod
    def _belong(before: Stamp | None, now: Stamp) -> bool:
        """Whether what was read belongs to the token ``now``: it was known ``before``, so it did not move meanwhile."""
        return before is not None and before.token == now.token

    def _create(self) -> None:
        began, at = self._known.tick(), self._timer()
        with contextlib.suppress(StoreUnavailable):
            self._known.note(self._book.ensure({self._name: None}), at, began)

    def _keep(self, key: str, record: bytes, entry: Entry, token: bytes, at: float) -> None:
        if isinstance(entry, MarkedEntry):
            return
        stamps = ((self._name, token), *stamps_of(entry))
        copy: Any = _Copy(entry if self._objects else record, entry.stored, entry.expiretime, stamps, at)
        ends = self._clock() + LIVES * self.seconds
        expires = entry.expires
        with contextlib.suppress(ValueTooLarge):
            self._pool.put(self._space, key, copy, ends if expires is None else min(ends, expires))

    # Writing

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """Around the store's write that changes values: the stamp moves after it."""
        names = (self._name,)
        with self._known.holding(names):
            self._shared.drop()
            try:
                yield
                self._book.move(names)
            finally:
                self._shared.drop()

    def put(self, manager: Any, entries: Mapping[str, Entry | None]) -> bool:
        """Store ``entries``, or remove them where there is none, and move the stamp in one transaction. ``False``: the
        store cannot; nothing was done."""
        namespace, names = manager.namespace, (self._name,)
        changes = [
            Change(namespace, key, None)
            if entry is None
            else Change(namespace, key, manager.codec.encode(namespace, key, entry), manager.keep(entry))
            for key, entry in entries.items()
        ]
        for key in entries:
            manager.marks.void(key)
        with self._known.holding(names):
            self._shared.drop()
            try:
                done = self._book.move_with(changes, names)
            finally:
                self._shared.drop()
        if done:
            manager.tally.bytes_written += sum(len(change.data or b"") for change in changes)
        return done

    def changed(self) -> None:
        """Move the stamp, after a write."""
        with self.changing():
            pass

    def forget(self, key: str) -> None:
        """Drop this process's copies of ``key``, which has a new value that makes the old one no mistake."""
        self._shared.drop(key)


def near_for(manager: Any, namespace: str, options: Mapping[str, Any]) -> Near | None:
    """The near tier that ``near`` (seconds) asks for. ConfigError for a negative one."""
    seconds = float(options["near"])
    if not seconds:
        return None
    if not seconds > 0:
        raise ConfigError("near is a time", option="near", expected="seconds, 0 or more")
    bounds = {
        "max_entries": defaults.max_entries(options),
        "max_bytes": defaults.max_bytes(options, runtime_of(options)),
        "clock": manager.clock,
    }
    return Near(
        manager.stamp_home,
        manager.store,
        namespace,
        manager.codec,
        seconds=seconds,
        objects=options.get("near_copy") == "objects",
        pool=store_for("live", LivePool, bounds),
        clock=manager.clock,
        timer=manager.patience.timer,
    )
