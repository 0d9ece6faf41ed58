"""Stores that several hosts share, each on its real server, by name."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from beaker._typing import Clock

__all__ = ["SHARED", "open_store", "session_options"]

SHARED = ("memcached", "redis", "sqlite", "postgres", "dbm", "file", "google", "google on firestore")


def open_store(name: str, request: pytest.FixtureRequest, clock: Clock, directory: Path) -> Any:
    """A store of kind ``name`` that reads ``clock``, in a place that no other test uses."""
    if name == "memcached":
        from beaker.storage.memcached import MemcachedStore

        server = request.getfixturevalue("memcached_server")
        return MemcachedStore(f"{server.host}:{server.port}", clock=clock, prefix=_fresh())
    if name == "redis":
        from beaker.storage.redis import RedisStore

        return RedisStore(request.getfixturevalue("redis_server").url, clock=clock, prefix=_fresh())
    if name in ("sqlite", "postgres"):
        from beaker.storage.sql import SqlStore

        url = f"sqlite:///{directory}/shared.db" if name == "sqlite" else request.getfixturevalue("postgres_server").url
        return SqlStore(url, table_name=_fresh(), clock=clock)
    if name == "dbm":
        from beaker.storage.dbm import DbmStore

        return DbmStore(str(directory), clock=clock)
    if name == "file":
        from beaker.storage.files import FileStore

        return FileStore(str(directory), clock=clock)
    from beaker.storage.datastore import DatastoreStore

    emulator = request.getfixturevalue("firestore_emulator" if "firestore" in name else "datastore_emulator")
    return DatastoreStore(project=_fresh().replace("_", "-"), emulator_host=emulator.host, clock=clock)


def session_options(name: str, request: pytest.FixtureRequest, directory: Path) -> dict[str, Any]:
    """The session options that keep sessions on the server ``name``, in a place that no other test uses."""
    if name == "memcached":
        server = request.getfixturevalue("memcached_server")
        return {"type": "ext:memcached", "url": f"{server.host}:{server.port}", "prefix": _fresh()}
    if name == "redis":
        return {"type": "ext:redis", "url": request.getfixturevalue("redis_server").url, "prefix": _fresh()}
    if name in ("sqlite", "postgres"):
        url = f"sqlite:///{directory}/shared.db" if name == "sqlite" else request.getfixturevalue("postgres_server").url
        return {"type": "ext:database", "url": url, "table_name": _fresh()}
    if name in ("dbm", "file"):
        return {"type": name, "data_dir": str(directory)}
    emulator = request.getfixturevalue("firestore_emulator" if "firestore" in name else "datastore_emulator")
    request.getfixturevalue("monkeypatch").setenv("DATASTORE_EMULATOR_HOST", emulator.host)
    return {"type": "ext:google", "project": _fresh().replace("_", "-")}


def _fresh() -> str:
    return f"t_{uuid.uuid4().hex[:12]}"
