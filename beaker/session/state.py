"""A session's values: a dict with stamps, whose changes can be told and merged."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from beaker.crypto.tokens import new_id
from beaker.session.context import SessionContext
from beaker.session.merge import Operation, apply_operations
from beaker.session.snapshot import Snapshot
from beaker.session.values import Known, Packed

__all__ = ["SessionState"]

_ACCESSED, _CREATED = "_accessed_time", "_creation_time"
_STAMPS = frozenset({_ACCESSED, _CREATED})
USER = "_user"
"""The key under which ``login()`` notes who the visitor is."""


class SessionState(dict[Any, Any]):
    """The visitor's values, and what is known of how the store or the cookie had them.

    ``last_accessed`` is the time of the access before this one in seconds since the epoch, ``None`` for a
    new session; it lags by at most ``touch_interval``. The keys ``_creation_time`` and ``_accessed_time``
    hold the stamps (manual 2.2.1).
    """

    snapshot: Snapshot
    is_new: bool
    last_accessed: float | None
    must_reseal: bool
    in_store: bool
    came_back: float
    sealed: list[tuple[str, str]] | None

    def __init__(self, context: SessionContext) -> None:
        super().__init__()
        self.context = context
        self.now = context.clock()
        self._operations: dict[bytes, tuple[tuple[Operation, ...], bytes]] = {}
        self._echoes: dict[bytes, tuple[bytes, bytes]] = {}
        self._known: Known = {}
        self._begin()

    def _begin(self) -> None:
        super().clear()
        self.snapshot = Snapshot(new_id(), created=self.now, accessed=self.now)
        self.is_new = True
        self.known_user: Any = None
        self.logged_in = False
        self.last_accessed = None
        self.sealed = None
        self.must_reseal = self.in_store = False
        self.came_back = 0.0
        self._operations.clear()
        self._echoes, self._known = {}, {}
        self._stamp()

    def _stamp(self) -> None:
        super().__setitem__(_CREATED, self.snapshot.created)
        super().__setitem__(_ACCESSED, self.now)

    def adopt(self, snapshot: Snapshot) -> None:
        """Become the loaded session. Raises CorruptRecord, leaving a new session."""
        values = self.context.values.unpack(snapshot.values, trusted=snapshot.trusted)
        super().clear()
        super().update(values)
        self._echoes = self.context.values.echoes(snapshot.values, values)
        self._known = self.context.values.known(snapshot.values, values)
        self.snapshot = snapshot
        self.is_new = False
        self.known_user = values.get(USER)
        self.last_accessed = snapshot.accessed
        self._operations.clear()
        self._stamp()

    @property
    def created(self) -> float:
        """When the session began, in seconds since the epoch; a login begins it anew."""
        return self.snapshot.created

    def increment(self, key: Any, n: int | float = 1) -> Any:
        """Add ``n`` to the number at ``key`` (0 when absent) and answer the sum.

        Exact over concurrent requests: the addition, not the sum, is what is saved. Needs a save like any
        change.
        """
        return self._operate(key, Operation("increment", n))

    def add(self, key: Any, item: Hashable) -> None:
        """Put ``item`` into the set (or list) at ``key``, a new set when absent; safe as :meth:`increment`."""
        self._operate(key, Operation("add", item))

    def discard(self, key: Any, item: Hashable) -> None:
        """Take ``item`` out of the set (or list) at ``key``, if it is there; safe as :meth:`increment`."""
        self._operate(key, Operation("discard", item))

    def _operate(self, key: Any, operation: Operation) -> Any:
        pack = self.context.values.pack
        before = pack([(key, self[key])]) if key in self else {}
        value = apply_operations(self.get(key), (operation,))
        if value is None and key not in self:
            return None
        self[key] = value
        ((name, data),) = pack([(key, value)]).items()
        steps, left = self._operations.get(name, ((), self.snapshot.values.get(name)))
        if before.get(name) == left:
            self._operations[name] = ((*steps, operation), data)
        else:
            # The key was also set plainly in this request, so the operation is part of that value.
            self._operations.pop(name, None)
        return value

    def packed(self) -> Packed:
        """The values as bytes. Raises UnserializableValue naming the key path."""
        own = dict(self)
        for stamp in _STAMPS:
            own.pop(stamp, None)
        packed = self.context.values.pack(own.items(), self._known)
        for name, (again, loaded) in self._echoes.items():
            if packed.get(name) == again:
                packed[name] = loaded
        return packed

    def operations(self, packed: Packed) -> dict[bytes, tuple[Operation, ...]]:
        """The keys whose change consists of operations alone."""
        return {name: steps for name, (steps, data) in self._operations.items() if packed.get(name) == data}

    def rebase(self, snapshot: Snapshot, values: Packed) -> None:
        """Become ``snapshot`` with ``values`` on top, which are not saved yet."""
        self.adopt(snapshot)
        merged = self.context.values.unpack(values, trusted=True)
        for key in [key for key in self.own_keys() if key not in merged]:
            del self[key]
        self.update({key: value for key, value in merged.items() if key not in self or self[key] != value})

    def revert(self) -> None:
        """Go back to the values of the session's first access in this request."""
        if self.is_new:
            super().clear()
            self._stamp()
        else:
            self.adopt(self.snapshot)

    def has_key(self, key: Any) -> bool:
        """``key in session``, under its older name."""
        return key in self

    def clear(self) -> None:
        """Drop every value; the session itself goes on."""
        super().clear()
        self._stamp()

    def __repr__(self) -> str:
        keys = sum(1 for _ in self.own_keys())
        return f"<{type(self).__name__} {'new' if self.is_new else 'stored'}, {keys} keys>"

    def own_keys(self) -> Iterator[Any]:
        """The application's keys: all but Beaker's own stamps."""
        return (key for key in self if key not in _STAMPS)

    def __reduce__(self) -> Any:
        raise TypeError("a session belongs to one request and cannot be pickled; pickle dict(session)")
