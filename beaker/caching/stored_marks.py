"""Marks in the records of a store that knows versions: creations voided, and held alone, over processes and hosts.

=====================  ============================================================================================
the record             a creation that begins
=====================  ============================================================================================
absent                 inserts a mark
an old value           goes by its version; where marks exclude, it puts its mark around the old value
a mark                 joins it, by its epoch; where marks exclude, it waits, or takes over a lease that ran out
=====================  ============================================================================================

It stores by replacing what it marked. Whatever writes or removes the key in between changes the version, takes the
epoch away, and so makes the replacement fail; nothing is left behind that would have to be tidied up. A mark that the
store evicted fails in the same way.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial
from typing import NamedTuple, Protocol

from beaker import counters
from beaker._typing import Clock
from beaker.caching.entry import Entry, EntryCodec
from beaker.caching.mark import TOKEN, Mark
from beaker.caching.marks import Begun, Creation, Good, Mode, Unmarked
from beaker.counters.tallies import CacheTally
from beaker.exceptions import StoreError, StoreUnavailable, ValueTooLarge
from beaker.forks import this_process
from beaker.locking import background
from beaker.locking.flag import Flag
from beaker.storage.api import Store, Versioned, Written, version_of

__all__ = ["Lease", "StoredMarks"]

log = logging.getLogger("beaker.cache")

_LIFE = 86_400.0
"""Seconds after which a mark leaves the store, and a creation that took longer is not stored."""
_ROUNDS = 16
"""How often a step starts anew because other writers changed the record at the same time."""


class Lease(NamedTuple):
    """How long a creation holds its key alone.

    ``ttl``: seconds after which a dead creator is replaced. ``limit``: seconds after which one that lives is, ``None``
    for never. ``renew``: a thread prolongs the lease, every third of its ttl, until then.
    """

    ttl: float
    limit: float | None
    renew: bool


class _Look(NamedTuple):
    """A record: the old or fresh value, the mark, the version (``None``: there is no record), the value's bytes."""

    entry: Entry | None = None
    mark: Mark | None = None
    version: Hashable = None
    old: bytes = b""


class _VersionedStore(Store, Versioned, Protocol):
    """What a store must be to keep marks."""


