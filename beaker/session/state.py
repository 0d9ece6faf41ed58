"""A session's values: a dict with stamps that knows what it was loaded from and what has changed since."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from beaker.crypto.tokens import new_id
from beaker.session.merge import Operation, apply_operations
from beaker.session.snapshot import USER, Snapshot
from beaker.session.unpacked import Unpacked
from beaker.session.values import NOTHING, Packed, ValueCodec

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
    _known_user: Any = None
    """Who the visitor was when the session was loaded or last saved."""
    _place: Any = None
    """Where the session is, in the backend's terms; ``None``: nowhere yet."""

    _loaded: tuple[Packed, dict[Any, Any]]
    """What was loaded, packed and unpacked."""
    _chosen_id: bytes | None = None
    """The id that the application chose, for a session without a cookie; it stays whatever becomes of the session."""

    _codec: ValueCodec
    _now: float
    """When the session was first used in this request, in seconds since the epoch."""
    _steps: dict[bytes, tuple[tuple[Operation, ...], bytes]]
    """By the key's bytes, the operations that made its value, and the bytes of that."""

    def _begin(self) -> None:
        """Become a new, empty session."""
        super().clear()
        self._snapshot = Snapshot(self._chosen_id or new_id(), created=self._now, accessed=self._now)
        self._place = None
        self.last_accessed = None
        self._steps.clear()
        self._reencoded: dict[bytes, tuple[bytes, bytes]] = {}
        self._known: Unpacked | None = NOTHING
        self._stamp()

    def _stamp(self) -> None:
        super().__setitem__(_CREATED, self._snapshot.created)
        super().__setitem__(_ACCESSED, self._now)

    def _adopt(self, snapshot: Snapshot, values: dict[Any, Any]) -> None:
        """Become the loaded session; ``values`` are the snapshot's, unpacked."""
        if self:
            dict.clear(self)
        dict.update(self, values)
        self._known = self._codec.remembered(snapshot.values)
        if self._known is None:
            self._reencoded = self._codec.reencodings(snapshot.values, values)
            self._loaded = snapshot.values, values
        else:
            self._reencoded = {}
        self._snapshot = snapshot
        # A stamp may be of a host whose clock is ahead.
        self.last_accessed = min(snapshot.accessed, self._now)
        self._steps.clear()
        self._known_user = values.get(USER)
        dict.update(self, {_CREATED: self.created, _ACCESSED: self._now})

    @property
    def is_new(self) -> bool:
        """Whether the session is in no store and in no cookie yet."""
        return self._place is None

    @property
    def created(self) -> float:
        """When the session began, in seconds since the epoch; a login begins it anew."""
        return min(self._snapshot.created, self._now)

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
        own.pop(_CREATED, None)
        own.pop(_ACCESSED, None)
        if self._known is None:
            # Only a request that may write pays for it.
            self._known = self._codec.base(*self._loaded)
        packed = self._codec.repack(own, self._known)
        if not self._reencoded:
            return packed
        as_loaded = {name: loaded for name, (again, loaded) in self._reencoded.items() if packed.get(name) == again}
        # A dict of its own: the codec remembers what it has packed.
        return {**packed, **as_loaded}

    def _operations(self, packed: Packed) -> dict[bytes, tuple[Operation, ...]]:
        """The keys whose change consists of operations alone."""
        return {name: steps for name, (steps, data) in self._steps.items() if packed.get(name) == data}

    def _keep_operations(self, operations: Mapping[bytes, tuple[Operation, ...]], merged: Packed) -> None:
        """What came of operations on the snapshot's value, as it is by now, is still to be saved as operations."""
        pack, theirs = self._codec.pack, self._snapshot.values
        for name, steps in operations.items():
            before = theirs.get(name)
            value = None if before is None else self._codec.load(before, trusted=self._snapshot.trusted)
            try:
                after = pack([("value", apply_operations(value, steps))]).popitem()[1]
            except TypeError:
                # Another request put something else there: the outcome is a value of this request like any other.
                continue
            if after == merged.get(name):
                self._steps[name] = steps, after

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

    def popitem(self) -> tuple[Any, Any]:
        """Remove and return the value that was set last, with its key; KeyError when the application's are none."""
        for key in reversed(self):
            if key not in _STAMPS:
                return key, self.pop(key)
        raise KeyError("popitem(): the session holds no value")

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
