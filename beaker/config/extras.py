"""The extras of the distribution: what each is for is in the packages it brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["EXTRAS", "Extra", "how_to_install"]


class Extra(NamedTuple):
    """``module`` is one that the extra brings, ``distribution`` the package that module is of."""

    module: str
    distribution: str


EXTRAS: Mapping[str, Extra] = {
    "google": Extra("google.cloud.datastore", "google-cloud-datastore"),
    "crypto": Extra("cryptography", "cryptography"),
    "memcached": Extra("pymemcache", "pymemcache"),
    "database": Extra("sqlalchemy", "SQLAlchemy"),
    "redis": Extra("redis", "redis"),
    "functions": Extra("functions_framework", "functions-framework"),
    "otel": Extra("opentelemetry.metrics", "opentelemetry-api"),
    "prometheus": Extra("prometheus_client", "prometheus_client"),
    "cli": Extra("rich_argparse", "rich-argparse"),
    "secrets": Extra("google.cloud.secretmanager", "google-cloud-secret-manager"),
}


def how_to_install(extra: str) -> str:
    """The command that adds ``extra`` to an installed Beaker."""
    return f"pip install 'beaker-gae[{extra}]'"
