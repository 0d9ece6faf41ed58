"""A session's values: a dict with stamps that knows what it was loaded from and what has changed since."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from beaker.crypto.tokens import new_id
from beaker.session.merge import Operation, apply_operations
from beaker.session.snapshot import Snapshot
from beaker.session.values import Known, Packed, ValueCodec

__all__ = ["SessionState"]

_ACCESSED, _CREATED = "_accessed_time", "_creation_time"
_STAMPS = frozenset({_ACCESSED, _CREATED})


class SessionState(dict[Any, Any]):
    """The visitor's values, and the snapshot of the store or the cookie that they were loaded from.

    The keys ``_creation_time`` and ``_accessed_time`` hold the stamps (manual 2.2.1).
    """

    last_accessed: float | None = None
    """When the session was last accessed before this request, in seconds since the epoch; ``None`` for a new one.

    It lags by at most ``touch_interval`` seconds.
    """
    _snapshot: Snapshot
    _place: Any = None
    """Where the session is, in the backend's terms; ``None``: nowhere yet."""

    _loaded: tuple[Packed, dict[Any, Any]]
    """What was loaded, packed and unpacked."""
    _chosen_id: bytes | None = None
    """The id that the application chose, for a session without a cookie; it stays whatever becomes of the session."""

    def __init__(self, codec: ValueCodec, now: float) -> None:
        super().__init__()
        self._codec = codec
        self._now = now
        self._steps: dict[bytes, tuple[tuple[Operation, ...], bytes]] = {}

    def _begin(self) -> None:
        """Become a new, empty session."""
        super().clear()
        self._snapshot = Snapshot(self._chosen_id or new_id(), created=self._now, accessed=self._now)
        self._place = None
        self.last_accessed = None
        self._steps.clear()
        self._reencoded: dict[bytes, tuple[bytes, bytes]] = {}
        self._known: Known | None = {}
        self._stamp()

    def _stamp(self) -> None:
        super().__setitem__(_CREATED, self._snapshot.created)
        super().__setitem__(_ACCESSED, self._now)

    def _adopt(self, snapshot: Snapshot, values: dict[Any, Any]) -> None:
        """Become the loaded session; ``values`` are the snapshot's, unpacked."""
        super().clear()
        super().update(values)
        self._reencoded = self._codec.reencodings(snapshot.values, values)
        self._loaded, self._known = (snapshot.values, values), None
        self._snapshot = snapshot
        self.last_accessed = snapshot.accessed
        self._steps.clear()
        self._stamp()

    @property
    def is_new(self) -> bool:
        """Whether the session is in no store and in no cookie yet."""
        return self._place is None

    @property
    def created(self) -> float:
        """When the session began, in seconds since the epoch; a login begins it anew."""
        return self._snapshot.created

    def increment(self, key: Any, n: int | float = 1) -> Any:
        """Add ``n`` to the number at ``key`` (0 when absent) and return the sum.

        Exact under concurrent requests: the addition is saved, not the sum. Like any change it needs a save. In a
        cookie, an older copy of it sets the number back; ``monotonic()`` counts what must not go back.
        Raises TypeError when the value is not a number.
        """
        return self._operate(key, Operation("increment", n))

    def add(self, key: Any, item: Hashable) -> None:
        """Put ``item`` into the set (or list) at ``key``, a new set when absent; exact like :meth:`increment`."""
        self._operate(key, Operation("add", item))

    def discard(self, key: Any, item: Hashable) -> None:
        """Take ``item`` out of the set (or list) at ``key``, if it is there; exact like :meth:`increment`."""
        self._operate(key, Operation("discard", item))

    def _operate(self, key: Any, operation: Operation) -> Any:
        pack = self._codec.pack
        before = pack([(key, self[key])]) if key in self else {}
        value = apply_operations(self.get(key), (operation,))
        if value is None and key not in self:
            return None
        self[key] = value
        ((name, data),) = pack([(key, value)]).items()
        steps, left = self._steps.get(name, ((), self._snapshot.values.get(name)))
        if before.get(name) == left:
            self._steps[name] = ((*steps, operation), data)
        else:
            # The key was also set plainly in this request, so the operation is part of that value.
            self._steps.pop(name, None)
        return value

    def _packed(self) -> Packed:
        """The values as bytes. Raises UnserializableValue naming the key path."""
        own = dict(self)
        for stamp in _STAMPS:
            own.pop(stamp, None)
        if self._known is None:
            # Only a request that may write pays for it.
            self._known = self._codec.known(*self._loaded)
        packed = self._codec.pack(own.items(), self._known)
        for name, (again, loaded) in self._reencoded.items():
            if packed.get(name) == again:
                packed[name] = loaded
        return packed

    def _operations(self, packed: Packed) -> dict[bytes, tuple[Operation, ...]]:
        """The keys whose change consists of operations alone."""
        return {name: steps for name, (steps, data) in self._steps.items() if packed.get(name) == data}

    def _overlay(self, values: Packed) -> None:
        """Make ``values`` the session's own, as changes that this request made."""
        wanted = self._codec.unpack(values, trusted=True)
        for key in [key for key in self._own_keys() if key not in wanted]:
            del self[key]
        self.update({key: value for key, value in wanted.items() if key not in self or self[key] != value})

    def revert(self) -> None:
        """Restore the values of the session's first access in this request."""
        if self.is_new:
            self.clear()
        else:
            snapshot = self._snapshot
            self._adopt(snapshot, self._codec.unpack(snapshot.values, trusted=snapshot.trusted))

    def has_key(self, key: Any) -> bool:
        """``key in session``, under its older name."""
        return key in self

    def clear(self) -> None:
        """Remove every value; the session itself goes on."""
        super().clear()
        self._stamp()

    def __repr__(self) -> str:
        keys = sum(1 for _ in self._own_keys())
        return f"<{type(self).__name__} {'new' if self.is_new else 'stored'}, {keys} keys>"

    def _own_keys(self) -> Iterator[Any]:
        """The application's keys: all but Beaker's own stamps."""
        return (key for key in self if key not in _STAMPS)

    def __reduce__(self) -> Any:
        raise TypeError("a session belongs to one request and cannot be pickled; pickle dict(session)")
