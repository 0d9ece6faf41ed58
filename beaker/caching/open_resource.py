"""The manager for data behind something that is opened and closed: a file, a database handle."""

from __future__ import annotations

import inspect
import threading
from typing import Any, ClassVar

from beaker.caching.namespace import NamespaceManager
from beaker.forks import ForkAware, notice_patch
from beaker.synchronization import mutex_synchronizer

__all__ = ["OpenResourceNamespaceManager"]


class OpenResourceNamespaceManager(NamespaceManager, ForkAware):
    """A manager whose dict operations need an open resource: a file, a database handle (manual 5.1.2).

    A subclass adds :meth:`do_open` and :meth:`do_close`. The resource is opened when the first reader or
    the writer comes and closed when the last one leaves. Readers share it; a writer has it alone.
    """

    READ: ClassVar[str] = "r"
    WRITE: ClassVar[str] = "c"

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self._opened = 0
        self._renew_locks()
        self._watch_forks()

    def _renew_locks(self) -> None:
        self._mutex = threading.Lock()
        # Managers written for Beaker 1.6 and later are told whether the content may be dropped; it never is here.
        self._told = (False,) if len(inspect.signature(self.do_open).parameters) > 1 else ()

    _after_fork = _renew_locks

    def do_open(self, flags: str) -> None:
        """Open the resource; ``flags`` is ``'r'`` for reading, ``'c'`` for writing and creating it."""
        raise NotImplementedError

    def do_close(self) -> None:
        """Close the resource."""
        raise NotImplementedError

    def get_access_lock(self) -> Any:
        """Readers and writer of this namespace in this process; override it for several processes."""
        return mutex_synchronizer(f"{type(self).__module__}.{type(self).__qualname__}\0{self.namespace}")

    def open(self, flags: str, checkcount: bool = False) -> None:
        """Open the resource. ``checkcount``: only when it is not open yet, and count the user."""
        notice_patch()
        with self._mutex:
            if not checkcount or self._opened == 0:
                self.do_open(flags, *self._told)
            self._opened = self._opened + 1 if checkcount else 1

    def close(self, checkcount: bool = False) -> None:
        """Close the resource. ``checkcount``: only when this was its last user."""
        with self._mutex:
            last = not checkcount or self._opened == 1
            was_open = self._opened > 0
            self._opened = 0 if not checkcount else max(0, self._opened - 1)
            if last and was_open:
                self.do_close()

    def acquire_read_lock(self) -> bool:
        super().acquire_read_lock()
        try:
            self.open(self.READ, checkcount=True)
        except BaseException:
            super().release_read_lock()
            raise
        return True

    def release_read_lock(self) -> None:
        try:
            self.close(checkcount=True)
        finally:
            super().release_read_lock()

    def acquire_write_lock(self, wait: bool = True, replace: bool = False) -> bool:
        if not super().acquire_write_lock(wait):
            return False
        try:
            self.open(self.WRITE, checkcount=True)
        except BaseException:
            super().release_write_lock()
            raise
        return True

    def release_write_lock(self) -> None:
        try:
            self.close(checkcount=True)
        finally:
            super().release_write_lock()

    def remove(self) -> None:
        """Remove the whole namespace: the resource is closed first, then ``do_remove`` is called."""
        super().acquire_write_lock()
        try:
            self.close()
            self.do_remove()
        finally:
            super().release_write_lock()
