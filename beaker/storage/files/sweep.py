"""Walking the file store's directory: ``directory / namespace / two hex digits / record``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

__all__ = ["RECORD", "TRASH", "Sweep", "record_files", "remove_tree"]

RECORD = ".rec"
TRASH = ".trash-"
TEMPORARY = ".tmp"
STRAY_AGE = 60.0
"""Seconds after which a temporary file's writer is taken for dead."""

_ATTEMPTS = 100


def names(directory: str) -> list[str]:
    """The sorted names in a directory; none when it is not there."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def record_files(namespace_directory: str) -> Iterator[str]:
    """The paths of one namespace's record files."""
    for fan in names(namespace_directory):
        for name in names(f"{namespace_directory}/{fan}"):
            if name.endswith(RECORD):
                yield f"{namespace_directory}/{fan}/{name}"


def remove_tree(directory: str) -> None:
    """Remove a directory and what it holds; gives up, raising :class:`OSError`, when a writer keeps adding files."""
    for attempt in range(_ATTEMPTS):
        for name in names(directory):
            path = f"{directory}/{name}"
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except (IsADirectoryError, PermissionError):
                # Unlinking a directory is EISDIR on Linux and EPERM elsewhere.
                remove_tree(path)
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            return
        except OSError:
            # A writer that had the directory open added a file; it is done soon.
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return


class Sweep:
    """One bounded walk for :meth:`FileStore.purge`; ``remove(path, now)`` says whether a record went."""

    def __init__(
        self,
        directory: str,
        now: float,
        limit: int,
        cursor: str | None,
        deadline: float | None,
        remove: Callable[[str, float], bool | None],
    ) -> None:
        self._directory = directory
        self._now = now
        self._limit = limit
        self._cursor = cursor
        self._end = None if deadline is None else time.monotonic() + deadline
        self._remove = remove
        self._looks = 0
        self._most_looks = max(1_000, 10 * limit)
        # Not the store's clock: it is compared with the times the file system stamps.
        self._stray = time.time() - STRAY_AGE
        self.gone = 0

    def run(self) -> tuple[int, str | None]:
        """How many records went, and the cursor to go on from (``None``: the end was reached)."""
        start_namespace, start_fan, start_name = (*(self._cursor or "").split("/", 2), "", "", "")[:3]
        for namespace in names(self._directory):
            if namespace.startswith(TRASH):
                with suppress(OSError):
                    remove_tree(f"{self._directory}/{namespace}")
            if namespace.startswith(".") or namespace < start_namespace:
                continue
            for fan in names(f"{self._directory}/{namespace}"):
                resumed = namespace == start_namespace
                if resumed and fan < start_fan:
                    continue
                for name in names(f"{self._directory}/{namespace}/{fan}"):
                    if resumed and fan == start_fan and name <= start_name:
                        continue
                    if self._exhausted():
                        return self.gone, self._cursor or ""
                    self._look(f"{self._directory}/{namespace}/{fan}/{name}", name)
                    self._cursor = f"{namespace}/{fan}/{name}"
                self._remove_if_empty(f"{self._directory}/{namespace}/{fan}")
            self._remove_if_empty(f"{self._directory}/{namespace}")
        return self.gone, None

    def _exhausted(self) -> bool:
        if self.gone >= self._limit or self._looks >= self._most_looks:
            return True
        # At least one file a call: calls that are short of time must still reach the end some day.
        return self._looks > 0 and self._end is not None and time.monotonic() >= self._end

    def _look(self, path: str, name: str) -> None:
        self._looks += 1
        with suppress(FileNotFoundError):
            if name.endswith(RECORD):
                went = self._remove(path, self._now)
                if went:
                    self.gone += 1
                if went is not None:
                    return
            elif not (name.startswith(".") and name.endswith(TEMPORARY)):
                return
            if os.lstat(path).st_mtime < self._stray:
                os.unlink(path)

    def _remove_if_empty(self, directory: str) -> None:
        # A writer that is about to use it creates it again.
        with suppress(OSError):
            os.rmdir(directory)
