"""What a session is to an application: its values, an identity, and the methods of the manual's chapter 2.

Where the data lives is the business of :mod:`beaker.session.backends`; what the request sent and the response says, of
:mod:`beaker.session.exchange`.
"""

# over 320 lines because it is the one class of a session, which the manual describes as a whole
from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from beaker.config.coerce import as_seconds, wrong
from beaker.counters import count
from beaker.crypto.tokens import new_id
from beaker.exceptions import BeakerException, LockError, StoreUnavailable
from beaker.session.backends import Draft, Ended, InStore, Loaded, Saved, SessionBackend
from beaker.session.context import SessionContext
from beaker.session.exchange import Cookie, Exchange, Sent, header_of
from beaker.session.older_names import OlderNames
from beaker.session.outage import asked, refusal, tolerate
from beaker.session.own_cookie import DOMAIN, PATH
from beaker.session.snapshot import USER, Snapshot, id_text
from beaker.session.state import SessionState
from beaker.session.values import Packed

if TYPE_CHECKING:
    from beaker.session.contention import SessionLock

__all__ = ["BaseSession"]

Work = Callable[[], None]
"""Something to do that asks the backend, and so may block."""


class BaseSession(OlderNames, SessionState):
    """A dict of the visitor's values, with the methods of the manual's chapter 2.

    ``request`` is a WSGI environ, or a dict whose ``cookie`` is a Cookie header; after a save it has ``cookie_out``
    (a Set-Cookie value) and ``set_cookie``. Methods with a leading underscore are for the modules of this folder.
    """

    _cookie = Cookie.KEEP
    unavailable = False
    """Whether the store could not be asked, so that this session is an empty stand-in: nothing of it is written.

    Only with ``on_unavailable = read_only``; else StoreUnavailable is raised.
    """
    _ended = False
    """Whether another request ended the session: then nothing is written and no cookie is sent."""
    _moving: Snapshot | None = None
    """The identity that the session leaves behind at its next save."""
    _left: tuple[bytes, ...] = ()
    """Ids that the request named and that are dead, whose session may go on under another: a logout ends that too."""
    _late = False
    """Whether loading has merged in changes that need a save."""
    _logged_in = False
    """Whether ``login()`` was called since the session was last saved."""
    _held: Any = None

    def __init__(
        self,
        request: Mapping[str, Any],
        context: SessionContext,
        backend: SessionBackend,
        id: bytes | None = None,
        began: float | None = None,
    ) -> None:
        now = self._now = context.clock()
        self._codec, self._steps = context.values, {}
        self._context, self._backend = context, backend
        options, header = context.options, None
        if id is None and options.use_cookies:
            header = request.get("HTTP_COOKIE") or request.get("cookie")
            if header is not None and type(header) is not str:
                header = header_of(header)
        sent = Sent(header, id, now if began is None else began, now)
        self._exchange = Exchange(request, sent, context.cookie, options.chunks if context.client_side else 1)
        found: Loaded | Ended | None = None
        if id is not None or header:
            try:
                found = backend.fetch(sent)
            except StoreUnavailable as error:
                # Who asks for a certain id must not take "not known" for "not there".
                tolerate(error, options, tolerant=id is None)
                self.unavailable = True
        if isinstance(found, Loaded):
            self._load(found)
            context.tally.loaded += 1
        else:
            self._begin()
            self._ended = self.unavailable
            if found is not None:
                self._missed(found, sent)

    def _missed(self, found: Ended, sent: Sent) -> None:
        """Go on empty, where the session that a request brought, or had loaded, has ended."""
        # Its time shows whether it came while this request was in flight. A chosen id begins again.
        self._ended = found.concerns(sent.began, sent.now) and self._chosen_id is None
        self._left = found.left

    def _load(self, found: Loaded) -> None:
        self._adopt(found.snapshot, found.values)
        self._place = found.place
        self._cookie = found.cookie
        self._exchange.issued = found.issued
        self._exchange.old_cookies = found.old_cookies
        self._exchange.scope = found.values.get(DOMAIN), found.values.get(PATH)
        if found.unsaved is not None:
            self._overlay(found.unsaved)
            self._late = True

    def load(self) -> None:
        """Read the session anew from its store and drop what was not saved. A session that has ended is empty and new.

        Cookie sessions go back to what the request brought: there is nothing newer. Of one that ended in this request
        nothing more is written.
        """
        if self._ended and not self.is_new:
            self._left = (self._snapshot.id,)
            self._begin()
            return
        if self._ended or self._moving is not None or not (self._is_stored or self._chosen_id):
            self.revert()
            return
        sent = self._exchange.sent
        again = Sent(None, self._snapshot.id, sent.began, self._context.clock())
        found = self._backend.fetch(again)
        cookie = self._cookie
        if isinstance(found, Loaded):
            found.cookie = Cookie.KEEP
            self._load(found)
            self._cookie = cookie
            return
        self._begin()
        self._cookie = cookie if cookie is Cookie.CLEAR else Cookie.KEEP
        if found is not None:
            self._missed(found, again)

    def _begin(self) -> None:
        super()._begin()
        self._moving = self._known_user = None
        self._logged_in = self._late = False
        if self._cookie is Cookie.RESEAL:
            self._cookie = Cookie.KEEP

    # -- identity ------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The session's id: 43 characters that stand for 256 random bits. Keep it out of logs."""
        return id_text(self._snapshot.id)

    @property
    def user(self) -> Any:
        """Who :meth:`login` said the visitor is, else ``None``."""
        return self.get(USER)

    def regenerate_id(self) -> None:
        """Give the session a new id when it is saved, at the latest at the end of the request.

        The data moves; the old id is dead before the new cookie is sent. Nothing moves when another request has
        ended the session meanwhile.
        """
        self._check_writable()
        if self._ended:
            return
        if not self.is_new and self._moving is None:
            self._moving = self._snapshot
        self._snapshot = self._snapshot.renamed(new_id())
        self._snapshot.epoch += 1

    def login(self, user: Hashable) -> None:
        """Note who the visitor is and change the id (ASVS 5.0 7.2.4).

        ``user`` is a name, a number or the like. Raises TypeError, and changes nothing, when it cannot be stored or
        no revocation could name it.
        """
        self._check_writable()
        from beaker.session.revocation import user_key

        user_key(user)
        self._codec.pack([(USER, user)])
        if self._ended:
            # The old identity is dead: a login starts a new one and takes nothing along.
            self._ended = False
            self._begin()
        self.regenerate_id()
        revocations = self._context.revocations
        # The session counts as begun after everything that was revoked, even in this very request.
        self._snapshot.mark = b"" if revocations is None else revocations.mark(fresh=True)
        self._snapshot.created = self._now
        self._stamp()
        self[USER] = user
        self._logged_in = True

    def logout(self) -> None:
        """End the session everywhere and start an empty one."""
        self.invalidate()

    def delete(self) -> None:
        """End the session: its record is dead before this returns, and the browser is told to drop the cookie."""
        self._check_writable()
        exchange = self._exchange
        if exchange.scope is None:
            # Of a dead cookie it is not known where it was sent to: presumably where a new one would be.
            exchange.scope = self.domain, self.path
        identity = None if self.is_new else self._moving or self._snapshot
        exchange.old_cookies = self._backend.end(identity, exchange.sent) or exchange.old_cookies
        for id in self._left:
            self._backend.end(Snapshot(id, self._now, self._now), exchange.sent)
        self._left = ()
        self._context.tally.ended += identity is not None
        self._begin()
        self._cookie = Cookie.CLEAR

    def invalidate(self) -> None:
        """End the session as :meth:`delete` does and go on with a new, empty one that may be saved."""
        self.delete()

    # -- saving --------------------------------------------------------------------------------------

    def save(self, accessed_only: bool = False) -> None:
        """Write the session now. With ``accessed_only`` only the time of the access, if it is due.

        Changes of concurrent requests are merged, not overwritten. Raises UnserializableValue before anything is
        written, StoreUnavailable, ValueTooLarge, SessionTooLarge, or WriteConflict after ``save_timeout`` seconds of
        conflicts.
        """
        _do(self._touching() if accessed_only else self._writing())
        self._exchange.note(self._cookie_lines())

    @property
    def _must_save(self) -> bool:
        """Whether something has to be written even if the application does not call ``save()``."""
        return not self._ended and (self._moving is not None or self._logged_in or self._late)

    def _settling(self, wanted: bool) -> Work | None:
        """What saves if that is ``wanted`` or needed, else records the access if that is due; ``None``: nothing to do.

        All that may block is in what is returned, which may run in another thread.
        """
        wanted = wanted or self._must_save
        if wanted:
            return self._writing()
        if self._context.options.auto:
            # An empty new session holds nothing worth a record, unless the application asked for one.
            empty = self.is_new and not any(self._own_keys())
            wanted = not empty and self._cookie is not Cookie.CLEAR and not self._ended
        return self._writing() if wanted else self._touching()

    def _writing(self) -> Work | None:
        """What writes if there is anything to write; the cookie is only prepared."""
        if self._ended:
            count("stale_write_dropped", "unavailable" if self.unavailable else "tombstone")
            return None
        packed, known = self._packed(), self._snapshot.values
        if self._context.options.readonly:
            if packed != known:
                self._check_writable()
            return None
        if self._place is None or self._moving is not None or self._cookie is Cookie.RESEAL or packed != known:
            return partial(self._save, packed)
        return self._touching()

    def _save(self, packed: Packed) -> None:
        if not self._snapshot.mark:
            self._mark()
        self._saved(self._backend.save(self._draft(packed)), packed)

    def _mark(self) -> None:
        """Note under which revocations the session begins, or goes on that has no mark yet."""
        if (revocations := self._context.revocations) is None:
            return
        self._snapshot = self._snapshot.copy()
        self._snapshot.mark = revocations.mark() if self.is_new else revocations.adopted()

    def _saved(self, saved: Saved | Ended, packed: Packed) -> None:
        self._take(saved)
        if isinstance(saved, Saved):
            self._context.tally.saved += 1
            self._late = self._logged_in = False
            self._moving = None
            if saved.snapshot.values is not packed:
                self._overlay(saved.snapshot.values)
            self._known_user = self.get(USER)
            self._steps.clear()

    def _take(self, saved: Saved | Ended) -> None:
        """Note where the session is now, and what its cookie needs."""
        if isinstance(saved, Ended):
            self._end()
            return
        # What this process has just packed is its own, pickles included.
        saved.snapshot.trusted = True
        self._snapshot = saved.snapshot
        self._place = saved.place
        resealed = self._cookie in (Cookie.SEND, Cookie.RESEAL)
        interval = self._renewal_interval()
        stale = interval is not None and self._exchange.is_stale(interval)
        self._cookie = Cookie.SEND if resealed or stale else saved.cookie

    def _end(self) -> None:
        """Another request ended this session: nothing of it is written and no cookie is sent."""
        self._ended = True
        if self._moving is not None:
            # There is nothing under the new id: what a logout ends went on from the old one.
            self._snapshot = self._moving
        self._cookie = Cookie.KEEP
        self._moving = None

    def _touching(self) -> Work | None:
        """What records the access when the recorded one is older than ``touch_interval``, and renews a stale cookie."""
        if self._place is None or self._ended or self._moving is not None:
            return None
        context, snapshot = self._context, self._snapshot
        interval, cookie = self._renewal_interval(), self._cookie
        stale = interval is not None and cookie is Cookie.KEEP and self._exchange.is_stale(interval)
        due = snapshot.ahead or self._now - snapshot.accessed >= context.touch_interval
        if not (due or stale or cookie is Cookie.RESEAL):
            return None
        access, options = False, context.options
        if not options.readonly:
            stored = isinstance(self._place, InStore)
            # A record from the future would last too long; a cookie is not replaced for that.
            due = (snapshot.ahead and stored) or self._now - snapshot.accessed >= context.touch_interval
            access = (due and options.save_accessed_time) or cookie is Cookie.RESEAL or (stale and not stored)
        return partial(self._touch, access, stale) if access or stale else None

    def _touch(self, access: bool, stale: bool) -> None:
        if access:
            draft = self._draft(self._snapshot.values)
            saved, _ = asked(lambda: self._backend.touch(draft), self._context.options)
            if saved is not None:
                self._take(saved)
                return
        if stale:
            self._renew()

    def _renew(self) -> None:
        """Send the cookie again, unless another request has ended the session or moved it to another id."""
        draft = self._draft(self._snapshot.values)
        found, unavailable = asked(lambda: self._backend.refresh(draft), self._context.options)
        if isinstance(found, Ended):
            self._end()
        elif not unavailable:
            self._cookie = Cookie.SEND

    def _draft(self, packed: Packed) -> Draft:
        operations = self._operations(packed) if self._steps else {}
        reseal, answered, user = self._cookie is Cookie.RESEAL, self._exchange.answered, self.get(USER)
        return Draft(
            self._snapshot, packed, operations, self._place, self._now, self._moving, reseal, answered,
            self._known_user, user, self._logged_in,
        )  # fmt: skip

    def _is_changed(self) -> bool:
        """Whether the values differ from those that were loaded or last saved."""
        return self._packed() != self._snapshot.values

    def _check_writable(self) -> None:
        if self.unavailable:
            raise refusal()
        if self._context.options.readonly:
            raise BeakerException("the session is read-only here (option session.readonly)", code="session.readonly")

    # -- what must not go back -----------------------------------------------------------------------

    def monotonic(self, key: str, n: int = 0) -> int:
        """Add ``n`` to a number that only grows, at once and in the store, and return the sum; with 0 it is only read.

        Older copies of a cookie show and count the same number, also after ``login()`` and ``regenerate_id()``; it ends
        with the session. What has to be saved anyway, as a new session or a new id, is saved first; a hybrid session
        lives in its store from then on. ``n`` is a whole number, 0 or more. Raises ConfigError for cookie sessions
        without ``revocation``, BeakerException when the session has ended meanwhile, StoreUnavailable, WriteConflict.
        """
        key, n = _checked(key, n)
        if self.unavailable:
            raise refusal()
        self._context.check_numbers()
        if n:
            self._check_writable()
        elif self.is_new and not self._ended:
            return 0
        if not self._ended and (self.is_new or self._moving is not None or (self._late and n)):
            # Also what loading has merged in: that save outdates older cookies, and after counting it seems done.
            self._save(self._packed())
        counted = Ended() if self._ended else self._backend.count(self._draft(self._snapshot.values), key, n)
        if isinstance(counted, Ended):
            self._end()
            raise BeakerException("the session has ended meanwhile, and nothing was counted", code="session.has-ended")
        if counted.saved is not None:
            self._take(counted.saved)
        return counted.number

    # -- locking -------------------------------------------------------------------------------------

    def lock(self, timeout: float | None = None) -> None:
        """Hold the session against other requests that lock it, for ``lock_ttl`` seconds at most.

        Saving needs no lock; this is for work that must not overlap. Pair it with :meth:`unlock` in a ``finally``;
        the middleware releases at the end of the request what is still held then. ``timeout`` is the seconds to wait
        for another holder at most, 0 or more; default: ``lock_ttl``. Raises LockTimeout when the lock is not free
        within them, LockError for cookie sessions, StoreUnavailable, ConfigError for a timeout that is none.
        """
        wanted = self._lockable(timeout)
        if wanted is not None:
            wanted.wait(self._context.sleep)
            self._hold(wanted)

    def _lockable(self, timeout: float | None) -> SessionLock | None:
        """The lock to be taken; ``None``: it is held already. Raises what :meth:`lock` raises before it waits."""
        context = self._context
        if self.unavailable:
            raise refusal()
        if context.type == "cookie":
            raise LockError("a cookie session has no store to keep a lock in")
        if self._held is not None:
            return None
        from beaker.session.contention import SessionLock

        ttl = context.options.lock_ttl
        within = ttl if timeout is None else as_seconds("timeout", timeout)
        return SessionLock(context.records.store, self._snapshot.key, ttl=ttl, within=within, clock=context.clock)

    def _hold(self, lock: SessionLock) -> None:
        """Go on with ``lock``, which was taken, on what other requests have saved."""
        self._held = lock.lease
        try:
            self._refresh()
        except BaseException:
            self.unlock()
            raise

    def _refresh(self) -> None:
        """Take in what other requests have saved; what this one changed and did not save stays on top."""
        if self.is_new or self._ended or self._moving is not None:
            return
        draft = self._draft(self._packed())
        found = self._backend.refresh(draft)
        if isinstance(found, Ended):
            self._end()
        elif found is not None:
            self._adopt(found.snapshot, found.values)
            if found.unsaved is not None:
                self._overlay(found.unsaved)
                self._keep_operations(draft.operations, found.unsaved)

    def unlock(self) -> None:
        """Release the session; does nothing when it is not locked."""
        held, self._held = self._held, None
        if held is not None:
            held.release()

    # -- cookie --------------------------------------------------------------------------------------

    def _cookie_lines(self) -> list[str]:
        """The Set-Cookie values this response needs: none unless something about the cookie changed."""
        if self._ended or not self._context.options.use_cookies:
            return []
        if self._cookie is Cookie.SEND:
            return self._leading()
        return self._exchange.clearing() if self._cookie is Cookie.CLEAR else []

    def _leading(self) -> list[str]:
        """The Set-Cookie values that lead to the session as it was loaded or last saved."""
        dated = self._renewal_interval() is not None
        cookies = self._backend.cookies(self._snapshot, self._place, dated=dated)
        return self._exchange.lines(cookies, domain=self.domain, path=self.path, expires=self._own_end())

    @property
    def _is_stored(self) -> bool:
        return isinstance(self._place, InStore)

    def _reference(self, stored: bool) -> tuple[Any, ...]:
        """What a cookie has to say to lead to the session as it is; of one that was ``stored`` the id alone."""
        return self._snapshot.id, self.is_new, None if stored else self._snapshot.values

    def _respond(self) -> list[str]:
        """:meth:`_cookie_lines` for the headers that now go out: what changes later needs a cookie of its own."""
        self._exchange.answered = True
        if self._cookie is Cookie.KEEP:
            return []
        lines = self._cookie_lines()
        if self._cookie is Cookie.SEND:
            self._exchange.issued = self._now
        if self._cookie is not Cookie.RESEAL:
            self._cookie = Cookie.KEEP
        return lines


def _checked(key: object, n: object) -> tuple[str, int]:
    if not isinstance(key, str):
        raise wrong("key", key, "a text")
    if not isinstance(n, int) or isinstance(n, bool) or n < 0:
        raise wrong("n", n, "a whole number, 0 or more")
    return key, n


def _do(work: Work | None) -> None:
    if work is not None:
        work()
