"""Many readers or one writer: the common face, among threads, and among processes.

Requests are served in the order in which they came, so readers cannot starve a writer, nor writers a
reader. A bare ``flock`` lets readers of other processes starve a writer as long as they keep coming; hence the gate.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from beaker.exceptions import LockError
from beaker.forks import ForkAware, notice_patch
from beaker.locking.api import poll
from beaker.locking.files import lock_file, lock_unavailable, unlock_file
from beaker.paths import expect_directory

__all__ = ["ReadWriteFile", "ReadWriteQueue", "SynchronizerImpl"]


class SynchronizerImpl:
    """The four operations of every synchronizer, and the re-entrancy; base class for own ones.

    A subclass gives ``do_acquire_read_lock(wait)``, ``do_acquire_write_lock(wait)`` (returning whether
    they got it), ``do_release_read_lock()`` and ``do_release_write_lock()``; they are called for the
    outermost acquisition of a thread only.
    """

    def __init__(self) -> None:
        # Each thread reads and writes only its own item, so the dict needs no lock.
        self._held: dict[int, list[Any]] = {}
        self._inherited = 0

    def acquire_read_lock(self, wait: bool = True) -> bool:
        """Take the lock beside other readers; ``False`` when it is not free and ``wait`` is false.

        With ``wait=False`` the lock counts as not free while a writer waits for it.
        """
        return self._acquire(False, wait)

    def acquire_write_lock(self, wait: bool = True) -> bool:
        """Take the lock alone; ``False`` when it is not free and ``wait`` is false.

        Raises LockError when this thread holds it for reading.
        """
        return self._acquire(True, wait)

    def release_read_lock(self) -> None:
        """Undo one acquisition of this thread. Raises LockError when it has none."""
        self._release()

    def release_write_lock(self) -> None:
        """Undo one acquisition of this thread. Raises LockError when it has none."""
        self._release()

    def acquire(self, wait: bool = True, timeout: float = -1) -> bool:
        """The write lock as a :class:`beaker.locking.factories.Lock`; with a ``timeout`` (seconds) it is polled for."""
        if wait and timeout >= 0:
            return poll(lambda: self.acquire_write_lock(False), timeout=timeout)
        return self.acquire_write_lock(wait)

    def release(self) -> None:
        """The same as :meth:`release_write_lock`."""
        self.release_write_lock()

    def _acquire(self, writing: bool, wait: bool) -> bool:
        me = threading.get_ident()
        state = self._held.get(me)
        if state is not None:
            if writing and not state[0]:
                raise LockError("this thread holds the lock for reading; release it before writing")
            state[1] += 1
            return True
        if not (self.do_acquire_write_lock(wait) if writing else self.do_acquire_read_lock(wait)):
            return False
        self._held[me] = [writing, 1]
        return True

    def _release(self) -> None:
        me = threading.get_ident()
        state = self._held.get(me)
        if state is None:
            if self._inherited:
                self._inherited -= 1
                return
            raise LockError("this thread does not hold the lock")
        state[1] -= 1
        if not state[1]:
            del self._held[me]
            if state[0]:
                self.do_release_write_lock()
            else:
                self.do_release_read_lock()

    def _forget_after_fork(self) -> None:
        # Only the forking thread lives on; it still runs the releases of what it held in the parent.
        state = self._held.get(threading.get_ident())
        self._inherited = state[1] if state else 0
        self._held = {}

    def do_acquire_read_lock(self, wait: bool) -> bool:
        raise NotImplementedError

    def do_acquire_write_lock(self, wait: bool) -> bool:
        raise NotImplementedError

    def do_release_read_lock(self) -> None:
        raise NotImplementedError

    def do_release_write_lock(self) -> None:
        raise NotImplementedError


class ReadWriteQueue(SynchronizerImpl, ForkAware):
    """Readers and one writer among threads, first come first served."""

    def __init__(self) -> None:
        SynchronizerImpl.__init__(self)
        self._renew()
        ForkAware.__init__(self)

    def _renew(self) -> None:
        self._condition = threading.Condition()
        self._waiting: deque[object] = deque()
        self._readers = 0
        self._writer = False

    def _after_fork(self) -> None:
        self._forget_after_fork()
        self._renew()

    def _renew_locks(self) -> None:
        if not (self._readers or self._writer or self._waiting):
            self._condition = threading.Condition()

    def do_acquire_read_lock(self, wait: bool) -> bool:
        if not self._enter(lambda: not self._writer, wait):
            return False
        self._readers += 1
        self._leave()
        return True

    def do_acquire_write_lock(self, wait: bool) -> bool:
        if not self._enter(lambda: not self._writer and not self._readers, wait):
            return False
        self._writer = True
        self._leave()
        return True

    def _enter(self, free: Callable[[], bool], wait: bool) -> bool:
        # On True the condition is held: the caller books its place and leaves.
        notice_patch()
        self._condition.acquire()
        if not self._waiting and free():
            return True
        if not wait:
            self._condition.release()
            return False
        try:
            self._queue_up(free)
        except BaseException:
            self._leave()
            raise
        return True

    def _queue_up(self, free: Callable[[], bool]) -> None:
        ticket = object()
        self._waiting.append(ticket)
        try:
            while self._waiting[0] is not ticket or not free():
                self._condition.wait()
        finally:
            self._waiting.remove(ticket)

    def _leave(self) -> None:
        self._condition.notify_all()
        self._condition.release()

    def do_release_read_lock(self) -> None:
        self._condition.acquire()
        self._readers -= 1
        self._leave()

    def do_release_write_lock(self) -> None:
        self._condition.acquire()
        self._writer = False
        self._leave()


class ReadWriteFile(ReadWriteQueue):
    """One lock file and its gate: threads queue in front, then processes queue at the gate.

    Every request passes the gate alone and waits there until the lock file is its own, so a request that
    came later, reading or writing, stays behind it.
    """

    def __init__(self, path: str) -> None:
        expect_directory(os.path.dirname(path), "lock_dir")
        self._path = path
        self._descriptors: dict[int, int] = {}
        super().__init__()

    def _after_fork(self) -> None:
        self._descriptors = {}
        super()._after_fork()

    def do_acquire_read_lock(self, wait: bool) -> bool:
        if not super().do_acquire_read_lock(wait):
            return False
        return self._lock_file(False, wait, super().do_release_read_lock)

    def do_acquire_write_lock(self, wait: bool) -> bool:
        if not super().do_acquire_write_lock(wait):
            return False
        return self._lock_file(True, wait, super().do_release_write_lock)

    def _lock_file(self, exclusive: bool, wait: bool, undo: Callable[[], None]) -> bool:
        descriptor = None
        try:
            gate = self._pass_gate(wait)
            if gate is not None:
                try:
                    descriptor = lock_file(self._path + ".lock", exclusive=exclusive, wait=wait)
                finally:
                    unlock_file(gate)
        except OSError as err:
            raise lock_unavailable(self._path, err) from err
        finally:
            if descriptor is None:
                undo()
        if descriptor is None:
            return False
        self._descriptors[threading.get_ident()] = descriptor
        return True

    def _pass_gate(self, wait: bool) -> int | None:
        path = self._path + ".gate"
        # A request passing through holds the gate for microseconds; only one that waits holds it longer.
        for pause in () if wait else (0.0, 0.0005, 0.002):
            gate = lock_file(path, exclusive=True, wait=False)
            if gate is not None:
                return gate
            time.sleep(pause)
        return lock_file(path, exclusive=True, wait=wait)

    def do_release_read_lock(self) -> None:
        try:
            unlock_file(self._descriptors.pop(threading.get_ident()))
        finally:
            super().do_release_read_lock()

    def do_release_write_lock(self) -> None:
        try:
            unlock_file(self._descriptors.pop(threading.get_ident()))
        finally:
            super().do_release_write_lock()
