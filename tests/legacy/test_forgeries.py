"""Old cookies and records that no Beaker wrote: mutated, swapped, under other keys. None is read, none raises."""

from __future__ import annotations

import base64
import hmac
import os
import pickle
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.config.parse import parse_session
from beaker.session.base import BaseSession
from beaker.session.context import SessionContext
from beaker.session.opening import legacy_reader
from beaker.session.proxy import SessionObject
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import SECRET, Tab
from tests.legacy.corpus import COOKIE, MADE, VECTORS, Vector, expected, label, pick, policy_of, restore, unpacked
from tests.legacy.writer import ENCRYPT_KEY, VALIDATE_KEY
from tests.legacy.writer import SECRET as OLD_SECRET

PER_VECTOR = int(os.environ.get("BEAKER_FUZZ", "10000")) // 100
"""Mutations of each vector: 108 vectors give more than ten thousand."""
LETTERS = "0123456789abcdefABCDEFxyzXYZ+/=-_.,:!#%"

SIGNED = [vector for vector in VECTORS if not vector.get("unsigned")]


def sign(value: str, key: str) -> str:
    return hmac.new(key.encode(), value.encode(), "sha1").hexdigest() + value


def data_cookie(payload: bytes) -> str:
    """A cookie session of Beaker with this payload, rightly signed."""
    return sign(base64.b64encode(payload).decode(), VALIDATE_KEY)


class Deployment:
    """Sessions in memory that read one old deployment, without WSGI."""

    def __init__(self, vector: Vector, directory: Path, **policy: Any) -> None:
        # No server listens there: a forged cookie that led to one would be an error.
        nowhere = {"ext:memcached": "127.0.0.1:1", "ext:redis": "redis://127.0.0.1:1/0"}
        legacy = policy_of(vector, directory, nowhere.get(vector["type"], ""), **policy)
        options = {"type": "memory", "secret": SECRET, "key": COOKIE, "legacy": legacy}
        self.context = SessionContext(parse_session(kwargs=options), clock=FakeClock(MADE + 60))

    def open(self, cookie: str) -> BaseSession:
        return SessionObject({"HTTP_COOKIE": f"{COOKIE}={cookie}"}, context=self.context)._session()


def mutations(cookie: str, others: list[str], luck: random.Random) -> list[str]:
    """Substitutions, cuts, extensions, and parts of other cookies."""
    made = []
    for _ in range(PER_VECTOR):
        at, letter = luck.randrange(len(cookie)), luck.choice(LETTERS)
        other = luck.choice(others)
        made.append(
            luck.choice(
                [
                    cookie[:at] + letter + cookie[at + 1 :],
                    cookie[:at] + letter + cookie[at:],
                    cookie[:at] + cookie[at + 1 :],
                    cookie[:at],
                    cookie + letter,
                    letter + cookie,
                    other[:40] + cookie[40:],
                    cookie[:40] + other[40:],
                    cookie[40:],
                    cookie[:40].upper() + cookie[40:],
                    cookie[:40] + cookie[40:][::-1],
                ]
            )
        )
    return [value for value in made if value != cookie and value not in others]


@pytest.mark.parametrize("vector", SIGNED, ids=label)
def test_no_mutated_cookie_is_read(vector: Vector, tmp_path: Path) -> None:
    """Whatever is changed in a cookie, it opens nothing and is no error; no old store is even asked."""
    deployment = Deployment(vector, tmp_path)
    luck = random.Random(vector["cookie"])
    made = mutations(vector["cookie"], [other["cookie"] for other in SIGNED], luck)
    assert len(made) > PER_VECTOR * 3 // 4
    for value in made:
        session = deployment.open(value)
        assert session.is_new, value
        assert not any(session._own_keys()), value


@pytest.mark.parametrize("option", ["secret", "validate_key", "encrypt_key"])
@pytest.mark.parametrize("vector", [v for v in SIGNED if v["beaker"] == "1.14.1" and "entries" not in v], ids=label)
def test_no_other_key_reads(option: str, vector: Vector, tmp_path: Path) -> None:
    """Each key that went into a session is needed to read it."""
    restore(vector, tmp_path)
    policy = policy_of(vector, tmp_path)
    if option not in policy:
        return
    assert not Deployment(vector, tmp_path).open(vector["cookie"]).is_new
    restore(vector, tmp_path)
    assert Deployment(vector, tmp_path, **{option: "another-key"}).open(vector["cookie"]).is_new
    assert not Deployment(vector, tmp_path, **{option: ["another-key", policy[option]]}).open(vector["cookie"]).is_new


