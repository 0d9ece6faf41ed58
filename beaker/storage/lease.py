"""Leases: creation locks kept in a store, for processes and hosts that share nothing else.

A lease is a record with its owner's random token and the second it runs out. It is taken by inserting
the record, or by replacing one that ran out (its owner died, or lost the store); it is released by
removing the record only while it is still one's own. A lease is not a fence: an owner that outlives its
lease works beside the next one, so what it protects must bear being done twice, as computing a cached
value does. The clocks of the hosts should agree within a second or so; the record itself also leaves
the store one second after the lease ran out, by the store's own clock. A lease that ends over a minute later than
one that begins now was taken by a clock that was ahead, and counts as run out.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
import secrets
import struct
import threading
import time
import weakref
from collections.abc import Callable, Hashable
from contextlib import suppress
from functools import partial

from beaker import clock as _clock
from beaker import counters, runtime
from beaker._typing import Clock
from beaker.exceptions import ConfigError, StoreUnavailable
from beaker.forks import ForkAware
from beaker.locking import background
from beaker.locking.api import poll
from beaker.locking.flag import Flag
from beaker.storage.api import Versioned, Written, version_of

__all__ = ["Lease", "LeaseLocks"]

log = logging.getLogger("beaker.lease")

_UNTIL = struct.Struct(">d")
_TOKEN = 16
_SLACK = 1.0
_AHEAD = 60.0


class LeaseLocks:
    """Creation locks by leases of ``ttl`` seconds in ``store``, namespace ``lease:<namespace>``.

    ``renew=True`` prolongs a lease that is held, every third of its ttl, by a daemon thread; without it
    ``ttl`` must be longer than any creation takes. The default is what the runtime allows: a frozen
    serverless instance runs no threads between requests. A store that does not respond
    (:class:`~beaker.exceptions.StoreUnavailable`) when a lease is wanted lets every caller create, with one
    warning until it responds again: a cache must not be down because its locks are.

    ``clock`` is what the hosts agree on, ``timer`` what waiting is measured by; both are seconds. Put
    :class:`~beaker.locking.factories.ThreadLocks` in front by :class:`~beaker.locking.factories.LayeredLocks`.
    """

    def __init__(
        self,
        store: Versioned,
        *,
        ttl: float = 30.0,
        clock: Clock = _clock.now,
        sleep: Callable[[float], None] = _clock.sleep,
        rng: Callable[[], float] = random.random,
        timer: Callable[[], float] = time.monotonic,
        renew: bool | None = None,
    ) -> None:
        if not ttl > 0:
            raise ConfigError("a lease must last", option="ttl", expected="seconds over 0")
        self.store = store
        self.ttl = ttl
        self.clock = clock
        self.sleep = sleep
        self.rng = rng
        self.timer = timer
        self.renew = runtime.current().background_threads if renew is None else renew
        self._warned = False

    def creation(self, namespace: str, key: str) -> Lease:
        return Lease(self, f"lease:{namespace}", key)

    def unavailable(self, error: StoreUnavailable) -> None:
        """Count a lease that could not be asked for; the first of a row is logged."""
        counters.count("lease_unavailable")
        if not self._warned:
            self._warned = True
            log.warning("creating without a lease, the store does not respond: %s", error)

    def answered(self) -> None:
        """The store works: the next failure is news again."""
        self._warned = False


class Lease(ForkAware):
    """One lease, not held until :meth:`acquire`. Use an object of your own per thread that wants it."""

    poll_interval = 0.1
    """Seconds between two tries at most."""

    def __init__(self, locks: LeaseLocks, namespace: str, key: str) -> None:
        self._locks = locks
        self._namespace = namespace
        self._key = key
        self._after_fork()
        super().__init__()

    def _after_fork(self) -> None:
        # Without the token a child can neither renew nor remove what its parent holds.
        self._token: bytes | None = None
        self._version: Hashable = None
        self._stop: Flag | None = None
        self._renew_locks()

    def _renew_locks(self) -> None:
        self._mutex = threading.Lock()

    @property
    def held(self) -> bool:
        """Taken and not given up; it may have run out all the same (:meth:`renew` asks the store)."""
        return self._token is not None

    def acquire(self, wait: bool = True, timeout: float = -1) -> bool:
        """Take it; ``False`` when it is not free now, or within ``timeout`` seconds (-1: no limit)."""
        return self._acquire(None, timeout if wait else 0)

    def acquire_unless(self, done: Callable[[], bool], timeout: float = -1) -> bool:
        """See :class:`beaker.locking.factories.PollingLock`."""
        return self._acquire(done, timeout)

    def _acquire(self, done: Callable[[], bool] | None, timeout: float) -> bool:
        locks = self._locks
        end = math.inf if timeout <= 0 else locks.timer() + timeout + self.poll_interval
        return poll(
            self.tries(end),
            timeout=timeout,
            done=done,
            ceiling=self.poll_interval,
            timer=locks.timer,
            sleep=locks.sleep,
            rng=locks.rng,
        )

    def tries(self, end: float = math.inf) -> Callable[[], bool]:
        """A function that tries once at each call and returns what :meth:`acquire` would, for a caller that waits by
        itself. After ``end``, by the timer, a try begins no further write: each call of a slow store takes its time."""
        token = secrets.token_bytes(_TOKEN)
        tries = itertools.count()

        def attempt() -> bool:
            try:
                if not self._take(token, end, inserting=next(tries) == 0):
                    return False
                self._hold(token)
            except StoreUnavailable as err:
                self._locks.unavailable(err)
            except Exception:
                raise
            except BaseException:
                # From outside, as a greenlet is killed while it waits for the store, which may have written it.
                self._token, self._version = token, None
                self.release()
                raise
            return True

        return attempt

    def _hold(self, token: bytes) -> None:
        locks = self._locks
        locks.answered()
        self._token = token
        if locks.renew:
            self._stop = Flag()
            # Weakly: a lease whose holder was aborted before it could release must run out, not be renewed for ever.
            # Where no thread can be had it lasts for its ttl.
            background.begin("beaker-lease", partial(_keep, weakref.ref(self), token, self._stop, locks.ttl / 3))

    def _take(self, token: bytes, end: float, *, inserting: bool) -> bool:
        store, timer = self._locks.store, self._locks.timer
        # Waiting costs a read a try, not a refused write.
        if inserting and self._insert(token):
            return True
        found = store.read(self._namespace, self._key)
        if found is None:
            return timer() <= end and self._insert(token)
        data, version = found
        if data[:_TOKEN] == token:
            # The store wrote it and its response was lost on the way.
            return True
        if self._runs(_until(data)) or timer() > end:
            return False
        if not self._replace(token, version):
            return False
        counters.count("lock_takeover")
        return True

    def _runs(self, until: float) -> bool:
        now = self._locks.clock()
        return now < until <= now + self._locks.ttl + _AHEAD

    def _insert(self, token: bytes) -> bool:
        return self._noted(
            self._locks.store.insert(self._namespace, self._key, self._record(token), ttl=self._store_ttl)
        )

    def _replace(self, token: bytes, version: Hashable) -> bool:
        record, ttl = self._record(token), self._store_ttl
        return self._noted(self._locks.store.replace(self._namespace, self._key, record, version, ttl=ttl))

    def _noted(self, done: bool | Written) -> bool:
        """Note which version the lease has, where the store says so: what it is given back by without a read."""
        self._version = version_of(done)
        return bool(done)

    def _record(self, token: bytes) -> bytes:
        return token + _UNTIL.pack(self._locks.clock() + self._locks.ttl)

    @property
    def _store_ttl(self) -> float:
        return self._locks.ttl + _SLACK

    def _prolong(self, token: bytes) -> bool:
        """Renew what is still held by ``token``; whether to go on."""
        try:
            with self._mutex:
                return self._token == token and self._renew(token)
        except Exception as err:
            # The next turn tries again; when none succeeds the lease runs out, as it should.
            log.warning("a lease was not prolonged: %s", err)
            return True

    def renew(self) -> bool:
        """Start the ttl anew. ``False``: it ran out and is another's, or was never held.

        Raises StoreError as the store does.
        """
        with self._mutex:
            return self._token is not None and self._renew(self._token)

    def _renew(self, token: bytes) -> bool:
        if self._version is not None and self._replace(token, self._version):
            return True
        found = self._locks.store.read(self._namespace, self._key)
        if found is None:
            return self._insert(token)
        data, version = found
        return data[:_TOKEN] == token and self._replace(token, version)

    def release(self) -> None:
        """Give it up, unless it is another's by now. Never raises; what failed is logged."""
        with self._mutex:
            token, self._token = self._token, None
            if self._stop is not None:
                self._stop.set()
                self._stop = None
            if token is None:
                return
            try:
                self._remove(token)
            except Exception as err:
                log.warning("a lease was not given up, it will run out: %s", err)
            except BaseException:
                # From outside, perhaps before the store was told.
                with suppress(Exception):
                    self._remove(token)
                raise

    def _remove(self, token: bytes) -> None:
        store, version = self._locks.store, self._version
        if version is not None and store.remove(self._namespace, self._key, version):
            return
        found = store.read(self._namespace, self._key)
        if found is not None and found[0][:_TOKEN] == token:
            store.remove(self._namespace, self._key, found[1])


def _keep(lease: weakref.ref[Lease], token: bytes, stop: Flag, interval: float) -> None:
    while not stop.wait(interval):
        held = lease()
        if held is None or not held._prolong(token):
            return
        del held


def _until(data: bytes) -> float:
    # Bytes that are no lease of Beaker's cannot be waited for: they count as run out.
    if len(data) != _TOKEN + _UNTIL.size:
        return 0.0
    until: float = _UNTIL.unpack_from(data, _TOKEN)[0]
    return until
