"""Server-side sessions: the cookie carries a signed id, a store carries the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from beaker.config.parse import parse_session
from beaker.counters import count, count_key
from beaker.crypto.tokens import BadToken, new_id
from beaker.exceptions import CorruptRecord, WriteConflict
from beaker.session.base import BaseSession
from beaker.session.contention import Patience
from beaker.session.context import SessionContext
from beaker.session.cookies import read_cookie
from beaker.session.merge import Delta, Operation, apply_operations, diff, merge
from beaker.session.records import Buried
from beaker.session.snapshot import Snapshot, raw_id
from beaker.session.values import Packed

__all__ = ["ServerCarrier", "Session"]


class ServerCarrier:
    """Loads and saves sessions in the context's store."""

    def __init__(self, context: SessionContext) -> None:
        self.context = context

    def fetch(self, session: BaseSession, header: str | None) -> None:
        values = read_cookie(header, self.context.cookie.name)
        session.presented = bool(values)
        legacy, ours = self.context.legacy, False
        for value in values:
            if legacy is not None and legacy.recognizes(value):
                continue
            try:
                opened = self.context.ids.open(value)
            except BadToken as bad:
                count("bad_token", bad.reason)
                continue
            ours = True
            count_key(opened.kid)
            self.fetch_id(session, opened.id)
            if not session.is_new:
                # A dead one before it (a narrower path's left-over) does not count.
                session.fenced = False
                session.must_reseal = not opened.current
                return
        if legacy is not None and not ours:
            legacy.take(session, header, self)

    def fetch_id(self, session: BaseSession, id: bytes) -> None:
        try:
            found = self.context.records.load(id)
            if isinstance(found, Snapshot):
                session.adopt(found)
                self._check_revoked(session)
                return
        except CorruptRecord:
            count("corrupt_record", "session")
            if not self.context.options.invalidate_corrupt:
                raise
            return
        if isinstance(found, Buried):
            session.fence_if_under_way(found.at)

    def revoked_at(self, session: BaseSession) -> float | None:
        """When the loaded session was revoked, ``None`` if it was not."""
        revocations = self.context.revocations
        return None if revocations is None else revocations.revoked_at(session.snapshot.created, session.known_user)

    def _check_revoked(self, session: BaseSession) -> None:
        revoked = self.revoked_at(session)
        if revoked is not None:
            if not self.context.options.readonly:
                self.context.records.kill(session.snapshot.id, session.snapshot.version)
            session.end_revoked(revoked)

    def save(self, session: BaseSession, packed: Packed) -> None:
        if session.moving is not None:
            self._move(session, session.moving, packed)
        elif session.is_new:
            snapshot = replace(session.snapshot, values=packed, accessed=session.now)
            self.context.records.create(snapshot)
            session.saved(snapshot, packed)
            session.cookie_due = True
        else:
            self._update(session, packed)

    def touch(self, session: BaseSession) -> None:
        version = session.snapshot.version
        # Without a known version this request has just written, and that was an access.
        if version is not None:
            touched = replace(session.snapshot, accessed=session.now)
            if self.context.records.replace(touched, version):
                session.snapshot = replace(touched, version=None)
                self._refresh(session)
            elif not session.must_reseal or self._theirs(session, session.snapshot) is None:
                # Somebody else wrote, which was an access too. A cookie is renewed only while its session lives.
                return
        if session.must_reseal:
            session.must_reseal = False
            session.cookie_due = True

    def _refresh(self, session: BaseSession) -> None:
        # A cookie with a life of its own slides along with the session, unless the headers are out.
        if not session.answered and not isinstance(self.context.options.cookie_expires, bool):
            session.cookie_due = True

    def kill(self, session: BaseSession) -> None:
        self.context.records.kill(session.snapshot.id, session.snapshot.version)
        if self.context.legacy is not None:
            self.context.legacy.end(session)

    def cookies(self, session: BaseSession) -> list[tuple[str, str]]:
        return [(self.context.cookie.name, self.context.ids.issue(session.snapshot.id))]

    def refresh(self, session: BaseSession) -> None:
        """Bring a session up to what the store holds by now, keeping what this request changed."""
        if session.is_new or session.fenced or session.moving is not None:
            return
        theirs = self._theirs(session, session.snapshot)
        if theirs is not None:
            packed = session.packed()
            delta = diff(session.snapshot.values, packed, session.operations(packed))
            try:
                session.rebase(theirs, self.merged(session, session.snapshot, delta, theirs))
            except Fenced as fenced:
                session.fence(fenced.args[0])

    def _update(self, session: BaseSession, packed: Packed) -> None:
        snapshot = session.snapshot
        delta = diff(snapshot.values, packed, session.operations(packed))
        written = self.commit(session, snapshot, delta, packed)
        if written is not None:
            session.saved(written, packed)
            self._refresh(session)

    def commit(self, session: BaseSession, base: Snapshot, delta: Delta, packed: Packed) -> Snapshot | None:
        """``delta`` made durable over whatever the record holds by now; ``None`` when it was fenced off."""
        records, mine = self.context.records, replace(base, values=packed, accessed=session.now)
        version, tried = base.version, False
        mine.returned = None if session.must_reseal and session.in_store else base.returned
        patience = Patience(self.context, base.id)
        try:
            while True:
                if version is not None:
                    tried = True
                    if records.replace(mine, version):
                        return replace(mine, version=None)
                    count("cas_retries")
                    patience.lose()
                theirs = self._theirs(session, base)
                if theirs is None:
                    return None
                if tried and mine.wids[-1] in theirs.wids:
                    # The write was done and only its answer was lost; done again, an addition would count twice.
                    return replace(mine, version=None)
                merged = merge(base.values, delta, theirs.values, self._resolver(session), self._operate)
                mine = replace(theirs, values=merged.values, accessed=max(session.now, theirs.accessed))
                version = theirs.version
        except Fenced as fenced:
            session.fence(fenced.args[0])
            return None
        finally:
            patience.end()

    def _theirs(self, session: BaseSession, base: Snapshot) -> Snapshot | None:
        theirs = self.context.records.load(base.id)
        if not isinstance(theirs, Snapshot):
            session.fence("tombstone" if isinstance(theirs, Buried) else "gone")
            return None
        if theirs.epoch != base.epoch:
            session.fence("epoch")
            return None
        return theirs

    def _move(self, session: BaseSession, old: Snapshot, packed: Packed) -> None:
        """Write the data under the new id, then kill the old one, taking in what was written meanwhile."""
        records = self.context.records
        delta = diff(old.values, packed, session.operations(packed))
        new = replace(session.snapshot, values=packed, accessed=session.now, wids=())
        version = old.version
        if version is None:
            latest = self._theirs(session, old)
            if latest is None:
                self._begin_anew(session, new, packed)
                return
            version = latest.version
            new.values = self.merged(session, old, delta, latest)
        records.create(new)
        patience = Patience(self.context, old.id)
        try:
            while not records.bury(old.id, version, new.id):
                patience.lose()
                latest = self._theirs(session, old)
                if latest is None:
                    records.forget(new.id)
                    self._begin_anew(session, new, packed)
                    return
                version = latest.version
                new.values = self.merged(session, old, delta, latest)
                records.overwrite(new)
        except BaseException as error:
            # Never two live ids: the new one was told to nobody yet.
            records.forget(new.id)
            if not isinstance(error, Fenced):
                raise
            session.fence(error.args[0])
            return
        finally:
            patience.end()
        session.saved(replace(new, version=None), packed)
        session.cookie_due = True

    def _begin_anew(self, session: BaseSession, new: Snapshot, packed: Packed) -> None:
        # Who has just proved his name gets a session also if the old one ended meanwhile, but nothing out of it.
        if session.logged_in:
            new = replace(new, id=new_id(), values=session.start_over(packed))
            self.context.records.create(new)
            session.saved(replace(new, version=None), new.values)
            session.cookie_due = True

    def merged(self, session: BaseSession, old: Snapshot, delta: Delta, theirs: Snapshot) -> Packed:
        return merge(old.values, delta, theirs.values, self._resolver(session), self._operate).values

    def _resolver(self, session: BaseSession) -> Any:
        policy, values = self.context.options.on_conflict, self.context.values

        def resolve(name: bytes, base: bytes | None, mine: bytes | None, theirs: bytes | None) -> bytes | None:
            if name.startswith(b'"_') and name not in (b'"_domain"', b'"_path"'):
                # Who the visitor is must not be decided by a race: the request that came late loses.
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

        return resolve

    def _operate(self, theirs: bytes | None, operations: tuple[Operation, ...]) -> bytes | None:
        values = self.context.values
        value = apply_operations(None if theirs is None else values.load(theirs, trusted=True), operations)
        return None if value is None and theirs is None else values.pack([("value", value)]).popitem()[1]


