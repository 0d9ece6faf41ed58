"""AES-256-GCM with a fresh key for every message.

A message's key is ``HKDF-Expand(subkey, lp("beaker2/aes-256-gcm", salt))`` with a random 16-byte salt, so
the limit of 2^32 messages on random 96-bit nonces (NIST SP 800-38D) concerns no long-lived secret.
``cryptography`` is imported when the first message is sealed or :func:`require` is called.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from beaker.crypto.keyring import Key, lp
from beaker.exceptions import InvalidCryptoBackendError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["OVERHEAD", "available", "require", "seal", "unseal"]

_SALT: Final = 16
_NONCE: Final = 12
_TAG: Final = 16
OVERHEAD: Final = _SALT + _NONCE + _TAG
"""Bytes a sealed message is longer than its plaintext."""


@lru_cache(maxsize=1)
def _backend() -> tuple[type[AESGCM], type[Exception]]:
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as err:
        raise InvalidCryptoBackendError(
            "encryption needs the package cryptography",
            option="encrypt_key",
            hint="pip install 'beaker-gae[crypto]'",
        ) from err
    return AESGCM, InvalidTag


def require() -> None:
    """Raise InvalidCryptoBackendError unless encryption works here. For constructors: it fails early."""
    _backend()


def available() -> bool:
    """Whether encryption works here."""
    try:
        _backend()
    except InvalidCryptoBackendError:
        return False
    return True


_BEFORE_SALT: Final = lp("beaker2/aes-256-gcm") + _SALT.to_bytes(4, "big")


def _message_key(key: Key, purpose: str, salt: bytes) -> bytes:
    return key.mac(purpose, _BEFORE_SALT + salt + b"\x01")


def seal(key: Key, purpose: str, plaintext: bytes, aad: bytes) -> bytes:
    """``salt16 nonce12 ciphertext tag16`` of ``plaintext``, bound to ``aad``."""
    cipher, _ = _backend()
    random = os.urandom(_SALT + _NONCE)
    salt, nonce = random[:_SALT], random[_SALT:]
    return random + cipher(_message_key(key, purpose, salt)).encrypt(nonce, plaintext, aad)


def unseal(key: Key, purpose: str, data: bytes, aad: bytes) -> bytes | None:
    """The plaintext, or ``None`` when ``data`` was not sealed by this key, purpose and ``aad``."""
    if len(data) < OVERHEAD:
        return None
    cipher, invalid = _backend()
    try:
        return cipher(_message_key(key, purpose, data[:_SALT])).decrypt(
            data[_SALT : _SALT + _NONCE], data[_SALT + _NONCE :], aad
        )
    except invalid:
        return None
