"""Options written as environment variables: how an operator configures what is deployed.

================================  ============================================================================
variable                          meaning
================================  ============================================================================
``BEAKER_SESSION_OPTION``         session option, e.g. ``BEAKER_SESSION_TIMEOUT=3600``
``BEAKER_CACHE_OPTION``           cache option, e.g. ``BEAKER_CACHE_TYPE=ext:google``
``BEAKER_CACHE_REGION__OPTION``   option of one region (two underscores), e.g. ``BEAKER_CACHE_LOOKUP__EXPIRE=60``
``..._FILE``                      any secret option: file that holds it. Keys are read again when it changes,
                                  the rest (``url``) once
``BEAKER_CACHE_SA_NAME``          SQLAlchemy engine option ``sa.name``
================================  ============================================================================

An empty variable counts as absent. Of several sources of one option the later wins: variable, file, Secret
Manager (``secret:projects/P/secrets/S/versions/V`` as the value; read by the deployment kit). ``revocation``,
``namespace_args``, ``sa_opts`` and ``legacy`` take JSON objects. Region names are lower case, ``-`` is ``_``.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from beaker.config.coerce import as_key
from beaker.config.names import CACHE, CLOSE, SESSION, guess, is_builtin, resembles
from beaker.config.options import ACCEPTED, OptionInfo, SessionOptions
from beaker.config.parse import parse_cache, parse_session
from beaker.exceptions import ConfigError

__all__ = ["CACHE_VARIABLE", "OTHER_VARIABLES", "SECRET_REFERENCE", "SESSION_VARIABLE", "Given", "Unknown", "read"]

SESSION_VARIABLE, CACHE_VARIABLE = "BEAKER_SESSION_", "BEAKER_CACHE_"
SECRET_REFERENCE = "secret:"
"""What a value that names a Secret Manager version begins with."""
OTHER_VARIABLES: Mapping[str, str] = {
    "BEAKER_PLATFORM": "platform name in place of the detected one",
    "BEAKER_DATA_DIR": "directory of local data on a laptop; default ./data",
    "BEAKER_TTL_POLICY": "true: a Datastore TTL policy, or a scheduled purge, removes expired records",
    "BEAKER_TASKS_AUDIENCE": "audience of the OIDC tokens that may start a purge",
    "BEAKER_TASKS_SERVICE_ACCOUNTS": "e-mail addresses, by commas, whose OIDC tokens may start a purge",
    "BEAKER_TASKS_SECRET": "shared secret that may start a purge (or BEAKER_TASKS_SECRET_FILE)",
    "BEAKER_TASKS_SECRET_FILE": "file with that secret",
    "BEAKER_WARMUP_REGIONS": "cache regions whose store /_ah/warmup opens",
    "BEAKER_CONSOLE": "true: there is a console for operators",
    "BEAKER_CONSOLE_PATH": "where it is; default /_beaker/",
    "BEAKER_CONSOLE_SECRET": "password of the console (or BEAKER_CONSOLE_SECRET_FILE)",
    "BEAKER_CONSOLE_SECRET_FILE": "file with that password",
    "BEAKER_CONSOLE_IAP_AUDIENCE": "audience of Identity-Aware Proxy's assertions for this application",
    "BEAKER_CONSOLE_IAP_USERS": "e-mail addresses, by commas, that it lets in to the console",
    "BEAKER_CONSOLE_APPENGINE_ADMIN": "true: App Engine's administrators see the console, behind login: admin",
    "BEAKER_CONSOLE_PRICES": "JSON file of prices, as beaker stats --prices takes it",
}
"""Variables that are no session or cache option. The deployment kit reads most of them."""

_RANKS = ("environment", "file", "secret manager")
_JSON = frozenset({"revocation", "namespace_args", "sa_opts", "legacy"})
_OBJECTS = frozenset({"session_class", "namespace_class", "bind", "table", "client"})
_SCOPES = {"session": SESSION, "cache": CACHE}

Resolve = Callable[[str, str], str]
"""``resolve(reference, variable)`` returns the secret that a reference names."""


class Unknown(NamedTuple):
    """A variable that means nothing; ``nearest`` is the one it was probably meant to be, or empty.

    ``guards``: that one is for protection, life time or place, so nothing may start without it.
    """

    variable: str
    nearest: str
    guards: bool = False

    def __str__(self) -> str:
        guess = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.variable} names no option of Beaker and is ignored{guess}"

    def error(self) -> ConfigError:
        """What to raise for a variable that may not be passed over."""
        hint = f"did you mean {self.nearest}?" if self.nearest else "docs/configuration.md lists them"
        return ConfigError(
            f"{self.variable} names no option of Beaker", option=self.variable, hint=hint, code="config.unknown-option"
        )


@dataclass
class Given:
    """Options by where they belong, each with its origin.

    ``origins`` and ``variables`` are keyed ``session.OPTION``, ``cache.OPTION``, ``cache.REGION.OPTION``.
    ``errors`` are the variables that cannot be used; their options are not in the mappings.
    """

    session: dict[str, Any] = field(default_factory=dict, repr=False)
    cache: dict[str, Any] = field(default_factory=dict, repr=False)
    regions: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    origins: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    unknown: list[Unknown] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    errors: list[ConfigError] = field(default_factory=list)

    def put(self, scope: str, name: str, value: Any, origin: str, *, region: str = "") -> None:
        """Set one option, whatever it was before."""
        options = self.regions.setdefault(region, {}) if region else getattr(self, scope)
        options[name] = value
        path = f"{scope}.{region}.{name}" if region else f"{scope}.{name}"
        self.origins[path] = origin
        if origin == "argument":
            self.variables.pop(path, None)

    def check(self) -> None:
        """Raise ConfigError for the first variable that nothing may start with."""
        for error in (*self.errors, *(unknown.error() for unknown in self.unknown if unknown.guards)):
            raise error

    def session_options(self) -> SessionOptions:
        """The session options. Raises ConfigError for what cannot be used."""
        return parse_session(kwargs=self.session)

    def cache_options(self) -> dict[str, Any]:
        """The cache options with ``cache_regions``, ready for CacheManager. Raises as :meth:`session_options`."""
        names = {f"{region}.{name}": value for region, own in self.regions.items() for name, value in own.items()}
        return parse_cache(kwargs={**self.cache, "regions": list(self.regions), **names})


class _Found(NamedTuple):
    scope: str
    region: str
    name: str
    variable: str
    text: str
    rank: int

    def __repr__(self) -> str:
        return f"<{self.variable}>"


def read(environ: Mapping[str, str], *, resolve: Resolve | None = None) -> Given:
    """What the variables in ``environ`` say. Never raises: what is wrong is in ``errors`` and ``unknown``.

    Without ``resolve`` a Secret Manager reference is an error.
    """
    given = Given()
    best: dict[tuple[str, str, str], _Found] = {}
    for found in _scan(environ, given):
        place = (found.scope, found.region, found.name)
        if place not in best or best[place].rank < found.rank:
            best[place] = found
    kinds: dict[tuple[str, str], dict[str, str]] = {}
    for found in best.values():
        if found.name in ("type", "store"):
            kinds.setdefault((found.scope, found.region), {})[found.name] = found.text
    for found in best.values():
        told = {**kinds.get((found.scope, ""), {}), **kinds.get((found.scope, found.region), {})}
        kind = _SCOPES[found.scope].store_type(told)
        try:
            _take(found, given, foreign=not is_builtin(kind), resolve=resolve)
        except ConfigError as error:
            given.errors.append(error)
    for name in given.cache.pop("regions", None) or []:
        given.regions.setdefault(region_name(name), {})
    return given


def region_name(name: str) -> str:
    """A region's name as variables spell it."""
    return name.lower().replace("-", "_")


