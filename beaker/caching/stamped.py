"""Creations and reads of values that depend on stamps; see :mod:`beaker.caching.stamps`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from beaker import counters
from beaker.caching.entry import Entry, SlidingEntry, StampedEntry, stamps_of
from beaker.caching.marks import Begun, Creation, Good
from beaker.caching.stamps import Stamp, StampBook
from beaker.exceptions import StoreUnavailable

__all__ = ["Known", "LocalCreation", "StoredCreation", "stamped_now", "with_stamps", "without"]


def with_stamps(entry: Entry, stamps: Iterable[tuple[str, Any]]) -> Entry:
    """``entry`` as one that depends on ``stamps``."""
    found = tuple(stamps)
    if not found:
        return entry
    stamped = SlidingEntry.until(entry.end, entry) if isinstance(entry, SlidingEntry) else StampedEntry(*entry)
    stamped.stamps = found
    return stamped


def _lasting(entry: Entry, kept: Callable[[Entry], float | None]) -> float | None:
    """Seconds for which the stamps of ``entry`` have to stay: as long as it may be renewed."""
    if not isinstance(entry, SlidingEntry):
        return kept(entry)
    return kept(Entry(None, entry.stored, None if entry.end == math.inf else entry.end - entry.stored))


def stamped_now(
    book: StampBook,
    found: Mapping[str, Stamp | None],
    entries: Iterable[Entry],
    kept: Callable[[Entry], float | None],
) -> list[Entry]:
    """``entries`` as depending on the stamps ``found``, which are created or prolonged as far as that is needed."""
    given = list(entries)
    lives = [_lasting(entry, kept) for entry in given]
    seconds = None if None in lives else max(life for life in lives if life is not None)
    stamps = book.ensure(found, seconds)
    book.prolong(stamps, seconds)
    tokens = [(name, stamp.token) for name, stamp in stamps.items()]
    return [with_stamps(entry, tokens) for entry in given]


class Known:
    """What one call knows of stamps: those ``found``, and by :meth:`holds` those it has to look up besides."""

    def __init__(self, look: Callable[[Iterable[str]], Mapping[str, Stamp | None]], names: Iterable[str]) -> None:
        self._look = look
        self.names = frozenset(names)
        """What the call's values have to depend on."""
        self.found: dict[str, Stamp | None] = {}

    def holds(self, entry: Entry) -> bool:
        """Whether ``entry`` depends on all it has to, and nothing of what it depends on has moved."""
        stamps = stamps_of(entry)
        if not stamps:
            return not self.names
        if not self.names.issubset(name for name, _ in stamps):
            return False
        missing = [name for name, _ in stamps if name not in self.found]
        if missing:
            self.found.update(self._look(missing))
        found = self.found
        return all((stamp := found[name]) is not None and stamp.token == token for name, token in stamps)

    def learn(self, entries: Iterable[Entry]) -> None:
        """Look up all that ``entries`` depend on, at once."""
        missing = {name for entry in entries for name, _ in stamps_of(entry) if name not in self.found}
        if missing:
            self.found.update(self._look(missing))

    def current(self, entry: Entry | None) -> Entry | None:
        """``entry``, unless it does not hold."""
        return entry if entry is not None and self.holds(entry) else None

    def good(self, good: Good) -> Good:
        """``good`` for entries that hold."""
        return lambda entry: self.holds(entry) and good(entry)


class StoredCreation:
    """A creation whose value depends on ``stamps``, as they were before it began."""

    def __init__(
        self,
        inner: Creation,
        book: StampBook,
        stamps: Mapping[str, Stamp],
        kept: Callable[[Entry], float | None],
        stored: Callable[[], None] | None = None,
    ) -> None:
        self._inner = inner
        self._book = book
        self._found = stamps
        self._kept = kept
        self._stored = stored
        self.stamps = tuple((name, stamp.token) for name, stamp in stamps.items())

    @property
    def record(self) -> bytes | None:
        """What it has stored, if that is known."""
        return getattr(self._inner, "record", None)

    def store(self, entry: Entry) -> bool:
        self._book.prolong(self._found, _lasting(entry, self._kept))
        done = self._inner.store(with_stamps(entry, self.stamps))
        if done and self._stored is not None:
            self._stored()
        return done

    def abandon(self, *, drop: bool = False) -> bool:
        intact = self._inner.abandon(drop=drop)
        if drop and self._stored is not None:
            self._stored()
        return intact and self._unmoved()

    def _unmoved(self) -> bool:
        # Those that wait may have come after a stamp moved: its failure is not theirs then.
        if not self.stamps:
            return True
        try:
            found = self._book.read(self._found)
        except StoreUnavailable:
            return False
        return all((stamp := found[name]) is not None and stamp.token == token for name, token in self.stamps)


class LocalCreation:
    """The same for live objects."""

    def __init__(self, inner: Creation, stamps: tuple[tuple[str, Any], ...]) -> None:
        self._inner = inner
        self.stamps = stamps

    def store(self, entry: Entry) -> bool:
        if self._moved():
            counters.count("creation_voided")
            self._inner.abandon()
            return False
        return self._inner.store(with_stamps(entry, self.stamps)) and not self._moved()

    def abandon(self, *, drop: bool = False) -> bool:
        return self._inner.abandon(drop=drop) and not self._moved()

    def _moved(self) -> bool:
        return any(stamp.void for _, stamp in self.stamps)


def without(begun: Begun, known: Known) -> Begun:
    """``begun`` without an entry that does not hold."""
    entry = known.current(begun.entry)
    return begun if entry is begun.entry else begun._replace(entry=entry)
