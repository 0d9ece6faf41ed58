from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from beaker.crypto import sealing
from beaker.crypto.envelope import Envelope
from beaker.crypto.keyring import Key, KeyRing, lp
from beaker.crypto.tokens import DataTokens, IdTokens, new_id
from beaker.exceptions import CorruptRecord, InvalidCryptoBackendError
from tests.crypto import golden

KEY = Key(golden.SECRET)


@pytest.fixture
def no_cryptography(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    sealing._backend.cache_clear()
    yield
    sealing._backend.cache_clear()


def test_sealed_bytes_are_aes_256_gcm() -> None:
    """Another implementation of HKDF and AES-256-GCM opens what is sealed here."""
    sealed = sealing.seal(KEY, "store-enc", b"plain", b"where")
    salt, nonce, rest = sealed[:16], sealed[16:28], sealed[28:]
    message_key = HKDFExpand(hashes.SHA256(), 32, lp("beaker2/aes-256-gcm", salt)).derive(KEY.subkey("store-enc"))
    assert AESGCM(message_key).decrypt(nonce, rest, b"where") == b"plain"


def test_every_message_has_its_own_salt_and_nonce() -> None:
    """The same plaintext sealed twice shares nothing."""
    many = {sealing.seal(KEY, "store-enc", b"plain", b"")[:28] for _ in range(200)}
    assert len(many) == 200
    assert len({sealed[:16] for sealed in many}) == 200


def test_only_the_same_key_purpose_and_place_open() -> None:
    """Another key, purpose or associated data, or any changed or missing byte, opens to nothing."""
    sealed = sealing.seal(KEY, "store-enc", b"plain", b"where")
    assert sealing.unseal(KEY, "store-enc", sealed, b"where") == b"plain"
    assert sealing.unseal(KEY, "cookie-enc", sealed, b"where") is None
    assert sealing.unseal(KEY, "store-enc", sealed, b"there") is None
    assert sealing.unseal(Key(golden.OTHER_SECRET), "store-enc", sealed, b"where") is None
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        assert sealing.unseal(KEY, "store-enc", bytes(changed), b"where") is None
        assert sealing.unseal(KEY, "store-enc", sealed[:position], b"where") is None


@pytest.mark.usefixtures("no_cryptography")
def test_without_cryptography_encryption_fails_at_construction() -> None:
    """What was to be encrypted is never quietly signed only: constructors refuse and name the extra."""
    ring = KeyRing.from_option(golden.SECRET)
    assert not sealing.available()
    for build in (
        lambda: DataTokens(ring, "sid", encrypt=True),
        lambda: Envelope(backend="file", ring=ring, encrypt=True),
        sealing.require,
    ):
        with pytest.raises(InvalidCryptoBackendError, match=r"pip install 'beaker-gae\[crypto\]'") as caught:
            build()
        assert isinstance(caught.value.__cause__, ImportError)


@pytest.mark.usefixtures("no_cryptography")
def test_without_cryptography_signing_works() -> None:
    """Ids, signed sessions and signed records need nothing but the standard library."""
    ring = KeyRing.from_option(golden.SECRET)
    raw = new_id()
    assert IdTokens(ring, "sid").open(IdTokens(ring, "sid").issue(raw)).id == raw
    tokens = DataTokens(ring, "sid", encrypt=False, clock=lambda: 5.0)
    assert tokens.open(tokens.seal(b"x", created=1, issued=1, expires=None)).payload == b"x"
    envelope = Envelope(backend="file", ring=ring)
    assert envelope.open("n", "k", envelope.seal("n", "k", b"x", stored=1, expires=None)).payload == b"x"


def test_an_encrypted_record_without_cryptography_is_corrupt(request: pytest.FixtureRequest) -> None:
    """A signing process that reads an encrypted record it cannot open calls it corrupt, not its own crash."""
    ring = KeyRing.from_option(golden.SECRET)
    record = Envelope(backend="file", ring=ring, encrypt=True).seal("n", "k", b"x", stored=1, expires=None)
    request.getfixturevalue("no_cryptography")
    with pytest.raises(CorruptRecord, match="not installed"):
        Envelope(backend="file", ring=ring).open("n", "k", record)


def test_an_empty_message() -> None:
    """It is OVERHEAD bytes longer, as every message is, and opens; available() says that it can."""
    key = Key(b"k" * 32)
    sealed = sealing.seal(key, "store-enc", b"", b"aad")
    assert len(sealed) == sealing.OVERHEAD
    assert sealing.unseal(key, "store-enc", sealed, b"aad") == b""
    assert sealing.available() is True
