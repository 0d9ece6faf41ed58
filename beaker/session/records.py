"""Session records in a versioned store: read, create, replace if unchanged, end with a tombstone.

A session that ends leaves a tombstone for a few minutes. A request that was in flight at that moment finds it, and
then neither writes the session back nor sends a cookie that would overwrite a newer one.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from beaker._typing import Clock
from beaker.counters import count
from beaker.crypto.tokens import SKEW, store_key
from beaker.exceptions import CorruptRecord, StoreUnavailable, ValueTooLarge
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
GRACE = 120.0
"""Seconds a store keeps a record past its end, so that a clock a little behind still sees it."""
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

    def load(self, id: bytes) -> Snapshot | Tombstone | Literal["gone"]:
        """The live session, its :class:`Tombstone`, or ``"gone"``: absent, expired, or over its age.

        Raises CorruptRecord for bytes that are not a record of ours, StoreUnavailable when the store does not reply.
        """
        key = store_key(id)
        found = self.store.read(NAMESPACE, key)
        if found is None:
            return "gone"
        data, version = found
        opened = self.envelope.open(NAMESPACE, key, data)
        if opened.kind == TOMBSTONE:
            return Tombstone(opened.stored, moved=bool(opened.payload))
        snapshot = Snapshot.decode(id, opened.payload, key=key)
        snapshot.version = version
        snapshot.trusted = opened.authentic or self.store.trusted
        snapshot.current = opened.current
        return "gone" if over(snapshot, self.clock(), self.timeout, self.absolute) else snapshot

    def create(self, snapshot: Snapshot) -> None:
        """Write a session whose id was created in this request. Raises StoreUnavailable, ValueTooLarge."""
        if not self.insert(snapshot):
            # 256 random bits do not collide: this is a record that we must not overwrite.
            raise StoreUnavailable("a record with a fresh id exists", backend=self.store.backend, operation="insert")

    def insert(self, snapshot: Snapshot) -> bool:
        """Write a session that may have a record by now. ``False``: it has one, and nothing was written."""
        write_id = self._stamp(snapshot)
        data, ttl = self._sealed(snapshot)
        try:
            if self.store.insert(NAMESPACE, snapshot.key, data, ttl=ttl):
                return True
        except StoreUnavailable:
            if not self._landed(snapshot.id, write_id):
                raise
            return True
        return self._landed(snapshot.id, write_id)

    def drop(self, snapshot: Snapshot) -> bool:
        """Remove a record that is no longer needed, if it is still as loaded."""
        return bool(self.store.remove(NAMESPACE, snapshot.key, snapshot.version))

    def overwrite(self, snapshot: Snapshot) -> None:
        """Write a session whose id no other request can know yet."""
        self._stamp(snapshot)
        data, ttl = self._sealed(snapshot)
        self.store.set(NAMESPACE, snapshot.key, data, ttl=ttl)

    def replace(self, snapshot: Snapshot, version: Hashable) -> bool:
        """Write if the record still has ``version``. ``False``: another request wrote or ended it.

        The last of ``snapshot.write_ids`` then marks this write. A record that contains it took the write after
        all: a client that retries by itself is refused because of its own first attempt.
        """
        write_id = self._stamp(snapshot)
        data, ttl = self._sealed(snapshot)
        try:
            return bool(self.store.replace(NAMESPACE, snapshot.key, data, version, ttl=ttl))
        except StoreUnavailable:
            if self._landed(snapshot.id, write_id):
                return True
            raise

    def _landed(self, id: bytes, write_id: bytes) -> bool:
        # The reply to a write was lost; its id in the record shows whether it was done.
        found = self.load(id)
        return isinstance(found, Snapshot) and write_id in found.write_ids

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
    def _stamp(snapshot: Snapshot) -> bytes:
        write_id = secrets.token_bytes(8)
        snapshot.write_ids = (*snapshot.write_ids, write_id)[-WRITE_IDS:]
        return write_id

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
    """Whether the session has ended. If it has not, stamps that lie in the future become ``now``.

    They are authentic and of a host whose clock was ahead, or ours was set back; that ends no session.
    """
    end = ends(snapshot, timeout, absolute)
    if end is not None and now >= end:
        count("session_expired")
        return True
    if max(snapshot.created, snapshot.accessed) > now:
        if snapshot.accessed > now + SKEW:
            count("session_from_the_future")
            snapshot.ahead = True
        snapshot.created, snapshot.accessed = min(snapshot.created, now), min(snapshot.accessed, now)
    return False
