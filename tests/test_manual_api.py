"""Every name and signature of the manual's module listing (5.1) is here, callable as it says."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

REQUIRED = inspect.Parameter.empty

# The manual's signatures: "name" is a parameter it requires, ("name", default) one with a default,
# "*name" and "**name" the collecting ones.
SIGNATURES: dict[str, list[Any]] = {
    "beaker.cache:cache_region": ["region", "*deco_args"],
    "beaker.cache:region_invalidate": ["namespace", "region", "*args"],
    "beaker.cache:Cache": [
        "namespace",
        ("type", "memory"),
        ("expiretime", None),
        ("starttime", None),
        ("expire", None),
        "**nsargs",
    ],
    "beaker.cache:Cache.get": ["key", "**kw"],
    "beaker.cache:Cache.clear": [],
    "beaker.cache:CacheManager": ["**kwargs"],
    "beaker.cache:CacheManager.region": ["region", "*args"],
    "beaker.cache:CacheManager.region_invalidate": ["namespace", "region", "*args"],
    "beaker.cache:CacheManager.cache": ["*args", "**kwargs"],
    "beaker.cache:CacheManager.invalidate": ["func", "*args", "**kwargs"],
    "beaker.container:ContainerMeta": ["classname", "bases", "dict_"],
    "beaker.container:DBMNamespaceManager": [
        "namespace",
        ("dbmmodule", None),
        ("data_dir", None),
        ("dbm_dir", None),
        ("lock_dir", None),
        ("digest_filenames", True),
        "**kwargs",
    ],
    "beaker.container:FileNamespaceManager": [
        "namespace",
        ("data_dir", None),
        ("file_dir", None),
        ("lock_dir", None),
        ("digest_filenames", True),
        "**kwargs",
    ],
    "beaker.container:MemoryNamespaceManager": ["namespace", "**kwargs"],
    "beaker.container:NamespaceManager": ["namespace"],
    "beaker.container:NamespaceManager.set_value": ["key", "value", ("expiretime", None)],
    "beaker.container:OpenResourceNamespaceManager": ["namespace"],
    "beaker.container:Value": ["key", "namespace", ("createfunc", None), ("expiretime", None), ("starttime", None)],
    "beaker.container:Value.has_value": [],
    "beaker.middleware:CacheMiddleware": ["app", ("config", None), ("environ_key", "beaker.cache"), "**kwargs"],
    "beaker.synchronization:ConditionSynchronizer": ["identifier"],
    "beaker.synchronization:FileSynchronizer": ["identifier", "lock_dir"],
    "beaker.synchronization:NameLock": [("identifier", None), ("reentrant", False)],
    "beaker.synchronization:SynchronizerImpl": [],
    "beaker.util:encoded_path": ["root", "identifiers", ("extension", "enc"), ("depth", 3), ("digest_filenames", True)],
    "beaker.util:func_namespace": ["func"],
    "beaker.util:SyncDict": [],
    "beaker.util:ThreadLocal": [],
    "beaker.util:verify_directory": ["dir"],
    "beaker.util:parse_cache_config_options": ["config", ("include_defaults", True)],
    "beaker.ext.database:DatabaseNamespaceManager": [
        "namespace",
        ("url", None),
        ("sa_opts", None),
        ("optimistic", False),
        ("table_name", "beaker_cache"),
        ("data_dir", None),
        ("lock_dir", None),
        "**params",
    ],
    "beaker.ext.google:GoogleNamespaceManager": ["namespace", ("table_name", "beaker_cache"), "**params"],
    "beaker.ext.memcached:MemcachedNamespaceManager": [
        "namespace",
        ("url", None),
        ("data_dir", None),
        ("lock_dir", None),
        "**params",
    ],
    "beaker.ext.sqla:make_cache_table": ["metadata", ("table_name", "beaker_cache")],
    "beaker.ext.sqla:SqlaNamespaceManager": [
        "namespace",
        "bind",
        "table",
        ("data_dir", None),
        ("lock_dir", None),
        "**kwargs",
    ],
    "beaker.crypto.pbkdf2:crypt": ["word", ("salt", None), ("iterations", None)],
    "beaker.crypto.pbkdf2:PBKDF2.close": [],
    "beaker.crypto.pbkdf2:PBKDF2.hexread": ["octets"],
    "beaker.crypto.pbkdf2:PBKDF2.read": ["bytes"],
}

NAMES = [
    "beaker.cache:cache_regions",
    "beaker.container:Container",
    "beaker.container:DBMContainer",
    "beaker.container:FileContainer",
    "beaker.container:MemoryContainer",
    "beaker.crypto.pbkdf2:PBKDF2",
    "beaker.ext.database:DatabaseContainer",
    "beaker.ext.google:GoogleContainer",
    "beaker.ext.memcached:MemcachedContainer",
    "beaker.ext.sqla:SqlaContainer",
    # The manual's prose and its list of changes name these too.
    "beaker.cache:Cache.get_value",
    "beaker.cache:Cache.has_key",
    "beaker.cache:Cache.put",
    "beaker.cache:Cache.remove",
    "beaker.cache:Cache.remove_value",
    "beaker.cache:Cache.set_value",
    "beaker.cache:CacheManager.get_cache",
    "beaker.cache:CacheManager.get_cache_region",
    "beaker.container:Value.can_have_value",
    "beaker.container:Value.clear_value",
    "beaker.container:Value.get_value",
    "beaker.container:Value.has_current_value",
    "beaker.container:Value.set_value",
    "beaker.exceptions:CreationAbortedError",
    "beaker.exceptions:InvalidCacheBackendError",
    "beaker.exceptions:InvalidCryptoBackendError",
    "beaker.exceptions:MissingCacheParameter",
]


def find(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def parameters(name: str) -> list[inspect.Parameter]:
    found = find(name)
    if isinstance(found, type):
        signature = inspect.signature(vars(found).get("__init__", found.__init__))  # type: ignore[misc]
        return list(signature.parameters.values())[1:]
    listed = list(inspect.signature(found).parameters.values())
    return listed[1:] if "." in name.partition(":")[2] else listed


@pytest.mark.parametrize("name", [*NAMES, *SIGNATURES])
def test_name_is_there(name: str) -> None:
    """The manual's name can be imported from where it says."""
    find(name)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name: str) -> None:
    """Parameters have the manual's names, order and defaults; what is new is optional and by keyword."""
    ours = parameters(name)
    positional = [p for p in ours if p.kind is p.POSITIONAL_OR_KEYWORD]
    collecting = {str(p).partition(":")[0] for p in ours if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    for expected in SIGNATURES[name]:
        if isinstance(expected, str) and expected.startswith("*"):
            assert expected in collecting
            continue
        wanted, default = expected if isinstance(expected, tuple) else (expected, REQUIRED)
        parameter = positional.pop(0)
        assert parameter.name == wanted
        if default is not REQUIRED:
            assert parameter.default == default
    additions = [*positional, *(p for p in ours if p.kind is p.KEYWORD_ONLY)]
    assert all(parameter.default is not REQUIRED for parameter in additions)
