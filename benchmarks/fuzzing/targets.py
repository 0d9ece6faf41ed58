"""What is fuzzed: a function of bytes that raises for whatever is not promised, and the seeds it begins with.

Bytes from outside end at the seal, which fuzzing cannot get past. Each reader behind a seal is therefore a target of
its own: it gets the bytes rightly sealed.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import decimal
import pickle
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from beaker.caching.entry import Entry, EntryCodec
from beaker.caching.mark import Mark
from beaker.config.parse import parse_session
from beaker.crypto.envelope import Envelope, stamps
from beaker.crypto.keyring import KeyRing
from beaker.crypto.tokens import BadToken, DataTokens, IdTokens, RollingTokens
from beaker.exceptions import CorruptRecord, UnserializableValue
from beaker.serialization.tagged_json import TaggedJson
from beaker.session.context import SessionContext
from beaker.session.legacy import unpickle
from beaker.session.legacy.payload import Codec, verified
from beaker.session.legacy.plain import LegacyDataError
from beaker.session.opening import opener
from beaker.session.proxy import SessionObject
from beaker.session.signed_cookie import SignedCookie
from beaker.session.snapshot import Snapshot

__all__ = ["TARGETS", "Target"]

NOW = 1_700_000_000.0
SECRET = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
OTHER = "pR5tZ8wC1nB4vX7qM0kL3jH6gF9dS2aYeUoIiTrEwQm"
COOKIE = "beaker.session.id"
RING = KeyRing.from_option(SECRET, strict=False)
PAIRED = KeyRing.combine(validate=SECRET, encrypt=OTHER)
VALUES: dict[str, Any] = {
    "user": "ann",
    "n": 1,
    "f": 1.5,
    "list": [1, None, True, {"a": "b"}],
    "tuple": (1, 2),
    "set": {1, 2},
    "bytes": b"\x00\xff",
    "when": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc),
    "day": dt.date(2026, 1, 2),
    "id": uuid.UUID(int=7),
    "price": decimal.Decimal("1.50"),
}


@dataclass(frozen=True)
class Target:
    """``read(data)`` raises what is not promised; ``seeds()`` are valid samples."""

    name: str
    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]


def _clock() -> float:
    return NOW


# Tokens

_READERS: tuple[Any, ...] = (
    IdTokens(None, COOKIE),
    IdTokens(RING, COOKIE),
    *(DataTokens(PAIRED, COOKIE, encrypt=encrypt, clock=_clock, compress=True) for encrypt in (False, True)),
    RollingTokens(PAIRED, COOKIE, clock=_clock, compress=True),
)


def read_tokens(data: bytes) -> None:
    text = data.decode("latin-1")
    for reader in _READERS:
        with contextlib.suppress(BadToken):
            reader.open(text)


def token_seeds() -> list[bytes]:
    stamped: dict[str, Any] = {"created": NOW, "issued": NOW, "expires": NOW + 10}
    ids = [tokens.issue(bytes(32), issued) for tokens in _READERS[:2] for issued in (None, NOW)]
    sealed = [tokens.seal(payload, **stamped) for tokens in _READERS[2:] for payload in (b"", b"a" * 300)]
    return [text.encode() for text in (*ids, *sealed)]


class _AsSigned(DataTokens):
    """Tokens whose body, stamps and flags included, is given."""

    def sign(self, body: bytes) -> str:
        key = self._ring.current
        signed = bytes((self._version,)) + key.kid + body
        raw = signed + key.mac("cookie-sign", self._bound, signed)
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


_FORGER = _AsSigned(RING, COOKIE, encrypt=False, clock=_clock, compress=True)


def read_signed_bodies(data: bytes) -> None:
    token = _FORGER.sign(data)
    with contextlib.suppress(BadToken):
        _FORGER.open(token)
    SignedCookie(SECRET, f"{COOKIE}={token}")


def signed_body_seeds() -> list[bytes]:
    sealed = [
        _FORGER.seal(payload, created=NOW, issued=NOW, expires=expires)
        for payload in (b"", b"a" * 300)
        for expires in (None, NOW + 10)
    ]
    return [base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[5:-32] for text in sealed]


# Cookies

_TYPES: tuple[dict[str, Any], ...] = (
    {"type": "memory", "secret": SECRET},
    {"type": "memory"},
    {"type": "cookie", "validate_key": SECRET, "compress": True},
    {"type": "cookie", "validate_key": SECRET, "encrypt_key": OTHER},
    {"type": "cookie", "validate_key": SECRET, "chunks": 3, "cookie_max": 300},
    {"type": "hybrid", "store": "memory", "validate_key": SECRET, "cookie_max": 220},
)


class _Site:
    """Sessions of one type, without WSGI."""

    def __init__(self, options: dict[str, Any]) -> None:
        given = {"key": COOKIE, **options}
        self.context = SessionContext(parse_session(kwargs=given), clock=_clock)
        self.open = opener(self.context)

    def header(self, **values: Any) -> bytes:
        session = SessionObject({}, context=self.context, opener=self.open)
        session.update(values)
        session.save()
        pairs = [value.partition(";")[0] for name, value in session.commit() if name == "Set-Cookie"]
        return "; ".join(pairs).encode()

    def visit(self, header: str) -> dict[str, Any]:
        session = SessionObject({"HTTP_COOKIE": header}, context=self.context, opener=self.open)
        found = dict(session)
        session.commit()
        return found


_SITES = [_Site(options) for options in _TYPES]


def read_cookies(data: bytes) -> None:
    header = data.decode("latin-1")
    for site in _SITES:
        site.visit(header)


def cookie_seeds() -> list[bytes]:
    return [header for site in _SITES for header in (site.header(a=1), site.header(big="x" * 250))]


_COOKIE_SITE = _SITES[2]


def read_cookie_payloads(data: bytes) -> None:
    tokens: Any = _COOKIE_SITE.context.data
    if len(data) < 4096:
        token = tokens.seal(data, created=NOW, issued=NOW, expires=None)
        _COOKIE_SITE.visit(f"{COOKIE}={token}")
    with contextlib.suppress(CorruptRecord):
        Snapshot.decode(bytes(32), data)


def cookie_payload_seeds() -> list[bytes]:
    tokens: Any = _COOKIE_SITE.context.data
    cookies = [_COOKIE_SITE.header(**values).decode().partition("=")[2] for values in ({"a": 1}, VALUES)]
    packed = TaggedJson().dumps("ann")
    whole = Snapshot(bytes(32), NOW, NOW, 1, {b"user": packed, b"n": b"1"}, (b"12345678",))
    told = Snapshot(bytes(32), NOW, NOW, 1, {b"a": packed}, returned={b"a": packed}, numbers={"n": 3})
    return [*(tokens.open(cookie).payload for cookie in cookies), whole.encode(), told.encode()]


# Values

_JSON = TaggedJson()


def read_tagged_json(data: bytes) -> None:
    try:
        value = _JSON.loads(data)
    except CorruptRecord:
        value = None
    else:
        try:
            again = _JSON.dumps(value)
        except UnserializableValue:
            pass
        else:
            # What was read and written once is read and written the same from then on.
            if _JSON.dumps(_JSON.loads(again)) != again:
                raise AssertionError("a value is not what was written")
    parts = data.split(b"\x00")
    with contextlib.suppress(CorruptRecord):
        _JSON.loads_each(parts)


def json_seeds() -> list[bytes]:
    whole = [_JSON.dumps(value) for value in VALUES.values()]
    return [*whole, _JSON.dumps(VALUES), b"\x00".join(whole), _JSON.dumps({(1, "a"): frozenset({b"x"}), 2: 1j})]


# Records

_ENVELOPES = (
    Envelope(backend="fuzz"),
    Envelope(backend="fuzz", ring=RING),
    Envelope(backend="fuzz", ring=PAIRED, encrypt=True),
    Envelope(backend="fuzz", ring=PAIRED, encrypt=True, older="signed"),
    Envelope(backend="fuzz", ring=RING, older="bare"),
)
_CODECS = [EntryCodec(envelope, signed=False) for envelope in _ENVELOPES]


def read_envelopes(data: bytes) -> None:
    stamps(data)
    for envelope, codec in zip(_ENVELOPES, _CODECS, strict=True):
        with contextlib.suppress(CorruptRecord):
            envelope.open("n", "k", data)
        codec.open("n", "k", data)
        codec.mark_in("n", "k", data)


def envelope_seeds() -> list[bytes]:
    return [
        envelope.seal("n", "k", payload, stored=NOW, expires=expires, kind=kind)
        for envelope in _ENVELOPES
        for payload, expires, kind in ((b"", None, 0), (b"x" * 700, NOW + 10, 1))
    ]


def read_entries(data: bytes) -> None:
    """The first byte is the record's kind, the rest its payload. Without a key, so that no pickle is loaded."""
    envelope, codec = _ENVELOPES[0], _CODECS[0]
    record = envelope.seal("n", "k", data[1:], stored=NOW, expires=NOW + 10, kind=data[0] if data else 0)
    entry, _mark, _old = codec.open("n", "k", record)
    if entry is not None:
        entry.is_fresh(NOW)
    codec.mark_in("n", "k", record)


