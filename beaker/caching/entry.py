"""What a cache keeps for one key, and how that becomes bytes.

:class:`Entry` is the value with its stamps. :class:`EntryCodec` puts it into the one versioned envelope
of every stored record and takes it out again. A pickle is
loaded only from a record whose MAC verified under a configured key, or from a store that only this
process or this user can write. Anything else is a miss, never an execution.
"""

from __future__ import annotations

import functools
import io
import logging
import math
import pickle
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from beaker import counters
from beaker.caching.freshness import MAX_AHEAD
from beaker.caching.mark import Mark
from beaker.caching.said import Said
from beaker.exceptions import ConfigError, CorruptRecord, UnserializableValue
from beaker.keys import digest
from beaker.serialization.serializers import Auto, Custom, Pickle, TaggedJson, by_name, is_pickle

if TYPE_CHECKING:
    from beaker.crypto.envelope import Envelope, Opened
    from beaker.crypto.place import PlaceKey
    from beaker.storage.api import Store

__all__ = [
    "CACHE_RECORD",
    "FAILURE_RECORD",
    "MARK_RECORD",
    "REUSABLE",
    "STAMPED_RECORD",
    "Entry",
    "EntryCodec",
    "FailedEntry",
    "Failure",
    "MarkedEntry",
    "SlidingEntry",
    "StampedEntry",
    "check_reusable",
    "new_entry",
    "stamps_of",
]

CACHE_RECORD = 2
"""The kind of a cache's records in the envelope's header (0 and 1 are sessions')."""
MARK_RECORD = 3
"""The kind of the record of a creation in flight, with the record of the old value in it where there was one."""

STAMPED_RECORD = 4
"""The kind of a cached value that depends on stamps (:mod:`beaker.caching.stamps`)."""
SLIDING_RECORD = 6
"""The kind of a cached value that reads renew; see :mod:`beaker.caching.sliding`."""
SLIDING_STAMPED_RECORD = 7
"""The kind of one that does both."""
FAILURE_RECORD = 5
"""The kind of the record of an exception that is kept; see :mod:`beaker.caching.negative`."""

_VALUES = frozenset({CACHE_RECORD, STAMPED_RECORD, SLIDING_RECORD, SLIDING_STAMPED_RECORD})

log = logging.getLogger("beaker.cache")

_COST = struct.Struct("<f")
_END = struct.Struct("<d")
_COUNT = struct.Struct(">H")
_STAMP = struct.Struct("33s12s")
REUSABLE = frozenset({type(None), bool, int, float, str, bytes, tuple, list, dict, set, frozenset})
"""Types of which :func:`check_reusable` is sure to raise nothing."""
_SECRET = "set the option 'secret' of the cache (cache.secret = ...): what is signed may be pickled"


class Entry(NamedTuple):
    """A cached value with its stamps."""

    value: Any
    stored: float
    """Seconds since the epoch when it was created."""
    expiretime: float | None = None
    """Seconds it is valid for, ``None`` for ever; kept with the value (manual 4.16)."""
    cost: float = 0.0
    """Seconds its creation took; early refresh starts sooner for expensive values."""

    def __repr__(self) -> str:
        return f"<Entry with a {type(self.value).__name__} stored={self.stored} expiretime={self.expiretime}>"

    @property
    def expires(self) -> float | None:
        """Seconds since the epoch when it becomes old, ``None`` for never."""
        return None if self.expiretime is None else self.stored + self.expiretime

    def is_fresh(self, now: float, starttime: float | None = None) -> bool:
        """Not expired at ``now`` and not stored before ``starttime`` (both seconds since the epoch).

        What was stored over a minute after ``now`` has expired: that clock was ahead, so its age is not known.
        """
        if starttime is not None and self.stored < starttime:
            return False
        return self.expiretime is None or self.stored - MAX_AHEAD <= now < self.stored + self.expiretime


new_entry: Callable[[tuple[Any, float, float | None, float]], Entry] = functools.partial(tuple.__new__, Entry)
"""Of all fields an :class:`Entry`, in C: its own constructor takes as long as three calls of functions."""


