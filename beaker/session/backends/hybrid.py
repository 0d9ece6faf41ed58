"""Hybrid sessions: small ones travel in the cookie, big ones move to the store, and back when they shrink.

The cookie's token says which: the session itself, or a pointer to its record. Both moves are safe beside concurrent
requests:

* Out: the record is inserted under the session's own id. If another request moved it out first, this one merges into
  that record like any concurrent save. Then a point is noted that outdates the tokens of before: such a token leads to
  the record from now on, and the session in it, however old, is not opened.
* Back: the record stays for some minutes, with what the session held at its return noted in it, and the token says
  since when. During that time, a request with the token looks whether another request that held the pointer wrote to
  the record meanwhile; if so, both sides' changes are merged and the session goes on in the store. The first request
  after that time, when every such request must be over, removes the record; from then on the session costs no store
  operation but for revocation.

Two requests that hold the same token and both stay in the cookie cannot be merged, as with every cookie session: the
browser keeps the response that arrives last. A session that counts (``monotonic()``) lives in the store for good.

A session that ends leaves a tombstone and, while it is in its cookie, a revoked id.
"""
# over 320 lines because the two moves, and what is saved beside them, prove each other

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Literal

from beaker.counters import count
from beaker.crypto.tokens import OpenedData, new_id
from beaker.exceptions import CorruptRecord, SessionTooLarge, StoreUnavailable, WriteConflict
from beaker.session.backends import Counted, Draft, Ended, InCookie, InStore, Loaded, Place, Saved, dropped
from beaker.session.backends.cookie import CookieBackend, Sealed
from beaker.session.backends.server import Fenced, ServerBackend, contention_of, held
from beaker.session.context import SessionContext
from beaker.session.exchange import Cookie, Sent
from beaker.session.merge import Operation, diff
from beaker.session.records import CLOCKS, TOMBSTONE_TTL, Tombstone, ends
from beaker.session.snapshot import MARK_BYTES, Snapshot
from beaker.session.values import Packed, pack_items, unpack_items

__all__ = ["HybridBackend"]

_POINTER, _DATA, _MARKED_DATA, _OUT_DATA = 2, 3, 5, 6
"""Kinds of tokens; the last is marked and holds how often the session had moved to the store."""
_HEAD = struct.Struct(">B32sI")
_BACK = struct.Struct(">d")
_SERIAL = struct.Struct(">I")
_SHRUNK = 0.5
"""A session comes back when it fills at most this much of the cookie, so that it does not move to and fro."""
SETTLED = TOMBSTONE_TTL
"""Seconds after which no request can still hold the pointer of a session that came back."""


