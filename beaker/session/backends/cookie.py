"""Cookie sessions: the data travels in the cookie, signed or encrypted; nothing is stored."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from beaker.config.parse import parse_session
from beaker.counters import count, count_key
from beaker.crypto.tokens import BadToken, DataTokens, OpenedData
from beaker.exceptions import CorruptRecord, SessionTooLarge
from beaker.session.base import BaseSession
from beaker.session.context import SessionContext
from beaker.session.cookies import part_name, read_cookie
from beaker.session.records import ends, over
from beaker.session.snapshot import Snapshot
from beaker.session.values import Packed, pack_items, unpack_items

__all__ = ["DATA", "CookieCarrier", "CookieSession"]

DATA = 1
"""First byte of a payload that holds the session's values."""
HEADER_LIMIT = 7500
"""Bytes of all chunks together: gunicorn, nginx and Heroku refuse header lines over about 8 kB."""

_HEAD = struct.Struct(">B32sI")


def encode_data(snapshot: Snapshot, packed: Packed) -> bytes:
    """The payload of a token that carries the session itself."""
    return _HEAD.pack(DATA, snapshot.id, snapshot.epoch) + pack_items(packed)


def decode_data(opened: OpenedData) -> Snapshot:
    """The session in an opened token. Raises CorruptRecord."""
    if len(opened.payload) < _HEAD.size:
        raise CorruptRecord("the session token ends early")
    kind, id, epoch = _HEAD.unpack_from(opened.payload)
    if kind != DATA:
        raise CorruptRecord("the session token holds something else")
    values = unpack_items(opened.payload, _HEAD.size)
    return Snapshot(id, opened.created, opened.issued, epoch, values, trusted=False, current=opened.current)


