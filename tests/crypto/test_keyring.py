from __future__ import annotations

import copy
import hmac
import logging
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from beaker.crypto.keyring import PURPOSES, Key, KeyRing, lp, new_key
from beaker.exceptions import ConfigError, ConfigWarning
from beaker.testing import FakeClock
from tests.crypto import golden

FIRST = "first-key-0123456789-abcdefghijklmnop"
SECOND = "second-key-0123456789-abcdefghijklmno"
THIRD = "third-key-0123456789-abcdefghijklmnop"


def kid(secret: str | bytes) -> bytes:
    return Key(secret.encode() if isinstance(secret, str) else secret).kid


@given(st.lists(st.binary()), st.lists(st.binary()))
def test_framing_is_injective(a: list[bytes], b: list[bytes]) -> None:
    """Two lists of parts have the same frame only when they are the same list."""
    assert (lp(*a) == lp(*b)) == (a == b)


def test_framing_takes_any_text() -> None:
    """Text is framed as UTF-8, and even a lone surrogate has bytes of its own."""
    assert lp("é", b"") == b"\0\0\0\2\xc3\xa9\0\0\0\0"
    assert lp("\ud800") != lp("\ud801")


@pytest.mark.parametrize("purpose", PURPOSES)
def test_subkeys_are_hkdf_sha256(purpose: str) -> None:
    """A subkey is what another implementation of RFC 5869 derives from the same secret and purpose."""
    info = b"\0\0\0\x07beaker2" + len(purpose).to_bytes(4, "big") + purpose.encode()
    key = Key(golden.SECRET)
    assert key.subkey(purpose) == HKDF(hashes.SHA256(), 32, salt=None, info=info).derive(golden.SECRET)
    assert key.subkey(purpose).hex() == golden.VECTORS["subkeys"][purpose]


def test_key_ids_and_subkeys_never_change() -> None:
    """The committed key ids are those of today: another id would make every cookie out there unknown."""
    assert Key(golden.SECRET).kid.hex() == golden.VECTORS["kid"]
    pair = KeyRing.combine(validate=golden.SECRET, encrypt=golden.OTHER_SECRET)
    assert pair.current.kid.hex() == golden.VECTORS["pair_kid"]
    prk = hmac.digest(bytes(32), golden.SECRET, "sha256")
    info = b"\0\0\0\x07beaker2\0\0\0\x03kid"
    assert Key(golden.SECRET).kid == HKDFExpand(hashes.SHA256(), 4, info).derive(prk)


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_mac_is_hmac_sha256(chunks: list[bytes]) -> None:
    """The fast MAC returns what the standard library's HMAC returns for the joined chunks."""
    key = Key(golden.SECRET)
    assert key.mac("store-mac", *chunks) == hmac.digest(key.subkey("store-mac"), b"".join(chunks), "sha256")


def test_purposes_are_separate() -> None:
    """No two purposes share a key, and an undefined purpose has none."""
    key = Key(golden.SECRET)
    assert len({key.subkey(purpose) for purpose in PURPOSES}) == len(PURPOSES)
    with pytest.raises(ValueError, match="purpose"):
        key.subkey("cookie")


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        (FIRST, [FIRST]),
        (f"  {FIRST}\n", [FIRST]),
        (FIRST.encode() + b" ", [FIRST + " "]),
        ([FIRST, SECOND], [FIRST, SECOND]),
        ((FIRST.encode(), SECOND), [FIRST, SECOND]),
        (f"{FIRST}\n\n  {SECOND}\r\n{THIRD}", [FIRST, SECOND, THIRD]),
        (f"{FIRST}, {SECOND}", [FIRST, SECOND]),
        (f"{FIRST},short", [f"{FIRST},short"]),
        ([f"{FIRST},{SECOND}"], [f"{FIRST},{SECOND}"]),
        (f"{FIRST} {SECOND}", [f"{FIRST} {SECOND}"]),
        ([FIRST, SECOND, FIRST], [FIRST, SECOND]),
        ("é" * 4 + FIRST, ["é" * 4 + FIRST]),
    ],
)
def test_option_forms(value: object, secrets: list[str]) -> None:
    """A key or a list of keys is read from every documented form; the first one seals."""
    with warnings.catch_warnings():
        # Those with blanks or other letters are keys, too.
        warnings.simplefilter("ignore", ConfigWarning)
        ring = KeyRing.from_option(value)
    assert list(ring.kids) == [kid(secret) for secret in secrets]
    assert ring.current.kid == kid(secrets[0])
    assert all(ring.find(kid(secret)) is not None for secret in secrets)
    assert ring.find(b"none") is None


