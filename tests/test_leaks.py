"""The leak scan finds what is planted: in logs, exceptions, warnings, reprs and output, in every spelling."""

from __future__ import annotations

import base64
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.crypto.keyring import KeyRing, new_key
from beaker.crypto.tokens import IdTokens, new_id
from beaker.exceptions import (
    BeakerException,
    BeakerWarning,
    StoreUnavailable,
)
from beaker.middleware import SessionMiddleware
from beaker.testing.browser import Browser
from beaker.testing.session_harness import SessionHarness
from tests.leaks import Scan, canary
from tests.session.places import opened, options_of

ROOT = Path(__file__).parent.parent
log = logging.getLogger("beaker.test")


@pytest.fixture
def scan() -> Iterator[Scan]:
    """A scan of the test's own, whose hits are not the run's."""
    usual, Scan.current = Scan.current, Scan()
    yield Scan.current
    Scan.current = usual


SPELLINGS: dict[str, Callable[[bytes], str]] = {
    "repr": repr,
    "hex": bytes.hex,
    "base64": lambda raw: base64.b64encode(raw).decode(),
    "base64url": lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="),
    "latin-1": lambda raw: raw.decode("latin-1"),
    "24 characters of the middle": lambda raw: raw.hex()[17:41],
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_id_in_a_log_is_found(scan: Scan, spelling: str) -> None:
    """Raw, in every spelling, and cut out of the middle."""
    raw_id = new_id()
    IdTokens(None, "sid").issue(raw_id)
    log.debug("session %s is gone", SPELLINGS[spelling](raw_id))
    assert scan.hits() == ["a session id in a log of beaker.test"]
    log.debug("session %s is gone", SPELLINGS[spelling](new_id()))
    assert scan.hits() == []


def test_a_cookie_in_the_traceback_of_a_log_is_found(scan: Scan) -> None:
    """What an exception was raised from is looked at as well, where a traceback would show it."""
    token = IdTokens(KeyRing.from_option(new_key()), "sid").issue(new_id())
    for shown in (True, False):
        try:
            try:
                raise KeyError(token)
            except KeyError as error:
                raise RuntimeError("no such session") from (error if shown else None)
        except RuntimeError:
            log.exception("failed")
        assert bool(scan.hits()) is shown


def test_a_key_in_an_exception_is_found(scan: Scan) -> None:
    """Whoever catches it, even when the key was created long before."""
    key = new_key()
    KeyRing.from_option(key)
    assert scan.hits() == []
    try:
        raise StoreUnavailable(f"no answer with {key}", backend="test")
    except BeakerException:
        assert scan.hits() == ["a key in the arguments of StoreUnavailable"]


def test_a_foreign_exception_is_found_where_a_test_expects_it(scan: Scan) -> None:
    """pytest.raises hands over what it catches."""
    value = canary()
    with pytest.raises(ValueError):
        raise ValueError(value)
    assert set(scan.hits()) == {
        "a session value in an exception: ValueError",
        "a session value in an exception: repr of ValueError",
    }


def test_an_exception_out_of_the_middleware_is_found(scan: Scan, tmp_path: Path) -> None:
    """Also when the test catches it by hand."""
    value = canary()

    def app(environ: Any, start_response: Any) -> Any:
        raise LookupError(value)

    caught = None
    try:
        Browser(SessionMiddleware(app, **options_of("file", tmp_path))).get()
    except LookupError as error:
        caught = error
    assert caught is not None
    assert any("out of SessionMiddleware" in hit for hit in scan.hits())


def test_a_value_in_a_warning_is_found(scan: Scan) -> None:
    """Whatever filters are set."""
    value = canary()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.warn(f"what is {value}?", BeakerWarning, stacklevel=1)
        BeakerWarning(f"what is {value}?")
    assert scan.hits() == ["a session value in the arguments of BeakerWarning"]


def test_a_key_in_a_repr_is_found(scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of the library are asked for their repr when they are created."""
    monkeypatch.setattr(KeyRing, "__repr__", lambda ring: f"<KeyRing {ring.current._prk!r}>")
    KeyRing.from_option(new_key())
    assert scan.hits() == ["a key in the repr of beaker.crypto.keyring.KeyRing"]


def test_a_value_in_the_repr_of_a_loaded_session_is_found(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session is asked when its request ends."""
    monkeypatch.setattr("beaker.session.state.SessionState.__repr__", dict.__repr__)
    tab = opened("file", tmp_path)
    tab.do(SessionHarness.put(card=canary()))
    assert any(hit.startswith("a session value in the repr of") for hit in scan.hits())


CONFTEST = """
from tests import leaks


def pytest_configure(config):
    config.pluginmanager.register(leaks.Plugin())
"""

PLANTED = """
import logging

from beaker.crypto.tokens import IdTokens, new_id


def test_leaks():
    raw = new_id()
    IdTokens(None, "sid").issue(raw)
    logging.getLogger("beaker.x").info("session %s", raw.hex())


def test_prints():
    token = IdTokens(None, "sid").issue(new_id())
    print("cookie", token)


def test_is_silent():
    IdTokens(None, "sid").issue(new_id())
"""


def test_a_leak_fails_the_test_in_which_it_happened(tmp_path: Path) -> None:
    """A run of pytest with a leak in a log and one on stdout: both tests fail, the third does not."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_planted.py").write_text(PLANTED)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    # pytest cuts the lines of its summary to the width of the terminal.
    wide = {**os.environ, "COLUMNS": "500"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, env=wide)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "test_leaks - secrets were shown: a session id in a log of beaker.x" in done.stdout
    assert "test_prints - secrets were shown: a cookie in captured stdout call" in done.stdout
    assert "3 passed, 2 errors" in done.stdout
