from __future__ import annotations

import hashlib
import math
import random
import string
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from beaker.crypto.deflate import deflated, inflated
from beaker.crypto.keyring import Key, KeyRing, lp, new_key
from beaker.crypto.tokens import (
    MAX_CHARS,
    MAX_PAYLOAD,
    DataTokens,
    IdTokens,
    new_id,
    store_key,
)
from beaker.exceptions import SessionTooLarge
from beaker.testing import FakeClock
from tests.crypto import golden

# How many mutated tokens of each type; a nightly run sets more (BEAKER_FUZZ=10000000).
from tests.crypto.making import KINDS, NOW, RING, data_tokens, raw, reason, sealed, text


class TestGolden:
    def test_ids(self) -> None:
        """An id issued by any version so far is this id, and issuing it again gives the same token."""
        for name, ring in (("id", RING), ("bare", None)):
            ids = IdTokens(ring, golden.COOKIE)
            assert ids.open(golden.VECTORS[name]).id == golden.RAW_ID
            assert ids.issue(golden.RAW_ID) == golden.VECTORS[name]

    @pytest.mark.parametrize(
        ("name", "encrypt", "payload", "expires"),
        [
            ("signed", False, golden.SHORT, golden.EXPIRES),
            ("signed_deflated", False, golden.LONG, golden.EXPIRES),
            ("signed_forever", False, golden.SHORT, None),
            ("encrypted", True, golden.SHORT, golden.EXPIRES),
            ("encrypted_deflated", True, golden.LONG, golden.EXPIRES),
        ],
    )
    def test_sessions(self, name: str, encrypt: bool, payload: bytes, expires: float | None) -> None:
        """A session token of any version so far opens to what it held."""
        opened = data_tokens(encrypt=encrypt).open(golden.VECTORS[name])
        assert opened == (payload, golden.CREATED, golden.ISSUED, expires, True, RING.current.kid)

    def test_store_keys(self) -> None:
        """A session's record keeps its name for ever."""
        assert store_key(golden.RAW_ID) == golden.VECTORS["store_key"]


class TestIds:
    def test_shape(self) -> None:
        """An id token has 71 characters of base64url and begins with A; a bare one has 44 and begins with B."""
        raw_id = new_id()
        token, bare = IdTokens(RING, "sid").issue(raw_id), IdTokens(None, "sid").issue(raw_id)
        assert (len(raw_id), len(token), len(bare)) == (32, 71, 44)
        assert (token[0], bare[0]) == ("A", "B")
        assert set(token + bare) <= set(string.ascii_letters + string.digits + "-_")
        assert raw(token)[:5] == b"\x03" + RING.current.kid

    @pytest.mark.parametrize("ring", [RING, None], ids=["keyed", "bare"])
    def test_a_date(self, ring: KeyRing | None) -> None:
        """A dated token has 76 characters, a bare one 50, and says when it was issued; whole seconds, any clock."""
        ids, raw_id = IdTokens(ring, "sid"), new_id()
        for given, told in ((1_700_000_000.9, 1_700_000_000.0), (-5.0, 0.0), (1e12, 2.0**32 - 1)):
            token = ids.issue(raw_id, given)
            assert len(token) == (76 if ring else 50)
            assert (ids.open(token).id, ids.open(token).issued) == (raw_id, told)
        assert ids.open(ids.issue(raw_id)).issued is None

    def test_a_date_cannot_be_taken_off_or_put_on(self) -> None:
        """The MAC covers the date, and each kind has a length of its own."""
        ids, raw_id = IdTokens(RING, "sid"), new_id()
        dated, plain = raw(ids.issue(raw_id, 5.0)), raw(ids.issue(raw_id))
        for forged in (
            b"\x03" + dated[1:37] + dated[41:],
            b"\x05" + plain[1:37] + bytes(4) + plain[37:],
            dated[:37] + bytes(4) + dated[41:],
        ):
            assert reason(lambda forged=forged: ids.open(text(forged))) == "mac"  # type: ignore[misc]
        assert reason(lambda: ids.open(text(b"\x03" + dated[1:]))) == "version"

    def test_ids_never_repeat(self) -> None:
        """Ids are random."""
        assert len({new_id() for _ in range(1000)}) == 1000

    def test_only_ids_of_32_bytes_are_issued(self) -> None:
        """Another length is a mistake of the caller."""
        with pytest.raises(ValueError, match="32"):
            IdTokens(RING, "sid").issue(b"short")

    def test_a_ring_refuses_bare_ids_and_no_ring_refuses_sealed_ones(self) -> None:
        """An attacker cannot go back to ids without a key, and a process without keys does not guess."""
        raw_id = new_id()
        bare = IdTokens(None, "sid").issue(raw_id)
        assert reason(lambda: IdTokens(RING, "sid").open(bare)) == "length"
        assert reason(lambda: IdTokens(None, "sid").open(IdTokens(RING, "sid").issue(raw_id))) == "length"
        padded = text(raw(bare) + bytes(20))
        assert reason(lambda: IdTokens(RING, "sid").open(padded)) == "version"
        assert reason(lambda: IdTokens(None, "sid").open(text(b"\x03" + raw_id))) == "version"

    def test_the_store_key_hides_the_id(self) -> None:
        """A record is called by a framed hash; the id is nowhere in it."""
        raw_id = new_id()
        assert store_key(raw_id) == hashlib.sha256(lp("beaker2/id", raw_id)).hexdigest()
        assert raw_id.hex() not in store_key(raw_id)


