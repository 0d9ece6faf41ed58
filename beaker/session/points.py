"""Revocation points as they are stored: sealed, under names that only the holder of the key can compute."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Sequence
from typing import Any, Literal, NamedTuple

from beaker._typing import Clock
from beaker.crypto.envelope import Envelope, Opened
from beaker.crypto.keyring import Key, KeyRing, lp
from beaker.exceptions import CorruptRecord
from beaker.storage.api import Bulk, Pinning, Versioned

__all__ = [
    "IN_STORE", "LEDGER", "LEDGER_FORM", "NAMESPACE", "POINT_FORM", "IdPoint", "Ledger", "Noted", "Point", "Points",
    "later",
]  # fmt: skip

NAMESPACE = "beaker.session.revoked"
LEDGER = "all"
LEDGER_FORM = struct.Struct(">4sIId")
POINT_FORM = struct.Struct(">4sI")
IN_STORE = b"in:"


class Ledger(NamedTuple):
    """One beginning of the store: its latest number, that of the last end of everybody, and when that was."""

    number: int
    everybody: int = 0
    at: float = 0.0


class Point(NamedTuple):
    """The last end of one user's sessions."""

    number: int
    at: float


class IdPoint(NamedTuple):
    """The end of one id, and the record's name of the id under which the session goes on, if it does.

    With a ``serial`` it is no end: the cookies that have a smaller one, or none, do not carry the session any more.
    """

    at: float
    successor: str = ""
    serial: int = 0


Noted = dict[bytes, Any]
"""By the beginning it belongs to: ledgers, or points of a user. An id's point belongs to none: ``b""``."""