class CookieCarrier:
    """Loads and saves sessions in the cookie itself.

    A token cannot be taken back once it is out. With a ``revocation`` store a killed id stays dead; without
    one ``delete()`` only asks the browser to forget the cookie.
    """

    def __init__(self, context: SessionContext) -> None:
        self.context = context
        assert context.data is not None  # the context of a client-side type always has one
        self.tokens: DataTokens = context.data
        self.revocations = context.revocations

    def fetch(self, session: BaseSession, header: str | None) -> None:
        candidates: list[OpenedData] = []
        legacy = self.context.legacy
        for token in self._tokens_in(session, header):
            if legacy is not None and legacy.recognizes(token):
                continue
            try:
                opened = self.tokens.open(token)
            except BadToken as bad:
                count("bad_token", bad.reason)
                continue
            count_key(opened.kid)
            candidates.append(opened)
        # Two of our cookies may arrive (a wider domain, an older path): of those alive the one issued last counts.
        for opened in sorted(candidates, key=lambda opened: -opened.issued):
            self.load(session, opened)
            if not session.is_new:
                session.fenced = False
                return
        if legacy is not None and not candidates:
            legacy.take(session, header, self)

    def load(self, session: BaseSession, opened: OpenedData) -> None:
        """Adopt the session in a token that verified, unless it is over or revoked."""
        try:
            snapshot = decode_data(opened)
        except CorruptRecord:
            count("corrupt_record", "cookie")
            if not self.context.options.invalidate_corrupt:
                raise
            return
        self.adopt_token(session, snapshot, current=opened.current)

    def adopt_token(self, session: BaseSession, snapshot: Snapshot, *, current: bool, fresh: bool = False) -> None:
        """Adopt what an authentic token holds, unless it is over, unreadable or revoked."""
        if over(snapshot, session.now, self.context.timeout, self.context.absolute):
            return
        try:
            session.adopt(snapshot)
        except CorruptRecord:
            count("corrupt_record", "cookie")
            if not self.context.options.invalidate_corrupt:
                raise
            return
        revoked = self._revoked_at(session, snapshot, fresh=fresh)
        if revoked is not None:
            session.end_revoked(revoked)
        elif not current:
            session.must_reseal = True

    def _revoked_at(self, session: BaseSession, snapshot: Snapshot, *, fresh: bool = False) -> float | None:
        if self.revocations is None:
            return None
        return self.revocations.revoked_at(snapshot.created, session.known_user, id=snapshot.id, fresh=fresh)

    def _tokens_in(self, session: BaseSession, header: str | None) -> Iterable[str]:
        name, chunks = self.context.cookie.name, self.context.options.chunks
        values = read_cookie(header, name)
        session.presented = bool(values)
        if chunks == 1:
            return values
        parts = [[_chunk(value) for value in read_cookie(header, part_name(name, i))] for i in range(chunks)]
        session.presented_parts = sum(1 for found in parts if found)
        joined = [_join(first, parts) for first in parts[0] if first is not None]
        return [*(token for token in joined if token), *(value for value in values if "." not in value)]

    def fetch_id(self, session: BaseSession, id: bytes) -> None:
        """A cookie session cannot be found by id: the session stays new."""

    def save(self, session: BaseSession, packed: Packed) -> None:
        if self.ended_meanwhile(session):
            session.fence("revoked")
            return
        old, snapshot = session.moving, replace(session.snapshot, accessed=session.now, current=True)
        sealed = self.seal(snapshot, packed)
        if not self.retire(old, snapshot):
            if not session.logged_in:
                session.fence("revoked")
                return
            # Who has just proved his name gets a session all the same, but nothing out of the one that ended.
            packed = session.start_over(packed)
            sealed = self.seal(snapshot, packed)
        session.sealed = sealed
        session.saved(snapshot, packed)
        session.cookie_due = True

    def ended_meanwhile(self, session: BaseSession) -> bool:
        """Whether the identity this request came with is dead by now. A login in this request needs none."""
        if session.is_new or session.logged_in:
            return False
        return self._revoked_at(session, session.moving or session.snapshot, fresh=True) is not None

    def touch(self, session: BaseSession) -> None:
        self.save(session, session.snapshot.values)

    def retire(self, old: Snapshot | None, new: Snapshot) -> bool:
        """Kill the id a session had before it got another. ``False``: another request was first."""
        return old is None or self.revocations is None or self.revocations.move_id(old.id, new.id)

    def refresh(self, session: BaseSession) -> None:
        """Nothing is shared, so there is nothing newer."""

    def kill(self, session: BaseSession) -> None:
        if self.revocations is not None:
            self.revocations.end_id(session.snapshot.id)
        if self.context.legacy is not None:
            self.context.legacy.end(session)

    def seal(self, snapshot: Snapshot, packed: Packed) -> list[tuple[str, str]]:
        """The cookies that carry the session. Raises SessionTooLarge naming the biggest keys."""
        context = self.context
        try:
            token = self.tokens.seal(
                encode_data(snapshot, packed),
                created=snapshot.created,
                issued=snapshot.accessed,
                expires=ends(snapshot, context.timeout, context.absolute),
            )
        except SessionTooLarge as error:
            raise _too_large(packed, error.size, error.limit) from None
        return self.fit(token, packed)

    def fit(self, token: str, packed: Packed) -> list[tuple[str, str]]:
        """``token`` in one cookie, or over as many as ``chunks`` allows."""
        name, limit, chunks = self.context.cookie.name, self.context.options.cookie_max, self.context.options.chunks
        size = len(name) + len(token)
        if size <= limit:
            spare = [(part_name(name, i), "") for i in range(1, chunks)]
            return [(name, token), *spare]
        mark = secrets.token_hex(4)
        room = limit - len(name) - 2 - len(f"{mark}.0.0.")
        pieces = [token[at : at + room] for at in range(0, len(token), room)] if room > 0 else []
        if not 0 < len(pieces) <= chunks or size + 20 * len(pieces) > HEADER_LIMIT:
            raise _too_large(packed, size, limit if chunks == 1 else min(limit * chunks, HEADER_LIMIT))
        cookies = [(part_name(name, i), f"{mark}.{i}.{len(pieces)}.{piece}") for i, piece in enumerate(pieces)]
        return cookies + [(part_name(name, i), "") for i in range(len(pieces), chunks)]

    def cookies(self, session: BaseSession) -> list[tuple[str, str]]:
        if session.sealed is None:
            # Only the cookie's attributes changed: the same session is sealed once more.
            session.sealed = self.seal(session.snapshot, session.snapshot.values)
        # A browser that never had the further chunks need not be told to drop them.
        return [(name, value) for i, (name, value) in enumerate(session.sealed) if value or i < session.presented_parts]


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
    biggest = sorted(packed.items(), key=lambda item: -len(item[1]))[:5]
    told = ", ".join(f"{name.decode(errors='replace')} {len(data)}" for name, data in biggest)
    return SessionTooLarge(
        f"the session does not fit in its cookie: {size} bytes, limit {limit}; biggest keys (bytes): {told};"
        " keep less in it, or use a server-side or hybrid session",
        size=size,
        limit=limit,
    )


class CookieSession(BaseSession):
    """A session kept in the cookie; see :class:`~beaker.session.base.BaseSession`.

    The arguments are the manual's (5.1.4); every session option is taken as a keyword. ``validate_key``
    signs; with ``encrypt_key`` the content cannot be read either. Name plus value of the cookie are at most
    ``cookie_max`` (4,096) bytes, else SessionTooLarge. Pickled values are refused (UnserializableValue).
    """

    def __init__(
        self,
        request: Mapping[str, Any],
        key: str = "beaker.session.id",
        timeout: float | None = None,
        cookie_expires: Any = True,
        cookie_domain: str | None = None,
        encrypt_key: Any = None,
        validate_key: Any = None,
        secure: bool | None = False,
        **kwargs: Any,
    ) -> None:
        context, began = kwargs.pop("context", None), kwargs.pop("began", None)
        if context is None:
            clock, runtime = kwargs.pop("clock", None), kwargs.pop("runtime", None)
            given = dict(
                type="cookie",
                key=key,
                timeout=timeout,
                cookie_expires=cookie_expires,
                cookie_domain=cookie_domain,
                encrypt_key=encrypt_key,
                validate_key=validate_key,
                secure=secure or None,
                **kwargs,
            )
            context = SessionContext(parse_session(kwargs=given), clock=clock, runtime=runtime)
        super().__init__(request, context, CookieCarrier(context), began=began)
