"""Ending sessions that cannot be found: by id, by user, or all of them, by a point in time.

A session is over when it began at or before the revocation point of its user or of everybody, or when its
own id was revoked, whenever that was. The points live in any store; what was read is remembered in the process
for ``interval`` seconds, so that a visitor costs at most one read per interval and instance. A write of a session
that is in its cookie reads again.
"""

from __future__ import annotations

import math
import struct
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from beaker._typing import Clock
from beaker.counters import count
from beaker.crypto.tokens import store_key
from beaker.exceptions import ConfigError, CorruptRecord, StoreUnavailable
from beaker.keys import cache_key
from beaker.storage.api import Bulk, Versioned

__all__ = ["Revocations", "user_key"]

NAMESPACE = "beaker.session.revoked"
REMEMBERED = 10_000
"""Points remembered in the process; the least recently used leave first."""

_POINT = struct.Struct(">4sd")
_MAGIC = b"BKRV"
_ALL = "all"
_MOVES = 8
"""Changes of the id that a logout follows; see SessionRecords.kill."""


class Revocations:
    """Revocation points in ``store``. ``interval`` is seconds; ``lifetime`` is how long a point must last:
    the longest life of a session in seconds, ``None`` for ever.
    """

    def __init__(self, store: Any, *, interval: float, lifetime: float | None, clock: Clock) -> None:
        self._store = store
        self._interval = interval
        self._lifetime = lifetime
        self._clock = clock
        self._seen: OrderedDict[str, tuple[float, float | None]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def store(self) -> Any:
        """Where the points are kept."""
        return self._store

    def revoke(self, *, user: Hashable = None, everybody: bool = False) -> None:
        """End every session that began until now: of ``user``, or of ``everybody``.

        Done in the store before this returns; other processes notice within ``interval`` seconds.
        """
        names = [name for name, wanted in ((_ALL, everybody), ("", user is not None)) if wanted]
        if not names:
            raise ConfigError("revoke needs to know whose sessions", option="revoke", expected="user or everybody")
        for name in names:
            self._put(name or _user(user))
        count("revoked", "everybody" if everybody else "user")

    def end_id(self, id: bytes) -> None:
        """End one session by its id, at once and for good, and what a request at the same time moved it to."""
        name = _id(id)
        for _ in range(_MOVES):
            if self._claim(name):
                return
            successor_key = self._successor(name)
            if not successor_key:
                return
            name = f"id:{successor_key}"

    def move_id(self, id: bytes, successor: bytes) -> bool:
        """End an id whose session goes on under ``successor``. ``False``: it has ended or moved already."""
        successor_key = store_key(successor)
        return self._claim(_id(id), successor_key) or self._successor(_id(id)) == successor_key

    def _claim(self, name: str, successor_key: str = "") -> bool:
        now, store = self._clock(), self._store
        point = _POINT.pack(_MAGIC, now) + successor_key.encode()
        if isinstance(store, Versioned):
            try:
                first = store.insert(NAMESPACE, name, point, ttl=self._lifetime)
            except StoreUnavailable:
                # Nobody else names this successor, so a point that does is this one, and the reply was lost.
                if not successor_key or self._successor(name) != successor_key:
                    raise
                first = True
        else:
            first = store.get(NAMESPACE, name) is None
            if first:
                store.set(NAMESPACE, name, point, ttl=self._lifetime)
        self._remember(name, now, now)
        return first

    def _put(self, name: str) -> None:
        now = self._clock()
        self._store.set(NAMESPACE, name, _POINT.pack(_MAGIC, now), ttl=self._lifetime)
        self._remember(name, now, now)

    def _successor(self, name: str) -> str:
        data = self._store.get(NAMESPACE, name)
        if data is None:
            return ""
        _point(data)
        return str(data[_POINT.size :], "ascii")

    def revoked_at(
        self, created: float, user: Hashable = None, *, id: bytes | None = None, fresh: bool = False
    ) -> float | None:
        """When a session with these marks was revoked, ``None`` if it was not.

        ``fresh`` asks the store whatever is remembered.
        """
        names = [name for name, wanted in ((_ALL, True), (_id(id), id), (_user(user), user is not None)) if wanted]
        points = self._points(names, fresh=fresh)
        # An id is dead from its revocation on, also where the clock of the host that revoked it was behind.
        dead = [at for name, at in points.items() if at is not None and (created <= at or name.startswith("id:"))]
        return max(dead, default=None)

    def earliest_valid(self, user: Hashable) -> float:
        """The earliest beginning, in seconds since the epoch, of a session of ``user`` that no point ends."""
        points = [at for at in self._points([_ALL, _user(user)], fresh=True).values() if at is not None]
        return math.nextafter(max(points), math.inf) if points else 0.0

    def _points(self, names: list[str], *, fresh: bool) -> dict[str, float | None]:
        now = self._clock()
        points: dict[str, float | None] = {}
        for name in names:
            seen = None if fresh else self._seen.get(name)
            if seen is not None and 0 <= now - seen[0] < self._interval:
                points[name] = seen[1]
        missing = [name for name in names if name not in points]
        if missing:
            found = self._read(missing)
            for name in missing:
                points[name] = found.get(name)
                self._remember(name, now, found.get(name))
        return points

    def _read(self, names: list[str]) -> dict[str, float]:
        if isinstance(self._store, Bulk):
            records = self._store.get_many(NAMESPACE, names)
        else:
            pairs = ((name, self._store.get(NAMESPACE, name)) for name in names)
            records = {name: data for name, data in pairs if data is not None}
        return {name: _point(data) for name, data in records.items()}

    def _remember(self, name: str, now: float, point: float | None) -> None:
        with self._lock:
            known = self._seen.get(name)
            if known is not None and known[1] is not None and (point is None or point < known[1]):
                # Read before the revocation that this process has seen since: a point never goes back.
                point = known[1]
            self._seen[name] = (now, point)
            self._seen.move_to_end(name)
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)


def _point(data: bytes) -> float:
    # A point that cannot be read must not let everybody back in.
    if len(data) not in (_POINT.size, _POINT.size + 64) or data[:4] != _MAGIC:
        raise CorruptRecord("a revocation point cannot be read")
    point: float = _POINT.unpack_from(data)[1]
    return point


def _user(user: Hashable) -> str:
    return "user:" + user_key(user)


def user_key(user: Hashable) -> str:
    """The name of a user in revocation points. Raises UncacheableArgument for an object without a stable name."""
    return cache_key((user,))


def _id(id: bytes | None) -> str:
    return "id:" + store_key(id) if id else ""
