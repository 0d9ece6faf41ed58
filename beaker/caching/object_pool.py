"""Live objects in this process, bounded: what the ``memory`` backend keeps instead of bytes.

A hit takes no lock and moves nothing: it sets a mark. When room is needed the oldest entry leaves unless
it was marked since its last turn, in which case it goes to the back (second chance, the usual
approximation of least recently used).
"""

from __future__ import annotations

import heapq
import itertools
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


def approximate_size(value: Any) -> int:
    """Estimated bytes of ``value``: containers by a sample of 16 items, at most 6 levels deep."""
    try:
        return _size(value, _DEPTH)
    except Exception:  # proxies and lazy objects may raise anything when looked at; a guess will do
        return _GUESS


def _size(value: Any, depth: int) -> int:
    size = sys.getsizeof(value, _GUESS)
    if depth == 0 or isinstance(value, (str, bytes, bytearray, int, float, type(None))):
        return size
    items: Iterable[Any]
    if isinstance(value, dict):
        items, count = itertools.chain.from_iterable(value.items()), 2 * len(value)
    elif isinstance(value, (list, tuple, set, frozenset)):
        items, count = value, len(value)
    else:
        attributes = getattr(value, "__dict__", None)
        return size + _size(attributes, depth - 1) if isinstance(attributes, dict) else size
    sizes = [_size(item, depth - 1) for item in itertools.islice(items, _SAMPLE)]
    return size + sum(sizes) * count // len(sizes) if sizes else size


class _Slot:
    __slots__ = ("dead", "entry", "key", "size", "space", "used")

    def __init__(self, space: LiveSpace, key: str, entry: Entry, size: int, dead: float | None) -> None:
        self.space = space
        self.key = key
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

    def put(self, space: LiveSpace, key: str, entry: Entry, dead: float | None) -> None:
        """Keep ``entry`` until ``dead`` (seconds since the epoch) at the latest.

        ValueTooLarge for a value that alone is over ``max_bytes``: it would push everything else out.
        """
        size = _OVERHEAD + len(key) + approximate_size(entry.value)
        slot = _Slot(space, key, entry, size, dead)
        with self.lock, self._mending:
            self._drop(space.slots.get(key))
            self._sweep()
            if size > self.max_bytes:
                raise ValueTooLarge(size, self.max_bytes, backend="memory")
            while self._queue and (len(self._queue) >= self.max_entries or self.bytes_used + size > self.max_bytes):
                self._make_room()
            space.slots[key] = slot
            self._queue[slot] = None
            self.bytes_used += size
            if dead is not None:
                heapq.heappush(self._deaths, (dead, next(self._ticket), slot))
                if len(self._deaths) > 2 * len(self._queue) + 64:
                    self._rebuild()

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
        if not self._deaths:
            return
        now = self._clock()
        for _ in range(_SWEEP):
            if not self._deaths or self._deaths[0][0] > now:
                return
            self._drop(heapq.heappop(self._deaths)[2])

    def _rebuild(self) -> None:
        # Overwritten entries leave their old place in the heap behind.
        self._deaths = [(slot.dead, next(self._ticket), slot) for slot in self._queue if slot.dead is not None]
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
