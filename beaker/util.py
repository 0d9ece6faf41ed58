"""Utilities under the names of the manual's 5.1.6; each lives in a module of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from beaker.compat.converters import asbool, asint, aslist
from beaker.compat.identity import machine_identifier
from beaker.compat.params import coerce_cache_params, coerce_session_params, verify_options, verify_rules
from beaker.compat.serializers import JsonSerializer, PickleSerializer, deserialize, serialize
from beaker.config.parse import parse_cache
from beaker.keys import func_namespace
from beaker.locking.registries import SyncDict, ThreadLocal, WeakValuedRegistry
from beaker.paths import encoded_path, verify_directory

__all__ = [
    "JsonSerializer",
    "PickleSerializer",
    "SyncDict",
    "ThreadLocal",
    "WeakValuedRegistry",
    "asbool",
    "asint",
    "aslist",
    "coerce_cache_params",
    "coerce_session_params",
    "deserialize",
    "encoded_path",
    "func_namespace",
    "machine_identifier",
    "parse_cache_config_options",
    "serialize",
    "verify_directory",
    "verify_options",
    "verify_rules",
]


def parse_cache_config_options(config: Mapping[str, Any], include_defaults: bool = True) -> dict[str, Any]:
    """The cache options in ``config``, coerced, for ``CacheManager(**options)``.

    Keys are prefixed by ``cache.`` or ``beaker.cache.``; when none is, all of ``config`` is options. The
    result's ``cache_regions`` has each region's options, the general ones filled in. With
    ``include_defaults`` it always has ``type``, ``expire`` and ``enabled``. Raises ConfigError naming the
    option for one that cannot be used, and warns with ConfigWarning of unknown ones.
    """
    return parse_cache(config, include_defaults=include_defaults)