class StampedEntry(Entry):
    """A value that depends on ``stamps``: their names, with the token that each had when its creation began."""

    stamps: tuple[tuple[str, Any], ...] = ()


class MarkedEntry(StampedEntry):
    """The old value from a record with the ``mark`` of a creation."""

    mark: Mark


def stamps_of(entry: Entry) -> tuple[tuple[str, Any], ...]:
    """What ``entry`` depends on."""
    return entry.stamps if isinstance(entry, StampedEntry) else ()


class SlidingEntry(StampedEntry):
    """A value that reads renew; it may depend on stamps, too."""

    end: float
    """Seconds since the epoch when it expires however often it is read; infinity: never."""

    @property
    def expires(self) -> float:
        return math.inf if self.expiretime is None else self.stored + self.expiretime

    @classmethod
    def until(cls, end: float, entry: Entry) -> SlidingEntry:
        """``entry`` as one that may be renewed until ``end``."""
        sliding = cls(*entry)
        sliding.end = end
        return sliding


class Failure(NamedTuple):
    """What is kept of an exception: the name of its class, its arguments as tagged JSON."""

    name: str
    args: bytes

    def __repr__(self) -> str:
        return f"<failure {self.name}>"


class FailedEntry(Entry):
    """An exception that is kept, its value a :class:`Failure`. It is fresh only to those who ask for it by
    :meth:`lives`: to all others there is no value."""

    life: float
    """Seconds it is kept for; in the place of ``expiretime`` is what no clock reaches."""

    @property
    def expires(self) -> float:
        return self.stored + self.life

    def is_fresh(self, now: float, starttime: float | None = None) -> bool:
        return False

    def lives(self, now: float) -> bool:
        """Whether it has not expired."""
        return self.stored - MAX_AHEAD <= now < self.stored + self.life


def check_reusable(value: Any) -> None:
    """UnserializableValue for what can be used once only: a second reader of the cache would find it used up."""
    kind = type(value)
    if kind in REUSABLE:
        return
    if isinstance(value, Iterator) and iter(value) is value:
        hint = "an iterator is used up by its first reader; keep list(...) of it"
    elif isinstance(value, AsyncIterator) and value.__aiter__() is value:
        hint = "an asynchronous iterator is used up by its first reader; keep a list of what it yields"
    elif isinstance(value, Awaitable):
        hint = (
            "it can be awaited once; keep the result of awaiting it: decorate an 'async def' function, "
            "or await cache.aget(key, createfunc=...)"
        )
    elif kind is Said:
        hint = "it says what becomes of a value, and is none"
    elif isinstance(value, io.IOBase):
        hint = "an open file is read once; keep what it contains"
    else:
        return
    raise UnserializableValue("the value", kind.__name__, hint)


