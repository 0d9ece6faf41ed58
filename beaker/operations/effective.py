"""Every option in force as a row: what was given, else what the engine's own defaults amount to here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from beaker.caching import defaults as cache_defaults
from beaker.config.environment import Given
from beaker.config.names import is_builtin
from beaker.config.options import BackendOptions, CacheOptions, OptionInfo, SessionOptions, describe
from beaker.operations.report import OptionRow
from beaker.runtime import Runtime
from beaker.session import defaults

__all__ = ["LARGEST_VALUE", "cache_rows", "full_name", "session_rows"]

_LOCAL: Final = ("memory", "file", "dbm", "null")
LARGEST_VALUE: Final[Mapping[str, int]] = {
    "ext:google": 8_000_000,
    "ext:redis": 64 * 2**20,
    "ext:memcached": 1_000_000,
}
"""Bytes: the stores' own defaults of ``max_value``; the others have none."""

CALL_SECONDS: Final[Mapping[str, float]] = {
    "ext:google": 5.0,
    "ext:database": 5.0,
    "ext:redis": 2.0,
    "ext:memcached": 2.0,
    "file": 10.0,
    "dbm": 10.0,
}
"""The stores' own defaults of how long a call may take."""


class Effective(NamedTuple):
    """What an option amounts to that was left open, and why; ``origin`` is ``platform`` where it depends on one."""

    value: Any
    reason: str
    origin: str = "default"


def full_name(kind: str) -> str:
    """A type's name with its ``ext:``, as options of backends are listed by."""
    return kind if kind in (*_LOCAL, "cookie", "hybrid", "custom") or kind.startswith("ext:") else f"ext:{kind}"


def session_rows(options: SessionOptions, kind: str, given: Given, runtime: Runtime) -> list[OptionRow]:
    """The rows of sessions of the type ``kind`` (``""``: none could be found)."""
    known = {name: info for name, info in describe(SessionOptions).items() if name != "backend"}
    values = {name: getattr(options, name) for name in known}
    store = None if not kind or options.namespace_class is not None else _store(options, kind, runtime)
    backend = dict(options.backend)
    return [
        *_rows("session", known, values, given, _of_session(options, kind, store, runtime)),
        *_rows("session", _of_type(store, backend), backend, given, _of_backend(store, backend, runtime)),
    ]


def _store(options: SessionOptions, kind: str, runtime: Runtime) -> str | None:
    return defaults.session_store(options, runtime, kind)


def _of_session(options: SessionOptions, kind: str, store: str | None, runtime: Runtime) -> dict[str, Effective]:
    found: dict[str, Effective] = {}
    if kind and options.type != kind:
        why = _why_type(options, runtime) if options.type is None else "as types are written"
        found["type"] = Effective(kind, why, "platform")
    if options.key == "auto":
        name = defaults.cookie_name(options, runtime)
        found["key"] = Effective(name, "auto: by the platform and the cookie's attributes", "platform")
    if options.secure is None:
        secure = defaults.cookie_is_secure(options, runtime)
        found["secure"] = (
            Effective("on over https", "decided by each request's scheme", "platform")
            if secure is None
            else Effective(secure, "the platform serves https", "platform")
        )
    if options.touch_interval is None:
        interval = defaults.touch_interval(options)
        found["touch_interval"] = Effective(interval, "a tenth of timeout, at most 300 s", "platform")
    if options.absolute_timeout is None and defaults.client_side(kind):
        limit = defaults.absolute_timeout(options, kind)
        found["absolute_timeout"] = Effective(limit, "sessions that live in cookies end", "platform")
    if kind == "hybrid" and options.store is None:
        found["store"] = Effective(store, "for sessions that outgrow the cookie", "platform")
    if options.revocation is None and kind and kind != "cookie":
        found["revocation"] = Effective(store or kind, "the sessions' own store")
    if options.serializer is None and kind:
        pickles = defaults.may_pickle(options, kind)
        found["serializer"] = Effective(
            "auto", "JSON, and pickle where JSON cannot hold it" if pickles else "JSON only"
        )
    return found


def _why_type(options: SessionOptions, runtime: Runtime) -> str:
    if options.namespace_class is not None:
        return "namespace_class is set"
    if not runtime.serverless:
        return "a directory is set" if defaults.has_directory(options) else "no directory is set"
    keyed = "a key" if defaults.has_key(options) else ""
    project = "a project" if defaults.has_project(options, runtime) else ""
    return " and ".join(filter(None, (keyed, project))) + " known on serverless"


def cache_rows(options: Mapping[str, Any], given: Given, runtime: Runtime) -> list[OptionRow]:
    """The rows of the general cache options, and of what regions say for themselves."""
    general = {name: value for name, value in options.items() if name != "cache_regions"}
    known = {name: info for name, info in describe(CacheOptions).items() if name not in ("regions", "expiretime")}
    rows = _rows(
        "cache",
        {**known, **_of_type(general["type"], general)},
        general,
        given,
        _of_cache(general, runtime),
    )
    for region, own in options["cache_regions"].items():
        told = {**describe(CacheOptions), **describe(BackendOptions)}
        # What a region does not say for itself stands under "cache", unless its type differs.
        mine = {name: own.get(name) for name in given.regions.get(region, {})}
        effective = _of_cache(own, runtime)
        infos = {name: told[name] for name in mine if name in told}
        if own.get("type") != general["type"]:
            kind = full_name(str(own.get("type")))
            others = {name: info for name, info in told.items() if name in effective or kind in info.backends}
            infos = {**others, **infos}
        rows += _rows(f"cache.{region}", infos, {**own, **mine}, given, effective) or [
            OptionRow(f"cache.{region}", "(all)", "as cache", "default")
        ]
    return rows


