"""Creation locks: which thread or process may compute the value of a key.

A :class:`LockFactory` gives the lock of a (namespace, key). :class:`ThreadLocks` knows the threads of
this process, :class:`FileLocks` the processes of this machine; :class:`LayeredLocks` puts one in front of
another, so that of each process only one thread contends outside. Leases over a shared store are in
:mod:`beaker.storage.lease`. After :func:`os.fork` the child holds none of them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from functools import partial

from beaker import clock as _clock
from beaker import runtime
from beaker.exceptions import ConfigError
from beaker.forks import ForkAware
from beaker.locking.api import Lock, LockFactory, PollingLock, poll
from beaker.locking.creation import CreationLock, LayeredLock
from beaker.locking.files import LockedFile, lock_file, lock_unavailable, stripe_of, unlock_file
from beaker.locking.registries import SyncDict, WeakValuedRegistry
from beaker.paths import expect_directory

__all__ = [
    "CreationLock",
    "FileLocks",
    "LayeredLock",
    "LayeredLocks",
    "Lock",
    "LockFactory",
    "NullLock",
    "NullLocks",
    "PollingLock",
    "ThreadLocks",
    "poll",
]


class NullLock:
    """Excludes no one."""

    thread_bound = False

    def acquire(self, wait: bool = True, timeout: float = -1) -> bool:
        return True

    def release(self) -> None:
        """Nothing was taken."""


class NullLocks:
    """Excludes no one: every caller may create."""

    def creation(self, namespace: str, key: str) -> Lock:
        return NullLock()


class _CreationLocks(WeakValuedRegistry[tuple[str, str], CreationLock]):
    """Registered for forks in place of its locks: each lives for one creation only, and would pay for it."""

    def _after_fork(self) -> None:
        super()._after_fork()
        for lock in list(self.dict.values()):
            lock._after_fork()

    def _renew_locks(self) -> None:
        super()._renew_locks()
        for lock in list(self.dict.values()):
            lock._renew_locks()


class ThreadLocks:
    """One :class:`CreationLock` per (namespace, key) while it is referred to."""

    def __init__(self) -> None:
        self._locks = _CreationLocks()

    def creation(self, namespace: str, key: str) -> CreationLock:
        # Mostly there is none yet: it is not looked for first without the registry's lock.
        return self._locks.sync_get((namespace, key), CreationLock, self._locks)


class LayeredLocks:
    """Locks of ``first`` in front of those of ``second``; ``first`` should be :class:`ThreadLocks`."""

    def __init__(self, first: LockFactory, second: LockFactory) -> None:
        self.first = first
        self.second = second

    def creation(self, namespace: str, key: str) -> LayeredLock:
        return LayeredLock(self.first.creation(namespace, key), self.second.creation(namespace, key))


class _Stripe(ForkAware):
    """This process's share in one lock file: taken with the first of its keys, given up with the last."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._after_fork()
        super().__init__()

    def _after_fork(self) -> None:
        self._renew_locks()
        self._users: set[object] = set()
        self._file: LockedFile | None = None

    def _renew_locks(self) -> None:
        self._mutex = threading.Lock()

    def join(self, user: object) -> bool:
        with self._mutex:
            if not self._users:
                try:
                    self._file = lock_file(self._path, exclusive=True, wait=False)
                except OSError as err:
                    raise lock_unavailable(self._path, err) from err
                if self._file is None:
                    return False
            self._users.add(user)
            return True

    def leave(self, user: object) -> None:
        """Give up what ``user`` may have; a second call does nothing."""
        with self._mutex:
            self._users.discard(user)
            if not self._users and self._file is not None:
                unlock_file(self._file)
                self._file = None


class _FileLock(ForkAware):
    poll_interval = 0.05
    thread_bound = False

    def __init__(self, stripe: _Stripe, sleep: Callable[[float], None], timer: Callable[[], float]) -> None:
        self._stripe = stripe
        self._sleep = sleep
        self._timer = timer
        self._held = False
        super().__init__()

    def _after_fork(self) -> None:
        self._held = False

    def acquire(self, wait: bool = True, timeout: float = -1) -> bool:
        return self._poll(None, timeout if wait else 0)

    def acquire_unless(self, done: Callable[[], bool], timeout: float = -1) -> bool:
        return self._poll(done, timeout)

    def _poll(self, done: Callable[[], bool] | None, timeout: float) -> bool:
        try:
            self._held = poll(
                partial(self._stripe.join, self),
                timeout=timeout,
                done=done,
                ceiling=self.poll_interval,
                timer=self._timer,
                sleep=self._sleep,
            )
            return self._held
        except BaseException:
            # It may have come from outside, with the file locked already.
            self._held = False
            self._stripe.leave(self)
            raise

    def release(self) -> None:
        # Not held: the parent took it before a fork, and it stays the parent's.
        if self._held:
            self._stripe.leave(self)
            self._held = False


class _Directory:
    """The locks of one lock directory, shared by all factories of this process that name it."""

    def __init__(self) -> None:
        self.threads = ThreadLocks()
        self.stripes: SyncDict[str, _Stripe] = SyncDict()


_directories: WeakValuedRegistry[tuple[str, int], _Directory] = WeakValuedRegistry()


class FileLocks:
    """Locks among the processes that share ``lock_dir``: threads first, then ``flock``.

    Keys are spread over ``stripes`` files (1 to 256), created when first taken, never unlinked. In one process
    different keys never wait for each other; two processes may, when their keys share a file. The kernel
    frees the locks of a process that dies. Waiting is by polling, at most 50 ms apart.
    ``file_locks=False``, the default where the runtime has no shared disk, locks threads only and touches no
    file. Raises ConfigError when ``lock_dir`` is a file, and StoreUnavailable at an acquisition when the directory or
    a file in it cannot be created or opened.
    """

    def __init__(
        self,
        lock_dir: str | os.PathLike[str],
        stripes: int = 256,
        *,
        file_locks: bool | None = None,
        sleep: Callable[[float], None] = _clock.sleep,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 1 <= stripes <= 256:
            raise ConfigError("too few or too many lock files", option="stripes", expected="1 to 256")
        self._path = os.path.abspath(lock_dir)
        self._stripes = stripes
        self._use_files = runtime.current().file_locks if file_locks is None else file_locks
        if self._use_files:
            expect_directory(self._path, "lock_dir")
        self._directory = _directories.get((self._path, stripes), _Directory)
        self._sleep = sleep
        self._timer = timer

    def creation(self, namespace: str, key: str) -> Lock:
        first = self._directory.threads.creation(namespace, key)
        if not self._use_files:
            return first
        # The namespace's length marks the seam: ("a", "bc") is not ("ab", "c").
        number = stripe_of(f"{len(namespace)}:{namespace}{key}", self._stripes)
        path = os.path.join(self._path, f"creation-{number:02x}.lock")
        stripe = self._directory.stripes.get(path, _Stripe, path)
        return LayeredLock(first, _FileLock(stripe, self._sleep, self._timer), self._timer)
