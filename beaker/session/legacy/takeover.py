"""Sessions of Beaker 1.14 and older, taken over at their first request: read, moved, answered with our cookie.

The new id is made from the old one under the old key, so that requests that arrive together with one old
cookie all meet the same new session. Where sessions have a store, a mark in it tells, until the policy ends,
that a session was taken over: after a logout its old cookie brings nothing back, also where the old record
could not be removed. Cookie sessions have no such place: their ``revocation`` store, if there is one, knows
the ids that ended, and old records stay, since requests under way may still need them.
"""

from __future__ import annotations

import hmac
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from beaker.counters import count
from beaker.crypto.keyring import lp
from beaker.crypto.tokens import SKEW, store_key
from beaker.exceptions import ConfigError, ConfigWarning, CorruptRecord, UnserializableValue, warn
from beaker.session.cookies import check_attribute, read_cookie
from beaker.session.legacy import payload
from beaker.session.legacy.plain import LegacyDataError
from beaker.session.legacy.policy import LegacyPolicy
from beaker.session.legacy.records import OldRecords, open_records
from beaker.session.records import over
from beaker.session.snapshot import Snapshot

if TYPE_CHECKING:
    from beaker.session.backends.cookie import CookieCarrier
    from beaker.session.backends.server import ServerCarrier
    from beaker.session.base import BaseSession
    from beaker.session.context import SessionContext

__all__ = ["LegacyReader"]

MOVED = "beaker.session.legacy"
"""Namespace of the marks of sessions that were taken over."""
_MARK = b"BKRL"
_STAMPS = ("_accessed_time", "_creation_time", "_id", "_expires")


class _Found(NamedTuple):
    """An old cookie that verified: the new id, and the old record's or else the session itself."""

    id: bytes
    record: str | None
    values: dict[Any, Any]

    def __repr__(self) -> str:
        return f"<an old session of {len(self.values)} values>"


