"""256 locks for any number of keys: a thread lock and, where asked, an advisory file lock behind it."""

from __future__ import annotations

import threading
from types import TracebackType

from beaker.exceptions import ConfigError
from beaker.forks import after_fork, after_patch, notice_patch
from beaker.locking.files import lock_file, unlock_file

__all__ = ["COUNT", "Stripes"]

COUNT = 256

_mutexes = [threading.Lock() for _ in range(COUNT)]


class Stripes:
    """The locks of one directory; ``with stripes(7):`` is exclusive among threads and processes.

    ``directory`` is where the lock files live; the first holder creates it. ``None``: the threads of this
    process only. Entering raises :class:`OSError` when the lock file cannot be opened or locked: a
    :class:`TimeoutError` when another holder, a stopped process for instance, has not let go within ``timeout``
    seconds.
    """

    def __init__(self, directory: str | None, *, timeout: float = 10.0) -> None:
        if directory is not None:
            try:
                import fcntl  # noqa: F401
            except ImportError as err:
                raise ConfigError(
                    "this platform has no file locks", option="file_locks", hint="set file_locks=False"
                ) from err
        self._directory = directory
        self._timeout = timeout

    def __call__(self, index: int) -> _Held:
        """A context manager that holds stripe ``index`` (0 to 255)."""
        notice_patch()
        path = None if self._directory is None else f"{self._directory}/{index:02x}.lock"
        return _Held(_mutexes[index], path, self._timeout)


class _Held:
    # The thread lock is the process's, not the store's: two stores on one directory, neither with file
    # locks, exclude each other all the same.
    __slots__ = ("_descriptor", "_mutex", "_path", "_timeout")

    def __init__(self, mutex: threading.Lock, path: str | None, timeout: float) -> None:
        self._mutex = mutex
        self._path = path
        self._timeout = timeout
        self._descriptor: int | None = None

    def __enter__(self) -> None:
        if not self._mutex.acquire(True, self._timeout):
            raise TimeoutError("the lock is held by another thread")
        if self._path is not None:
            try:
                self._descriptor = lock_file(self._path, exclusive=True, wait=True, timeout=self._timeout)
            except BaseException:
                self._mutex.release()
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._descriptor is not None:
                unlock_file(self._descriptor)
        finally:
            self._mutex.release()


def _renew() -> None:
    # In a child: the threads that held them did not come along.
    _mutexes[:] = [threading.Lock() for _ in range(COUNT)]


after_fork(_renew)
after_patch(_renew)
