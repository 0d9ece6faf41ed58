"""Many readers or one writer: the common face, among threads, and among processes.

Requests are served in the order in which they came, so readers cannot starve a writer, nor writers a
reader. A bare ``flock`` lets readers of other processes starve a writer as long as they keep coming; hence the gate.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

from beaker.exceptions import BeakerException, LockError
from beaker.forks import ForkAware, notice_patch
from beaker.locking.api import poll
from beaker.locking.files import LockedFile, lock_file, lock_unavailable, unlock_file
from beaker.paths import expect_directory

__all__ = ["ReadWriteFile", "ReadWriteQueue", "SynchronizerImpl"]

_LOOK = 1.0
"""Seconds between two looks of a waiter at most."""


class SynchronizerImpl:
    """The four operations of every synchronizer, and the re-entrancy; base class for own ones.

    A subclass gives ``do_acquire_read_lock(wait)``, ``do_acquire_write_lock(wait)`` (returning whether
    they got it), ``do_release_read_lock()`` and ``do_release_write_lock()``; they are called for the
    outermost acquisition of a thread only.
    """

    _releases_again: ClassVar[bool] = False
    """Whether releasing what is released does nothing."""

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
        if not wait or timeout < 0:
            return self.acquire_write_lock(wait)
        before = self._depth()
        try:
            return poll(lambda: self.acquire_write_lock(False), timeout=timeout)
        except BaseException:
            if self._depth() > before:
                self.release_write_lock()
            raise

    def _depth(self) -> int:
        state = self._held.get(threading.get_ident())
        return state[1] if state is not None else 0

    def release(self) -> None:
        """The same as :meth:`release_write_lock`."""
        self.release_write_lock()

    def _acquire(self, writing: bool, wait: bool) -> bool:
        me = threading.get_ident()
        state = self._held.get(me)
        if state is not None:
            if writing and not state[0]:
                raise LockError("this thread holds the lock for reading; release it before writing")
            return self._acquire_again(state)
        taken = False
        try:
            taken = self.do_acquire_write_lock(wait) if writing else self.do_acquire_read_lock(wait)
            if taken:
                self._held[me] = [writing, 1]
            return taken
        except BaseException:
            # A handler of a signal may raise between any two steps; what is half taken would stay taken.
            self._held.pop(me, None)
            if taken or self._releases_again:
                self._give_up(writing)
            raise

    @staticmethod
    def _acquire_again(state: list[Any]) -> bool:
        before = state[1]
        try:
            state[1] = before + 1
            return True
        except BaseException:
            state[1] = before
            raise

    def _release(self) -> None:
        me = threading.get_ident()
        state = self._held.get(me)
        if state is None:
            if self._inherited:
                self._inherited -= 1
                return
            raise LockError("this thread does not hold the lock")
        left = state[1] - 1
        try:
            self._leave(me, state, left)
        except BeakerException:
            raise
        except BaseException:
            # It may have come from outside, at any step.
            self._leave(me, state, left)
            raise

    def _leave(self, me: int, state: list[Any], left: int) -> None:
        state[1] = left
        if not left and (self._held.pop(me, None) is not None or self._releases_again):
            self._give_up(state[0])

    def _give_up(self, writing: bool) -> None:
        if writing:
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


class _Place:
    """Of one request in the line."""

    __slots__ = ("thread", "woken", "writing")

    def __init__(self, thread: int, writing: bool) -> None:
        self.thread = thread
        self.writing = writing
        self.woken = threading.Lock()
        self.woken.acquire()


class ReadWriteQueue(SynchronizerImpl, ForkAware):
    """Readers and one writer among threads, first come first served.

    All that is known is the line of requests: its first one holds the lock, or all the readers before the first writer.
    So each change is one step, and an exception from outside cannot come between two.
    """

    _releases_again = True

    def __init__(self) -> None:
        SynchronizerImpl.__init__(self)
        self._renew()
        ForkAware.__init__(self)

    def _renew(self) -> None:
        self._mutex = threading.Lock()
        self._line: list[_Place] = []

    def _after_fork(self) -> None:
        self._forget_after_fork()
        self._renew()

    def _renew_locks(self) -> None:
        if not self._line:
            self._mutex = threading.Lock()

    def do_acquire_read_lock(self, wait: bool) -> bool:
        return self._enter(False, wait)

    def do_acquire_write_lock(self, wait: bool) -> bool:
        return self._enter(True, wait)

    def _enter(self, writing: bool, wait: bool) -> bool:
        notice_patch()
        place = _Place(threading.get_ident(), writing)
        try:
            with self._mutex:
                free = not self._line or (not writing and not any(other.writing for other in self._line))
                if free or wait:
                    self._line.append(place)
            if wait:
                self._wait(place)
            return free or wait
        except BaseException:
            self._quit(place.thread)
            raise

    def _wait(self, place: _Place) -> None:
        while not self._holds(place):
            # Whether or not it was woken: what frees the lock may be interrupted before it wakes.
            place.woken.acquire(True, _LOOK)

    def _holds(self, place: _Place) -> bool:
        with self._mutex:
            return any(holder is place for holder in self._holders())

    def _holders(self) -> Iterator[_Place]:
        for number, place in enumerate(self._line):
            if number and place.writing:
                return
            yield place
            if place.writing:
                return

    def _quit(self, thread: int) -> None:
        with self._mutex:
            self._leave_line(thread)

    def _leave_line(self, thread: int) -> None:
        self._line[:] = [place for place in self._line if place.thread != thread]
        for place in self._holders():
            # Released already: it is awake.
            with contextlib.suppress(RuntimeError):
                place.woken.release()

    @property
    def _waiting(self) -> int:
        with self._mutex:
            return len(self._line) - len(list(self._holders()))

    def do_release_read_lock(self) -> None:
        self._quit(threading.get_ident())

    def do_release_write_lock(self) -> None:
        self._quit(threading.get_ident())


class ReadWriteFile(ReadWriteQueue):
    """One lock file and its gate: threads queue in front, then processes queue at the gate.

    Every request passes the gate alone and waits there until the lock file is its own, so a request that
    came later, reading or writing, stays behind it.
    """

    def __init__(self, path: str) -> None:
        expect_directory(os.path.dirname(path), "lock_dir")
        self._path = path
        self._files: dict[int, LockedFile] = {}
        super().__init__()

    def _after_fork(self) -> None:
        self._files = {}
        super()._after_fork()

    def do_acquire_read_lock(self, wait: bool) -> bool:
        return self._acquire_file(False, wait)

    def do_acquire_write_lock(self, wait: bool) -> bool:
        return self._acquire_file(True, wait)

    def _acquire_file(self, writing: bool, wait: bool) -> bool:
        me = threading.get_ident()
        taken = False
        try:
            if self._enter(writing, wait):
                file = self._lock_file(writing, wait)
                if file is not None:
                    self._files[me] = file
                    taken = True
            if not taken:
                self._quit(me)
            return taken
        except OSError as err:
            self._release_file()
            raise lock_unavailable(self._path, err) from err
        except BaseException:
            self._release_file()
            raise

    def _lock_file(self, exclusive: bool, wait: bool) -> LockedFile | None:
        gate = None
        try:
            gate = self._pass_gate(wait)
            return None if gate is None else lock_file(self._path + ".lock", exclusive=exclusive, wait=wait)
        finally:
            if gate is not None:
                unlock_file(gate)

    def _pass_gate(self, wait: bool) -> LockedFile | None:
        path = self._path + ".gate"
        # A request passing through holds the gate for microseconds; only one that waits holds it longer.
        for pause in () if wait else (0.0, 0.0005, 0.002):
            gate = lock_file(path, exclusive=True, wait=False)
            if gate is not None:
                return gate
            time.sleep(pause)
        return lock_file(path, exclusive=True, wait=wait)

    def do_release_read_lock(self) -> None:
        self._release_file()

    def do_release_write_lock(self) -> None:
        self._release_file()

    def _release_file(self) -> None:
        me = threading.get_ident()
        try:
            file = self._files.get(me)
            if file is not None:
                unlock_file(file)
                self._files.pop(me, None)
        finally:
            self._quit(me)
