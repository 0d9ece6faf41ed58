"""What ``explain`` and the doctor report is what runs: one table of platforms and options, built for real."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from beaker import container, runtime
from beaker.cache import CacheManager
from beaker.config.options import CacheOptions, SessionOptions, describe
from beaker.crypto.keyring import new_key
from beaker.exceptions import ConfigError
from beaker.locking.factories import FileLocks, LayeredLocks, NullLocks, ThreadLocks
from beaker.operations import checks, explain
from beaker.operations.report import Report
from beaker.runtime import Runtime
from beaker.session.context import SessionContext
from gae import doctor
from gae.settings import Settings

KEY, OTHER = new_key(), new_key()

PLATFORMS: dict[str, dict[str, str]] = {
    "laptop": {},
    "laptop with emulator": {"DATASTORE_EMULATOR_HOST": "localhost:1", "GOOGLE_CLOUD_PROJECT": "demo"},
    "App Engine": {"GAE_ENV": "standard", "GAE_APPLICATION": "s~demo", "GAE_MEMORY_MB": "128"},
    "Functions": {"K_SERVICE": "f", "FUNCTION_TARGET": "main", "GOOGLE_CLOUD_PROJECT": "demo"},
    "Functions behind Hosting": {"K_SERVICE": "f", "FUNCTION_TARGET": "main", "FIREBASE_CONFIG": "{}"},
    "Run": {"K_SERVICE": "r"},
    "Run with a project": {"K_SERVICE": "r", "GOOGLE_CLOUD_PROJECT": "demo"},
    "Run with emulator": {"K_SERVICE": "r", "DATASTORE_EMULATOR_HOST": "localhost:1"},
}
SESSIONS: dict[str, dict[str, str]] = {
    "nothing": {},
    "a key": {"SECRET": KEY},
    "two keys": {"VALIDATE_KEY": KEY, "ENCRYPT_KEY": OTHER, "SECRET_FALLBACKS": OTHER},
    "cookie": {"TYPE": "cookie", "SECRET": KEY, "TIMEOUT": "10m", "KEY": "auto"},
    "cookie with revocation": {"TYPE": "cookie", "SECRET": KEY, "REVOCATION": "ext:google"},
    "cookie with itself": {"TYPE": "cookie", "SECRET": KEY, "REVOCATION": "true"},
    "hybrid": {"TYPE": "hybrid", "SECRET": KEY, "KEY": "auto", "SECURE": "no"},
    "hybrid with a store": {"TYPE": "Hybrid", "SECRET": KEY, "STORE": "memory", "ABSOLUTE_TIMEOUT": "1h"},
    "hybrid in files": {"TYPE": "hybrid", "SECRET": KEY, "FILE_DIR": "elsewhere"},
    "memory": {"TYPE": "memory", "SECRET": KEY, "REVOCATION": "false", "MAX_ENTRIES": "5"},
    "files": {"SECRET": KEY, "TYPE": "file", "DATA_DIR": "data", "LOCK_DIR": "locks", "TOUCH_INTERVAL": "5"},
    "dbm": {"SECRET": KEY, "TYPE": "dbm"},
    "Datastore": {"SECRET": KEY, "TYPE": "google", "PROJECT": "other", "SERIALIZER": "json"},
    "redis": {"SECRET": KEY, "TYPE": "ext:redis", "URL": "redis://localhost/0", "REVOCATION": "memory"},
    "no such type": {"SECRET": KEY, "TYPE": "ext:nothing"},
    "no such revocation": {"SECRET": KEY, "TYPE": "cookie", "REVOCATION": "nothing"},
}
CACHES: dict[str, dict[str, str]] = {
    "nothing": {},
    "memory": {"TYPE": "memory", "LOCK": "none"},
    "files": {"TYPE": "file", "DATA_DIR": "cached", "FAST__TYPE": "memory", "FAST__EXPIRE": "5"},
    "dbm": {"TYPE": "dbm", "LOCK_DIR": "locks", "LOCK": "thread"},
    "Datastore": {"TYPE": "ext:google", "MAX_VALUE": "5000", "SLOW__LOCK": "thread"},
    "redis": {"TYPE": "redis", "URL": "redis://localhost/0", "LOCK": "auto"},
    "memcached": {"TYPE": "ext:memcached", "URL": "localhost", "SHORT__TYPE": "null"},
    "database": {"TYPE": "ext:database", "URL": "sqlite:///x.db", "ENCRYPT_KEY": OTHER},
    "memcached without a server": {"TYPE": "ext:memcached"},
    "a lease in no store": {"TYPE": "null", "FAST__TYPE": "file", "FAST__LOCK": "lease"},
}
# Every session set on every platform beside a plain cache, and every cache set beside a plain session.
CASES = [
    *itertools.product(PLATFORMS, SESSIONS, ["nothing"]),
    *itertools.product(PLATFORMS, ["a key"], [name for name in CACHES if name != "nothing"]),
]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A directory of its own; reading what every distribution owns is slow and not what this is about."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checks, "distributions", list)
    monkeypatch.setattr(container, "_warned", {"file", "dbm"})
    yield
    runtime.override(None)


def rows(report: Report) -> dict[str, dict[str, str]]:
    """Values by scope and option, without units."""
    found: dict[str, dict[str, str]] = {}
    for row in report.options:
        found.setdefault(row.scope, {})[row.option] = row.value
    return found


def shown(value: Any) -> str:
    return "-" if value is None or value == "" else f"{value:.10g}" if isinstance(value, float) else str(value)


def same(reported: Mapping[str, str], option: str, built: Any) -> None:
    text = reported[option]
    assert text.removesuffix(" s").removesuffix(" bytes") == shown(built), option


def of_store(reported: Mapping[str, str], kind: str, store: Any) -> None:
    """Directories, bounds and places of the store that was built."""
    if kind in ("file", "dbm"):
        assert os.path.abspath(reported[f"{kind}_dir"]) == store.directory
    elif kind == "memory":
        same(reported, "max_bytes", store.max_bytes)
        same(reported, "max_entries", store.max_entries)
    elif kind != "null":
        same(reported, "max_value", store.max_value)
    if kind.endswith("google"):
        assert store.table_name == reported["table_name"]


def of_sessions(reported: Mapping[str, str], context: SessionContext) -> None:
    same(reported, "type", context.type)
    same(reported, "key", context.cookie.name)
    assert reported["secure"] == ("on over https" if context.cookie.secure is None else str(context.cookie.secure))
    same(reported, "touch_interval", context.touch_interval)
    same(reported, "absolute_timeout", context.absolute)
    assert (reported["secret"], reported["validate_key"]).count("<set>") == 1
    pickles = context.values._may_pickle if hasattr(context.values, "_may_pickle") else None
    if pickles is not None and context.options.serializer is None:
        assert reported["serializer"] == "auto"
    if context.type != "cookie":
        of_store(reported, context.store_type, context._manager.store)
    if context.type == "hybrid":
        same(reported, "store", context.store_type)
    points = context.revocations
    if points is None:
        assert reported["revocation"] in ("-", "false")
    else:
        own = context.type != "cookie" and points.store is context.records.store
        named = reported["revocation"]
        assert own == (named == getattr(context, "store_type", "")) or named == context.options.revocation


LOCKS = {FileLocks: "file", LayeredLocks: "lease", NullLocks: "none", ThreadLocks: "thread"}


def of_cache(reported: Mapping[str, str], manager: Any, kind: str) -> None:
    locks = getattr(manager, "_locks", None)
    marks = getattr(manager, "_stored_marks", None)
    # A lease is in the key's own record, behind locks among the threads.
    leased = marks is not None and marks.lease is not None
    assert reported["lock"] == ("none" if locks is None else "lease" if leased else LOCKS[type(locks)])
    of_store(reported, kind, getattr(manager, "store", None))


def built(environ: Mapping[str, str]) -> tuple[SessionContext, CacheManager]:
    """What ``gae.app.compose`` builds, without an application."""
    settings = Settings.from_environ(environ)
    runtime.override(settings.runtime)
    return SessionContext(settings.session, runtime=settings.runtime), CacheManager(**settings.cache)


@pytest.mark.parametrize(("platform", "session", "cache"), CASES)
def test_what_is_reported_is_what_runs(platform: str, session: str, cache: str) -> None:
    """Every value that options leave open, on every platform; an error in the report where nothing starts."""
    environ = {
        "TMPDIR": os.getcwd(),
        **PLATFORMS[platform],
        **{f"BEAKER_SESSION_{name}": value for name, value in SESSIONS[session].items()},
        **{f"BEAKER_CACHE_{name}": value for name, value in CACHES[cache].items()},
    }
    runtime.override(Runtime.detect(environ))
    reports = [explain.of_variables(environ), doctor.examine(environ)]
    for report in reports:
        assert not Path("data", "session-secret").exists()
        report.options = [row for row in report.options if row.scope not in ("tasks", "console")]
    assert reports[0].options == reports[1].options
    codes = [{(finding.severity, finding.code) for finding in report.findings} for report in reports]
    assert codes[0] == codes[1] - {("note", "deploy.nobody-may-purge")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused = None
        try:
            context, caches = built(environ)
        except ConfigError as error:
            refused = error
    if refused is not None:
        assert ("error", refused.code) in codes[0]
        return
    assert {code for severity, code in codes[0] if severity == "error"} <= {"deploy.local-sessions"}
    reported = rows(reports[0])
    of_sessions(reported["session"], context)
    general = reported["cache"]
    of_cache(general, caches.get_cache("x").namespace, str(caches.kwargs["type"]))
    for name, own in caches.regions.items():
        whole = {**general, **reported[f"cache.{name}"]}
        of_cache(whole, caches.get_cache("x", **own).namespace, str(own["type"]))


def test_the_report_knows_every_option() -> None:
    """Each option of sessions and caches has a row."""
    report = rows(explain.of_variables({"BEAKER_SESSION_SECRET": KEY}))
    assert set(describe(SessionOptions)) - {"backend"} <= set(report["session"])
    assert set(describe(CacheOptions)) - {"regions", "expiretime"} <= set(report["cache"])