def _of_cache(options: Mapping[str, Any], runtime: Runtime) -> dict[str, Effective]:
    if options.get("namespace_class") is not None:
        return {}
    kind = full_name(options.get("type", "memory"))
    found = _of_backend(kind, options, runtime)
    lock = _lock(kind, options, runtime) if options.get("lock", "auto") == "auto" else None
    if lock is not None:
        found["lock"] = Effective(lock, "auto: by the store and the platform")
    return found


def _lock(kind: str, options: Mapping[str, Any], runtime: Runtime) -> str | None:
    if kind == "null":
        return "none"
    if kind in ("file", "dbm"):
        lock_dir = options.get("lock_dir") or ".locks"
        return cache_defaults.lock_kind(kind, {"lock_dir": lock_dir}, runtime, versioned=True)
    return cache_defaults.lock_kind(kind, {}, runtime, versioned=True) if _is_ours(kind) else None


def _is_ours(kind: str) -> bool:
    return kind in _LOCAL or any(kind in info.backends for info in describe(BackendOptions).values())


def _of_backend(kind: str | None, options: Mapping[str, Any], runtime: Runtime) -> dict[str, Effective]:
    found: dict[str, Effective] = {}
    kind = kind and full_name(kind)
    if kind in ("file", "dbm"):
        directory = cache_defaults.store_directory(kind, options, runtime)
        if options.get(f"{kind}_dir") is None:
            why = "below data_dir" if options.get("data_dir") else "the platform's temporary directory"
            shown = directory or f"{runtime.temp_dir}/beaker-UID/container_{kind}"
            found[f"{kind}_dir"] = Effective(shown, why)
        if directory is not None and options.get("lock_dir") is None and runtime.file_locks:
            found["lock_dir"] = Effective(cache_defaults.lock_directory(directory, options), f"below {kind}_dir")
    elif kind == "memory" and options.get("max_bytes") is None:
        limit = cache_defaults.max_bytes(options, runtime)
        quarter = runtime.memory_limit is not None and limit == runtime.memory_limit // 4
        found["max_bytes"] = Effective(limit, "a quarter of the instance's memory" if quarter else "64 MiB", "platform")
    elif kind == "ext:google" and options.get("project") is None and runtime.project:
        found["project"] = Effective(cache_defaults.project(options, runtime), "the environment's", "platform")
    if kind is not None and kind in LARGEST_VALUE and options.get("max_value") is None:
        found["max_value"] = Effective(LARGEST_VALUE[kind], f"what {kind} holds")
    if kind is not None and kind in CALL_SECONDS and options.get("store_timeout") is None:
        older = {"ext:google": "deadline", "ext:redis": "socket_timeout", "ext:memcached": "socket_timeout"}.get(kind)
        seconds = (options.get(older) if older else None) or CALL_SECONDS[kind]
        found["store_timeout"] = Effective(seconds, "then StoreUnavailable")
    return found


def _of_type(kind: str | None, given: Mapping[str, Any]) -> dict[str, OptionInfo]:
    """The options of stores that mean something for ``kind``, and those that were given anyway."""
    name = kind and full_name(kind)
    return {
        option: info
        for option, info in describe(BackendOptions).items()
        if option in given or not info.backends or name in info.backends
    }


def _rows(
    scope: str,
    known: Mapping[str, OptionInfo],
    values: Mapping[str, Any],
    given: Given,
    effective: Mapping[str, Effective],
) -> list[OptionRow]:
    rows = []
    for name, info in known.items():
        path = f"{scope}.{name}"
        open_value = Effective(values.get(name, info.default), given.variables.get(path, ""))
        found = effective.get(name, open_value)
        rows.append(
            OptionRow(scope, name, _shown(info, found.value), given.origins.get(path, found.origin), found.reason)
        )
    # Options of a backend that is not ours, and of SQLAlchemy: their values may be anything.
    others = [name for name in values if name not in known and f"{scope}.{name}" in given.origins]
    for name in others:
        path = f"{scope}.{name}"
        rows.append(OptionRow(scope, name, "<set>", given.origins[path], given.variables.get(path, "")))
    return rows


def _shown(info: OptionInfo, value: Any) -> str:
    if value is None or value == "":
        return "-"
    if info.secret and not _is_harmless(value):
        return "<set>"
    if isinstance(value, (bool, int, float, str)):
        text = f"{value:.10g}" if isinstance(value, float) else str(value)
        return f"{text} {info.unit}" if info.unit and not isinstance(value, (bool, str)) else text
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return ", ".join(value) or "-"
    return f"<{type(value).__name__}>"


def _is_harmless(value: Any) -> bool:
    """Whether a value of an option that may hold an address is a type's name, or only on or off."""
    return isinstance(value, bool) or (isinstance(value, str) and (is_builtin(value) or value in ("true", "false")))
