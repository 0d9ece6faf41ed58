from __future__ import annotations

import base64
import hashlib
import math
import os
import random
import struct
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beaker.crypto import sealing
from beaker.crypto.envelope import OVERHEAD, Envelope, Opened
from beaker.crypto.keyring import Key, KeyRing, lp, new_key
from beaker.exceptions import ConfigError, CorruptRecord
from tests.crypto import golden

FUZZ = int(os.environ.get("BEAKER_FUZZ", "20000"))
RING = KeyRing.from_option(golden.SECRET)
ROLLING = KeyRing.of({"secret": golden.SECRET}, {"encrypt_key": golden.OTHER_SECRET}, rollout="accept")
MODES: dict[str, dict[str, Any]] = {
    "checksum": {},
    "mac": {"ring": RING},
    "sealed": {"ring": RING, "encrypt": True},
}
modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def envelope(**options: Any) -> Envelope:
    return Envelope(**{"backend": "file", **options})


def record(
    of: Envelope, payload: bytes = golden.SHORT, namespace: str = "shop", key: str = "key é", **more: Any
) -> bytes:
    return of.seal(namespace, key, payload, **{"stored": golden.CREATED, "expires": golden.EXPIRES, **more})


def corrupt(of: Envelope, data: bytes, namespace: str = "shop", key: str = "key é") -> str:
    with pytest.raises(CorruptRecord) as caught:
        of.open(namespace, key, data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "mode", "payload", "expires"),
    [
        ("checksum", "checksum", golden.SHORT, golden.CREATED + 10),
        ("checksum_deflated", "checksum", golden.LONG * 3, golden.CREATED + 10),
        ("mac", "mac", golden.SHORT, None),
        ("mac_deflated", "mac", golden.LONG * 3, golden.CREATED + 10),
        ("sealed", "sealed", golden.SHORT, golden.CREATED + 10),
        ("sealed_deflated", "sealed", golden.LONG * 3, golden.CREATED + 10),
    ],
)
def test_golden_records(name: str, mode: str, payload: bytes, expires: float | None) -> None:
    """A record of any version so far opens to what it held."""
    data = base64.b64decode(golden.VECTORS[f"record_{name}"])
    kid = b"" if mode == "checksum" else RING.current.kid
    opened = envelope(**MODES[mode]).open("shop", "key é", data)
    assert opened == Opened(golden.CREATED, expires, 7, payload, mode != "checksum", True, kid)


@modes
@given(namespace=st.text(), key=st.text(), payload=st.binary(max_size=2000), kind=st.integers(0, 255))
def test_round_trip(mode: dict[str, Any], namespace: str, key: str, payload: bytes, kind: int) -> None:
    """Any payload under any name comes back with its stamps and kind."""
    of = envelope(**mode)
    opened = of.open(namespace, key, of.seal(namespace, key, payload, stored=1.25, expires=None, kind=kind))
    assert opened[:4] == (1.25, None, kind, payload)
    assert opened.authentic == ("ring" in mode)


def test_layout() -> None:
    """A record is magic, version, flags, kind, key id, two doubles, payload, tag: 43 bytes more than its payload."""
    data = record(envelope(ring=RING), b"payload", kind=9)
    assert len(data) == 7 + OVERHEAD == 50
    assert data[:7] == b"BKR2\x01\x02\x09"
    assert data[7:11] == RING.current.kid
    assert struct.unpack(">dd", data[11:27]) == (golden.CREATED, golden.EXPIRES)
    assert data[27:-16] == b"payload"
    assert len(record(envelope(ring=RING, encrypt=True), b"payload")) == 27 + sealing.OVERHEAD + 7


@modes
@pytest.mark.parametrize("payload", [b"", golden.SHORT, golden.LONG * 3], ids=["empty", "short", "deflated"])
def test_every_cut_is_noticed(mode: dict[str, Any], payload: bytes) -> None:
    """A record truncated at any byte, or with anything behind it, is corrupt."""
    of = envelope(**mode)
    data = record(of, payload)
    for length in range(len(data)):
        corrupt(of, data[:length])
        corrupt(of, data[length:] if length else b"")
    corrupt(of, data + b"\0")
    corrupt(of, data + data)


@modes
@pytest.mark.parametrize("payload", [b"", golden.SHORT, golden.LONG * 3], ids=["empty", "short", "deflated"])
def test_every_flipped_bit_is_noticed(mode: dict[str, Any], payload: bytes) -> None:
    """A record with any single bit changed, header and tag included, is corrupt."""
    of = envelope(**mode)
    data = record(of, payload, kind=3)
    for position in range(len(data) * 8):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        corrupt(of, bytes(changed))


