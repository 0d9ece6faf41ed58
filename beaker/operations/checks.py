"""The checks behind ``explain``: each notes what is wrong and how to put it right."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import distributions
from importlib.util import find_spec
from typing import Any

from beaker import backends
from beaker.caching.cache import Cache
from beaker.caching.defaults import max_bytes, max_entries, store_directory
from beaker.caching.namespace import EntryNamespaceManager
from beaker.config.coerce import as_bool
from beaker.config.deployment import HOW_TO_MAKE_A_SECRET
from beaker.config.environment import Given
from beaker.config.extras import how_to_install
from beaker.config.options import SessionOptions
from beaker.crypto.keyring import KeyRing
from beaker.crypto.tokens import SKEW
from beaker.exceptions import BeakerException, ConfigError, ConfigWarning
from beaker.operations.report import Report
from beaker.runtime import Runtime
from beaker.session.context import SessionContext
from beaker.session.defaults import client_side, has_key, resolve_type, revocation, session_store
from beaker.session.opening import legacy_reader

__all__ = [
    "of_caches", "of_clock", "of_datastore", "of_distributions", "of_error", "of_points", "of_sessions", "of_variables",
    "store_behind", "warned",
]  # fmt: skip

LOCAL = ("memory", "file", "dbm")
"""Types that one instance has for itself on serverless."""
GOOGLE = ("ext:google", "google")
MEMCACHED = ("ext:memcached", "memcached")
REDIS = ("ext:redis", "redis")
DISTRIBUTION = "beaker-gae"


@contextmanager
def warned(report: Report) -> Iterator[None]:
    """Beaker's warnings in the block become findings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        told = warning.message
        # Files on serverless have a finding of their own, which weighs what they are for.
        if isinstance(told, ConfigWarning) and told.code != "config.local-files":
            report.add("warning", told.code, told.message, told.hint or "correct the option or leave it out")


def of_error(report: Report, error: ConfigError, where: str = "") -> None:
    """An option that cannot be used, ``where`` it was given: nothing starts with it."""
    fix = error.hint or (f"expected: {error.expected}" if error.expected else f"correct {error.option or 'it'}")
    # The hint is the fix: it is not said twice.
    text = str(error).removesuffix(f"; {error.hint}")
    report.add("error", error.code, f"{where}: {text}" if where and where not in text else text, fix)


def of_variables(report: Report, given: Given, environ: Mapping[str, str]) -> None:
    """Variables that cannot be used, mean nothing, or are empty."""
    for error in given.errors:
        of_error(report, error)
    try:
        ttl_policy(environ)
    except ConfigError as error:
        of_error(report, error)
    for unknown in given.unknown:
        fix = f"rename it to {unknown.nearest}" if unknown.nearest else f"unset {unknown.variable}"
        report.add(
            "error" if unknown.guards else "warning",
            "config.unknown-variable",
            f"{unknown.variable} names no option of Beaker",
            fix,
        )
    for variable in given.empty:
        report.add("note", "config.empty-variable", f"{variable} is empty and counts as absent", f"unset {variable}")


def store_behind(options: SessionOptions, runtime: Runtime) -> str | None:
    """The type of the store that sessions need, ``None`` for cookies, a class of the application's, or no place."""
    try:
        kind = resolve_type(options, runtime)
    except ConfigError:
        return None
    return None if options.namespace_class is not None else session_store(options, runtime, kind)


def of_sessions(report: Report, options: SessionOptions, runtime: Runtime, *, built: bool = False) -> str:
    """What is wrong with sessions. Returns their type, ``""`` when none can be found.

    ``built``: the options are those of a middleware that there is, which has started without what it does not need.
    """
    keyed = has_key(options)
    try:
        kind = resolve_type(options, runtime)
    except ConfigError as error:
        of_error(report, error)
        kind = ""
    if not keyed and not built:
        report.add(
            "error",
            "config.missing-key",
            "there is no session secret: the application stops at start",
            HOW_TO_MAKE_A_SECRET,
        )
    if runtime.serverless and store_behind(options, runtime) in LOCAL:
        report.add(
            "error",
            "deploy.local-sessions",
            f"sessions of type {kind} on {runtime.platform.value}: each instance has its own, and they vanish with it",
            "session.type = ext:google (BEAKER_SESSION_TYPE=ext:google), or hybrid, or cookie",
        )
    if store_behind(options, runtime) == "memory":
        most = max_entries(options.backend)
        report.add(
            "note",
            "session.memory-bound",
            f"memory keeps {most:,} sessions and {max_bytes(options.backend, runtime) / 2**20:.0f} MiB at most: beyond"
            " that those to which no visitor came back go first, then the least recently used",
            "session.max_entries and session.max_bytes, or a store elsewhere",
        )
    if options.secure is False and runtime.https:
        report.add(
            "warning",
            "config.insecure-cookie",
            "the cookie may travel over plain http",
            "leave session.secure out, or true",
        )
    key_files(report, (options.secret, options.validate_key, options.encrypt_key, options.secret_fallbacks), runtime)
    if kind and (keyed or not client_side(kind)):
        with warned(report):
            try:
                legacy_reader(SessionContext(options, runtime=runtime))
            except ConfigError as error:
                of_error(report, error)
    return kind


