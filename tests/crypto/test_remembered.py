"""What was verified is not verified again, and no more of it is kept than is said."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from beaker.crypto import tokens
from beaker.crypto.envelope import Envelope, stamps
from beaker.crypto.keyring import Key, KeyRing, new_key
from beaker.crypto.place import PlaceKey
from beaker.crypto.tokens import IdTokens, RollingTokens, new_id
from beaker.exceptions import ConfigError, ConfigWarning, CorruptRecord
from beaker.testing import FakeClock
from tests.crypto import golden
from tests.crypto.making import RING, data_tokens, raw, reason, sealed, text
from tests.descriptors import open_under


@pytest.fixture
def macs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The purposes of the authentication codes that were computed."""
    computed: list[str] = []
    real = Key.mac

    def mac(key: Key, purpose: str, *chunks: bytes) -> bytes:
        computed.append(purpose)
        return real(key, purpose, *chunks)

    monkeypatch.setattr(Key, "mac", mac)
    return computed


def test_an_id_is_verified_once(macs: list[str]) -> None:
    """The second time a token comes its code is not computed again, and the id is the same."""
    ids = IdTokens(RING, "c")
    token, other = ids.issue(new_id()), ids.issue(new_id())
    macs.clear()
    first = ids.open(token)
    assert ids.open(other) != first
    assert [ids.open(token), ids.open(token)] == [first, first]
    assert macs == ["id-sign"] * 2


def test_data_that_were_sealed_or_opened_are_verified_once(macs: list[str]) -> None:
    """A token that this process has sealed, or opened before, is opened without computing its code."""
    here, there = data_tokens(), data_tokens()
    token = sealed(here, b"payload")
    macs.clear()
    assert here.open(token).payload == b"payload"
    assert macs == []
    assert [there.open(token).payload, there.open(token).payload] == [b"payload"] * 2
    assert macs == ["cookie-sign"]


def test_remembered_ids_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many ids as the bound says are kept, and one more begins anew."""
    monkeypatch.setattr(tokens, "_REMEMBERED", 4)
    ids = IdTokens(RING, "c")
    kept = []
    for _ in range(9):
        ids.open(ids.issue(new_id()))
        kept.append(len(ids._verified))
    assert kept == [1, 2, 3, 4, 1, 2, 3, 4, 1]


def test_remembered_data_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many data as the bound says are kept, and one more begins anew."""
    monkeypatch.setattr(tokens, "_REMEMBERED_DATA", 4)
    data = data_tokens()
    kept = []
    for number in range(9):
        sealed(data, b"%d" % number)
        kept.append(len(data._verified))
    assert kept == [1, 2, 3, 4, 1, 2, 3, 4, 1]


def test_a_content_that_is_longer_than_a_token_is_not_remembered() -> None:
    """Deflated it fits in one; 256 of them would be 16 MiB of a process's memory."""
    data = data_tokens(compress=True)
    token = sealed(data, bytes(tokens.MAX_CHARS + 1))
    assert data.open(token).payload == bytes(tokens.MAX_CHARS + 1)
    assert not data._verified
    assert data.open(sealed(data, bytes(tokens.MAX_CHARS))).payload == bytes(tokens.MAX_CHARS)
    assert len(data._verified) == 1


def test_what_was_sealed_is_opened_as_elsewhere() -> None:
    """The process that sealed a token reports the same of it as one that verifies it, and refuses what that refuses."""
    here, there = data_tokens(), data_tokens()
    token = sealed(here)
    assert here.open(token) == there.open(token)
    assert here.open(token).current
    for wrong in (sealed(here, created=math.nan), sealed(here, issued=math.nan)):
        assert reason(partial(here.open, wrong)) == "stamps"
    late = data_tokens(now=golden.EXPIRES)
    assert reason(partial(late.open, token)) == "expired"
    # The same text, which it remembers now.
    assert sealed(late) == token
    assert reason(partial(late.open, token)) == "expired"


def test_the_longest_token_and_the_longest_content() -> None:
    """A token has at most 8,192 characters and a content at most 65,536 bytes, wherever they are opened."""
    assert (tokens.MAX_CHARS, tokens.MAX_PAYLOAD) == (8_192, 65_536)
    fits, largest = b"x" * 6_082, bytes(65_536)
    token = sealed(data_tokens(), fits)
    assert len(token) == 8_192
    assert data_tokens().open(token).payload == fits
    assert data_tokens(compress=True).open(sealed(data_tokens(compress=True), largest)).payload == largest


