"""Session records in a versioned store: read, create, replace if unchanged, bury.

A killed session leaves a tombstone for a few minutes, so that a request that was under way meanwhile is
recognised and neither writes the session back nor sends a cookie over a fresh one.
"""

from __future__ import annotations

import secrets
from collections.abc import Hashable
from typing import Any, Literal, NamedTuple

from beaker._typing import Clock
from beaker.counters import count
from beaker.crypto.envelope import Envelope
from beaker.crypto.tokens import SKEW, store_key
from beaker.exceptions import CorruptRecord, StoreUnavailable
from beaker.session.snapshot import LIVE, TOMBSTONE, WRITE_IDS, Snapshot

__all__ = ["CLOCKS", "NAMESPACE", "TOMBSTONE_TTL", "Buried", "SessionRecords"]

NAMESPACE = "beaker.session"
TOMBSTONE_TTL = 300.0
"""Seconds a tombstone stays: longer than a request lives (App Engine and Cloud Run: minutes)."""
_MOVES = 8
"""Changes of the id that a logout follows: more cannot happen to one session while one request runs."""
_TRIES = 32
GRACE = 120.0
"""Seconds a store keeps a record past its end, so that a clock a little behind still sees it."""
CLOCKS = 5.0
"""Seconds by which the clocks of two hosts, and a browser that has not seen the answer yet, may be behind."""


