"""What is plainly no key is refused wherever a key is given; a key of ``keys new`` that is not whole is noticed."""

from __future__ import annotations

import base64
import io
import os
import random
import re
import secrets
import string
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beaker.__main__ import main
from beaker.cache import CacheManager
from beaker.crypto import form, sources
from beaker.crypto.form import check_key, is_made_here, is_words, make_key
from beaker.crypto.keyring import KeyRing
from beaker.exceptions import ConfigError, ConfigWarning
from beaker.middleware import SessionMiddleware
from beaker.session.cookies import SignedCookie
from beaker.testing import FakeClock

KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
NAMES = [
    "secret:projects/P/secrets/S/versions/latest", "projects/my-project/secrets/session-key/versions/3",
    "/etc/keys/session-secret.key", "/run/secrets/session_key", "/var/run/keys/beaker", "./keys/session.key/of/mine",
    "../secrets/session/key", "~/keys/session/secret", "C:\\keys\\session-secret", "secrets/session-secret.key",
    "${BEAKER_SESSION_SECRET}", "$BEAKER_SESSION_SECRET", "$(cat /etc/keys/session)", "%(here)s/session-secret",
    "%BEAKER_SESSION_SECRET%", "{{ session_secret_value }}", "<put your secret in here>", "prefix-${SESSION_SECRET}",
    "FILE:/etc/keys/session", "File:session-secret", "file//etc/keys/session", "file =/etc/keys/session",
    "files:/etc/keys/session", "file;/etc/keys/session", "path:/etc/keys/session",
    "env:BEAKER_SESSION_SECRET", "vault:secret/data/session#key", "https://vault.example/v1/session",
    "arn:aws:secretsmanager:eu:1:secret:x", "os.environ['SESSION_SECRET']", "ENC[AES256_GCM,data:abcdefgh]",
    f'"{KEY}"', f"'{KEY}'", f"`{KEY}`", f"SESSION_SECRET={KEY}", f"export KEY={KEY}", f"key = {KEY}",
    "-----BEGIN PRIVATE KEY-----", f"# {KEY}", f"// {KEY}",
]  # fmt: skip
MORE = [
    "/Users/ann/keys/session-secret", "/mnt2/keys/sessionSecret1", "@/etc/keys/session_secret", "@secret:my/session",
    "//secretmanager.googleapis.com/projects/P/secrets/S", "env.SESSION_SECRET_KEY", "ENV[SESSION_SECRET]",
    "process.env.SESSION_SECRET", "{SESSION_SECRET_OF_PRODUCTION}", "{% session_secret %}", "!secret session_secret",
    f"session.secret = {KEY}",
]  # fmt: skip
OURS = make_key()
BROKEN = [
    OURS[:-1], OURS[:30], OURS[1:], OURS[5:], OURS[3:], OURS + "x", OURS + "\\n", OURS.upper(), f"{OURS}{OURS}",
    OURS.replace("_", "-", 1), OURS[:20] + ("A" if OURS[20] != "A" else "B") + OURS[21:], f"key:{OURS}", f"{OURS},",
]  # fmt: skip
GOOD = [
    KEY, OURS, secrets.token_hex(32), secrets.token_urlsafe(32), secrets.token_urlsafe(64),
    base64.b64encode(b"\xff\xfe" * 8 + bytes(range(16))).decode(), "/9j/" + "4AAQSkZJRgABAQAAAQABAAD2wBDAAgGBgc+",
    "k2(7!x$h#p@q^z&w*e-r_t=y+u)i%o" + "aj3", "pbkdf2-sha256-like-text-0123456789", "a.b.c-0123456789-abcdefghijk.xyz",
]  # fmt: skip


def app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b""]


