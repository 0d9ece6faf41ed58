"""Where sessions live (a store, the cookie, or either): what a backend is given, and what it returns.

A backend takes what a request sent, or what a session wants saved, and returns what became of it. It neither imports
nor changes a session, so one backend serves all requests of a configuration at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from beaker.counters import count
from beaker.session.exchange import Cookie, Sent
from beaker.session.merge import Operation, diff
from beaker.session.records import CLOCKS
from beaker.session.snapshot import USER, Snapshot
from beaker.session.values import Packed

__all__ = ["Counted", "Draft", "Ended", "InCookie", "InStore", "Loaded", "Place", "Saved", "SessionBackend", "dropped"]

_USER_NAME = b'"%s"' % USER.encode()


class InStore(NamedTuple):
    """The session is a record in the store."""


class InCookie(NamedTuple):
    """The session travels in its cookie.

    ``sealed`` is the names and values of the cookies that carry it, once it was saved. ``came_back`` is when a hybrid
    session returned from the store, in seconds since the epoch, 0 when it did not or all requests of then are over.
    ``serial`` is how often it had moved to the store; cookies of before a move do not carry it any more.
    """

    sealed: tuple[tuple[str, str], ...] = ()
    came_back: float = 0.0
    serial: int = 0

    def __repr__(self) -> str:
        return f"<InCookie of {len(self.sealed)} cookies>"


Place = InStore | InCookie


class Loaded:
    """A live session that a request's cookie leads to, with its values unpacked."""

    __slots__ = ("cookie", "issued", "old_cookies", "place", "snapshot", "unsaved", "values")

    def __init__(
        self,
        snapshot: Snapshot,
        values: dict[Any, Any],
        place: Place,
        cookie: Cookie = Cookie.KEEP,
        issued: float | None = None,
        unsaved: Packed | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.values = values
        self.place = place
        self.cookie = cookie
        self.issued = issued
        """When the cookie was sent that led here, in seconds since the epoch; ``None``: it does not say."""
        self.unsaved = unsaved
        """What the session is to hold instead of the snapshot's values: changes that were merged in and need a save."""
        self.old_cookies: tuple[str, ...] = ()
        """Names of an older Beaker's cookies that led here and are to be dropped."""

    def __repr__(self) -> str:
        return f"<Loaded {self.snapshot!r}>"


class Ended(NamedTuple):
    """The session is over: expired, deleted, revoked, or moved to another id by another request.

    ``at`` is when it was ended, in seconds since the epoch; ``None`` when that is unknown. ``left`` are the ids that
    led here and whose session may go on under another one.
    """

    at: float | None = None
    left: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"<Ended at {self.at}>"

    def concerns(self, began: float, now: float) -> bool:
        """Whether a request that ``began`` then was in flight when the session ended, as far as can be told ``now``.

        It must write nothing: its cookie could replace the one that the browser has got since. A later request with
        a dead cookie is a new visitor's. The time of a host whose clock is ahead says nothing: for as long as it is
        in the future every request would be taken for a late one.
        """
        return self.at is not None and began <= self.at + CLOCKS and self.at <= now + CLOCKS

    def latest(self, other: Ended | None) -> Ended:
        """The later of two ends, with what either left."""
        if other is None:
            return self
        later = self if (self.at or 0.0) >= (other.at or 0.0) else other
        return later._replace(left=(*other.left, *self.left))


class Saved(NamedTuple):
    """A session that was saved: its snapshot, whose ``values`` are what the session holds from now on."""

    snapshot: Snapshot
    place: Place
    cookie: Cookie = Cookie.KEEP

    def __repr__(self) -> str:
        return f"<Saved {self.snapshot!r}>"


class Counted(NamedTuple):
    """A number of :meth:`SessionBackend.count`, and the session as it is saved now, ``None`` if nothing was written."""

    number: int
    saved: Saved | None = None

    def __repr__(self) -> str:
        return "<Counted>"


class Draft(NamedTuple):
    """What a session wants saved."""

    snapshot: Snapshot
    """The session as loaded or last saved, under its new id if it gets one."""
    values: Packed
    operations: Mapping[bytes, tuple[Operation, ...]]
    """The keys of ``values`` that only operations have changed."""
    place: Place | None
    """Where the session is; ``None``: a new one."""
    now: float
    moving: Snapshot | None = None
    """The identity the session had before it got a new id."""
    reseal: bool = False
    """Whether its cookie must be made anew."""
    answered: bool = False
    """Whether the response's headers are out."""
    known_user: Any = None
    """Who the visitor was when the session was loaded or last saved."""
    user: Any = None
    logged_in: bool = False
    """Whether the visitor has just logged in."""

    def __repr__(self) -> str:
        return f"<Draft of {self.snapshot!r}>"

    def restarted(self, id: bytes) -> Draft:
        """A new session with nothing but what this request has set: the one it had loaded has ended meanwhile.

        For a visitor who has just logged in, who gets a session all the same.
        """
        values = diff(self.snapshot.values, self.values).sets
        if _USER_NAME in self.values:
            values[_USER_NAME] = self.values[_USER_NAME]
        snapshot = self.snapshot.renamed(id)
        snapshot.version, snapshot.returned, snapshot.write_ids, snapshot.numbers = None, None, (), {}
        return self._replace(snapshot=snapshot, values=values, place=None, moving=None)


class SessionBackend(Protocol):
    """Where the sessions of one configuration live. Thread-safe; every method may raise StoreUnavailable."""

    def fetch(self, sent: Sent) -> Loaded | Ended | None:
        """The live session that the request's cookie (or id) leads to; of several the first that lives.

        :class:`Ended` when authentic cookies lead to none that lives, ``None`` when the request brought no authentic
        cookie. Raises CorruptRecord unless ``invalidate_corrupt`` is set.
        """
        ...

    def admit(self, snapshot: Snapshot, sent: Sent) -> Loaded | Ended:
        """The session of an authentic snapshot, unless it is over or revoked. Raises CorruptRecord like fetch."""
        ...

    def save(self, draft: Draft) -> Saved | Ended:
        """Save, merging what concurrent requests have saved; :class:`Ended`: another request ended the session.

        Raises ValueTooLarge, SessionTooLarge, or WriteConflict after ``save_timeout`` seconds of conflicts.
        """
        ...

    def touch(self, draft: Draft) -> Saved | Ended | None:
        """Record the access and change nothing else; ``None`` when another request has done so."""
        ...

    def refresh(self, draft: Draft) -> Loaded | Ended | None:
        """What concurrent requests have saved, with the draft's changes in ``unsaved``; ``None``: nothing is shared."""
        ...

    def count(self, draft: Draft, key: str, n: int) -> Counted | Ended:
        """Add ``n`` to the number at ``key`` of a saved session, at once and in the store, and save nothing else.

        Raises ConfigError where there is no store, WriteConflict like save.
        """
        ...

    def end(self, identity: Snapshot | None, sent: Sent) -> tuple[str, ...]:
        """End the session, so that its cookie opens nothing from now on; ``None``: the request has none alive.

        Returns the names of further cookies that the browser is to drop.
        """
        ...

    def cookies(self, snapshot: Snapshot, place: Place, *, dated: bool) -> Iterable[tuple[str, str]]:
        """Names and values of the cookies that lead to a saved session, an empty value for a spare name.

        ``dated``: they say when they were issued, because they have to be renewed.
        """
        ...


def dropped(reason: str) -> Ended:
    """Count a write that is not done because another request ended the session."""
    count("stale_write_dropped", reason)
    return Ended()
