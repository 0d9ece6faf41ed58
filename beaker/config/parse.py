"""From a mapping of many components' settings to Beaker's options.

A key counts as ours when it has one of the prefixes. When no key has one, the whole mapping is taken as
options (manual 5.1.3), except keys that are not our options at all. Keyword arguments win over the
mapping. Everything is coerced, so an INI file's strings are as good as values.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from beaker.config.coerce import as_bool, as_list, wrong
from beaker.config.options import (
    ACCEPTED,
    BUILTIN_TYPES,
    BackendOptions,
    CacheOptions,
    OptionInfo,
    SessionOptions,
    describe,
)
from beaker.exceptions import ConfigError, ConfigWarning, warn

__all__ = ["CACHE_PREFIXES", "SESSION_PREFIXES", "coerce_cache", "parse_cache", "parse_session"]

CACHE_PREFIXES = ("beaker.cache.", "cache.")
SESSION_PREFIXES = ("beaker.session.", "session.")

_SESSION = describe(SessionOptions)
_CACHE = describe(CacheOptions)
_BACKEND = describe(BackendOptions)
_INTERNAL = frozenset({"backend"})
# Objects the engine passes along with the options; they are not options of a user's file.
_OBJECTS = frozenset({"runtime", "clock", "locks", "cache_regions"})


def parse_session(
    config: Mapping[str, Any] | None = None, *, kwargs: Mapping[str, Any] | None = None
) -> SessionOptions:
    """The session options in ``config`` and ``kwargs``.

    Raises ConfigError naming the option for a wrong type, an empty string, or (``strict``) an unknown
    name; unknown names warn with ConfigWarning otherwise.
    """
    given = _select(config or {}, SESSION_PREFIXES, {**_SESSION, **_BACKEND})
    given.update({name: value for name, value in (kwargs or {}).items() if value is not None or name not in _SESSION})
    values = _coerce(given, _SESSION, "session")
    own = {name: value for name, value in values.items() if name in _SESSION}
    backend = {name: value for name, value in values.items() if name not in _SESSION}
    nested = own.get("namespace_args")
    if nested is not None:
        if not isinstance(nested, Mapping):
            raise wrong("session.namespace_args", nested, "a dict")
        backend.update(nested)
    if "serializer" not in own and "data_serializer" in own:
        own["serializer"] = own["data_serializer"]
    return SessionOptions(**own, backend=backend)


def parse_cache(
    config: Mapping[str, Any] | None = None,
    *,
    prefixes: tuple[str, ...] = CACHE_PREFIXES,
    kwargs: Mapping[str, Any] | None = None,
    include_defaults: bool = True,
) -> dict[str, Any]:
    """The cache options in ``config`` and ``kwargs``, ready for ``CacheManager(**options)``.

    ``cache_regions`` maps each region's name to its options, the general ones filled in where the region
    says nothing. Raises and warns as :func:`parse_session`. With ``include_defaults`` the options
    ``type``, ``expire`` and ``enabled`` are always there.
    """
    given = _select(config or {}, prefixes, {**_CACHE, **_BACKEND})
    given.update(kwargs or {})
    names = as_list("cache.regions", given.pop("regions", None) or [])
    regions: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name in [name for name in given if "." in name and not name.startswith("sa.")]:
        region, _, option = name.partition(".")
        if region in regions:
            regions[region][option] = given.pop(name)
    options = coerce_cache(given)
    configured = dict(options.pop("cache_regions", None) or {})
    general = dict(options)
    if include_defaults:
        options = {"type": "memory", "expire": None, "enabled": True, **options}
    for name, own in regions.items():
        configured[name] = {**general, **coerce_cache(own, f"cache.{name}", kind=own.get("type", general.get("type")))}
    options["cache_regions"] = configured
    return options


def coerce_cache(options: Mapping[str, Any], where: str = "cache", *, kind: object = None) -> dict[str, Any]:
    """``options`` of one cache or region coerced: strings to what they mean, unknown names reported.

    ``kind`` is the backend's type when ``options`` does not name it.
    """
    values = _coerce(options, _CACHE, where, kind=kind)
    if values.get("expire") is None and values.get("expiretime") is not None:
        values["expire"] = values["expiretime"]
    return values


def _select(config: Mapping[str, Any], prefixes: tuple[str, ...], known: Mapping[str, object]) -> dict[str, Any]:
    if not isinstance(config, Mapping):
        raise wrong("config", config, "a dict of options")
    # The longer prefix is the more specific one: it wins when both forms of a name are there.
    found = [
        (name[len(prefix) :], value)
        for prefix in sorted(prefixes, key=len)
        for name, value in config.items()
        if name.startswith(prefix)
    ]
    if found:
        return dict(found)
    return {
        name: value
        for name, value in config.items()
        if (name in known or name in ACCEPTED or name in _OBJECTS or _owned(name, config))
    }


def _owned(name: str, config: Mapping[str, Any]) -> bool:
    # In a mapping without prefixes: a region's options, SQLAlchemy's, and, for a backend that is not
    # ours, everything, since only that backend knows its names.
    if name.startswith("sa."):
        return True
    region = name.partition(".")[0]
    if "." in name:
        regions = config.get("regions")
        return bool(regions) and region in as_list("regions", regions)
    return config.get("type") is not None and not is_builtin(config["type"])


def is_builtin(kind: object) -> bool:
    """Whether a type name is one of the backends that come with Beaker."""
    return kind is None or (isinstance(kind, str) and kind.strip().lower() in BUILTIN_TYPES)


def _coerce(
    given: Mapping[str, Any], own: Mapping[str, OptionInfo], where: str, *, kind: object = None
) -> dict[str, Any]:
    known: dict[str, OptionInfo] = {**_BACKEND, **own}
    kind = given.get("type", kind)
    foreign = not is_builtin(kind) or given.get("namespace_class") is not None
    strict = as_bool(f"{where}.strict", given.get("strict", False))
    values: dict[str, Any] = {}
    for name, value in given.items():
        info = None if name in _INTERNAL else known.get(name)
        if info is not None:
            values[name] = _value(info, f"{where}.{name}", value, pass_on=foreign and name not in own)
        elif name in _OBJECTS or name.startswith("sa.") or (foreign and name not in ACCEPTED):
            values[name] = value
        elif name not in ACCEPTED:
            _unknown(name, where, {*known, *ACCEPTED} - _INTERNAL, strict)
    return values


def _value(info: OptionInfo, option: str, value: Any, *, pass_on: bool) -> Any:
    if pass_on:
        return value
    if isinstance(value, str) and not value.strip() and info.name != "samesite":
        raise wrong(option, value, "a value", "leave the option out to get its default")
    if value is None and info.default is None:
        return None
    return info.coerce(option, value)


def _unknown(name: str, where: str, known: Iterable[str], strict: bool) -> None:
    near = difflib.get_close_matches(name, list(known), n=1)
    message = f"{where}.{name} is not an option of Beaker"
    if "." in name and where == "cache":
        message += f" ({name.partition('.')[0]!r} is not in cache.regions)"
    if near:
        message += f"; did you mean {where}.{near[0]}?"
    if strict:
        raise ConfigError(message, option=f"{where}.{name}", code="config.unknown-option")
    warn(ConfigWarning(message, code="config.unknown-option"))
