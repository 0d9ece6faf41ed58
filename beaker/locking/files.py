"""Lock files: opened, locked by ``flock``, shared by many names, and never inherited by a forked child."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Iterator

from beaker.exceptions import StoreUnavailable
from beaker.forks import after_fork, is_patched
from beaker.paths import unusable, verify_directory

__all__ = ["file_lock", "lock_file", "lock_unavailable", "stripe_of", "unlock_file"]


_descriptors: set[int] = set()
"""Of every lock file this process has open."""


def _close_inherited() -> None:
    # The parent's locks live as long as any copy of their descriptors: drop ours, without unlocking.
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


after_fork(_close_inherited)


def stripe_of(name: str, stripes: int) -> int:
    """Which of ``stripes`` lock files ``name`` shares; the same number in every process."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % stripes


def lock_file(path: str, *, exclusive: bool, wait: bool, timeout: float | None = None) -> int | None:
    """Lock ``path`` by ``flock`` and return its descriptor, for :func:`unlock_file`.

    ``None``: another holder has it and ``wait`` is false. ``timeout``: the seconds to wait at most, then TimeoutError;
    the kernel knows no such limit, so the lock is tried again and again, at most 20 ms apart.

    The file (mode 0600) and its directory (0700) are created when absent; the file stays, because unlinking it would
    let two processes lock two different files of one name. Raises OSError when the file cannot be opened, a symbolic
    link included.
    """
    import fcntl

    if wait and (timeout is not None or is_patched()):
        return _try_until(path, exclusive, timeout)
    operation = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB)
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, operation)
            # Old files may be cleaned out of the directory meanwhile; a lock on an unlinked file excludes no one.
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


def _try_until(path: str, exclusive: bool, timeout: float | None) -> int:
    # Also where greenlets take the place of threads: waiting in the kernel would stop all of them.
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = 0.0005
    while (descriptor := lock_file(path, exclusive=exclusive, wait=False)) is None:
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError("the lock file is held by another process")
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
    return descriptor


def lock_unavailable(path: str, err: OSError) -> StoreUnavailable:
    """What is raised where a lock stands alone and its file cannot be used; it names the directory and ``lock_dir``."""
    reason = unusable(os.path.dirname(path), err, "lock_dir (by default below data_dir)")
    return StoreUnavailable(reason, backend="file lock", operation="acquire")


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            # Not makedirs(): a directory the umask leaves open to the group would not be trusted with pickles.
            try:
                verify_directory(os.path.dirname(path))
            except OSError as err:
                # Whoever reports it tells lock files from records by their path; this names a directory above.
                err.filename = path
                raise
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
        # Closing alone would leave the lock with a copy of the descriptor that a fork may have created.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        _close(descriptor)


@contextlib.contextmanager
def file_lock(path: str, *, timeout: float, shared: bool = False) -> Iterator[None]:
    """Hold the lock file ``path``; TimeoutError when it was not free within ``timeout`` seconds."""
    descriptor = _try_until(path, not shared, timeout)
    try:
        yield
    finally:
        unlock_file(descriptor)
