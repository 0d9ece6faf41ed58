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
from collections.abc import Iterable
from typing import Any

from beaker._typing import Clock
from beaker.caching.entry import Entry
from beaker.caching.marks import LocalMarks
from beaker.exceptions import ValueTooLarge
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
_FIXED = frozenset({float, bool, type(None)})
_SEQUENCES = frozenset({list, tuple, set, frozenset})


def approximate_size(value: Any) -> int:
    """Estimated bytes of ``value``: containers by a sample of 16 items, at most 6 levels deep."""
    try:
        return _size((value,), 1, _DEPTH + 1)
    except Exception:  # proxies and lazy objects may raise anything when looked at; a guess will do
        return _GUESS


def _size(items: Iterable[Any], count: int, depth: int) -> int:
    """Estimated bytes of ``count`` items, of which at most 16 are looked at."""
    size, sample = 0, items if count <= _SAMPLE else itertools.islice(items, _SAMPLE)
    # sys.getsizeof takes as long as three turns of this loop, and every put pays for it.
    for item in sample:
        kind = type(item)
        if kind is str:
            size += 56 + (len(item) if item.isascii() else 4 * len(item))
        elif kind is int:
            size += 28 + item.bit_length() // 8
        elif kind in _FIXED:
            size += 24
        elif depth > 1 and kind is dict:
            size += 64 + 24 * len(item) + _size(item, len(item), depth - 1) + _size(item.values(), len(item), depth - 1)
        elif depth > 1 and kind in _SEQUENCES:
            size += 64 + 8 * len(item) + _size(item, len(item), depth - 1)
        else:
            size += _unusual(item, depth - 1)
    return size if count <= _SAMPLE else size * count // _SAMPLE


def _unusual(value: Any, depth: int) -> int:
    size = sys.getsizeof(value, _GUESS)
    if depth == 0:
        return size
    if isinstance(value, dict):
        return size + _size(value, len(value), depth) + _size(value.values(), len(value), depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        return size + _size(value, len(value), depth)
    attributes = getattr(value, "__dict__", None)
    return size + _size((attributes,), 1, depth) if isinstance(attributes, dict) else size


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


_pools: weakref.WeakSet[LivePool] = weakref.WeakSet()


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
        self._spaces: weakref.WeakValueDictionary[str, LiveSpace] = weakref.WeakValueDictionary()
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

    def space(self, namespace: str) -> LiveSpace:
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
        size = _OVERHEAD + len(key) + approximate_size(entry.value)
        with self.lock, self._mending:
            if self._deaths:
                self._sweep()
            slot = space.slots.get(key)
            if slot is not None and self.bytes_used + size - slot.size <= self.max_bytes:
                self.bytes_used += size - slot.size
                self._queue.move_to_end(slot)
            else:
                self._drop(slot)
                if size > self.max_bytes:
                    raise ValueTooLarge(size, self.max_bytes, backend="memory")
                while self._queue and (len(self._queue) >= self.max_entries or self.bytes_used + size > self.max_bytes):
                    self._make_room()
                slot = _Slot(space, key)
                self._queue[slot] = None
                self.bytes_used += size
            slot.fill(entry, size, math.inf if dead is None else dead)
            space.slots[key] = slot
            if slot.dead < slot.due:
                self._schedule(slot)
        return size

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

    def get(self, key: str) -> Entry | None:
        """The entry of ``key``, expired or not."""
        slot = self.slots.get(key)
        if slot is None:
            return None
        slot.used = True
        return slot.entry