def _scan(environ: Mapping[str, str], given: Given) -> Iterator[_Found]:
    for variable in sorted(environ):
        if not variable.startswith("BEAKER_"):
            continue
        text = environ[variable]
        scope, rest = _scope(variable)
        if scope is None:
            if variable not in OTHER_VARIABLES:
                given.unknown.append(_misnamed(variable, guards=bool(text.strip())))
            continue
        if not text.strip():
            given.empty.append(variable)
            continue
        region, _, name = rest.rpartition("__") if scope == "cache" else ("", "", rest)
        known = _SCOPES[scope].known
        rank = _RANKS.index("secret manager" if text.startswith(SECRET_REFERENCE) else "environment")
        info = known.get(name.removesuffix("_file"))
        if name not in known and name.endswith("_file") and info is not None and info.secret:
            name, rank = info.name, _RANKS.index("file")
        elif name.startswith("sa_") and name not in known:
            name = f"sa.{name[3:]}"
        yield _Found(scope, region, name, variable, text, rank)


def _scope(variable: str) -> tuple[str | None, str]:
    for scope, prefix in (("session", SESSION_VARIABLE), ("cache", CACHE_VARIABLE)):
        if variable.startswith(prefix) and len(variable) > len(prefix):
            return scope, variable[len(prefix) :].lower()
    return None, ""


