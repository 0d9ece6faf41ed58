"""Every warning points at the line of the application that caused it, and carries a code."""

from __future__ import annotations

import ast
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from beaker import container
from beaker.cache import Cache, CacheManager
from beaker.crypto.keyring import KeyRing, new_key
from beaker.exceptions import (
    BeakerException,
    BeakerWarning,
    ConfigError,
    DeprecatedUse,
    StoreUnavailable,
    UnserializableValue,
    ValueTooLarge,
)
from beaker.middleware import CacheMiddleware, SessionMiddleware
from beaker.runtime import Platform, Runtime
from beaker.session import Session
from gae.app import compose

ROOT = Path(__file__).resolve().parents[1]
SERVERLESS = Runtime(platform=Platform.CLOUD_RUN)


def app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


class Stateful:
    def __init__(self) -> None:
        self.state = 1

    @CacheManager(type="memory").cache("stateful")
    def load(self) -> int:
        return 1


def late(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    yield b"first"
    environ["beaker.session"]["a"] = 1
    environ["beaker.session"].save()


def early(environ: Any, start_response: Any) -> Any:
    environ["beaker.session"]["a"] = 1
    environ["beaker.session"].save()
    # As a websocket's handler does: no response is started.
    yield from ()


def serve(wsgi: Any, **environ: Any) -> None:
    body = wsgi(environ, lambda *sent: None)
    list(body)
    body.close()


def old(until: datetime) -> dict[str, Any]:
    return {"until": until, "validate_key": "old", "type": "cookie"}


CALLS: dict[str, tuple[str, Callable[[], object]]] = {
    "an option of SessionMiddleware": (
        "config.unknown-option",
        lambda: SessionMiddleware(app, {"session.type": "memory", "session.colour": 3}),
    ),
    "an option of CacheMiddleware": (
        "config.unknown-option",
        lambda: CacheMiddleware(app, {"cache.type": "memory", "cache.colour": 3}),
    ),
    "an option of CacheManager": ("config.unknown-option", lambda: CacheManager(type="memory", colour=3)),
    "an option of get_cache": (
        "config.unknown-option",
        lambda: CacheManager(type="memory").get_cache("x", colour=3),
    ),
    "an option of Cache": ("config.unknown-option", lambda: Cache("x", colour=3)),
    "an option of Session": ("config.unknown-option", lambda: Session({}, colour=3, type="memory")),
    "an option of compose": (
        "config.unknown-option",
        lambda: compose(app, session={"colour": 3, "secret": new_key()}),
    ),
    "a weak key of a ring": ("config.weak-key", lambda: KeyRing.from_option("0123456789abcdef")),
    "a weak key of sessions": ("config.weak-key", lambda: SessionMiddleware(app, secret="0123456789abcdef")),
    "a weak key of a cache": ("config.weak-key", lambda: Cache("x", type="file", data_dir="d", secret="abcdefgh" * 2)),
    "chunks of stored sessions": ("config.no-effect", lambda: SessionMiddleware(app, type="memory", chunks=2)),
    "an old policy": (
        "config.legacy-is-over",
        lambda: SessionMiddleware(
            app, type="memory", secret=new_key(), legacy=old(datetime.now(timezone.utc) - timedelta(days=1))
        ),
    ),
    "files without a directory": ("config.no-data-dir", lambda: CacheManager(type="file")),
    "files on serverless": ("config.local-files", lambda: Cache("x", type="file", runtime=SERVERLESS)),
    "a memcached client": (
        "config.no-effect",
        lambda: Cache("x", type="ext:memcached", url="localhost", memcache_module="pylibmc"),
    ),
    "a file lock in memory": (
        "config.no-effect",
        lambda: Cache("x", type="memory", lock="file", lock_dir="d"),
    ),
    "a lease in memory": ("config.no-effect", lambda: CacheManager(type="memory", lock="lease").get_cache("x")),
    "a type given with a key": ("cache.deprecated-argument", lambda: Cache("x").put("a", 1, type="null")),
    "a method of an object with state": ("cache.shared-by-instances", lambda: Stateful().load()),
    "a change after the headers": (
        "session.changed-too-late",
        lambda: serve(SessionMiddleware(late, type="memory")),
    ),
    "a cookie that is never sent": (
        "session.cookie-not-sent",
        lambda: serve(SessionMiddleware(early, type="memory")),
    ),
}


def report() -> None:
    """Print what each call warned of: text of the file, whether the line is the call's own, the code."""
    found = {}
    for name, (_, call) in CALLS.items():
        container._warned.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        lines = {line for function in (call, serve) for _, _, line in function.__code__.co_lines()}
        found[name] = [
            (warning.message.code, Path(warning.filename).name, warning.lineno in lines)
            for warning in caught
            if isinstance(warning.message, BeakerWarning)
        ]
    print(json.dumps(found))


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[Any]]]:
    """The report of a process of its own: the suite's leak scan wraps constructors, and would be the caller here."""
    directory = tmp_path_factory.mktemp("warnings")
    done = subprocess.run(
        [sys.executable, "-c", "from tests.test_warnings import report; report()"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[list[Any]]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", CALLS)
def test_a_warning_points_at_the_caller(name: str, reported: dict[str, list[list[Any]]]) -> None:
    """File and line are those of the application's own call, whatever it went through on the way."""
    code, _ = CALLS[name]
    assert reported[name]
    for warning in reported[name]:
        assert warning == [code, Path(__file__).name, True]


def test_a_cache_that_is_switched_off_warns_of_no_option() -> None:
    """Only its type is changed for that, so that options such as its locks stay where they are."""
    cache = Cache("x", type="null", lock="file", lock_dir="d", lease_ttl=5)
    assert cache.get("a", createfunc=lambda: 1) == 1
    assert "a" not in cache


def test_warnings_are_issued_in_one_place() -> None:
    """Nothing in beaker or gae counts stack levels by hand."""
    for folder in ("beaker", "gae"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "exceptions.py" or "testing" in path.parts:
                continue
            calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
            assert "warnings.warn" not in {ast.unparse(call.func) for call in calls}, path


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("wrong", option="a", expected="b", hint="c", code="config.x"),
        ValueTooLarge(5, 3, backend="redis"),
        StoreUnavailable("gone", backend="redis", operation="get"),
        UnserializableValue("session['a']", "object", "leave it out"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_keeps_its_parts_in_another_process(error: BeakerException) -> None:
    """Text, code and attributes survive a pickle, as between the processes of a pool."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.code, vars(again)) == (type(error), str(error), error.code, vars(error))


def test_a_hint_ends_a_warnings_text() -> None:
    """``message`` is without it, ``str`` with it."""
    warning = DeprecatedUse("old", hint="use the new")
    assert (str(warning), warning.message, warning.code) == ("old; use the new", "old", "cache.deprecated-argument")
