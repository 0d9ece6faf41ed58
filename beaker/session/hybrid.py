"""Hybrid sessions: small ones travel in the cookie, big ones move to the store, and back when they shrink.

The cookie's token says which: the session itself, or a pointer to its record. Both directions are safe
beside concurrent requests:

* Out: the record is inserted under the session's own id. If another request moved it out first, this one
  merges into that record like any concurrent save.
* Back: the record stays for some minutes, with what the session held at its return noted in it, and the token
  says since when. So long, a request with the token looks whether somebody who held the pointer wrote to the
  record meanwhile; if so, both sides' changes are merged and the session goes on in the store. The first
  request that comes after every other must be over removes the record; from then on the session costs no
  store operation but for revocation.

Two requests that hold the same token and both stay in the cookie are beyond help, as with every cookie
session: the browser keeps the answer that arrives last.

A killed session leaves a tombstone and, in the cookie state, a revoked id.
"""

from __future__ import annotations

import struct
from dataclasses import replace

from beaker.counters import count
from beaker.crypto.tokens import OpenedData
from beaker.exceptions import CorruptRecord, SessionTooLarge
from beaker.session.base import BaseSession
from beaker.session.client import CookieCarrier
from beaker.session.context import SessionContext
from beaker.session.merge import diff
from beaker.session.record import Snapshot
from beaker.session.server import ServerCarrier
from beaker.session.storage import TOMBSTONE_TTL, ends
from beaker.session.values import Packed, pack_items, unpack_items

__all__ = ["HybridCarrier"]

_POINTER, _DATA = 2, 3
_HEAD = struct.Struct(">B32sI")
_BACK = struct.Struct(">d")
_SHRUNK = 0.5
"""A session comes back when it fills at most this much of the cookie, so that it does not go to and fro."""
SETTLED = TOMBSTONE_TTL
"""Seconds after which no request can still hold the pointer of a session that came back."""


