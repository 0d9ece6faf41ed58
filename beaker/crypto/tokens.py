"""What travels in cookies: session ids and whole sessions, signed or encrypted.

====  =========  ====================================================================================
byte  type       bytes, as base64url without padding
====  =========  ====================================================================================
01    signed     ``01`` kid4 created8 issued8 expires8 flags1 payload mac32
02    encrypted  ``02`` kid4 salt16 nonce12 GCM(created8 issued8 expires8 flags1 payload) tag16
03    id         ``03`` kid4 id32 mac16: always 71 characters
04    bare id    ``04`` id32, where no key is configured (development): always 44 characters
05    id, dated  ``05`` kid4 id32 issued4 mac16: always 76 characters
06    bare,dated ``06`` id32 issued4: always 50 characters
====  =========  ====================================================================================

Stamps are big-endian doubles, infinity for "never"; an id's is whole seconds, for cookies that are renewed. MAC and
associated data cover
``lp("beaker2/" + type, cookie name, header)``, so a token is valid for one cookie and one type. There is one
spelling of a token: other base64 of the same bytes is refused. Whatever is wrong with a token, the answer
is :class:`BadToken`; its ``reason`` is for counters, not for whoever sent it.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import math
import os
import struct
from functools import lru_cache
from typing import Final, NamedTuple

from beaker import clock as _clock
from beaker._typing import Clock
from beaker.crypto import sealing
from beaker.crypto.deflate import deflated, inflated
from beaker.crypto.keyring import KEY_ID_BYTES, Key, KeyRing, lp
from beaker.exceptions import BeakerException, SessionTooLarge

__all__ = [
    "ID_BYTES",
    "MAX_CHARS",
    "MAX_PAYLOAD",
    "SKEW",
    "BadToken",
    "DataTokens",
    "IdTokens",
    "OpenedData",
    "OpenedId",
    "RollingTokens",
    "new_id",
    "store_key",
]

ID_BYTES: Final = 32
MAX_CHARS: Final = 8192
"""Longest token that is looked at: what servers accept as one header line."""
MAX_PAYLOAD: Final = 65536
"""Longest payload in bytes, before compression."""
SKEW: Final = 60.0
"""Seconds a stamp may lie in the future (another instance's clock is ahead) before that is counted."""

_SIGNED, _ENCRYPTED, _ID, _BARE, _ID_DATED, _BARE_DATED = 1, 2, 3, 4, 5, 6
_HEADER: Final = 1 + KEY_ID_BYTES
_ID_MAC: Final = 16
_ID_SIZE: Final = _HEADER + ID_BYTES + _ID_MAC
_ISSUED: Final = 4
_LATEST: Final = 2**32 - 1
_STORE_KEY: Final = lp("beaker2/id")
_REMEMBERED: Final = 1024
"""Verified tokens of ids, and names of records, that a process remembers: those of its latest visitors."""
_REMEMBERED_DATA: Final = 256
"""The same of whole sessions: 4 MiB at most, usually a tenth of it."""
_DATA_MAC: Final = 32
_STAMPS: Final = struct.Struct(">dddB")
_COMPRESSED: Final = 1
_PADDED: Final = 2
_BLOCK: Final = 32
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_TO_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


class BadToken(BeakerException):
    """A token that is not ours, not for here, changed or too old.

    ``reason``: ``length``, ``base64``, ``version``, ``kid``, ``mac``, ``expired``, ``stamps``, ``flags``
    or ``inflate``.
    """

    code = "session.bad-token"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return "not a valid token"


class OpenedId(NamedTuple):
    """A session id. ``current`` is false when an older key sealed it: re-issue. ``kid`` names the key.

    ``issued`` is when, in seconds since the epoch, as the token says: nothing may be granted by it. ``None``: it
    does not say.
    """

    id: bytes
    current: bool
    kid: bytes
    issued: float | None = None

    def __repr__(self) -> str:
        return f"<OpenedId current={self.current} kid={self.kid.hex()}>"


class OpenedData(NamedTuple):
    """A token's content; stamps are seconds since the epoch, ``expires`` is ``None`` for never."""

    payload: bytes
    created: float
    issued: float
    expires: float | None
    current: bool
    kid: bytes

    def __repr__(self) -> str:
        return f"<OpenedData of {len(self.payload)} bytes current={self.current} kid={self.kid.hex()}>"


def new_id() -> bytes:
    """A session id: 32 random bytes."""
    return os.urandom(ID_BYTES)


@lru_cache(maxsize=_REMEMBERED)
def store_key(raw_id: bytes) -> str:
    """What a session's record is called in a store: 64 hex digits from which the id cannot be had."""
    return hashlib.sha256(_STORE_KEY + len(raw_id).to_bytes(4, "big") + raw_id).hexdigest()


def _encode(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL_SAFE, b"=").decode("ascii")


def _decode(text: str) -> bytes:
    try:
        standard = text.encode("ascii").translate(_TO_STANDARD)
        raw = binascii.a2b_base64(standard + b"=" * (-len(text) % 4))
    except ValueError:
        raise BadToken("base64") from None
    if _encode(raw) != text:
        raise BadToken("base64")
    return raw


def _chars(size: int) -> int:
    return (size * 4 + 2) // 3


def _find(ring: KeyRing, raw: bytes, version: int) -> Key:
    if raw[0] != version:
        raise BadToken("version")
    key = ring.find(raw[1:_HEADER])
    if key is None:
        raise BadToken("kid")
    return key


class RollingTokens:
    """:class:`DataTokens` while encryption is introduced: keys that are a pair encrypt, the ring's others sign.

    Both are opened, and the ring's current key says which is sealed. Takes what DataTokens takes, without ``encrypt``.
    """

    __slots__ = ("_encrypted", "_ring", "_signed")

    def __init__(self, ring: KeyRing, cookie_name: str, *, clock: Clock = _clock.now, compress: bool = False) -> None:
        self._ring = ring
        self._signed = DataTokens(ring, cookie_name, encrypt=False, clock=clock, compress=compress)
        self._encrypted = DataTokens(ring, cookie_name, encrypt=True, clock=clock, compress=compress)

    def seal(self, payload: bytes, *, created: float, issued: float, expires: float | None) -> str:
        """As :meth:`DataTokens.seal`."""
        tokens = self._encrypted if self._ring.current.paired else self._signed
        return tokens.seal(payload, created=created, issued=issued, expires=expires)

    def open(self, text: str) -> OpenedData:
        """As :meth:`DataTokens.open`."""
        for tokens, paired in ((self._encrypted, True), (self._signed, False)):
            try:
                opened = tokens.open(text)
            except BadToken as bad:
                if bad.reason not in ("version", "length") or not paired:
                    raise
            else:
                key = self._ring.find(opened.kid)
                if key is not None and key.paired is paired:
                    return opened
                raise BadToken("version")
        raise BadToken("version")


def _stamp(raw: bytes) -> float | None:
    return float(int.from_bytes(raw, "big")) if raw else None


class IdTokens:
    """Session ids for one cookie name. Without a ring ids are bare: anyone can invent one."""

    __slots__ = ("_bound", "_lengths", "_ring", "_verified")

    def __init__(self, ring: KeyRing | None, cookie_name: str) -> None:
        self._verified: dict[str, tuple[OpenedId, object]] = {}
        self._ring = ring
        size, plain, dated = (1 + ID_BYTES, _BARE, _BARE_DATED) if ring is None else (_ID_SIZE, _ID, _ID_DATED)
        self._lengths = {_chars(size): plain, _chars(size + _ISSUED): dated}
        self._bound = lp("beaker2/id", cookie_name) + _HEADER.to_bytes(4, "big")

    def issue(self, raw_id: bytes, issued: float | None = None) -> str:
        """The token of a 32-byte id (ValueError for another length), dated when ``issued`` is given."""
        if len(raw_id) != ID_BYTES:
            raise ValueError(f"an id has {ID_BYTES} bytes")
        stamp = b"" if issued is None else min(max(int(issued), 0), _LATEST).to_bytes(_ISSUED, "big")
        if self._ring is None:
            return _encode(bytes((_BARE_DATED if stamp else _BARE,)) + raw_id + stamp)
        key = self._ring.current
        body = bytes((_ID_DATED if stamp else _ID,)) + key.kid + raw_id + stamp
        return _encode(body + key.mac("id-sign", self._bound, body)[:_ID_MAC])

    def open(self, text: str) -> OpenedId:
        """The id in a token, or :class:`BadToken`. A ring never accepts a bare id."""
        ring = self._ring
        keys = None if ring is None else ring.keys
        known = self._verified.get(text)
        if known is not None and known[1] is keys:
            return known[0]
        opened = self._open(text)
        if len(self._verified) >= _REMEMBERED:
            self._verified.clear()
        self._verified[text] = opened, keys
        return opened

    def _open(self, text: str) -> OpenedId:
        ring, version = self._ring, self._lengths.get(len(text))
        if version is None:
            raise BadToken("length")
        raw = _decode(text)
        if ring is None:
            if raw[0] != version:
                raise BadToken("version")
            return OpenedId(raw[1 : 1 + ID_BYTES], True, b"", _stamp(raw[1 + ID_BYTES :]))
        key = _find(ring, raw, version)
        body = raw[:-_ID_MAC]
        if not hmac.compare_digest(key.mac("id-sign", self._bound, body)[:_ID_MAC], raw[-_ID_MAC:]):
            raise BadToken("mac")
        end = _HEADER + ID_BYTES
        return OpenedId(body[_HEADER:end], key is ring.current, key.kid, _stamp(body[end:]))


class DataTokens:
    """Payloads for one cookie name, all signed or all encrypted: the other kind is refused.

    - ``encrypt``: else they are signed only. InvalidCryptoBackendError where ``cryptography`` is missing.
    - ``compress``: deflate when that is shorter. Beside encryption a length reveals a content (CRIME): payloads are
      then padded to whole blocks of 32 bytes.
    """

    __slots__ = ("_bound", "_clock", "_compress", "_encrypt", "_header", "_overhead", "_ring", "_verified", "_version")

    def __init__(
        self, ring: KeyRing, cookie_name: str, *, encrypt: bool, clock: Clock = _clock.now, compress: bool = False
    ) -> None:
        self._ring = ring
        self._encrypt = encrypt
        self._clock = clock
        self._compress = compress
        self._verified: dict[str, tuple[OpenedData, object]] = {}
        self._version = _ENCRYPTED if encrypt else _SIGNED
        self._header = _HEADER if encrypt else _HEADER + _STAMPS.size
        self._overhead = _HEADER + _STAMPS.size + (sealing.OVERHEAD if encrypt else _DATA_MAC)
        self._bound = lp("beaker2/encrypted" if encrypt else "beaker2/signed", cookie_name)
        self._bound += self._header.to_bytes(4, "big")
        if encrypt:
            sealing.require()

    def seal(self, payload: bytes, *, created: float, issued: float, expires: float | None) -> str:
        """The token of ``payload``; stamps in seconds since the epoch.

        Raises SessionTooLarge for a payload over 64 KiB or a token over 8,192 characters.
        """
        if len(payload) > MAX_PAYLOAD:
            raise SessionTooLarge("payload over the limit", size=len(payload), limit=MAX_PAYLOAD)
        flags, plain = 0, payload
        if self._compress:
            packed = deflated(payload)
            if packed is not None:
                payload, flags = packed, _COMPRESSED
            if self._encrypt:
                fill = _BLOCK - len(payload) % _BLOCK
                payload, flags = payload + bytes(fill - 1) + bytes((fill,)), flags | _PADDED
        size = _chars(self._overhead + len(payload))
        if size > MAX_CHARS:
            raise SessionTooLarge("token over the limit", size=size, limit=MAX_CHARS)
        keys, key = self._ring.keys, self._ring.current
        body = _STAMPS.pack(created, issued, math.inf if expires is None else expires, flags) + payload
        header = bytes((self._version,)) + key.kid
        if self._encrypt:
            text = _encode(header + sealing.seal(key, "cookie-enc", body, self._bound + header))
        else:
            signed = header + body
            text = _encode(signed + key.mac("cookie-sign", self._bound, signed))
        if math.isfinite(created) and math.isfinite(issued):
            # Stamps that are no times are refused when the token is opened.
            end = None if expires == math.inf else expires
            self._remember(text, OpenedData(plain, created, issued, end, True, key.kid), keys)
        return text

    def _remember(self, text: str, opened: OpenedData, keys: object) -> None:
        # The browser sends it back with every request, many of them to this process.
        if len(opened.payload) > MAX_CHARS:
            return
        if len(self._verified) >= _REMEMBERED_DATA:
            self._verified.clear()
        self._verified[text] = opened, keys

    def open(self, text: str, *, max_age: float | None = None, absolute_timeout: float | None = None) -> OpenedData:
        """The content of a token, or :class:`BadToken`.

        Besides its own expiry, ``max_age`` is the seconds since it was issued and ``absolute_timeout``
        the seconds since it was first created, from which on it is expired. A token issued in the future is
        authentic all the same: another instance's clock was ahead, or this one was set back.
        """
        known, keys, now = self._verified.get(text), self._ring.keys, self._clock()
        if known is not None and known[1] is keys:
            opened = known[0]
            if opened.expires is not None and not now < opened.expires:
                raise BadToken("expired")
        else:
            opened = self._opened(text, now)
            self._remember(text, opened, keys)
        if max_age is not None and not now - opened.issued < max_age:
            raise BadToken("expired")
        if absolute_timeout is not None and not now - opened.created < absolute_timeout:
            raise BadToken("expired")
        return opened

    def _opened(self, text: str, now: float) -> OpenedData:
        if not _chars(self._overhead) <= len(text) <= MAX_CHARS:
            raise BadToken("length")
        raw = _decode(text)
        key = _find(self._ring, raw, self._version)
        body = self._authentic(key, raw)
        created, issued, expires, flags = _STAMPS.unpack_from(body)
        # Written so that a NaN, which compares false to everything, is refused.
        if not now < expires:
            raise BadToken("expired")
        if not (math.isfinite(issued) and math.isfinite(created)):
            raise BadToken("stamps")
        payload = self._unpacked(body[_STAMPS.size :], flags) if flags else body[_STAMPS.size :]
        never = expires == math.inf
        return OpenedData(payload, created, issued, None if never else expires, key is self._ring.current, key.kid)

    def _authentic(self, key: Key, raw: bytes) -> bytes:
        if self._encrypt:
            body = sealing.unseal(key, "cookie-enc", raw[_HEADER:], self._bound + raw[:_HEADER])
            if body is None:
                raise BadToken("mac")
            return body
        signed = raw[:-_DATA_MAC]
        if not hmac.compare_digest(key.mac("cookie-sign", self._bound, signed), raw[-_DATA_MAC:]):
            raise BadToken("mac")
        return signed[_HEADER:]

    def _unpacked(self, payload: bytes, flags: int) -> bytes:
        if flags & ~(_COMPRESSED | _PADDED):
            raise BadToken("flags")
        if flags & _PADDED:
            fill = payload[-1] if payload else 0
            if not 1 <= fill <= min(_BLOCK, len(payload)):
                raise BadToken("flags")
            payload = payload[:-fill]
        if not flags & _COMPRESSED:
            return payload
        plain = inflated(payload, MAX_PAYLOAD)
        if plain is None:
            raise BadToken("inflate")
        return plain
