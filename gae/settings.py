"""Options of one deployment: explicit arguments, mounted secrets, Secret Manager, environment, defaults.

The variables are those of :mod:`beaker.config.environment`, and these:

=====================================  =======================================================================
variable                               meaning
=====================================  =======================================================================
``BEAKER_DATA_DIR``                    directory of local data on a laptop; default ``./data``
``BEAKER_TASKS_AUDIENCE``              audience of the OIDC tokens that may start a purge
``BEAKER_TASKS_SERVICE_ACCOUNTS``      e-mail addresses, by commas, whose tokens those must be
``BEAKER_TASKS_SECRET``, ``..._FILE``  shared secret that may start a purge (header ``X-Beaker-Tasks-Secret``)
``BEAKER_WARMUP_REGIONS``              cache regions whose store ``/_ah/warmup`` opens
``BEAKER_CONSOLE``                     ``true``: there is a console; see :mod:`gae.console` for ``BEAKER_CONSOLE_...``
=====================================  =======================================================================

The first of these that says something wins: explicit argument; Secret Manager (a value
``secret:projects/P/secrets/S/versions/V``, read once at start, extra ``secrets``); mounted file (``..._FILE``);
plain variable; default of a laptop (``file`` under the data directory); default of the platform.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from beaker.config.arguments import check_mapping
from beaker.config.coerce import as_bool, as_list, wrong
from beaker.config.deployment import HOW_TO_MAKE_A_SECRET, KEPT_SECRET, complete, data_directory
from beaker.config.environment import Given, read, region_name
from beaker.config.names import CACHE, SESSION
from beaker.config.options import SessionOptions
from beaker.crypto.form import check_key
from beaker.exceptions import ConfigError
from beaker.runtime import Runtime
from beaker.session.defaults import resolve_type
from gae.kept_secret import kept_secret, only_line
from gae.secret_manager import is_reference, read_secret, resolve_all

if TYPE_CHECKING:
    from gae.console_options import ConsoleOptions

__all__ = ["HOW_TO_MAKE_A_SECRET", "KEPT_SECRET", "Settings", "Tasks", "collect", "console_options"]

log = logging.getLogger("gae")

_SHORTEST_TASKS_SECRET = 16


@dataclass(frozen=True)
class Tasks:
    """Who may start a purge, and what a warmup opens; see :class:`gae.handlers.Handlers`.

    - ``audience``: what OIDC tokens that may start a purge are issued for.
    - ``service_accounts``: the e-mail addresses they are issued to. Anyone can have Google issue a token for any
      audience, so the audience alone proves nothing: one without the other is a ConfigError.
    - ``secret``: what the header ``X-Beaker-Tasks-Secret`` holds; a ConfigError under 16 bytes.
    - ``warmup_regions``: names of the cache regions whose store a warmup opens.
    """

    audience: str | None = None
    service_accounts: tuple[str, ...] = ()
    secret: str | None = field(default=None, repr=False)
    warmup_regions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.audience and not self.service_accounts:
            raise ConfigError(
                "BEAKER_TASKS_AUDIENCE alone lets in anyone who asks Google for a token",
                option="BEAKER_TASKS_SERVICE_ACCOUNTS",
                expected="BEAKER_TASKS_SERVICE_ACCOUNTS, the e-mail address of what starts purges",
            )
        if self.service_accounts and not self.audience:
            raise ConfigError(
                "BEAKER_TASKS_SERVICE_ACCOUNTS has no effect without an audience: no token may start a purge",
                option="BEAKER_TASKS_AUDIENCE",
                expected="BEAKER_TASKS_AUDIENCE, the audience that the tokens of those accounts are for",
            )
        if self.secret is not None and len(self.secret.encode()) < _SHORTEST_TASKS_SECRET:
            raise ConfigError(
                "the shared secret BEAKER_TASKS_SECRET is too short",
                option="BEAKER_TASKS_SECRET",
                expected=f"at least {_SHORTEST_TASKS_SECRET} bytes",
                hint="make one with `python -m beaker keys new`",
                code="config.weak-key",
            )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, client: Any = None) -> Tasks:
        """What the ``BEAKER_TASKS_`` and ``BEAKER_WARMUP_`` variables say. Raises ConfigError naming the variable."""

        def text(variable: str) -> str | None:
            return environ.get(variable, "").strip() or None

        secret, path = text("BEAKER_TASKS_SECRET"), text("BEAKER_TASKS_SECRET_FILE")
        if is_reference(secret):
            secret = read_secret(str(secret), option="BEAKER_TASKS_SECRET", client=client)
        elif path:
            secret = only_line(path, "BEAKER_TASKS_SECRET_FILE")
        if secret is not None:
            check_key(secret.encode(), "BEAKER_TASKS_SECRET")
        return cls(
            text("BEAKER_TASKS_AUDIENCE"),
            tuple(as_list("BEAKER_TASKS_SERVICE_ACCOUNTS", text("BEAKER_TASKS_SERVICE_ACCOUNTS") or [])),
            secret,
            tuple(as_list("BEAKER_WARMUP_REGIONS", text("BEAKER_WARMUP_REGIONS") or [])),
        )


@dataclass(frozen=True)
class Settings:
    """What a deployment runs with: parsed session and cache options, and where each came from.

    Build it by :meth:`from_environ`. ``origins`` maps ``session.OPTION``, ``cache.OPTION`` and
    ``cache.REGION.OPTION`` to one of ``argument``, ``secret manager``, ``file``, ``environment``,
    ``laptop default``, ``session.secret`` (a cache that signs with it); absent: the platform's default.
    ``variables`` maps the same to the variable that told.
    """

    runtime: Runtime
    session: SessionOptions = field(repr=False)
    cache: Mapping[str, Any] = field(repr=False)
    origins: Mapping[str, str]
    tasks: Tasks = field(default_factory=Tasks)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    console: ConsoleOptions | None = None

    @property
    def platform(self) -> str:
        """Name of the platform, for people."""
        emulator = " + Datastore emulator" if self.runtime.emulator_host else ""
        return self.runtime.platform.value + emulator

    @property
    def session_type(self) -> str:
        """The session type in force."""
        return resolve_type(self.session, self.runtime)

    @property
    def cache_type(self) -> str:
        """The cache type in force outside regions that name their own."""
        return str(self.cache["type"])

    @classmethod
    def from_environ(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        runtime: Runtime | None = None,
        session: Mapping[str, Any] | None = None,
        cache: Mapping[str, Any] | None = None,
        regions: Mapping[str, Mapping[str, Any]] | None = None,
        sessions: bool = True,
        console: bool | ConsoleOptions | None = None,
        secrets_client: Any = None,
    ) -> Settings:
        """Read ``environ``; arguments win over it.

        - ``environ``: default: the process's environment.
        - ``runtime``: what is detected in ``environ`` unless given.
        - ``session``, ``cache``: options without prefix; ``regions``: those of each region, by its name.
        - ``sessions=False``: for a service with caches only, which needs no secret.
        - ``console``: whether there is one, or its options; ``None``: what ``BEAKER_CONSOLE`` says.
        - ``secrets_client``: replaces the client of Secret Manager.

        Raises ConfigError naming the option or variable; a missing session secret is one on App Engine, Functions and
        Run. On a laptop one is created and kept, readable by its owner only. A variable that names no option is logged,
        with the nearest one that does; one that was meant for an option of protection, life time or place is an error.
        """
        environ = os.environ if environ is None else environ
        runtime = runtime or Runtime.detect(environ)
        given = collect(
            environ,
            runtime,
            session=session,
            cache=cache,
            regions=regions,
            keep_secret=sessions,
            secrets_client=secrets_client,
        )
        given.check()
        for unknown in given.unknown:
            log.warning("%s", unknown)
        if sessions and not (given.session.get("secret") or given.session.get("validate_key")):
            empty = "BEAKER_SESSION_SECRET is empty" if "BEAKER_SESSION_SECRET" in given.empty else ""
            raise ConfigError(
                f"there is no session secret{' (' + empty + ')' if empty else ''}",
                option="session.secret",
                hint=HOW_TO_MAKE_A_SECRET,
                code="config.missing-key",
            )
        tasks = Tasks.from_environ(environ, client=secrets_client)
        told = console_options(environ, console, client=secrets_client)
        with _named(given.variables):
            session_options, cache_options = given.session_options(), given.cache_options()
        return cls(runtime, session_options, cache_options, given.origins, tasks, given.variables, told)

    @contextmanager
    def naming_variables(self) -> Iterator[None]:
        """A ConfigError raised in the block names the variable that its option came from."""
        with _named(self.variables):
            yield

    def report(self) -> str:
        """One line that says what was chosen and why, without any secret."""
        chosen = [("session", self.session_type, "session.type"), ("cache", self.cache_type, "cache.type")]
        told = [f"{name}={value} ({self.origins.get(origin, 'platform')})" for name, value, origin in chosen]
        secret = self.origins.get("session.secret") or self.origins.get("session.validate_key") or "none"
        return f"beaker: platform={self.platform} {' '.join(told)} session secret from {secret}"


def console_options(
    environ: Mapping[str, str], asked: bool | ConsoleOptions | None = None, *, client: Any = None
) -> ConsoleOptions | None:
    """The console's options; ``None`` when none was asked for, by ``asked`` or by ``BEAKER_CONSOLE``."""
    if asked is None:
        asked = as_bool("BEAKER_CONSOLE", environ.get("BEAKER_CONSOLE", "").strip() or False)
    if asked is False:
        return None
    # A deployment without a console does without its modules.
    from gae.console_options import ConsoleOptions

    if isinstance(asked, ConsoleOptions):
        return asked
    if asked is not True:
        raise wrong("console", asked, "true, false or gae.console.ConsoleOptions")
    return ConsoleOptions.from_environ(environ, client=client)