def entry_seeds() -> list[bytes]:
    found = []
    for value in (1, "text", VALUES, None):
        record = _CODECS[0].encode("n", "k", Entry(value, NOW, 10.0))
        mark = _CODECS[0].encode_mark("n", "k", Mark(bytes(16), bytes(16), NOW), record, NOW)
        for sealed in (record, mark):
            opened = _ENVELOPES[0].open("n", "k", sealed)
            found.append(bytes((opened.kind,)) + opened.payload)
    return found


# What Beaker 1.14 and older wrote

_OLD_KEYS = (SECRET.encode(),)
_LIMIT = 1 << 16
_PLAIN = Codec((), ("gcm", "ctr"), True, _LIMIT)
_SEALED = Codec((OTHER.encode(),), ("gcm", "ctr"), True, _LIMIT)


def read_legacy(data: bytes) -> None:
    """A cookie's text, the text of a record, and the serialized bytes in one."""
    text = data.decode("latin-1")
    verified(text, _OLD_KEYS)
    encoded = base64.b64encode(data).decode()
    for codec, given in ((_PLAIN, text), (_SEALED, text), (_PLAIN, encoded)):
        with contextlib.suppress(LegacyDataError):
            codec.decode(given, _OLD_KEYS[0])


def read_legacy_json(data: bytes) -> None:
    with contextlib.suppress(LegacyDataError):
        _PLAIN._load(zlib.compress(data))


