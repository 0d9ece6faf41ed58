"""Live objects in this process, bounded: what the ``memory`` backend keeps instead of bytes.

A hit takes no lock and moves nothing: it sets a mark. When room is needed the oldest entry leaves unless
it was marked since its last turn, in which case it goes to the back (second chance, the usual
approximation of least recently used).
"""

from __future__ import annotations

import heapq
import itertools
import math
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from beaker._typing import Clock
from beaker.caching.entry import Entry, stamps_of
from beaker.caching.marks import LocalMarks
from beaker.exceptions import BeakerException, ValueTooLarge
from beaker.forks import ForkAware
from beaker.locking.mending import Mending

__all__ = ["LivePool", "LiveSpace", "approximate_size"]

_OVERHEAD = 300
"""Bytes of bookkeeping charged per entry: slot, entry, key, two dict items."""

_SWEEP = 8
"""Dead entries removed per write at most: more than one, so that writes outrun expiry; bounded."""

_GUESS = 1024
_SAMPLE = 16
_DEPTH = 6
_HEADER = 16
"""What the garbage collector puts before a container."""
_LEAVES = frozenset({str, int, float, bytes, bool, type(None)})
_SEQUENCES = frozenset({list, tuple, set, frozenset})
_CONTAINERS = (dict, list, tuple, set, frozenset)


def approximate_size(value: Any, depth: int = _DEPTH) -> int:
    """Estimated bytes of ``value``: containers by a sample of 16 items, at most ``depth`` levels deep."""
    # Every put pays for it: __sizeof__() takes a fifth of the time of sys.getsizeof(), which calls it.
    try:
        kind = type(value)
        if (kind is not dict and kind not in _SEQUENCES) or len(value) > _SAMPLE or not depth:
            return _sampled_size(value, depth)
        size: int = value.__sizeof__() + _HEADER
        if kind is dict:
            for key in value:
                size += key.__sizeof__() if type(key) is str else approximate_size(key, depth - 1)
            value = value.values()
        for item in value:
            size += item.__sizeof__() if type(item) in _LEAVES else approximate_size(item, depth - 1)
        return size
    except Exception:  # proxies and lazy objects may raise anything when looked at; a guess will do
        return _GUESS


def _sampled_size(value: Any, depth: int) -> int:
    """:func:`approximate_size` of what is no small container."""
    own: int = value.__sizeof__()
    if type(value) in _LEAVES:
        return own
    if not isinstance(value, _CONTAINERS):
        return _attributes(value, depth)
    if depth and value:
        sample: Any = itertools.islice(value.items() if isinstance(value, dict) else value, _SAMPLE)
        sample = dict(sample) if isinstance(value, dict) else list(sample)
        items = approximate_size(sample, depth) - sample.__sizeof__() - _HEADER
        own += items * len(value) // len(sample)
    return own + _HEADER


def _attributes(value: Any, depth: int) -> int:
    size = sys.getsizeof(value, _GUESS)
    attributes = getattr(value, "__dict__", None) if depth else None
    return size + approximate_size(attributes, depth - 1) if isinstance(attributes, dict) else size


class _Slot:
    __slots__ = ("dead", "due", "entry", "key", "size", "space", "used")

    def __init__(self, space: LiveSpace, key: str) -> None:
        self.space = space
        self.key = key
        self.due = math.inf
        """When its place in the heap comes up; not after ``dead``."""

    def fill(self, entry: Entry, size: int, dead: float) -> None:
        self.entry = entry
        self.size = size
        self.dead = dead
        self.used = False


class _StampedSlot(_Slot):
    """A slot whose entry is gone once one of its stamps has moved, so that other slots need not be asked."""

    __slots__ = ("_entry",)

    @property
    def entry(self) -> Any:
        entry = self._entry
        return None if any(stamp.void for _, stamp in entry.stamps) else entry

    @entry.setter
    def entry(self, entry: Any) -> None:
        self._entry = entry


_pools: weakref.WeakSet[LivePool] = weakref.WeakSet()
_regions: dict[str, weakref.WeakValueDictionary[int, LiveSpace]] = {}


def clear_region(region: str) -> None:
    """Empty every namespace of this process that a cache of ``region`` has opened."""
    spaces = _regions.get(region)
    for reference in () if spaces is None else spaces.valuerefs():
        space = reference()
        if space is not None:
            space.marks.void_all()
            space.pool.clear(space)


def clear_all() -> None:
    """Empty every pool of this process."""
    for pool in list(_pools):
        pool.void()
        pool.empty()