class HybridBackend(CookieBackend):
    """Keeps each session where it fits; see :class:`~beaker.session.backends.SessionBackend`."""

    def __init__(self, context: SessionContext) -> None:
        super().__init__(context)
        self.server = ServerBackend(context)

    # -- loading -------------------------------------------------------------------------------------

    def fetch(self, sent: Sent) -> Loaded | Ended | None:
        return super().fetch(sent) if sent.id is None else self.server.fetch(sent)

    def load(self, opened: OpenedData, sent: Sent) -> Loaded | Ended:
        try:
            kind, snapshot, place = _decoded(opened)
        except CorruptRecord as error:
            return self.corrupt(error)
        if kind == _POINTER:
            # The record alone says whether the id lives: points on ids are about tokens that carry the session.
            found = self.server.load(snapshot.id, sent)
            if isinstance(found, Loaded):
                found.cookie = Cookie.KEEP if opened.current else Cookie.RESEAL
                found.issued = opened.issued
            return found
        if place.came_back:
            return self._load_returned(snapshot, place, sent)
        return self.admit(snapshot, sent, serial=place.serial)

    def outdated(self, snapshot: Snapshot, sent: Sent) -> Loaded | Ended:
        found = self.server.load(snapshot.id, sent)
        if isinstance(found, Ended):
            return Ended(found.at, (snapshot.id,))
        # While another cookie carries the session, which has come back, that one stays.
        found.cookie = Cookie.RESEAL if found.snapshot.returned is None else Cookie.KEEP
        found.issued = snapshot.accessed
        return found

    def _load_returned(self, snapshot: Snapshot, place: InCookie, sent: Sent) -> Loaded | Ended:
        """The session in a token that came back from the store a while ago."""
        record = self.context.records.load(snapshot.id)
        # Every end leaves a tombstone, but so does a change of the id that failed: the point alone decides.
        found = self.admit(snapshot, sent, serial=place.serial, fresh=isinstance(record, Tombstone))
        if isinstance(found, Ended) or isinstance(found.place, InStore) or isinstance(record, Tombstone):
            return found
        if isinstance(record, Snapshot) and (record.values != record.returned or record.numbers):
            return self._merge_late(snapshot, record, sent)
        found.place = place
        settled = sent.now - place.came_back > SETTLED and not self.context.options.readonly
        if settled and (record == "gone" or self.context.records.drop(record)):
            found.place, found.cookie = InCookie(serial=place.serial), Cookie.RESEAL
        return found

    def _merge_late(self, token: Snapshot, record: Snapshot, sent: Sent) -> Loaded | Ended:
        """A holder of the pointer wrote after the return: merge both sides, and live in the store again."""
        values = record.values
        if record.returned is not None:
            # A reader neither decides who the visitor is nor raises a conflict: then the store's side counts.
            with suppress(Fenced, WriteConflict):
                values = self._with_late(record.returned, token.values, record, {})
        found = self.server.load(token.id, sent)
        if isinstance(found, Ended):
            return found
        if self.context.options.readonly:
            snapshot = found.snapshot = found.snapshot.copy()
            snapshot.values = values
            found.values = self.context.values.unpack(values, trusted=snapshot.trusted)
        else:
            found.unsaved, found.cookie = values, Cookie.RESEAL
        return found

    # -- saving --------------------------------------------------------------------------------------

    def save(self, draft: Draft) -> Saved | Ended:
        try:
            return self._save_stored(draft) if isinstance(draft.place, InStore) else self._save_sealed(draft)
        except Fenced as fenced:
            return dropped(fenced.args[0])

    def _save_sealed(self, draft: Draft) -> Saved | Ended:
        place, outdated = _in_cookie(draft.place), False
        if draft.place is not None:
            standing = self.standing(draft.moving or draft.snapshot, draft.known_user, fresh=True)
            outdated = standing.serial > place.serial
            # A login in this request needs no session of before.
            if standing.revoked is not None and not draft.logged_in:
                return dropped("revoked")
        if draft.moving is not None:
            return self._renew(draft, draft.moving, outdated)
        if outdated:
            return self._join(draft)
        snapshot = _accessed(draft)
        sealed = self._fitting(snapshot, draft.values, place)
        if sealed is None:
            return self._move_out(draft, snapshot)
        snapshot.values = draft.values
        return Saved(snapshot, place._replace(sealed=sealed), Cookie.SEND)

    def _restart(self, draft: Draft) -> Saved | Ended:
        """Another request ended the session that this one has in its cookie."""
        return self._save_sealed(draft.restarted(new_id())) if draft.logged_in else dropped("revoked")

    def _renew(self, draft: Draft, old: Snapshot, outdated: bool) -> Saved | Ended:
        """Give a session in its cookie another id, while others may move it to the store or end it.

        ``outdated``: the request's token does not carry the session any more, so the record counts.
        """
        records, snapshot = self.context.records, _accessed(draft)
        snapshot.values = draft.values
        left = self._leave(draft, old, snapshot, outdated)
        if left is None:
            return self._restart(draft)
        record, sealed = left
        try:
            renewed = self.retire(old, snapshot)
        except StoreUnavailable:
            # The old id lives on, where its record was with what that held; else it must be able to grow.
            with suppress(StoreUnavailable):
                if isinstance(record, Snapshot):
                    records.overwrite(record)
                else:
                    records.forget(old.id)
            raise
        if not renewed:
            records.kill(snapshot.id)
            return self._restart(draft)
        self.context.tally.merged += isinstance(record, Snapshot)
        snapshot.version = None
        return Saved(snapshot, InStore() if sealed is None else InCookie(sealed), Cookie.SEND)

    def _leave(
        self, draft: Draft, old: Snapshot, snapshot: Snapshot, outdated: bool
    ) -> tuple[Snapshot | Tombstone | Literal["gone"], Sealed | None] | None:
        """Put a tombstone at the old id, and what was written there into ``snapshot``, stored if it fits in no cookie.

        The tombstone keeps other requests from moving the old id to the store. Returns what was there before, and the
        new cookies, ``None`` where the session is stored; ``None`` alone when the session has ended.
        """
        records = self.context.records
        sealed: Sealed | None = ()
        reread = outdated or bool(_in_cookie(draft.place).came_back)
        contention = contention_of(self.context, records, old)
        try:
            while True:
                record, version = records.load(old.id) if reread else "gone", None
                if isinstance(record, Snapshot):
                    version, snapshot.numbers = record.version, record.numbers
                    base = old.values if outdated or record.returned is None else record.returned
                    if outdated or _in_cookie(draft.place).came_back or not self._is_left(record, old):
                        snapshot.values = self._with_late(base, draft.values, record, draft.operations)
                elif outdated:
                    return None
                # Once it has a record, which would be older than a cookie, it stays there.
                stored = sealed is None or snapshot.numbers
                sealed = None if stored else self._fitting(snapshot, snapshot.values, InCookie())
                if sealed is None:
                    records.overwrite(snapshot)
                if isinstance(record, Tombstone) or records.replace_with_tombstone(old.id, version, snapshot.id):
                    return record, sealed
                reread = True
                contention.lose()
        finally:
            contention.end()

    def _with_late(
        self, base: Packed, mine: Packed, record: Snapshot, operations: Mapping[bytes, tuple[Operation, ...]]
    ) -> Packed:
        """``mine`` with what was written to the record since the session held ``base``."""
        return self.server.merged(base, diff(base, mine, operations), record)

    def _move_out(self, draft: Draft, snapshot: Snapshot) -> Saved | Ended:
        """Move a session that no longer fits in its cookie to the store."""
        count("hybrid", "out")
        snapshot.values = draft.values
        if draft.place is None:
            self.context.records.create(snapshot)
        else:
            if not self.context.records.insert(snapshot):
                written = self._merge_out(draft)
                if isinstance(written, Ended):
                    return written
                snapshot = written
            # Not before the record is there: an outdated token leads to nothing else.
            self._outdate(snapshot.id, _in_cookie(draft.place).serial)
        return self._in_record(draft, snapshot)

    def _merge_out(self, draft: Draft) -> Snapshot | Ended:
        """Another request moved the session out first, or the record of an earlier return is still there."""
        base, came_back = draft.snapshot.copy(), bool(_in_cookie(draft.place).came_back)
        base.version = None
        record = self.context.records.load(base.id)
        if isinstance(record, Snapshot) and came_back and record.returned is not None:
            # What the cookie has seen since then is a change, too.
            base.values = record.returned
        elif isinstance(record, Snapshot) and not came_back and self._is_left(record, base):
            base.values, draft = record.values, draft._replace(operations={})
        return self.server.commit(draft, base, settled=came_back)

    def _is_left(self, record: Snapshot, held: Snapshot) -> bool:
        """Whether the record of an id whose token still carries the session is what a request left that died, or lost
        its store, while it moved the session out: older than the token, so without what the cookie has seen since."""
        return self.revocations is not None and record.accessed + CLOCKS < held.accessed

    def _join(self, draft: Draft) -> Saved | Ended:
        """Save into the record: another request has moved the session to the store meanwhile."""
        base = draft.snapshot.copy()
        base.version = None
        written = self.server.commit(draft, base)
        return written if isinstance(written, Ended) else self._in_record(draft, written)

    @staticmethod
    def _in_record(draft: Draft, written: Snapshot) -> Saved:
        # While a later cookie carries the session, which has come back, that one stays.
        cookie = Cookie.SEND if written.returned is None else Cookie.KEEP
        return Saved(held(written, draft.values), InStore(), cookie)

    def _outdate(self, id: bytes, serial: int | None) -> None:
        if self.revocations is not None:
            self.revocations.outdate(id, serial)

    def _save_stored(self, draft: Draft) -> Saved | Ended:
        # A token that carried the session while it was small has the old id too; it may die before the record.
        self.retire(draft.moving, draft.snapshot)
        saved = self.server.save(draft)
        if isinstance(saved, Ended) or saved.snapshot.id != draft.snapshot.id:
            return saved
        if draft.snapshot.returned is not None and saved.snapshot.returned is None:
            # It had come back and lives in the store again, because of a late write.
            self._outdate(saved.snapshot.id, None)
        return self._come_back(draft, saved.snapshot) or saved

    def _come_back(self, draft: Draft, saved: Snapshot) -> Saved | None:
        """Move a session that has become small back into its cookie."""
        records, packed, place = self.context.records, draft.values, InCookie(came_back=draft.now)
        limit = int(self.context.options.cookie_max * _SHRUNK)
        if saved.numbers or self._fitting(saved, packed, place, limit=limit) is None:
            return None
        standing = self.standing(saved, draft.user, fresh=True)
        if standing.revoked is not None:
            # A change of the id that failed has ended the tokens of this one.
            return None
        place = place._replace(serial=standing.serial)
        found = records.load(saved.id)
        if not isinstance(found, Snapshot) or found.values != packed or found.returned is not None or found.numbers:
            # Also while a copy in some cookie has yet to see this very write.
            return None
        snapshot, version = found.copy(), found.version
        snapshot.trusted, snapshot.version = False, None
        snapshot.seen(draft.now)
        sealed = self._fitting(snapshot, packed, place, limit=limit)
        found.returned = packed
        if sealed is None or not records.replace(found, version):
            return None
        count("hybrid", "back")
        snapshot.values = packed
        return Saved(snapshot, place._replace(sealed=sealed), Cookie.SEND)

    def touch(self, draft: Draft) -> Saved | Ended | None:
        return self.server.touch(draft) if isinstance(draft.place, InStore) else self.save(draft)

    def refresh(self, draft: Draft) -> Loaded | Ended | None:
        return self.server.refresh(draft) if isinstance(draft.place, InStore) else None

    def count(self, draft: Draft, key: str, n: int) -> Counted | Ended:
        if isinstance(draft.place, InStore):
            return self.server.count(draft, key, n)
        if not n:
            record = self.context.records.load(draft.snapshot.id)
            if isinstance(record, Snapshot):
                return Counted(record.numbers.get(key, 0))
        standing = self.standing(draft.snapshot, draft.known_user, fresh=True)
        if standing.revoked is not None:
            return dropped("revoked")
        outdated = standing.serial > _in_cookie(draft.place).serial
        if not n:
            return dropped("gone") if outdated else Counted(0)
        saved = self._join(draft) if outdated else self._move_out(draft, _accessed(draft))
        if isinstance(saved, Ended):
            return saved
        found = self.server.count(draft._replace(snapshot=saved.snapshot, place=saved.place), key, n)
        if isinstance(found, Ended) or found.saved is None:
            return found
        return found._replace(saved=saved._replace(snapshot=found.saved.snapshot))

    def end(self, identity: Snapshot | None, sent: Sent) -> tuple[str, ...]:
        # In the store also where the session is in its cookie: a request that is moving it out must find the end.
        return (*self.server.end(identity, sent), *super().end(identity, sent))

    # -- cookies -------------------------------------------------------------------------------------

    def cookies(self, snapshot: Snapshot, place: Place, *, dated: bool) -> Iterable[tuple[str, str]]:
        if isinstance(place, InStore):
            return self.fit(self._token(snapshot, _HEAD.pack(_POINTER, snapshot.id, snapshot.epoch)), snapshot.values)
        # A loaded session is sealed here if its cookie has to go out without having been saved.
        return place.sealed or self._fitting(snapshot, snapshot.values, place) or ()

    def _token(self, snapshot: Snapshot, payload: bytes) -> str:
        context = self.context
        # A pointer lives as long as its record may: the record's own idle end decides.
        pointer = payload[0] == _POINTER
        until = ends(snapshot, None if pointer else context.timeout, context.absolute)
        issued = context.clock() if pointer else snapshot.accessed
        return self.tokens.seal(payload, created=snapshot.created, issued=issued, expires=until)

    def _fitting(
        self, snapshot: Snapshot, packed: Packed, place: InCookie, *, limit: int | None = None
    ) -> Sealed | None:
        kind, serial = _MARKED_DATA if snapshot.mark else _DATA, b""
        if place.serial and snapshot.mark:
            kind, serial = _OUT_DATA, _SERIAL.pack(place.serial)
        head = _HEAD.pack(kind, snapshot.id, snapshot.epoch) + snapshot.mark + serial
        payload = head + _BACK.pack(place.came_back) + pack_items(packed)
        try:
            token = self._token(snapshot, payload)
            if limit is not None and len(token) + len(self.context.cookie.name) > limit:
                return None
            return self.fit(token, packed)
        except SessionTooLarge:
            return None


