"""Session records in a versioned store: read, create, replace if unchanged, end with a tombstone.

A session that ends leaves a tombstone for a few minutes. A request that was in flight at that moment finds it, and
then neither writes the session back nor sends a cookie that would overwrite a newer one.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from beaker._typing import Clock
from beaker.counters import count
from beaker.crypto.tokens import SKEW, store_key
from beaker.exceptions import CorruptRecord, StoreUnavailable, ValueTooLarge
from beaker.locking.turn import Turns
from beaker.session.snapshot import LIVE, TOMBSTONE, WRITE_IDS, Snapshot

if TYPE_CHECKING:
    from beaker.crypto.envelope import Envelope

__all__ = ["CLOCKS", "NAMESPACE", "TOMBSTONE_TTL", "SessionRecords", "Tombstone", "ends", "over"]

NAMESPACE = "beaker.session"
TOMBSTONE_TTL = 300.0
"""Seconds a tombstone stays: longer than a request lasts (on App Engine and Cloud Run: minutes)."""
_MOVES = 8
"""Changes of the id that a logout follows: more cannot happen to one session during one request."""
_TRIES = 32
_REMEMBERED, _LARGEST = 512, 4096
"""Records that a process remembers opened, and the longest of them in bytes: 2 MiB of records, about 6 in objects."""
GRACE = 120.0
"""Seconds a store keeps a record past its end, so that a clock a little behind still sees it."""
AHEAD = 86_400.0
"""Seconds by which a stamp may be ahead of the clock and still count: of two clocks it is not known which is wrong, and
no session that is in use shall end."""
CLOCKS = 5.0
"""Seconds by which the clocks of two hosts may differ, or a browser may be late that has not seen the response."""


class Tombstone(NamedTuple):
    """What is left of a session that ended ``at`` that second since the epoch, or ``moved`` to another id then."""

    at: float
    moved: bool = False


class SessionRecords:
    """The records of one configuration's server-side sessions.

    ``store`` is a Store that is also Versioned. ``timeout`` and ``absolute`` are seconds or ``None``.
    """

    def __init__(
        self, store: Any, envelope: Envelope, *, timeout: float | None, absolute: float | None, clock: Clock
    ) -> None:
        self.store = store
        self.envelope = envelope
        self.timeout = timeout
        self.absolute = absolute
        self.clock = clock
        self.turns = Turns()
        """Which threads of this process save which record, once two do at the same time."""
        self._known: dict[str, tuple[bytes, object, Snapshot]] = {}

    def load(self, id: bytes, now: float | None = None) -> Snapshot | Tombstone | Literal["gone"]:
        """The live session, its :class:`Tombstone`, or ``"gone"``: absent, expired, or over its age.

        ``now`` is what the clock says, if that was read just now. Raises CorruptRecord for bytes that are not our
        record, StoreUnavailable when the store does not reply.
        """
        key = store_key(id)
        found = self.store.read(NAMESPACE, key)
        if found is None:
            return "gone"
        data, version = found
        known, keys = self._known.get(key), self.envelope.keys
        if known is not None and known[0] == data and known[1] is keys:
            snapshot = known[2].copy()
        else:
            opened = self.envelope.open(NAMESPACE, key, data)
            if opened.kind == TOMBSTONE:
                return Tombstone(opened.stored, moved=bool(opened.payload))
            snapshot = Snapshot.decode(id, opened.payload, key=key)
            snapshot.trusted = opened.authentic or self.store.trusted
            snapshot.current = opened.current
            self._remember(snapshot.copy(), data, keys)
        snapshot.version = version
        return "gone" if over(snapshot, self.clock() if now is None else now, self.timeout, self.absolute) else snapshot

    def is_live(self, snapshot: Snapshot) -> bool:
        """Whether a session whose record is known has not come to its end by now."""
        end = ends(snapshot, self.timeout, self.absolute)
        return end is None or self.clock() < end

    def _remember(self, snapshot: Snapshot, data: bytes, keys: object) -> None:
        """Keep what a record says whose bytes were verified by ``keys``: then the same bytes need it only once."""
        if keys is None or len(data) > _LARGEST:
            return
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[snapshot.key] = data, keys, snapshot

    def create(self, snapshot: Snapshot) -> None:
        """Write a session whose id was created in this request. Raises StoreUnavailable, ValueTooLarge."""
        if not self.insert(snapshot):
            # 256 random bits do not collide: this is a record that we must not overwrite.
            raise StoreUnavailable("a record with a fresh id exists", backend=self.store.backend, operation="insert")

    def insert(self, snapshot: Snapshot) -> bool:
        """Write a session that may have a record by now. ``False``: it has one, and nothing was written."""
        keys = self.envelope.keys
        self._stamp(snapshot)
        data, ttl = self._sealed(snapshot)
        try:
            if done := self.store.insert(NAMESPACE, snapshot.key, data, ttl=ttl):
                self._wrote(snapshot, data, keys, done)
                return True
        except StoreUnavailable:
            if not self._landed(snapshot):
                raise
            return True
        return self._landed(snapshot)

    def drop(self, snapshot: Snapshot) -> bool:
        """Remove a record that is no longer needed, if it is still as loaded."""
        return bool(self.store.remove(NAMESPACE, snapshot.key, snapshot.version))

    def overwrite(self, snapshot: Snapshot) -> None:
        """Write a session whose id no other request can know yet."""
        self._stamp(snapshot)
        data, ttl = self._sealed(snapshot)
        self.store.set(NAMESPACE, snapshot.key, data, ttl=ttl)
        snapshot.version, snapshot.written = None, True

    def replace(self, snapshot: Snapshot, version: Hashable) -> bool:
        """Write if the record still has ``version``. ``False``: another request wrote or ended it.

        ``snapshot.version`` is then the new one, ``None`` where the store does not say.
        The last of ``snapshot.write_ids`` then marks this write. A record that contains it took the write after
        all: a client that retries by itself is refused because of its own first attempt.
        """
        keys = self.envelope.keys
        self._stamp(snapshot)
        data, ttl = self._sealed(snapshot)
        try:
            done = self.store.replace(NAMESPACE, snapshot.key, data, version, ttl=ttl)
        except StoreUnavailable:
            if self._landed(snapshot):
                return True
            raise
        if done:
            self._wrote(snapshot, data, keys, done)
        return bool(done)

    def _wrote(self, snapshot: Snapshot, data: bytes, keys: object, done: object) -> None:
        """Remember a record that this process has just sealed and written, and the version if ``done`` has it."""
        twin = snapshot.copy()
        snapshot.version, snapshot.written = getattr(done, "version", None), True
        twin.trusted, twin.current, twin.ahead = self.envelope.signs or self.store.trusted, True, False
        twin.written = False
        self._remember(twin, data, keys)

    def _landed(self, snapshot: Snapshot) -> bool:
        # The reply to a write was lost; its id in the record shows whether it was done.
        found = self.load(snapshot.id)
        if not isinstance(found, Snapshot) or snapshot.write_ids[-1] not in found.write_ids:
            return False
        # Another request may have written over it since.
        snapshot.version, snapshot.written = None, True
        return True

    def replace_with_tombstone(self, id: bytes, version: Hashable | None, successor: bytes) -> bool:
        """End an id whose session goes on as ``successor``, if the record has ``version`` (``None``: is absent).

        Raises StoreUnavailable when it is not known whether that was done.
        """
        # The tombstone names the hash of the new id, so that a leak of the store gives no session away.
        key, name = store_key(id), store_key(successor)
        data = self._tombstone(key, name)
        try:
            if version is None:
                done = self.store.insert(NAMESPACE, key, data, ttl=TOMBSTONE_TTL)
            else:
                done = self.store.replace(NAMESPACE, key, data, version, ttl=TOMBSTONE_TTL)
        except StoreUnavailable:
            if self._successor(key, self.store.read(NAMESPACE, key)) != name:
                raise
            return True
        # Only this request knows the new id: a tombstone that names it is this one, and the reply was lost.
        return bool(done) or self._successor(key, self.store.read(NAMESPACE, key)) == name

    def move(self, new: Snapshot, old: bytes, version: Hashable) -> bool | None:
        """Write ``new`` and end the id ``old``, whose record has ``version``, in one transaction.

        ``False``: the record has another version; nothing was written. ``None``: the store cannot do that; nothing was
        written. Raises StoreUnavailable when it is not known whether it was done.
        """
        write = getattr(self.store, "write_together", None)
        if write is None:
            return None
        from beaker.storage.api import Change

        self._stamp(new)
        (data, ttl), key, name, keys = self._sealed(new), store_key(old), store_key(new.id), self.envelope.keys
        tombstone = self._tombstone(key, name)
        changes = [
            Change(NAMESPACE, key, tombstone, TOMBSTONE_TTL, version=version),
            Change(NAMESPACE, new.key, data, ttl, absent=True),
        ]
        try:
            done: bool | None = write(changes)
        except StoreUnavailable:
            if self._successor(key, self.store.read(NAMESPACE, key)) != name:
                raise
            done = True
        if done:
            self._wrote(new, data, keys, done)
        return done

    def kill(self, id: bytes, version: Hashable = None) -> None:
        """End a session, and what another request has moved it to.

        ``version`` is what the record had when it was loaded: as long as it still has it, one write is enough. A
        record whose tombstone cannot be written, as in a full store, is removed. Raises StoreUnavailable when that
        fails too.
        """
        key = store_key(id)
        if version is not None and self._bury(key, self._tombstone(key), version):
            return
        for _ in range(_MOVES):
            key = self._end(key)
            if not key:
                return

    def _end(self, key: str) -> str:
        """Leave a last tombstone at ``key``; the key the session had moved to, empty if it had not."""
        tombstone = self._tombstone(key)
        for _ in range(_TRIES):
            found = self.store.read(NAMESPACE, key)
            if found is None:
                if self.store.insert(NAMESPACE, key, tombstone, ttl=TOMBSTONE_TTL):
                    return ""
            elif self._bury(key, tombstone, found[1]):
                return self._successor(key, found)
        # Among so many writers a logout stops comparing versions.
        self.store.set(NAMESPACE, key, tombstone, ttl=TOMBSTONE_TTL)
        return ""

    def _bury(self, key: str, tombstone: bytes, version: Hashable) -> bool:
        """Put ``tombstone`` where the record has ``version``, or remove the record. ``False``: it has another."""
        try:
            return bool(self.store.replace(NAMESPACE, key, tombstone, version, ttl=TOMBSTONE_TTL))
        except (StoreUnavailable, ValueTooLarge):
            # A tombstone of which only the reply was lost has another version, and stays.
            if not self.store.remove(NAMESPACE, key, version):
                return False
        count("tombstone_missing")
        return True

    def _tombstone(self, key: str, successor: str = "") -> bytes:
        now = self.clock()
        return self.envelope.seal(NAMESPACE, key, successor.encode(), stored=now, expires=None, kind=TOMBSTONE)

    def _successor(self, key: str, found: tuple[bytes, Hashable] | None) -> str:
        if found is None:
            return ""
        try:
            opened = self.envelope.open(NAMESPACE, key, found[0])
        except CorruptRecord:
            return ""
        return opened.payload.decode() if opened.kind == TOMBSTONE else ""

    def forget(self, id: bytes) -> None:
        """Remove the record without a trace (of an id that was never sent)."""
        self.store.delete(NAMESPACE, store_key(id))

    @staticmethod
    def _stamp(snapshot: Snapshot) -> None:
        snapshot.write_ids = (*snapshot.write_ids, os.urandom(8))[-WRITE_IDS:]

    def _sealed(self, snapshot: Snapshot) -> tuple[bytes, float | None]:
        """The record, and the seconds the store is to keep it."""
        now, end = self.clock(), ends(snapshot, self.timeout, self.absolute)
        payload = snapshot.encode()
        data = self.envelope.seal(NAMESPACE, snapshot.key, payload, stored=now, expires=end, kind=LIVE)
        return data, None if end is None else max(1.0, end - now + GRACE)


def ends(snapshot: Snapshot, timeout: float | None, absolute: float | None) -> float | None:
    """The earlier of idle end and absolute end, in seconds since the epoch; ``None``: never."""
    idle = None if timeout is None else snapshot.accessed + timeout
    hard = None if absolute is None else snapshot.created + absolute
    if idle is None or hard is None:
        return hard if idle is None else idle
    return min(idle, hard)


def over(snapshot: Snapshot, now: float, timeout: float | None, absolute: float | None) -> bool:
    """Whether the session has ended. If it has not, stamps over a day in the future become ``now``.

    Stamps in the future are authentic and of a host whose clock was ahead, or ours is behind; that ends no session.
    """
    if timeout is not None or absolute is not None:
        end = ends(snapshot, timeout, absolute)
        if end is not None and now >= end:
            count("session_expired")
            return True
    if snapshot.created > now or snapshot.accessed > now:
        if snapshot.accessed > now + SKEW:
            count("session_from_the_future")
            snapshot.ahead = snapshot.accessed > now + AHEAD
        if max(snapshot.created, snapshot.accessed) > now + AHEAD:
            snapshot.created, snapshot.accessed = min(snapshot.created, now), min(snapshot.accessed, now)
    return False
