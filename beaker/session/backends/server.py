"""Server-side sessions: the cookie carries a signed id, a store carries the data."""

from __future__ import annotations

from typing import Any

from beaker.counters import count, count_key
from beaker.crypto.tokens import BadToken, new_id
from beaker.exceptions import CorruptRecord, WriteConflict
from beaker.session.backends import Counted, Draft, Ended, InStore, Loaded, Place, Saved, dropped
from beaker.session.contention import Contention
from beaker.session.context import SessionContext
from beaker.session.cookies import read_cookie
from beaker.session.exchange import Cookie, Sent
from beaker.session.merge import Delta, Operation, apply_operations, diff, merge
from beaker.session.records import SessionRecords, Tombstone, over
from beaker.session.snapshot import USER, Snapshot, is_chosen
from beaker.session.values import Packed

__all__ = ["Fenced", "ServerBackend", "contention_of", "count_in", "held"]

_IN_STORE = InStore()


class Fenced(Exception):
    """A conflict that ends the whole write, with the reason for the counter."""


class ServerBackend:
    """Keeps sessions in the context's store; see :class:`~beaker.session.backends.SessionBackend`."""

    def __init__(self, context: SessionContext) -> None:
        self.context = context

    # -- loading -------------------------------------------------------------------------------------

    def fetch(self, sent: Sent) -> Loaded | Ended | None:
        if sent.id is not None:
            found = self.load(sent.id, sent)
            if isinstance(found, Loaded):
                # No cookie led here, so there is none to renew.
                found.issued = sent.now
            return found
        context, ended = self.context, None
        for value in read_cookie(sent.header, context.cookie.name):
            if sent.foreign is not None and sent.foreign(value):
                continue
            try:
                opened = context.ids.open(value)
            except BadToken as bad:
                count("bad_token", bad.reason)
                continue
            count_key(opened.kid)
            found = self.load(opened.id, sent)
            if isinstance(found, Loaded):
                # A dead cookie before it (left over from a narrower path) does not count.
                found.cookie = Cookie.KEEP if opened.current else Cookie.RESEAL
                found.issued = opened.issued
                return found
            ended = found.latest(ended)
        return ended

    def load(self, id: bytes, sent: Sent) -> Loaded | Ended:
        """The session whose record has this raw id."""
        try:
            # The attributes, once they are set, are the properties without a call.
            found = (self.context._records or self.context.records).load(id, sent.now)
            if isinstance(found, Snapshot):
                return self._unless_revoked(found, sent.now)
        except CorruptRecord:
            count("corrupt_record", "session")
            if not self.context.options.invalidate_corrupt:
                raise
            return Ended()
        return Ended(found.at, (id,) if found.moved else ()) if isinstance(found, Tombstone) else Ended()

    def admit(self, snapshot: Snapshot, sent: Sent) -> Loaded | Ended:
        if over(snapshot, sent.now, self.context.timeout, self.context.absolute):
            return Ended()
        return self._unless_revoked(snapshot, sent.now)

    def _unless_revoked(self, snapshot: Snapshot, now: float) -> Loaded | Ended:
        context = self.context
        values = context.values.unpack(snapshot.values, trusted=snapshot.trusted)
        revocations = context._revocations or context.revocations
        if revocations is None:
            return Loaded(snapshot, values, _IN_STORE)
        revoked = revocations.standing(snapshot.mark, values.get(USER), now=now).revoked
        if revoked is None:
            return Loaded(snapshot, values, _IN_STORE)
        if not context.options.readonly:
            context.records.kill(snapshot.id, snapshot.version)
        return Ended(revoked)

    # -- saving --------------------------------------------------------------------------------------

    def save(self, draft: Draft) -> Saved | Ended:
        try:
            if draft.moving is None and draft.place is None:
                return self._create(draft)
            if draft.moving is not None:
                return self._move(draft, draft.moving)
            written = self.commit(draft, draft.snapshot)
        except Fenced as fenced:
            return dropped(fenced.args[0])
        return written if isinstance(written, Ended) else self._saved(draft, written, Cookie.KEEP)

    def _create(self, draft: Draft) -> Saved | Ended:
        snapshot = draft.snapshot.copy()
        snapshot.values, snapshot.accessed = draft.values, draft.now
        if is_chosen(snapshot.id):
            return self._join(draft, snapshot)
        self.context.records.create(snapshot)
        return self._saved(draft, snapshot, Cookie.SEND)

    def _join(self, draft: Draft, snapshot: Snapshot) -> Saved | Ended:
        """Save a session whose id is the application's own: another process may have begun it, or ended one of it."""
        records = self.context.records
        if records.insert(snapshot):
            return self._saved(draft, snapshot, Cookie.KEEP)
        found = records.load(snapshot.id)
        if not isinstance(found, Snapshot):
            records.overwrite(snapshot)
            return self._saved(draft, snapshot, Cookie.KEEP)
        base = found.copy()
        base.values, base.version = {}, None
        written = self.commit(draft, base)
        return written if isinstance(written, Ended) else self._saved(draft, written, Cookie.KEEP)

    @staticmethod
    def _saved(draft: Draft, written: Snapshot, cookie: Cookie) -> Saved:
        return Saved(held(written, draft.values), _IN_STORE, cookie)

    def touch(self, draft: Draft) -> Saved | Ended | None:
        snapshot, cookie = draft.snapshot, Cookie.SEND if draft.reseal else Cookie.KEEP
        version = snapshot.version
        # What this request has written was an access.
        if version is not None and not snapshot.written:
            touched = snapshot.copy()
            touched.seen(draft.now)
            touched.ahead = False
            if self.context.records.replace(touched, version):
                return Saved(touched, _IN_STORE, cookie)
            # Another request wrote, which was an access too. A cookie is sealed again only while its session lives.
            if not draft.reseal:
                return None
            theirs = self._theirs(snapshot)
            if isinstance(theirs, Ended):
                return theirs
        return Saved(snapshot, _IN_STORE, cookie)

    def refresh(self, draft: Draft) -> Loaded | Ended | None:
        theirs = self._theirs(draft.snapshot)
        if isinstance(theirs, Ended):
            return theirs
        delta = diff(draft.snapshot.values, draft.values, draft.operations)
        # Unpacked first: a record that cannot be read raises before anything is decided.
        values = self.context.values.unpack(theirs.values, trusted=theirs.trusted)
        try:
            return Loaded(theirs, values, _IN_STORE, unsaved=self.merged(draft.snapshot.values, delta, theirs))
        except Fenced as fenced:
            return dropped(fenced.args[0])

    def count(self, draft: Draft, key: str, n: int) -> Counted | Ended:
        return count_in(self.context, self.context.records, draft.snapshot, key, n, draft.now)

    def end(self, identity: Snapshot | None, sent: Sent) -> tuple[str, ...]:
        if identity is not None:
            self.context.records.kill(identity.id, identity.version)
        return ()

    def cookies(self, snapshot: Snapshot, place: Place, *, dated: bool) -> list[tuple[str, str]]:
        context = self.context
        issued = context.clock() if dated else None
        return [(context.cookie.name, context.ids.issue(snapshot.id, issued))]

    # -- concurrent saves ----------------------------------------------------------------------------

    def commit(self, draft: Draft, base: Snapshot, *, settled: bool = False) -> Snapshot | Ended:
        """Write what the draft changed since ``base`` over whatever the record holds by now.

        ``settled`` says that the session lives in the record from now on. Returns the record as written. Raises
        Fenced, or WriteConflict by policy or after ``save_timeout``.
        """
        records, mine = self.context._records or self.context.records, base.copy()
        mine.values = draft.values
        mine.seen(draft.now)
        if draft.reseal and isinstance(draft.place, InStore):
            mine.returned = None
        version, tried, merged = base.version, False, False
        contention: Contention | None = None
        delta: Delta | None = None
        latest: Snapshot | None = None
        try:
            if base.key in records.turns:
                contention = contention_of(self.context, records, base)
                if contention.queue(base.write_ids):
                    version, latest = None, _known(records, base, contention.latest)
            while True:
                if version is not None:
                    tried = True
                    if records.replace(mine, version):
                        self.context.tally.merged += merged
                        if contention is not None:
                            contention.win(mine)
                        return mine
                    count("cas_retries")
                    contention = contention or contention_of(self.context, records, base)
                    contention.lose()
                theirs, latest = latest or self._theirs(base), None
                if isinstance(theirs, Ended):
                    return theirs
                if tried and mine.write_ids[-1] in theirs.write_ids:
                    # The write was done and only the reply was lost; done again, an addition would count twice.
                    self.context.tally.merged += merged
                    mine.version = None
                    return mine
                version, mine = theirs.version, theirs
                if delta is None:
                    delta = diff(base.values, draft.values, draft.operations)
                mine.values, merged = self.merged(base.values, delta, theirs), True
                mine.accessed = max(draft.now, theirs.accessed)
                if settled:
                    mine.returned = None
        finally:
            if contention is not None:
                contention.end()

    def _theirs(self, base: Snapshot) -> Snapshot | Ended:
        return _loaded(self.context.records, base)

    def _move(self, draft: Draft, old: Snapshot) -> Saved | Ended:
        """Write the data under the new id, then end the old one, merging what was written meanwhile."""
        records = self.context.records
        delta = diff(old.values, draft.values, draft.operations)
        new = draft.snapshot.copy()
        new.values, new.write_ids = draft.values, ()
        new.seen(draft.now)
        version, merged = old.version, False
        if version is None:
            latest = self._theirs(old)
            if isinstance(latest, Ended):
                return self._restart(draft, latest)
            version, new.numbers = latest.version, latest.numbers
            new.values = self.merged(old.values, delta, latest)
        contention, written = contention_of(self.context, records, old), False
        try:
            while True:
                moved = None if written else records.move(new, old.id, version)
                if moved is None:
                    # In two steps, of which the first may be there already.
                    if not written:
                        records.create(new)
                        written = True
                    moved = records.replace_with_tombstone(old.id, version, new.id)
                if moved:
                    break
                contention.lose()
                latest = self._theirs(old)
                if isinstance(latest, Ended):
                    if written:
                        records.forget(new.id)
                    return self._restart(draft, latest)
                version, new.numbers, merged = latest.version, latest.numbers, True
                new.values = self.merged(old.values, delta, latest)
                if written:
                    records.overwrite(new)
        except BaseException:
            # Never two live ids: the new one was not sent yet.
            records.forget(new.id)
            raise
        finally:
            contention.end()
        self.context.tally.merged += merged
        return self._saved(draft, new, Cookie.SEND)

    def _restart(self, draft: Draft, ended: Ended) -> Saved | Ended:
        # A visitor who has just logged in gets a session although the old one has ended, but nothing out of it.
        if not draft.logged_in:
            return ended
        return self._create(draft.restarted(new_id()))

    def merged(self, base: Packed, delta: Delta, theirs: Snapshot) -> Packed:
        """``delta``, found against ``base``, applied to ``theirs``. Raises Fenced, or WriteConflict by policy."""
        return merge(base, delta, theirs.values, self._resolve, self._operate).values

    def _resolve(self, name: bytes, base: bytes | None, mine: bytes | None, theirs: bytes | None) -> bytes | None:
        policy, values = self.context.options.on_conflict, self.context.values
        if name.startswith(b'"_') and name not in (b'"_domain"', b'"_path"'):
            # A race must not decide who the visitor is: the request that comes late loses.
            raise Fenced("auth")
        count("merge_conflicts", policy if isinstance(policy, str) else "callable")
        if policy == "mine":
            return mine
        if policy == "theirs":
            return theirs
        if policy == "raise":
            raise WriteConflict("two requests changed one key of the session", operation="session.save")
        key = values.unpack({name: b"J0"}, trusted=False).popitem()[0]
        sides = [None if side is None else values.load(side, trusted=True) for side in (base, mine, theirs)]
        return values.pack([(key, policy(key, *sides))])[name]

    def _operate(self, theirs: bytes | None, operations: tuple[Operation, ...]) -> bytes | None:
        values = self.context.values
        value: Any = apply_operations(None if theirs is None else values.load(theirs, trusted=True), operations)
        return None if value is None and theirs is None else values.pack([("value", value)]).popitem()[1]


