"""Synchronizers: many readers or one writer, by name (manual 5.1.5).

Every synchronizer is re-entrant per thread: whoever writes may write or read again, whoever reads may
read again. A reader that asks to write gets :class:`~beaker.exceptions.LockError`, because two of them
would wait for each other without end. Requests are served in the order in which they came: none starves.

After :func:`os.fork` the child holds nothing: its locks are free, and releasing what the parent still
holds has no effect on the parent.
"""

from __future__ import annotations

import math
import os
import threading
from typing import Any

from beaker import runtime
from beaker.exceptions import LockError
from beaker.forks import ForkAware, notice_patch
from beaker.locking.files import stripe_of
from beaker.locking.readwrite import ReadWriteFile, ReadWriteQueue, SynchronizerImpl
from beaker.locking.registries import WeakValuedRegistry
from beaker.locking.turn import Turn

__all__ = [
    "ConditionSynchronizer",
    "FileSynchronizer",
    "NameLock",
    "NullSynchronizer",
    "SynchronizerImpl",
    "file_synchronizer",
    "mutex_synchronizer",
    "null_synchronizer",
]

_cores: WeakValuedRegistry[tuple[str, object], SynchronizerImpl] = WeakValuedRegistry()
_synchronizers = _cores
"""The older name of the registry of live synchronizers."""


class _Named(SynchronizerImpl):
    """A synchronizer whose state is shared by all of the same name."""

    def __init__(self, core: SynchronizerImpl) -> None:
        super().__init__()
        self._core = core

    def _acquire(self, writing: bool, wait: bool) -> bool:
        return self._core._acquire(writing, wait)

    def _release(self) -> None:
        self._core._release()

    def _depth(self) -> int:
        return self._core._depth()


class ConditionSynchronizer(_Named):
    """Many readers or one writer among the threads of this process.

    All synchronizers with an equal ``identifier`` (any hashable object) are one.
    """

    def __init__(self, identifier: object) -> None:
        super().__init__(_cores.get(("condition", identifier), ReadWriteQueue))


class FileSynchronizer(_Named):
    """Many readers or one writer among processes that share ``lock_dir``, by ``flock``.

    Identifiers are spread over :attr:`stripes` pairs of files (lock and gate: 256 files at most, created when
    first locked, never unlinked), so two of them may exclude each other without need. Therefore hold one at
    a time; a thread that holds two identifiers of one stripe is re-entrant, and LockError is raised where
    the first is held for reading and the second is wanted for writing. ``file_locks=False``, the default
    where the runtime has no shared disk, synchronizes threads only and touches no file. Raises ConfigError
    when ``lock_dir`` is a file, StoreUnavailable when the directory or a file in it cannot be created or opened.
    """

    stripes = 128

    def __init__(self, identifier: str, lock_dir: str | os.PathLike[str], *, file_locks: bool | None = None) -> None:
        if runtime.current().file_locks if file_locks is None else file_locks:
            path = os.path.join(os.path.abspath(lock_dir), f"store-{stripe_of(identifier, self.stripes):02x}")
            super().__init__(_cores.get(("file", path), ReadWriteFile, path))
        else:
            super().__init__(_cores.get(("thread", (os.fspath(lock_dir), identifier)), ReadWriteQueue))


class NullSynchronizer:
    """Synchronizes nothing: every acquisition returns ``True`` at once."""

    def acquire_read_lock(self, wait: bool = True) -> bool:
        return True

    def acquire_write_lock(self, wait: bool = True) -> bool:
        return True

    def release_read_lock(self) -> None:
        """Nothing to undo."""

    def release_write_lock(self) -> None:
        """Nothing to undo."""

    def acquire(self, wait: bool = True, timeout: float = -1) -> bool:
        return True

    def release(self) -> None:
        """Nothing to undo."""


def file_synchronizer(identifier: str, lock_dir: str | os.PathLike[str] | None = None, **_: Any) -> SynchronizerImpl:
    """A :class:`FileSynchronizer`, or without ``lock_dir`` a :class:`ConditionSynchronizer`."""
    return ConditionSynchronizer(identifier) if lock_dir is None else FileSynchronizer(identifier, lock_dir)


def mutex_synchronizer(identifier: str, **_: Any) -> SynchronizerImpl:
    """A :class:`ConditionSynchronizer`; other backends' arguments are accepted."""
    return ConditionSynchronizer(identifier)


def null_synchronizer(*_: Any, **__: Any) -> NullSynchronizer:
    """A :class:`NullSynchronizer`; other backends' arguments are accepted."""
    return NullSynchronizer()


class _Hold:
    """One acquisition of a :class:`_Mutex`, and how often its thread has it."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.depth = 1


class _Mutex(ForkAware):
    """A lock among threads that knows who holds it."""

    def __init__(self, reentrant: bool) -> None:
        self._reentrant = reentrant
        self._inherited = 0
        self._renew()
        super().__init__()

    def _renew(self) -> None:
        self._turn = Turn()

    @property
    def _hold(self) -> Any:
        return self._turn.holder

    def _after_fork(self) -> None:
        # The forking thread lives on in the child and will still release what it held in the parent.
        hold = self._hold
        self._inherited = hold.depth if hold is not None and hold.thread == threading.get_ident() else 0
        self._renew()

    def _renew_locks(self) -> None:
        if self._hold is None:
            self._renew()

    def acquire(self, wait: bool, timeout: float) -> bool:
        notice_patch()
        held, mine = self._hold, _Hold()
        if self._reentrant and held is not None and held.thread == mine.thread:
            return self._acquire_again(held)
        try:
            if not wait:
                return self._turn.take(mine)
            return self._turn.wait(mine, math.inf if timeout < 0 else timeout)
        except BaseException:
            self._turn.free(mine)
            raise

    @staticmethod
    def _acquire_again(held: _Hold) -> bool:
        before = held.depth
        try:
            held.depth = before + 1
            return True
        except BaseException:
            held.depth = before
            raise

    def release(self) -> None:
        hold, me = self._hold, threading.get_ident()
        if self._inherited and (hold is None or hold.thread != me):
            self._inherited -= 1
            return
        if hold is None or (self._reentrant and hold.thread != me):
            raise LockError("release of a lock that is not held")
        left = hold.depth - 1
        try:
            self._leave(hold, left)
        except BaseException:
            # It may have come from outside, between two steps.
            self._leave(hold, left)
            raise

    def _leave(self, hold: _Hold, left: int) -> None:
        hold.depth = left
        if not left:
            self._turn.free(hold)


_mutexes: WeakValuedRegistry[tuple[object, bool], _Mutex] = WeakValuedRegistry()


class NameLock:
    """A mutex among threads by name: equal ``identifier`` and ``reentrant`` mean the same lock.

    Without an identifier the lock is this object's own. Also a context manager.
    """

    def __init__(self, identifier: object = None, reentrant: bool = False) -> None:
        if identifier is None:
            self._mutex = _Mutex(reentrant)
        else:
            self._mutex = _mutexes.get((identifier, reentrant), _Mutex, reentrant)

    def acquire(self, wait: bool = True, timeout: float = -1) -> bool:
        """Take it; ``False`` when it is not free at once, or within ``timeout`` seconds (-1: no limit)."""
        return self._mutex.acquire(wait, timeout)

    def release(self) -> None:
        """Give it up. Raises LockError when it is not held (a reentrant one: by this thread)."""
        self._mutex.release()

    def __enter__(self) -> NameLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