@contextmanager
def _named(variables: Mapping[str, str]) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        names = {name for path, name in variables.items() if path == error.option or path.endswith(f".{error.option}")}
        if names and not any(name in str(error) for name in names):
            error.args = (f"{error}; set by {' or '.join(sorted(names))}",)
        raise


def collect(
    environ: Mapping[str, str],
    runtime: Runtime,
    *,
    session: Mapping[str, Any] | None = None,
    cache: Mapping[str, Any] | None = None,
    regions: Mapping[str, Mapping[str, Any]] | None = None,
    keep_secret: bool = True,
    secrets_client: Any = None,
) -> Given:
    """The options of a deployment before they are parsed, wrong ones in ``errors``.

    Reads Secret Manager; creates a laptop's secret when there is none and ``keep_secret``. An argument that is
    a malformed or unreadable Secret Manager reference raises ConfigError.
    """

    for name, options in (("session", session), ("cache", cache), ("regions", regions)):
        check_mapping(name, options)
    for name, own in (regions or {}).items():
        check_mapping(f"regions[{name!r}]", own)
    session, cache = SESSION.from_keywords(session or {}), CACHE.from_keywords(cache or {})
    regions = {name: CACHE.from_keywords(own or {}) for name, own in (regions or {}).items()}

    def resolve(reference: str, option: str) -> str:
        return read_secret(reference, option=option, client=secrets_client)

    given = read(environ, resolve=resolve)
    # A region configured in code keeps its name there; variables write it in their own way.
    for name in regions or {}:
        spelt = region_name(name)
        if spelt != name and spelt in given.regions:
            for option, value in given.regions.pop(spelt).items():
                origin = given.origins.pop(f"cache.{spelt}.{option}")
                variable = given.variables.pop(f"cache.{spelt}.{option}", "")
                given.put("cache", option, value, origin, region=name)
                given.variables[f"cache.{name}.{option}"] = variable
    explicit = [("session", "", session), ("cache", "", cache), *(("cache", *item) for item in (regions or {}).items())]
    for scope, region, options in explicit:
        if region:
            given.regions.setdefault(region, {})
        for name, value in (options or {}).items():
            path = ".".join(filter(None, (scope, region, name)))
            value = resolve_all(value, option=path, client=secrets_client)
            given.put(scope, name, value, "argument", region=region)
    complete(given, runtime, data_directory(environ), secret=kept_secret if keep_secret else lambda path: None)
    return given
