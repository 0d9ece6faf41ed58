"""Secret Manager: one read at start for each value written ``secret:projects/P/secrets/S/versions/V``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from beaker.config.environment import SECRET_REFERENCE
from beaker.exceptions import ConfigError, InvalidCacheBackendError

__all__ = ["is_reference", "read_secret", "resolve_all"]

_NAME = re.compile(r"projects/[^/]+/secrets/[^/]+/versions/[^/]+\Z")
_SECONDS = 10.0


def is_reference(value: object) -> bool:
    """Whether ``value`` is text that names a secret instead of being one."""
    return isinstance(value, str) and value.strip().startswith(SECRET_REFERENCE)


def resolve_all(value: Any, *, option: str, client: Any = None) -> Any:
    """``value`` with every reference in it replaced by its secret: in text, lists and dicts, however deep.

    ``option`` names what holds it, for errors: those of :func:`read_secret`.
    """
    if is_reference(value):
        return read_secret(value, option=option, client=client)
    if isinstance(value, Mapping):
        found = {name: resolve_all(each, option=f"{option}.{name}", client=client) for name, each in value.items()}
        return found if found != value else value
    if type(value) in (list, tuple):
        return type(value)(resolve_all(each, option=option, client=client) for each in value)
    return value


def read_secret(reference: str, *, option: str, client: Any = None) -> str:
    """The payload of the secret version ``reference`` names, as text.

    Needs the extra ``secrets`` and, on Google's platforms, the role Secret Manager Secret Accessor. Waits
    10 seconds at most. ``client`` replaces a ``SecretManagerServiceClient``. Raises ConfigError naming
    ``option`` when the name is malformed, or the secret is empty, not UTF-8 or cannot be read.
    """
    name = reference.strip()[len(SECRET_REFERENCE) :]
    if not _NAME.match(name):
        raise ConfigError(
            f"{option} names no secret version",
            option=option,
            expected="secret:projects/P/secrets/S/versions/V",
            code="config.secret-manager",
        )
    if client is None:
        client = _client(option)
    try:
        payload: bytes = client.access_secret_version(name=name, timeout=_SECONDS).payload.data
    except Exception as error:
        raise ConfigError(
            f"the secret that {option} names could not be read",
            option=option,
            got=type(error).__name__,
            expected="an accessible secret version",
            hint="grant roles/secretmanager.secretAccessor on it to the service account",
            code="config.secret-manager",
        ) from error
    try:
        secret = payload.decode().strip()
    except UnicodeDecodeError:
        # Without that error in the chain: it carries the payload.
        raise ConfigError(
            f"the secret that {option} names is not text",
            option=option,
            expected="UTF-8",
            got="other bytes",
            code="config.secret-manager",
        ) from None
    if not secret:
        raise ConfigError(f"the secret that {option} names is empty", option=option, code="config.secret-manager")
    return secret


def _client(option: str) -> Any:
    try:
        secretmanager: Any = import_module("google.cloud.secretmanager")
    except ImportError as error:
        raise InvalidCacheBackendError(
            "Secret Manager needs its client",
            option=option,
            hint="pip install 'beaker-gae[secrets]'",
            code="config.missing-package",
        ) from error
    try:
        return secretmanager.SecretManagerServiceClient()
    except Exception as error:
        raise ConfigError(
            f"{option} names a secret, and there are no credentials to read it with",
            option=option,
            got=type(error).__name__,
            hint="on a laptop: gcloud auth application-default login",
            code="config.secret-manager",
        ) from error
