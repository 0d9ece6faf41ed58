"""Ending sessions that cannot be found: by id, by user, or all of them, by numbers that only grow.

A *ledger* in the store holds the random name of the store's beginning and a number. A session carries both as they
were when it began (its *mark*). ``revoke`` adds one to the number and notes it for a user: what carries a smaller one
is over. The end of everybody is a ledger of another name. One that is gone, or older than what a session carries or
this process knows, shows that the store has forgotten: then a new one begins, and every session of before is over.
Clocks decide nothing; the times noted here only inform.

What is noted is found by names that only the holder of the key and the cookie's name can compute, and is sealed. It is
remembered in the process for ``interval`` seconds, so that a visitor costs at most one read per interval and instance.
A write of a session that is in its cookie asks anew.

An id's point says how the session ended, or, of a hybrid session, that it lives in the store: cookies that carried it
before then do not open it any more. Both are one record, so that asking costs nothing more.
"""
# over 320 lines because what ends a session and what a process remembers of it prove each other

from __future__ import annotations

import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from contextlib import suppress
from typing import Any, Literal

from beaker._typing import Clock
from beaker.counters import count
from beaker.crypto.keyring import Key, KeyRing
from beaker.crypto.tokens import store_key
from beaker.exceptions import ConfigError, StoreUnavailable
from beaker.forks import ForkAware, notice_patch
from beaker.keys import cache_key
from beaker.session.points import (
    IN_STORE,
    LEDGER,
    LEDGER_FORM,
    NAMESPACE,
    POINT_FORM,
    IdPoint,
    Ledger,
    Noted,
    Point,
    Points,
    later,
)
from beaker.session.snapshot import MARK_BYTES
from beaker.session.standing import ALIVE, Standing

__all__ = ["NAMESPACE", "Revocations", "user_key"]

REMEMBERED = 10_000
"""Answers kept in the process; the least recently asked leave first."""
_BEGINNING = 4
_MARK_FORM = struct.Struct(">4sI")
_MOVES = 8
"""Changes of the id that a logout follows; see SessionRecords.kill."""
_TRIES = 32