def of_points(report: Report, options: SessionOptions, kind: str, runtime: Runtime, *, connect: bool) -> None:
    """Whether the store of revocation points can lose single ones; with ``connect`` a Redis is asked."""
    try:
        where = revocation(options, kind)
    except ConfigError:
        # A finding already.
        return
    store = session_store(options, runtime, kind) if where is True else where
    if store in MEMCACHED:
        _evicts(report, kind, "memcached evicts what is used least when it is full, and a session whose")
    elif store in REDIS and not connect:
        report.add(
            "note",
            "deploy.eviction-unknown",
            "whether this Redis evicts revocation points when it is full is not known: nothing was contacted",
            "add --check-stores, which asks it",
        )
    elif store in REDIS:
        policy, snapshots = _asked(report, options, runtime)
        if policy:
            _evicts(report, kind, f"this Redis evicts when it is full (maxmemory-policy {policy}), and a session whose")
        if snapshots:
            report.add(
                "warning",
                "deploy.snapshots-only",
                "this Redis keeps snapshots only: after a crash, sessions that ended since the last one open again",
                'CONFIG SET appendonly yes, or save "", with which a crash ends all sessions',
            )


def _evicts(report: Report, kind: str, what: str) -> None:
    report.add(
        "warning" if client_side(kind) else "note",
        "deploy.evicting-store",
        f"{what} revocation point is gone opens again",
        "keep the points where nothing is evicted: session.revocation = ext:database, ext:google,"
        " or a Redis with maxmemory-policy noeviction",
    )


def _asked(report: Report, options: SessionOptions, runtime: Runtime) -> tuple[str | None, bool | None]:
    """What the Redis says of eviction, and whether it keeps snapshots only."""
    snapshots: bool | None = None
    try:
        revocations = SessionContext(options, runtime=runtime).revocations
        store: Any = None if revocations is None else revocations.store
        try:
            policy: str | None = store.eviction_policy()
            snapshots = store.keeps_snapshots_only()
        finally:
            store.close()
        failure = "it does not say"
    except (BeakerException, ImportError) as error:
        # Its text may name the server, whose address may be a secret.
        policy, failure = None, type(error).__name__
    if policy is None:
        report.add(
            "warning",
            "deploy.eviction-unknown",
            f"whether this Redis evicts revocation points when it is full is not known ({failure})",
            "look it up: CONFIG GET maxmemory-policy should be noeviction",
        )
    return policy, snapshots


def of_caches(report: Report, options: Mapping[str, Any], runtime: Runtime) -> None:
    """What is wrong with caches and regions."""
    for name, own in (("cache", options), *((f"cache.{key}", own) for key, own in options["cache_regions"].items())):
        kind = own.get("namespace_class") or own.get("type", "memory")
        with warned(report):
            try:
                manager = backends.load(kind)
                if _may_build(kind, manager, own, runtime):
                    Cache(
                        "beaker.operations.explain",
                        **{option: value for option, value in own.items() if option != "cache_regions"},
                    )
                for option in ("secret", "encrypt_key"):
                    if own.get(option) is not None:
                        KeyRing.from_option(own[option], option=f"cache.{option}")
            except ConfigError as error:
                of_error(report, error, name)
        if own.get("encrypt_key") is not None and find_spec("cryptography") is None:
            report.add(
                "error", "config.missing-package", f"{name}.encrypt_key needs cryptography", how_to_install("crypto")
            )
        if runtime.serverless and kind in ("file", "dbm"):
            report.add(
                "warning",
                "deploy.local-cache",
                f"{name}.type = {kind} on {runtime.platform.value} is memory of one instance, by way of its disk",
                f"{name}.type = memory, or ext:google to share values",
            )
        key_files(report, (own.get("secret"), own.get("encrypt_key")), runtime)


