"""What locks are made of: lock files, their stripes, waiting, becoming new after a fork."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import time
import weakref
from collections.abc import Callable
from typing import ClassVar

from beaker.paths import verify_directory

__all__ = ["ForkAware", "lock_file", "poll", "stripe_of", "unlock_file"]


class ForkAware:
    """Base of everything that a forked child must not inherit; :meth:`_after_fork` makes it new."""

    _live: ClassVar[weakref.WeakSet[ForkAware]] = weakref.WeakSet()

    def __init__(self) -> None:
        ForkAware._live.add(self)

    def _after_fork(self) -> None:
        """Called in the child, before any other thread exists there."""
        raise NotImplementedError

    @staticmethod
    def _renew_all() -> None:
        # The parent's locks live as long as any copy of their descriptors: drop ours, without unlocking.
        for descriptor in _descriptors:
            os.close(descriptor)
        _descriptors.clear()
        for item in list(ForkAware._live):
            item._after_fork()


_descriptors: set[int] = set()

if hasattr(os, "register_at_fork"):
    # One hook for all: a hook cannot be taken back, so one per object would never be freed.
    os.register_at_fork(after_in_child=ForkAware._renew_all)


def stripe_of(name: str, stripes: int) -> int:
    """Which of ``stripes`` lock files ``name`` shares; the same number in every process."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % stripes


def lock_file(path: str, *, exclusive: bool, wait: bool) -> int | None:
    """Lock ``path`` by ``flock`` and answer its descriptor, for :func:`unlock_file`.

    ``None``: somebody else has it and ``wait`` is false. The file (mode 0600) and its directory (0700)
    are made when absent; the file stays for ever, because unlinking it would let two processes lock two
    different files of one name. Raises OSError when the file cannot be opened, a symbolic link included.
    """
    import fcntl

    operation = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB)
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, operation)
            # Somebody may clean old files out of the directory; a lock on an unlinked file excludes nobody.
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except OSError as err:
            _close(descriptor)
            if not wait and err.errno in (errno.EAGAIN, errno.EACCES):
                return None
            raise
        except BaseException:
            _close(descriptor)
            raise
        _close(descriptor)


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            # Not makedirs(): a directory the umask leaves open to the group would not be trusted with pickles.
            verify_directory(os.path.dirname(path))
        else:
            _descriptors.add(descriptor)
            return descriptor


def _close(descriptor: int) -> None:
    _descriptors.discard(descriptor)
    os.close(descriptor)


def unlock_file(descriptor: int) -> None:
    """Give up the lock and close the descriptor."""
    import fcntl

    try:
        # Closing alone would leave the lock with a copy of the descriptor that a fork may have made.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        _close(descriptor)


def poll(
    attempt: Callable[[], bool],
    *,
    timeout: float = -1,
    done: Callable[[], bool] | None = None,
    ceiling: float = 0.05,
    timer: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    rng: Callable[[], float] = random.random,
) -> bool:
    """Call ``attempt`` until it is true, for ``timeout`` seconds (-1: no limit); whether it was.

    The pauses grow from 1 ms by 1.7 up to ``ceiling`` seconds, each shortened by up to a half at random so
    that waiters do not march in step. ``done``, asked after each pause, ends the waiting when true.
    """
    end = None if timeout < 0 else timer() + timeout
    pause = 0.001
    while not attempt():
        nap = pause * (1.0 - rng() / 2)
        if end is not None:
            left = end - timer()
            if left <= 0:
                return False
            nap = min(nap, left)
        sleep(nap)
        if done is not None and done():
            return False
        pause = min(pause * 1.7, ceiling)
    return True
