"""What a session is to an application: values with intentions and an identity.

Where the data lives is the carrier's business (:mod:`beaker.session.backends.server`, ``client``, ``hybrid``); the
cookie's attributes are the transport's.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

from beaker.counters import count
from beaker.crypto.tokens import new_id
from beaker.exceptions import BeakerException
from beaker.session.backends import Carrier
from beaker.session.context import SessionContext
from beaker.session.cookies import part_name
from beaker.session.merge import diff
from beaker.session.records import CLOCKS
from beaker.session.revocation import user_key
from beaker.session.snapshot import Snapshot, id_text
from beaker.session.state import USER, SessionState
from beaker.session.values import Packed

__all__ = ["BaseSession"]

_DOMAIN, _PATH = "_domain", "_path"


class BaseSession(SessionState):
    """A dict of the visitor's values, with the methods of the manual's chapter 2.

    ``request`` is a WSGI environ, or a dict whose ``cookie`` is a Cookie header; after a save it has
    ``cookie_out`` (a Set-Cookie value) and ``set_cookie``.
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        context: SessionContext,
        carrier: Carrier,
        id: bytes | None = None,
        began: float | None = None,
    ) -> None:
        super().__init__(context)
        self.began = self.now if began is None else began
        self.request: Any = request
        self.carrier = carrier
        self.presented = False
        self.answered = False
        self.fenced = False
        self.cookie_due = False
        self.must_save = False
        self.deleted = False
        self.presented_parts = 1
        self.moving: Snapshot | None = None
        if id is not None:
            carrier.fetch_id(self, id)
        elif context.options.use_cookies:
            carrier.fetch(self, request.get("HTTP_COOKIE") or request.get("cookie"))

    def end_revoked(self, at: float) -> None:
        """Be a new, empty session, because the loaded one was revoked ``at`` that time."""
        self._begin()
        self.fence_if_under_way(at)

    def fence_if_under_way(self, at: float) -> None:
        """Write nothing if this request began before its session was ended ``at`` that time.

        Its cookie could then replace the one the browser got meanwhile. A later request with a dead cookie is
        a new visitor's.
        """
        self.fenced = self.fenced or self.began <= at + CLOCKS

    # -- identity ------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The session's id: 43 characters that stand for 256 random bits. Keep it out of logs."""
        return id_text(self.snapshot.id)

    @property
    def user(self) -> Any:
        """Who :meth:`login` said the visitor is, else ``None``."""
        return self.get(USER)

    def regenerate_id(self) -> None:
        """Give the session a new id when it is saved, at the latest at the end of the request.

        The data moves; the old id is dead before the new cookie is sent. Nothing moves when the session was
        ended by another request meanwhile.
        """
        self._check_writable()
        if self.fenced:
            return
        if not self.is_new and self.moving is None:
            self.moving = self.snapshot
        self.snapshot = replace(self.snapshot, id=new_id(), epoch=self.snapshot.epoch + 1)
        self.must_save = self.must_save or self.moving is not None

    def login(self, user: Hashable) -> None:
        """Note who the visitor is and change the id (ASVS 5.0 7.2.4).

        ``user`` is a name, number or the like: TypeError when it cannot be stored or no revocation could name
        it; nothing changes then.
        """
        self._check_writable()
        user_key(user)
        self.context.values.pack([(USER, user)])
        if self.fenced:
            # The old identity is dead: a login starts a new one and takes nothing along.
            self.fenced = False
            self._begin()
        self.regenerate_id()
        revocations = self.context.revocations
        # The session counts as begun after everything that was revoked, be it in this very request.
        self.snapshot.created = max(self.now, 0.0 if revocations is None else revocations.good_from(user))
        self._stamp()
        self[USER] = user
        self.logged_in = self.must_save = True

    def logout(self) -> None:
        """End the session everywhere and start an empty one."""
        self.invalidate()

    def delete(self) -> None:
        """End the session: its record is dead before this returns, and the browser is told to drop the cookie."""
        self._check_writable()
        self._kill()
        self.deleted = True

    def invalidate(self) -> None:
        """End the session as :meth:`delete` does and go on with a new, empty one that may be saved."""
        self.delete()

    def _kill(self) -> None:
        self.sent_domain, self.sent_path = self.domain, self.path
        if not self.is_new:
            if self.moving is not None:
                self.snapshot, self.moving = self.moving, None
            self.carrier.kill(self)
        elif self.context.legacy is not None:
            # Beside a dead cookie of ours an old one may still lead to a session.
            self.context.legacy.end(self)
        self.cookie_due = self.must_save = False
        self._begin()

    sent_domain: str | None = None
    sent_path: str | None = None
    # Cookies of an older Beaker that the browser is to drop (beaker.session.legacy.takeover).
    old_cookies: tuple[str, ...] = ()

    def saved(self, snapshot: Snapshot, packed: Packed) -> None:
        """Note that the carrier made ``packed`` durable as ``snapshot``."""
        snapshot.values = packed
        # What this process has just packed is its own, pickles included.
        snapshot.trusted = True
        self.snapshot = snapshot
        self.cookie_due = self.cookie_due or self.must_reseal
        self.is_new = self.must_save = self.deleted = self.must_reseal = self.logged_in = False
        self.known_user = self.get(USER)
        self.moving = None
        self._operations.clear()

    def start_over(self, packed: Packed) -> Packed:
        """Keep only what this request, a login, has set: another one ended the session it had loaded."""
        own = {**diff(self.snapshot.values, packed).sets, **self.context.values.pack([(USER, self.user)])}
        mine = self.context.values.unpack(own, trusted=True)
        for key in [key for key in self.own_keys() if key not in mine]:
            del self[key]
        self.fenced = False
        return own

    def fence(self, reason: str) -> None:
        """Another request ended this session: nothing of it is written and no cookie is sent."""
        count("stale_write_dropped", reason)
        self.fenced = True
        self.cookie_due = self.must_save = False
        self.moving = None

    # -- saving --------------------------------------------------------------------------------------

    def save(self, accessed_only: bool = False) -> None:
        """Write the session now. With ``accessed_only`` only the time of the access, if it is due.

        Concurrent changes of other requests are merged, not overwritten. Raises UnserializableValue before
        anything is written, StoreUnavailable, ValueTooLarge, SessionTooLarge, or WriteConflict after
        ``save_timeout`` seconds of conflicts.
        """
        if accessed_only:
            self.touch()
        else:
            self.write()
        self._answer()

    def write(self) -> None:
        """Write if there is anything to write; the cookie is only made ready."""
        if self.fenced:
            count("stale_write_dropped", "tombstone")
            return
        packed = self.packed()
        if self.context.options.readonly:
            if packed != self.snapshot.values:
                self._check_writable()
            return
        settled = not self.is_new and self.moving is None and not self.must_reseal
        if settled and packed == self.snapshot.values:
            self.touch()
        else:
            self.carrier.save(self, packed)

    def touch(self) -> None:
        """Record the access when the recorded one is older than ``touch_interval`` seconds."""
        context = self.context
        if self.is_new or self.fenced or self.moving is not None or context.options.readonly:
            return
        if self.must_reseal or (
            context.options.save_accessed_time and self.now - self.snapshot.accessed >= context.touch_interval
        ):
            self.carrier.touch(self)

    def _check_writable(self) -> None:
        if self.context.options.readonly:
            raise BeakerException("the session is read-only here (option session.readonly)", code="session.readonly")

    def expire(self) -> None:
        """Forget the cookie's own end, so that it ends with the browser."""
        self.pop("_expires", None)

    # -- locking -------------------------------------------------------------------------------------

    _held: Any = None

    def lock(self) -> None:
        """Hold the session against other requests that lock it, for ``lock_ttl`` seconds at most.

        Saving needs no lock; this is for work that must not overlap. Always pair with :meth:`unlock` in a
        ``finally``. Raises LockTimeout when the lock is not free within ``lock_ttl`` seconds.
        """
        from beaker.session.locking import session_lock

        if self._held is None:
            self._held = session_lock(self)
            try:
                # What the last holder saved counts; what this request changed and did not save stays on top.
                self.carrier.refresh(self)
            except BaseException:
                self.unlock()
                raise

    def unlock(self) -> None:
        """Let the session go; does nothing when it is not held."""
        held, self._held = self._held, None
        if held is not None:
            held.release()

    # -- cookie --------------------------------------------------------------------------------------

    @property
    def domain(self) -> str | None:
        """Domain of this session's cookie; setting it lasts as long as the session (manual 2.5)."""
        return self.context.cookie.domain_or_default(self.get(_DOMAIN))

    @domain.setter
    def domain(self, value: str) -> None:
        self.context.cookie.check_domain(value)
        self[_DOMAIN] = value
        self.must_reseal = True

    @property
    def path(self) -> str:
        """Path of this session's cookie; setting it lasts as long as the session (manual 2.5)."""
        return self.context.cookie.path_or_default(self.get(_PATH))

    @path.setter
    def path(self, value: str) -> None:
        self.context.cookie.check_path(value)
        self[_PATH] = value
        self.must_reseal = True

    def set_cookies(self) -> list[str]:
        """The Set-Cookie values this response needs: none unless something about the cookie changed."""
        context = self.context
        if not context.options.use_cookies or self.fenced:
            return []
        cookie, secure = context.cookie, self.request.get("wsgi.url_scheme") == "https"
        if self.cookie_due and not self.is_new:
            own: dict[str, Any] = {"secure": secure, "now": self.now, "domain": self.domain, "path": self.path}
            return [
                cookie.line(value, name=name, **own) if value else cookie.clearing(name=name, **own)
                for name, value in (*self.carrier.cookies(self), *((name, "") for name in self.old_cookies))
            ]
        if self.deleted and self.presented:
            scope: dict[str, Any] = {"domain": self.sent_domain, "path": self.sent_path}
            names = [*(part_name(cookie.name, i) for i in range(self.presented_parts)), *self.old_cookies]
            return [cookie.clearing(secure=secure, now=self.now, name=name, **scope) for name in names]
        return []

    def _answer(self) -> None:
        if isinstance(self.request, dict) and "wsgi.url_scheme" not in self.request:
            lines = self.set_cookies()
            self.request["set_cookie"] = bool(lines)
            self.request["cookie_out"] = lines[0] if lines else None
