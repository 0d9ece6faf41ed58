"""One creator per key: the dogpile algorithm, free of storage, threads and globals.

=============  ==================================================================================
the entry is   what happens
=============  ==================================================================================
fresh          it is returned, after one read
old            the call that gets the lock at once creates; other calls return the old value meanwhile
absent         one call creates; other calls wait for it, ``lock_timeout`` seconds at most, then create
=============  ==================================================================================

The call that gets the lock reads again before it creates. A creation that raises writes nothing; its exception
reaches the caller of the creator and those that waited for it, who do not try one after another.
:class:`Freshness` changes what happens to the old.
"""

from __future__ import annotations

import inspect
import logging
import math
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from beaker import counters
from beaker._typing import MISSING, Clock, MissingType
from beaker.exceptions import ConfigError, CreationAbortedError
from beaker.locking.factories import Lock, PollingLock, poll

__all__ = ["CachedValue", "Freshness", "freshness_of", "get_or_create"]

log = logging.getLogger("beaker.cache")

T = TypeVar("T")


class CachedValue(Protocol):
    """What ``read`` returns; :class:`beaker.caching.entry.Entry` is one. Times are seconds since the epoch."""

    @property
    def value(self) -> Any: ...

    @property
    def stored(self) -> float: ...

    @property
    def expires(self) -> float | None:
        """``None``: never."""
        ...

    @property
    def cost(self) -> float:
        """Seconds its creation took; 0 when not known."""
        ...

    def is_fresh(self, now: float, starttime: float | None = None) -> bool: ...


@dataclass(frozen=True)
class Freshness:
    """What to do with values near and after their expiry. ConfigError for values outside the limits."""

    on_expired: Literal["serve_stale", "wait", "recompute"] = "serve_stale"
    """``serve_stale``: one call creates, other calls return the old value. ``wait``: they wait for the new one.
    ``recompute``: each creates for itself, at once."""
    stale_if_error: float | None = None
    """Return the old value when creation raises, until this many seconds after its expiry; counted as
    ``stale_served`` and logged. ``None``: the exception is raised."""
    jitter: float = 0.0
    """0 to 1: the fraction of their expiry by which values may expire sooner, at random, so that what was
    stored together does not expire together. The writer applies it, by :meth:`jittered`."""
    early: float = 0.0
    """Factor of early refresh (XFetch: Vattani, Chierichetti, Lowenstein 2015); 1 is theirs, 0 is off. Each
    reader may refresh a fresh value, the likelier the nearer the expiry and the more expensive its creation was."""

    def __post_init__(self) -> None:
        if self.on_expired not in ("serve_stale", "wait", "recompute"):
            raise ConfigError("no such policy", option="on_expired", expected="serve_stale, wait or recompute")
        if not 0 <= self.jitter <= 1:
            raise ConfigError("jitter is a fraction", option="jitter", expected="0 to 1")
        if self.stale_if_error is not None and not self.stale_if_error >= 0:
            raise ConfigError("stale_if_error is a time", option="stale_if_error", expected="seconds, 0 or more")
        if not self.early >= 0:
            raise ConfigError("early is a factor", option="early", expected="0 or more")

    def jittered(self, expire: float | None, rng: Callable[[], float] = random.random) -> float | None:
        """``expire`` seconds less its share of chance; ``None`` stays ``None``."""
        if expire is None or not self.jitter:
            return expire
        return expire * (1.0 - self.jitter * rng())

    def is_due_early(self, entry: CachedValue, now: float, rng: Callable[[], float] = random.random) -> bool:
        """Whether this reader shall refresh the fresh ``entry`` now."""
        expires = entry.expires
        if not self.early or expires is None:
            return False
        # rng may be 0 but not 1, and the logarithm of 0 is not a number.
        return now - entry.cost * self.early * math.log(1.0 - rng()) >= expires

    def covers_error(self, entry: CachedValue, now: float) -> bool:
        """Whether the old ``entry`` may be returned in place of an exception."""
        expires = entry.expires
        return self.stale_if_error is not None and (expires is None or now - expires < self.stale_if_error)


def freshness_of(options: Mapping[str, Any]) -> Freshness:
    """The expiry policy in ``on_expired``, ``stale_if_error``, ``jitter`` and ``early_refresh``."""
    stale = options.get("stale_if_error")
    return Freshness(
        on_expired=options.get("on_expired") or "serve_stale",
        stale_if_error=None if stale is None else float(stale),
        jitter=float(options.get("jitter") or 0.0),
        early=float(options.get("early_refresh") or 0.0),
    )


_DEFAULT = Freshness()


