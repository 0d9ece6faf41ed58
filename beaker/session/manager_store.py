"""Sessions on a namespace manager of an application: dict operations under its own locks.

A third-party :class:`~beaker.caching.namespace.NamespaceManager` knows nothing of versions, so the comparison and
the write happen together under its write lock. One namespace a session, one key in it, as such managers
expect: many of them write a namespace as a whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from beaker.keys import digest
from beaker.storage.api import Written

__all__ = ["ManagerStore"]

_KEY = "session"


class ManagerStore:
    """A versioned store over a manager class. Records expire by the envelope's own stamp only."""

    max_value: int | None = None
    trusted = False

    def __init__(self, factory: Callable[..., Any], args: dict[str, Any], *, backend: str) -> None:
        self.backend = backend
        self._factory = factory
        self._args = args

    @contextmanager
    def _open(self, namespace: str, key: str, *, write: bool) -> Iterator[Any]:
        manager = self._factory(digest(namespace, key), **self._args)
        acquire, release = (
            (manager.acquire_write_lock, manager.release_write_lock)
            if write
            else (manager.acquire_read_lock, manager.release_read_lock)
        )
        acquire()
        try:
            yield manager
        finally:
            release()

    def read(self, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        with self._open(namespace, key, write=False) as manager:
            return self._found(manager)

    @staticmethod
    def _found(manager: Any) -> tuple[bytes, Hashable] | None:
        if _KEY not in manager:
            return None
        try:
            data = manager[_KEY]
        except KeyError:
            return None
        return (data, _version(data)) if isinstance(data, bytes) else None

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> bool | Written:
        with self._open(namespace, key, write=True) as manager:
            if self._found(manager) is not None:
                return False
            manager[_KEY] = data
            return Written(_version(data))

    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> bool | Written:
        with self._open(namespace, key, write=True) as manager:
            found = self._found(manager)
            if found is None or found[1] != version:
                return False
            manager[_KEY] = data
            return Written(_version(data))

    def remove(self, namespace: str, key: str, version: Hashable) -> bool:
        with self._open(namespace, key, write=True) as manager:
            found = self._found(manager)
            if found is None or found[1] != version:
                return False
            del manager[_KEY]
            return True

    def get(self, namespace: str, key: str) -> bytes | None:
        found = self.read(namespace, key)
        return None if found is None else found[0]

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        with self._open(namespace, key, write=True) as manager:
            manager[_KEY] = data

    def delete(self, namespace: str, key: str) -> None:
        with self._open(namespace, key, write=True) as manager:
            if _KEY in manager:
                del manager[_KEY]


def _version(data: bytes) -> bytes:
    # Every write carries a random id, so equal bytes are the same write.
    return hashlib.sha256(data).digest()
