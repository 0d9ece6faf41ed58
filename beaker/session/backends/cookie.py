"""Cookie sessions: the data travels in the cookie, signed or encrypted; nothing is stored."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from contextlib import suppress

from beaker.counters import count, count_key
from beaker.crypto.tokens import BadToken, DataTokens, OpenedData, RollingTokens
from beaker.exceptions import CorruptRecord, SessionTooLarge, StoreUnavailable
from beaker.session.backends import Counted, Draft, Ended, InCookie, Loaded, Place, Saved, dropped
from beaker.session.context import SessionContext
from beaker.session.cookies import part_name, read_cookie
from beaker.session.exchange import Cookie, Sent
from beaker.session.records import ends, over
from beaker.session.snapshot import MARK_BYTES, USER, Snapshot
from beaker.session.standing import ALIVE, Standing
from beaker.session.values import Packed, pack_items, unpack_items

__all__ = ["DATA", "CookieBackend"]

DATA, MARKED_DATA = 1, 4
"""First byte of a payload that holds the session's values, without and with a mark of the revocations."""
HEADER_LIMIT = 7500
"""Bytes of all chunks together: gunicorn, nginx and Heroku refuse header lines over about 8 kB."""

_HEAD = struct.Struct(">B32sI")
_IN_COOKIE = InCookie()
_REMEMBERED, _LARGEST = 256, 4096
"""Contents of tokens that a process remembers decoded, and the longest of them in bytes: deflated it may be 64 KiB."""

Sealed = tuple[tuple[str, str], ...]
"""Names and values of the cookies that carry a session."""


def encode_data(snapshot: Snapshot, packed: Packed) -> bytes:
    """The payload of a token that carries the session itself."""
    kind = MARKED_DATA if snapshot.mark else DATA
    return _HEAD.pack(kind, snapshot.id, snapshot.epoch) + snapshot.mark + pack_items(packed)


def decode_data(opened: OpenedData) -> Snapshot:
    """The session in an opened token. Raises CorruptRecord."""
    if len(opened.payload) < _HEAD.size:
        raise CorruptRecord("the session token ends early")
    kind, id, epoch = _HEAD.unpack_from(opened.payload)
    if kind not in (DATA, MARKED_DATA):
        raise CorruptRecord("the session token holds something else")
    at = _HEAD.size + (MARK_BYTES if kind == MARKED_DATA else 0)
    values, mark = unpack_items(opened.payload, at), opened.payload[_HEAD.size : at]
    return Snapshot(id, opened.created, opened.issued, epoch, values, mark=mark, trusted=False, current=opened.current)