@pytest.mark.parametrize("crypto", ["gcm", "ctr"])
def test_the_kind_of_encryption_can_be_pinned(crypto: str, tmp_path: Path) -> None:
    """With ``crypto_type`` the other kind is not tried."""
    vector = pick(beaker="1.14.1", type="cookie", serializer="json", crypto=crypto, nonce=128)
    names = {"gcm": "cryptography", "ctr": "pycryptodome"}
    other = "ctr" if crypto == "gcm" else "gcm"
    assert not Deployment(vector, tmp_path, crypto_type=names[crypto]).open(vector["cookie"]).is_new
    assert Deployment(vector, tmp_path, crypto_type=names[other]).open(vector["cookie"]).is_new


def test_sealed_data_cannot_be_changed_by_who_can_sign_only(tmp_path: Path) -> None:
    """GCM: with the validate_key alone no byte of the content changes unseen."""
    vector = pick(beaker="1.14.1", type="cookie", serializer="pickle", crypto="gcm", nonce=128)
    deployment, text = Deployment(vector, tmp_path), vector["cookie"][40:]
    sealed = base64.b64decode(text[24:])
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        value = sign(text[:24] + base64.b64encode(changed).decode(), VALIDATE_KEY)
        assert deployment.open(value).is_new


RECORDS = [v for v in VECTORS if v["type"] in ("file", "dbm", "ext:database") and v["beaker"] in ("1.5.4", "1.14.1")]


