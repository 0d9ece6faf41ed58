"""From a mapping of many components' settings to Beaker's options.

A key counts as ours when it has one of the prefixes (:mod:`beaker.config.names`). When no key has one, the whole
mapping is taken as options (manual 5.1.3). Of several that name one option a plain keyword argument wins, then a
prefixed one, then the mapping. Everything is coerced, so an INI file's strings are as good as values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beaker.config.coerce import as_bool, as_list, wrong
from beaker.config.names import CACHE, CLOSE, OBJECTS, SESSION, STORE, Guess, Scope, guess, is_builtin, misspelt_own
from beaker.config.options import ACCEPTED, GUARDS, PLACES, OptionInfo, SessionOptions
from beaker.exceptions import ConfigError, ConfigWarning, MissingCacheParameter, warn

__all__ = ["coerce_cache", "is_builtin", "parse_cache", "parse_session"]


def parse_session(
    config: Mapping[str, Any] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    weak: Mapping[str, Any] | None = None,
) -> SessionOptions:
    """The session options in ``config`` and ``kwargs``; ``weak`` are the defaults of a constructor's signature.

    Raises ConfigError naming the option for a wrong type, an empty string, options that contradict each other,
    and an unknown name that was meant for an option of protection, life time or place; other unknown names warn
    with ConfigWarning (``strict``: ConfigError too).
    """
    given = _all(SESSION, config, kwargs, weak)
    values = _coerce(given, SESSION, "session")
    own = {name: value for name, value in values.items() if name in SESSION.own}
    backend = {name: value for name, value in values.items() if name not in SESSION.own}
    nested, strict = own.get("namespace_args"), own.get("strict", False)
    if nested is not None:
        if not isinstance(nested, Mapping):
            raise wrong("session.namespace_args", nested, "a dict")
        kind = SESSION.store_type(own) if own.get("namespace_class") is None else own["namespace_class"]
        backend.update(_coerce(nested, STORE, "session.namespace_args", kind=kind, strict=strict))
    if isinstance(own.get("revocation"), Mapping):
        own["revocation"] = _coerce(own["revocation"], STORE, "session.revocation", strict=strict)
    if "serializer" not in own and "data_serializer" in own:
        own["serializer"] = own["data_serializer"]
    options = SessionOptions(**own, backend=backend)
    if own.get("type") is None and own.get("namespace_class") is None:
        _check_place(values, "session")
    _check_times(options)
    _check_keys(options)
    return options


def _check_times(options: SessionOptions) -> None:
    timeout = options.timeout
    if timeout is None:
        return
    if not options.save_accessed_time:
        raise ConfigError(
            "session.timeout would end sessions in use, because save_accessed_time is off",
            option="session.save_accessed_time",
            expected="true beside a timeout",
            hint="to write less, raise session.touch_interval; to end sessions by age alone, set absolute_timeout",
        )
    if options.touch_interval is not None and options.touch_interval >= timeout:
        raise ConfigError(
            "session.touch_interval records accesses so rarely that session.timeout would end sessions in use",
            option="session.touch_interval",
            expected="less than session.timeout",
        )


def _check_keys(options: SessionOptions) -> None:
    if options.secret_fallbacks is not None and options.secret is None and options.validate_key is None:
        raise MissingCacheParameter(
            "session.secret_fallbacks are older keys, and there is no key that signs",
            option="session.secret",
            hint="set session.secret; make a key: python -m beaker keys new",
        )


def _check_place(values: Mapping[str, Any], where: str) -> None:
    """Refuse the address of a store without the type that would use it."""
    for name in values:
        if (name in PLACES or name.startswith("sa.")) and values[name] is not None:
            kinds = " or ".join(CACHE.known[name].backends) if name in CACHE.known else ""
            raise ConfigError(
                f"{where}.{name} would be passed over, because there is no {where}.type",
                option=f"{where}.type",
                expected=kinds or "the type of the store",
            )


def parse_cache(
    config: Mapping[str, Any] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    include_defaults: bool = True,
) -> dict[str, Any]:
    """The cache options in ``config`` and ``kwargs``, ready for ``CacheManager(**options)``.

    ``cache_regions`` maps each region's name to its options, the general ones filled in where the region
    says nothing. Raises and warns as :func:`parse_session`. With ``include_defaults`` the options
    ``type``, ``expire`` and ``enabled`` are always there.
    """
    given = _all(CACHE, config, kwargs)
    names = as_list("cache.regions", given.pop("regions", None) or [])
    regions: dict[str, dict[str, Any]] = {name: {} for name in names}
    for name in [name for name in given if "." in name and not name.startswith("sa.")]:
        region, _, option = name.partition(".")
        if region in regions:
            regions[region][option] = given.pop(name)
        else:
            _check_region(region, option, regions)
    options = coerce_cache(given)
    configured = dict(options.pop("cache_regions", None) or {})
    general = dict(options)
    typed = "type" in general or general.get("namespace_class") is not None
    if not typed and not any("type" in own for own in (*regions.values(), *configured.values())):
        _check_place(general, "cache")
    if include_defaults:
        options = {"type": "memory", "expire": None, "enabled": True, **options}
    for name, own in regions.items():
        coerced = coerce_cache(own, f"cache.{name}", kind=own.get("type", general.get("type")))
        if not typed and "type" not in coerced and coerced.get("namespace_class") is None:
            _check_place(coerced, f"cache.{name}")
        configured[name] = {**general, **coerced}
    options["cache_regions"] = configured
    return options


def _check_region(region: str, option: str, regions: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse what was meant for a region whose name is misspelt, unless that region has such an option."""
    import difflib

    near = difflib.get_close_matches(region, list(regions), n=1, cutoff=CLOSE)
    info = CACHE.known.get(option)
    if near and info is not None and info.guards and option not in regions[near[0]]:
        raise ConfigError(
            f"cache.{region}.{option} would be passed over: {region!r} is not in cache.regions",
            option=f"cache.{region}.{option}",
            code="config.unknown-option",
            hint=f"did you mean cache.{near[0]}.{option}?",
        )


