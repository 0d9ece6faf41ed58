"""In-process registries: build-once maps and per-thread values."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, MutableMapping
from typing import Any, Generic, TypeVar

from beaker.forks import ForkAware, notice_patch

__all__ = ["SyncDict", "ThreadLocal", "WeakValuedRegistry"]

K = TypeVar("K")
V = TypeVar("V")
_ABSENT: Any = object()


class SyncDict(ForkAware, Generic[K, V]):
    """A map that builds a missing value once, however many threads ask for it (manual 5.1.6).

    ``get(key, createfunc, *args)`` returns the stored value or stores and returns
    ``createfunc(*args)``. Reads of a present key take no lock. A creation function that raises stores
    nothing. A nested ``get`` from within a creation function is allowed.
    """

    def __init__(self) -> None:
        self.dict: MutableMapping[K, V] = {}
        self._renew_locks()
        super().__init__()

    def _renew_locks(self) -> None:
        self.mutex = threading.RLock()

    # A fork while another thread holds the mutex would leave it locked in the child, and never released.
    _after_fork = _renew_locks

    def get(self, key: K, createfunc: Callable[..., V], *args: Any, **kwargs: Any) -> V:
        """The value of ``key``, created by ``createfunc(*args, **kwargs)`` when it is absent."""
        # Asked for, not tried: the key may hold a password, and an error of createfunc would show a KeyError with it.
        value = self.dict.get(key, _ABSENT)
        return self.sync_get(key, createfunc, *args, **kwargs) if value is _ABSENT else value

    def sync_get(self, key: K, createfunc: Callable[..., V], *args: Any, **kwargs: Any) -> V:
        """Like :meth:`get`, always under the lock."""
        notice_patch()
        with self.mutex:
            value: V = self.dict.get(key, _ABSENT)
            if value is _ABSENT:
                value = self.dict[key] = createfunc(*args, **kwargs)
            return value

    def has_key(self, key: K) -> bool:
        return key in self.dict

    def __contains__(self, key: object) -> bool:
        return key in self.dict

    def __getitem__(self, key: K) -> V:
        return self.dict[key]

    def __setitem__(self, key: K, value: V) -> None:
        with self.mutex:
            self.dict[key] = value

    def __delitem__(self, key: K) -> None:
        with self.mutex:
            del self.dict[key]

    def clear(self) -> None:
        """Forget every value."""
        with self.mutex:
            self.dict.clear()


class WeakValuedRegistry(SyncDict[K, V]):
    """A :class:`SyncDict` whose values go away when nothing else refers to them."""

    def __init__(self) -> None:
        super().__init__()
        self.dict = weakref.WeakValueDictionary()


class ThreadLocal(ForkAware):
    """One value per thread, or per greenlet where those take the place of threads (manual 5.1.6): ``put``,
    ``get(default)``, ``remove``, ``has``."""

    def __init__(self) -> None:
        self._local = threading.local()
        super().__init__()

    def _renew_locks(self) -> None:
        # The patch replaces threading.local too; until then all greenlets share one value.
        known = vars(self._local)
        self._local = threading.local()
        vars(self._local).update(known)

    def has(self) -> bool:
        notice_patch()
        return hasattr(self._local, "value")

    def get(self, default: Any = None) -> Any:
        notice_patch()
        return getattr(self._local, "value", default)

    def put(self, value: Any) -> None:
        notice_patch()
        self._local.value = value

    def remove(self) -> None:
        if self.has():
            del self._local.value