def _take(found: _Found, given: Given, *, foreign: bool, resolve: Resolve | None) -> None:
    scope = _SCOPES[found.scope]
    info = scope.known.get(found.name)
    path = ".".join(filter(None, (found.scope, found.region, found.name)))
    if info is None and not foreign and not found.name.startswith("sa."):
        if found.name not in ACCEPTED:
            given.unknown.append(_unknown(found))
        return
    if found.name in _OBJECTS:
        raise ConfigError(
            f"{found.variable} cannot be given as text", option=found.variable, hint="give the object as an argument"
        )
    value: Any = found.text.strip()
    if _RANKS[found.rank] == "file":
        value = _of_file(value, found.variable, keep=info is not None and info.coerce is as_key)
    elif _RANKS[found.rank] == "secret manager":
        value = _secret(value, found.variable, resolve)
    if info is not None and not (foreign and found.name not in scope.own):
        value = _resolved(_coerced(info, found.variable, value), found.variable, resolve)
    given.put(found.scope, found.name, value, _RANKS[found.rank], region=found.region)
    given.variables[path] = found.variable


def _secret(reference: str, variable: str, resolve: Resolve | None) -> str:
    if resolve is None:
        raise ConfigError(
            f"{variable} names a secret of Secret Manager",
            option=variable,
            hint="the deployment kit reads it: gae.app.compose, python -m gae.doctor",
            code="config.secret-manager",
        )
    return resolve(reference, variable)


def _resolved(value: Any, variable: str, resolve: Resolve | None) -> Any:
    """``value`` with the references in a JSON object replaced."""
    if isinstance(value, dict):
        return {name: _resolved(each, variable, resolve) for name, each in value.items()}
    if isinstance(value, list):
        return [_resolved(each, variable, resolve) for each in value]
    if isinstance(value, str) and value.strip().startswith(SECRET_REFERENCE):
        return _secret(value.strip(), variable, resolve)
    return value


def _coerced(info: OptionInfo, variable: str, value: Any) -> Any:
    if info.name in _JSON and value.startswith("{"):
        try:
            return json.loads(value)
        except ValueError:
            # Without the parser's own error in the chain: it holds the text, which may hold a secret.
            raise ConfigError(f"{variable} cannot be used", option=variable, expected="a JSON object") from None
    return info.coerce(variable, value)


def _of_file(path: str, variable: str, *, keep: bool) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(65_537).strip()
            if "\0" in text or text.startswith("\ufeff"):
                raise ValueError("a NUL or a byte order mark")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{variable} names a file that cannot be read: {path}",
            option=variable,
            got=type(error).__name__,
            code="config.unreadable-file",
        ) from error
    if not text or len(text) > 65_536:
        raise ConfigError(
            f"{variable} names a file that holds no secret: {path}", option=variable, code="config.unreadable-file"
        )
    return f"file:{os.path.abspath(path)}" if keep else text


def _unknown(found: _Found) -> Unknown:
    """A variable whose prefix is right and whose option is not."""
    meant = guess(found.name.removesuffix("_file"), _SCOPES[found.scope])
    prefix = found.variable[: len(found.variable) - len(found.name)]
    return Unknown(found.variable, f"{prefix}{meant.nearest.upper()}" if meant.nearest else "", meant.guards)


def _misnamed(variable: str, *, guards: bool) -> Unknown:
    """A variable of none of our prefixes. It is ours if but one word keeps it from being an option."""
    head, _, rest = variable.removeprefix("BEAKER_").lower().partition("_")
    for scope, prefix in ((SESSION, SESSION_VARIABLE), (CACHE, CACHE_VARIABLE)):
        if rest in scope.known and resembles(head, scope.where):
            return Unknown(variable, prefix + rest.upper(), guards and scope.known[rest].guards)
    near = difflib.get_close_matches(variable, OTHER_VARIABLES, n=1, cutoff=CLOSE)
    return Unknown(variable, "".join(near))