class StoredMarks:
    """The marks of one namespace of ``store``.

    ``keep`` returns the seconds an entry stays in the store, ``lease`` makes creations exclude each other, ``token``
    returns random bytes.
    """

    def __init__(
        self,
        store: _VersionedStore,
        codec: EntryCodec,
        namespace: str,
        *,
        clock: Clock,
        keep: Callable[[Entry], float | None],
        lease: Lease | None = None,
        token: Callable[[], bytes] = lambda: os.urandom(TOKEN),
    ) -> None:
        self.store = store
        self.codec = codec
        self.namespace = namespace
        self.clock = clock
        self.keep = keep
        self.lease = lease
        self.token = token
        self.tally: CacheTally | None = None
        """Where the bytes of what is stored are counted."""
        self._warned = False

    def begin(self, key: str, good: Good, *, absent: bool, mode: Mode) -> Begun:
        """Begin to create the value of ``key``, unless its entry is ``good`` or, with ``hold``, another holds it.

        ``absent``: there was no record a moment ago, so that looking can be left out.
        """
        holder = self.token()
        look = _Look() if absent else self.look(key)
        for _ in range(_ROUNDS):
            if look.entry is not None and good(look.entry):
                return Begun(look.entry, None)
            mark = look.mark
            if self.lease is None or mode == "join":
                creation = self._join(key, look)
            elif mark is not None and mark.holder == holder:
                # The store wrote it and its response was lost on the way.
                creation = self._creation(key, look, mark)
            elif mode == "hold" and self.is_taken(mark):
                return Begun(look.entry, None, taken=True)
            else:
                creation = self._hold_if_possible(key, look, holder)
            if creation is not None:
                return Begun(look.entry, creation)
            look = self.look(key)
        return Begun(look.entry, Unmarked())

    def restart(self, key: str) -> Begun:
        """A creation that voids those in flight (``refresh``). The present value stays until it is stored.

        Raises StoreUnavailable: those in flight are not voided then.
        """
        holder = self.token()
        for _ in range(_ROUNDS):
            look = self.look(key)
            if look.mark is not None and look.mark.holder == holder:
                return Begun(look.entry, self._creation(key, look, look.mark))
            creation = self._hold(key, look, holder, self.token())
            if creation is not None:
                return Begun(look.entry, creation)
        self.store.delete(self.namespace, key)
        return Begun(None, Unmarked())

    def look(self, key: str) -> _Look:
        """What is stored under ``key``, by one read."""
        found = self.store.read(self.namespace, key)
        if found is None:
            return _Look()
        data, version = found
        entry, mark, old = self.codec.open(self.namespace, key, data)
        return _Look(entry, mark, version, old)

    def prolong(self, key: str, entry: Entry, later: Entry) -> None:
        """Put ``later`` in the place of ``entry``, which was read, if the record has not changed since."""
        look = self.look(key)
        found = look.entry
        if found is None or look.mark is not None or (found.stored, found.expires) != (entry.stored, entry.expires):
            return
        data = self.codec.encode(self.namespace, key, later)
        if self.store.replace(self.namespace, key, data, look.version, ttl=self.keep(later)) and self.tally is not None:
            self.tally.bytes_written += len(data)

    def is_taken(self, mark: Mark | None) -> bool:
        """Whether another creation holds the key alone, by a mark that was read."""
        return self.lease is not None and mark is not None and mark.is_held(self.clock(), self.lease.ttl)

    # Marking

    def _join(self, key: str, look: _Look) -> Creation | None:
        if look.mark is not None:
            return _StoredCreation(self, key, look.entry, look.mark.epoch)
        if look.version is not None:
            return _StoredCreation(self, key, look.entry, version=look.version)
        mark = Mark(self.token(), self.token(), 0.0)
        put = self._put(key, look, mark)
        return self._creation(key, look, mark, put) if put else None

    def _hold_if_possible(self, key: str, look: _Look, holder: bytes) -> Creation | None:
        try:
            creation = self._hold(key, look, holder, self.token() if look.mark is None else look.mark.epoch)
        except StoreUnavailable as err:
            return self._unavailable(err)
        self._warned = False
        if creation is not None and look.mark is not None:
            counters.count("lock_takeover")
        return creation

    def _hold(self, key: str, look: _Look, holder: bytes, epoch: bytes) -> Creation | None:
        lease = self.lease
        mark = Mark(epoch, holder, 0.0 if lease is None else self.clock() + lease.ttl)
        creation = self._creation(key, look, mark)
        try:
            put = self._put(key, look, mark)
            if not put:
                return None
            creation.marked(put)
            if lease is not None and lease.renew:
                creation.keep_alive(lease)
        except Exception:
            raise
        except BaseException:
            # From outside, as a greenlet is killed while it waits for the store, which may have written the mark.
            creation.abandon()
            raise
        return creation

    def _creation(self, key: str, look: _Look, mark: Mark, put: bool | Written = True) -> _StoredCreation:
        return _StoredCreation(self, key, look.entry, mark.epoch, holder=mark.holder, marked=version_of(put))

    def _unavailable(self, error: StoreUnavailable) -> Creation:
        counters.count("lease_unavailable")
        if not self._warned:
            self._warned = True
            log.warning("creating without a lease, the store does not respond: %s", error)
        return Unmarked()

    def _put(self, key: str, look: _Look, mark: Mark) -> bool | Written:
        try:
            return self.write_mark(key, look, mark)
        except ValueTooLarge:
            # The old value with a mark around it is too large: then it is not served meanwhile.
            return bool(look.old) and self.write_mark(key, look._replace(entry=None, old=b""), mark)

    def write_mark(self, key: str, look: _Look, mark: Mark) -> bool | Written:
        """Put ``mark`` around what was looked at. ``False``: it was changed meanwhile."""
        data = self.codec.encode_mark(self.namespace, key, mark, look.old, self.clock())
        kept = 0.0 if look.entry is None else self.keep(look.entry)
        ttl = None if kept is None else max(_LIFE, kept)
        if look.version is None:
            return self.store.insert(self.namespace, key, data, ttl=ttl)
        return self.store.replace(self.namespace, key, data, look.version, ttl=ttl)