class Buried(NamedTuple):
    """A session that was killed a moment ago, ``at`` that second since the epoch."""

    at: float


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

    def load(self, id: bytes) -> Snapshot | Buried | Literal["gone"]:
        """The live session, :class:`Buried` when it was killed, or ``"gone"``: absent, expired, over its age.

        Raises CorruptRecord for bytes that are no record of ours, StoreUnavailable when nobody knows.
        """
        key = store_key(id)
        found = self.store.read(NAMESPACE, key)
        if found is None:
            return "gone"
        data, version = found
        opened = self.envelope.open(NAMESPACE, key, data)
        if opened.kind == TOMBSTONE:
            return Buried(opened.stored)
        snapshot = Snapshot.decode(id, opened.payload)
        snapshot.version = version
        snapshot.trusted = opened.authentic or self.store.trusted
        snapshot.current = opened.current
        return "gone" if over(snapshot, self.clock(), self.timeout, self.absolute) else snapshot

    def create(self, snapshot: Snapshot) -> None:
        """Write a session whose id was made in this request. Raises StoreUnavailable, ValueTooLarge."""
        if not self.insert(snapshot):
            # 256 random bits do not meet twice: this is a record we may not write over.
            raise StoreUnavailable("a record with a fresh id exists", backend=self.store.backend, operation="insert")

    def insert(self, snapshot: Snapshot) -> bool:
        """Write a session that may have a record by now. ``False``: it has one, nothing was written."""
        wid = self._stamp(snapshot)
        try:
            if self.store.insert(NAMESPACE, store_key(snapshot.id), self._seal(snapshot), ttl=self._ttl(snapshot)):
                return True
        except StoreUnavailable:
            if not self._landed(snapshot.id, wid):
                raise
            return True
        return self._landed(snapshot.id, wid)

    def drop(self, snapshot: Snapshot) -> bool:
        """Remove a record that is of no use any more, if it is still as loaded."""
        return bool(self.store.remove(NAMESPACE, store_key(snapshot.id), snapshot.version))

    def overwrite(self, snapshot: Snapshot) -> None:
        """Write a session whose id nobody else can know yet."""
        self._stamp(snapshot)
        self.store.set(NAMESPACE, store_key(snapshot.id), self._seal(snapshot), ttl=self._ttl(snapshot))

    def replace(self, snapshot: Snapshot, version: Hashable) -> bool:
        """Write if the record still has ``version``. ``False``: somebody else wrote or killed it.

        The last of ``snapshot.wids`` is then the mark of this write: a record that has it took it all the same
        (a client that tries again by itself is refused by its own first attempt).
        """
        wid = self._stamp(snapshot)
        data = self._seal(snapshot)
        try:
            if self.store.replace(NAMESPACE, store_key(snapshot.id), data, version, ttl=self._ttl(snapshot)):
                return True
        except StoreUnavailable:
            if self._landed(snapshot.id, wid):
                return True
            raise
        return False

    def _landed(self, id: bytes, wid: bytes) -> bool:
        # The answer to a write was lost: the write's own id in the record tells whether it was done.
        found = self.load(id)
        return isinstance(found, Snapshot) and wid in found.wids

    def bury(self, id: bytes, version: Hashable | None, successor: bytes) -> bool:
        """Kill a session that lives on as ``successor``, if its record still has ``version``, ``None``: is absent.

        Raises StoreUnavailable when it is not known whether that was done.
        """
        key, heir = store_key(id), store_key(successor)
        # The hash of the new id, so that a leak of the store gives nobody a session.
        data = self._tombstone(key, heir)
        try:
            if version is None:
                done = self.store.insert(NAMESPACE, key, data, ttl=TOMBSTONE_TTL)
            else:
                done = self.store.replace(NAMESPACE, key, data, version, ttl=TOMBSTONE_TTL)
        except StoreUnavailable:
            if self._heir(key, self.store.read(NAMESPACE, key)) != heir:
                raise
            return True
        # Nobody else knows the new id, so a tombstone that names it is this one, its answer lost on the way.
        return bool(done) or self._heir(key, self.store.read(NAMESPACE, key)) == heir

    def kill(self, id: bytes, version: Hashable = None) -> None:
        """Kill a session, and what it was moved to by a request at the same time.

        ``version`` is what the record had when it was loaded: while it has it, one write is enough.
        """
        key = store_key(id)
        if version is not None and self.store.replace(NAMESPACE, key, self._tombstone(key), version, ttl=TOMBSTONE_TTL):
            return
        for _ in range(_MOVES):
            key = self._end(key)
            if not key:
                return

    def _end(self, key: str) -> str:
        """Leave a last tombstone at ``key``; where the session had moved to, empty if it had not."""
        tombstone = self._tombstone(key)
        for _ in range(_TRIES):
            found = self.store.read(NAMESPACE, key)
            if found is None:
                if self.store.insert(NAMESPACE, key, tombstone, ttl=TOMBSTONE_TTL):
                    return ""
            elif self.store.replace(NAMESPACE, key, tombstone, found[1], ttl=TOMBSTONE_TTL):
                return self._heir(key, found)
        # Among so many writers a logout does not wait its turn.
        self.store.set(NAMESPACE, key, tombstone, ttl=TOMBSTONE_TTL)
        return ""

    def _tombstone(self, key: str, heir: str = "") -> bytes:
        return self.envelope.seal(NAMESPACE, key, heir.encode(), stored=self.clock(), expires=None, kind=TOMBSTONE)

    def _heir(self, key: str, found: tuple[bytes, Hashable] | None) -> str:
        if found is None:
            return ""
        try:
            opened = self.envelope.open(NAMESPACE, key, found[0])
        except CorruptRecord:
            return ""
        return opened.payload.decode() if opened.kind == TOMBSTONE else ""

    def forget(self, id: bytes) -> None:
        """Remove the record without a trace (an id that was never given to anybody)."""
        self.store.delete(NAMESPACE, store_key(id))

    @staticmethod
    def _stamp(snapshot: Snapshot) -> bytes:
        wid = secrets.token_bytes(8)
        snapshot.wids = (*snapshot.wids, wid)[-WRITE_IDS:]
        return wid

    def _seal(self, snapshot: Snapshot) -> bytes:
        ends = self.ends(snapshot)
        return self.envelope.seal(
            NAMESPACE, store_key(snapshot.id), snapshot.encode(), stored=self.clock(), expires=ends, kind=LIVE
        )

    def ends(self, snapshot: Snapshot) -> float | None:
        """When the session will be over if nobody uses it again."""
        return ends(snapshot, self.timeout, self.absolute)

    def _ttl(self, snapshot: Snapshot) -> float | None:
        end = self.ends(snapshot)
        return None if end is None else max(1.0, end - self.clock() + GRACE)


def ends(snapshot: Snapshot, timeout: float | None, absolute: float | None) -> float | None:
    """The earlier of idle end and absolute end, in seconds since the epoch; ``None``: never."""
    idle = None if timeout is None else snapshot.accessed + timeout
    hard = None if absolute is None else snapshot.created + absolute
    if idle is None or hard is None:
        return hard if idle is None else idle
    return min(idle, hard)


def over(snapshot: Snapshot, now: float, timeout: float | None, absolute: float | None) -> bool:
    """Whether the session has ended, or has stamps that lie in the future by more than :data:`SKEW`."""
    end = ends(snapshot, timeout, absolute)
    if end is not None and now >= end:
        count("session_expired")
        return True
    if max(snapshot.created, snapshot.accessed) > now + SKEW:
        count("session_expired", "future")
        return True
    return False
