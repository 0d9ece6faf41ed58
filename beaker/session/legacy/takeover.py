"""Sessions of Beaker 1.14 and older, taken over at their first request: read, moved, and given our cookie.

The new id is computed from the old one under the old key, so that requests that arrive together with one old cookie
all get the same new session. Where sessions have a store, a mark in it says, until the policy ends, that a session was
taken over: after a logout its old cookie brings nothing back, even if the old record could not be removed. Cookie
sessions have no such place: their ``revocation`` store, if there is one, knows the ids that ended, and old records
stay, since requests in flight may still need them.
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from beaker.counters import count
from beaker.crypto.keyring import lp
from beaker.crypto.tokens import store_key
from beaker.exceptions import ConfigError, ConfigWarning, CorruptRecord, UnserializableValue, warn
from beaker.session.backends import Counted, Draft, Ended, Loaded, Place, Saved, SessionBackend
from beaker.session.context import SessionContext
from beaker.session.cookies import check_attribute, read_cookie
from beaker.session.exchange import Cookie, Sent
from beaker.session.legacy import payload
from beaker.session.legacy.plain import LegacyDataError
from beaker.session.legacy.policy import LegacyPolicy
from beaker.session.legacy.records import OldRecords, open_records
from beaker.session.records import over
from beaker.session.snapshot import Snapshot

__all__ = ["LegacyReader", "TakeoverBackend"]

MOVED = "beaker.session.legacy"
"""Namespace of the marks of sessions that were taken over."""
_MARK = b"BKRL"
_STAMPS = ("_accessed_time", "_creation_time", "_id", "_expires")


class TakeoverBackend:
    """A backend that also finds the sessions of an older Beaker; see SessionBackend."""

    def __init__(self, backend: SessionBackend, reader: LegacyReader) -> None:
        self.backend = backend
        self.reader = reader

    def fetch(self, sent: Sent) -> Loaded | Ended | None:
        if sent.id is not None:
            return self.backend.fetch(sent)
        found = self.backend.fetch(sent._replace(foreign=self.reader.recognizes))
        return self.reader.take(sent, self.backend) if found is None else found

    def admit(self, snapshot: Snapshot, sent: Sent) -> Loaded | Ended:
        return self.backend.admit(snapshot, sent)

    def save(self, draft: Draft) -> Saved | Ended:
        return self.backend.save(draft)

    def touch(self, draft: Draft) -> Saved | Ended | None:
        return self.backend.touch(draft)

    def refresh(self, draft: Draft) -> Loaded | Ended | None:
        return self.backend.refresh(draft)

    def count(self, draft: Draft, key: str, n: int) -> Counted | Ended:
        return self.backend.count(draft, key, n)

    def end(self, identity: Snapshot | None, sent: Sent) -> tuple[str, ...]:
        more = self.backend.end(identity, sent)
        # Beside our dead cookie an old one may still lead to a session.
        return (*more, *self.reader.end(sent.header, None if identity is None else identity.id))

    def cookies(self, snapshot: Snapshot, place: Place, *, dated: bool) -> Iterable[tuple[str, str]]:
        return self.backend.cookies(snapshot, place, dated=dated)


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

    def taking_over(self, backend: SessionBackend) -> TakeoverBackend:
        """``backend``, which then also finds old sessions."""
        return TakeoverBackend(backend, self)

    def recognizes(self, value: str) -> bool:
        """Whether a cookie's value is not ours and may be an old one."""
        return payload.looks_signed(value) or (self.policy.unsigned and payload.ID.match(value) is not None)

    def take(self, sent: Sent, backend: SessionBackend) -> Loaded | Ended | None:
        """The old session that the Cookie header names, taken over, if there is one that may be read.

        Raises StoreUnavailable when a store does not reply, so that no session is lost to an outage.
        """
        ended: Ended | None = None
        for value in read_cookie(sent.header, self.name):
            if not self.recognizes(value):
                continue
            try:
                if self._is_over():
                    raise LegacyDataError("until")
                found = self._taken(self._open(value), sent, backend)
            except LegacyDataError as error:
                count("legacy_refused", error.reason)
                continue
            if isinstance(found, Loaded) or found.concerns(sent.began, sent.now):
                return found
            ended = found.latest(ended)
        return ended

    def end(self, header: str | None, known: bytes | None) -> tuple[str, ...]:
        """End what the old cookies of a request lead to, also under ``keep``, when its session is ended.

        ``known`` is the id that the backend has ended already. Returns the names of the cookies to be dropped.
        Raises StoreUnavailable when the mark cannot be written.
        """
        names: tuple[str, ...] = ()
        if self._is_over():
            return names
        for value in read_cookie(header, self.name):
            try:
                found = self._open(value)
            except LegacyDataError:
                continue
            self._end_id(found.id, known=known)
            self._remove(found)
            names = self._old_names
        return names

    def _end_id(self, id: bytes, *, known: bytes | None) -> None:
        context = self.context
        # What a request with the old cookie alone has created of it, or is about to.
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

    def _taken(self, found: _Found, sent: Sent, backend: SessionBackend) -> Loaded | Ended:
        if self.context.type == "cookie":
            loaded = backend.admit(self._snapshot(found, sent.now), sent)
            if isinstance(loaded, Loaded) and not self.policy.keep:
                loaded.old_cookies = self._old_names
        else:
            loaded = self._stored(found, sent, backend)
        if isinstance(loaded, Loaded):
            count("legacy_tokens", "cookie" if found.record is None else "id")
        return loaded

    def _stored(self, found: _Found, sent: Sent, backend: SessionBackend) -> Loaded | Ended:
        context, readonly = self.context, self.context.options.readonly
        failure: LegacyDataError | None = None
        if self._is_gone(found.id):
            try:
                snapshot = self._unmoved(found, sent.now)
            except LegacyDataError as error:
                # A concurrent request may have moved it since ours was looked for.
                failure = error
            else:
                if readonly:
                    return backend.admit(snapshot, sent)
                if over(snapshot, sent.now, context.timeout, context.absolute):
                    return Ended()
                # Not inserted: another request was first, and its record is the one to go on with.
                context.records.insert(snapshot)
        loaded = backend.fetch(sent._replace(header=None, id=found.id)) or Ended()
        if isinstance(loaded, Ended):
            if failure is not None and not loaded.concerns(sent.began, sent.now):
                raise failure
            return loaded
        if not readonly:
            # The cookie goes out only if the session still lives at the end of the request.
            loaded.cookie = Cookie.RESEAL
            self._mark(found.id)
            if not self.policy.keep:
                self._remove(found)
                loaded.old_cookies = self._old_names
        return loaded

    def _is_gone(self, id: bytes) -> bool:
        try:
            return self.context.records.load(id) == "gone"
        except CorruptRecord:
            # The backend decides by the options what becomes of it.
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

    @property
    def _old_names(self) -> tuple[str, ...]:
        """The old cookie's name where ours has another: ours replaces one of the same name."""
        return () if self.name == self.context.cookie.name else (self.name,)

    def _snapshot(self, found: _Found, now: float) -> Snapshot:
        """The old session as one of ours. Raises LegacyDataError when it may not be taken over."""
        old = self._values(found)
        stamps = [at for name in ("_creation_time", "_accessed_time") if (at := _stamp(old.get(name))) is not None]
        if not stamps and found.record is None:
            raise LegacyDataError("stamp")
        # A record that lost its stamps (by clear()) is of now; a cookie without them would be of now for ever.
        # The clock of an authentic session's host may have been ahead. It is one of now, and of no host that writes on.
        created, accessed = (min(stamps[0], now), min(stamps[-1], now)) if stamps else (now, now)
        if created > self.policy.since:
            raise LegacyDataError("created")
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
    # Our cookie is signed, so that whoever can compute the id still cannot present it.
    return hmac.new(key, lp("beaker2/legacy", kind, name), "sha256").digest()