class Revocations(ForkAware):
    """Revocation points in ``store``, of one ``cookie`` name and one key.

    ``interval`` is seconds; ``lifetime`` is how long a point must last: the longest life of a session in seconds,
    ``None`` for ever. ``ring`` names and seals what is noted; without one it has checksums only. With ``readonly``
    asking writes nothing.
    """

    def __init__(
        self,
        store: Any,
        *,
        interval: float,
        lifetime: float | None,
        clock: Clock,
        cookie: str = "",
        ring: KeyRing | None = None,
        encrypt: bool = False,
        older: Literal["signed"] | None = None,
        readonly: bool = False,
    ) -> None:
        self._points = Points(store, clock=clock, cookie=cookie, ring=ring, encrypt=encrypt, older=older)
        self._interval = interval
        self._lifetime = lifetime
        self._clock = clock
        self._seen: OrderedDict[str, tuple[float, Noted]] = OrderedDict()
        self._lost: set[bytes] = set()
        self._writes = 0
        self._carried: Key | None = None
        self._forgets = bool(getattr(store, "forgets", False))
        self._readonly = readonly
        self._renew_locks()
        self._watch_forks()

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()

    _after_fork = _renew_locks

    @property
    def store(self) -> Any:
        """Where the points are kept."""
        return self._points.store

    # -- ending ----------------------------------------------------------------------------------------

    def revoke(self, *, user: Hashable = None, everybody: bool = False) -> None:
        """End every session that began until now: of ``user``, or of ``everybody``.

        Done in the store before this returns; other processes notice within ``interval`` seconds.
        """
        if user is None and not everybody:
            raise ConfigError("revoke needs to know whose sessions", option="revoke", expected="user or everybody")
        name = None if user is None else _user(user)
        anew = os.urandom(_BEGINNING) if everybody else b""
        for scope in self._scopes_in_use():
            beginning, number = self._advance(scope, anew)
            if name is not None:
                now = self._clock()
                self._points.set(scope, name, POINT_FORM.pack(beginning, number), ttl=self._lifetime)
                self._remember(name, now, {beginning: Point(number, now)}, own=True)
        count("revoked", "everybody" if everybody else "user")

    def end_id(self, id: bytes) -> None:
        """End one session by its id, at once and for good, and what a request at the same time moved it to."""
        name = _id(id)
        for _ in range(_MOVES):
            if self._claim(name):
                return
            successor = self._successor(name)
            if not successor:
                return
            name = f"id:{successor}"

    def move_id(self, id: bytes, successor: bytes) -> bool:
        """End an id whose session goes on under ``successor``. ``False``: it has ended or moved already."""
        wanted = store_key(successor)
        return self._claim(_id(id), wanted) or self._successor(_id(id)) == wanted

    def _claim(self, name: str, successor: str = "") -> bool:
        if len(self._points.scopes()) > 1 and self._successor(name) is not None:
            # Noted under a key that is on its way out.
            return False
        now = self._clock()
        try:
            first = self._end_point(name, successor.encode())
        except StoreUnavailable:
            # Nobody else names this successor, so a point that does is this one, and the reply was lost.
            if not successor or self._successor(name) != successor:
                raise
            first = True
        if first:
            self._remember(name, now, {b"": IdPoint(now, successor)}, own=True)
        return first

    def _end_point(self, name: str, payload: bytes) -> bool:
        """Note the end of an id. ``False``: it is noted already."""
        scope = self._points.scopes()[0]
        for _ in range(_TRIES):
            if self._points.insert(scope, name, payload, ttl=self._lifetime):
                return True
            found = self._points.get_versioned(scope, name)
            if found is None:
                continue
            if not self._points.noted(scope, name, found[0])[b""].serial:
                return False
            if self._points.replace(scope, name, payload, found[1], ttl=self._lifetime):
                return True
        raise StoreUnavailable("others kept changing it", backend=self.store.backend, operation="revoke")

    def _successor(self, name: str) -> str | None:
        """Under which name the session of an id that ended goes on: empty if it does not, ``None`` if it lives."""
        noted = self._points.read([name])[name]
        if not noted or noted[b""].serial:
            return None
        successor: str = noted[b""].successor
        return successor

    # -- living in the store ---------------------------------------------------------------------------

    def outdate(self, id: bytes, serial: int | None = None) -> None:
        """Note that the cookies of ``id`` up to ``serial`` no longer carry the session, because the store has it.

        ``None``: all cookies there are. An id that has ended stays so. Raises StoreUnavailable.
        """
        name, now = _id(id), self._clock()
        # Also what is noted under a key that is on its way out.
        known = self._points.read([name])[name].get(b"")
        if known is not None and not known.serial:
            return
        wanted = 1 + (0 if known is None else known.serial) if serial is None else 1 + serial
        scope = self._points.scopes()[0]
        payload = b"%s%d" % (IN_STORE, wanted)
        for _ in range(_TRIES):
            if known is not None and (not known.serial or known.serial >= wanted):
                return
            if self._points.insert(scope, name, payload, ttl=self._lifetime):
                break
            found = self._points.get_versioned(scope, name)
            known = None if found is None else self._points.noted(scope, name, found[0])[b""]
            if found is None or known is None or not 0 < known.serial < wanted:
                continue
            if self._points.replace(scope, name, payload, found[1], ttl=self._lifetime):
                break
        else:
            raise StoreUnavailable("others kept changing it", backend=self.store.backend, operation="write")
        self._remember(name, now, {b"": IdPoint(now, serial=wanted)}, own=True)

    # -- asking ----------------------------------------------------------------------------------------

    def mark(self, *, fresh: bool = False) -> bytes:
        """What a session carries that begins now; ``fresh`` also counts the revocations of other processes just now.

        Begins a ledger where there is none. Raises StoreUnavailable. A store that forgets is asked each time: a
        session that carried the beginning of before its restart would be over in every other process.
        """
        ledgers = self._ask([LEDGER], fresh=fresh or self._forgets)[LEDGER]
        if not ledgers:
            ledgers = self._begun()
        self._carry_over_once()
        # Of several, which only a change of keys leaves, the sealing key's comes first.
        beginning, ledger = next(iter(ledgers.items()))
        return _MARK_FORM.pack(beginning, ledger.number)

    def adopted(self) -> bytes:
        """The mark of a session that has none, as from an older Beaker: every revocation there was ends it."""
        return self.mark()[:_BEGINNING] + bytes(MARK_BYTES - _BEGINNING)

    def revoked_at(
        self, mark: bytes, user: Hashable = None, *, id: bytes | None = None, fresh: bool = False
    ) -> float | None:
        """When a session with these marks was revoked, ``None`` if it was not, 0 where the store has forgotten.

        The time is another host's, and says nothing but when. ``fresh`` asks the store whatever is remembered.
        """
        return self.standing(mark, user, id=id, fresh=fresh).revoked

    def standing(
        self,
        mark: bytes,
        user: Hashable = None,
        *,
        id: bytes | None = None,
        fresh: bool = False,
        now: float | None = None,
    ) -> Standing:
        """:meth:`revoked_at`, and from which serial on cookies carry the session of ``id``, in one question.

        ``now`` is what the clock says, if that was read just now.
        """
        names = [_id(id)] if id else []
        if user is not None:
            names.append(_user(user))
        if not fresh and self._is_remembered_alive(mark, names, self._clock() if now is None else now):
            return ALIVE
        names = [LEDGER, *names]
        noted = self._ask(names, fresh=fresh)
        points = [point for name in names if name.startswith("id:") for point in noted[name].values()]
        ends = [point.at for point in points if not point.serial]
        serial = max((point.serial for point in points), default=0)
        beginning, number = _MARK_FORM.unpack(mark) if mark else (b"", 0)
        ledgers = noted[LEDGER]
        if beginning and (beginning not in ledgers or ledgers[beginning].number < number):
            ledgers = self._looked_again(beginning, number, ledgers, fresh=fresh)
            if beginning not in ledgers:
                # Ended with everybody, or forgotten.
                ends.append(max((ledger.at for ledger in ledgers.values()), default=0.0))
        if ledgers and not self._readonly:
            # Asking must not fail for this; it is tried again.
            with suppress(StoreUnavailable):
                self._carry_over_once()
        for known, ledger in ledgers.items():
            if beginning in (b"", known) and number < ledger.everybody:
                ends.append(ledger.at)
        for known, point in noted[_user(user)].items() if user is not None else ():
            if beginning in (b"", known) and number < point.number:
                ends.append(point.at)
        return Standing(max(ends, default=None), serial)

    def _is_remembered_alive(self, mark: bytes, names: list[str], now: float) -> bool:
        """Whether what is remembered of the ledger and of all ``names`` is recent, the former knows this mark, and all
        says that its session lives."""
        seen, ring = self._seen.get(LEDGER), self._points.ring
        if seen is None or len(mark) != MARK_BYTES or not 0 <= now - seen[0] < self._interval:
            return False
        ledger = seen[1].get(mark[:_BEGINNING])
        if ledger is None or not ledger.everybody <= int.from_bytes(mark[_BEGINNING:], "big") <= ledger.number:
            return False
        for name in names:
            seen = self._seen.get(name)
            if seen is None or seen[1] or not 0 <= now - seen[0] < self._interval:
                return False
        return ring is None or len(ring.kids) == 1

    def _looked_again(self, beginning: bytes, number: int, ledgers: Noted, *, fresh: bool) -> Noted:
        """The ledgers as they are now, where those remembered lack what a session carries; without it, it is over."""
        if beginning in self._lost:
            return ledgers
        if not fresh:
            ledgers = self._ask([LEDGER], fresh=True)[LEDGER]
        if beginning in ledgers:
            return self._unless_set_back(ledgers, {beginning: number})
        # Whoever carries its name got it after it was stored. So one that is missing now never comes back.
        self._lose(beginning)
        if not any(ledger.everybody for ledger in ledgers.values()):
            count("revocations_lost")
        return ledgers

    def _lose(self, beginning: bytes) -> None:
        notice_patch()
        with self._lock:
            if len(self._lost) >= REMEMBERED:
                self._lost.clear()
            self._lost.add(beginning)

    # -- a store set back ------------------------------------------------------------------------------

    def _unless_set_back(self, ledgers: Noted, known: Mapping[bytes, int]) -> Noted:
        """``ledgers``, unless one is older than a number ``known`` of it: then what is begun instead."""
        older = self._older(ledgers, known)
        if older and not self._readonly:
            # What cannot be written is tried again; until then the sessions of such a ledger count as over.
            with suppress(StoreUnavailable):
                return self._begun_anew(known)
        return {beginning: ledger for beginning, ledger in ledgers.items() if beginning not in older}

    def _older(self, ledgers: Noted, known: Mapping[bytes, int]) -> set[bytes]:
        """The beginnings that are of a state that the store had before."""
        return {b for b, ledger in ledgers.items() if b in self._lost or ledger.number < known.get(b, 0)}

    def _begun_anew(self, known: Mapping[bytes, int]) -> Noted:
        """Replace ledgers that are older than ``known``; as after a loss, every session of before is over."""
        anew = os.urandom(_BEGINNING)
        for _ in range(_TRIES):
            seen = self._seen.get(LEDGER, (0.0, {}))[1]
            found = {scope: self._points.get_versioned(scope, LEDGER) for scope in self._points.scopes()}
            stored = {
                scope: (self._points.noted(scope, LEDGER, record[0]), record[1])
                for scope, record in found.items()
                if record is not None
            }
            merged: Noted = {}
            for ledgers, _version in stored.values():
                merged = later(merged, ledgers)
            # Remembered and not there any more: another process has begun one in its place.
            for beginning in seen.keys() - merged.keys():
                self._lose(beginning)
            older = self._older(merged, known)
            if not older:
                break
            payload = LEDGER_FORM.pack(anew, 0, 0, 0.0)
            done = [
                self._points.replace(scope, LEDGER, payload, version, ttl=None)
                for scope, (ledgers, version) in stored.items()
                if older & ledgers.keys()
            ]
            if all(done):
                count("revocations_lost")
                for beginning in older:
                    self._lose(beginning)
        return self._reread()

    # -- the ledger ------------------------------------------------------------------------------------

    def _begun(self) -> Noted:
        """A ledger where there was none: this one, or that of another process that was first."""
        beginning = os.urandom(_BEGINNING)
        self._points.insert(self._points.scopes()[0], LEDGER, LEDGER_FORM.pack(beginning, 0, 0, 0.0), ttl=None)
        return self._reread()

    def _reread(self) -> Noted:
        now, found = self._clock(), self._points.read([LEDGER])[LEDGER]
        ledgers = self._remember(LEDGER, now, found, own=True)
        if not found or not ledgers:
            raise StoreUnavailable(
                "the ledger of revocations does not stay", backend=self.store.backend, operation="read"
            )
        return ledgers

    def _scopes_in_use(self) -> list[Key | None]:
        """The key that seals, and those of before whose ledger is in use until they go."""
        scopes = self._points.scopes()
        self.mark(fresh=True)
        return [scopes[0], *(scope for scope in scopes[1:] if self._points.get(scope, LEDGER) is not None)]

    def _advance(self, scope: Key | None, anew: bytes) -> tuple[bytes, int]:
        """Add one to the number of a ledger, or begin ``anew``; returns its beginning and the new number."""
        for _ in range(_TRIES):
            found = self._points.get_versioned(scope, LEDGER)
            if found is None:
                self._carry_over(scope)
                continue
            before, number, last, at = self._points.opened(scope, LEDGER, found[0], LEDGER_FORM)
            now, beginning, number = self._clock(), anew or before, number + 1
            if anew:
                number, last, at = 1, 1, now
            payload = LEDGER_FORM.pack(beginning, number, last, at)
            if self._points.replace(scope, LEDGER, payload, found[1], ttl=None):
                if beginning != before:
                    self._lose(before)
                self._remember(LEDGER, now, {beginning: Ledger(number, last, at)}, own=True)
                return beginning, number
        raise StoreUnavailable("others kept changing it", backend=self.store.backend, operation="revoke")

    def _carry_over_once(self) -> None:
        """After a change of keys: before the old key goes, its ledger must be found under the new one."""
        scopes = self._points.scopes()
        if len(scopes) > 1 and scopes[0] is not self._carried:
            if self._points.get(scopes[0], LEDGER) is None:
                self._carry_over(scopes[0])
            self._carried = scopes[0]

    def _carry_over(self, scope: Key | None) -> None:
        """Give the sealing key a ledger: that of another key of the ring, or a new one."""
        ledgers = self._points.read([LEDGER])[LEDGER]
        if not ledgers:
            self._begun()
            return
        beginning, ledger = next(iter(ledgers.items()))
        self._points.insert(scope, LEDGER, LEDGER_FORM.pack(beginning, *ledger), ttl=None)

    # -- reading and remembering -----------------------------------------------------------------------

    def _ask(self, names: list[str], *, fresh: bool) -> dict[str, Noted]:
        now, writes = self._clock(), self._writes
        noted: dict[str, Noted] = {}
        for name in names:
            seen = None if fresh else self._seen.get(name)
            if seen is not None and 0 <= now - seen[0] < self._interval:
                noted[name] = seen[1]
        missing = [name for name in names if name not in noted]
        if missing:
            read = self._points.read(missing)
            if LEDGER in read:
                known = {beginning: ledger.number for beginning, ledger in self._seen.get(LEDGER, (0.0, {}))[1].items()}
                read[LEDGER] = self._unless_set_back(read[LEDGER], known)
            for name, found in read.items():
                noted[name] = self._remember(name, now, found, own=writes != self._writes)
        return noted

    def _remember(self, name: str, now: float, noted: Noted, *, own: bool) -> Noted:
        """Note what was read, or with ``own`` written; returns what counts from now on."""
        notice_patch()
        with self._lock:
            self._writes += own
            known = self._seen.get(name, (0.0, {}))[1]
            if name == LEDGER:
                known, noted = self._left(known, noted, own=own)
            noted = later(known, noted) if own else later(noted, known)
            self._seen[name] = (now, noted)
            self._seen.move_to_end(name)
            # One a call: a loop in a block that holds a lock may end without its release (Python 3.12 and 3.13).
            if len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)
        return noted

    def _left(self, known: Noted, noted: Noted, *, own: bool) -> tuple[Noted, Noted]:
        """What counts of two ledgers: one that is gone stays gone, the number of one that is there never goes back."""
        known = {b: known[b] for b in known if (own or b in noted) and b not in self._lost}
        return known, {b: noted[b] for b in noted if b not in self._lost}


def _user(user: Hashable) -> str:
    return "user:" + user_key(user)


def user_key(user: Hashable) -> str:
    """What a user is called in revocation points. Raises UncacheableArgument where nothing stable can be made."""
    return cache_key((user,))


def _id(id: bytes) -> str:
    return "id:" + store_key(id)
