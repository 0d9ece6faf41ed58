"""Stamps: what a value depends on besides its age, so that one write makes many values old at once.

A stamp is a small record in the values' own store: a random token. A value carries the tokens that its stamps had when
its creation began, and is a miss when one has another token now, or none. Moving a stamp is one blind write of a new
token; a stamp that was evicted, or expired, makes its values old and never brings one back. No host's clock decides:
a record's life, which its writer's clock measured, only says when it is worth prolonging.

:class:`StampBook` has those of one store, :class:`LocalStamps` those of live objects in this process.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from beaker import clock as _clock
from beaker import serving
from beaker._typing import Clock
from beaker.caching.known import KnownStamps
from beaker.caching.stamp import TOKEN, Stamp
from beaker.exceptions import ConfigError
from beaker.forks import ForkAware
from beaker.keys import digest
from beaker.storage.api import Bulk, Change, Joining, Spanning, Store, Versioned

if TYPE_CHECKING:
    from beaker.caching.unwritten import Unwritten

__all__ = [
    "MAX_TAGS",
    "NAMESPACE",
    "LocalStamps",
    "Stamp",
    "StampBook",
    "StampHome",
    "check_tag",
    "check_tags",
    "local",
    "name_of",
]

NAMESPACE = "beaker.stamps"
"""Where a store has them; no cache may be called that."""
MAX_TAGS = 100
"""Tags of one value at most: each is one more record in the batch that reads it."""

_NAME = 33
LIFE = 86_400.0
"""Seconds a stamp is kept unless what depends on it is kept for longer."""
_ROUNDS = 8


Found = Mapping[str, "Stamp | None"]


class StampHome(Protocol):
    """Where the stamps of a manager's values are."""

    def move_tags(self, tags: Iterable[str]) -> None:
        """Make every value old that has one of ``tags``. StoreUnavailable: that is not known to have happened."""
        ...


def name_of(kind: str, text: str) -> str:
    """The name of a stamp, always 33 characters. ``kind`` is a letter: ``t`` tag, ``r`` region, ``n`` namespace."""
    return kind + digest(f"{NAMESPACE}/{kind}", text)[: _NAME - 1]


def check_tag(tag: Any) -> None:
    """ConfigError unless ``tag`` is a text."""
    if not isinstance(tag, str):
        raise ConfigError("a tag is a text", option="tags", expected="texts", got=type(tag).__name__)


def check_tags(tags: Any) -> tuple[str, ...]:
    """``tags`` without repetitions; one text is one tag. ConfigError for what is no text and for more than 100."""
    given = (tags,) if isinstance(tags, str) else tuple(tags)
    for tag in given:
        check_tag(tag)
    unique = tuple(dict.fromkeys(given))
    if len(unique) > MAX_TAGS:
        raise ConfigError(
            "a value has too many tags", option="tags", expected=f"{MAX_TAGS} at most", got=str(len(unique))
        )
    return unique


class _VersionedStore(Store, Versioned, Protocol):
    pass


