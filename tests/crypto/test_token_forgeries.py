from __future__ import annotations

import base64
import binascii
import random
import string
from collections.abc import Callable, Iterator

import pytest

from beaker.crypto.keyring import Key, KeyRing, new_key
from beaker.crypto.tokens import (
    MAX_CHARS,
    BadToken,
    IdTokens,
)
from beaker.exceptions import BeakerException
from tests.crypto import golden

# How many mutated tokens of each type; a nightly run sets more (BEAKER_FUZZ=10000000).
from tests.crypto.making import FUZZ, KINDS, RING, data_tokens, raw, reason, sealed, text


def everything() -> Iterator[tuple[tuple[str, str, str], Callable[[], str], Callable[[str], object]]]:
    """(key, name, kind), a function that creates such a token, a function that opens one."""
    other = KeyRing.from_option(golden.OTHER_SECRET)
    for key, ring in (("a", RING), ("b", other)):
        for name in ("sid", "sid2", "sid\0", "si", "d"):
            ids = IdTokens(ring, name)
            yield (key, name, "id"), lambda ids=ids: ids.issue(golden.RAW_ID), ids.open  # type: ignore[misc]
            for kind, encrypt in (("signed", False), ("encrypted", True)):
                tokens = data_tokens(ring, name, encrypt=encrypt)
                yield (key, name, kind), lambda tokens=tokens: sealed(tokens), tokens.open  # type: ignore[misc]


def test_tokens_are_good_for_one_key_cookie_and_type() -> None:
    """Of all combinations of key, cookie name and type only the token's own opens it."""
    accepted = 0
    for made_for, make, _ in everything():
        token = make()
        for opened_as, _, open_ in everything():
            try:
                open_(token)
            except BadToken:
                assert made_for != opened_as
            else:
                assert made_for == opened_as
                accepted += 1
    assert accepted == 30


def test_a_token_relabelled_as_another_type_is_refused() -> None:
    """The type byte is under the MAC: a signed token does not become an id or an encrypted one."""
    makers = list(everything())[:3]
    for _, make, _ in makers:
        for version in range(256):
            data = raw(make())
            if data[0] != version:
                for _, _, open_ in makers:
                    with pytest.raises(BadToken):
                        open_(text(bytes((version,)) + data[1:]))


def test_downgrades_are_refused() -> None:
    """A ring that encrypts takes no signed token, and vice versa, whoever created it."""
    assert reason(lambda: data_tokens(encrypt=True).open(sealed(data_tokens(), b"x" * 100))) == "version"
    assert reason(lambda: data_tokens().open(sealed(data_tokens(encrypt=True)))) == "version"


ALPHABET = string.ascii_letters + string.digits + "-_"
NOISE = "".join(map(chr, range(0x300)))


def mutate(token: str, draw: random.Random) -> str:
    way = draw.randrange(8)
    place = draw.randrange(len(token))
    if way == 0:
        return token[:place] + draw.choice(ALPHABET) + token[place + 1 :]
    if way == 1:
        return token[:place]
    if way == 2:
        return token + "".join(draw.choices(ALPHABET + "=+/. ", k=draw.randint(1, 9)))
    if way == 3:
        other = draw.randrange(len(token))
        low, high = sorted((place, other))
        return token[:low] + token[high : high + 1] + token[low + 1 : high] + token[low : low + 1] + token[high + 1 :]
    if way == 4:
        return token[:place] + token[place + draw.randint(1, 6) :]
    if way == 5:
        return token[:place] + chr(draw.randrange(0x110000)) + token[place + 1 :]
    if way == 6:
        return "".join(draw.choices(NOISE, k=draw.randrange(300)))
    data = bytearray(raw(token))
    for _ in range(draw.randint(1, 4)):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return text(bytes(data))