class TestSessions:
    @pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
    @pytest.mark.parametrize("payload", [b"", b"x", b"y" * 31, b"z" * 5000, bytes(range(256)) * 20])
    def test_round_trip(self, options: dict[str, Any], payload: bytes) -> None:
        """Payload and stamps come back as they were, whatever the kind of token."""
        opened = data_tokens(**options).open(sealed(data_tokens(**options), payload, expires=None))
        assert opened == (payload, golden.CREATED, golden.ISSUED, None, True, RING.current.kid)

    def test_sizes(self) -> None:
        """A signed token costs 62 bytes and an encrypted one 74 before base64."""
        assert len(sealed(data_tokens(), b"x" * 81)) == math.ceil((81 + 62) * 4 / 3)
        assert len(sealed(data_tokens(encrypt=True), b"x" * 81)) == math.ceil((81 + 74) * 4 / 3)

    def test_encrypted_content_is_unreadable_and_never_the_same(self) -> None:
        """Neither payload nor stamps can be seen in an encrypted token, and sealing twice differs."""
        one, two = sealed(data_tokens(encrypt=True)), sealed(data_tokens(encrypt=True))
        assert one != two
        assert b"ann" not in raw(one)
        assert struct.pack(">d", golden.ISSUED) not in raw(one)

    def test_expiry_is_inside(self, fake_clock: FakeClock) -> None:
        """A token is valid until its expiry and not at it."""
        fake_clock.seconds = golden.EXPIRES - 0.001
        for encrypt in (False, True):
            tokens = DataTokens(RING, "sid", encrypt=encrypt, clock=fake_clock)
            token = sealed(tokens)
            fake_clock.seconds = golden.EXPIRES - 0.001
            assert tokens.open(token).expires == golden.EXPIRES
            fake_clock.seconds = golden.EXPIRES
            assert reason(lambda tokens=tokens, token=token: tokens.open(token)) == "expired"  # type: ignore[misc]

    def test_max_age_and_absolute_timeout(self, fake_clock: FakeClock) -> None:
        """max_age counts from the issue, absolute_timeout from the creation."""
        tokens = DataTokens(RING, "sid", encrypt=False, clock=fake_clock)
        token = sealed(tokens, created=1000.0, issued=2000.0, expires=None)
        fake_clock.seconds = 2099.9
        assert tokens.open(token, max_age=100, absolute_timeout=1100)
        fake_clock.seconds = 2100.0
        assert reason(lambda: tokens.open(token, max_age=100)) == "expired"
        assert reason(lambda: tokens.open(token, absolute_timeout=1100)) == "expired"
        assert tokens.open(token, max_age=101, absolute_timeout=1101)

    def test_the_future(self) -> None:
        """A clock that was ahead, or was set back since, does not invalidate our tokens."""
        for ahead in (60, 60.01, 3600):
            token = sealed(data_tokens(), issued=NOW + ahead)
            assert data_tokens().open(token).issued == NOW + ahead

    @pytest.mark.parametrize("stamp", ["created", "issued", "expires"])
    def test_stamps_that_are_no_times(self, stamp: str) -> None:
        """A NaN, which is neither before nor after anything, does not make a token immortal."""
        token = sealed(data_tokens(), golden.SHORT, **{stamp: math.nan})
        assert reason(lambda: data_tokens().open(token)) in {"expired", "stamps"}

    def test_too_large(self) -> None:
        """What could not be opened again is not sealed, and the error names size and limit."""
        with pytest.raises(SessionTooLarge) as caught:
            sealed(data_tokens(), b"x" * 7000)
        assert (caught.value.size, caught.value.limit) == (math.ceil(7062 * 4 / 3), MAX_CHARS)
        with pytest.raises(SessionTooLarge) as caught:
            sealed(data_tokens(compress=True), bytes(MAX_PAYLOAD + 1))
        assert (caught.value.size, caught.value.limit) == (MAX_PAYLOAD + 1, MAX_PAYLOAD)
        largest = bytes(MAX_PAYLOAD)
        assert data_tokens().open(sealed(data_tokens(compress=True), largest)).payload == largest
        fits = b"x" * (MAX_CHARS * 3 // 4 - 62)
        assert len(sealed(data_tokens(), fits)) == MAX_CHARS
        assert data_tokens().open(sealed(data_tokens(), fits)).payload == fits

    def test_compression_only_when_it_shrinks(self) -> None:
        """Random bytes are kept as they are, repetitive ones get shorter."""
        noise = random.Random(1).randbytes(200)
        assert len(sealed(data_tokens(compress=True), noise)) == len(sealed(data_tokens(), noise))
        assert len(sealed(data_tokens(compress=True), b"x" * 200)) < len(sealed(data_tokens(), b"x" * 200)) / 2

    def test_encrypted_and_compressed_is_padded(self) -> None:
        """Beside encryption, lengths of compressed payloads come in steps of 32 bytes."""
        lengths = {
            len(raw(sealed(data_tokens(encrypt=True, compress=True), random.Random(n).randbytes(n))))
            for n in range(1, 97)
        }
        assert len(lengths) == 4
        assert {length % 32 for length in lengths} == {(74) % 32}


def forge(payload: bytes, flags: int, *, key: Key | None = None) -> str:
    """A signed token created by whoever holds the key, with any payload and flags."""
    key = key or RING.current
    body = b"\x01" + key.kid + struct.pack(">dddB", golden.CREATED, golden.ISSUED, golden.EXPIRES, flags) + payload
    bound = lp("beaker2/signed", golden.COOKIE) + (5 + 25).to_bytes(4, "big")
    return text(body + key.mac("cookie-sign", bound, body))


class TestBombs:
    def test_forged_tokens_are_like_real_ones(self) -> None:
        """The forging function creates what seal creates; otherwise the tests below prove nothing."""
        assert forge(golden.SHORT, 0) == sealed(data_tokens())

    def test_a_bomb_is_bounded(self) -> None:
        """A few kilobytes that inflate to 50 MB are refused after 64 KiB."""
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = packer.compress(bytes(5_000_000)) + packer.flush()
        token = forge(bomb, 1)
        assert len(token) < MAX_CHARS
        tracemalloc.start()
        assert reason(lambda: data_tokens().open(token)) == "inflate"
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()

    @pytest.mark.parametrize("spoil", [lambda z: z + b"x", lambda z: z[:-1], lambda z: b"", lambda z: b"\xff" + z])
    def test_deflate_must_be_whole(self, spoil: Callable[[bytes], bytes]) -> None:
        """Bytes behind the stream, a cut-off stream and no stream at all are refused."""
        packed = deflated(b"x" * 100)
        assert packed is not None
        assert data_tokens().open(forge(packed, 1)).payload == b"x" * 100
        assert reason(lambda: data_tokens().open(forge(spoil(packed), 1))) == "inflate"

    def test_unknown_flags_and_bad_padding(self) -> None:
        """Flags of the future and padding that is none are refused."""
        assert reason(lambda: data_tokens().open(forge(b"x", 4))) == "flags"
        for payload in (b"", b"\0", b"\x02", bytes(40) + b"\x21"):
            assert reason(lambda payload=payload: data_tokens().open(forge(payload, 2))) == "flags"  # type: ignore[misc]

    @pytest.mark.parametrize("size", [0, 1, 99, 100])
    def test_inflate_limits_are_exact(self, size: int) -> None:
        """The limit itself fits, one byte more does not."""
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)
        packed = packer.compress(b"a" * size) + packer.flush()
        assert inflated(packed, size) == b"a" * size
        if size:
            assert inflated(packed, size - 1) is None