@pytest.mark.parametrize(
    "value", ["", "   ", b"", [], (), [FIRST, ""], None, 17, [FIRST, None], {"a": FIRST}, "x" * 15]
)
def test_unusable_options_are_refused(value: object) -> None:
    """Nothing, another type or a key under 16 bytes is an error that names the option."""
    with pytest.raises(ConfigError) as caught:
        KeyRing.from_option(value, option="validate_key")
    assert "validate_key" in str(caught.value)
    assert "x" * 15 not in str(caught.value)


@pytest.mark.parametrize("weak", [
        "0123456789abcdef", "A7" * 16, "abcdefgh" * 5, b"\0" * 32, "x" * 31 + "y",
        "correct horse battery staple and more", "é" * 4 + FIRST, FIRST.encode() + b" ",
    ])  # fmt: skip
def test_weak_keys_warn_and_are_errors_in_strict(weak: str | bytes) -> None:
    """Under 32 bytes or plainly not random: a warning, and with strict an error, without the key in it."""
    with pytest.warns(ConfigWarning) as warned:
        KeyRing.from_option(weak)
    with pytest.raises(ConfigError) as caught:
        KeyRing.from_option(weak, strict=True)
    shown = weak if isinstance(weak, str) else repr(weak)
    assert shown not in str(caught.value) + str(warned[0].message)


def test_new_keys_are_good_keys() -> None:
    """A generated key passes the strict rules and never repeats."""
    keys = {new_key() for _ in range(50)}
    assert len(keys) == 50
    for key in keys:
        assert len(key) == 52
        KeyRing.from_option(key, strict=True)


def test_a_pair_depends_on_both_keys() -> None:
    """Swapping, joining or splitting the two keys of a pair elsewhere gives another key."""
    ring = KeyRing.combine(validate=FIRST, encrypt=SECOND)
    others = [
        KeyRing.combine(validate=SECOND, encrypt=FIRST),
        KeyRing.combine(validate=FIRST + SECOND[:1], encrypt=SECOND[1:]),
        KeyRing.from_option(FIRST + SECOND),
        KeyRing.combine(validate=FIRST, encrypt=None),
    ]
    assert len({ring.current.kid, *(other.current.kid for other in others)}) == 5
    assert others[-1].current.kid == kid(FIRST)


def test_pairs_of_lists() -> None:
    """Lists are paired by position, a single key with every key of the other, other lengths are an error."""
    zipped = KeyRing.combine(validate=[FIRST, SECOND], encrypt=[THIRD, FIRST])
    assert zipped.kids == (
        KeyRing.combine(validate=FIRST, encrypt=THIRD).current.kid,
        KeyRing.combine(validate=SECOND, encrypt=FIRST).current.kid,
    )
    spread = KeyRing.combine(validate=FIRST, encrypt=[SECOND, THIRD])
    assert spread.kids[1] == KeyRing.combine(validate=FIRST, encrypt=THIRD).current.kid
    with pytest.raises(ConfigError, match="different numbers"):
        KeyRing.combine(validate=[FIRST, SECOND], encrypt=[FIRST, SECOND, THIRD])


@pytest.mark.parametrize("pair", [(None, FIRST), (FIRST, FIRST), (FIRST, ""), ("short", FIRST)])
def test_impossible_pairs(pair: tuple[Any, Any]) -> None:
    """An encryption key alone, the same key twice, or an unusable half is an error."""
    with pytest.raises(ConfigError):
        KeyRing.combine(validate=pair[0], encrypt=pair[1])


def write(path: Path, *lines: str) -> None:
    fresh = path.with_name("fresh")
    fresh.write_text("".join(line + "\n" for line in lines), "utf-8")
    fresh.replace(path)


def settle(ring: KeyRing, clock: FakeClock) -> None:
    """Let the ring look twice at its files: a changed one is used when it has been left alone meanwhile."""
    for _ in range(2):
        clock.advance(6)
        ring.kids  # noqa: B018


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    write(path, FIRST)
    return path


def test_a_file_is_read_again_when_it_changes(key_file: Path, fake_clock: FakeClock) -> None:
    """A mounted secret that is replaced is used within 10 seconds, its new first line seals, gone keys are gone."""
    ring = KeyRing.from_option(f"file:{key_file}", clock=fake_clock)
    assert ring.kids == (kid(FIRST),)
    write(key_file, SECOND, "", FIRST)
    assert ring.current.kid == kid(FIRST), "looked again too soon"
    fake_clock.advance(5)
    assert ring.current.kid == kid(FIRST), "used before it is known to be whole"
    fake_clock.advance(5)
    assert ring.find(kid(SECOND)) is not None
    assert ring.current.kid == kid(SECOND)
    write(key_file, SECOND)
    fake_clock.advance(-3600)
    assert ring.find(kid(FIRST)) is not None
    fake_clock.advance(-3600)
    assert ring.find(kid(FIRST)) is None, "a clock set back must not stop the looking"


