"""The contract between the engine and every backend: bytes per (namespace, key).

What every :class:`Store` promises

* It is thread-safe and is shared by all namespaces of one configuration. Nothing is opened, created or
  connected in the constructor; the first operation does that.
* Any ``str`` is a legal namespace and a legal key: empty, with NUL, 10 kB long, not ASCII. A store with
  narrower names goes through :func:`beaker.keys.mangle`. Different pairs never collide.
* ``data`` comes back as the same bytes or not at all. Noticing corruption is the work of the envelope above.
* ``ttl`` is seconds from now, ``None`` for ever; zero or less means "already gone". After ``ttl`` the
  record is absent for every read, whether or not it was physically removed.
* Reads create nothing: no file, no row, no entity, no memory that stays.
* ``delete`` and ``clear`` are idempotent. ``clear`` touches one namespace, never the server.
* A write that returned is durable as far as the backend promises; a write that failed raised.
  :class:`~beaker.exceptions.StoreUnavailable` means "not known", :class:`~beaker.exceptions.ValueTooLarge`
  comes before any I/O. A store never reports "absent" because it could not look.
* After ``os.fork`` the child opens connections of its own (``beaker.forks``).

A store that may lose records it acknowledged, by a restart or by eviction, has an attribute ``forgets = True``:
sessions then ask it more often whether it remembers what was ended.

Capabilities beyond ``Store`` are separate protocols. Ask with ``isinstance``, once, when something is configured: it
costs microseconds. The stores of Beaker subclass the protocols; a class that merely has the methods is a store too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from beaker.locking.registries import SyncDict

__all__ = [
    "Bulk",
    "Change",
    "Contents",
    "Describing",
    "Joining",
    "Listing",
    "Pinning",
    "Purging",
    "Spanning",
    "Store",
    "Versioned",
    "Written",
    "shared_store",
    "version_of",
]


@runtime_checkable
class Store(Protocol):
    """Four operations on bytes. Raises StoreUnavailable from each of them when the backend cannot be reached."""

    backend: str
    """The store's name in messages and in the envelope's seal."""
    max_value: int | None
    """Largest ``data`` in bytes; a bigger one raises ValueTooLarge before any I/O. ``None``: no limit."""

    @property
    @abstractmethod
    def trusted(self) -> bool:
        """True when only this process can write the records, so that an unsigned pickle in one was written by Beaker;
        asked at read time. A path proves nothing: a store in a directory has ``place_key`` instead, a
        ``beaker.crypto.place.PlaceKey`` that signs its records where no other key does."""
        ...

    @abstractmethod
    def get(self, namespace: str, key: str) -> bytes | None:
        """The bytes last set, or ``None`` when the record is absent or expired."""
        ...

    @abstractmethod
    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        """Write the record, whatever was there, to expire ``ttl`` seconds from now (``None``: never).

        Raises ValueTooLarge for more than :attr:`max_value` bytes; nothing is written then.
        """
        ...

    @abstractmethod
    def delete(self, namespace: str, key: str) -> None:
        """Remove the record; one that is absent already is no error."""
        ...

    @abstractmethod
    def clear(self, namespace: str) -> None:
        """Remove every record of the namespace, and no other; an empty one is no error."""
        ...


class Written(NamedTuple):
    """What a conditional write may return instead of ``True``: it was carried out, and the record now has ``version``.

    It is the version that :meth:`Versioned.read` would return if no other write came between, and is true as ``True``
    is. With ``True`` alone, whoever needs the version reads the record again.
    """

    version: Hashable

    def __repr__(self) -> str:
        return "<Written>"


def version_of(done: bool | Written) -> Hashable:
    """The version that a conditional write returned, or ``None``."""
    return done.version if isinstance(done, Written) else None


@runtime_checkable
class Versioned(Protocol):
    """Optimistic concurrency: what sessions, leases and counters stand on.

    A version is opaque, belongs to one store, and changes with every write of the record (a record that
    is deleted and inserted again never has an old version again). It may be any hashable object.
    """

    @abstractmethod
    def read(self, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        """The bytes and their version, or ``None`` when the record is absent or expired."""
        ...

    @abstractmethod
    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> bool | Written:
        """Write only if absent or expired, atomically. ``False``: another writer's record is there. A store that knows
        the version without another round trip returns it as :class:`Written`, else ``True``.

        ``ttl`` is seconds from now, ``None`` for ever. Raises ValueTooLarge as :meth:`Store.set` does.
        """
        ...

    @abstractmethod
    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> bool | Written:
        """Write only if the record still has ``version``. ``False``: changed or gone; nothing written. Otherwise as
        :meth:`insert`.

        ``ttl`` is seconds from now, ``None`` for ever. Raises ValueTooLarge as :meth:`Store.set` does.
        """
        ...

    @abstractmethod
    def remove(self, namespace: str, key: str, version: Hashable) -> bool:
        """Delete only if the record still has ``version``. ``False``: changed or already gone."""
        ...


@runtime_checkable
class Listing(Protocol):
    """A store that can name what it holds."""

    @abstractmethod
    def keys(self, namespace: str) -> Iterator[str]:
        """The original keys of the namespace's live records, in no order.

        What is written or deleted during the iteration may or may not be among them.
        """
        ...


class Contents(NamedTuple):
    """What a store holds of one namespace: ``records``, those expired among them, their ``size`` in bytes as kept, and
    when the oldest was first and the newest last written, in seconds since the epoch (``None``: not known).

    ``namespace``: ``#`` and hex digits where the store keeps no more than a digest of it, the beginning of
    :func:`beaker.keys.namespace_digest`. ``at_least``: the store stopped early, and there may be more of everything.
    """

    namespace: str
    records: int
    size: int | None
    oldest: float | None = None
    newest: float | None = None
    expired: int | None = 0
    at_least: bool = False


@runtime_checkable
class Describing(Protocol):
    """A store that can say what it holds without being told the namespaces."""

    @abstractmethod
    def contents(self, now: float) -> Iterator[Contents]:
        """What each namespace holds at ``now`` (seconds since the epoch). Reads as much as it must: for people.

        A store that knows less here than its keys and records would show of one namespace has ``rough = True``.
        """
        ...


@runtime_checkable
class Purging(Protocol):
    """A store whose expired records stay until they are removed."""

    @abstractmethod
    def purge(
        self, now: float, limit: int, *, cursor: str | None = None, deadline: float | None = None
    ) -> tuple[int, str | None]:
        """Remove at most ``limit`` records that expired before ``now`` (seconds since the epoch).

        ``deadline`` is the seconds this call may take. Returns how many records were removed, and the ``cursor``
        for the next call (``None``: the end was reached). Bounded work, safe beside readers and writers.
        """
        ...


@runtime_checkable
class Bulk(Protocol):
    """Many keys in one round trip (or as few as the backend's batch limit allows)."""

    @abstractmethod
    def get_many(self, namespace: str, keys: Iterable[str]) -> dict[str, bytes]:
        """The bytes of those ``keys`` that have a live record."""
        ...

    @abstractmethod
    def set_many(self, namespace: str, items: Mapping[str, bytes], *, ttl: float | None) -> None:
        """:meth:`Store.set` for each of ``items``; sizes are checked before anything is written.

        Atomic only where the store says so: after an error some may be written.
        """
        ...

    @abstractmethod
    def delete_many(self, namespace: str, keys: Iterable[str]) -> None:
        """:meth:`Store.delete` for each of ``keys``."""
        ...


@runtime_checkable
class Spanning(Protocol):
    """Keys of several namespaces in one round trip (or as few as the backend's batch limit allows)."""

    @abstractmethod
    def get_across(self, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        """The bytes of those ``names``, pairs of namespace and key, that have a live record.

        Each record is one that was there between the beginning and the end of the call; they need not be of one moment.
        """
        ...


class Change(NamedTuple):
    """One record to be written, or with ``data = None`` deleted, by :meth:`Joining.write_together`.

    ``ttl`` is seconds from now, ``None`` for ever. ``absent``: only where there is none. ``version``: only where the
    record has it.
    """

    namespace: str
    key: str
    data: bytes | None
    ttl: float | None = None
    absent: bool = False
    version: Hashable = None

    def __repr__(self) -> str:
        return f"<change of {self.namespace!r}: {'no' if self.data is None else len(self.data)} bytes>"


@runtime_checkable
class Joining(Protocol):
    """Several records in one transaction, which costs one round trip."""

    @abstractmethod
    def write_together(self, changes: Sequence[Change]) -> bool | None:
        """Carry out all ``changes``, of different records, or none of them; they become visible at one moment.

        ``False``: a condition does not hold, and nothing was written. ``None``: these cannot be joined, as some are too
        large or the server cannot, and nothing was written. Raises ValueTooLarge as :meth:`Store.set` does.
        """
        ...


@runtime_checkable
class Pinning(Protocol):
    """A store that makes room by dropping records, and can spare some."""

    @abstractmethod
    def pin(self, namespace: str) -> None:
        """Never drop single records of ``namespace`` to make room: where they alone are too many, all of them go."""
        ...


_S = TypeVar("_S")
_stores: SyncDict[Hashable, Any] = SyncDict()


def shared_store(identity: Hashable, build: Callable[[], _S]) -> _S:
    """One store per frozen set of options in this process: ``build`` runs once for each ``identity``.

    The identity may hold a url with a password, so it is never printed.
    """
    store: _S = _stores.get(identity, build)
    return store