class LegacyReader:
    """Finds old sessions for one configuration. Thread-safe.

    ``option`` is what :meth:`~beaker.session.legacy.policy.LegacyPolicy.from_option` takes. Raises ConfigError, and
    InvalidCryptoBackendError or InvalidCacheBackendError when a package the policy needs is missing.
    """

    def __init__(self, option: object, context: SessionContext) -> None:
        self.context = context
        self.policy = policy = LegacyPolicy.from_option(option, clock=context.clock)
        if policy.encrypt_keys:
            payload.require()
        self.name = policy.key or context.cookie.name
        if policy.keep and self.name == context.cookie.name:
            raise ConfigError(
                "session.legacy.keep: the old cookie can be kept only beside one of another name",
                option="session.legacy.keep",
                hint="give the new cookie a name of its own: session.key",
            )
        if self._is_over():
            warn(
                ConfigWarning(
                    "session.legacy is over (until): it reads nothing any more and can go", code="config.legacy-is-over"
                )
            )
        self._records: OldRecords | None = None
        if policy.type is not None:
            # Records carry the session as base64 within a pickle.
            self._records = open_records(policy.type, policy.location, policy.limit * 2 + 4096)

    def recognizes(self, value: str) -> bool:
        """Whether a cookie's value is not ours and may be an old one."""
        return payload.looks_signed(value) or (self.policy.unsigned and payload.ID.match(value) is not None)

    def take(self, session: BaseSession, header: str | None, carrier: Any) -> None:
        """Let ``session`` be the old one that the Cookie header names, if there is one that may be read.

        Raises StoreUnavailable when a store could not tell, so that nobody loses a session to an outage.
        """
        for value in read_cookie(header, self.name):
            if not self.recognizes(value):
                continue
            try:
                if self._is_over():
                    raise LegacyDataError("until")
                self._adopt(session, self._open(value), carrier)
            except LegacyDataError as error:
                count("legacy_refused", error.reason)
                continue
            session.presented = session.presented or not session.is_new
            if not session.is_new or session.fenced:
                return

    def end(self, session: BaseSession) -> None:
        """End what the old cookies of a request lead to as well, when its session is ended; also under ``keep``.

        Raises StoreUnavailable when the mark cannot be written.
        """
        if self._is_over():
            return
        for value in read_cookie(session.request.get("HTTP_COOKIE") or session.request.get("cookie"), self.name):
            try:
                found = self._open(value)
            except LegacyDataError:
                continue
            self._end_id(found.id, known=session.snapshot.id)
            self._remove(found)
            self._drop_cookie(session)
            session.presented = True

    def _end_id(self, id: bytes, *, known: bytes) -> None:
        context = self.context
        # What a request with the old cookie alone has made of it, or is about to; the carrier has ended its own id.
        if id != known:
            if context.type != "cookie":
                context.records.kill(id)
            if context.client_side and context.revocations is not None:
                context.revocations.end_id(id)
        if context.type != "cookie":
            self._mark(id)

    def _is_over(self) -> bool:
        return self.context.clock() >= self.policy.until

    # -- finding -------------------------------------------------------------------------------------

    def _open(self, value: str) -> _Found:
        """What a cookie leads to; of sessions in a store only the id. Raises LegacyDataError."""
        policy = self.policy
        signed = payload.verified(value, policy.secrets)
        if signed is not None and payload.ID.match(signed[0]):
            id, key = signed
            return _Found(_new_id(key, "id", id), id, {})
        sealed = payload.verified(value, policy.validate_keys)
        if sealed is not None:
            text, key = sealed
            values = policy.codec.decode(text, key)
            # All cookies of one old session share its id, so that ending the new session ends every copy.
            own = values.get("_id")
            return _Found(_new_id(key, "data", own if isinstance(own, str) else text), None, values)
        if policy.unsigned and payload.ID.match(value):
            return _Found(_new_id(b"", "id", value), value, {})
        raise LegacyDataError("signature")

    def _values(self, found: _Found) -> dict[Any, Any]:
        if found.record is None:
            return found.values
        assert self._records is not None  # a policy that reads ids has a store
        stored = self._records.read(found.record)
        if stored is None:
            raise LegacyDataError("gone")
        # Beaker before 1.8 kept the dict itself, and Python 2 bytes.
        if isinstance(stored, dict):
            if self.policy.encrypt_keys:
                raise LegacyDataError("plain")
            return stored
        if not isinstance(stored, (str, bytes)):
            raise LegacyDataError("type")
        try:
            text = stored if isinstance(stored, str) else stored.decode("ascii")
        except UnicodeDecodeError:
            raise LegacyDataError("base64") from None
        failure = LegacyDataError("key")
        for key in self.policy.validate_keys or (b"",):
            try:
                return self.policy.codec.decode(text, key)
            except LegacyDataError as error:
                failure = error
        raise failure

    # -- taking over ---------------------------------------------------------------------------------

    def _adopt(self, session: BaseSession, found: _Found, carrier: Any) -> None:
        if self.context.type == "cookie":
            self._adopt_sealed(session, found, carrier)
        elif self.context.type == "hybrid":
            self._adopt_stored(session, found, carrier.server)
            session.in_store = not session.is_new
        else:
            self._adopt_stored(session, found, carrier)
        if not session.is_new:
            count("legacy_tokens", "cookie" if found.record is None else "id")

    def _adopt_sealed(self, session: BaseSession, found: _Found, carrier: CookieCarrier) -> None:
        carrier.adopt_token(session, self._snapshot(found, session.now), current=False)
        if not session.is_new and not self.policy.keep:
            self._drop_cookie(session)

    def _adopt_stored(self, session: BaseSession, found: _Found, carrier: ServerCarrier) -> None:
        records, readonly = self.context.records, self.context.options.readonly
        failure: LegacyDataError | None = None
        if self._is_gone(found.id):
            try:
                snapshot = self._unmoved(found, session.now)
            except LegacyDataError as error:
                # Maybe a request at the same time has moved it since ours was looked for.
                failure = error
            else:
                if over(snapshot, session.now, self.context.timeout, self.context.absolute):
                    return
                if readonly:
                    session.adopt(snapshot)
                    revoked = carrier.revoked_at(session)
                    if revoked is not None:
                        session.end_revoked(revoked)
                    return
                # Not inserted: another request was first, and its record is the one to go on with.
                records.insert(snapshot)
        carrier.fetch_id(session, found.id)
        if failure is not None and session.is_new and not session.fenced:
            raise failure
        if readonly or session.is_new:
            return
        # The cookie goes out only if the session still lives at the end of the request.
        session.must_reseal = True
        self._mark(found.id)
        if not self.policy.keep:
            self._remove(found)
            self._drop_cookie(session)

    def _is_gone(self, id: bytes) -> bool:
        try:
            return self.context.records.load(id) == "gone"
        except CorruptRecord:
            # The carrier knows what the options want then.
            return False

    def _unmoved(self, found: _Found, now: float) -> Snapshot:
        if self.context.records.store.read(MOVED, store_key(found.id)) is not None:
            raise LegacyDataError("moved")
        return self._snapshot(found, now)

    def _mark(self, id: bytes) -> None:
        left = max(1.0, self.policy.until - self.context.clock())
        self.context.records.store.insert(MOVED, store_key(id), _MARK, ttl=left)

    def _remove(self, found: _Found) -> None:
        if found.record is not None and self._records is not None and not self._records.remove(found.record):
            count("legacy_left")

    def _drop_cookie(self, session: BaseSession) -> None:
        if self.name != self.context.cookie.name:
            session.old_cookies = (self.name,)

    def _snapshot(self, found: _Found, now: float) -> Snapshot:
        """The old session in our form. Raises LegacyDataError when it may not be taken over."""
        old = self._values(found)
        stamps = [at for name in ("_creation_time", "_accessed_time") if (at := _stamp(old.get(name))) is not None]
        if not stamps and found.record is None:
            raise LegacyDataError("stamp")
        # A record that lost its stamps (by clear()) is of now; a cookie without them would be of now for ever.
        created, accessed = (stamps[0], stamps[-1]) if stamps else (now, now)
        if created > self.policy.since:
            raise LegacyDataError("created")
        if max(created, accessed) > now + SKEW:
            raise LegacyDataError("future")
        try:
            values = self.context.values.pack(self._kept(old).items())
        except UnserializableValue:
            raise LegacyDataError("value") from None
        return Snapshot(found.id, created, accessed, values=values, trusted=True, current=False)

    def _kept(self, old: dict[Any, Any]) -> dict[Any, Any]:
        kept = {key: value for key, value in old.items() if key not in _STAMPS}
        cookie = self.context.cookie
        for name, usual in (("_domain", cookie.domain), ("_path", cookie.path)):
            # Old sessions always name both; only what the application had set is worth keeping.
            if name in kept and not _is_attribute(kept[name], usual):
                del kept[name]
        return kept


def _is_attribute(value: object, usual: str | None) -> bool:
    if not isinstance(value, str) or value in (usual, "/"):
        return False
    try:
        check_attribute("session.legacy", value)
    except ConfigError:
        return False
    return True


def _stamp(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e11 and math.isfinite(value):
        return float(value)
    return None


def _new_id(key: bytes, kind: str, name: str) -> bytes:
    # A cookie of ours is signed, so that who can compute the id still cannot present it.
    return hmac.new(key, lp("beaker2/legacy", kind, name), "sha256").digest()
