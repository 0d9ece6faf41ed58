"""What cache and store options amount to where they leave it open: asked by the engine and by ``explain`` alike.

Functions of the options and the runtime; nothing is opened or created.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from beaker.config.options import BackendOptions
from beaker.runtime import Runtime

__all__ = ["call_seconds", "lock_directory", "lock_kind", "max_bytes", "max_entries", "project", "store_directory"]

_LOCAL: Final = {"memory": "thread", "file": "file", "dbm": "file"}
"""What ``lock = auto`` means for stores that only this host sees; every other store takes leases."""
_MEMORY: Final = 64 * 2**20


def lock_kind(backend: str, options: Mapping[str, Any], runtime: Runtime, *, versioned: bool) -> str:
    """``lease``, ``file``, ``thread`` or ``none``: who may create a value, ``auto`` resolved.

    ``backend`` is the store's own name; ``versioned``: whether it can hold a lease.
    """
    asked: str = options.get("lock") or "auto"
    if asked != "auto":
        return asked
    kind = _LOCAL.get(backend) or ("lease" if versioned else "thread")
    return "thread" if kind == "file" and not (options.get("lock_dir") and runtime.file_locks) else kind


def max_entries(options: Mapping[str, Any]) -> int:
    """Entries kept in memory at most."""
    return int(options.get("max_entries") or BackendOptions.max_entries)


def max_bytes(options: Mapping[str, Any], runtime: Runtime) -> int:
    """Bytes kept in memory at most: 64 MiB, or a quarter of what the platform gives the instance if that is less."""
    limit = runtime.memory_limit
    return int(options.get("max_bytes") or min(_MEMORY, limit // 4 if limit else _MEMORY))


def store_directory(kind: str, options: Mapping[str, Any], runtime: Runtime) -> str | None:
    """The directory of the ``file`` or ``dbm`` store, absolute; ``None``: a private one in the temporary directory."""
    own, data_dir = options.get(f"{kind}_dir"), options.get("data_dir")
    if own:
        return os.path.abspath(str(own))
    if data_dir:
        return os.path.join(os.path.abspath(str(data_dir)), f"container_{kind}")
    return None if runtime.durable_disk else os.path.join(runtime.temp_dir, "beaker", f"container_{kind}")


def lock_directory(directory: str, options: Mapping[str, Any]) -> str:
    """Where a ``file`` or ``dbm`` store in ``directory`` has its lock files."""
    return os.path.abspath(os.fspath(options.get("lock_dir") or os.path.join(directory, ".locks")))


def call_seconds(options: Mapping[str, Any], argument: str = "timeout") -> dict[str, float]:
    """``store_timeout``, or what it was called before, as the store's ``argument``; empty: the store's own default."""
    older = options.get("deadline" if argument == "deadline" else "socket_timeout")
    seconds = options.get("store_timeout") or older
    return {} if seconds is None else {argument: float(seconds)}


def project(options: Mapping[str, Any], runtime: Runtime) -> str | None:
    """The Google Cloud project, unless a ``client`` brings its own."""
    return options.get("project") or (None if options.get("client") is not None else runtime.project)