def test_a_bare_id_is_current_and_of_no_key() -> None:
    """Without a ring nothing has to be issued anew, and no key is counted."""
    ids = IdTokens(None, "c")
    opened = ids.open(ids.issue(new_id(), 5.0))
    assert (opened.current, opened.kid, opened.issued) == (True, b"", 5.0)


def test_a_token_of_a_signing_key_that_is_encrypted_is_refused() -> None:
    """While encryption is introduced, what is encrypted is opened by pairs only, and what is signed by single keys."""
    single, both = {"validate_key": new_key()}, {"encrypt_key": new_key()}
    rolling = KeyRing.of(single, both, rollout="prepare")
    alone = KeyRing.of(single)
    assert rolling is not None
    assert alone is not None
    opening = RollingTokens(rolling, "c", clock=lambda: 1.0)
    stamps: dict[str, Any] = {"created": 0.0, "issued": 0.0, "expires": None}
    wrong = data_tokens(alone, "c", 1.0, encrypt=True).seal(b"x", **stamps)
    assert reason(lambda: opening.open(wrong)) == "version"
    assert opening.open(data_tokens(alone, "c", 1.0).seal(b"x", **stamps)).payload == b"x"
    assert reason(lambda: opening.open("A")) == "length"


@pytest.mark.parametrize("size", [1, 31, 32, 33, 63, 64])
def test_padding_of_every_length(size: int) -> None:
    """A payload is padded by 1 to 32 bytes, and comes back whole."""
    data = data_tokens(encrypt=True, compress=True)
    payload = os.urandom(size)
    other = data_tokens(encrypt=True, compress=True)
    assert other.open(sealed(data, payload)).payload == payload


def test_ages_of_keys(tmp_path: Path) -> None:
    """The age of a key is since the ring held it first: a new one in a changed file begins at 0, the other goes on."""
    clock = FakeClock(1000.0)
    path = tmp_path / "keys"
    old, new = new_key(), new_key()
    path.write_text(old + "\n")
    path.chmod(0o600)
    ring = KeyRing.from_option(f"file:{path}", clock=clock)
    first = ring.current.kid
    clock.advance(30)
    assert ring.ages() == {first: 30.0}
    path.write_text(f"{new}\n{old}\n")
    before = ring.keys
    for _ in range(4):
        clock.advance(6)
        assert ring.kids
    assert ring.keys is not before
    assert set(ring.ages()) == {first, ring.current.kid}
    assert ring.ages()[first] == 54.0
    assert 0.0 <= ring.ages()[ring.current.kid] < 24.0


def test_a_key_that_is_listed_twice_counts_once() -> None:
    """The keys behind an equal one are there as well."""
    one, other = os.urandom(32), os.urandom(32)
    ring = KeyRing.from_option([one, one, other])
    assert len(ring.kids) == 2