class CookieBackend:
    """Keeps sessions in the cookie itself; see :class:`~beaker.session.backends.SessionBackend`.

    A token cannot be taken back once it is out: an older copy opens the session as it was then. With a ``revocation``
    store an ended id stays dead; without one ``delete()`` only asks the browser to forget the cookie.
    """

    def __init__(self, context: SessionContext) -> None:
        self.context = context
        assert context.data is not None  # the context of a client-side type always has one
        self.tokens: DataTokens | RollingTokens = context.data
        self.revocations = context.revocations
        self._decoded: dict[bytes, Snapshot] = {}

    # -- loading -------------------------------------------------------------------------------------

    def fetch(self, sent: Sent) -> Loaded | Ended | None:
        opened = self._opened(sent)
        if len(opened) > 1:
            # Two of our cookies may arrive (a wider domain, an older path): of the live ones the latest counts.
            opened.sort(key=lambda opened: -opened.issued)
        ended: Ended | None = None
        for token in opened:
            found = self.load(token, sent)
            if isinstance(found, Loaded):
                return found
            ended = found.latest(ended)
        return ended

    def _opened(self, sent: Sent) -> list[OpenedData]:
        found = []
        for token in self._tokens_in(sent.header):
            if sent.foreign is not None and sent.foreign(token):
                continue
            try:
                opened = self.tokens.open(token)
            except BadToken as bad:
                count("bad_token", bad.reason)
                continue
            count_key(opened.kid)
            found.append(opened)
        return found

    def _tokens_in(self, header: str | None) -> Iterable[str]:
        name, chunks = self.context.cookie.name, self.context.options.chunks
        values = read_cookie(header, name)
        if chunks == 1:
            return values
        parts = [[_chunk(value) for value in read_cookie(header, part_name(name, i))] for i in range(chunks)]
        joined = [_join(first, parts) for first in parts[0] if first is not None]
        return [*(token for token in joined if token), *(value for value in values if "." not in value)]

    def load(self, opened: OpenedData, sent: Sent) -> Loaded | Ended:
        """The session in a token that verified, unless it is over or revoked."""
        known = self._decoded.get(opened.payload)
        if known is not None:
            snapshot = known.copy()
            snapshot.created, snapshot.accessed, snapshot.current = opened.created, opened.issued, opened.current
            return self.admit(snapshot, sent)
        try:
            snapshot = decode_data(opened)
        except CorruptRecord as error:
            return self.corrupt(error)
        self._remember(opened.payload, snapshot)
        return self.admit(snapshot, sent)

    def _remember(self, payload: bytes, snapshot: Snapshot) -> None:
        """Keep what the content of a token says, whose values then are one dict each time; see ValueCodec.unpack."""
        if len(payload) > _LARGEST:
            return
        if len(self._decoded) >= _REMEMBERED:
            self._decoded.clear()
        self._decoded[payload] = Snapshot(
            snapshot.id, snapshot.created, snapshot.accessed, snapshot.epoch, snapshot.values, mark=snapshot.mark
        )

    def corrupt(self, error: CorruptRecord) -> Ended:
        """What becomes of a token whose content cannot be read. Raises ``error`` unless ``invalidate_corrupt``."""
        count("corrupt_record", "cookie")
        if not self.context.options.invalidate_corrupt:
            raise error
        return Ended()

    def admit(self, snapshot: Snapshot, sent: Sent, *, serial: int = 0, fresh: bool = False) -> Loaded | Ended:
        """See SessionBackend; ``serial`` is the token's, ``fresh`` asks the revocation store whatever is remembered."""
        if over(snapshot, sent.now, self.context.timeout, self.context.absolute):
            return Ended()
        try:
            values = self.context.values.unpack(snapshot.values, trusted=snapshot.trusted)
        except CorruptRecord as error:
            return self.corrupt(error)
        standing = self.standing(snapshot, values.get(USER), fresh=fresh)
        if standing.revoked is not None:
            return Ended(standing.revoked, (snapshot.id,))
        if standing.serial > serial:
            return self.outdated(snapshot, sent)
        cookie = Cookie.KEEP if snapshot.current else Cookie.RESEAL
        place = InCookie(serial=serial) if serial else _IN_COOKIE
        return Loaded(snapshot, values, place, cookie, snapshot.accessed)

    def outdated(self, snapshot: Snapshot, sent: Sent) -> Loaded | Ended:
        """What a token leads to whose session has moved to a store since; here, where there is none, to nothing."""
        return Ended(None, (snapshot.id,))

    def standing(self, snapshot: Snapshot, user: object, *, fresh: bool = False) -> Standing:
        """Whether the session in a token was revoked, and whether the token still carries it."""
        if self.revocations is None:
            return ALIVE
        return self.revocations.standing(snapshot.mark, user, id=snapshot.id, fresh=fresh)

    # -- saving --------------------------------------------------------------------------------------

    def save(self, draft: Draft) -> Saved | Ended:
        if self.has_ended(draft):
            return dropped("revoked")
        snapshot = draft.snapshot.copy()
        snapshot.values, snapshot.current = draft.values, True
        snapshot.seen(draft.now)
        sealed = self.seal(snapshot)
        if draft.moving is None:
            return Saved(snapshot, InCookie(sealed), Cookie.SEND)
        self._carry_numbers(draft.moving, snapshot)
        if not self.retire(draft.moving, snapshot):
            if not draft.logged_in:
                return dropped("revoked")
            # A visitor who has just logged in gets a session all the same, but nothing out of the one that ended.
            snapshot.values = draft.restarted(snapshot.id).values
            sealed = self.seal(snapshot)
            self._forget_numbers(snapshot)
        else:
            # What was counted just before the old id ended; what is counted after that is refused.
            with suppress(StoreUnavailable):
                self._carry_numbers(draft.moving, snapshot)
        return Saved(snapshot, InCookie(sealed), Cookie.SEND)

    def has_ended(self, draft: Draft) -> bool:
        """Whether the identity this request came with is dead by now. A login in this request needs none."""
        if draft.place is None or draft.logged_in or self.revocations is None:
            return False
        return self.standing(draft.moving or draft.snapshot, draft.known_user, fresh=True).revoked is not None

    def touch(self, draft: Draft) -> Saved | Ended | None:
        return self.save(draft)

    def retire(self, old: Snapshot | None, new: Snapshot) -> bool:
        """End the id a session had before it got another. ``False``: another request was first."""
        return old is None or self.revocations is None or self.revocations.move_id(old.id, new.id)

    def refresh(self, draft: Draft) -> Loaded | Ended | None:
        return None

    def count(self, draft: Draft, key: str, n: int) -> Counted | Ended:
        from beaker.session.backends.server import count_in

        records = self.context.numbers
        if self.has_ended(draft):
            return dropped("revoked")
        record = _record_of_numbers(draft.snapshot)
        known = records.load(record.id)
        if not n:
            return Counted(known.numbers.get(key, 0) if isinstance(known, Snapshot) else 0)
        if known == "gone":
            records.insert(record)
        base = known if isinstance(known, Snapshot) else record
        found = count_in(self.context, records, base, key, n, draft.now)
        if isinstance(found, Ended):
            return found
        # A change of the id may have taken the numbers along just before.
        return dropped("revoked") if self.has_ended(draft) else Counted(found.number)

    def _carry_numbers(self, old: Snapshot | None, new: Snapshot) -> None:
        """What was counted under one id counts under the next."""
        if old is None or self.revocations is None:
            return
        found = self.context.numbers.load(old.id)
        if isinstance(found, Snapshot):
            record = _record_of_numbers(new)
            record.numbers = found.numbers
            self.context.numbers.overwrite(record)

    def _forget_numbers(self, new: Snapshot) -> None:
        if self.revocations is not None:
            self.context.numbers.forget(new.id)

    def end(self, identity: Snapshot | None, sent: Sent) -> tuple[str, ...]:
        if identity is not None and self.revocations is not None:
            self.revocations.end_id(identity.id)
        return ()

    # -- cookies -------------------------------------------------------------------------------------

    def seal(self, snapshot: Snapshot) -> Sealed:
        """The cookies that carry the session. Raises SessionTooLarge naming the largest keys."""
        context, payload = self.context, encode_data(snapshot, snapshot.values)
        try:
            token = self.tokens.seal(
                payload,
                created=snapshot.created,
                issued=snapshot.accessed,
                expires=ends(snapshot, context.timeout, context.absolute),
            )
        except SessionTooLarge as error:
            raise _too_large(snapshot.values, error.size, error.limit) from None
        self._remember(payload, snapshot)
        return self.fit(token, snapshot.values)

    def fit(self, token: str, packed: Packed) -> Sealed:
        """``token`` in one cookie, or over as many as ``chunks`` allows. Raises SessionTooLarge."""
        name, limit, chunks = self.context.cookie.name, self.context.options.cookie_max, self.context.options.chunks
        size = len(name) + len(token)
        if size <= limit and chunks == 1:
            return ((name, token),)
        if size <= limit:
            return ((name, token), *((part_name(name, i), "") for i in range(1, chunks)))
        mark = os.urandom(4).hex()
        room = limit - len(name) - 2 - len(f"{mark}.0.0.")
        pieces = [token[at : at + room] for at in range(0, len(token), room)] if room > 0 else []
        if not 0 < len(pieces) <= chunks or size + 20 * len(pieces) > HEADER_LIMIT:
            raise _too_large(packed, size, limit if chunks == 1 else min(limit * chunks, HEADER_LIMIT))
        carried = ((part_name(name, i), f"{mark}.{i}.{len(pieces)}.{piece}") for i, piece in enumerate(pieces))
        return (*carried, *((part_name(name, i), "") for i in range(len(pieces), chunks)))

    def cookies(self, snapshot: Snapshot, place: Place, *, dated: bool) -> Iterable[tuple[str, str]]:
        assert isinstance(place, InCookie)  # this backend knows no other place
        # A loaded session is sealed here if its cookie has to go out without having been saved.
        return place.sealed or self.seal(snapshot)


