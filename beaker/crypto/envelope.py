"""The one shape of every stored record.

``BKR2`` ver1 flags1 kind1 kid4 stored8 expires8 payload tag16

Stamps are big-endian doubles (infinity: never expires); ``kind`` belongs to the caller. The tag covers
``lp("beaker2/store", backend, namespace, key, header)`` and the payload, so a record is valid for one place
only. It is, by the flags,

* HMAC-SHA-256 cut to 16 bytes, under the ring's ``store-mac`` subkey;
* the tag of AES-256-GCM (then payload is ``salt16 nonce12 ciphertext``), under ``store-enc``;
* SHA-256 cut to 16 bytes where no key is configured: it finds damage, not attackers. A store in a directory has a key
  of its own there (:mod:`beaker.crypto.place`), which then signs instead.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import struct
from typing import Final, Literal, NamedTuple

from beaker._typing import MISSING, MissingType
from beaker.crypto import sealing
from beaker.crypto.deflate import deflated, inflated
from beaker.crypto.keyring import KEY_ID_BYTES, Key, KeyRing, lp
from beaker.crypto.place import DirectoryKey, PlaceKey
from beaker.exceptions import ConfigError, CorruptRecord

__all__ = ["OVERHEAD", "Envelope", "Opened", "Stamps", "stamps"]

_MAGIC: Final = b"BKR2\x01"
_HEADER: Final = struct.Struct(">5sBB4sdd")
_HEADER_SIZE: Final = _HEADER.size.to_bytes(4, "big")
_TAG: Final = 16
OVERHEAD: Final = _HEADER.size + _TAG
"""Bytes a record is longer than its payload (``sealing.OVERHEAD`` - 16 more when encrypted)."""
_COMPRESSED: Final = 1
_MAC: Final = 2
_ENCRYPTED: Final = 4
_SEALS: Final = _MAC | _ENCRYPTED
_NO_KEY: Final = bytes(KEY_ID_BYTES)
_COMPRESS_FROM: Final = 512
_INFLATE_SEALED: Final = 64 << 20
_INFLATE_UNSEALED: Final = 1 << 20
_PREFIXES: Final = 1024


class Opened(NamedTuple):
    """A record's content. Stamps are seconds since the epoch, ``expires`` is ``None`` for never.

    ``authentic``: one of our keys sealed it. ``current``: the key, or its absence, is the one that would be
    used today; otherwise write it again when convenient. ``kid`` names the key (empty without one).
    """

    stored: float
    expires: float | None
    kind: int
    payload: bytes
    authentic: bool
    current: bool
    kid: bytes

    def __repr__(self) -> str:
        return f"<Opened kind={self.kind} of {len(self.payload)} bytes authentic={self.authentic}>"


class Stamps(NamedTuple):
    """What a record's header says without any key, and so without proof: times in seconds since the epoch."""

    stored: float
    expires: float | None
    kind: int
    seal: str


def stamps(data: bytes) -> Stamps | None:
    """The header of a sealed record; ``None`` for bytes that are none."""
    if len(data) < OVERHEAD:
        return None
    magic, flags, kind, _, stored, expires = _HEADER.unpack_from(data)
    if magic != _MAGIC or stored != stored or expires != expires:
        return None
    seal = "encrypted" if flags & _ENCRYPTED else "signed" if flags & _SEALS else "plain"
    return Stamps(stored, None if expires == math.inf else expires, kind, seal)