@pytest.mark.parametrize("kind", ["id", "bare", *KINDS])
def test_mutated_tokens_are_never_accepted(kind: str) -> None:
    """Nothing but the token itself opens, and nothing but BadToken is raised."""
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    open_: Callable[[str], object]
    if kind in ("id", "bare"):
        ids = IdTokens(RING if kind == "id" else None, golden.COOKIE)
        token, open_ = ids.issue(golden.RAW_ID), ids.open
    else:
        tokens = data_tokens(**KINDS[kind])
        token, open_ = sealed(tokens), tokens.open
    # Without a key any 33 bytes of the right shape are an id: there only the shape can be wrong.
    own_bytes = raw(token)[:1] if kind == "bare" else raw(token)
    for _ in range(FUZZ if kind != "bare" else FUZZ // 10):
        changed = mutate(token, draw)
        try:
            open_(changed)
        except BadToken:
            continue
        if kind == "bare":
            assert len(changed) == 44, seed
            assert text(raw(changed)) == changed, seed
            assert raw(changed)[:1] == own_bytes, seed
        else:
            assert changed == token, f"accepted, seed {seed}"


@pytest.mark.parametrize("kind", ["id", *KINDS])
def test_there_is_one_spelling(kind: str) -> None:
    """Padding, the other alphabet, spaces, or set bits behind the end of the data are another token."""
    if kind == "id":
        ids = IdTokens(RING, golden.COOKIE)
        token, open_ = ids.issue(golden.RAW_ID), ids.open
    else:
        tokens = data_tokens(**KINDS[kind])
        payload = next(p for n in range(5, 9) for p in [b"p" * n] if len(sealed(tokens, p)) % 4)
        token, open_ = sealed(tokens, payload), tokens.open  # type: ignore[assignment]
    assert open_(token)
    spellings = {token + "=" * (-len(token) % 4), token.replace("-", "+"), token.replace("_", "/"), token + "\n"}
    spellings |= {token[:-1] + last for last in ALPHABET}
    spellings |= {token[:9] + odd + token[9:] for odd in (" ", "\n", "\0", "!", "=")}
    same_bytes = 0
    for spelling in spellings - {token}:
        try:
            same_bytes += base64.urlsafe_b64decode(spelling + "==") == raw(token)
        except binascii.Error:
            same_bytes += 0
        with pytest.raises(BadToken):
            open_(spelling)
    assert same_bytes >= 5, "the test made no other spelling of the same bytes"


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is too long is not decoded, and opening one computes at most one MAC."""
    macs: list[str] = []
    real = Key.mac

    def counting(self: Key, purpose: str, *chunks: bytes) -> bytes:
        macs.append(purpose)
        return real(self, purpose, *chunks)

    monkeypatch.setattr(Key, "mac", counting)
    ring = KeyRing.from_option([new_key() for _ in range(8)] + [golden.SECRET])
    token = golden.VECTORS["signed"]
    assert not data_tokens(ring).open(token).current
    assert macs == ["cookie-sign"]
    monkeypatch.setattr("beaker.crypto.tokens.binascii.a2b_base64", lambda *args: pytest.fail("decoded"))
    assert reason(lambda: data_tokens(ring).open("A" * (MAX_CHARS + 1))) == "length"
    assert reason(lambda: IdTokens(ring, "sid").open("A" * 72)) == "length"
    assert len(macs) == 1


def test_errors_and_reprs_show_nothing() -> None:
    """One error class with one text outside; neither it nor a repr holds id, payload or token."""
    token = sealed(data_tokens())
    errors = []
    for bad in ("", "x", token[:-4] + "AAAA", "B" + token[1:], "Aexxxxxx" + token[8:]):
        with pytest.raises(BadToken) as caught:
            data_tokens().open(bad)
        errors.append(caught.value)
    assert {str(error) for error in errors} == {"not a valid token"}
    assert {error.reason for error in errors} == {"length", "mac", "version", "kid"}
    assert all(isinstance(error, BeakerException) for error in errors)
    opened_id = IdTokens(RING, "sid").open(IdTokens(RING, "sid").issue(golden.RAW_ID))
    shown = repr(opened_id) + repr(data_tokens().open(token)) + str(opened_id)
    assert "ann" not in shown
    assert repr(golden.RAW_ID)[2:10] not in shown
    assert golden.RAW_ID.hex() not in shown