class TestRotation:
    def test_old_keys_open_and_only_the_current_seals(self) -> None:
        """After a rotation every old token opens and says that it wants a new one; a dropped key opens nothing."""
        old, new = new_key(), new_key()
        before, during, after = (KeyRing.from_option(keys) for keys in (old, [new, old], new))
        ids = IdTokens(before, "sid").issue(golden.RAW_ID)
        opened = IdTokens(during, "sid").open(ids)
        assert (opened.id, opened.current, opened.kid) == (golden.RAW_ID, False, before.current.kid)
        assert IdTokens(after, "sid").open(IdTokens(during, "sid").issue(golden.RAW_ID)).current
        assert reason(lambda: IdTokens(after, "sid").open(ids)) == "kid"
        for options in KINDS.values():
            token = sealed(data_tokens(before, **options))
            assert data_tokens(before, **options).open(token).current
            assert not data_tokens(during, **options).open(token).current
            assert data_tokens(after, **options).open(sealed(data_tokens(during, **options))).current
            assert reason(lambda o=options, t=token: data_tokens(after, **o).open(t)) == "kid"  # type: ignore[misc]

    def test_new_keys_are_accepted_before_they_are_used(self) -> None:
        """A fleet in mid-rollout understands both halves of itself."""
        old, new = new_key(), new_key()
        first = KeyRing.from_option([old, new])
        second = KeyRing.from_option([new, old])
        for a, b in ((first, second), (second, first)):
            assert IdTokens(a, "sid").open(IdTokens(b, "sid").issue(golden.RAW_ID)).id == golden.RAW_ID
