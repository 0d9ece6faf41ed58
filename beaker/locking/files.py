"""Lock files: opened, locked by ``flock``, shared by many names, and never inherited by a forked child."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import sys
import time
import weakref
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

from beaker.exceptions import StoreUnavailable
from beaker.forks import after_fork, is_patched
from beaker.paths import unusable, verify_directory

__all__ = ["LockedFile", "file_lock", "lock_file", "lock_unavailable", "stripe_of", "unlock_file"]


class LockedFile:
    """A lock file that this process has open, until :func:`unlock_file`, or until nothing refers to it: a handler of a
    signal may raise before the caller has it."""

    descriptor: int | None = None

    def __init__(self) -> None:
        _open_files.add(self)

    def close(self) -> None:
        """Close it, once; a fork may have created a copy, which keeps the lock."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        if self.descriptor is not None and not sys.is_finalizing():
            unlock_file(self)


_open_files: weakref.WeakSet[LockedFile] = weakref.WeakSet()


def _close_inherited() -> None:
    # The parent's locks live as long as any copy of their descriptors: drop ours, without unlocking.
    for file in list(_open_files):
        file.close()


after_fork(_close_inherited)


def stripe_of(name: str, stripes: int) -> int:
    """Which of ``stripes`` lock files ``name`` shares; the same number in every process."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % stripes


def lock_file(path: str, *, exclusive: bool, wait: bool, timeout: float | None = None) -> LockedFile | None:
    """Lock ``path`` by ``flock`` and return the file, for :func:`unlock_file`.

    ``None``: another holder has it and ``wait`` is false. ``timeout``: the seconds to wait at most, then TimeoutError;
    the kernel knows no such limit, so the lock is tried again and again, at most 20 ms apart.

    The file (mode 0600) and its directory (0700) are created when absent; the file stays, because unlinking it would
    let two processes lock two different files of one name. Raises OSError when the file cannot be opened, a symbolic
    link included.
    """
    if wait and (timeout is not None or is_patched()):
        return _try_until(path, exclusive, timeout)
    fcntl = _fcntl()
    operation = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB)
    while True:
        file = LockedFile()
        _open(path, file)
        try:
            fcntl.flock(_descriptor(file), operation)
            # Old files may be cleaned out of the directory meanwhile; a lock on an unlinked file excludes no one.
            if os.fstat(_descriptor(file)).st_nlink:
                return file
        except OSError as err:
            file.close()
            # Of flock, that another holder has it; of open, which is no part of this, that it may not be opened.
            if not wait and err.errno in (errno.EAGAIN, errno.EACCES):
                return None
            raise
        file.close()


@cache
def _fcntl() -> Any:
    # Not every platform has it; and what once locked a file can still do so when nothing can be imported any more.
    return import_module("fcntl")


def _try_until(path: str, exclusive: bool, timeout: float | None) -> LockedFile:
    # Also where greenlets take the place of threads: waiting in the kernel would stop all of them.
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = 0.0005
    while (file := lock_file(path, exclusive=exclusive, wait=False)) is None:
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError("the lock file is held by another process")
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
    return file


def lock_unavailable(path: str, err: OSError) -> StoreUnavailable:
    """What is raised where a lock stands alone and its file cannot be used; it names the directory and ``lock_dir``."""
    reason = unusable(os.path.dirname(path), err, "lock_dir (by default below data_dir)")
    return StoreUnavailable(reason, backend="file lock", operation="acquire")


def _open(path: str, file: LockedFile) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            file.descriptor = os.open(path, flags, 0o600)
            return
        except FileNotFoundError:
            # Not makedirs(): a directory the umask leaves open to the group would not be trusted with pickles.
            try:
                verify_directory(os.path.dirname(path))
            except OSError as err:
                # Whoever reports it tells lock files from records by their path; this names a directory above.
                err.filename = path
                raise


def _descriptor(file: LockedFile) -> int:
    if file.descriptor is None:
        raise OSError(errno.EBADF, "a fork in another thread has closed it")
    return file.descriptor


def unlock_file(file: LockedFile) -> None:
    """Give up the lock and close the file; a second call does nothing."""
    if file.descriptor is not None:
        try:
            fcntl = _fcntl()
            # Closing alone would leave the lock with a copy of the descriptor that a fork may have created.
            fcntl.flock(file.descriptor, fcntl.LOCK_UN)
        finally:
            file.close()


@contextlib.contextmanager
def file_lock(path: str, *, timeout: float, shared: bool = False, gate: str | None = None) -> Iterator[None]:
    """Hold the lock file ``path``; TimeoutError when it was not free within ``timeout`` seconds.

    ``gate``: a second lock file, which every request passes alone; without it those that share the lock keep one out
    that wants it alone for as long as they come.
    """
    end = time.monotonic() + timeout
    passing = None if gate is None else _try_until(gate, True, timeout)
    try:
        file = _try_until(path, not shared, max(0.0, end - time.monotonic()))
    finally:
        if passing is not None:
            unlock_file(passing)
    try:
        yield
    finally:
        unlock_file(file)
