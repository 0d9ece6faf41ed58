"""What one request has cost: the same counts as those of the process, for the context in which it is served."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beaker.counters.stats import StoreStats

__all__ = ["KEY", "Spent", "begin", "current", "end", "measured"]

KEY = "beaker.spent"
"""Where an environ, or an ASGI scope, holds what its request has cost."""


class Spent:
    """What one request has cost so far. Hits are not counted: a hit of a memory cache costs next to nothing.

    Work in other threads counts where they run in a copy of the request's context, as ``asyncio.to_thread`` does.
    """

    __slots__ = ("_stores", "creation_seconds", "creations", "errors", "misses", "stale", "waits")

    def __init__(self) -> None:
        self.misses = self.stale = self.creations = self.waits = self.errors = 0
        self.creation_seconds = 0.0
        self._stores: dict[str, dict[str, Any]] = {}

    @property
    def stores(self) -> tuple[StoreStats, ...]:
        """The operations by backend."""
        from beaker.counters.stats import StoreStats

        return tuple(StoreStats(backend, **counts) for backend, counts in sorted(self._stores.items()))

    def add(self, backend: str, **counts: float) -> None:
        """Add to the operations on ``backend``, by the names of :class:`StoreStats`."""
        mine = self._stores.get(backend)
        if mine is None:
            mine = self._stores.setdefault(backend, {})
        for name, number in counts.items():
            mine[name] = mine.get(name, 0) + number

    def as_dict(self) -> dict[str, Any]:
        """The counts that are not 0, for JSON."""
        own = {name: getattr(self, name) for name in self.__slots__ if name != "_stores" and getattr(self, name)}
        stores = {
            stats.backend: {name: number for name, number in stats._asdict().items() if name != "backend" and number}
            for stats in self.stores
        }
        return {**own, "stores": stores} if stores else own

    def __repr__(self) -> str:
        return f"<Spent {self.as_dict()}>"


_current: ContextVar[Spent | None] = ContextVar("beaker_spent", default=None)
current = _current.get
"""What the request of this context has cost, ``None`` outside any that is measured."""


def begin(environ: MutableMapping[str, Any]) -> Spent:
    """Count for the request of ``environ`` (or an ASGI scope) from now on; middlewares around each other share it."""
    spent: Spent | None = environ.get(KEY)
    if spent is None:
        spent = environ[KEY] = Spent()
    _current.set(spent)
    return spent


def end(spent: Spent) -> None:
    """Stop counting for ``spent`` in this context."""
    if _current.get() is spent:
        _current.set(None)


@contextmanager
def measured() -> Iterator[Spent]:
    """What is done in the block, in this context, is counted in the object it is given; for scripts and tests."""
    outer, spent = _current.get(), Spent()
    _current.set(spent)
    try:
        yield spent
    finally:
        _current.set(outer)
