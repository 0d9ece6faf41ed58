"""Locks that a thread of the parent held when a child was forked."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import forks
from beaker._typing import Environ
from beaker.config.parse import parse_session
from beaker.locking.turn import Turn
from beaker.runtime import Runtime
from beaker.session.context import SessionContext
from beaker.session.revocation import Revocations
from beaker.storage.memory import MemoryStore
from beaker.testing.session_harness import SECRET as KEY
from gae.functions import Sessions
from gae.handlers import Handlers
from gae.ndb_context import NDBSource
from gae.settings import Tasks
from tests.test_forks import in_a_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


def _without_waiting(work: Callable[[], object]) -> Callable[[], str]:
    """For a child: what ``work`` returned, or that it was still waiting after seconds."""

    def guarded() -> str:
        # A thread in the parent has the lock and never releases it here.
        signal.alarm(20)
        return str(work())

    return guarded


def _sessions() -> dict[str, tuple[object, str, Callable[[], object]]]:
    """Objects of sessions and of the kit, the name of their lock, and what takes it."""
    context = SessionContext(parse_session({"session.type": "memory", "session.secret": KEY}))
    points = Revocations(MemoryStore(), interval=60.0, lifetime=None, clock=lambda: 1.0)
    function = Sessions(None, {"type": "memory", "secret": KEY})
    handlers = Handlers(lambda *_: [], runtime=Runtime(), tasks=Tasks(), stores=list)
    environ: Environ = {"PATH_INFO": "/_ah/warmup", "REQUEST_METHOD": "GET"}

    def start(*_: object) -> Callable[[bytes], object]:
        return len

    ndb = NDBSource()
    ndb._make = lambda: "client"  # type: ignore[method-assign]
    return {
        "SessionContext": (context, "_lock", lambda: context.records is not None),
        "Revocations": (points, "_lock", lambda: len(points.mark()) == 8),
        "with_session": (function, "_lock", lambda: function.context() is not None),
        "Handlers": (handlers, "_warming", lambda: [*handlers(environ, start)] != [] and handlers._is_warm),
        "NDBSource": (ndb, "_lock", lambda: ndb.client == "client"),
    }


@pytest.mark.parametrize("name", ["SessionContext", "Revocations", "with_session", "Handlers", "NDBSource"])
def test_a_child_forked_while_a_lock_is_held_does_not_wait_for_it(name: str) -> None:
    """The thread that held it is not in the child, where the lock is a new one; in the parent it goes on."""
    owner, lock, work = _sessions()[name]
    with _held(getattr(owner, lock)):
        assert in_a_child(_without_waiting(work)) == "True"
    assert work()


@contextlib.contextmanager
def _held(lock: Any) -> Iterator[None]:
    """Around what happens while the lock is held, which it still is at the end."""
    if isinstance(lock, Turn):
        place = object()
        assert lock.take(place)
        yield
        assert lock.holder is place
        lock.free(place)
    else:
        with lock:
            yield
            assert lock.locked()


LOCKS = re.compile(r"self\.(\w+)\b[^=\n]*= threading\.R?Lock\(\)")
ELSEWHERE = {
    # Of one request or call, which no fork outlives, or of objects that their owner replaces at a fork.
    "beaker/caching/marks.py",
    "beaker/caching/timeouts.py",
    "beaker/locking/flag.py",
    "beaker/locking/readwrite.py",
    "beaker/locking/turn.py",
    "beaker/loops/hops.py",
    "beaker/session/async_proxy.py",
    "beaker/storage/datastore/connection.py",
    "beaker/storage/dbm/sqlite_files.py",
    "beaker/storage/sql/binding.py",
}


def test_every_lock_is_renewed_in_a_child() -> None:
    """A class that creates a lock of the standard library registers for forks, but for those that need not."""
    root = Path(forks.__file__).parents[1]
    found: set[str] = set()
    for path in (*root.glob("beaker/**/*.py"), *root.glob("gae/**/*.py")):
        for block in re.split(r"^class ", path.read_text("utf-8"), flags=re.MULTILINE)[1:]:
            if LOCKS.search(block) and "ForkAware" not in block.partition("\n")[0] and "_after_fork" not in block:
                found.add(path.relative_to(root).as_posix())
    assert found == ELSEWHERE