@pytest.mark.parametrize("vector", RECORDS, ids=label)
def test_a_damaged_record_is_no_error_of_the_request(vector: Vector, tmp_path: Path) -> None:
    """Cut short, flipped or overwritten, a record is read or refused; sealed ones only if they are whole."""
    luck = random.Random(vector["cookie"])
    names = [name for name in sorted(vector["files"]) if not name.endswith(".bak")]
    for round in range(60):
        restore(vector, tmp_path)
        name = names[round // 3 % len(names)]
        data = unpacked(vector["files"][name])
        at = luck.randrange(len(data))
        if vector["type"] == "ext:database":
            changed = _changed_row(tmp_path / "old.db", luck)
        else:
            kinds = [data[:at], data[:at] + bytes([data[at] ^ (1 << round % 8)]) + data[at + 1 :], os.urandom(at)]
            changed = kinds[round % 3]
            (tmp_path / name).write_bytes(changed)
        session = Deployment(vector, tmp_path).open(vector["cookie"])
        if vector.get("crypto") == "gcm" and not session.is_new:
            assert {key: session[key] for key in session._own_keys()} == expected(vector)


def _changed_row(path: Path, luck: random.Random) -> bytes:
    import sqlite3

    connection = sqlite3.connect(path)
    (data,) = connection.execute("select data from beaker_cache").fetchone()
    at = luck.randrange(len(data))
    changed = data[:at] + bytes([luck.randrange(256)]) + data[at + 1 :]
    with connection:
        connection.execute("update beaker_cache set data = ?", (changed,))
    connection.close()
    return bytes(changed)


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def stamped(**values: Any) -> dict[str, Any]:
    return {"_creation_time": MADE, "_accessed_time": MADE, **values}


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_of_who_has_the_key_runs_nothing(protocol: int, tmp_path: Path) -> None:
    """A malicious cookie with the right signature, and a malicious record, are refused and do nothing."""
    target = tmp_path / "run"
    evil = stamped(x=Bomb(target))
    cookie = pick(beaker="1.14.1", type="cookie", serializer="pickle", crypto=None)
    before = counters.snapshot().events.get("legacy_refused{name}", 0)
    if protocol >= 2:
        # Older protocols do not begin like any pickle Beaker puts into a cookie.
        assert Deployment(cookie, tmp_path).open(data_cookie(pickle.dumps(evil, protocol))).is_new
    record = pick(beaker="1.14.1", type="file", serializer="pickle", crypto=None, unsigned=None)
    restore(record, tmp_path)
    (path,) = tmp_path.rglob("*.cache")
    path.write_bytes(pickle.dumps({"session": evil}, protocol))
    assert Deployment(record, tmp_path).open(record["cookie"]).is_new
    assert counters.snapshot().events["legacy_refused{name}"] == before + 1 + (protocol >= 2)
    assert not target.exists()
    # The same bytes are deadly to pickle, so that this test can fail.
    pickle.loads(pickle.dumps(evil, protocol))
    assert target.exists()


def refused_for(payload: bytes, tmp_path: Path, **policy: Any) -> str:
    """Why a rightly signed cookie with this payload is refused."""
    cookie = pick(beaker="1.14.1", type="cookie", serializer="pickle", crypto=None)
    counters.reset()
    assert Deployment(cookie, tmp_path, **policy).open(data_cookie(payload)).is_new
    (name,) = (name for name in counters.snapshot().events if name.startswith("legacy_refused"))
    return name[len("legacy_refused{") : -1]


def nested(depth: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return stamped(x=value)


def shared(levels: int) -> dict[str, Any]:
    value: Any = ["x"] * 10
    for _ in range(levels):
        value = [value] * 10
    return stamped(x=value)


def test_bombs_are_refused_early(tmp_path: Path) -> None:
    """Much zlib in few bytes, deep nesting, shared lists that stand for billions, big numbers: all have bounds."""
    json_bomb = zlib.compress(b'{"_creation_time": 1, "x": "' + b"a" * (1 << 20) + b'"}')
    assert refused_for(json_bomb, tmp_path) == "size"
    assert refused_for(zlib.compress(b"[" * 2000 + b"]" * 2000), tmp_path) in ("json", "depth")
    assert refused_for(pickle.dumps(nested(100), 2), tmp_path) == "depth"
    assert refused_for(pickle.dumps(shared(8), 2), tmp_path) == "values"
    assert refused_for(b"\x80\x02\x8b\xff\xff\xff\x7f.", tmp_path) == "integer"
    assert refused_for(b"\x80\x02j\xff\xff\xff\x7f.", tmp_path) == "KeyError"
    assert refused_for(b"\x80\x02X\xff\xff\xff\x7f.", tmp_path) == "short"
    assert refused_for(pickle.dumps(stamped(x=[1] * 200), 2), tmp_path, max_bytes=200) == "size"


class Unknown:
    """A class of an application."""


def test_what_is_no_plain_value_is_refused(tmp_path: Path) -> None:
    """Classes of the application, functions, and payloads that are not a dict."""
    assert refused_for(pickle.dumps(stamped(x=Unknown()), 2), tmp_path) == "name"
    assert refused_for(pickle.dumps(stamped(x=len), 2), tmp_path) == "name"
    assert refused_for(pickle.dumps([1], 2), tmp_path) == "type"
    assert refused_for(zlib.compress(b"[1]"), tmp_path) == "type"
    assert refused_for(b"{}", tmp_path) == "serializer"
    assert refused_for(zlib.compress(b"{}") + b"x", tmp_path) == "inflate"
    assert refused_for(zlib.compress(b"{}")[:-1], tmp_path) == "inflate"
    assert refused_for(pickle.dumps({"x": 1}, 2), tmp_path) == "stamp"


def test_pickle_can_be_switched_off(tmp_path: Path) -> None:
    """``pickle = no`` reads JSON alone; YAML's ``False`` for the word means the same."""
    for word in ("no", False):
        assert refused_for(pickle.dumps(stamped(), 2), tmp_path, pickle=word) == "pickle"
    vector = pick(beaker="1.14.1", type="cookie", serializer="json", crypto=None)
    assert not Deployment(vector, tmp_path, pickle="no").open(vector["cookie"]).is_new


@pytest.mark.parametrize("id", ["../../../etc/passwd", "a" * 31, "a" * 71, "A" * 32, "a" * 31 + "/", "%2e%2e/" * 5])
def test_an_id_is_an_id(id: str, tmp_path: Path) -> None:
    """What is not of an id's form leads to no path, be it signed."""
    record = pick(beaker="1.14.1", type="file", serializer="pickle", crypto=None, unsigned=None)
    # The directory is missing: any look into the store would be an error.
    assert Deployment(record, tmp_path / "none").open(sign(id, OLD_SECRET)).is_new


def test_an_unsigned_id_needs_the_switch(tmp_path: Path) -> None:
    """Without ``unsigned`` an id alone opens nothing."""
    record = pick(beaker="1.14.1", type="file", unsigned=True)
    restore(record, tmp_path)
    assert Deployment(record, tmp_path, unsigned=False, secret=OLD_SECRET).open(record["cookie"]).is_new
    assert not Deployment(record, tmp_path).open(record["cookie"]).is_new


def test_secrets_stay_secret(
    arrive: Callable[..., Tab], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """No key, cookie or value is in a repr, in a log or in what a refusal says."""
    caplog.set_level(0)
    vector = pick(beaker="1.14.1", type="file", serializer="pickle", crypto="gcm")
    tab = arrive(vector)
    context = tab.middleware.context
    assert tab.do(lambda session: session.get("number")) == vector["number"]
    tab.do_with_header(f"{COOKIE}={vector['cookie'][:-1]}0", lambda session: session.get("x"))
    reader = legacy_reader(context)
    assert reader is not None
    told = [repr(x) for x in (context, reader, reader.policy, reader.policy.codec, context.options, reader.__dict__)]
    said = "".join(told) + caplog.text + "".join(capsys.readouterr())
    for secret in (OLD_SECRET, VALIDATE_KEY, ENCRYPT_KEY, vector["cookie"][40:]):
        assert secret not in said
