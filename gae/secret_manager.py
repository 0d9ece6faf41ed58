"""Secret Manager: one read at start for each value written ``secret:projects/P/secrets/S/versions/V``."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from beaker.exceptions import ConfigError, InvalidCacheBackendError

__all__ = ["is_reference", "read_secret"]

_PREFIX = "secret:"
_NAME = re.compile(r"projects/[^/]+/secrets/[^/]+/versions/[^/]+\Z")


def is_reference(value: object) -> bool:
    """Whether ``value`` is text that names a secret instead of being one."""
    return isinstance(value, str) and value.startswith(_PREFIX)


def read_secret(reference: str, *, option: str, client: Any = None) -> str:
    """The payload of the secret version ``reference`` names, as text.

    Needs the extra ``secrets`` and, on App Engine, the role Secret Manager Secret Accessor. Raises
    ConfigError naming ``option`` when the name is malformed or cannot be read.
    """
    name = reference[len(_PREFIX) :]
    if not _NAME.match(name):
        raise ConfigError(
            "that names no secret version", option=option, expected="secret:projects/P/secrets/S/versions/V"
        )
    if client is None:
        try:
            secretmanager: Any = import_module("google.cloud.secretmanager")
        except ImportError as error:
            raise InvalidCacheBackendError(
                "Secret Manager needs its client", option=option, hint="pip install 'beaker-gae[secrets]'"
            ) from error
        client = secretmanager.SecretManagerServiceClient()
    try:
        payload: bytes = client.access_secret_version(name=name).payload.data
        return payload.decode().strip()
    except Exception as error:
        raise ConfigError(
            "the secret could not be read",
            option=option,
            got=type(error).__name__,
            expected="an accessible secret version",
            hint="grant roles/secretmanager.secretAccessor on it to the service account",
        ) from error