class Points:
    """The revocation points in ``store`` of one ``cookie`` name, noted under each key of ``ring`` (a *scope*).

    Without a ring there is one scope, ``None``, and points have checksums only. Points are pinned against eviction
    where the store can do that. The store's errors are raised as they are.
    """

    def __init__(
        self,
        store: Any,
        *,
        clock: Clock,
        cookie: str,
        ring: KeyRing | None,
        encrypt: bool,
        older: Literal["signed"] | None,
    ) -> None:
        self.store = store
        self.ring = ring
        self._clock = clock
        self._cookie = cookie
        self._envelope = Envelope(backend=store.backend, ring=ring, encrypt=encrypt, older=older)
        if isinstance(store, Pinning):
            store.pin(NAMESPACE)

    def scopes(self) -> tuple[Key | None, ...]:
        """The keys under which points may be noted, the sealing one first."""
        ring = self.ring
        if ring is None:
            return (None,)
        return tuple(key for key in map(ring.find, ring.kids) if key is not None)

    def read(self, names: Sequence[str]) -> dict[str, Noted]:
        """What is noted under each of ``names`` in any scope. Raises CorruptRecord for one that cannot be opened."""
        places = {self._name(scope, name): (scope, name) for name in names for scope in self.scopes()}
        if isinstance(self.store, Bulk):
            records = self.store.get_many(NAMESPACE, list(places))
        else:
            pairs = ((place, self.store.get(NAMESPACE, place)) for place in places)
            records = {place: data for place, data in pairs if data is not None}
        noted: dict[str, Noted] = {name: {} for name in names}
        for place, (scope, name) in places.items():
            if place in records:
                noted[name] = later(noted[name], self.noted(scope, name, records[place]))
        return noted

    def noted(self, scope: Key | None, name: str, data: bytes) -> Noted:
        """What a record says that was found under ``name``."""
        opened = self._envelope.open(NAMESPACE, self._name(scope, name), data)
        if name.startswith("id:"):
            return {b"": _id_point(opened)}
        try:
            if name == LEDGER:
                beginning, *ledger = LEDGER_FORM.unpack(opened.payload)
                return {beginning: Ledger(*ledger)}
            beginning, number = POINT_FORM.unpack(opened.payload)
        except struct.error:
            # A point that cannot be read must not let everybody back in.
            raise CorruptRecord("a revocation point cannot be read") from None
        return {beginning: Point(number, opened.stored)}

    def _name(self, scope: Key | None, name: str) -> str:
        if scope is None:
            return f"{self._cookie}:{name}"
        return scope.mac("revocation", lp(self._cookie, name)).hex()

    def _sealed(self, scope: Key | None, name: str, payload: bytes) -> bytes:
        # By the key it is found under: who has that one, and not the current one, must be able to read it.
        place = self._name(scope, name)
        return self._envelope.seal(NAMESPACE, place, payload, stored=self._clock(), expires=None, by=scope)

    def opened(self, scope: Key | None, name: str, data: bytes, form: struct.Struct) -> tuple[Any, ...]:
        """The fields of a record found under ``name``. Raises CorruptRecord."""
        payload = self._envelope.open(NAMESPACE, self._name(scope, name), data).payload
        if len(payload) != form.size:
            raise CorruptRecord("a revocation point cannot be read")
        return form.unpack(payload)

    def get(self, scope: Key | None, name: str) -> bytes | None:
        """The record of ``name``, sealed."""
        data: bytes | None = self.store.get(NAMESPACE, self._name(scope, name))
        return data

    def set(self, scope: Key | None, name: str, payload: bytes, *, ttl: float | None) -> None:
        """Note ``payload`` whatever is there. ``ttl`` is seconds, ``None`` for ever."""
        data = self._sealed(scope, name, payload)
        self.store.set(NAMESPACE, self._name(scope, name), data, ttl=ttl)

    def insert(self, scope: Key | None, name: str, payload: bytes, *, ttl: float | None) -> bool:
        """Note ``payload`` where nothing is. ``False``: there is something."""
        store, place, data = self.store, self._name(scope, name), self._sealed(scope, name, payload)
        if isinstance(store, Versioned):
            return bool(store.insert(NAMESPACE, place, data, ttl=ttl))
        if store.get(NAMESPACE, place) is not None:
            return False
        store.set(NAMESPACE, place, data, ttl=ttl)
        return True

    def get_versioned(self, scope: Key | None, name: str) -> tuple[bytes, Hashable] | None:
        """The record of ``name``, sealed, and its version, ``None`` where the store has none."""
        if isinstance(self.store, Versioned):
            return self.store.read(NAMESPACE, self._name(scope, name))
        data = self.get(scope, name)
        return None if data is None else (data, None)

    def replace(self, scope: Key | None, name: str, payload: bytes, version: Hashable, *, ttl: float | None) -> bool:
        """``False``: the point has changed since ``version`` was read, where the store can tell."""
        store, place, data = self.store, self._name(scope, name), self._sealed(scope, name, payload)
        if isinstance(store, Versioned):
            return bool(store.replace(NAMESPACE, place, data, version, ttl=ttl))
        store.set(NAMESPACE, place, data, ttl=ttl)
        return True


def later(first: Noted, second: Noted) -> Noted:
    """Both together; of one beginning the greater number, of one id its end, and what was noted first."""
    merged = dict(first)
    for beginning, noted in second.items():
        mine = merged.get(beginning)
        if mine is None:
            merged[beginning] = noted
        elif isinstance(noted, Ledger):
            merged[beginning] = Ledger(max(mine.number, noted.number), *max(mine[1:], noted[1:]))
        elif isinstance(noted, Point):
            merged[beginning] = max(mine, noted)
        elif mine.serial and (not noted.serial or noted.serial > mine.serial):
            merged[beginning] = noted
    return merged


def _id_point(opened: Opened) -> IdPoint:
    said = opened.payload
    if not said.startswith(IN_STORE):
        return IdPoint(opened.stored, str(said, "ascii"))
    try:
        return IdPoint(opened.stored, serial=int(said.removeprefix(IN_STORE)))
    except ValueError:
        raise CorruptRecord("a revocation point cannot be read") from None