def count_in(
    context: SessionContext, records: SessionRecords, base: Snapshot, key: str, n: int, now: float
) -> Counted | Ended:
    """Add ``n`` to the number at ``key`` in the record of ``base``, an access at ``now``; with 0 it is only read."""
    contention = contention_of(context, records, base)
    known = _known(records, base, base) if n else None
    written: Snapshot | None = None
    try:
        if n and base.key in records.turns and contention.queue(base.write_ids):
            known = _known(records, base, contention.latest)
        while True:
            theirs, known = known or _loaded(records, base), None
            if isinstance(theirs, Ended) or not n:
                return theirs if isinstance(theirs, Ended) else Counted(theirs.numbers.get(key, 0))
            if written is not None and written.write_ids[-1] in theirs.write_ids:
                # The write was done and only the reply was lost; done again, it would count twice.
                written.version = None
                return _counted(written, key, base)
            written = theirs
            written.numbers = {**theirs.numbers, key: theirs.numbers.get(key, 0) + n}
            written.accessed = max(now, theirs.accessed)
            if records.replace(written, theirs.version):
                contention.win(written)
                return _counted(written, key, base)
            count("cas_retries")
            contention.lose()
    finally:
        contention.end()


def contention_of(context: SessionContext, records: SessionRecords, snapshot: Snapshot) -> Contention:
    """How a write of the session's record in ``records`` retries."""
    return Contention(
        records.store,
        snapshot.key,
        records.turns,
        within=context.options.save_timeout,
        clock=context.clock,
        sleep=context.sleep,
        random=context.random,
    )


def held(written: Snapshot, values: Packed) -> Snapshot:
    """The record as ``written``, for a session that holds ``values`` and compares its next save with them.

    What was merged in stays in the store: where it differs, the record has to be read again.
    """
    if written.values != values:
        written.version = None
    written.values = values
    return written


def _counted(written: Snapshot, key: str, base: Snapshot) -> Counted:
    return Counted(written.numbers[key], Saved(held(written, base.values), _IN_STORE))


def _known(records: SessionRecords, base: Snapshot, latest: Snapshot | None) -> Snapshot | None:
    """A copy of the record that is known as ``latest``, if that is still the session loaded as ``base``."""
    if latest is None or latest.version is None or latest.epoch != base.epoch or not records.is_live(latest):
        return None
    return latest.copy()


def _loaded(records: SessionRecords, base: Snapshot) -> Snapshot | Ended:
    """The record by now, if it is still the session that was loaded as ``base``."""
    theirs = records.load(base.id)
    if not isinstance(theirs, Snapshot):
        return dropped("tombstone" if isinstance(theirs, Tombstone) else "gone")
    return theirs if theirs.epoch == base.epoch else dropped("epoch")