def coerce_cache(
    options: Mapping[str, Any], where: str = "cache", *, kind: object = None, weak: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """``options`` of one cache or region coerced: strings to what they mean, unknown names reported.

    ``kind`` is the backend's type when ``options`` does not name it, ``weak`` as for :func:`parse_session`.
    """
    values = _coerce(CACHE.from_keywords(options, weak or {}), CACHE, where, kind=kind)
    if values.get("expire") is None and values.get("expiretime") is not None:
        values["expire"] = values["expiretime"]
    return values


def _all(
    scope: Scope,
    config: Mapping[str, Any] | None,
    kwargs: Mapping[str, Any] | None,
    weak: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    if config is not None and not isinstance(config, Mapping):
        raise wrong("config", config, "a dict of options")
    mapping, keywords = scope.from_mapping(config or {}), scope.from_keywords(kwargs or {}, weak or {})
    if scope is SESSION:
        # The constructors of the manual's classes have defaults of their own, and None there means "not given".
        keywords = {name: value for name, value in keywords.items() if value is not None or name not in scope.own}
    return {**mapping, **keywords}


def _coerce(
    given: Mapping[str, Any], scope: Scope, where: str, *, kind: object = None, strict: bool = False
) -> dict[str, Any]:
    known = scope.known
    kind = scope.store_type(given, kind)
    foreign = not is_builtin(kind) or given.get("namespace_class") is not None
    strict = as_bool(f"{where}.strict", given.get("strict", strict))
    values: dict[str, Any] = {}
    for name, value in given.items():
        info = known.get(name)
        if info is not None:
            values[name] = _value(info, f"{where}.{name}", value, pass_on=foreign and name not in scope.own)
        elif name in OBJECTS or name.startswith("sa."):
            values[name] = value
        elif foreign and name not in ACCEPTED:
            meant = misspelt_own(name, scope)
            if meant and meant not in given:
                raise _passed_over(name, where, Guess(meant, guards=True))
            values[name] = value
        elif name not in ACCEPTED:
            _unknown(name, where, scope, strict)
    return values


def _value(info: OptionInfo, option: str, value: Any, *, pass_on: bool) -> Any:
    if pass_on:
        return value
    if isinstance(value, str) and not value.strip() and info.name != "samesite":
        raise wrong(option, value, "a value", "leave the option out to get its default")
    if value is None and (info.default is None or info.coerce is as_bool):
        return info.default
    return info.coerce(option, value)


def _unknown(name: str, where: str, scope: Scope, strict: bool) -> None:
    meant = guess(name, scope)
    if scope is STORE and name in GUARDS:
        # No other component's: it was meant for this store, which has no such option.
        meant = meant._replace(guards=True)
    error = _passed_over(name, where, meant)
    if strict or meant.guards:
        raise error
    warn(ConfigWarning(str(error), code=error.code))


def _passed_over(name: str, where: str, meant: Guess) -> ConfigError:
    message = f"{where}.{name} is not an option of Beaker"
    if "." in name and where == "cache":
        message += f" ({name.partition('.')[0]!r} is not in cache.regions)"
    hint = f"did you mean {where}.{meant.nearest}?" if meant.nearest else ""
    return ConfigError(message, option=f"{where}.{name}", hint=hint, code="config.unknown-option")
