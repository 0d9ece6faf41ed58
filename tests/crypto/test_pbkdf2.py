from __future__ import annotations

import hashlib
import hmac
import inspect
from typing import Any

import pytest

from beaker.crypto.pbkdf2 import PBKDF2, crypt

# RFC 6070 (its 16,777,216 iterations would only heat the room).
RFC_6070 = [
    ("password", "salt", 1, 20, "0c60c80f961f0e71f3a9b524af6012062fe037a6"),
    ("password", "salt", 2, 20, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"),
    ("password", "salt", 4096, 20, "4b007901b765489abead49d926f721d065a429c1"),
    (
        "passwordPASSWORDpassword",
        "saltSALTsaltSALTsaltSALTsaltSALTsalt",
        4096,
        25,
        "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038",
    ),
    ("pass\0word", "sa\0lt", 4096, 16, "56fa6aa75548099dcc37d7f03425e0c3"),
]


class OtherMac:
    """A MAC module of a third party."""

    @staticmethod
    def new(key: bytes, message: bytes, digest: Any) -> hmac.HMAC:
        return hmac.new(key, message, digest)


@pytest.mark.parametrize("mac", [hmac, OtherMac], ids=["hashlib", "own mac"])
@pytest.mark.parametrize(("passphrase", "salt", "iterations", "length", "key"), RFC_6070)
def test_rfc_6070(mac: Any, passphrase: str, salt: str, iterations: int, length: int, key: str) -> None:
    """The published SHA-1 vectors come out, through hashlib and through another MAC module."""
    assert PBKDF2(passphrase, salt, iterations, macmodule=mac).hexread(length) == key


@pytest.mark.parametrize("digest", ["sha256", hashlib.sha256, "SHA-512", hashlib.sha512])
def test_other_hashes(digest: Any) -> None:
    """A hash goes by its name or its constructor."""
    name = "sha512" if "512" in str(digest) or digest is hashlib.sha512 else "sha256"
    assert PBKDF2("p", "s", 3, digest).read(100) == hashlib.pbkdf2_hmac(name, b"p", b"s", 3, 100)


@pytest.mark.parametrize("mac", [hmac, OtherMac])
def test_reading_is_a_stream(mac: Any) -> None:
    """Pieces of any size join to the same key as one read."""
    stream = PBKDF2("passphrase", b"salt", 5, macmodule=mac)
    pieces = [stream.read(size) for size in (0, 1, 19, 20, 21, 3, 100, 0, 7)]
    assert b"".join(pieces) == PBKDF2(b"passphrase", "salt", 5).read(171)
    assert len(stream.hexread(9)) == 18


def test_close_ends_the_stream() -> None:
    """After close nothing can be read and the passphrase is gone."""
    stream = PBKDF2("open sesame", "salt")
    stream.read(4)
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.read(1)
    assert b"sesame" not in repr(vars(stream)).encode()


def test_text_is_utf_8() -> None:
    """A text and its UTF-8 bytes are the same passphrase and salt."""
    assert PBKDF2("ключ", "соль").read(20) == PBKDF2("ключ".encode(), "соль".encode()).read(20)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((1, "salt"), TypeError),
        (("p", None), TypeError),
        (("p", "s", "1000"), TypeError),
        (("p", "s", True), TypeError),
        (("p", "s", 0), ValueError),
        (("p", "s", 1, "no such hash"), ValueError),
        (("p", "s", 1, 5), TypeError),
        (("p", "s", 1, "sha1", 5), TypeError),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...], error: type[Exception]) -> None:
    """Arguments of the wrong kind fail at once, not at the first read."""
    with pytest.raises(error):
        PBKDF2(*arguments)


# Published with PBKDF2.py and its ports.
CRYPT = [
    ("cloadm", "exec", None, "$p5k2$$exec$r1EWMCMk7Rlv3L/RNcFXviDefYa0hlql"),
    ("gnu", "$p5k2$c$u9HvcT4d$.....", None, "$p5k2$c$u9HvcT4d$Sd1gwSVCLZYAuqZ25piRnbBEoAesaa/g"),
    ("dcl", "tUsch7fU", 13, "$p5k2$d$tUsch7fU$nqDkaxMDOFBeJsTSfABsyn.PYUXilHwL"),
]


@pytest.mark.parametrize(("word", "salt", "iterations", "hashed"), CRYPT)
def test_crypt_vectors(word: str, salt: str, iterations: int | None, hashed: str) -> None:
    """The published hashes come out, and each one checks its own word."""
    assert crypt(word, salt, iterations) == hashed
    assert crypt(word, hashed) == hashed
    assert crypt(word.encode(), hashed.encode()) == hashed
    assert crypt(word + "x", hashed) != hashed


def test_crypt_iterations() -> None:
    """Iterations in the salt win over the parameter, and the default 400 is written as nothing."""
    assert crypt("w", "$p5k2$c$salt", iterations=99) == crypt("w", "salt", iterations=12)
    assert crypt("w", "salt", iterations=400) == crypt("w", "salt") == crypt("w", "$p5k2$190$salt")
    assert crypt("w", "salt").startswith("$p5k2$$salt$")


def test_crypt_makes_salts() -> None:
    """Without a salt two hashes of one word differ, and the hash has 192 bits."""
    one, two = crypt("word"), crypt("word")
    assert one != two
    assert crypt("word", one) == one
    assert len(one.split("$")[3]) == 8
    assert len(one.split("$")[4]) == 32


@pytest.mark.parametrize(
    "salt", ["sa$lt", "sa lt", "é", "$p5k2$xyz$salt", "$p5k2$0$salt", "$p5k2$0c$salt", "$p5k2$-1$s"]
)
def test_crypt_refuses_odd_salts(salt: str) -> None:
    """A salt that could not have been written is a ValueError."""
    with pytest.raises(ValueError):
        crypt("word", salt)


def test_signatures_are_the_manuals() -> None:
    """Names and order of the parameters are those of chapter 5.1.11."""
    assert list(inspect.signature(PBKDF2).parameters) == [
        "passphrase",
        "salt",
        "iterations",
        "digestmodule",
        "macmodule",
    ]
    assert inspect.signature(PBKDF2).parameters["iterations"].default == 1000
    assert list(inspect.signature(crypt).parameters) == ["word", "salt", "iterations"]