class HybridCarrier(CookieCarrier):
    """Keeps each session where it fits."""

    def __init__(self, context: SessionContext) -> None:
        super().__init__(context)
        self.server = ServerCarrier(context)

    def load(self, session: BaseSession, opened: OpenedData) -> None:
        try:
            if len(opened.payload) < _HEAD.size:
                raise CorruptRecord("the session token ends early")
            kind, id, epoch = _HEAD.unpack_from(opened.payload)
            if kind == _POINTER:
                self._adopt_record(session, id)
                session.must_reseal = not opened.current and not session.is_new
                return
            if kind != _DATA:
                raise CorruptRecord("the session token holds something else")
            (came_back,) = _BACK.unpack_from(opened.payload, _HEAD.size)
            values = unpack_items(opened.payload, _HEAD.size + _BACK.size)
        except (CorruptRecord, struct.error) as error:
            count("corrupt_record", "cookie")
            if not self.context.options.invalidate_corrupt:
                raise CorruptRecord("the session token cannot be read") from error
            return
        snapshot = Snapshot(id, opened.created, opened.issued, epoch, values, trusted=False, current=opened.current)
        if not came_back:
            self.adopt_token(session, snapshot, current=opened.current)
            return
        found = self.context.records.load(snapshot.id)
        if found == "buried":
            session.fenced = True
            return
        if isinstance(found, Snapshot) and (found.returned is None or found.values != found.returned):
            self._merge_late(session, snapshot, found)
            return
        self.adopt_token(session, snapshot, current=opened.current)
        if session.is_new:
            return
        session.came_back = came_back
        if session.now - came_back > SETTLED and (found == "gone" or self.context.records.drop(found)):
            session.came_back = 0.0
            session.must_reseal = True

    def _merge_late(self, session: BaseSession, token: Snapshot, record: Snapshot) -> None:
        """A holder of the pointer wrote after the return: take both sides, and live in the store again."""
        values = record.values
        if record.returned is not None:
            delta = diff(record.returned, token.values)
            values = self.server.merged(session, replace(record, values=record.returned), delta, record)
        self._adopt_record(session, token.id)
        if not session.is_new:
            session.rebase(session.snapshot, values)
            session.must_save = session.must_reseal = True

    def _adopt_record(self, session: BaseSession, id: bytes) -> None:
        self.server.fetch_id(session, id)
        if session.is_new:
            return
        session.in_store = True
        revoked = self._revoked_at(session, session.snapshot)
        if revoked is not None:
            session.end_revoked(revoked)

    def save(self, session: BaseSession, packed: Packed) -> None:
        stored = session.snapshot.version is not None or session.in_store
        if stored or (session.moving is not None and session.moving.version is not None):
            self._save_stored(session, packed)
        else:
            self._save_sealed(session, packed)

    def _save_sealed(self, session: BaseSession, packed: Packed) -> None:
        old = session.moving
        if self.ended_meanwhile(session):
            session.fence("revoked")
            return
        snapshot = replace(session.snapshot, accessed=session.now, current=True)
        sealed = self._fitting(snapshot, packed, came_back=session.came_back)
        if sealed is None:
            self._move_out(session, snapshot, packed)
            return
        session.sealed = sealed
        self.retire(old, snapshot)
        session.saved(snapshot, packed)
        session.cookie_due = True

    def _move_out(self, session: BaseSession, snapshot: Snapshot, packed: Packed) -> None:
        count("hybrid", "out")
        old, records = session.moving, self.context.records
        base = session.snapshot
        written: Snapshot | None = replace(snapshot, values=packed)
        if session.is_new or old is not None:
            records.create(replace(snapshot, values=packed))
        elif not records.insert(replace(snapshot, values=packed)):
            # Another request was first, or the forward of an earlier return is still there.
            delta = diff(base.values, packed, session.operations(packed))
            written = self.server.commit(session, replace(base, version=None), delta, packed)
        if written is None:
            return
        self.retire(old, snapshot)
        session.saved(replace(written, version=None), packed)
        session.in_store = True
        self._point(session)

    def _save_stored(self, session: BaseSession, packed: Packed) -> None:
        was, old = session.snapshot, session.moving
        self.server.save(session, packed)
        if session.fenced:
            return
        # A token that carried the session while it was small has the old id too.
        self.retire(old, session.snapshot)
        session.in_store = True
        if session.snapshot.id == was.id and self._come_back(session, packed):
            return
        if session.snapshot.id != was.id or session.cookie_due or session.must_reseal:
            self._point(session)
        else:
            session.sealed = None

    def _come_back(self, session: BaseSession, packed: Packed) -> bool:
        """Move a session that has become small into the cookie again."""
        limit = int(self.context.options.cookie_max * _SHRUNK)
        if self._fitting(session.snapshot, packed, came_back=session.now, limit=limit) is None:
            return False
        found = self.context.records.load(session.snapshot.id)
        if not isinstance(found, Snapshot) or found.values != packed or found.returned is not None:
            # Also while a copy in some cookie waits to hear of this very write.
            return False
        snapshot = replace(found, accessed=session.now, trusted=False, returned=None)
        sealed = self._fitting(snapshot, packed, came_back=session.now, limit=limit)
        if sealed is None or not self.context.records.replace(replace(found, returned=packed), found.version):
            return False
        count("hybrid", "back")
        session.sealed = sealed
        session.snapshot = replace(snapshot, version=None)
        session.in_store = False
        session.came_back = session.now
        session.cookie_due = True
        return True

    def _point(self, session: BaseSession) -> None:
        snapshot = session.snapshot
        payload = _HEAD.pack(_POINTER, snapshot.id, snapshot.epoch)
        session.sealed = self.fit(self._token(snapshot, payload), snapshot.values)
        session.cookie_due = True

    def _token(self, snapshot: Snapshot, payload: bytes) -> str:
        context = self.context
        # A pointer lives as long as its record may: the record's own idle end decides.
        pointer = payload[0] == _POINTER
        until = ends(snapshot, None if pointer else context.timeout, context.absolute)
        return self.tokens.seal(payload, created=snapshot.created, issued=snapshot.accessed, expires=until)

    def _fitting(
        self, snapshot: Snapshot, packed: Packed, *, came_back: float, limit: int | None = None
    ) -> list[tuple[str, str]] | None:
        payload = _HEAD.pack(_DATA, snapshot.id, snapshot.epoch) + _BACK.pack(came_back) + pack_items(packed)
        try:
            token = self._token(snapshot, payload)
            if limit is not None and len(token) + len(self.context.cookie.name) > limit:
                return None
            return self.fit(token, packed)
        except SessionTooLarge:
            return None

    def touch(self, session: BaseSession) -> None:
        if not session.in_store and session.snapshot.version is None:
            self._save_sealed(session, session.snapshot.values)
            return
        self.server.touch(session)
        if not session.fenced and session.cookie_due:
            self._point(session)

    def refresh(self, session: BaseSession) -> None:
        if session.in_store:
            self.server.refresh(session)

    def kill(self, session: BaseSession) -> None:
        # In the store also where the session is in its cookie: a request that is moving it out must find the end.
        self.context.records.kill(session.snapshot.id, session.snapshot.version)
        super().kill(session)

    def cookies(self, session: BaseSession) -> list[tuple[str, str]]:
        if session.sealed is None:
            if session.in_store or session.snapshot.version is not None:
                self._point(session)
            else:
                snapshot = session.snapshot
                session.sealed = self._fitting(snapshot, snapshot.values, came_back=session.came_back)
        return super().cookies(session)
