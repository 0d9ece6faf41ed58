"""The reference store: records in this process, bounded; what no request came back to goes first."""

# over 320 lines because one mutex covers all of it: each capability reads the orders and sums that the others keep
from __future__ import annotations

import heapq
import itertools
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from math import inf
from typing import NamedTuple

from beaker import clock as _clock
from beaker._typing import Clock
from beaker.counters import store_tally
from beaker.exceptions import ConfigError
from beaker.forks import ForkAware
from beaker.locking.mending import Mending
from beaker.storage.api import Bulk, Listing, Pinning, Purging, Spanning, Store, Versioned, Written
from beaker.storage.records import check_size, expires_at

__all__ = ["MemoryStore"]

_OVERHEAD = 400
"""Bytes of bookkeeping charged per record: two dict slots, the name's tuple, the record, the heap's entry."""

_SWEEP = 8
"""Expired records removed per write at most: more than one, so that writes outrun expiry; bounded, so
that no single write pays for a burst."""


class _Record(NamedTuple):
    data: bytes
    expires: float | None
    version: int
    size: int

    def __repr__(self) -> str:
        return f"<record of {len(self.data)} bytes>"


class MemoryStore(Store, Versioned, Listing, Purging, Bulk, Spanning, Pinning, ForkAware):
    """Bytes in this process's memory; every capability of :mod:`beaker.storage.api`.

    - ``max_entries``: how many records are kept, at least 1; default 100,000. ``None``: no bound.
    - ``max_bytes``: bytes of data, names and 400 for the bookkeeping of each record, approximately; over 400,
      default 64 MiB. ``None``: no bound.
    - ``clock``: seconds since the epoch; decides what has expired.

    When a bound is reached, records go that were written once and not looked at since, oldest first: a crowd of
    visitors who never come back does not displace those who do. Of the others, which have three quarters of either
    bound to themselves, the least recently used beyond that go with them. Those of a pinned namespace go only all
    together, once they have half of a bound. A value that ``max_bytes`` could never
    hold raises :class:`~beaker.exceptions.ValueTooLarge`. Expired records are dropped when they are read, a few with
    every write, and by :meth:`purge`; there is no thread. A fork copies the records; from then on parent and child
    see only their own writes. ConfigError for a bound below its limit.
    """

    backend = "memory"
    trusted = True
    forgets = True  # at its bounds

    def __init__(
        self,
        *,
        max_entries: int | None = 100_000,
        max_bytes: int | None = 64 * 2**20,
        clock: Clock = _clock.now,
    ) -> None:
        if max_entries is not None and max_entries < 1:
            raise ConfigError("max_entries is too small", option="max_entries", expected="at least 1")
        if max_bytes is not None and max_bytes <= _OVERHEAD:
            raise ConfigError("max_bytes is too small", option="max_bytes", expected=f"over {_OVERHEAD}")
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.max_value: int | None = None if max_bytes is None else max_bytes - _OVERHEAD
        self._clock = clock
        self._tally = store_tally(self.backend)
        # In the order of use, the oldest first: written once, and written or read again.
        self._fresh: OrderedDict[tuple[str, str], _Record] = OrderedDict()
        self._proven: OrderedDict[tuple[str, str], _Record] = OrderedDict()
        self._proven_bytes = 0
        self._proven_entries = _share(max_entries)
        self._proven_most = _share(max_bytes)
        self._names: dict[str, dict[str, None]] = {}
        self._bytes = 0
        # Of pinned namespaces: their bytes, and their records, which are in none of the orders above.
        self._pinned: dict[str, int] = {}
        self._pinned_records: dict[tuple[str, str], _Record] = {}
        self._versions = itertools.count(1)
        self._expiries: list[tuple[float, int, str, str]] = []
        self._mutex = threading.Lock()
        self._mending = Mending(self._mend)
        self._watch_forks()

    def __len__(self) -> int:
        """How many records are held, expired ones that were not swept yet included."""
        return len(self._fresh) + len(self._proven) + len(self._pinned_records)

    @property
    def bytes_used(self) -> int:
        """Approximate bytes of all records; what ``max_bytes`` bounds."""
        return self._bytes

    # Store

    def get(self, namespace: str, key: str) -> bytes | None:
        with self._mutex, self._mending:
            record = self._live(namespace, key)
        data = None if record is None else record.data
        self._tally.read(data)
        return data

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        check_size(data, self.max_value, self.backend, "set")
        if ttl is not None and ttl <= 0:
            self.delete(namespace, key)
            return
        with self._mutex, self._mending:
            self._put(namespace, key, data, ttl)
        self._tally.wrote(len(data))

    def delete(self, namespace: str, key: str) -> None:
        with self._mutex, self._mending:
            self._drop(namespace, key)
        self._tally.deleted()

    def clear(self, namespace: str) -> None:
        with self._mutex, self._mending:
            for key in tuple(self._names.get(namespace, ())):
                self._drop(namespace, key)
        self._tally.deleted()

    # Versioned

    def read(self, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        with self._mutex, self._mending:
            record = self._live(namespace, key)
        self._tally.read(None if record is None else record.data)
        return None if record is None else (record.data, record.version)

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> bool | Written:
        check_size(data, self.max_value, self.backend, "insert")
        written = None
        with self._mutex, self._mending:
            absent = self._live(namespace, key) is None
            if absent:
                written = self._put(namespace, key, data, ttl)
        return self._tally.tried(absent, len(data)) and (written or True)

    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> bool | Written:
        check_size(data, self.max_value, self.backend, "replace")
        written = None
        with self._mutex, self._mending:
            record = self._live(namespace, key)
            unchanged = record is not None and record.version == version
            if unchanged:
                written = self._put(namespace, key, data, ttl)
        return self._tally.tried(unchanged, len(data)) and (written or True)

    def remove(self, namespace: str, key: str, version: Hashable) -> bool:
        with self._mutex, self._mending:
            record = self._live(namespace, key)
            unchanged = record is not None and record.version == version
            if unchanged:
                self._drop(namespace, key)
        return self._tally.removed(unchanged)

    # Listing, Purging

    def keys(self, namespace: str) -> Iterator[str]:
        with self._mutex, self._mending:
            return iter(self._live_keys(namespace, self._clock()))

    def _live_keys(self, namespace: str, now: float) -> list[str]:
        return [key for key in self._names.get(namespace, ()) if not _expired(self._record((namespace, key)), now)]

    def purge(
        self, now: float, limit: int, *, cursor: str | None = None, deadline: float | None = None
    ) -> tuple[int, str | None]:
        """See :class:`~beaker.storage.api.Purging`. The expired ones come off a heap, soonest first, so
        no cursor has to be remembered: ``"more"`` says to call again."""
        with self._mutex, self._mending:
            gone = self._sweep(now, limit)
            more = bool(self._expiries) and self._expiries[0][0] < now
        self._tally.deleted(gone)
        return gone, "more" if more else None

    # Bulk

    def get_many(self, namespace: str, keys: Iterable[str]) -> dict[str, bytes]:
        return {key: data for (_, key), data in self.get_across((namespace, key) for key in keys).items()}

    def get_across(self, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        wanted = tuple(names)
        with self._mutex, self._mending:
            records = {name: self._live(*name) for name in wanted}
        found = {name: record.data for name, record in records.items() if record is not None}
        self._tally.read_many(len(wanted), sum(map(len, found.values())))
        return found

    def set_many(self, namespace: str, items: Mapping[str, bytes], *, ttl: float | None) -> None:
        pairs = tuple(items.items())
        for _, data in pairs:
            check_size(data, self.max_value, self.backend, "set_many")
        if ttl is not None and ttl <= 0:
            self.delete_many(namespace, items)
            return
        with self._mutex, self._mending:
            for key, data in pairs:
                self._put(namespace, key, data, ttl)
        self._tally.wrote(sum(len(data) for _, data in pairs), len(pairs))

    def delete_many(self, namespace: str, keys: Iterable[str]) -> None:
        doomed = tuple(keys)
        with self._mutex, self._mending:
            for key in doomed:
                self._drop(namespace, key)
        self._tally.deleted(len(doomed))

    # Pinning

    def pin(self, namespace: str) -> None:
        with self._mutex, self._mending:
            if namespace not in self._pinned:
                self._pinned[namespace] = 0
                for name in [(namespace, key) for key in self._names.get(namespace, ())]:
                    record = self._fresh.get(name) or self._proven[name]
                    self._pinned_records[name] = record
                    self._pinned[namespace] += record.size
                    self._forget_order(name)

    # below here the mutex is held

    def _record(self, name: tuple[str, str]) -> _Record | None:
        return self._proven.get(name) or self._fresh.get(name) or self._pinned_records.get(name)

    def _all(self) -> dict[tuple[str, str], _Record]:
        return {**self._fresh, **self._proven, **self._pinned_records}

    def _live(self, namespace: str, key: str) -> _Record | None:
        name = (namespace, key)
        # As _record(), which would be a call more at every read.
        record = self._proven.get(name) or self._fresh.get(name) or self._pinned_records.get(name)
        if record is None:
            return None
        if record.expires is not None and record.expires <= self._clock():
            self._drop(namespace, key)
            return None
        if name in self._proven:
            self._proven.move_to_end(name)
        elif name in self._fresh:
            self._prove(name, record)
        return record

    def _prove(self, name: tuple[str, str], record: _Record) -> None:
        """Put a record among those that were asked for again; the longest unused of them make room for it."""
        self._proven[name] = record
        self._fresh.pop(name, None)
        self._proven_bytes += record.size
        while len(self._proven) > 1 and self._too_many_proven():
            oldest = next(iter(self._proven))
            # In both for a moment, so that an exception from outside loses none.
            self._fresh[oldest] = self._proven[oldest]
            self._proven_bytes -= self._proven.pop(oldest).size

    def _too_many_proven(self) -> bool:
        return len(self._proven) > self._proven_entries or self._proven_bytes > self._proven_most

    def _put(self, namespace: str, key: str, data: bytes, ttl: float | None) -> Written | None:
        """Write; ``None`` where the record expires at once."""
        now = self._clock()
        if self._expiries and self._expiries[0][0] < now:
            self._sweep(now, _SWEEP)
        name = (namespace, key)
        if ttl is not None and ttl <= 0:
            self._drop(namespace, key)
            return None
        expires = expires_at(now, ttl)
        size = len(data) + len(key) + len(namespace) + _OVERHEAD
        # bytes() because a bytearray that the caller changes later must not change the record.
        record = _Record(bytes(data), expires, next(self._versions), size)
        old = self._proven.get(name)
        if old is not None:
            self._proven.move_to_end(name)
            self._proven_bytes -= old.size
        else:
            old = self._record(name)
        # In the old one's place, never after it: an exception from outside leaves one of them.
        if namespace in self._pinned:
            self._pinned_records[name] = record
        elif old is not None:
            self._prove(name, record)
        else:
            self._fresh[name] = record
        grown = record.size
        if old is not None:
            grown -= old.size
        elif namespace not in self._names:
            self._names[namespace] = {key: None}
        else:
            self._names[namespace][key] = None
        self._bytes += grown
        if namespace in self._pinned:
            self._pinned[namespace] += grown
            self._bound_pinned(namespace, key)
        if expires is not None:
            heapq.heappush(self._expiries, (expires, record.version, namespace, key))
            if len(self._expiries) > 64 and len(self._expiries) > 2 * len(self) + 64:
                self._rebuild_heap()
        # The newest record always stays: a write that returned must be readable, however long its names.
        while self._over_bounds():
            only = len(self._fresh) == 1 and name in self._fresh
            order = self._proven if only or not self._fresh else self._fresh
            oldest = next(iter(order), name)
            if oldest == name:
                break
            self._drop(*oldest)
        return Written(record.version)

    def _bound_pinned(self, namespace: str, newest: str) -> None:
        names, held = self._names[namespace], len(self._pinned_records)
        many = self.max_entries is not None and held > max(1, self.max_entries // 2)
        large = self.max_bytes is not None and sum(self._pinned.values()) > self.max_bytes // 2
        if many or large:
            for key in [key for key in names if key != newest]:
                self._drop(namespace, key)

    def _over_bounds(self) -> bool:
        if self.max_bytes is not None and self._bytes > self.max_bytes:
            return True
        held = len(self._fresh) + len(self._proven) + len(self._pinned_records)
        return self.max_entries is not None and held > self.max_entries

    def _drop(self, namespace: str, key: str) -> None:
        name = (namespace, key)
        record = self._pinned_records.pop(name, None) or self._forget_order(name)
        if record is None:
            return
        self._bytes -= record.size
        if namespace in self._pinned:
            self._pinned[namespace] -= record.size
        names = self._names[namespace]
        del names[key]
        if not names:
            del self._names[namespace]
        if not len(self):
            self._expiries.clear()

    def _forget_order(self, name: tuple[str, str]) -> _Record | None:
        record = self._proven.pop(name, None)
        if record is None:
            return self._fresh.pop(name, None)
        self._proven_bytes -= record.size
        return record

    def _sweep(self, now: float, limit: int) -> int:
        gone = 0
        while gone < limit and self._expiries and self._expiries[0][0] < now:
            _, version, namespace, key = heapq.heappop(self._expiries)
            record = self._record((namespace, key))
            # An overwritten record leaves its old entry in the heap; the version shows it.
            if record is not None and record.version == version:
                self._drop(namespace, key)
                gone += 1
        return gone

    def _rebuild_heap(self) -> None:
        self._expiries = [
            (record.expires, record.version, namespace, key)
            for (namespace, key), record in self._all().items()
            if record.expires is not None
        ]
        heapq.heapify(self._expiries)

    def _mend(self) -> None:
        for name, record in [*self._fresh.items(), *self._proven.items()]:
            if name[0] in self._pinned:
                self._pinned_records[name] = record
        # A record on its way from one order to the other may be in both.
        for name in (*self._proven, *self._pinned_records):
            self._fresh.pop(name, None)
        for name in self._pinned_records:
            self._proven.pop(name, None)
        self._names = {}
        for namespace, key in self._all():
            self._names.setdefault(namespace, {})[key] = None
        self._proven_bytes = sum(record.size for record in self._proven.values())
        self._bytes = sum(record.size for record in self._all().values())
        for pinned in self._pinned:
            self._pinned[pinned] = sum(self._pinned_records[pinned, key].size for key in self._names.get(pinned, ()))
        self._rebuild_heap()

    # forks

    _freezes = True

    def _before_fork(self) -> None:
        # Held, no map is half changed at the moment the child copies it.
        self._mutex.acquire()

    def _after_fork_in_parent(self) -> None:
        self._mutex.release()

    def _renew_locks(self) -> None:
        self._mutex = threading.Lock()

    _after_fork = _renew_locks


def _expired(record: _Record | None, now: float) -> bool:
    return record is None or (record.expires is not None and record.expires <= now)


def _share(bound: int | None) -> float:
    return inf if bound is None else max(bound * 3 // 4, 1)
