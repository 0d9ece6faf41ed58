"""Forking beside open databases: wait for a quiet moment, close, and start anew in the child.

SQLite keeps its file locks in process memory and believes that copy in the child, where the kernel
holds none of them (sqlite.org/howtocorrupt.html, 2.6). A child must therefore not inherit a SQLite
handle at all: closing it there is as wrong as using it. So the parent closes its idle ones before the
fork, and opens them again when it needs them.
"""

from __future__ import annotations

import threading
import weakref
from os import register_at_fork

__all__ = ["ForkGate", "ForkWatcher"]

_PATIENCE = 5.0
"""Seconds a fork waits for operations in flight; then it goes on, and the child abandons their handles."""


class ForkGate:
    """Entered around every operation; :meth:`close` waits until nobody is inside and keeps others out."""

    def __init__(self) -> None:
        self._inside = 0
        self._closing = False
        self._moved = threading.Condition(threading.Lock())

    def __enter__(self) -> None:
        with self._moved:
            while self._closing:
                self._moved.wait()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._moved:
            self._inside -= 1
            if self._closing:
                self._moved.notify_all()

    def close(self) -> None:
        # Without the mark, busy threads would pass in and out and the gate never be empty.
        self._moved.acquire()
        self._closing = True
        self._moved.wait_for(lambda: not self._inside, _PATIENCE)

    def open(self) -> None:
        self._closing = False
        self._moved.notify_all()
        self._moved.release()

    def reset(self) -> None:
        """Forget, in the child, who was inside in the parent."""
        self.__init__()  # type: ignore[misc]


class ForkWatcher:
    """A store that is told about forks once :meth:`_watch_forks` was called; it is held weakly."""

    def _watch_forks(self) -> None:
        with _registry:
            _watched.add(self)

    def _before_fork(self) -> None:
        """In the parent, before: close what the child must not inherit, and let nobody open it again."""

    def _after_fork_in_parent(self) -> None:
        """In the parent, afterwards: let the others in again."""

    def _after_fork_in_child(self) -> None:
        """In the child: abandon, without closing, whatever was inherited all the same."""


_watched: weakref.WeakSet[ForkWatcher] = weakref.WeakSet()
_registry = threading.Lock()
_forking: list[ForkWatcher] = []


def _before() -> None:
    _registry.acquire()
    _forking.extend(_watched)
    for store in _forking:
        store._before_fork()


def _in_parent() -> None:
    for store in _forking:
        store._after_fork_in_parent()
    _forking.clear()
    _registry.release()


def _in_child() -> None:
    for store in _forking:
        store._after_fork_in_child()
    _forking.clear()
    _registry.release()


register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
