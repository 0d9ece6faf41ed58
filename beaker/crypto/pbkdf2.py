"""Password-based keys: PBKDF2 (RFC 2898, PKCS #5 v2.0) and a crypt(3)-like hash on top of it.

``hashlib`` does the work. A key is only as strong as the passphrase it comes from, and as the number of
iterations: choose 600,000 or more with SHA-256 for passwords of today. The defaults are those of the
interface's first release.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Callable
from typing import Any, Final

__all__ = ["PBKDF2", "crypt", "pbkdf2"]

_PREFIX: Final = "$p5k2$"
_CRYPT_ITERATIONS: Final = 400
_CRYPT_BYTES: Final = 24
_SALT: Final = re.compile(r"[A-Za-z0-9./]*\Z")


class PBKDF2:
    """A stream of key bytes from a passphrase and a salt; both may be ``str`` (UTF-8) or ``bytes``.

    ``digestmodule`` is a hash by name or constructor (``'sha256'``, ``hashlib.sha256``). ``macmodule``
    offers ``new(key, message, digestmodule)`` like :mod:`hmac`, the default; another one is much slower.
    Raises TypeError for other kinds of arguments, ValueError for iterations below 1 or an unknown hash.
    """

    def __init__(
        self,
        passphrase: str | bytes,
        salt: str | bytes,
        iterations: int = 1000,
        digestmodule: str | Callable[..., Any] = hashlib.sha1,
        macmodule: Any = hmac,
    ) -> None:
        if type(iterations) is not int:
            raise TypeError("iterations must be an int")
        if iterations < 1:
            raise ValueError("iterations must be at least 1")
        if not callable(getattr(macmodule, "new", None)):
            raise TypeError("macmodule must offer new(key, message, digestmodule)")
        self._passphrase = _octets("passphrase", passphrase)
        self._salt = _octets("salt", salt)
        self._iterations = iterations
        self._digestmodule = digestmodule
        self._digest = _digest_name(digestmodule)
        self._block = hashlib.new(self._digest).digest_size
        self._macmodule = macmodule
        self._made = b""
        self._position = 0
        self._closed = False

    def read(self, bytes: int) -> bytes:
        """The next ``bytes`` octets of the key. Raises ValueError after :meth:`close`."""
        if self._closed:
            raise ValueError("the stream is closed")
        if bytes < 0:
            raise ValueError("a number of octets is not negative")
        end = self._position + bytes
        if end > len(self._made):
            # hashlib always begins at the first block, so later reads derive twice what there was.
            wanted = max(end, 2 * len(self._made))
            self._made = self._derive(-(-wanted // self._block))
        start, self._position = self._position, end
        return self._made[start:end]

    def hexread(self, octets: int) -> str:
        """The next ``octets`` octets as hexadecimal: twice as many characters."""
        return self.read(octets).hex()

    def close(self) -> None:
        """Forget the passphrase and the key; reading is an error from now on."""
        self._closed = True
        self._passphrase = self._salt = self._made = b""

    def _derive(self, blocks: int) -> bytes:
        if self._macmodule is hmac:
            length = blocks * self._block
            return hashlib.pbkdf2_hmac(self._digest, self._passphrase, self._salt, self._iterations, length)
        return b"".join(self._derive_block(number) for number in range(1, blocks + 1))

    def _derive_block(self, number: int) -> bytes:
        step = self._mac(self._salt + number.to_bytes(4, "big"))
        folded = int.from_bytes(step, "big")
        for _ in range(self._iterations - 1):
            step = self._mac(step)
            folded ^= int.from_bytes(step, "big")
        return folded.to_bytes(len(step), "big")

    def _mac(self, message: bytes) -> bytes:
        made: bytes = self._macmodule.new(self._passphrase, message, self._digestmodule).digest()
        return made

    def __repr__(self) -> str:
        return f"<PBKDF2 {self._digest} iterations={self._iterations}>"


def crypt(word: str | bytes, salt: str | bytes | None = None, iterations: int | None = None) -> str:
    """A salted hash of ``word``: ``$p5k2$`` iterations in hex ``$`` salt ``$`` 32 characters (192 bits).

    ``salt`` may be such a hash, whole or without its end; its iterations then count and the parameter does
    not, so ``crypt(word, hashed) == hashed`` checks a password (compare with ``hmac.compare_digest``).
    ``None``: 48 random bits. ``iterations`` defaults to 400, written as nothing. Raises ValueError
    for a salt with other characters than letters, digits, ``.`` and ``/``.
    """
    if salt is None:
        salt = base64.b64encode(os.urandom(6), b"./").decode("ascii")
    elif isinstance(salt, bytes):
        salt = salt.decode("ascii")
    elif not isinstance(salt, str):
        raise TypeError("salt must be str or bytes")
    if salt.startswith(_PREFIX):
        iterations, salt = _parsed(salt)
    if not _SALT.match(salt):
        raise ValueError("a salt holds letters, digits, '.' and '/'")
    count = _CRYPT_ITERATIONS if iterations is None else iterations
    written = "" if count == _CRYPT_ITERATIONS else f"{count:x}"
    salt = f"{_PREFIX}{written}${salt}"
    hashed = PBKDF2(word, salt, count).read(_CRYPT_BYTES)
    return f"{salt}${base64.b64encode(hashed, b'./').decode('ascii')}"


def pbkdf2(password: str | bytes, salt: str | bytes, iterations: int, dklen: int = 0, digest: Any = None) -> bytes:
    """``dklen`` bytes (0: as many as the hash has) from ``password``.

    ``digest`` is a hash by name or constructor. The default is SHA-1, so that values stored under the older interface
    can be checked.
    """
    name = _digest_name(hashlib.sha1 if digest is None else digest)
    secret, salted = _octets("password", password), _octets("salt", salt)
    return hashlib.pbkdf2_hmac(name, secret, salted, iterations, dklen or None)


def _parsed(salt: str) -> tuple[int, str]:
    count, _, rest = salt[len(_PREFIX) :].partition("$")
    if not count:
        return _CRYPT_ITERATIONS, rest.partition("$")[0]
    try:
        iterations = int(count, 16)
    except ValueError:
        iterations = 0
    if iterations < 1 or f"{iterations:x}" != count:
        raise ValueError("a hash whose iterations are not hexadecimal")
    return iterations, rest.partition("$")[0]


def _octets(name: str, value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, bytes):
        return value
    raise TypeError(f"{name} must be str or bytes")


def _digest_name(digestmodule: Any) -> str:
    if isinstance(digestmodule, str):
        return hashlib.new(digestmodule).name
    make = getattr(digestmodule, "new", digestmodule)
    name = getattr(make(), "name", None) if callable(make) else None
    if not isinstance(name, str):
        raise TypeError("digestmodule must be a hash of hashlib, by name or constructor")
    return hashlib.new(name).name