class Envelope:
    """Seals and opens the records of one backend. Thread-safe.

    - ``backend``: the store's name, which every seal covers.
    - ``ring``: seal with its current key; ``None`` means checksums.
    - ``encrypt``: encrypt, too. ConfigError without a ring, InvalidCryptoBackendError without ``cryptography``.
    - ``compress``: payloads of at least that many bytes are deflated when that is shorter, ``None`` never. Default
      512, and ``None`` with ``encrypt``, where a length reveals a content.
    - ``older``: what is opened besides, while a key is introduced. ``signed``: records that are only signed, by keys of
      the ring that are no pair; those keys seal so, too. ``bare``: records with a mere checksum, never authentic.
    - ``write_bare``: still write those, while not every process has the key.
    - ``place``: the key of the store's directory: signs, and is accepted, wherever checksums would be.

    Inflating is bounded: 64 MiB from a sealed record, 1 MiB from one with a mere checksum; bigger payloads
    are never deflated.
    """

    def __init__(
        self,
        *,
        backend: str,
        ring: KeyRing | None = None,
        encrypt: bool = False,
        compress: int | MissingType | None = MISSING,
        older: Literal["signed", "bare"] | None = None,
        write_bare: bool = False,
        place: PlaceKey | None = None,
    ) -> None:
        if encrypt and ring is None:
            raise ConfigError("encrypting records needs a key", option="encrypt_key", code="config.missing-key")
        if encrypt:
            sealing.require()
        if compress is MISSING:
            compress = None if encrypt else _COMPRESS_FROM
        self.backend = backend
        self._ring = ring
        self._compress_from = math.inf if compress is None else compress
        self._encrypt = encrypt
        self._older = older
        self._writes = None if write_bare else ring
        self.signs = self._writes is not None
        """Whether a key of the ring seals what is written now."""
        self._place = place if ring is None or older == "bare" else None
        self._prefixes: dict[str, bytes] = {}

    def seal(
        self,
        namespace: str,
        key: str,
        payload: bytes,
        *,
        stored: float,
        expires: float | None,
        kind: int = 0,
        by: Key | None = None,
    ) -> bytes:
        """The record of ``payload`` for ``(namespace, key)``. ``kind`` is 0 to 255.

        ``by``: the key of the ring that seals it, in place of the current one.
        """
        current = self._sealer() if by is None else by
        flags = self._seal_of(current)
        if self._compress_from <= len(payload) <= (_INFLATE_UNSEALED if current is None else _INFLATE_SEALED):
            packed = deflated(payload, 1)
            if packed is not None:
                payload, flags = packed, flags | _COMPRESSED
        kid = _NO_KEY if current is None else current.kid
        header = _HEADER.pack(_MAGIC, flags, kind, kid, stored, math.inf if expires is None else expires)
        bound = self._bound(namespace, key, header)
        if flags & _ENCRYPTED and current is not None:
            return header + sealing.seal(current, "store-enc", payload, bound)
        tag = _checksum(bound, payload) if current is None else current.mac("store-mac", bound, payload)[:_TAG]
        return b"".join((header, payload, tag))

    def open(self, namespace: str, key: str, data: bytes) -> Opened:
        """What :meth:`seal` put into ``data`` for the same place.

        Raises :class:`~beaker.exceptions.CorruptRecord` for anything else, including a record without a
        seal (or, with ``encrypt``, without encryption) where one is configured; StoreUnavailable when the key of the
        directory cannot be read now. Does not look at the time.
        """
        if len(data) < OVERHEAD:
            raise CorruptRecord("too short for a record")
        magic, flags, kind, kid, stored, expires = _HEADER.unpack_from(data)
        # A NaN compares false to every time, so it would be neither fresh nor expired.
        if magic != _MAGIC or flags & ~(_SEALS | _COMPRESSED) or stored != stored or expires != expires:
            raise CorruptRecord("not a record, or of a version from the future")
        sealed_by = self._key_for(flags & _SEALS, kid)
        bound = self._bound(namespace, key, data[: _HEADER.size])
        if flags & _ENCRYPTED and sealed_by is not None:
            payload = sealing.unseal(sealed_by, "store-enc", data[_HEADER.size :], bound)
        else:
            payload = data[_HEADER.size : -_TAG]
            tag = _checksum(bound, payload) if sealed_by is None else sealed_by.mac("store-mac", bound, payload)[:_TAG]
            if not hmac.compare_digest(tag, data[-_TAG:]):
                payload = None
        if payload is None:
            raise CorruptRecord("a record that was damaged, changed or moved")
        if flags & _COMPRESSED:
            payload = inflated(payload, _INFLATE_UNSEALED if sealed_by is None else _INFLATE_SEALED)
            if payload is None:
                raise CorruptRecord("a record that does not inflate within its limit")
        current = sealed_by is self._current() and flags & _SEALS == self._seal_of(sealed_by)
        forever = expires == math.inf
        return Opened(
            stored,
            None if forever else expires,
            kind,
            payload,
            sealed_by is not None,
            current,
            b"" if sealed_by is None else sealed_by.kid,
        )

    @property
    def keys(self) -> object | None:
        """The same object for as long as bytes that were opened would be opened again, with the same result.

        ``None``: that cannot be said, because the key of a directory may be replaced at any time.
        """
        if self._place is not None:
            return None
        return self if self._ring is None else self._ring.keys

    def signs_by_place(self) -> bool:
        """Whether what is sealed now is signed by the key of the directory. Creates that key.

        One that is known is not looked for: sealing does, and an unsigned record is a miss.
        """
        place = self._place
        return place is not None and self._writes is None and (place.known or place.current()) is not None

    def _sealer(self) -> Key | None:
        if self._writes is not None:
            return self._writes.current
        return None if self._place is None else self._place.current()

    def _current(self) -> Key | None:
        """The key that would seal, without a look at the disk."""
        if self._writes is not None:
            return self._writes.current
        return None if self._place is None else self._place.known

    def _seal_of(self, key: Key | None) -> int:
        """How records of this key are sealed."""
        if key is None:
            return 0
        if isinstance(key, DirectoryKey):
            return _MAC
        signs = not self._encrypt or (self._older == "signed" and not key.paired)
        return _MAC if signs else _ENCRYPTED

    def _key_for(self, seal: int, kid: bytes) -> Key | None:
        if seal == 0:
            if self._ring is not None and self._older != "bare":
                raise CorruptRecord("a record without a seal where one is configured")
            return None
        if seal == _MAC and self._place is not None and (self._ring is None or self._ring.find(kid) is None):
            found = self._place.find(kid)
            if found is not None:
                return found
        if self._ring is None or seal == _SEALS:
            raise CorruptRecord("a record whose seal needs a key, and there is no key for it")
        if seal == _MAC and self._encrypt and self._older != "signed":
            raise CorruptRecord("a record that is not encrypted where encryption is configured")
        if seal == _ENCRYPTED and not sealing.available():
            raise CorruptRecord("an encrypted record, and cryptography is not installed")
        key = self._ring.find(kid)
        if key is None:
            raise CorruptRecord("a record sealed with a key this process does not have")
        if seal == _MAC and self._seal_of(key) == _ENCRYPTED:
            raise CorruptRecord("a record that is not encrypted where its key encrypts")
        return key

    def _bound(self, namespace: str, key: str, header: bytes) -> bytes:
        prefix = self._prefixes.get(namespace)
        if prefix is None:
            if len(self._prefixes) >= _PREFIXES:
                self._prefixes.clear()
            prefix = self._prefixes[namespace] = lp("beaker2/store", self.backend, namespace)
        name = key.encode("utf-8", "surrogatepass")
        return b"".join((prefix, len(name).to_bytes(4, "big"), name, _HEADER_SIZE, header))


def _checksum(bound: bytes, payload: bytes) -> bytes:
    digest = hashlib.sha256(bound)
    digest.update(payload)
    return digest.digest()[:_TAG]
