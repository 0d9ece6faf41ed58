"""One creator per key: the dogpile algorithm, free of storage, threads and globals.

=============  ==================================================================================
the entry is   what happens
=============  ==================================================================================
fresh          it is returned, after one read
old            the call that gets the lock at once creates; other calls return the old value meanwhile
absent         one call creates; other calls wait for it, ``lock_timeout`` seconds at most, then create
=============  ==================================================================================

A creation begins with a mark (:mod:`beaker.caching.marks`) and stores only while that is there: what is removed or
written meanwhile voids it, and its value reaches its caller only. The call that gets the lock reads again before it
creates, or learns by its mark that nothing was there.

A creation that raises writes nothing; its exception reaches the caller of the creator and those that waited for it, who
do not try one after another. One that was voided keeps it to itself: those that wait may have come after what voided
it. One that hangs is replaced by another call after ``lock_timeout`` seconds.
:class:`Freshness` changes what happens to the old.
"""

from __future__ import annotations

import inspect
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from beaker import counters
from beaker._typing import MISSING, Clock, MissingType
from beaker.caching.freshness import CachedValue, Freshness, freshness_of
from beaker.caching.marks import Begun, Creation, Mode
from beaker.counters.tallies import CacheTally
from beaker.exceptions import CreationAbortedError
from beaker.locking.factories import Lock, PollingLock, poll

__all__ = ["CachedValue", "Freshness", "Place", "freshness_of", "get_or_create"]

log = logging.getLogger("beaker.cache")

T = TypeVar("T")
_PAUSE = 0.1
"""Seconds between two looks at most, for a creation of another process."""


class Place(Protocol):
    """Where the value of one key is kept."""

    def read(self) -> CachedValue | None:
        """The entry, or ``None``."""
        ...

    def begin(self, good: Callable[[Any], bool], *, absent: bool, mode: Mode) -> Begun:
        """Begin a creation, unless there is an entry that is ``good``, or another has the key alone.

        ``absent``: :meth:`read` found nothing a moment ago.
        """
        ...

    def store(self, creation: Creation, value: Any, cost: float) -> object:
        """Store what ``creation`` created in ``cost`` seconds, unless it was voided."""
        ...

    def is_taken(self, entry: CachedValue) -> bool:
        """Whether another creation has the key alone, as far as ``entry`` shows."""
        ...

    def is_overdue(self, entry: CachedValue) -> bool:
        """Whether this call, which would return the old ``entry``, shall create in place of the creation in flight."""
        ...


_DEFAULT = Freshness()


class _Times(NamedTuple):
    clock: Clock
    timer: Callable[[], float]
    starttime: float | None
    timeout: float


def get_or_create(
    place: Place,
    create: Callable[[], T],
    lock: Lock | Callable[[], Lock],
    *,
    clock: Clock,
    timer: Callable[[], float] = time.monotonic,
    found: CachedValue | MissingType | None = MISSING,
    starttime: float | None = None,
    lock_timeout: float | None = 30.0,
    policy: Freshness = _DEFAULT,
    rng: Callable[[], float] = random.random,
    tally: CacheTally | None = None,
) -> T:
    """The fresh value in ``place``, or else what ``create`` returns, stored there.

    * ``create()``: creates the value.
    * ``lock``: a lock, or a function that returns one, called only when it is wanted.
    * ``found``: what ``place.read()`` returned a moment ago; that saves the first read.
    * ``starttime``: entries stored before it (seconds since the epoch) count as absent.
    * ``lock_timeout``: seconds to wait for another creation before creating, ``None`` for no limit.
    * ``clock`` says what is fresh, ``timer`` how long something took.
    * ``tally``: where the call is counted.

    Whatever ``place`` and ``create`` raise is raised, with the lock released. ``stale_if_error``
    does not hide a ``CreationAbortedError``: it says that there is no value. An early refresh that fails is
    logged and the fresh value returned.
    """
    entry = place.read() if found is MISSING else found
    absent = entry is None
    if tally is None:
        tally = CacheTally("", "")
    if entry is None:
        tally.missed()
    else:
        now = clock()
        if entry.is_fresh(now, starttime):
            tally.hits += 1
            if not policy.early or not policy.is_due_early(entry, now, rng):
                value: T = entry.value
                return value
        else:
            tally.missed()
            if starttime is not None and entry.stored < starttime:
                entry = None
    held = lock if not callable(lock) else lock()
    timeout = -1.0 if lock_timeout is None else min(max(lock_timeout, 0.0), threading.TIMEOUT_MAX)
    return _Turn(place, create, held, _Times(clock, timer, starttime, timeout), policy, tally).take(entry, absent)