class Fenced(Exception):
    """A conflict that ends the whole write."""


class Session(BaseSession):
    """A session whose data is in a store; see :class:`~beaker.session.base.BaseSession`.

    The arguments are the manual's (5.1.4); every session option is taken as a keyword.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        id: str | None = None,
        invalidate_corrupt: bool = False,
        use_cookies: bool = True,
        type: str | None = None,
        data_dir: str | None = None,
        key: str = "beaker.session.id",
        timeout: float | None = None,
        cookie_expires: Any = True,
        cookie_domain: str | None = None,
        secret: Any = None,
        secure: bool | None = False,
        namespace_class: Any = None,
        **namespace_args: Any,
    ) -> None:
        context, began = namespace_args.pop("context", None), namespace_args.pop("began", None)
        if context is None:
            clock, runtime = namespace_args.pop("clock", None), namespace_args.pop("runtime", None)
            given = dict(
                invalidate_corrupt=invalidate_corrupt,
                use_cookies=use_cookies,
                type=type,
                data_dir=data_dir,
                key=key,
                timeout=timeout,
                cookie_expires=cookie_expires,
                cookie_domain=cookie_domain,
                secret=secret,
                secure=secure or None,
                namespace_class=namespace_class,
                **namespace_args,
            )
            context = SessionContext(parse_session(kwargs=given), clock=clock, runtime=runtime)
        raw = None if id is None else raw_id(id) or b""
        super().__init__(request, context, ServerCarrier(context), raw, began)
