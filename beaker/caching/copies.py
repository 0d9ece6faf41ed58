"""The copies of a shared store's values in this process: the near tier, and the memo of a request."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from beaker import serving
from beaker.caching.entry import Entry

if TYPE_CHECKING:
    from beaker.caching.memo import Memo
    from beaker.caching.near import Near
    from beaker.caching.stamps import StampBook
    from beaker.caching.unwritten import Unwritten

__all__ = ["NOTHING", "Copies"]

NOTHING = contextlib.nullcontext()
"""Around what needs nothing around it."""


class Copies:
    """What a :class:`~beaker.caching.store_manager.StoreNamespaceManager` asks of them, and does to them."""

    near: Near | None = None
    memo: bool = False
    """Whether a request remembers what it has read here; see :mod:`beaker.caching.memo`."""
    memo_objects: bool = False
    """It remembers the values themselves."""

    if TYPE_CHECKING:
        unwritten: Unwritten | None

        @property
        def stamp_home(self) -> StampBook: ...

    def _near_tier(self, namespace: str, options: Mapping[str, Any]) -> Near | None:
        from beaker.caching.near import near_for

        return near_for(self, namespace, options)

    def peek(self: Any, key: str) -> Entry | None:
        if self.unwritten is not None and self.unwritten.pending:
            return None
        memo: Memo | None = self._memo() if self.memo else None
        near: Near | None = self.near
        if memo is not None:
            return memo.peek(self, key)
        return None if near is None else near.peek(self, key)

    @staticmethod
    def _memo() -> Memo | None:
        from beaker.caching.memo import here

        return here()

    def _put_and_move(self, entries: Mapping[str, Entry | None]) -> bool:
        """Store ``entries``, or remove them where there is none, and move the stamp of their copies, by one write.
        ``False``: the store cannot."""
        if self.near is None or not self.stamp_home.joins:
            return False
        with self._forgetting(NOTHING, tuple(entries)) if serving.wanted else NOTHING:
            return self.near.put(self, entries)

    def _changing(self, *keys: str) -> contextlib.AbstractContextManager[None]:
        """Around a write of ``keys``, or of the whole namespace."""
        near = NOTHING if self.near is None else self.near.changing()
        return self._forgetting(near, keys) if serving.wanted else near

    @contextlib.contextmanager
    def _forgetting(self: Any, near: contextlib.AbstractContextManager[None], keys: tuple[str, ...]) -> Iterator[None]:
        from beaker.caching.memo import changing, forget

        with changing(functools.partial(forget, self, *keys)), near:
            yield

    def _drop_copies(self: Any, key: str) -> None:
        if self.near is not None:
            self.near.forget(key)
        if serving.wanted:
            from beaker.caching.memo import forget

            forget(self, key)