class LivePool(ForkAware):
    """All live objects kept under one pair of bounds: ``max_entries`` and ``max_bytes`` (approximate)."""

    def __init__(self, max_entries: int, max_bytes: int, clock: Clock) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self._clock = clock
        self._spaces: weakref.WeakValueDictionary[Hashable, LiveSpace] = weakref.WeakValueDictionary()
        self._mending = Mending(self._forget)
        self._reset()
        super().__init__()
        _pools.add(self)

    def _reset(self) -> None:
        self.lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._queue: OrderedDict[_Slot, None] = OrderedDict()
        self._deaths: list[tuple[float, int, _Slot]] = []
        self._ticket = itertools.count()
        self.bytes_used = 0

    def _renew_locks(self) -> None:
        self.lock = threading.Lock()

    def _after_fork(self) -> None:
        # Held at the fork means half changed; the child then begins with nothing rather than with that.
        if self.lock.locked():
            self._forget()
            self.lock = threading.Lock()

    def _forget(self) -> None:
        for space in list(self._spaces.values()):
            space.slots = {}
        self._begin()

    def __len__(self) -> int:
        return len(self._queue)

    def space(self, namespace: Hashable) -> LiveSpace:
        """The one space of ``namespace``. It lives while a manager or an entry refers to it."""
        with self.lock, self._mending:
            space = self._spaces.get(namespace)
            if space is None:
                space = self._spaces[namespace] = LiveSpace(self)
            return space

    def put(self, space: LiveSpace, key: str, entry: Entry, dead: float | None) -> int:
        """Keep ``entry`` until ``dead`` (seconds since the epoch) at the latest. Returns its estimated bytes.

        ValueTooLarge for a value that alone is over ``max_bytes``: it would push everything else out.
        """
        value = entry.value
        size = _OVERHEAD + len(key) + (value.__sizeof__() if type(value) in _LEAVES else approximate_size(value))
        kind = _StampedSlot if type(entry) is not Entry and stamps_of(entry) else _Slot
        with self.lock:
            # As self._mending does it, whose two calls would be a tenth of a put.
            try:
                # By the entry's own time, which spares a look at the clock; what is not swept now is by the next.
                if self._deaths and self._deaths[0][0] <= entry.stored:
                    self._sweep()
                slot = space.slots.get(key)
                if type(slot) is kind and self.bytes_used + size - slot.size <= self.max_bytes:
                    self.bytes_used += size - slot.size
                    self._queue.move_to_end(slot)
                else:
                    if slot is not None:
                        self._drop(slot)
                    slot = self._slot(kind, space, key, size)
                # As slot.fill() does it.
                slot.entry = entry
                slot.size = size
                slot.dead = math.inf if dead is None else dead
                slot.used = False
                space.slots[key] = slot
                if slot.dead < slot.due:
                    self._schedule(slot)
            except BeakerException:
                raise
            except BaseException:
                self._forget()
                raise
        return size

    def prolong(self, space: LiveSpace, key: str, entry: Entry, later: Entry, dead: float | None) -> None:
        """Keep ``later`` in the place of ``entry``, which has the same value, if that is still there."""
        with self.lock, self._mending:
            slot = space.slots.get(key)
            if slot is not None and slot.entry is entry:
                slot.fill(later, slot.size, math.inf if dead is None else dead)
                slot.used = True
                if slot.dead < slot.due:
                    self._schedule(slot)

    def discard(self, space: LiveSpace, key: str) -> None:
        with self.lock, self._mending:
            self._drop(space.slots.get(key))

    def empty(self) -> None:
        """Drop every entry of every space."""
        with self.lock, self._mending:
            for slot in list(self._queue):
                self._drop(slot)

    def void(self) -> None:
        """Void the creations in flight of every space."""
        for space in list(self._spaces.values()):
            space.marks.void_all()

    def clear(self, space: LiveSpace) -> None:
        with self.lock, self._mending:
            for slot in list(space.slots.values()):
                self._drop(slot)

    # below here the lock is held

    def _slot(self, kind: type[_Slot], space: LiveSpace, key: str, size: int) -> _Slot:
        """A new slot in the queue, with room for ``size`` bytes."""
        if size > self.max_bytes:
            raise ValueTooLarge(size, self.max_bytes, backend="memory")
        while self._queue and (len(self._queue) >= self.max_entries or self.bytes_used + size > self.max_bytes):
            self._make_room()
        slot = kind(space, key)
        self._queue[slot] = None
        self.bytes_used += size
        return slot

    def _make_room(self) -> None:
        slot, _ = self._queue.popitem(last=False)
        if slot.used:
            slot.used = False
            self._queue[slot] = None
        else:
            self._queue[slot] = None
            self._drop(slot)

    def _drop(self, slot: _Slot | None) -> None:
        if slot is not None and slot in self._queue:
            del self._queue[slot]
            del slot.space.slots[slot.key]
            self.bytes_used -= slot.size

    def _sweep(self) -> None:
        now = self._clock()
        for _ in range(_SWEEP):
            if not self._deaths or self._deaths[0][0] > now:
                return
            due, _, slot = heapq.heappop(self._deaths)
            if slot.dead <= now:
                self._drop(slot)
            elif due == slot.due:
                # It was overwritten by one that lives longer.
                self._schedule(slot)

    def _schedule(self, slot: _Slot) -> None:
        slot.due = slot.dead
        if slot.due == math.inf:
            return
        heapq.heappush(self._deaths, (slot.due, next(self._ticket), slot))
        if len(self._deaths) > 2 * len(self._queue) + 64:
            # Dropped entries leave their place in the heap behind.
            self._deaths = [(slot.due, next(self._ticket), slot) for slot in self._queue if slot.due < math.inf]
            heapq.heapify(self._deaths)


class LiveSpace:
    """The entries of one namespace."""

    __slots__ = ("__weakref__", "marks", "pool", "slots")

    def __init__(self, pool: LivePool) -> None:
        self.pool = pool
        self.marks = LocalMarks()
        self.slots: dict[str, _Slot] = {}

    def join_region(self, region: str) -> None:
        """Be emptied by :func:`clear_region`."""
        _regions.setdefault(region, weakref.WeakValueDictionary())[id(self)] = self

    def get(self, key: str) -> Entry | None:
        """The entry of ``key``, expired or not."""
        slot = self.slots.get(key)
        if slot is None:
            return None
        slot.used = True
        return slot.entry
