"""``beaker.crypto``'s functions: key derivation, and the one encryption there is."""

from __future__ import annotations

from importlib.util import find_spec

from beaker.crypto import sealing
from beaker.crypto.keyring import Key
from beaker.crypto.pbkdf2 import pbkdf2
from beaker.exceptions import ConfigError, CorruptRecord, InvalidCryptoBackendError

__all__ = [
    "CryptoModule",
    "generateCryptoKeys",
    "get_crypto_module",
    "has_aes",
    "pbkdf2",
]

_PURPOSE, _BOUND_TO = "store-enc", b"beaker.compat.crypto"
_NAMES = ("default", "cryptography", "pycrypto", "pycryptodome", "nss")


def generateCryptoKeys(master_key: str | bytes, salt: str | bytes, iterations: int, keylen: int = 32) -> bytes:
    """``keylen`` bytes of :func:`pbkdf2`. Sessions here derive their keys otherwise (see the page on security)."""
    return pbkdf2(master_key, salt, iterations, keylen)


def has_aes() -> bool:
    """Whether the package ``cryptography`` is installed, without importing it."""
    return find_spec("cryptography") is not None


class CryptoModule:
    """What :func:`get_crypto_module` returns: AES-256-GCM, whichever library's name was asked for.

    ``aesDecrypt`` opens what ``aesEncrypt`` wrote here, and nothing that an older Beaker wrote. A key is 32 bytes.
    InvalidCryptoBackendError without ``cryptography``.
    """

    has_aes = True

    def __init__(self, name: str) -> None:
        self.name = name

    def getKeyLength(self) -> int:
        """Bytes of a key: 32."""
        return 32

    def aesEncrypt(self, data: bytes, key: bytes) -> bytes:
        """``data`` encrypted and authenticated, 44 bytes longer."""
        return sealing.seal(self._key(key), _PURPOSE, data, _BOUND_TO)

    def aesDecrypt(self, data: bytes, key: bytes) -> bytes:
        """The plaintext. CorruptRecord when ``data`` was not encrypted with ``key``, or has been changed."""
        opened = sealing.unseal(self._key(key), _PURPOSE, data, _BOUND_TO)
        if opened is None:
            raise CorruptRecord("not encrypted with this key, or changed since")
        return opened

    def _key(self, key: object) -> Key:
        if not isinstance(key, bytes) or len(key) != self.getKeyLength():
            raise ConfigError("an AES-256 key is needed", option="key", expected="32 bytes", got=type(key).__name__)
        return Key(key)

    def __repr__(self) -> str:
        return f"<CryptoModule {self.name}>"


def get_crypto_module(name: str) -> CryptoModule:
    """The encryption; all names of Beaker's backends mean the same one here.

    InvalidCryptoBackendError for another name, and without the package ``cryptography``.
    """
    if name not in _NAMES:
        raise InvalidCryptoBackendError(
            f"there is no crypto backend {name!r}", option="crypto_type", expected="default or cryptography"
        )
    sealing.require()
    return CryptoModule(name)