class _StoredCreation:
    """Goes by ``version``, that of an old value, or else by the mark of ``epoch``, which it may have set itself
    (``holder``). ``marked``: the version of the record with its mark, which only spares a read."""

    def __init__(
        self,
        marks: StoredMarks,
        key: str,
        old: Entry | None,
        epoch: bytes = b"",
        *,
        version: Hashable = None,
        holder: bytes | None = None,
        marked: Hashable = None,
    ) -> None:
        self._marks = marks
        self._key = key
        self._old = old
        self._epoch = epoch
        self._version = version
        self._holder = holder
        self._marked = marked
        self._ended = False
        self._process = this_process()
        self.record: bytes | None = None
        """What it has stored."""
        self._stop: Flag | None = None

    def marked(self, put: bool | Written) -> None:
        """Its mark is there, as ``put`` says."""
        self._marked = version_of(put)

    def __repr__(self) -> str:
        return f"<creation by {'version' if self._version is not None else 'mark'}>"

    def store(self, entry: Entry) -> bool:
        marks = self._marks
        self.record = data = marks.codec.encode(marks.namespace, self._key, entry)
        self._stop_renewing()
        done = self._replace(data, marks.keep(entry))
        self._ended = True
        if not done:
            counters.count("creation_voided")
        elif marks.tally is not None:
            marks.tally.bytes_written += len(data)
        return done

    def abandon(self, *, drop: bool = False) -> bool:
        self._stop_renewing()
        if self._ended or self._process is not this_process():
            return False
        self._ended = True
        try:
            return self._give_up(drop)
        except StoreError as err:
            log.warning("a mark was not taken away, it will run out: %s", err)
            return False
        except Exception:
            raise
        except BaseException:
            # From outside, perhaps before the store was told.
            with suppress(Exception):
                self._give_up(drop)
            raise

    def _replace(self, data: bytes, ttl: float | None) -> bool:
        marks = self._marks
        if self._version is not None:
            return bool(marks.store.replace(marks.namespace, self._key, data, self._version, ttl=ttl))
        marked, self._marked = self._marked, None
        if marked is not None and marks.store.replace(marks.namespace, self._key, data, marked, ttl=ttl):
            return True
        # Not voided yet: another creation may go on beside this one, or a lease was prolonged.
        for _ in range(_ROUNDS):
            look = self._find()
            if look is None:
                return False
            if marks.store.replace(marks.namespace, self._key, data, look.version, ttl=ttl):
                return True
        return False

    def _find(self) -> _Look | None:
        """The record without its entry; ``None`` when this creation was voided."""
        marks = self._marks
        found = marks.store.read(marks.namespace, self._key)
        if found is None:
            return None
        data, version = found
        if self._version is not None:
            return _Look(version=version) if version == self._version else None
        mark, old = marks.codec.mark_in(marks.namespace, self._key, data)
        return None if mark is None or mark.epoch != self._epoch else _Look(None, mark, version, old)

    def _give_up(self, drop: bool) -> bool:
        look = self._find()
        if look is None:
            return False
        # Where another took over it goes on, under its own mark; so do those beside this one.
        mine = look.mark is not None and look.mark.holder == self._holder
        if drop or (mine and not look.old):
            self._marks.store.remove(self._marks.namespace, self._key, look.version)
        elif mine:
            self._restore(look)
        return True

    def _restore(self, look: _Look) -> None:
        marks, old = self._marks, self._old
        ttl = 0.0 if old is None else marks.keep(old)
        marks.store.replace(marks.namespace, self._key, look.old, look.version, ttl=ttl)

    # The lease

    def keep_alive(self, lease: Lease) -> None:
        """Prolong the lease by a thread, if one can be had, until the creation ends or ``lease.limit`` is reached."""
        self._stop = Flag()
        background.begin("beaker-lease", partial(self._prolong, lease, self._stop))

    def _prolong(self, lease: Lease, stop: Flag) -> None:
        begun = time.monotonic()
        while not stop.wait(lease.ttl / 3):
            left = lease.ttl if lease.limit is None else begun + lease.limit - time.monotonic()
            if left <= 0:
                return
            try:
                if not self._renew(min(lease.ttl, left)):
                    return
            except Exception as err:
                # The next turn tries again; when none succeeds the lease runs out, as it should.
                log.warning("a lease was not prolonged: %s", err)

    def _renew(self, seconds: float) -> bool:
        marks = self._marks
        look = marks.look(self._key)
        mark = look.mark
        if mark is None or mark.epoch != self._epoch or mark.holder != self._holder:
            return False
        until = max(mark.until, marks.clock() + seconds)
        done = marks.write_mark(self._key, look, mark._replace(until=until))
        self._marked = version_of(done)
        return bool(done)

    def _stop_renewing(self) -> None:
        if self._stop is not None:
            self._stop.set()
            self._stop = None
