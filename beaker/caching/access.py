"""The lock of a manager whose single operations are not atomic: many readers, one writer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

__all__ = ["AccessLocks"]


class AccessLocks:
    """What a :class:`~beaker.caching.namespace.NamespaceManager` reads and writes under."""

    def __init__(self) -> None:
        self.access_lock: Any = self.get_access_lock()

    def get_access_lock(self) -> Any:
        """A many-readers-one-writer synchronizer, or ``None`` where single operations are atomic."""
        return None

    def acquire_read_lock(self) -> bool:
        """Begin reading; many may."""
        if self.access_lock is not None:
            self.access_lock.acquire_read_lock()
        return True

    def release_read_lock(self) -> None:
        if self.access_lock is not None:
            self.access_lock.release_read_lock()

    def acquire_write_lock(self, wait: bool = True, replace: bool = False) -> bool:
        """Begin writing, alone. ``False`` when ``wait`` is false and the lock is taken.

        ``replace`` is what Beaker 1.6 and later call it with; nothing is dropped for it.
        """
        return self.access_lock is None or self.access_lock.acquire_write_lock(wait) is not False

    def release_write_lock(self) -> None:
        if self.access_lock is not None:
            self.access_lock.release_write_lock()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """The read lock for the length of a ``with`` block."""
        self.acquire_read_lock()
        try:
            yield
        finally:
            self.release_read_lock()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """The write lock for the length of a ``with`` block."""
        self.acquire_write_lock()
        try:
            yield
        finally:
            self.release_write_lock()