class StampBook:
    """The stamps of one ``store``; ``token`` returns random bytes."""

    def __init__(
        self, store: Store, clock: Clock = _clock.now, token: Callable[[], bytes] = lambda: os.urandom(TOKEN)
    ) -> None:
        self.store = store
        self.clock = clock
        self.token = token
        self.unwritten: Unwritten | None = None
        """Stamps of tags and regions that could not be moved, where that is made good."""
        self.known = KnownStamps()
        """What the near tiers of this process have read."""
        self._bulk = isinstance(store, Bulk)
        self._spanning = isinstance(store, Spanning)
        self._versioned = isinstance(store, Versioned)
        self.joins = isinstance(store, Joining)
        """Whether a stamp may be moved together with what is written."""

    # Reading

    def read(self, names: Iterable[str]) -> dict[str, Stamp | None]:
        """The stamps called ``names``, in one batch."""
        wanted = tuple(names)
        if not wanted:
            return {}
        self._recover(wanted)
        return self._understood(wanted, self._get(NAMESPACE, wanted))

    def read_with(
        self, namespace: str, keys: Iterable[str], names: Iterable[str]
    ) -> tuple[dict[str, bytes], dict[str, Stamp | None]]:
        """The records of ``keys`` and the stamps called ``names``: in one batch where the store can."""
        records, wanted = tuple(keys), tuple(names)
        self._recover(wanted)
        if not self._spanning or not wanted:
            # The stamps come last: what was written before they moved has been read.
            return self._get(namespace, records), self.read(wanted)
        pairs = [(namespace, key) for key in records] + [(NAMESPACE, name) for name in wanted]
        found = self.store.get_across(pairs)  # type: ignore[attr-defined]
        stamps = {key: data for (space, key), data in found.items() if space == NAMESPACE}
        return {key: data for (space, key), data in found.items() if space == namespace}, self._understood(
            wanted, stamps
        )

    def _recover(self, names: Iterable[str]) -> None:
        """Remove those of ``names`` that could not be moved: what depends on one that is gone is old as well."""
        unwritten = self.unwritten
        if unwritten is not None and unwritten.pending:
            for name in names:
                unwritten.recover(name)

    def _get(self, namespace: str, keys: tuple[str, ...]) -> dict[str, bytes]:
        if len(keys) > 1 and self._bulk:
            many: dict[str, bytes] = self.store.get_many(namespace, keys)  # type: ignore[attr-defined]
            return many
        found = ((key, self.store.get(namespace, key)) for key in keys)
        return {key: data for key, data in found if data is not None}

    def _understood(self, names: tuple[str, ...], records: Mapping[str, bytes]) -> dict[str, Stamp | None]:
        return {name: Stamp.unpack(records.get(name, b"")) for name in names}

    # Writing

    def ensure(self, found: Found, seconds: float | None = 0.0) -> dict[str, Stamp]:
        """``found`` with those created that are missing, to stay for ``seconds`` (``None``: for ever) or a day.

        Call it before the function runs.
        """
        missing = [name for name, stamp in found.items() if stamp is None]
        life = _life(seconds)
        created = self._create_together(missing, life) if self.joins and len(missing) > 1 else {}
        return {
            name: (created.get(name) or self._create(name, life)) if stamp is None else stamp
            for name, stamp in found.items()
        }

    def _create_together(self, names: Iterable[str], life: float | None) -> dict[str, Stamp]:
        stamps = {name: self._new(life) for name in names}
        changes = [Change(NAMESPACE, name, stamp.pack(), life, absent=True) for name, stamp in stamps.items()]
        store: Joining = self.store  # type: ignore[assignment]
        return stamps if store.write_together(changes) else {}

    def _create(self, name: str, life: float | None) -> Stamp:
        if not self._versioned:
            # Nothing could prolong it safely, so that what is kept for longer is a miss after a day.
            stamp = self._new(LIFE)
            self.store.set(NAMESPACE, name, stamp.pack(), ttl=LIFE)
            return stamp
        stamp = self._new(life)
        store: _VersionedStore = self.store  # type: ignore[assignment]
        for _ in range(_ROUNDS):
            if store.insert(NAMESPACE, name, stamp.pack(), ttl=life):
                return stamp
            there = self.read((name,))[name]
            if there is not None:
                return there
            if store.get(NAMESPACE, name) is not None:
                break
        # What is there is no stamp, or comes and goes: moved, it is ours.
        store.set(NAMESPACE, name, stamp.pack(), ttl=life)
        return stamp

    def prolong(self, stamps: Mapping[str, Stamp], seconds: float | None) -> None:
        """See that ``stamps`` stay for ``seconds`` (``None``: for ever), for as long again where they would not.

        Those that have moved meanwhile are left alone. So are all of a store that knows no versions, as one that moved
        might be set back: there, what is kept for longer is a miss after a day.
        """
        if not self._versioned:
            return
        now = self.clock()
        for name, stamp in stamps.items():
            if stamp.until < (math.inf if seconds is None else now + seconds):
                self._prolong(name, stamp, _life(seconds))

    def _prolong(self, name: str, stamp: Stamp, life: float | None) -> None:
        store: _VersionedStore = self.store  # type: ignore[assignment]
        longer = stamp._replace(until=math.inf if life is None else self.clock() + life)
        for _ in range(_ROUNDS):
            found = store.read(NAMESPACE, name)
            there = None if found is None else Stamp.unpack(found[0])
            if found is None or there is None or there.token != stamp.token or there.until >= longer.until:
                return
            if store.replace(NAMESPACE, name, longer.pack(), found[1], ttl=life):
                return

    def move(self, names: Iterable[str]) -> None:
        """Give each of ``names`` a new token, in one batch."""
        stamps = {name: self._new(LIFE) for name in names}
        with self.known.holding(stamps):
            if len(stamps) > 1 and self._bulk:
                moved = {name: stamp.pack() for name, stamp in stamps.items()}
                self.store.set_many(NAMESPACE, moved, ttl=LIFE)  # type: ignore[attr-defined]
            else:
                for name, stamp in stamps.items():
                    self.store.set(NAMESPACE, name, stamp.pack(), ttl=LIFE)
            self.known.moved(stamps)

    def move_with(self, changes: Sequence[Change], names: Iterable[str]) -> bool:
        """Carry out ``changes`` and :meth:`move` ``names`` in one transaction.

        ``False``: the store cannot, and nothing was done. It takes the place of a move after the change: whoever sees
        the new token sees the change.
        """
        store: Joining = self.store  # type: ignore[assignment]
        stamps = {name: self._new(LIFE) for name in names}
        moves = [Change(NAMESPACE, name, stamp.pack(), LIFE) for name, stamp in stamps.items()]
        with self.known.holding(stamps):
            done = bool(store.write_together([*changes, *moves]))
            if done:
                self.known.moved(stamps)
        return done

    def move_tags(self, tags: Iterable[str]) -> None:
        """:meth:`move` the stamps of ``tags``."""
        self.move_for_all(name_of("t", tag) for tag in tags)

    def move_for_all(self, names: Iterable[str]) -> None:
        """:meth:`move` stamps on which values of any namespace depend. What fails is made good before they are read."""
        moving = tuple(names)
        with contextlib.nullcontext() if self.unwritten is None else self.unwritten.changing(*moving):
            if not serving.wanted:
                self.move(moving)
                return
            from beaker.caching.memo import changing, forget_all

            with changing(forget_all):
                self.move(moving)

    def _new(self, life: float | None) -> Stamp:
        return Stamp(self.token(), math.inf if life is None else self.clock() + life)


