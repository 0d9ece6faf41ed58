"""Invalidations that could not be written: remembered in this process, and made good before a read is trusted.

The caller was told by StoreUnavailable, or aborted the call; whether the old value is still there is not known. Until
it is removed, a read of that key here fails, too. Other processes know nothing of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType

from beaker import counters
from beaker.exceptions import StoreUnavailable
from beaker.forks import ForkAware, notice_patch
from beaker.locking.registries import WeakValuedRegistry
from beaker.storage.api import Store

__all__ = ["Unwritten", "leaves_doubt", "unwritten_of"]

_MOST = 1_000
"""Keys remembered one by one; when there are more, the namespace is emptied."""

_held: set[Unwritten] = set()
"""Those with something to make good outlive the managers that noted it."""


def leaves_doubt(error: BaseException) -> bool:
    """Whether it is not known if a change was written that ended with ``error``."""
    # One from outside, as of a signal's handler, may have come before the store was told.
    return isinstance(error, StoreUnavailable) or not isinstance(error, Exception)


def unwritten_of(store: Store, namespace: str) -> Unwritten:
    """The one of ``namespace`` in this process."""
    return _known.get((store, namespace), lambda: Unwritten(store, namespace))


class Unwritten(ForkAware):
    """What one namespace of ``store`` has to lose yet. A forked child knows what its parent knew."""

    def __init__(self, store: Store, namespace: str) -> None:
        self.store = store
        self.namespace = namespace
        self.pending = False
        """Whether there is anything; asked before each read."""
        self._keys: dict[str, int] = {}
        self._whole = 0
        self.number = 0
        """How often something was noted."""
        self._after_fork()
        super().__init__()

    def _after_fork(self) -> None:
        self._renew_locks()

    def _renew_locks(self) -> None:
        self._mutex = threading.Lock()
        self._retry = threading.Lock()

    def changing(self, *keys: str, whole: bool = False) -> Changing:
        """Around a change of ``keys``, or of the ``whole`` namespace: remember it if it fails, forget earlier ones of
        the same if it does not."""
        return Changing(self, keys, whole)

    def note(self, *keys: str, whole: bool = False) -> None:
        """Remember that ``keys``, or the ``whole`` namespace, have to be removed."""
        counters.count("invalidation_unwritten", self.store.backend)
        with self._mutex:
            self.number += 1
            if not whole and not self._whole and len({*self._keys, *keys}) <= _MOST:
                self._keys.update(dict.fromkeys(keys, self.number))
            else:
                self._whole = self.number
                self._keys = {}
            self.pending = True
            _held.add(self)

    def written(self, before: int, keys: tuple[str, ...], whole: bool) -> None:
        """Forget what was to be removed of ``keys``, or of the ``whole`` namespace, up to the number ``before``."""
        # What was noted while the change was in flight may have come after it.
        self._forget(lambda number: number <= before, keys, whole)

    def _forget(self, earlier: Callable[[int], bool], keys: tuple[str, ...], whole: bool) -> None:
        with self._mutex:
            if whole:
                self._whole = 0 if earlier(self._whole) else self._whole
            self._drop(earlier, list(self._keys) if whole else keys)
            self.pending = bool(self._keys or self._whole)
            if not self.pending:
                _held.discard(self)

    def _drop(self, earlier: Callable[[int], bool], keys: Iterable[str]) -> None:
        for key in keys:
            if key in self._keys and earlier(self._keys[key]):
                del self._keys[key]

    def recover(self, key: str) -> None:
        """Remove what may still be there of ``key``. Raises StoreUnavailable as long as that fails."""
        if not self.concerns(key):
            return
        notice_patch()
        with self._retry:
            # Another thread may have done it meanwhile, and a new value may be there.
            number, whole = self._keys.get(key, 0), self._whole
            if whole:
                self.store.clear(self.namespace)
                self._forget(lambda noted: noted <= whole, (), whole=True)
            elif number:
                self.store.delete(self.namespace, key)
                self._forget(lambda noted: noted <= number, (key,), whole=False)
            if whole or number:
                counters.count("invalidation_recovered", self.store.backend)

    def concerns(self, key: str) -> bool:
        """Whether ``key`` has to be removed yet."""
        return bool(self._whole) or key in self._keys

    def __repr__(self) -> str:
        return f"<unwritten: {'all' if self._whole else len(self._keys)}>"


class Changing:
    """What :meth:`Unwritten.changing` returns. A class, because every write enters one: a generator that does the same
    takes twice the calls."""

    __slots__ = ("_before", "_keys", "_unwritten", "_whole")

    def __init__(self, unwritten: Unwritten, keys: tuple[str, ...], whole: bool) -> None:
        self._unwritten = unwritten
        self._keys = keys
        self._whole = whole

    def __enter__(self) -> None:
        self._before = self._unwritten.number

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and leaves_doubt(error):
            self._unwritten.note(*self._keys, whole=self._whole)
        elif error is None and self._unwritten.pending:
            self._unwritten.written(self._before, self._keys, self._whole)


_known: WeakValuedRegistry[tuple[Store, str], Unwritten] = WeakValuedRegistry()