def _decoded(opened: OpenedData) -> tuple[int, Snapshot, InCookie]:
    """What a token is, the session in it (a pointer's has no values), and what it says of moves to the store."""
    serial = 0
    try:
        kind, id, epoch = _HEAD.unpack_from(opened.payload)
        if kind not in (_POINTER, _DATA, _MARKED_DATA, _OUT_DATA):
            raise CorruptRecord("the session token holds something else")
        snapshot = Snapshot(id, opened.created, opened.issued, epoch, current=opened.current)
        if kind == _POINTER:
            return kind, snapshot, InCookie()
        at = _HEAD.size + (0 if kind == _DATA else MARK_BYTES)
        snapshot.mark = opened.payload[_HEAD.size : at]
        if kind == _OUT_DATA:
            (serial,) = _SERIAL.unpack_from(opened.payload, at)
            at += _SERIAL.size
        (came_back,) = _BACK.unpack_from(opened.payload, at)
        snapshot.values = unpack_items(opened.payload, at + _BACK.size)
    except (CorruptRecord, struct.error) as error:
        raise CorruptRecord("the session token cannot be read") from error
    return kind, snapshot, InCookie(came_back=came_back, serial=serial)


def _accessed(draft: Draft) -> Snapshot:
    """The draft's snapshot as of now, yet with the values it was loaded with."""
    snapshot = draft.snapshot.copy()
    snapshot.current, snapshot.version = True, None
    snapshot.seen(draft.now)
    return snapshot


def _in_cookie(place: Place | None) -> InCookie:
    return place if isinstance(place, InCookie) else InCookie()