def judged(value: bytes, **options: Any) -> str:
    """The message that says that a key is weak, or nothing."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        KeyRing.from_option(value, **options)
    assert all(isinstance(one.message, ConfigWarning) and one.message.code == "config.weak-key" for one in caught)
    return "".join(str(one.message) for one in caught)


def test_what_makes_a_key_weak() -> None:
    """Fewer than 32 bytes, fewer than 8 different ones, a repetition, a sentence; at each border."""
    distinct = bytes(range(128, 136))
    assert "a key of secret is shorter than 32 bytes" in judged(os.urandom(31))
    assert judged(distinct[:8] + distinct[:7] * 3 + b"\x80\x80\x81") == ""
    assert "plainly not random" in judged(distinct[:7] + distinct[:7] * 3 + b"\x80\x80\x81\x82")
    assert "plainly not random; make" in judged(bytes(range(140, 156)) * 2).replace(". ", "; ")
    assert "text with blanks or letters beyond ASCII, which random keys have not; make" in judged(
        b"a sentence that is long enough for a key"
    )


def test_weak_keys_are_errors_with_strict() -> None:
    """What is warned about is an error with ``strict``, of the same code; without it ``combine`` and ``of`` warn."""
    weak, good = os.urandom(20), os.urandom(32)
    for refusing in (
        lambda: KeyRing.from_option(weak, strict=True),
        lambda: KeyRing.from_option(b"short"),
    ):
        with pytest.raises(ConfigError) as caught:
            refusing()
        assert caught.value.code == "config.weak-key"
    with pytest.raises(ConfigError) as caught:
        KeyRing.combine(validate=None, encrypt=good)
    assert caught.value.code == "config.missing-key"
    makers: list[Callable[[], object]] = [
        lambda: KeyRing.combine(validate=weak, encrypt=good),
        lambda: KeyRing.of({"secret": weak}),
    ]
    for make in makers:
        with pytest.warns(ConfigWarning, match="shorter than 32"):
            make()


def test_a_ring_names_its_options() -> None:
    """Its representation and its errors name the options that were given, the encrypting ones last."""
    one, two = os.urandom(32), os.urandom(32)
    ring = KeyRing.of({"secret": one, "other": None}, {"encrypt_key": two})
    assert repr(ring).startswith("<KeyRing of secret, encrypt_key: ")
    assert repr(KeyRing.combine(validate=one, encrypt=two)).startswith("<KeyRing of validate_key, encrypt_key: ")
    assert repr(KeyRing.from_option(one)).startswith("<KeyRing of secret: ")
    with pytest.raises(ConfigError, match="first and last are the same key") as caught:
        KeyRing.of({"first": one, "second": two}, {"last": [one, os.urandom(32)]})
    assert caught.value.option == "last"


def test_stamps_of_records() -> None:
    """A record's header says when it was stored and ends, its kind and how it is sealed; other bytes have none."""
    ring = KeyRing.from_option(os.urandom(32))
    plain, signing = Envelope(backend="b"), Envelope(backend="b", ring=ring)
    encrypting = Envelope(backend="b", ring=ring, encrypt=True)
    for envelope, seal in ((plain, "plain"), (signing, "signed"), (encrypting, "encrypted")):
        for expires in (None, 9.0):
            data = envelope.seal("n", "k", b"", stored=5.0, expires=expires, kind=3)
            assert stamps(data) == (5.0, expires, 3, seal)
    empty = plain.seal("n", "k", b"", stored=5.0, expires=None)
    assert stamps(empty) == (5.0, None, 0, "plain")
    assert stamps(empty[:-1]) is None
    assert stamps(b"\0" * len(empty)) is None
    nan = float("nan")
    assert stamps(plain.seal("n", "k", b"", stored=nan, expires=1.0)) is None
    assert stamps(plain.seal("n", "k", b"", stored=1.0, expires=nan)) is None


def test_a_token_takes_no_other_letters() -> None:
    """What base64 allows beside is refused: of a token with one other letter no id is opened."""
    ids = IdTokens(RING, "c")
    token = ids.issue(new_id())
    assert text(raw(token)) == token
    assert reason(lambda: ids.open(token[:-1] + "\u00e9")) in ("encoding", "base64", "form", "characters", "mac")


def test_bare_ids_with_a_date_have_a_version_of_their_own() -> None:
    """The first byte of a token without a key says which kind it is: 4 without a date, 6 with one."""
    ids = IdTokens(None, "c")
    assert (raw(ids.issue(new_id()))[0], raw(ids.issue(new_id(), 1.0))[0]) == (4, 6)


def test_a_bad_token_says_why() -> None:
    """The error of a token has the reason, and the code of the list of errors."""
    with pytest.raises(tokens.BadToken) as caught:
        IdTokens(RING, "c").open("x")
    assert (caught.value.reason, caught.value.code) == ("length", "session.bad-token")


def test_a_new_key_is_as_old_as_it_was_known(tmp_path: Path) -> None:
    """A key has the age 0 when it is first read, also while the clock was set back; ``current`` and
    ``keys`` each notice a new one."""
    clock = FakeClock(1000.0)
    path = tmp_path / "keys"
    path.write_text(new_key() + "\n")
    path.chmod(0o600)
    ring, other = (KeyRing.from_option(f"file:{path}", clock=clock) for _ in range(2))
    first, keys = ring.current, other.keys
    assert ring.ages() == {first.kid: 0.0}
    clock.advance(-5)
    assert ring.ages() == {first.kid: 0.0}
    clock.advance(5)
    path.write_text(new_key() + "\n")
    for _ in range(4):
        clock.advance(6)
        latest, found = ring.current, other.keys
    assert latest is not first
    assert found is not keys