def get_or_create(
    read: Callable[[], CachedValue | None],
    write: Callable[[T, float], object],
    create: Callable[[], T],
    lock: Lock | Callable[[], Lock],
    *,
    clock: Clock,
    found: CachedValue | MissingType | None = MISSING,
    starttime: float | None = None,
    lock_timeout: float | None = 30.0,
    policy: Freshness = _DEFAULT,
    rng: Callable[[], float] = random.random,
) -> T:
    """The fresh value that ``read`` finds, or else what ``create`` returns and ``write`` stores.

    * ``read()``: the entry, or ``None``. ``found`` is what it returned a moment ago; that saves the first read.
    * ``write(value, cost)``: stores; ``cost`` is the seconds its creation took.
    * ``create()``: creates the value.
    * ``lock``: a lock, or a function that returns one, called only when it is wanted.
    * ``starttime``: entries stored before it (seconds since the epoch) count as absent.
    * ``lock_timeout``: seconds to wait for another creation before creating, ``None`` for no limit.

    Whatever ``read``, ``write`` and ``create`` raise is raised, with the lock released. ``stale_if_error``
    does not hide a ``CreationAbortedError``: it says that there is no value. An early refresh that fails is
    logged and the fresh value returned.
    """
    entry = read() if found is MISSING else found
    if entry is not None:
        now = clock()
        if entry.is_fresh(now, starttime):
            if not policy.early or not policy.is_due_early(entry, now, rng):
                value: T = entry.value
                return value
        elif starttime is not None and entry.stored < starttime:
            entry = None
    held = lock if not callable(lock) else lock()
    return _Turn(read, write, create, held, clock, starttime, lock_timeout, policy).take(entry)


class _Turn(Generic[T]):
    """One call that did not find a fresh value."""

    def __init__(
        self,
        read: Callable[[], CachedValue | None],
        write: Callable[[T, float], object],
        create: Callable[[], T],
        lock: Lock,
        clock: Clock,
        starttime: float | None,
        lock_timeout: float | None,
        policy: Freshness,
    ) -> None:
        self.read = read
        self.write = write
        self.create = create
        self.lock: Any = lock
        self.clock = clock
        self.starttime = starttime
        self.timeout = -1.0 if lock_timeout is None else min(max(lock_timeout, 0.0), threading.TIMEOUT_MAX)
        self.policy = policy
        self.failures: int | None = getattr(lock, "failures", None)
        self.found: CachedValue | None = None
        self.error: BaseException | None = None

    def take(self, old: CachedValue | None) -> T:
        early = old.stored if old is not None and self.is_fresh(old) else None
        if old is not None and (early is not None or self.policy.on_expired == "serve_stale"):
            if not self.lock.acquire(False):
                return self.value_of(old)
        elif old is not None and self.policy.on_expired == "recompute":
            return self.create_and_write(old, held=False)
        elif not self.wait():
            return self.without_lock()
        try:
            # Not `or old`: what was removed meanwhile must not come back in place of an exception.
            current = self.reread()
            # An early refresh wants a newer value than the fresh one it came for.
            if current is not None and self.is_fresh(current) and current.stored != early:
                return self.value_of(current)
            error = self.shared_error()
            if error is not None:
                return self.value_or_raise(current, error)
            return self.create_and_write(current, held=True)
        finally:
            self.lock.release()

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

    def without_lock(self) -> T:
        current = self.found or self.reread()
        if current is not None and self.is_fresh(current):
            return self.value_of(current)
        if self.error is not None:
            return self.value_or_raise(current, self.error)
        counters.count("creation_wait_timeout")
        return self.create_and_write(current, held=False)

    def reread(self) -> CachedValue | None:
        entry = self.read()
        too_old = entry is not None and self.starttime is not None and entry.stored < self.starttime
        return None if too_old else entry

    def is_fresh(self, entry: CachedValue) -> bool:
        return entry.is_fresh(self.clock(), self.starttime)

    def shared_error(self) -> BaseException | None:
        if self.failures is None or self.lock.failures == self.failures:
            return None
        error: BaseException | None = self.lock.error
        return error

    def create_and_write(self, old: CachedValue | None, *, held: bool) -> T:
        created = False
        try:
            begun = self.clock()
            value = self.create()
            created = True
            self.write(value, max(0.0, self.clock() - begun))
        except Exception as err:
            if held and self.failures is not None:
                self.lock.fail(err)
            if created:
                raise
            return self.value_or_raise(old, err)
        return value

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
                return self.value_of(old)
        raise error

    @staticmethod
    def value_of(entry: CachedValue) -> T:
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
