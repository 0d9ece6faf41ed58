"""The registry of backends: from a type's name to its manager class. :mod:`beaker.backends` is its public face.

Targets are strings, so that a backend and its client library are imported when it is first used. Entry
points are looked up only for a name that is not known here: that look-up alone costs more than importing
Beaker.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from beaker.caching.namespace import NamespaceManager
from beaker.config.extras import EXTRAS, how_to_install
from beaker.exceptions import InvalidCacheBackendError

__all__ = ["ENTRY_POINTS", "consult", "known", "load", "register_backend"]

ENTRY_POINTS = "beaker.backends"
"""The entry point group third-party distributions declare."""

_BUILTIN = {
    "memory": "beaker.container:MemoryNamespaceManager",
    "file": "beaker.container:FileNamespaceManager",
    "dbm": "beaker.container:DBMNamespaceManager",
    "null": "beaker.container:NullNamespaceManager",
    "ext:memcached": "beaker.ext.memcached:MemcachedNamespaceManager",
    "memcached": "beaker.ext.memcached:MemcachedNamespaceManager",
    "ext:database": "beaker.ext.database:DatabaseNamespaceManager",
    "database": "beaker.ext.database:DatabaseNamespaceManager",
    "ext:sqla": "beaker.ext.sqla:SqlaNamespaceManager",
    "sqla": "beaker.ext.sqla:SqlaNamespaceManager",
    "ext:google": "beaker.ext.google:GoogleNamespaceManager",
    "google": "beaker.ext.google:GoogleNamespaceManager",
    "ext:redis": "beaker.ext.redis:RedisNamespaceManager",
    "redis": "beaker.ext.redis:RedisNamespaceManager",
}
_OLDER = {
    "ext:mongodb": "beaker.ext.mongodb:MongoNamespaceManager",
    "ext:rediscluster": "beaker.ext.rediscluster:RedisClusterNamespaceManager",
}
"""Names of Beaker up to 1.14 that no message offers."""
_EXTRAS = {
    "beaker.ext.memcached": "memcached",
    "beaker.ext.database": "database",
    "beaker.ext.sqla": "database",
    "beaker.ext.google": "google",
    "beaker.ext.redis": "redis",
    "beaker.ext.rediscluster": "redis",
}
"""The extra of the distribution, by the module that needs it."""

_SESSIONS = ("cookie", "hybrid")
"""Types that are sessions' alone."""

_registered: dict[str, str | type[NamespaceManager]] = {}
_loaded: dict[str, type[NamespaceManager]] = {}


_assigned: Callable[[str], Any] = lambda name: None  # noqa: E731 (a variable, which consult() sets)


def consult(assigned: Callable[[str], Any]) -> None:
    """Look up each name by ``assigned`` first; what it returns, if not ``None``, is the manager class."""
    global _assigned
    _assigned = assigned


def known() -> list[str]:
    """The names that need no entry point look-up, sorted."""
    return sorted({*_BUILTIN, *_registered})


def register_backend(name: str, target: str | type[NamespaceManager]) -> None:
    """Make ``type = name`` mean ``target``: a NamespaceManager class or ``'module:attribute'``.

    A later registration of the name wins, also over a backend of Beaker's own. The module is imported
    when the backend is first used.
    """
    if isinstance(target, str) and not all(target.partition(":")[::2]):
        raise InvalidCacheBackendError(
            f"backend {name!r} cannot be registered",
            option="target",
            expected="a class or 'module:attribute'",
            code="config.broken-backend",
        )
    _registered[name] = target
    _loaded.pop(name, None)


def load(name: str | type[NamespaceManager], *, sessions: bool = False) -> type[NamespaceManager]:
    """The manager class of a backend's name; a class is given back as it is.

    ``sessions``: it is the type of sessions, of which there are more. Raises InvalidCacheBackendError for an unknown
    name (with the nearest known one), a target that cannot be imported, or one that is no manager class.
    """
    if not isinstance(name, str):
        return _checked(name, getattr(name, "__name__", type(name).__name__))
    own = _assigned(name)
    if own is not None:
        return _checked(own, name)
    found = _loaded.get(name)
    if found is None:
        target = _registered.get(name) or _BUILTIN.get(name) or _OLDER.get(name)
        manager = _resolve(name, target) if target is not None else _from_entry_points(name, sessions)
        found = _loaded[name] = _checked(manager, name)
    return found


def _resolve(name: str, target: str | type[NamespaceManager]) -> Any:
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    _require_extra(name, module)
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as err:
        raise InvalidCacheBackendError(
            f"backend {name!r} cannot be loaded from {target!r}: {err}", option="type", code="config.broken-backend"
        ) from err
    return found


def _require_extra(name: str, module: str) -> None:
    if module not in _EXTRAS:
        return
    extra = _EXTRAS[module]
    package = EXTRAS[extra].module
    try:
        found = find_spec(package) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise InvalidCacheBackendError(
            f"backend {name!r} needs the package {package!r}",
            option="type",
            hint=how_to_install(extra),
            code="config.missing-package",
        )


def _from_entry_points(name: str, sessions: bool) -> Any:
    from importlib.metadata import entry_points

    bare = name.removeprefix("ext:")
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in (name, bare):
            try:
                return point.load()
            except Exception as err:  # the distribution is foreign, and so are the errors of its import
                raise InvalidCacheBackendError(
                    f"backend {name!r} cannot be loaded from {point.value!r}: {err}",
                    option="type",
                    code="config.broken-backend",
                ) from err
    import difflib

    types = sorted([*known(), *_SESSIONS]) if sessions else known()
    near = difflib.get_close_matches(name, types, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(other) for other in near)}?" if near else ""
    if name in _SESSIONS:
        hint = f"{name!r} is a type of sessions, which no cache and no store has"
    raise InvalidCacheBackendError(
        f"there is no {'session type' if sessions else 'cache backend'} {name!r}",
        option="type",
        expected="one of " + ", ".join(types),
        hint=hint,
    )


def _checked(manager: Any, name: str) -> type[NamespaceManager]:
    if isinstance(manager, type) and issubclass(manager, NamespaceManager):
        return manager
    raise InvalidCacheBackendError(
        f"backend {name!r} is no NamespaceManager class",
        option="type",
        expected="a subclass of NamespaceManager",
        code="config.broken-backend",
    )