class _Turn(Generic[T]):
    """One call that did not find a fresh value."""

    def __init__(
        self,
        place: Place,
        create: Callable[[], T],
        lock: Lock,
        times: _Times,
        policy: Freshness,
        tally: CacheTally,
    ) -> None:
        self.place = place
        self.create = create
        self.lock: Any = lock
        self.clock, self.timer, self.starttime, self.timeout = times
        self.policy = policy
        self.tally = tally
        self.has_waited = False
        self.failures: int | None = getattr(lock, "failures", None)
        self.early: float | None = None
        self.found: CachedValue | None = None
        self.error: BaseException | None = None

    def take(self, old: CachedValue | None, absent: bool) -> T:
        if old is not None and self.is_fresh(old):
            # An early refresh wants a newer value than the fresh one it came for.
            self.early = old.stored
        if old is not None and self.may_return(old):
            if self.place.is_taken(old) or not self.lock.acquire(False):
                return self.create_beside("seize") if self.is_overdue(old) else self.old_value(old)
        elif old is not None and self.policy.on_expired == "recompute":
            return self.create_beside("join")
        elif not self.lock.acquire(False):
            absent = False
            self.note_wait()
            if not self.wait():
                return self.without_lock()
        try:
            return self.with_lock(absent)
        finally:
            self.lock.release()

    def note_wait(self) -> None:
        if not self.has_waited:
            self.has_waited = True
            self.tally.waited()

    def wait(self) -> bool:
        if isinstance(self.lock, PollingLock):
            return self.lock.acquire_unless(self.is_settled, self.timeout)
        if self.timeout < 0:
            taken: bool = self.lock.acquire(True)
        elif _takes_timeout(self.lock.acquire):
            taken = self.lock.acquire(True, self.timeout)
        else:
            taken = poll(lambda: self.lock.acquire(False), timeout=self.timeout, done=self.is_settled)
        return taken

    def is_settled(self) -> bool:
        """Asked between two tries for a lock outside this process: whether it is not needed any more."""
        current = self.reread()
        if current is not None and self.is_fresh(current):
            self.found = current
        else:
            self.error = self.shared_error()
        return self.found is not None or self.error is not None

    def with_lock(self, absent: bool) -> T:
        error = self.shared_error()
        if error is not None:
            current = self.reread()
            return self.value_of(current) if self.is_good(current) else self.value_or_raise(current, error)
        begun = self.place.begin(self.is_good, absent=absent, mode="hold")
        if begun.taken:
            return self.beside_another(begun)
        return self.finish(begun, held=True)

    def beside_another(self, begun: Begun) -> T:
        """Another process has the key alone: return the old value, or wait for the new one."""
        old = None if self.is_hidden(begun.entry) else begun.entry
        if old is not None and self.may_return(old):
            return self.create_beside("seize") if self.is_overdue(old) else self.old_value(old)
        if old is not None and self.policy.on_expired == "recompute":
            return self.create_beside("join")
        latest = [begun]
        self.note_wait()

        def settled() -> bool:
            latest[0] = self.place.begin(self.is_good, absent=False, mode="hold")
            return not latest[0].taken

        if poll(settled, timeout=self.timeout, ceiling=_PAUSE):
            return self.finish(latest[0], held=True)
        counters.count("creation_wait_timeout")
        return self.create_beside("join", held=True)

    def without_lock(self) -> T:
        if self.found is not None:
            return self.value_of(self.found)
        if self.error is not None:
            return self.value_or_raise(self.reread(), self.error)
        begun = self.place.begin(self.is_good, absent=False, mode="join")
        if begun.creation is not None:
            counters.count("creation_wait_timeout")
        return self.finish(begun, held=False)

    def create_beside(self, mode: Mode, *, held: bool = False) -> T:
        return self.finish(self.place.begin(self.is_good, absent=False, mode=mode), held=held)

    def finish(self, begun: Begun, *, held: bool) -> T:
        if begun.creation is None:
            return self.value_of(begun.entry)
        # Not what was found before: what was removed meanwhile must not come back in place of an exception.
        old = None if self.is_hidden(begun.entry) else begun.entry
        return self.create_and_store(begun.creation, old, held=held)

    def create_and_store(self, creation: Creation, old: CachedValue | None, *, held: bool) -> T:
        cost: float | None = None
        begun = self.timer()
        try:
            value = self.create()
            cost = max(0.0, self.timer() - begun)
            self.tally.created(cost)
            self.place.store(creation, value, cost)
        except BaseException as err:
            self.tally.failed(max(0.0, self.timer() - begun) if cost is None else None)
            intact = creation.abandon()
            if not isinstance(err, Exception):
                raise
            if held and intact and self.failures is not None:
                self.lock.fail(err)
            if cost is not None:
                raise
            return self.value_or_raise(old, err)
        return value

    # What is known of an entry

    def reread(self) -> CachedValue | None:
        entry = self.place.read()
        return None if self.is_hidden(entry) else entry

    def is_hidden(self, entry: CachedValue | None) -> bool:
        return entry is not None and self.starttime is not None and entry.stored < self.starttime

    def is_fresh(self, entry: CachedValue) -> bool:
        return entry.is_fresh(self.clock(), self.starttime)

    def is_good(self, entry: CachedValue | None) -> bool:
        return entry is not None and self.is_fresh(entry) and entry.stored != self.early

    def may_return(self, old: CachedValue) -> bool:
        """Whether ``old`` may be returned while another call creates."""
        return self.early is not None or self.policy.serves(old, self.clock())

    def is_overdue(self, old: CachedValue) -> bool:
        return self.early is None and self.place.is_overdue(old)

    def shared_error(self) -> BaseException | None:
        if self.failures is None or self.lock.failures == self.failures:
            return None
        error: BaseException | None = self.lock.error
        return error

    def value_or_raise(self, old: CachedValue | None, error: BaseException) -> T:
        """The old value in place of ``error``, where the policy says so; else raises ``error``."""
        if old is not None:
            if self.is_fresh(old):
                counters.count("early_refresh_failed")
                log.warning("early refresh of a cached value failed: %s", type(error).__name__)
                return self.value_of(old)
            if not isinstance(error, CreationAbortedError) and self.policy.covers_error(old, self.clock()):
                counters.count("stale_served")
                log.warning("an expired value is served, its creation failed: %s", type(error).__name__)
                return self.old_value(old)
        raise error

    def old_value(self, old: Any) -> T:
        """The value of an entry that was the old one when the call began: expired, unless the refresh is early."""
        if self.early is None:
            self.tally.served_stale()
        return self.value_of(old)

    @staticmethod
    def value_of(entry: Any) -> T:
        value: T = entry.value
        return value


def _takes_timeout(acquire: Callable[..., Any]) -> bool:
    # The manual's creation locks know acquire(wait) only; locks written in C do not say.
    try:
        inspect.signature(acquire).bind(True, 1.0)
    except TypeError:
        return False
    except ValueError:
        return True
    return True