def _life(seconds: float | None) -> float | None:
    """How long a stamp stays on which something depends for ``seconds``: as long again, so it is seldom written."""
    return None if seconds is None else max(LIFE, 2 * seconds)


class LocalStamp:
    """The stamp of a tag of live objects; ``void`` once it was moved."""

    __slots__ = ("__weakref__", "void")

    def __init__(self) -> None:
        self.void = False


class LocalStamps(ForkAware):
    """The stamps of live objects in this process; each is there for as long as a value depends on it."""

    def __init__(self) -> None:
        self._stamps: weakref.WeakValueDictionary[str, LocalStamp] = weakref.WeakValueDictionary()
        self._renew_locks()
        super().__init__()

    def _renew_locks(self) -> None:
        self._mutex = threading.Lock()

    _after_fork = _renew_locks

    def take(self, names: Iterable[str]) -> tuple[tuple[str, LocalStamp], ...]:
        """The present stamps called ``names``; hold them, or they are gone."""
        with self._mutex:
            return tuple((name, self._take(name)) for name in names)

    def _take(self, name: str) -> LocalStamp:
        stamp = self._stamps.get(name)
        if stamp is None:
            stamp = self._stamps[name] = LocalStamp()
        return stamp

    def move_tags(self, tags: Iterable[str]) -> None:
        """Make every live object old that has one of ``tags``."""
        with self._mutex:
            self._void(tags)

    def _void(self, tags: Iterable[str]) -> None:
        for tag in tags:
            stamp = self._stamps.pop(tag, None)
            if stamp is not None:
                stamp.void = True


local = LocalStamps()
"""Those of every memory cache of this process."""
