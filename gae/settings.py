"""Options of one deployment, from its environment, its mounted secrets and explicit arguments.

================================  ============================================================================
variable                          meaning
================================  ============================================================================
``BEAKER_SESSION_OPTION``         session option, e.g. ``BEAKER_SESSION_TIMEOUT=3600``
``BEAKER_SESSION_SECRET_FILE``    file with the session secret (any key option: ``..._FILE``); re-read on change
``BEAKER_CACHE_OPTION``           cache option, e.g. ``BEAKER_CACHE_TYPE=ext:google``
``BEAKER_CACHE_REGION__OPTION``   option of one region (two underscores), e.g. ``BEAKER_CACHE_LOOKUP__EXPIRE=60``
``BEAKER_DATA_DIR``               directory of local data on a laptop; default ``./data``
================================  ============================================================================

A value ``secret:projects/P/secrets/S/versions/V`` is read from Secret Manager once, at start (extra
``secrets``). Explicit arguments win over the environment, the environment over defaults.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beaker.config.options import BackendOptions, CacheOptions, SessionOptions, describe
from beaker.config.parse import parse_cache, parse_session
from beaker.exceptions import ConfigError
from beaker.runtime import Runtime
from gae.secret_manager import is_reference, read_secret

__all__ = ["Settings"]

log = logging.getLogger("gae")

SESSION_VARIABLE, CACHE_VARIABLE = "BEAKER_SESSION_", "BEAKER_CACHE_"
_KEYS = ("secret", "secret_fallbacks", "validate_key", "encrypt_key")
_HOW = (
    "make one with `python -m beaker keys new` and set BEAKER_SESSION_SECRET to it, or BEAKER_SESSION_SECRET_FILE to a"
    " mounted file, or BEAKER_SESSION_SECRET=secret:projects/P/secrets/S/versions/V; never write it into app.yaml"
)


@dataclass(frozen=True)
class Settings:
    """What a deployment runs with: parsed session and cache options, and where each came from.

    Build it by :meth:`from_environ`. ``origins`` maps ``session.OPTION`` and ``cache.OPTION`` to one of
    ``argument``, ``environment``, ``file``, ``secret manager``, ``laptop default``, ``platform``.
    """

    runtime: Runtime
    session: SessionOptions = field(repr=False)
    cache: Mapping[str, Any] = field(repr=False)
    origins: Mapping[str, str]

    @property
    def platform(self) -> str:
        """Name of the platform, for people."""
        emulator = " + Datastore emulator" if self.runtime.emulator_host else ""
        return self.runtime.platform.value + emulator

    @property
    def session_type(self) -> str:
        """The session type in force."""
        from beaker.session.context import resolve_type

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
    ) -> Settings:
        """Read ``environ`` (default: the process's); arguments win, options written without prefix.

        Raises ConfigError naming the option or variable; a missing session secret is one on App Engine,
        Functions and Run. On a laptop one is made and kept, readable by its owner only.
        """
        environ = os.environ if environ is None else environ
        runtime = runtime or Runtime.detect(environ)
        origins: dict[str, str] = {}
        data_dir = environ.get("BEAKER_DATA_DIR") or str(Path.cwd() / "data")
        own = _given("session", SESSION_VARIABLE, environ, session, origins)
        _add_secret(own, data_dir, runtime, origins)
        shared = _given("cache", CACHE_VARIABLE, environ, cache, origins)
        if "secret" not in shared and own.get("secret"):
            # Subkeys are derived by purpose, so one secret serves cookies and stored values.
            shared["secret"] = own["secret"]
            origins["cache.secret"] = "session.secret"
        if runtime.durable_disk:
            for name, options in (("session", own), ("cache", shared)):
                for option, value in (("type", "file"), ("data_dir", str(Path(data_dir) / name))):
                    if option not in options:
                        options[option] = value
                        origins[f"{name}.{option}"] = "laptop default"
        configured = {name: dict(options) for name, options in (regions or {}).items()}
        for name in [name for name in shared if "__" in name]:
            region, _, option = name.partition("__")
            configured.setdefault(region, {})[option] = shared.pop(name)
        names = {f"{region}.{option}": value for region, own_ in configured.items() for option, value in own_.items()}
        parsed = parse_cache(kwargs={**shared, "regions": list(configured), **names})
        return cls(runtime, parse_session(kwargs=own), parsed, origins)

    def report(self) -> str:
        """One line that says what was chosen and why, without any secret."""
        chosen = [("session", self.session_type, "session.type"), ("cache", self.cache_type, "cache.type")]
        told = [f"{name}={value} ({self.origins.get(origin, 'platform')})" for name, value, origin in chosen]
        secret = self.origins.get("session.secret") or self.origins.get("session.validate_key") or "none"
        return f"beaker: platform={self.platform} {' '.join(told)} session secret from {secret}"


def _given(
    scope: str, prefix: str, environ: Mapping[str, str], explicit: Mapping[str, Any] | None, origins: dict[str, str]
) -> dict[str, Any]:
    known = {*describe(SessionOptions if scope == "session" else CacheOptions), *describe(BackendOptions)}
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(prefix) or not text:
            continue
        name, value, origin = variable[len(prefix) :].lower(), text, "environment"
        if name.endswith("_file") and name[:-5] in _KEYS:
            name, value, origin = name[:-5], f"file:{text}", "file"
        elif is_reference(text):
            value, origin = read_secret(text, option=variable), "secret manager"
        if name not in known and "__" not in name:
            log.warning("%s names no %s option of Beaker; it is ignored", variable, scope)
            continue
        values[name] = value
        origins[f"{scope}.{name}"] = origin
    for name, value in (explicit or {}).items():
        values[name] = read_secret(value, option=f"{scope}.{name}") if is_reference(value) else value
        origins[f"{scope}.{name}"] = "argument"
    return values


def _add_secret(own: dict[str, Any], data_dir: str, runtime: Runtime, origins: dict[str, str]) -> None:
    if own.get("secret") or own.get("validate_key"):
        return
    if not runtime.durable_disk:
        raise ConfigError("there is no session secret", option="session.secret", hint=_HOW)
    own["secret"] = _kept_secret(Path(data_dir))
    origins["session.secret"] = "laptop default"


def _kept_secret(directory: Path) -> str:
    """A random secret kept in ``directory`` with mode 0600, made at the first start."""
    path = directory / "session-secret"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = secrets.token_urlsafe(32)
    try:
        # A second process may start at the same moment: the link is there whole or not at all.
        draft = directory / f".session-secret-{secrets.token_hex(8)}"
        draft.touch(mode=0o600)
        draft.write_text(fresh + "\n")
        os.link(draft, path)
        log.info("beaker: made a session secret for this machine in %s", path)
    except FileExistsError:
        log.info("beaker: session secret of this machine from %s", path)
    finally:
        draft.unlink(missing_ok=True)
    return f"file:{path}"