@modes
def test_random_and_spliced_bytes_are_noticed(mode: dict[str, Any]) -> None:
    """Random bytes, and parts of two records put together, are corrupt and nothing else happens."""
    of = envelope(**mode)
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    one, two = record(of, b"one" * 20), record(of, b"two" * 20, kind=1)
    for _ in range(FUZZ // 4):
        if draw.random() < 0.5:
            data = draw.choice((b"", b"BKR2\x01", one[:11])) + draw.randbytes(draw.randrange(120))
        else:
            cut, paste = draw.randrange(len(one)), draw.randrange(len(two))
            data = one[:cut] + two[paste:]
        if data in (one, two):
            continue
        assert not _opens(of, data), f"accepted, seed {seed}"


@modes
def test_a_record_is_good_for_one_place(mode: dict[str, Any]) -> None:
    """A record copied to another backend, namespace or key does not open, however the names join."""
    places = [("file", "ab", "c"), ("file", "a", "bc"), ("fil", "eab", "c"), ("file", "abc", ""), ("file", "", "abc")]
    places += [("dbm", "ab", "c"), ("file", "ab", "C"), ("file", "ab", "c\0"), ("file", "\ud800", "c")]
    records = {place: record(envelope(**{**mode, "backend": place[0]}), b"x", *place[1:]) for place in places}
    for place, data in records.items():
        for backend, namespace, key in places:
            of = envelope(**{**mode, "backend": backend})
            if place == (backend, namespace, key):
                assert of.open(namespace, key, data).payload == b"x"
            else:
                corrupt(of, data, namespace, key)


def test_what_each_configuration_accepts() -> None:
    """No configuration opens a record with less protection than it asks for; more is fine with the key."""
    opens = {
        of: {
            sealed for sealed, how in MODES.items() if _opens(envelope(**{**options, **extra}), record(envelope(**how)))
        }
        for of, options, extra in (
            ("checksum", MODES["checksum"], {}),
            ("mac", MODES["mac"], {}),
            ("sealed", MODES["sealed"], {}),
            ("sealed, signed too", MODES["sealed"], {"older": "signed", "ring": ROLLING}),
            ("sealed, bare too", MODES["sealed"], {"older": "bare"}),
            ("mac, bare too", MODES["mac"], {"older": "bare"}),
            ("bare still", MODES["mac"], {"older": "bare", "write_bare": True}),
        )
    }
    assert opens == {
        "checksum": {"checksum"},
        "mac": {"mac", "sealed"},
        "sealed": {"sealed"},
        "sealed, signed too": {"mac", "sealed"},
        "sealed, bare too": {"sealed", "checksum"},
        "mac, bare too": {"mac", "sealed", "checksum"},
        "bare still": {"mac", "sealed", "checksum"},
    }


def _opens(of: Envelope, data: bytes) -> bool:
    try:
        of.open("shop", "key é", data)
    except CorruptRecord:
        return False
    return True


def test_rotation() -> None:
    """Old keys open and say that the record is not current; dropped keys open nothing."""
    old, new = new_key(), new_key()
    for encrypt in (False, True):
        before, during, after = (
            envelope(ring=KeyRing.from_option(keys), encrypt=encrypt) for keys in (old, [new, old], new)
        )
        data = record(before)
        assert before.open("shop", "key é", data).current
        opened = during.open("shop", "key é", data)
        assert opened.authentic
        assert not opened.current
        assert opened.kid == KeyRing.from_option(old).current.kid
        assert after.open("shop", "key é", record(during)).current
        assert "key" in corrupt(after, data)


def test_a_change_of_protection_is_not_current() -> None:
    """A signed record in an encrypting store, or the other way round, asks to be written again."""
    signed, encrypted = record(envelope(ring=RING)), record(envelope(ring=RING, encrypt=True))
    assert not envelope(ring=ROLLING, encrypt=True, older="signed").open("shop", "key é", signed).current
    assert not envelope(ring=RING).open("shop", "key é", encrypted).current


def test_encryption_hides_the_payload() -> None:
    """Nothing of an encrypted payload stands in the record, and two records of it differ."""
    of = envelope(ring=RING, encrypt=True)
    one, two = record(of, b"a secret " * 9), record(of, b"a secret " * 9)
    assert b"secret" not in one
    assert one[27:] != two[27:]


def test_compression() -> None:
    """Payloads from 512 bytes on are deflated when that is shorter; encrypted ones only when told to."""
    noise = random.Random(7).randbytes(2000)
    text = b"x" * 2000

    def size(payload: bytes, **options: Any) -> int:
        of = envelope(**options)
        data = record(of, payload)
        assert of.open("shop", "key é", data).payload == payload
        return len(data)

    assert size(text) == size(text, ring=RING) < 200
    assert size(noise) == 2000 + OVERHEAD
    assert size(text[:511]) == 511 + OVERHEAD
    assert size(text[:512]) < 100 + OVERHEAD
    assert size(text, compress=None) == 2000 + OVERHEAD
    assert size(text[:100], compress=1) < 100
    assert size(text, ring=RING, encrypt=True) > 2000
    assert size(text, ring=RING, encrypt=True, compress=512) < 200


@modes
def test_bombs_are_bounded(mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A small record that inflates to a lot is corrupt, after 1 MiB without a key and 64 MiB with one."""
    monkeypatch.setattr("beaker.crypto.envelope._INFLATE_SEALED", 2 << 20)
    limit = 2 << 20 if mode else 1 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(40_000_000)) + packer.flush()
    of = envelope(**mode, compress=1)
    with monkeypatch.context() as patch:
        patch.setattr("beaker.crypto.envelope.deflated", lambda payload, level: packed)
        bomb = record(of, bytes(10))
    tracemalloc.start()
    assert "inflate" in corrupt(of, bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * limit
    exact = envelope(**mode, compress=1)
    for payload in (bytes(limit), bytes(limit + 1)):
        assert exact.open("shop", "key é", record(exact, payload)).payload == payload
    assert len(record(exact, bytes(limit))) < limit < len(record(exact, bytes(limit + 1)))


def test_stamps_that_are_no_times() -> None:
    """A record whose stamps are NaN would never expire, so it is corrupt."""
    corrupt(envelope(), record(envelope(), stored=math.nan))
    corrupt(envelope(), record(envelope(), expires=math.nan))


def forged(prefix: bytes, flags: int, ring: KeyRing | None) -> bytes:
    """A record with a right tag, created by whoever may write the store (and holds the key)."""
    kid = bytes(4) if ring is None else ring.current.kid
    header = prefix + bytes((flags, 0)) + kid + struct.pack(">dd", golden.CREATED, golden.EXPIRES)
    bound = lp("beaker2/store", "file", "shop", "key é", header)
    if ring is None:
        return header + golden.SHORT + hashlib.sha256(bound + golden.SHORT).digest()[:16]
    if flags & 4:
        return header + sealing.seal(ring.current, "store-enc", golden.SHORT, bound)
    return header + golden.SHORT + ring.current.mac("store-mac", bound, golden.SHORT)[:16]


def test_forged_headers() -> None:
    """Another magic, a version or flags of the future, and two seals at once are corrupt under a right tag too."""
    for flags, ring in ((0, None), (2, RING), (4, RING)):
        of = envelope(ring=ring)
        assert of.open("shop", "key é", forged(b"BKR2\x01", flags, ring)).payload == golden.SHORT
        for prefix in (b"BKR2\x02", b"BKR1\x01", b"\0\0\0\0\0"):
            assert "not a record" in corrupt(of, forged(prefix, flags, ring))
        for future in (8, 16, 128):
            assert "not a record" in corrupt(of, forged(b"BKR2\x01", flags | future, ring))
    assert "no key" in corrupt(envelope(ring=RING), forged(b"BKR2\x01", 6, RING))


def test_configuration() -> None:
    """Encrypting without a key is an error at construction."""
    with pytest.raises(ConfigError, match="needs a key"):
        envelope(encrypt=True)


def test_many_namespaces_do_not_pile_up() -> None:
    """The prefixes kept for speed are bounded, however many namespaces there are."""
    of = envelope(ring=RING)
    for number in range(3000):
        of.seal(f"namespace {number}", "k", b"", stored=1.0, expires=None)
    assert len(of._prefixes) <= 1024
    assert of.open("namespace 5", "k", of.seal("namespace 5", "k", b"v", stored=1.0, expires=None)).payload == b"v"


def test_nothing_is_shown() -> None:
    """Neither a repr nor an error holds payload, key or secret."""
    of = envelope(ring=RING)
    opened = of.open("shop", "key é", record(of, b"a secret"))
    shown = repr(opened) + repr(of) + corrupt(of, record(of, b"a secret")[:-1]) + corrupt(of, b"a secret" * 9)
    assert "secret" not in shown
    assert "key é" not in shown


def test_one_mac_a_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening costs one MAC, with however many keys in the ring."""
    ring = KeyRing.from_option([new_key() for _ in range(9)] + [golden.SECRET])
    data = record(envelope(ring=RING))
    calls: list[str] = []
    real = Key.mac

    def counting(self: Key, purpose: str, *chunks: bytes) -> bytes:
        calls.append(purpose)
        return real(self, purpose, *chunks)

    monkeypatch.setattr(Key, "mac", counting)
    assert envelope(ring=ring).open("shop", "key é", data).payload == golden.SHORT
    assert calls == ["store-mac"]