def read_pickles(data: bytes) -> None:
    with contextlib.suppress(LegacyDataError):
        unpickle.loads(data, limit=_LIMIT)


def pickle_seeds() -> list[bytes]:
    return [pickle.dumps(VALUES, protocol) for protocol in range(5)] + [
        pickle.dumps(value, 2) for value in (*VALUES.values(), frozenset({1}), 1j, [[]], 2**70)
    ]


def legacy_seeds() -> list[bytes]:
    packed = [pickle.dumps({"a": 1}, 2), zlib.compress(b'{"a": 1}')]
    return [*packed, *map(base64.b64encode, packed), b"0" * 40 + base64.b64encode(packed[0])]


def legacy_json_seeds() -> list[bytes]:
    return [b'{"a": [1, null, 1.5e3, {"b": "\\u00e9"}]}', b"[]", b"1"]


TARGETS: tuple[Target, ...] = (
    Target("tokens", read_tokens, token_seeds),
    Target("signed-bodies", read_signed_bodies, signed_body_seeds),
    Target("cookies", read_cookies, cookie_seeds),
    Target("cookie-payloads", read_cookie_payloads, cookie_payload_seeds),
    Target("tagged-json", read_tagged_json, json_seeds),
    Target("envelopes", read_envelopes, envelope_seeds),
    Target("entries", read_entries, entry_seeds),
    Target("legacy", read_legacy, legacy_seeds),
    Target("legacy-json", read_legacy_json, legacy_json_seeds),
    Target("pickles", read_pickles, pickle_seeds),
)
