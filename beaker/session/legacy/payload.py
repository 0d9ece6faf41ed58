"""What old cookies and records are made of: SHA-1 signatures, AES under a derived key, JSON or pickle.

====================  ==============================================================================
signed value          40 hex digits of HMAC-SHA-1 under the secret, then the value they sign
session id            32 or 40 hex digits, or 27 characters of base64url
session data          base64 of the serialized dict; encrypted: a nonce of 24 or 8 base64 characters,
                      then base64 of the sealed bytes
key                   PBKDF2-HMAC-SHA-1, one round, of ``encrypt_key`` with ``validate_key`` + nonce, 32 bytes
gcm                   IV of 12 bytes, tag of 16, ciphertext (1.11 and later with ``cryptography``)
ctr                   AES-256-CTR from counter 0 (``pycrypto``, ``pycryptodome``)
serialized            JSON within zlib, or a pickle of protocol 2
====================  ==============================================================================

Facts of the formats: the sources of the wheels and sdists of 1.8.1 to 1.14.1, and tests/legacy.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from beaker.exceptions import InvalidCryptoBackendError
from beaker.session.legacy import unpickle
from beaker.session.legacy.plain import LegacyDataError, Plain

__all__ = ["ID", "Codec", "inflated", "looks_signed", "require", "verified"]

ID: Final = re.compile(r"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9A-Za-z_-]{27})\Z")
"""What a session id can be. None is as long as our ids (44 to 76 characters)."""
NONCES: Final = (24, 8)
"""Base64 characters of a nonce of 128 and of 48 bits (option ``encrypt_nonce_bits``; 48 until 1.7)."""

_SIGNED: Final = re.compile(r"[0-9a-f]{40}[\x21-\x7e]{1,4096}\Z")
_KEY_BYTES, _IV, _TAG = 32, 12, 16


def looks_signed(value: str) -> bool:
    """Whether a cookie's value has the form Beaker up to 1.14 signs. Our own tokens begin with ``A`` or ``B``."""
    return _SIGNED.match(value) is not None


def verified(value: str, keys: Sequence[bytes]) -> tuple[str, bytes] | None:
    """The signed part of a value and the key that signed it, compared in constant time; else ``None``."""
    if not looks_signed(value):
        return None
    signature, signed = value[:40].encode(), value[40:]
    found = None
    for key in keys:
        # Every key is tried, so that the time does not tell which one fits.
        if hmac.compare_digest(hmac.new(key, signed.encode(), "sha1").hexdigest().encode(), signature):
            found = key
    return None if found is None else (signed, found)


@dataclass(frozen=True)
class Codec:
    """How one deployment's old session data is to be read."""

    encrypt_keys: tuple[bytes, ...] = field(repr=False)
    modes: tuple[str, ...]
    pickles: bool
    limit: int

    def decode(self, text: str, validate_key: bytes) -> dict[Any, Any]:
        """The session dict in ``text``, which was verified or comes from a store. Raises LegacyDataError."""
        if not self.encrypt_keys:
            return self._load(_base64(text))
        failure = LegacyDataError("key")
        for plaintext in self._decrypted(text, validate_key):
            try:
                return self._load(plaintext)
            except LegacyDataError as error:
                # CTR says nothing of a wrong key: garbage shows when it is read.
                failure = error
        raise failure

    def _decrypted(self, text: str, validate_key: bytes) -> Iterator[bytes]:
        for nonce_size in NONCES:
            try:
                sealed = _base64(text[nonce_size:])
            except LegacyDataError:
                continue
            for encrypt_key in self.encrypt_keys:
                salt = validate_key + text[:nonce_size].encode()
                key = hashlib.pbkdf2_hmac("sha1", encrypt_key, salt, 1, _KEY_BYTES)
                if "gcm" in self.modes:
                    opened = _gcm(key, sealed)
                    if opened is not None:
                        yield opened
                if "ctr" in self.modes:
                    yield _ctr(key, sealed)

    def _load(self, data: bytes) -> dict[Any, Any]:
        if data[:1] == b"\x80":
            if not self.pickles:
                raise LegacyDataError("pickle")
            value = unpickle.loads(data, limit=self.limit)
        elif data[:1] == b"\x78":
            value = _json(inflated(data, self.limit))
        else:
            raise LegacyDataError("serializer")
        if type(value) is not dict:
            raise LegacyDataError("type")
        return value


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise LegacyDataError("base64") from None


def inflated(data: bytes, limit: int) -> bytes:
    """One whole zlib stream unpacked. Raises LegacyDataError, also for more than ``limit`` bytes."""
    unpacker = zlib.decompressobj()
    try:
        plaintext = unpacker.decompress(data, limit + 1)
    except zlib.error:
        raise LegacyDataError("inflate") from None
    if len(plaintext) > limit:
        raise LegacyDataError("size")
    if not unpacker.eof or unpacker.unused_data:
        raise LegacyDataError("inflate")
    return plaintext


def _json(data: bytes) -> Any:
    try:
        return Plain()(json.loads(data.decode("utf-8")))
    except (ValueError, RecursionError):
        raise LegacyDataError("json") from None


def _ciphers() -> Any:
    try:
        from cryptography.hazmat.primitives import ciphers
    except ImportError as err:
        raise InvalidCryptoBackendError(
            "reading encrypted sessions of Beaker needs the cryptography package: pip install 'beaker-gae[crypto]'",
            option="session.legacy",
        ) from err
    return ciphers


def require() -> None:
    """Raise InvalidCryptoBackendError where ``cryptography`` is missing."""
    _ciphers()


def _gcm(key: bytes, sealed: bytes) -> bytes | None:
    if len(sealed) < _IV + _TAG:
        return None
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(sealed[:_IV], sealed[_IV + _TAG :] + sealed[_IV : _IV + _TAG], None)
    except InvalidTag:
        return None


def _ctr(key: bytes, sealed: bytes) -> bytes:
    ciphers = _ciphers()
    machine = ciphers.Cipher(ciphers.algorithms.AES(key), ciphers.modes.CTR(bytes(16))).decryptor()
    opened: bytes = machine.update(sealed) + machine.finalize()
    return opened
