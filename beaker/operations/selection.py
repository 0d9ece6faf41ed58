"""Which stores a command is about: one that is named, or those that the variables configure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from beaker.config import environment
from beaker.config.deployment import LAPTOP, complete, data_directory, kept_secret
from beaker.config.environment import Given
from beaker.config.parse import coerce_cache
from beaker.crypto.keyring import new_key
from beaker.exceptions import ConfigError, MissingCacheParameter
from beaker.operations.purging import check_options, missing, stores_of
from beaker.runtime import current
from beaker.session.context import SessionContext

__all__ = ["configured", "configured_keys", "configured_stores", "named_options", "named_stores"]


def named_options(kind: str, pairs: Iterable[str]) -> dict[str, str]:
    """The options of a store of type ``kind``, each given as ``NAME=VALUE``. Raises ConfigError."""
    options: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name in options:
            expected = "NAME=VALUE, each name once"
            raise ConfigError("--option cannot be used", option="--option", expected=expected)
        options[name] = value
    check_options(kind, options)
    if kind in ("ext:sqla", "sqla"):
        raise ConfigError(
            "an engine of the application cannot be named on a command line",
            option="--type",
            hint="call beaker.purging.purge() in the application",
            code="purge.no-store",
        )
    if kind in ("file", "dbm") and not {"data_dir", f"{kind}_dir"} & options.keys():
        raise MissingCacheParameter(
            f"the {kind} store's directory is not named", option="--option", hint="--option data_dir=DIRECTORY"
        )
    return options


def named_stores(kind: str, pairs: Iterable[str], *, purpose: str) -> list[Any]:
    """The store of type ``kind`` with the options ``pairs``. ConfigError, saying ``purpose``, when it is not there."""
    options = named_options(kind, pairs)
    stores = stores_of(cache={**coerce_cache({**options, "type": kind, "strict": True}), "cache_regions": {}})
    absent = [reason for reason in map(missing, stores) if reason]
    if absent:
        raise ConfigError(
            f"there is nothing to {purpose}: {'; '.join(absent)}", option="--option", code="purge.no-store"
        )
    return stores


def configured(environ: Mapping[str, str]) -> Given:
    """What the variables and an application's start make of them. ConfigError for one that nothing may start with."""
    # Records are told by what stands beside them and not opened: any key stands for one that is kept elsewhere.
    given = environment.read(environ, resolve=lambda reference, variable: new_key())
    given.check()
    for unknown in given.unknown:
        if unknown.variable.startswith((environment.SESSION_VARIABLE, environment.CACHE_VARIABLE)):
            raise ConfigError(
                f"{unknown.variable} names no option of Beaker",
                option=unknown.variable,
                hint=f"did you mean {unknown.nearest}?" if unknown.nearest else "unset it",
                code="config.unknown-variable",
            )
    complete(given, current(), data_directory(environ), secret=lambda path: kept_secret(path) or new_key())
    if not given.session and not given.cache and not given.regions:
        raise ConfigError(
            "no store is named",
            option="--type",
            hint="give --type, or BEAKER_SESSION_TYPE and the like",
            code="purge.no-store",
        )
    return given


def configured_keys(environ: Mapping[str, str]) -> dict[str, Any]:
    """The keys of caches that the variables name, as options; none where they name none. Raises ConfigError."""
    given = environment.read(environ, resolve=lambda reference, variable: new_key())
    given.check()
    keys: dict[str, Any] = {}
    # As an application's start does; a key that a laptop keeps was not named.
    signing = given.session.get("secret") or given.session.get("validate_key")
    if signing:
        keys["secret"] = signing
    return keys | {name: given.cache[name] for name in ("secret", "encrypt_key", "key_rollout") if name in given.cache}


def configured_stores(
    environ: Mapping[str, str], wanted: Callable[[Iterable[Any]], list[Any]], *, purpose: str
) -> list[Any]:
    """Those of the stores that ``environ`` configures that are ``wanted`` and there.

    ConfigError, saying ``purpose``, when one that was named is not.
    """
    given = configured(environ)
    sessions = SessionContext(given.session_options()) if given.session else None
    cache = given.cache_options() if given.cache or given.regions else None
    stores = wanted(stores_of(sessions, cache))
    absent = {id(store): reason for store in stores if (reason := missing(store))}
    by_default = [
        options["data_dir"]
        for scope, options in (("session", given.session), ("cache", given.cache))
        if given.origins.get(f"{scope}.data_dir") == LAPTOP
    ]
    # Nothing was ever stored in a directory that was not named: that is no mistake, as long as something is there.
    fatal = [store for store in stores if id(store) in absent and not _below(store, by_default)]
    if fatal or (stores and len(absent) == len(stores)):
        reasons = "; ".join(dict.fromkeys(absent.values()))
        raise ConfigError(
            f"there is nothing to {purpose}: {reasons}",
            option="BEAKER_DATA_DIR",
            hint="name the stores by BEAKER_ variables or --type, or start in the application's directory",
            code="purge.no-store",
        )
    return [store for store in stores if id(store) not in absent]


def _below(store: object, directories: Sequence[str]) -> bool:
    own = getattr(store, "directory", None)
    return own is not None and any(Path(own).is_relative_to(Path(directory).absolute()) for directory in directories)