GIVEN: dict[str, Callable[[Any], Any]] = {
    "KeyRing": KeyRing.from_option,
    "SignedCookie": SignedCookie,
    "secret": lambda key: SessionMiddleware(app, type="memory", secret=key),
    "validate_key": lambda key: SessionMiddleware(app, type="cookie", validate_key=key),
    "encrypt_key": lambda key: SessionMiddleware(app, type="memory", secret=make_key(), encrypt_key=key),
    "secret_fallbacks": lambda key: SessionMiddleware(app, type="memory", secret=make_key(), secret_fallbacks=[key]),
    "a list": lambda key: SessionMiddleware(app, type="memory", secret=[make_key(), key]),
    "cache.secret": lambda key: CacheManager(type="ext:database", url="sqlite://", secret=key),
    "cache.encrypt_key": lambda key: CacheManager(type="ext:database", url="sqlite://", encrypt_key=key),
    "a region": lambda key: CacheManager(regions="r", type="ext:database", url="sqlite://", **{"r.secret": key}),
    "legacy": lambda key: SessionMiddleware(
        app,
        type="memory",
        secret=make_key(),
        legacy={"secret": key, "until": "2023-12-01", "type": "file", "data_dir": "d"},
        clock=FakeClock(),
    ),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("give", GIVEN.values(), ids=GIVEN)
def test_the_name_of_a_key_is_no_key(give: Callable[[Any], Any], name: str) -> None:
    """A path, reference, variable, quoted or assigned key is a ConfigError that does not show it, as text or bytes."""
    for value in (name, name.encode()):
        with pytest.raises(ConfigError, match=r"is .* and not a key") as caught:
            give(value)
        assert caught.value.code == "config.not-a-key"
        assert name not in str(caught.value)
        assert KEY not in str(caught.value)


@pytest.mark.parametrize("name", MORE)
def test_names_in_the_notation_of_other_programs(name: str) -> None:
    """Paths of any root, and references and variables as other programs write them, are no keys either."""
    with pytest.raises(ConfigError, match=r"is .* and not a key") as caught:
        KeyRing.from_option(name)
    assert name not in str(caught.value)


@pytest.mark.parametrize("broken", BROKEN, ids=range(len(BROKEN)))
def test_a_key_of_ours_that_is_not_whole(broken: str) -> None:
    """A character lost, added or changed, at either end or within, is noticed."""
    with pytest.raises(ConfigError, match="mistyped or not whole"):
        KeyRing.from_option([broken])


def test_every_single_slip_is_noticed() -> None:
    """Any one character of a hundred keys changed, dropped or doubled."""
    chance = random.Random(7)
    for _ in range(100):
        key = make_key()
        at = chance.randrange(len(key))
        other = chance.choice([char for char in string.ascii_letters + string.digits + "-_" if char != key[at]])
        for slip in (key[:at] + other + key[at + 1 :], key[:at] + key[at + 1 :], key[: at + 1] + key[at:]):
            if "bkr1_" in slip:
                with pytest.raises(ConfigError, match="not whole"):
                    check_key(slip.encode(), "secret")
            assert not is_made_here(slip.encode())


@pytest.mark.parametrize("good", GOOD, ids=range(len(GOOD)))
def test_any_other_text_may_be_a_key(good: str, tmp_path: Path) -> None:
    """Hex, base64 of both alphabets, and what password generators print are taken, from a file too."""
    ring = KeyRing.from_option([good], strict=True)
    path = tmp_path / "keys"
    path.write_text(good)
    assert KeyRing.from_option(f"file:{path}", strict=True).kids == ring.kids


@pytest.mark.parametrize("name", [
    "doppler:PRODUCTION_SESSION_SECRET_NAME", "config/secrets/production/session_key",
    "Keyring:service/Name12/ofTheSession", "correct-horse-battery-staple-again",
])  # fmt: skip
def test_words_are_a_weak_key(name: str) -> None:
    """What may be a name or a passphrase is warned about, and with strict refused, without being shown."""
    with pytest.warns(ConfigWarning, match="is words, as paths, names and passphrases are") as warned:
        KeyRing.from_option(name)
    assert name not in str(warned[0].message)
    with pytest.raises(ConfigError, match="is words") as caught:
        KeyRing.from_option(name, strict=True)
    assert caught.value.code == "config.weak-key"


def test_random_keys_are_never_refused() -> None:
    """Of thousands of random keys in every usual alphabet, none is taken for something else, or for words."""
    chance = random.Random(11)
    alphabets = [
        string.ascii_letters + string.digits + "+/",
        string.ascii_letters + string.digits + "-_",
        string.hexdigits,
        "abcdefghijklmnopqrstuvwxyz0123456789!@#$%^&*(-_=+)",
    ]
    for alphabet in alphabets:
        for _ in range(3000):
            key = "".join(chance.choice(alphabet) for _ in range(50)).encode()
            check_key(key, "secret")
            assert not is_words(key)
    for begin in (b"", b"\xff\xfe", b"\xfe\xff"):
        for _ in range(1000):
            check_key(begin + chance.randbytes(32 - len(begin)), "secret")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_bytes_that_are_marked_text(encoding: str) -> None:
    """A key of bytes that was read from a file behind a byte order mark is refused: it is not what was meant."""
    with pytest.raises(ConfigError, match="byte order mark"):
        check_key(KEY.encode(encoding), "secret")


@pytest.mark.parametrize("text", [f"\ufeff{KEY}", f"{KEY}\0", f"{KEY[:20]}\x1b{KEY[20:]}", f"{KEY}\x7f"])
def test_control_characters(text: str) -> None:
    """A byte order mark, NUL or another control character in a key is refused."""
    with pytest.raises(ConfigError, match="control character or a byte order mark"):
        KeyRing.from_option([text])


FILES: dict[str, bytes] = {
    "a comment": f"# the key of the shop\n{KEY}\n".encode(),
    "a comment below": f"{KEY}\n# the old one\n".encode(),
    "a comment without a blank": f"#session-secret-of-the-shop-2024\n{KEY}\n".encode(),
    "an ini comment": f"; session-secret-of-the-shop-2024\n{KEY}\n".encode(),
    "words": f"this file holds the session key of the shop\n{KEY}\n".encode(),
    "a byte order mark": b"\xef\xbb\xbf" + KEY.encode(),
    "UTF-16": f"{KEY}\n".encode("utf-16"),
    "NUL": KEY.encode() + b"\0\n",
    "NULs, as after a crash": bytes(64),
    "binary": bytes(range(128, 192)),
    "umlauts": ("ü" * 20).encode(),
    "quotes": f'"{KEY}"\n'.encode(),
    "a quote": f'{KEY}"\n'.encode(),
    "a comma": f"{KEY},\n".encode(),
    "an assignment": f"BEAKER_SESSION_SECRET={KEY}\n".encode(),
    "KEY=": f"KEY={KEY}\n".encode(),
    "JSON": f'{{"key":"{KEY}"}}\n'.encode(),
    "PEM": b"-----BEGIN EC PRIVATE KEY-----\n" + base64.b64encode(bytes(range(48))) + b"\n",
    "another file": b"file:/etc/keys/session-secret\n",
    "a reference": b"secret:projects/P/secrets/S/versions/1\n",
    "half a key": OURS[:30].encode(),
    "half a second key": f"{OURS}\n{make_key()[:25]}".encode(),
    "nothing": b"\n \n",
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
class TestFiles:
    def test_is_refused(self, data: bytes, tmp_path: Path) -> None:
        """A key file that holds anything but keys is a ConfigError naming option and path, and shows no line of it."""
        path = tmp_path / "session"
        path.write_bytes(data)
        with pytest.raises(ConfigError) as caught:
            KeyRing.from_option(f"file:{path}", option="session.secret")
        assert "session.secret" in str(caught.value)
        assert str(path) in str(caught.value)
        assert KEY not in str(caught.value)

    def test_leaves_the_old_keys_in_use(self, data: bytes, tmp_path: Path, fake_clock: FakeClock) -> None:
        """A file that becomes such a one changes nothing."""
        path = tmp_path / "session"
        path.write_text(KEY)
        ring = KeyRing.from_option(f"file:{path}", clock=fake_clock)
        kids = ring.kids
        path.write_bytes(data)
        for _ in range(4):
            fake_clock.advance(6)
            assert ring.kids == kids

    def test_keys_check_says_so(self, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The command fails for the same files, from a path and from standard input, and shows no key."""
        path, out = tmp_path / "session", io.StringIO()
        path.write_bytes(data)
        assert main(["keys", "check", str(path)], out=out) != 0
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert main(["keys", "check", "-"], out=out) != 0
        assert KEY not in out.getvalue()


def test_a_file_that_is_being_written_is_read_until_it_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys are those of two equal reads; a file that never rests is an error."""
    path = tmp_path / "keys"
    path.write_text(KEY)
    real, states = sources.FileSource._read, [KEY[:20], KEY[:40], KEY]

    def reading(self: Any) -> Any:
        if states:
            path.write_text(states.pop(0))
        return real(self)

    monkeypatch.setattr(sources.FileSource, "_read", reading)
    assert KeyRing.from_option(f"file:{path}").kids == KeyRing.from_option(KEY).kids
    states[:] = [KEY[:n] for n in range(20, 40)]
    with pytest.raises(ConfigError, match="being written"):
        KeyRing.from_option(f"file:{path}")


def test_a_half_written_file_is_not_used(tmp_path: Path, fake_clock: FakeClock) -> None:
    """What a look sees for the first time waits for the next look; half a key that grows in between is never used."""
    path, first, second = tmp_path / "keys", secrets.token_hex(32), secrets.token_hex(32)
    path.write_text(first)
    ring = KeyRing.from_option(f"file:{path}", clock=fake_clock)
    kids = ring.kids
    for end in range(20, 64, 8):
        path.write_text(second[:end])
        fake_clock.advance(6)
        assert ring.kids == kids
    path.write_text(second)
    for _ in range(2):
        fake_clock.advance(6)
        assert ring.kids is not None
    assert ring.kids == KeyRing.from_option(second).kids


def test_a_file_left_alone_for_a_while_is_used_at_once(tmp_path: Path, fake_clock: FakeClock) -> None:
    """A process with few requests does not seal with the old key once more."""
    path = tmp_path / "keys"
    path.write_text(KEY)
    ring = KeyRing.from_option(f"file:{path}", clock=fake_clock)
    path.write_text(OURS)
    fake_clock.advance(3600)
    os.utime(path, (fake_clock() - 60, fake_clock() - 60))
    assert ring.kids == KeyRing.from_option(OURS).kids


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_a_file_that_anybody_can_write(tmp_path: Path) -> None:
    """It is refused, since any user may have written its keys."""
    path = tmp_path / "keys"
    path.write_text(KEY)
    path.chmod(0o646)
    with pytest.raises(ConfigError, match=r"every user.*chmod o-w"):
        KeyRing.from_option(f"file:{path}")


def test_a_file_that_comes_to_another_owner(
    tmp_path: Path, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user who can replace the file in its directory cannot put in a key: the old ones stay."""
    path = tmp_path / "keys"
    path.write_text(KEY)
    ring = KeyRing.from_option(f"file:{path}", clock=fake_clock)
    kids, real = ring.kids, os.fstat

    def stranger(descriptor: int) -> Any:
        found = real(descriptor)
        names = [name for name in dir(found) if name.startswith("st_")]
        return SimpleNamespace(**{**{name: getattr(found, name) for name in names}, "st_uid": 4242})

    monkeypatch.setattr("beaker.crypto.sources.os.fstat", stranger)
    path.write_text(OURS)
    for _ in range(3):
        fake_clock.advance(6)
        assert ring.kids == kids


def test_a_pipe_is_read_once() -> None:
    """file:/dev/fd/N, as a shell's <(command) gives it."""
    reading, writing = os.pipe()
    os.write(writing, KEY.encode())
    os.close(writing)
    try:
        assert KeyRing.from_option(f"file:/dev/fd/{reading}").kids == KeyRing.from_option(KEY).kids
    finally:
        os.close(reading)


def test_what_is_looked_for_only_beside_a_character_cannot_be_elsewhere() -> None:
    """No pattern of a reference matches a text without one of the characters that it is tried with."""
    chance = random.Random(5)
    pieces = [*string.printable, "file", "env", "secret", "key", "os", "ENC", "-----BEGIN", "projects", "name", " "]
    for needed, pattern, what, _ in form._REFERENCES:
        names = [name for name in NAMES + MORE if re.match(pattern, name, re.IGNORECASE)]
        assert names, what
        assert all(set(name) & set(needed) for name in names)
        left = [piece for piece in pieces if not set(piece) & set(needed)]
        for name in names:
            for _ in range(50):
                text = "".join(char if char not in needed else chance.choice(["", *left]) for char in name)
                assert not re.match(pattern, text, re.IGNORECASE), (pattern, text)
        for _ in range(2000):
            text = "".join(chance.choices(left, k=chance.randrange(1, 12))).strip()
            assert not re.match(pattern, text, re.IGNORECASE), (pattern, text)