class EntryCodec:
    """Entries to bytes and back for one store.

    ``serializer`` is ``auto`` (pickle where a record can be trusted, tagged JSON elsewhere), ``json``,
    ``pickle``, or an object with ``dumps`` and ``loads``, whose safety is then its owner's. ConfigError
    when ``pickle`` is asked for on a shared store without a key: nothing written could be read again.
    ``signed`` says that ``envelope`` has a key;
    without one it may sign by the key of the store's directory.
    """

    def __init__(
        self, envelope: Envelope, serializer: Any = "auto", store: Store | None = None, *, signed: bool = False
    ) -> None:
        # The pickle module itself has dumps and loads: taken as an object it would escape the trust check.
        chosen = by_name("pickle" if serializer is pickle else serializer)
        self._json = TaggedJson()
        self._pickle = Pickle()
        self._custom = chosen if isinstance(chosen, Custom) else None
        self._may_pickle = isinstance(chosen, (Auto, Pickle))
        self._must_pickle = isinstance(chosen, Pickle)
        self._envelope = envelope
        self._store = store
        self._signed = signed
        self._place: PlaceKey | None = getattr(store, "place_key", None)
        # Only a class that says so for all its instances is hopeless; a directory's mode may change.
        hopeless = self._place is None and getattr(type(store), "trusted", None) is False
        if self._must_pickle and not self._signed and hopeless:
            raise ConfigError(
                "serializer 'pickle' needs a key on a store that other programs can write",
                option="serializer",
                hint="set the option 'secret', or use serializer 'json'",
                code="config.pickle-without-key",
            )

    def encode(self, namespace: str, key: str, entry: Entry) -> bytes:
        """The record for ``entry``. Raises UnserializableValue, naming the path, when it cannot be one."""
        if isinstance(entry, FailedEntry):
            payload, kind = entry.value.name.encode() + b"\0" + entry.value.args, FAILURE_RECORD
        else:
            payload, kind = self._dumps(entry.value), CACHE_RECORD
        if type(entry) is not Entry and (stamps := stamps_of(entry)):
            packed = b"".join(_STAMP.pack(name.encode(), token) for name, token in stamps)
            payload, kind = _COUNT.pack(len(stamps)) + packed + payload, STAMPED_RECORD
        if isinstance(entry, SlidingEntry):
            payload = _END.pack(entry.end) + payload
            kind = SLIDING_STAMPED_RECORD if kind == STAMPED_RECORD else SLIDING_RECORD
        payload = _COST.pack(entry.cost) + payload
        return self._envelope.seal(namespace, key, payload, stored=entry.stored, expires=entry.expires, kind=kind)

    def encode_mark(self, namespace: str, key: str, mark: Mark, old: bytes, now: float) -> bytes:
        """The record for ``mark`` and for ``old``, the record of the value before, empty when there is none."""
        return self._envelope.seal(namespace, key, mark.pack(old), stored=now, expires=None, kind=MARK_RECORD)

    def copier(self, value: Any) -> Callable[[], Any]:
        """What creates copies of ``value`` as the store would, without looking at it. Raises UnserializableValue."""
        data = self._dumps(value, here=True)
        return lambda: self._loads(data, authentic=True)

    def decode(self, namespace: str, key: str, data: bytes) -> Entry | None:
        """The entry in a record, or ``None`` when it has none, is corrupt, foreign or not to be trusted.

        Such a record is counted (``cache_rejected``) and logged with the key's digest and its size.
        """
        return self.open(namespace, key, data)[0]

    def open(self, namespace: str, key: str, data: bytes) -> tuple[Entry | None, Mark | None, bytes]:
        """The entry in a record, the mark in it, and the record of the entry alone; as :meth:`decode`."""
        try:
            opened = self._envelope.open(namespace, key, data)
            if opened.kind != MARK_RECORD:
                return self._entry(opened), None, data
            mark, old = Mark.unpack(opened.payload)
            if not old:
                return None, mark, old
            found = self._entry(self._envelope.open(namespace, key, old))
            if isinstance(found, FailedEntry):
                # What is created now comes in its place: until then there is neither a value nor an exception.
                return None, mark, old
            entry = MarkedEntry(*found)
            entry.stamps = stamps_of(found)
        except CorruptRecord as err:
            counters.count("cache_rejected", self._store.backend if self._store is not None else "")
            log.warning("cache record %s of %d bytes is a miss: %s", digest(namespace, key)[:16], len(data), err)
            return None, None, b""
        entry.mark = mark
        return entry, mark, old

    def mark_in(self, namespace: str, key: str, data: bytes) -> tuple[Mark | None, bytes]:
        """The mark in a record and the record of its old value, which is not looked at."""
        try:
            opened = self._envelope.open(namespace, key, data)
            return Mark.unpack(opened.payload) if opened.kind == MARK_RECORD else (None, data)
        except CorruptRecord:
            return None, b""

    def _entry(self, opened: Opened) -> Entry:
        if opened.kind == FAILURE_RECORD and len(opened.payload) >= _COST.size and opened.expires is not None:
            return _failure(opened, opened.expires)
        if opened.kind not in _VALUES or len(opened.payload) < _COST.size:
            raise CorruptRecord("not a record of a cache")
        expiretime = None if opened.expires is None else opened.expires - opened.stored
        cost = _COST.unpack_from(opened.payload)[0]
        if opened.kind == CACHE_RECORD:
            return Entry(self._loads(opened.payload[_COST.size :], opened.authentic), opened.stored, expiretime, cost)
        if opened.kind in (SLIDING_RECORD, SLIDING_STAMPED_RECORD):
            return self._sliding(opened, expiretime, cost)
        stamps, data = _unpack_stamps(opened.payload[_COST.size :])
        entry = StampedEntry(self._loads(data, opened.authentic), opened.stored, expiretime, cost)
        entry.stamps = stamps
        return entry

    def _sliding(self, opened: Opened, expiretime: float | None, cost: float) -> Entry:
        payload = opened.payload[_COST.size :]
        if len(payload) < _END.size or expiretime is None:
            raise CorruptRecord("too short for its end")
        data, end = payload[_END.size :], _END.unpack_from(payload)[0]
        stamps, data = ((), data) if opened.kind == SLIDING_RECORD else _unpack_stamps(data)
        entry = Entry(self._loads(data, opened.authentic), opened.stored, expiretime, cost)
        sliding = SlidingEntry.until(end, entry)
        sliding.stamps = stamps
        return sliding

    def _dumps(self, value: Any, *, here: bool = False) -> bytes:
        if self._custom is not None:
            return self._custom.dumps(value)
        if self._may_pickle and (self._signed or self._trusts_store() or self._place_signs(here)):
            return self._pickle.dumps(value)
        if self._must_pickle:
            raise UnserializableValue("value", type(value).__name__, self._how_to_sign())
        try:
            return self._json.dumps(value)
        except UnserializableValue as err:
            if err.code == "value.same-hash":
                raise
            raise UnserializableValue(err.path, err.kind, self._advice(value)) from None

    def _advice(self, value: Any) -> str:
        try:
            self._pickle.dumps(value)
        except UnserializableValue:
            return "keep plain data in its place"
        if self._may_pickle:
            return self._how_to_sign()
        return "set the option 'secret' and leave 'serializer' at 'auto', or keep plain data in its place"

    def _place_signs(self, here: bool) -> bool:
        # What does not leave this process needs no key, and a store that is down has none to look at.
        return self._place is not None if here else self._envelope.signs_by_place()

    def _how_to_sign(self) -> str:
        problem = "" if self._place is None else self._place.problem()
        return f"{_SECRET}; {problem}" if problem else _SECRET

    def _loads(self, data: bytes, authentic: bool) -> Any:
        if self._custom is not None:
            return self._custom.loads(data)
        if not is_pickle(data):
            return self._json.loads(data)
        if self._may_pickle and (authentic or self._trusts_store()):
            return self._pickle.loads(data)
        raise CorruptRecord("a pickle that nothing vouches for")

    def _trusts_store(self) -> bool:
        return self._store is not None and self._store.trusted


def _unpack_stamps(payload: bytes) -> tuple[tuple[tuple[str, bytes], ...], bytes]:
    count = _COUNT.unpack_from(payload)[0] if len(payload) >= _COUNT.size else 0
    end = _COUNT.size + count * _STAMP.size
    if not count or len(payload) < end:
        raise CorruptRecord("too short for its stamps")
    stamps = (
        (name.decode("ascii", "replace"), token) for name, token in _STAMP.iter_unpack(payload[_COUNT.size : end])
    )
    return tuple(stamps), payload[end:]


def _failure(opened: Opened, expires: float) -> FailedEntry:
    name, _, args = opened.payload[_COST.size :].partition(b"\0")
    entry = FailedEntry(
        Failure(name.decode("utf-8", "replace"), args), opened.stored, -math.inf, _COST.unpack_from(opened.payload)[0]
    )
    entry.life = expires - opened.stored
    return entry
