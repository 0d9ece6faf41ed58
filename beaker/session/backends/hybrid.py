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
from contextlib import suppress
from dataclasses import replace

from beaker.counters import count
from beaker.crypto.tokens import OpenedData, new_id
from beaker.exceptions import CorruptRecord, SessionTooLarge, StoreUnavailable, WriteConflict
from beaker.session.backends.cookie import CookieCarrier
from beaker.session.backends.server import Fenced, ServerCarrier
from beaker.session.base import BaseSession
from beaker.session.context import SessionContext
from beaker.session.merge import diff
from beaker.session.records import TOMBSTONE_TTL, Buried, ends
from beaker.session.snapshot import Snapshot
from beaker.session.values import Packed, pack_items, unpack_items

__all__ = ["HybridCarrier"]

_POINTER, _DATA = 2, 3
_HEAD = struct.Struct(">B32sI")
_BACK = struct.Struct(">d")
_SHRUNK = 0.5
"""A session comes back when it fills at most this much of the cookie, so that it does not go to and fro."""
_TRIES = 8
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
        if isinstance(found, Buried):
            # Which is told of every end, but by the point alone, as a change of the id that failed leaves one too.
            self.adopt_token(session, snapshot, current=opened.current, fresh=True)
            return
        if isinstance(found, Snapshot) and (found.returned is None or found.values != found.returned):
            self._merge_late(session, snapshot, found)
            return
        self.adopt_token(session, snapshot, current=opened.current)
        if session.is_new:
            return
        session.came_back = came_back
        if self.context.options.readonly:
            return
        if session.now - came_back > SETTLED and (found == "gone" or self.context.records.drop(found)):
            session.came_back = 0.0
            session.must_reseal = True

    def _merge_late(self, session: BaseSession, token: Snapshot, record: Snapshot) -> None:
        """A holder of the pointer wrote after the return: take both sides, and live in the store again."""
        values = record.values
        if record.returned is not None:
            # A conflict over who the visitor is, or one that is to be raised, is not for a reader: the store has it.
            with suppress(Fenced, WriteConflict):
                values = self._with_late(session, record, token.values, record)
        self._adopt_record(session, token.id)
        if session.is_new:
            return
        if self.context.options.readonly:
            session.adopt(replace(session.snapshot, values=values))
        else:
            session.rebase(session.snapshot, values)
            session.must_save = session.must_reseal = True

    def _adopt_record(self, session: BaseSession, id: bytes) -> None:
        # The record alone says whether the id lives: points on ids are about tokens that carry the session.
        self.server.fetch_id(session, id)
        session.in_store = not session.is_new

    def save(self, session: BaseSession, packed: Packed) -> None:
        stored = session.snapshot.version is not None or session.in_store
        if stored or (session.moving is not None and session.moving.version is not None):
            self._save_stored(session, packed)
        else:
            self._save_sealed(session, packed)

    def _save_sealed(self, session: BaseSession, packed: Packed) -> None:
        if self.ended_meanwhile(session):
            self._ended(session, packed)
        elif session.moving is not None:
            self._renew(session, session.moving, packed)
        else:
            snapshot = replace(session.snapshot, accessed=session.now, current=True)
            sealed = self._fitting(snapshot, packed, came_back=session.came_back)
            if sealed is None:
                self._move_out(session, snapshot, packed)
            else:
                self._sealed(session, snapshot, packed, sealed)

    def _sealed(
        self, session: BaseSession, snapshot: Snapshot, packed: Packed, sealed: list[tuple[str, str]] | None
    ) -> None:
        """Note a session that was saved: in the cookie ``sealed``, or in the store for ``None``."""
        session.saved(replace(snapshot, version=None), packed)
        session.in_store = sealed is None
        session.sealed, session.cookie_due = sealed, True
        if sealed is None:
            self._point(session)

    def _ended(self, session: BaseSession, packed: Packed) -> None:
        """Another request ended the session this one has in its cookie."""
        if not session.logged_in:
            session.fence("revoked")
            return
        packed = session.start_over(packed)
        session.moving, session.came_back, session.is_new = None, 0.0, True
        session.snapshot = replace(session.snapshot, id=new_id())
        self._save_sealed(session, packed)

    def _renew(self, session: BaseSession, old: Snapshot, mine: Packed) -> None:
        """Give a session in its cookie another id: against those who move it to the store or end it meanwhile."""
        records, packed, version = self.context.records, mine, None
        snapshot = replace(session.snapshot, accessed=session.now, current=True)
        look = bool(session.came_back)
        for _ in range(_TRIES):
            record = records.load(old.id) if look else "gone"
            if isinstance(record, Snapshot):
                version, packed = record.version, self._with_late(session, old, mine, record)
            sealed = self._fitting(snapshot, packed, came_back=0.0)
            if sealed is None:
                records.overwrite(replace(snapshot, values=packed))
            # The tombstone keeps others from moving the old id to the store; it is the point that ends the id.
            if isinstance(record, Buried) or records.bury(old.id, version, snapshot.id):
                break
            look = True
        try:
            renewed = self.retire(old, snapshot)
        except StoreUnavailable:
            # The old id lives on, so it must be able to grow.
            with suppress(StoreUnavailable):
                records.forget(old.id)
            raise
        if renewed:
            session.came_back = 0.0
            self._sealed(session, snapshot, packed, sealed)
        else:
            records.kill(snapshot.id)
            self._ended(session, mine)

    def _with_late(self, session: BaseSession, old: Snapshot, mine: Packed, record: Snapshot) -> Packed:
        """``mine`` with what was written to the record since the session was in the cookie as ``old``."""
        base = old if record.returned is None else replace(record, values=record.returned)
        return self.server.merged(session, base, diff(base.values, mine, session.operations(mine)), record)

    def _move_out(self, session: BaseSession, snapshot: Snapshot, packed: Packed) -> None:
        count("hybrid", "out")
        records, base = self.context.records, session.snapshot
        written: Snapshot | None = replace(snapshot, values=packed)
        if session.is_new:
            records.create(replace(snapshot, values=packed))
        elif not records.insert(replace(snapshot, values=packed)):
            # Another request was first, or the forward of an earlier return is still there.
            delta = diff(base.values, packed, session.operations(packed))
            written = self.server.commit(session, replace(base, version=None), delta, packed)
        if written is not None:
            self._sealed(session, written, packed, None)

    def _save_stored(self, session: BaseSession, packed: Packed) -> None:
        was = session.snapshot
        # A token that carried the session while it was small has the old id too; it may die before the record.
        self.retire(session.moving, session.snapshot)
        self.server.save(session, packed)
        if session.fenced:
            return
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
        if self._revoked_at(session, session.snapshot, fresh=True) is not None:
            # A change of the id that failed has ended the tokens of this one.
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