def _may_build(kind: Any, manager: type, options: Mapping[str, Any], runtime: Runtime) -> bool:
    # Third parties' managers may connect when they are built; ours do at first use, and create a directory only where
    # none is named.
    if not issubclass(manager, EntryNamespaceManager):
        return False
    return kind not in ("file", "dbm") or store_directory(kind, options, runtime) is not None


def key_files(report: Report, values: Iterable[object], runtime: Runtime) -> None:
    """Key files on a laptop that other users can read. Mounted secrets are the platform's to protect."""
    if os.name != "posix" or runtime.serverless:
        return
    listed = [item for value in values for item in (value if isinstance(value, (list, tuple)) else [value])]
    for path in [item[5:].strip() for item in listed if isinstance(item, str) and item.startswith("file:")]:
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue
        if mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
            report.add(
                "warning", "deploy.readable-key", f"the key file {path} is open to other users", f"chmod 600 {path}"
            )


def ttl_policy(environ: Mapping[str, str]) -> bool:
    """What ``BEAKER_TTL_POLICY`` says: whether Datastore is known to remove what has expired. Raises ConfigError."""
    text = environ.get("BEAKER_TTL_POLICY", "").strip()
    return bool(text) and as_bool("BEAKER_TTL_POLICY", text)


def of_datastore(
    report: Report,
    types: Iterable[str],
    sessions: SessionOptions | None,
    caches: Mapping[str, Any] | None,
    runtime: Runtime,
    environ: Mapping[str, str],
) -> None:
    """Datastore keeps what has expired until a TTL policy or a purge removes it: is there one?"""
    if not set(types) & set(GOOGLE) or runtime.emulator_host:
        return
    with suppress(ConfigError):
        if ttl_policy(environ):
            return
    backend: Mapping[str, Any] = sessions.backend if sessions is not None else {}
    tables = {(backend.get("table_name"), backend.get("database"))} if sessions is not None else set()
    for own in [] if caches is None else (caches, *caches["cache_regions"].values()):
        if own.get("type") in GOOGLE:
            tables.add((own.get("table_name"), own.get("database")))
    commands = sorted(
        f"gcloud firestore fields ttls update expires --collection-group={table or 'beaker_cache'} --enable-ttl"
        + (f" --database={database}" if database else "")
        + (f" --project={runtime.project}" if runtime.project else "")
        for table, database in tables
    )
    done = "then set BEAKER_TTL_POLICY=true; or purge by schedule (/tasks/beaker/purge, python -m beaker purge)"
    report.add(
        "warning",
        "deploy.no-ttl-policy",
        "expired records stay in Datastore until something removes them, and no TTL policy is known",
        "\n".join([*commands, done]),
    )


def of_distributions(report: Report, installed: Iterable[Any] | None = None) -> None:
    """Another distribution that owns files in ``beaker/``: which of the two is imported is an accident."""
    for found in distributions() if installed is None else installed:
        if not _owns_files(found):
            continue
        name = (found.metadata["Name"] or "").lower().replace("_", "-")
        if name == DISTRIBUTION:
            continue
        report.add(
            "error",
            "deploy.foreign-distribution",
            f"the distribution {name} {found.version} owns files in beaker/ too",
            f"pip uninstall {name}, then install {DISTRIBUTION} again from where it came: pip install --force-reinstall"
            " --no-deps ...",
        )


def _owns_files(found: Any) -> bool:
    # The text of the list: a Path for each file of every distribution takes a second where there are a hundred.
    record = found.read_text("RECORD")
    if record is not None:
        return record.startswith("beaker/") or "\nbeaker/" in record
    return any(str(path).startswith("beaker/") for path in found.files or ())


def of_clock(report: Report, offset: float, source: str) -> None:
    """``offset``: seconds this machine's clock is ahead of the one at ``source``."""
    if abs(offset) <= 5:
        return
    where = "ahead of" if offset > 0 else "behind"
    report.add(
        "error" if abs(offset) > SKEW else "warning",
        "deploy.clock-skew",
        f"this machine's clock is {abs(offset):.0f} s {where} that of {source}; sessions end too"
        f" {'early' if offset > 0 else 'late'} by that",
        "synchronise the clock (chrony, systemd-timesyncd)",
    )