def record(envelope: Envelope) -> bytes:
    return envelope.seal("n", "k", b"payload", stored=5.0, expires=None)


def test_what_is_not_encrypted_is_refused_where_encryption_is_configured() -> None:
    """A record that the same key has signed only is corrupt, unless such ones are accepted; so is one that its own key
    would have encrypted."""
    signing, pairing = {"validate_key": new_key()}, {"encrypt_key": new_key()}
    ring, rolling = KeyRing.of(signing, pairing), KeyRing.of(signing, pairing, rollout="accept")
    assert ring is not None
    assert rolling is not None
    encrypting = Envelope(backend="b", ring=ring, encrypt=True)
    assert encrypting.open("n", "k", record(encrypting)).payload == b"payload"
    with pytest.raises(CorruptRecord):
        encrypting.open("n", "k", record(Envelope(backend="b", ring=ring)))
    accepting = Envelope(backend="b", ring=rolling, encrypt=True, older="signed")
    assert accepting.open("n", "k", record(Envelope(backend="b", ring=KeyRing.of(signing)))).payload == b"payload"
    with pytest.raises(CorruptRecord):
        accepting.open("n", "k", record(Envelope(backend="b", ring=ring)))
    with pytest.raises(ConfigError) as caught:
        Envelope(backend="b", encrypt=True)
    assert caught.value.code == "config.missing-key"


def test_a_directorys_key_opens_nothing_where_a_secret_is_set(tmp_path: Path) -> None:
    """What the key of a directory has sealed is read without a secret, and with one while bare records are accepted."""
    (tmp_path / "data").mkdir(mode=0o700)

    def place() -> PlaceKey:
        return PlaceKey(str(tmp_path / "data"), backend="b", option="data_dir")

    own = place()
    own.current()
    kept = Envelope(backend="b", place=own)
    sealed_there = record(kept)
    opened = kept.open("n", "k", sealed_there)
    assert (opened.payload, opened.current) == (b"payload", True)
    ring = KeyRing.from_option(os.urandom(32))
    accepting = Envelope(backend="b", ring=ring, place=place(), older="bare")
    assert accepting.open("n", "k", sealed_there).payload == b"payload"
    assert accepting.open("n", "k", record(accepting)).payload == b"payload"
    with pytest.raises(CorruptRecord):
        Envelope(backend="b", ring=ring, place=place()).open("n", "k", sealed_there)


def test_keys_of_an_envelope() -> None:
    """The same object as long as the ring's keys are the same, another for each ring, and its own without one."""
    ring = KeyRing.from_option(os.urandom(32))
    plain = Envelope(backend="b")
    assert Envelope(backend="b", ring=ring).keys is ring.keys
    assert plain.keys is plain


def test_the_key_of_a_directory_is_created_once_and_looked_at(tmp_path: Path) -> None:
    """Looking creates nothing; a key stays the same object until its file is another, and is gone with its privacy."""
    folders = [tmp_path / "one", tmp_path / "two"]
    places = []
    for folder in folders:
        folder.mkdir(mode=0o700)
        places.append(PlaceKey(str(folder), backend="b", option="data_dir"))
    one, two = places
    assert one.problem() == ""
    assert one.find(b"1234") is None
    assert list(folders[0].iterdir()) == []
    first, other = one.current(), two.current()
    assert first is not None
    assert other is not None
    assert one.current() is first
    assert one.find(first.kid) is first
    assert one.find(other.kid) is None
    assert one.problem() == ""
    assert open_under(tmp_path) == []
    (name,) = (path.name for path in folders[1].iterdir() if path.is_file() and not path.name.endswith(".lock"))
    os.replace(folders[1] / name, folders[0] / name)
    latest = one.current()
    assert latest is not None
    assert latest.kid == other.kid
    folders[0].chmod(0o777)
    (folders[0] / name).unlink()
    assert one.current() is None
    assert one.known is None
    assert one.problem() != ""


def test_a_record_of_any_name() -> None:
    """A name that UTF-8 has no bytes for has a record all the same, and not that of another name."""
    envelope = Envelope(backend="b", ring=KeyRing.from_option(os.urandom(32)))
    data = envelope.seal("n", "\ud800", b"payload", stored=5.0, expires=None)
    assert envelope.open("n", "\ud800", data).payload == b"payload"
    with pytest.raises(CorruptRecord):
        envelope.open("n", "\ud801", data)
