"""Options checked and converted in place, as frameworks do before they pass them on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

from beaker.compat.converters import asbool, asint, aslist
from beaker.exceptions import ConfigError

__all__ = ["coerce_cache_params", "coerce_session_params", "verify_options", "verify_rules"]

Rule = tuple[str, tuple[type, ...], str]
"""An option, the types it may have (the first that its text converts to wins), and the error's text."""

_NOTHING = type(None)
_TEXT, _FLAG, _NUMBER = (str, _NOTHING), (bool, _NOTHING), (int, _NOTHING)
# Several keys are a list, a key may be bytes, a serializer an object: text of those would be another value.
_KEY = (str, bytes, list, tuple, _NOTHING)

_SESSION: tuple[Rule, ...] = (
    *((name, _TEXT, "text") for name in ("type", "data_dir", "lock_dir", "key", "id", "webtest_varname")),
    *((name, _TEXT, "text") for name in ("cookie_domain", "cookie_path", "crypto_type")),
    *((name, _KEY, "a key") for name in ("secret", "validate_key", "encrypt_key")),
    *((name, _FLAG, "true or false") for name in ("auto", "secure", "httponly", "save_accessed_time")),
    ("timeout", _NUMBER, "a whole number of seconds"),
    ("encrypt_nonce_bits", _NUMBER, "a whole number"),
    ("cookie_expires", (bool, int, dt.datetime, dt.timedelta, _NOTHING), "true, false, seconds, a date or timedelta"),
    ("data_serializer", (str, object), "text or an object"),
)
_CACHE: tuple[Rule, ...] = (
    *((name, _TEXT, "text") for name in ("type", "data_dir", "lock_dir")),
    ("enabled", _FLAG, "true or false"),
    ("expire", _NUMBER, "a whole number of seconds"),
    ("key_length", _NUMBER, "a whole number"),
    ("regions", (list, tuple, _NOTHING), "names separated by commas"),
)


def verify_options(opt: Any, types: type | tuple[type, ...], error: str) -> Any:
    """``opt`` if it has one of ``types``, else the first of them that it converts to.

    ConfigError with the text ``error`` where it converts to none, and for an empty text.
    """
    wanted = types if isinstance(types, tuple) else (types,)
    if isinstance(opt, wanted):
        if isinstance(opt, str) and not opt.strip():
            raise ConfigError(error, got="an empty string")
        return opt
    for kind in wanted:
        convert = _CONVERT.get(kind)
        if convert is None or (isinstance(opt, str) and not opt.strip()):
            continue
        try:
            return convert(opt)
        except ConfigError:
            continue
    raise ConfigError(error, got="an empty string" if opt == "" else type(opt).__name__)


_CONVERT: dict[type, Callable[[Any], Any]] = {
    bool: asbool,
    int: asint,
    str: str,
    list: lambda opt: aslist(opt, ","),
    tuple: lambda opt: aslist(opt, ","),
}


def verify_rules(params: MutableMapping[str, Any], ruleset: Iterable[Rule]) -> MutableMapping[str, Any]:
    """``params`` with each option of ``ruleset`` (name, types, error) that is there verified, in place."""
    for name, types, error in ruleset:
        if name in params:
            params[name] = verify_options(params[name], types, error)
    return params


def coerce_session_params(params: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Session options without prefix, converted in place and returned; others are left alone.

    ConfigError naming the option for a value that cannot be converted, and for ``timeout`` without
    ``save_accessed_time``. Whole seconds of ``cookie_expires`` become a timedelta.
    """
    _coerce(params, _SESSION, "session")
    expires = params.get("cookie_expires")
    if isinstance(expires, int) and not isinstance(expires, bool):
        params["cookie_expires"] = dt.timedelta(seconds=expires)
    if params.get("timeout") is not None and params.get("save_accessed_time", True) is False:
        raise ConfigError(
            "session.timeout counts from the last access, which session.save_accessed_time = false does not keep",
            option="session.save_accessed_time",
            expected="true, or no timeout",
        )
    return params


def coerce_cache_params(params: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Options of a cache or region without prefix, converted in place and returned; others are left alone.

    ConfigError naming the option for a value that cannot be converted.
    """
    if isinstance(params.get("regions"), str):
        # "no regions" is written as an empty option by those who read it unconditionally.
        params["regions"] = [name.strip() for name in params["regions"].split(",")]
    return _coerce(params, _CACHE, "cache")


def _coerce(params: MutableMapping[str, Any], rules: Iterable[Rule], where: str) -> MutableMapping[str, Any]:
    for name, types, expected in rules:
        if name in params:
            try:
                params[name] = verify_options(params[name], types, "")
            except ConfigError:
                value = params[name]
                got = "an empty string" if isinstance(value, str) and not value.strip() else type(value).__name__
                told = f"option '{where}.{name}' cannot be used"
                raise ConfigError(told, option=f"{where}.{name}", expected=expected, got=got) from None
    return params
