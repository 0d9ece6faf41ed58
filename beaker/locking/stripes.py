"""256 locks for any number of keys: a thread lock and, where asked, an advisory file lock behind it."""

from __future__ import annotations

from types import TracebackType

from beaker.exceptions import ConfigError
from beaker.forks import after_fork, after_patch, notice_patch
from beaker.locking.files import LockedFile, lock_file, unlock_file
from beaker.locking.turn import Turn

__all__ = ["COUNT", "Stripes"]

COUNT = 256

_turns = [Turn() for _ in range(COUNT)]


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
        return _Held(_turns[index], path, self._timeout)


class _Held:
    # The thread lock is the process's, not the store's: two stores on one directory, neither with file
    # locks, exclude each other all the same.
    __slots__ = ("_file", "_path", "_place", "_timeout", "_turn")

    def __init__(self, turn: Turn, path: str | None, timeout: float) -> None:
        self._turn = turn
        self._path = path
        self._timeout = timeout
        self._place = object()
        self._file: LockedFile | None = None

    def __enter__(self) -> None:
        try:
            if not self._turn.wait(self._place, self._timeout):
                raise TimeoutError("the lock is held by another thread")
            if self._path is not None:
                self._file = lock_file(self._path, exclusive=True, wait=True, timeout=self._timeout)
        except BaseException:
            self._leave()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._leave()
        except BaseException:
            self._leave()
            raise

    def __del__(self) -> None:
        # Where an exception from outside hit the very beginning of __exit__; in __init__ it may have come even sooner.
        if hasattr(self, "_file") and self._turn.holder is self._place:
            self._leave()

    def _leave(self) -> None:
        try:
            if self._file is not None:
                unlock_file(self._file)
        finally:
            self._turn.free(self._place)


def _renew() -> None:
    # In a child: the threads that held them did not come along.
    _turns[:] = [Turn() for _ in range(COUNT)]


after_fork(_renew)
after_patch(_renew)
