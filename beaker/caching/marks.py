"""Creations in flight: what an invalidation voids, so that what they read before it is not stored after it.

A creation marks its key before it begins, and stores only while its mark is there. Whatever writes or removes the key
takes the mark away: `put`, `invalidate`, `clear`, `refresh`, another creation that stored. As in leases of memcached at
Facebook (Nishtala et al., NSDI 2013).

:class:`LocalMarks` holds the marks of one process beside a store that knows no versions. With versions the mark is in
the key's own record (:mod:`beaker.caching.stored_marks`), and holds for every process and host.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from beaker import counters
from beaker.caching.entry import Entry
from beaker.forks import ForkAware

__all__ = ["Begun", "Creation", "Good", "LocalMarks", "Mode", "Unmarked"]

log = logging.getLogger("beaker.cache")

Good = Callable[[Entry], bool]
"""Whether an entry makes the creation needless."""

Mode = Literal["hold", "join", "seize"]
"""``hold``: alone, where marks exclude. ``join``: beside another. ``seize``: in place of another, which is overdue."""


class Creation(Protocol):
    """A creation that has begun."""

    def store(self, entry: Entry) -> bool:
        """Store ``entry``, unless the creation was voided meanwhile: ``False``, and nothing is written.

        Raises what the store and the serializer raise; the mark then stays until :meth:`abandon`.
        """
        ...

    def abandon(self, *, drop: bool = False) -> bool:
        """Take the mark away without storing; the old value stays, unless ``drop`` removes it too.

        Returns whether the creation had not been voided. Raises nothing; harmless after :meth:`store`.
        """
        ...


class Begun(NamedTuple):
    """How a creation began. ``creation`` is ``None`` when it did not: the entry is good, or (``taken``) another
    creation holds the key."""

    entry: Entry | None
    creation: Creation | None
    taken: bool = False

    def __repr__(self) -> str:
        return f"<begun: {self.creation!r}, taken={self.taken}>"


class Unmarked:
    """A creation that could not mark its key: it stores nothing."""

    def store(self, entry: Entry) -> bool:
        return False

    def abandon(self, *, drop: bool = False) -> bool:
        return False


class _LocalMark:
    __slots__ = ("lock", "users", "void")

    def __init__(self) -> None:
        # Re-entrant, as a manager's own write voids what is in flight.
        self.lock = threading.RLock()
        self.users = 0
        self.void = False


class LocalMarks(ForkAware):
    """The creations in flight of one namespace in this process; a key has a mark only while one is."""

    def __init__(self) -> None:
        self._after_fork()
        super().__init__()

    def _after_fork(self) -> None:
        self._mutex = threading.Lock()
        self.held: dict[str, _LocalMark] = {}
        """By key. A put in memory looks here itself: :meth:`void` is asked only where there is something to void."""

    def __len__(self) -> int:
        return len(self.held)

    def begin(self, key: str, write: Callable[[Entry], object], discard: Callable[[], object]) -> Creation:
        """A creation of ``key``; ``write(entry)`` stores what it creates, ``discard()`` removes what is there."""
        with self._mutex:
            mark = self.held.get(key)
            if mark is None:
                mark = self.held[key] = _LocalMark()
            mark.users += 1
        return _LocalCreation(self, key, mark, write, discard)

    def has(self, key: str) -> bool:
        """Whether a creation of ``key`` is in flight."""
        return key in self.held

    def void(self, key: str) -> None:
        """Void the creations of ``key`` in flight. Call it before the key is written or removed."""
        # Without a mark there is nothing to void: one that is set this moment is of a creation that begins after.
        if self.held:
            with self._mutex:
                mark = self.held.pop(key, None)
            if mark is not None:
                _void(mark)

    def void_all(self) -> None:
        """Void every creation in flight. Call it before the namespace is emptied."""
        if self.held:
            with self._mutex:
                marks, self.held = self.held, {}
            for mark in marks.values():
                _void(mark)

    def _leave(self, key: str, mark: _LocalMark, *, stored: bool) -> None:
        with self._mutex:
            mark.users -= 1
            # What was stored is newer than what creations beside this one have read, unless they began later.
            if (stored or not mark.users) and self.held.get(key) is mark:
                del self.held[key]


def _void(mark: _LocalMark) -> None:
    # Under its lock a creation checks and writes: it wrote before, and is overwritten or removed, or not at all.
    with mark.lock:
        mark.void = True


class _LocalCreation:
    def __init__(
        self,
        marks: LocalMarks,
        key: str,
        mark: _LocalMark,
        write: Callable[[Entry], object],
        discard: Callable[[], object],
    ) -> None:
        self._marks = marks
        self._key = key
        self._mark = mark
        self._write = write
        self._discard = discard
        self._ended = False

    def store(self, entry: Entry) -> bool:
        with self._mark.lock:
            if self._mark.void:
                counters.count("creation_voided")
                return False
            self._write(entry)
            self._mark.void = True
        self._end(stored=True)
        return True

    def abandon(self, *, drop: bool = False) -> bool:
        if self._ended:
            return False
        try:
            with self._mark.lock:
                intact = not self._mark.void
                if intact and drop:
                    self._discard()
        except Exception as err:
            intact = False
            log.warning("a value that is too large to be replaced was not removed: %s", err)
        finally:
            self._end(stored=False)
        return intact

    def _end(self, *, stored: bool) -> None:
        if not self._ended:
            self._ended = True
            self._marks._leave(self._key, self._mark, stored=stored)
