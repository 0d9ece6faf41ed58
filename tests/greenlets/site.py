"""One WSGI application for greenlets: everything of Beaker that waits, built when this module is imported.

Each path does something that must not overlap with itself, sleeping in the middle as a call to a database would. The
response is ``ok``, or says what overlapped.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from beaker.cache import CacheManager
from beaker.locking.registries import SyncDict, ThreadLocal
from beaker.middleware import SessionMiddleware
from beaker.synchronization import ConditionSynchronizer, FileSynchronizer, NameLock

NAP = 0.03
KINDS = ("memory", "file", "dbm", "sqlite")
DATA = os.environ["GREENLETS_DATA"]


def options(kind: str, prefix: str = "") -> dict[str, Any]:
    named: dict[str, Any] = {"type": kind, "data_dir": f"{DATA}/{prefix}{kind}"}
    if kind == "sqlite":
        named = {"type": "ext:database", "url": f"sqlite:///{DATA}/{prefix}shared.db"}
    return named


class Alone:
    """Counts how many are inside; more than one at a time is noted."""

    def __init__(self) -> None:
        self.inside = self.most = self.entered = 0

    def __enter__(self) -> None:
        self.inside += 1
        self.entered += 1
        self.most = max(self.most, self.inside)
        time.sleep(NAP)

    def __exit__(self, *_: object) -> None:
        self.inside -= 1

    def verdict(self) -> str:
        return "ok" if self.most == 1 else f"{self.most} at a time"


alone: dict[str, Alone] = {}
named = NameLock("name")
own = NameLock(reentrant=True)
condition = ConditionSynchronizer("condition")
file = FileSynchronizer("file", f"{DATA}/locks")
built: SyncDict[str, Alone] = SyncDict()
per_thread = ThreadLocal()
managers = {kind: CacheManager(**options(kind, "cache-"), expire=600) for kind in KINDS}


def with_lock(name: str, acquire: Callable[[], Any], release: Callable[[], Any]) -> str:
    acquire()
    try:
        with alone.setdefault(name, Alone()):
            pass
    finally:
        release()
    return alone[name].verdict()


def cached(kind: str, key: str) -> str:
    def create() -> str:
        with alone.setdefault(f"{kind} {key}", Alone()):
            note(kind, key)
            return "value"

    value = managers[kind].get_cache("n").get(key, createfunc=create)
    created = alone[f"{kind} {key}"].entered if kind == "memory" else len(noted(kind, key))
    return "ok" if (value, created) == ("value", 1) else f"{value}, created {created} times"


def note(kind: str, key: str) -> None:
    """Leave one byte where every worker sees it."""
    with open(f"{DATA}/created-{kind}-{key}", "ab") as file:
        file.write(b"1")


def noted(kind: str, key: str) -> bytes:
    with open(f"{DATA}/created-{kind}-{key}", "rb") as file:
        return file.read()


def build_once(key: str) -> str:
    def build() -> Alone:
        with alone.setdefault(f"dict {key}", Alone()):
            return Alone()

    built.get(key, build)
    return "ok" if alone[f"dict {key}"].entered == 1 else "built twice"


def thread_value() -> str:
    mine = object()
    per_thread.put(mine)
    time.sleep(NAP)
    return "ok" if per_thread.get() is mine else "another greenlet's value"


def session_lock(environ: dict[str, Any], kind: str) -> str:
    session = environ["beaker.session"]
    session.lock()
    try:
        with alone.setdefault(f"session {kind}", Alone()):
            session["n"] = session.get("n", 0) + 1
            session.save()
            session.persist()
    finally:
        session.unlock()
    return alone[f"session {kind}"].verdict()


def respond(environ: dict[str, Any]) -> str:
    match environ["PATH_INFO"].strip("/").split("/"):
        case ["count", _]:
            return str(environ["beaker.session"].get("n", 0))
        case ["start", _]:
            environ["beaker.session"]["n"] = 0
            environ["beaker.session"].save()
            return "ok"
        case ["session", kind]:
            return session_lock(environ, kind)
        case ["left", _]:
            environ["beaker.session"].lock()
            raise RuntimeError("a view that fails")
        case ["cached", kind, key]:
            return cached(kind, key)
        case ["named"]:
            return with_lock("named", named.acquire, named.release)
        case ["own"]:
            return with_lock("own", own.acquire, own.release)
        case ["condition"]:
            return with_lock("condition", condition.acquire_write_lock, condition.release_write_lock)
        case ["file"]:
            return with_lock("file", file.acquire_write_lock, file.release_write_lock)
        case ["dict", key]:
            return build_once(key)
        case ["local"]:
            return thread_value()
        case ["patched"]:
            return "ok" if threading.Lock.__module__ != "_thread" else "not patched"
    return "no such path"


def site(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    try:
        text = respond(environ)
    except RuntimeError:
        raise
    except Exception as err:
        text = f"{type(err).__name__}: {err}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]


wrapped = {
    kind: SessionMiddleware(
        site, **options(kind, "session-"), key=f"{kind}.id", secret="6bf2a7a1f4d94ee1a8e8b0c35d7a49f0c2f1"
    )
    for kind in KINDS
}


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The site with the session of the path's kind."""
    kind = environ["PATH_INFO"].strip("/").split("/")[-1]
    return wrapped.get(kind, site)(environ, start_response)
