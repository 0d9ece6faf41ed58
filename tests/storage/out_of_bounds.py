"""``python out_of_bounds.py PLACE READ_ONLY DATA``: uses everything that keeps files in PLACE, as a user who may not.

Prints for each user of the directory the class of the error and its message, or what went well, as JSON. Started as
root it becomes ``nobody`` first, since root may write everywhere.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from beaker.cache import Cache
from beaker.locking.factories import FileLocks
from beaker.middleware import SessionMiddleware
from beaker.storage.dbm import DbmStore
from beaker.storage.files import FileStore
from beaker.storage.sql import SqlStore
from beaker.synchronization import FileSynchronizer

NOBODY = 65534


def session(**options: Any) -> None:
    """A request that saves a session."""
    failed: list[BaseException] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["beaker.session"]["a"] = 1
        environ["beaker.session"].save()
        try:
            environ["beaker.session"].persist()
        except BaseException as err:
            failed.append(err)
        return []

    wrapped = SessionMiddleware(application, secret="6bf2a7a1f4d94ee1a8e8b0c35d7a49f0c2f1", **options)
    list(wrapped({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "wsgi.url_scheme": "http"}, lambda *_: bytes))
    if failed:
        raise failed[0]


def turn(lock: Any, *, wait: bool = True) -> None:
    if lock.acquire(wait):
        lock.release()


def read(synchronizer: FileSynchronizer) -> None:
    synchronizer.acquire_read_lock()
    synchronizer.release_read_lock()


def users(place: str, data: str) -> dict[str, Callable[[], Any]]:
    """What keeps files in ``place``: stores, caches, sessions, and locks of every kind; ``data`` may be written."""
    url = f"sqlite:///{place}/beaker.db"
    elsewhere = {"lock": "file", "lock_dir": place}
    # By default a cache without its store creates the value and returns it.
    told: dict[str, Any] = {"on_unavailable": "raise"}
    return {
        "file store": lambda: FileStore(place).set("n", "k", b"v", ttl=None),
        "file store's locks": lambda: FileStore(data, lock_dir=place).set("n", "k", b"v", ttl=None),
        "dbm store": lambda: DbmStore(place).set("n", "k", b"v", ttl=None),
        "dbm module": lambda: DbmStore(place, dbmmodule="dbm.dumb").set("n", "k", b"v", ttl=None),
        "dbm module's locks": lambda: DbmStore(data, dbmmodule="dbm.dumb", lock_dir=place).set("n", "k", b"", ttl=None),
        "sqlite store": lambda: SqlStore(url).set("n", "k", b"v", ttl=None),
        "file cache": lambda: Cache(place, type="file", file_dir=place).put("k", "v"),
        "file cache creating": lambda: Cache(place, type="file", data_dir=place, **told).get("k", createfunc=str),
        "dbm cache": lambda: Cache(place, type="dbm", dbm_dir=place).put("k", "v"),
        "dbm cache creating": lambda: Cache(place, type="dbm", data_dir=place, **told).get("k", createfunc=str),
        "sqlite cache": lambda: Cache(place, type="ext:database", url=url).put("k", "v"),
        "sqlite cache's locks": lambda: Cache(place, type="ext:database", url="sqlite://", **told, **elsewhere).get(
            "k", createfunc=str
        ),
        "file session": lambda: session(type="file", data_dir=place),
        "dbm session": lambda: session(type="dbm", data_dir=place),
        "sqlite session": lambda: session(type="ext:database", url=url),
        "creation lock": lambda: turn(FileLocks(place).creation("n", "k")),
        "reader": lambda: read(FileSynchronizer("n", place)),
        "writer": lambda: turn(FileSynchronizer("n", place)),
        "writer that does not wait": lambda: turn(FileSynchronizer("n", place), wait=False),
    }


def warm_up() -> None:
    """Import what is imported late: the user one becomes may not be able to read this Python's library."""
    with tempfile.TemporaryDirectory(dir="/tmp") as fine:
        for use in users(f"{fine}/place", f"{fine}/data").values():
            use()


def main(place: str, watched: str, data: str) -> None:
    warm_up()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    elif watched:
        os.chmod(watched, 0o500)
    said = {}
    for name, use in users(place, data).items():
        try:
            said[name] = ("fine", repr(use()))
        except Exception as err:
            said[name] = (type(err).__name__, str(err))
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
