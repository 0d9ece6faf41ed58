"""The memo of a request: what it has read or created once costs it nothing again.

It is kept by the request (:mod:`beaker.serving`) and ends with it; outside of one there is none. What the request
itself changes, in any of its threads and tasks, is forgotten at once, and so is what a thread of this process changes
that belongs to no request. What other requests change is not seen before this one ends: it reads the same value twice.

A copy belongs to the epochs that were there before its value was read, and a change puts new ones in their place,
before it writes and after. So a value that was read before a change is never taken for one of after it.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from beaker import serving
from beaker.caching.entry import Entry, EntryCodec, MarkedEntry, stamps_of
from beaker.caching.freshness import MAX_AHEAD
from beaker.caching.marks import Creation
from beaker.counters.tallies import CacheTally
from beaker.forks import ForkAware, notice_patch
from beaker.locking.registries import WeakValuedRegistry
from beaker.storage.api import Store

__all__ = ["Memo", "RememberedCreation", "changing", "forget", "forget_all", "here"]

if TYPE_CHECKING:
    from beaker.caching.stamp import Stamp

Seen = Callable[[str, "bytes | None", Entry], None]
"""Is given the key of what was read, its record, unless an object is kept in its place, and its entry."""

LIMIT = 1_000
"""Values of one request; the oldest leave."""


class _Near(Protocol):
    def peek(self, manager: Any, key: str, seen: Seen) -> Entry | None: ...


class Manager(Protocol):
    """What a memo asks of the manager whose values it keeps, or of a view of it."""

    namespace: str
    store: Store
    names: tuple[str, ...]
    codec: EntryCodec
    clock: Callable[[], float]
    memo_objects: bool

    @property
    def tally(self) -> CacheTally: ...

    @property
    def near(self) -> _Near | None: ...

    def understand(self, records: Mapping[str, bytes], found: Mapping[str, Stamp | None]) -> dict[str, Entry]: ...

    def fetch(self, keys: Iterable[str], seen: Seen) -> Mapping[str, Entry]: ...


class _Changes:
    """What threads outside of any request have changed of one namespace."""

    def __init__(self) -> None:
        self.epoch = object()


class _Guard(ForkAware):
    """What keeps two threads of a request from changing a memo at the same time; none waits long for it."""

    def __init__(self) -> None:
        self._renew_locks()
        super().__init__()

    def _renew_locks(self) -> None:
        self.lock = threading.Lock()

    _after_fork = _renew_locks


_guard = _Guard()
_outside: WeakValuedRegistry[tuple[Store, str], _Changes] = WeakValuedRegistry()
_moved_outside = object()


class _Space:
    """One namespace of a store, as one request sees it."""

    __slots__ = ("changed", "epoch", "outside")

    def __init__(self, outside: _Changes) -> None:
        self.epoch: object = object()
        self.changed: dict[str, object] = {}
        self.outside = outside

    def now(self, key: str) -> tuple[object, ...]:
        """The epochs of ``key``."""
        return self.epoch, self.changed.get(key), self.outside.epoch, _moved_outside

    def forget(self, keys: Iterable[str]) -> None:
        """Forget ``keys``, or all where none are named."""
        epoch = object()
        named = dict.fromkeys(keys, epoch)
        if named and len(self.changed) < LIMIT:
            self.changed.update(named)
        else:
            self.epoch = epoch
            self.changed = {}


class _Copy(NamedTuple):
    value: Any
    """The record, or the entry."""
    stored: float
    expires: float | None
    names: frozenset[str]
    codec: EntryCodec | None
    """Whose entry it is."""
    epochs: tuple[object, ...]

    @property
    def age(self) -> tuple[float, float]:
        """What later ones have more of."""
        return self.stored, math.inf if self.expires is None else self.expires


class Memo:
    """What one request has read."""

    def __init__(self) -> None:
        self._spaces: dict[tuple[Store, str], _Space] = {}
        self._copies: dict[tuple[_Space, str], _Copy] = {}

    def __len__(self) -> int:
        return len(self._copies)

    def space(self, manager: Manager) -> _Space:
        """That of ``manager``."""
        place = (manager.store, manager.namespace)
        found = self._spaces.get(place)
        if found is None:
            outside = _outside.get(place, _Changes)
            notice_patch()
            with _guard.lock:
                found = self._spaces.setdefault(place, _Space(outside))
        return found

    def read(self, manager: Manager, key: str) -> Entry | None:
        """The entry of ``key``, from here or from where ``manager`` has it."""
        return self.find(manager, key) or self.read_many(manager, (key,)).get(key)

    def read_many(self, manager: Manager, keys: Iterable[str]) -> dict[str, Entry]:
        """The entries of ``keys``, those that are not here in one batch."""
        wanted = list(keys)
        known = {key: entry for key in wanted if (entry := self.find(manager, key)) is not None}
        missing = [key for key in wanted if key not in known]
        if not missing:
            return known
        return {**known, **manager.fetch(missing, self._keeper(manager, missing))}

    def peek(self, manager: Manager, key: str) -> Entry | None:
        """The entry of ``key``, if no store has to be asked for it."""
        entry = self.find(manager, key)
        if entry is not None or manager.near is None:
            return entry
        return manager.near.peek(manager, key, self._keeper(manager, (key,)))

    def _keeper(self, manager: Manager, keys: Iterable[str]) -> Seen:
        """What remembers ``keys``, which are read from now on."""
        space = self.space(manager)
        before = {key: space.now(key) for key in keys}

        def seen(key: str, record: bytes | None, entry: Entry) -> None:
            self.keep(manager, key, record, entry, before[key])

        return seen

    def find(self, manager: Manager, key: str) -> Entry | None:
        """The entry of ``key``, if it is here and has not expired."""
        space = self.space(manager)
        copy = self._copies.get((space, key))
        if copy is None or copy.epochs != space.now(key) or not copy.names.issuperset(manager.names):
            return None
        if copy.expires is not None and not copy.stored - MAX_AHEAD <= manager.clock() < copy.expires:
            return None
        if copy.codec is None:
            entry = manager.codec.decode(manager.namespace, key, copy.value)
        else:
            entry = copy.value if copy.codec is manager.codec else None
        if entry is not None:
            manager.tally.memo_hits += 1
        return entry

    def keep(
        self,
        manager: Manager,
        key: str,
        record: bytes | None,
        entry: Entry,
        epochs: tuple[object, ...],
        *,
        created: bool = False,
    ) -> None:
        """Remember ``entry``, which was read or ``created`` and stored since there were these ``epochs``."""
        if isinstance(entry, MarkedEntry) or (record is None and not manager.memo_objects):
            return
        objects, space = manager.memo_objects, self.space(manager)
        codec, value = (manager.codec, entry) if objects else (None, record)
        names = frozenset(name for name, _ in stamps_of(entry))
        notice_patch()
        with _guard.lock:
            if space.now(key) != epochs:
                return
            if created:
                # Of those that read meanwhile some have the old value.
                space.forget((key,))
                epochs = (space.epoch, space.changed.get(key), *epochs[2:])
            self._put((space, key), _Copy(value, entry.stored, entry.expires, names, codec, epochs))

    def _put(self, place: tuple[_Space, str], copy: _Copy) -> None:
        there = self._copies.pop(place, None)
        if there is not None and there.epochs == copy.epochs and there.age > copy.age:
            copy = there
        self._copies[place] = copy
        while len(self._copies) > LIMIT:
            del self._copies[next(iter(self._copies))]

    def forget(self, manager: Manager, keys: Iterable[str]) -> None:
        """Forget ``keys``, or all where none are named."""
        space = self.space(manager)
        notice_patch()
        with _guard.lock:
            space.forget(keys)

    def forget_all(self) -> None:
        """Forget every namespace of every store."""
        notice_patch()
        with _guard.lock:
            for space in self._spaces.values():
                space.forget(())


def here() -> Memo | None:
    """The memo of the request that is served here."""
    request = serving.current()
    if request is None:
        return None
    memo: Memo | None = request.remembered
    if memo is None:
        memo = request.remembered = Memo()
    return memo


def forget(manager: Manager, *keys: str) -> None:
    """``keys`` have changed, or, where none are named, the namespace of ``manager``."""
    request = serving.current()
    if request is None:
        _outside.get((manager.store, manager.namespace), _Changes).epoch = object()
    while request is not None:
        if request.remembered is not None:
            request.remembered.forget(manager, keys)
        request = request.outer


def forget_all() -> None:
    """A tag or a region has moved, on which any value may depend."""
    global _moved_outside
    request = serving.current()
    if request is None:
        _moved_outside = object()
    while request is not None:
        if request.remembered is not None:
            request.remembered.forget_all()
        request = request.outer


@contextlib.contextmanager
def changing(forgets: Callable[[], None]) -> Iterator[None]:
    """Around a write of what ``forgets()`` forgets."""
    forgets()
    try:
        yield
    finally:
        forgets()


class RememberedCreation:
    """A creation whose value takes the old one's place in the memo, too."""

    def __init__(self, inner: Creation, manager: Manager, key: str, *, keeps: bool) -> None:
        self._inner = inner
        self._manager = manager
        self._key = key
        self._keeps = keeps
        self.stamps: tuple[tuple[str, Any], ...] = getattr(inner, "stamps", ())

    def store(self, entry: Entry) -> bool:
        forgets = partial(forget, self._manager, self._key)
        forgets()
        memo = here() if self._keeps else None
        epochs = () if memo is None else memo.space(self._manager).now(self._key)
        try:
            done = self._inner.store(entry)
        except BaseException:
            forgets()
            raise
        if memo is None or not done:
            forgets()
            return done
        record = None if self._manager.memo_objects else self._record(entry)
        memo.keep(self._manager, self._key, record, entry, epochs, created=True)
        return done

    def _record(self, entry: Entry) -> bytes:
        record: bytes | None = getattr(self._inner, "record", None)
        return self._manager.codec.encode(self._manager.namespace, self._key, entry) if record is None else record

    def abandon(self, *, drop: bool = False) -> bool:
        intact = self._inner.abandon(drop=drop)
        if drop:
            forget(self._manager, self._key)
        return intact