def test_a_file_is_not_looked_at_all_the_time(
    key_file: Path, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two checks using the ring touches no file."""
    ring = KeyRing.from_option(f"file:{key_file}", clock=fake_clock)
    looks: list[object] = []
    real = os.stat

    def counting(path: str) -> os.stat_result:
        looks.append(path)
        return real(path)

    monkeypatch.setattr("beaker.crypto.sources.os.stat", counting)
    for _ in range(100):
        assert ring.current.kid == kid(FIRST)
    assert looks == []
    fake_clock.advance(6)
    for _ in range(100):
        assert ring.current.kid == kid(FIRST)
    assert len(looks) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        lambda path: write(path),
        lambda path: write(path, FIRST, "short"),
        lambda path: write(path, SECOND * 2000),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["vanished", "empty", "short key", "too big", "a directory"],
)
def test_a_broken_file_keeps_the_old_keys(
    key_file: Path, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], object]
) -> None:
    """A file that vanished or went bad changes nothing, is logged once without a key, and may recover."""
    ring = KeyRing.from_option(["file:" + str(key_file), SECOND], clock=fake_clock)
    spoil(key_file)
    with caplog.at_level(logging.WARNING, "beaker"):
        for _ in range(5):
            fake_clock.advance(6)
            assert ring.kids == (kid(FIRST), kid(SECOND))
    assert len(caplog.records) == 1
    assert FIRST not in caplog.text
    assert SECOND not in caplog.text
    if key_file.is_dir():
        key_file.rmdir()
    write(key_file, THIRD)
    settle(ring, fake_clock)
    assert ring.kids == (kid(THIRD), kid(SECOND))


def test_a_weak_key_in_a_changed_file_is_no_warning_in_a_request(key_file: Path, fake_clock: FakeClock) -> None:
    """Warnings belong to the start: a changed file never raises one in the middle of a request."""
    ring = KeyRing.from_option(f"file:{key_file}", clock=fake_clock)
    write(key_file, "weak-but-16-bytes")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settle(ring, fake_clock)
        assert ring.current.kid == kid("weak-but-16-bytes")


def test_a_missing_file_at_the_start_is_an_error(tmp_path: Path) -> None:
    """Starting without the named file fails and says which option and path."""
    with pytest.raises(ConfigError, match=r"encrypt_key names a file .*/gone"):
        KeyRing.from_option(f"file:{tmp_path}/gone", option="encrypt_key")


def test_files_in_lists_and_pairs(
    key_file: Path, tmp_path: Path, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may stand among others, by itself on a line, on either side of a pair, and have a comma in its name."""
    other = tmp_path / "other"
    write(other, SECOND)
    lines = KeyRing.from_option(f"file:{key_file}\nfile:{other}")
    commas = KeyRing.from_option(f"file:{key_file}, file:{other}")
    assert lines.kids == commas.kids == (kid(FIRST), kid(SECOND))
    monkeypatch.chdir(tmp_path)
    assert KeyRing.from_option("file:keys,file:other").kids == commas.kids
    write(tmp_path / "a,b-0123456789abcdef", THIRD)
    assert KeyRing.from_option("file:a,b-0123456789abcdef").kids == (kid(THIRD),)
    pair = KeyRing.combine(validate=f"file:{key_file}", encrypt=f"file:{other}", clock=fake_clock)
    before = pair.current.kid
    write(other, THIRD)
    settle(pair, fake_clock)
    assert pair.current.kid == KeyRing.combine(validate=FIRST, encrypt=THIRD).current.kid != before


def test_nothing_shows_a_key(key_file: Path) -> None:
    """repr shows ids only; pickling is refused; a copy is the ring itself."""
    ring = KeyRing.from_option([FIRST, f"file:{key_file}", SECOND])
    key = ring.current
    secrets = [FIRST, SECOND, *(key.subkey(purpose).hex() for purpose in PURPOSES)]
    shown = repr(ring) + repr(key) + repr(ring._sources) + repr([s.read() for s in ring._sources[0]]) + f"{ring} {key}"
    assert not any(secret in shown for secret in secrets)
    assert kid(FIRST).hex() in repr(ring)
    for thing in (ring, key):
        with pytest.raises(TypeError, match="never pickled"):
            pickle.dumps(thing)
    assert copy.deepcopy(ring) is copy.copy(ring) is ring


def test_two_keys_with_one_id_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two keys whose ids collide by chance cannot both be found, so the ring says so at once."""
    real = Key._expand
    monkeypatch.setattr(Key, "_expand", lambda self, purpose: bytes(32) if purpose == "kid" else real(self, purpose))
    with pytest.raises(ConfigError, match="share a key id"):
        KeyRing.from_option([FIRST, SECOND])