def _record_of_numbers(snapshot: Snapshot) -> Snapshot:
    """What is stored of a session in its cookie whose application counts."""
    return Snapshot(snapshot.id, snapshot.created, snapshot.accessed)


def _chunk(value: str) -> tuple[str, int, int, str] | None:
    mark, _, rest = value.partition(".")
    index, _, rest = rest.partition(".")
    total, dot, piece = rest.partition(".")
    if not dot or len(mark) != 8 or index not in ("0", "1", "2") or total not in ("2", "3"):
        return None
    return mark, int(index), int(total), piece


def _join(first: tuple[str, int, int, str], parts: list[list[tuple[str, int, int, str] | None]]) -> str | None:
    mark, index, total, piece = first
    if index != 0 or total > len(parts):
        return None
    pieces = [piece]
    for i in range(1, total):
        # A set counts only when every part is of one generation.
        match = next((part for part in parts[i] if part is not None and part[:3] == (mark, i, total)), None)
        if match is None:
            return None
        pieces.append(match[3])
    return "".join(pieces)


def _too_large(packed: Packed, size: int, limit: int) -> SessionTooLarge:
    largest = sorted(packed.items(), key=lambda item: -len(item[1]))[:5]
    told = ", ".join(f"{name.decode(errors='replace')} {len(data)}" for name, data in largest)
    return SessionTooLarge(
        f"the session does not fit in its cookie: {size} bytes, limit {limit}; biggest keys (bytes): {told};"
        " keep less in it, or use a server-side or hybrid session",
        size=size,
        limit=limit,
    )
