"""Exceptions from outside at any point of taking and releasing a lock: none of them shuts it."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from beaker.caching import timeouts
from beaker.caching.timeouts import Outcome
from beaker.exceptions import LockError
from beaker.locking.factories import FileLocks, ThreadLocks
from beaker.locking.stripes import Stripes
from beaker.synchronization import ConditionSynchronizer, FileSynchronizer, NameLock
from beaker.testing.lock import elsewhere
from tests.faults.aborting import Abort, each_line

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

Make = Callable[[], "tuple[Callable[..., Any], Callable[[], Any]]"]


def _reading(synchronizer: Any) -> tuple[Callable[..., Any], Callable[[], Any]]:
    return synchronizer.acquire_read_lock, synchronizer.release_read_lock


def _plain(lock: Any) -> tuple[Callable[..., Any], Callable[[], Any]]:
    return lock.acquire, lock.release


def _striped(directory: str | None) -> tuple[Callable[..., Any], Callable[[], Any]]:
    held = Stripes(directory, timeout=0.05)(7)
    enter: Callable[[], object] = held.__enter__
    return lambda *_: enter() is None, partial(held.__exit__, None, None, None)


def makers(directory: str) -> dict[str, Make]:
    """By name, what gives both methods of a lock: each call a new object, of one and the same lock."""
    threads = ThreadLocks()
    kept = [threads.creation("n", "k")]
    return {
        "creation": lambda: _plain(kept[0]),
        "creation among processes": lambda: _plain(FileLocks(directory, file_locks=True).creation("n", "k")),
        "stripe": lambda: _striped(None),
        "stripe among processes": lambda: _striped(directory),
        "name": lambda: _plain(NameLock("aborted")),
        "reentrant name": lambda: _plain(NameLock("aborted", reentrant=True)),
        "writer": lambda: _plain(ConditionSynchronizer("aborted")),
        "reader": lambda: _reading(ConditionSynchronizer("aborted")),
        "writer among processes": lambda: _plain(FileSynchronizer("aborted", directory, file_locks=True)),
        "reader among processes": lambda: _reading(FileSynchronizer("aborted", directory, file_locks=True)),
    }


KINDS = list(makers(""))
LEAST = 2 if sys.version_info >= (3, 12) else 4
"""At how many points a call is aborted at least; since Python 3.12 signals are handled at fewer."""


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    return makers(str(tmp_path / "locks"))[request.param]


def is_free(make: Make, name: str) -> bool:
    """Whether another thread gets the lock alone, at once or when what the abort left is collected."""
    return _gets(make, name) or (gc.collect() >= 0 and _gets(make, name))


def _gets(make: Make, name: str) -> bool:
    acquire, release = make()
    if name.startswith("reader"):
        acquire, release = _plain(acquire.__self__)  # type: ignore[attr-defined]

    def work() -> bool:
        try:
            got = bool(acquire(False))
        except TimeoutError:
            return False
        if got:
            release()
        return got

    return elsewhere(work)


@pytest.mark.parametrize(("make", "name"), [(kind, kind) for kind in KINDS], indirect=["make"], ids=KINDS)
@pytest.mark.parametrize("arguments", [(), (True, 1.0)], ids=["waiting", "with a timeout"])
def test_an_aborted_acquire_leaves_the_lock_free(make: Make, name: str, arguments: tuple[Any, ...]) -> None:
    """Whichever point of taking a lock an exception from outside hits, it is not held, and others get it."""
    if name.startswith("reader") and len(arguments) == 2:
        arguments = arguments[:1]
    aborted = 0
    acquire, release = make()
    taken: list[bool] = []
    for _ in each_line(lambda: taken.append(acquire(*arguments)), Abort, 1):  # noqa: B023
        if taken:
            assert taken == [True]
            assert not _gets(make, name)
            release()
        else:
            aborted += 1
        assert is_free(make, name), f"abort {aborted} has left the lock held"
        acquire, release = make()
    assert aborted >= LEAST


@pytest.mark.parametrize(("make", "name"), [(kind, kind) for kind in KINDS], indirect=["make"], ids=KINDS)
def test_an_aborted_release_can_be_repeated(make: Make, name: str) -> None:
    """Whichever point of a release an exception from outside hits: the lock is free, or held as before it."""
    aborted = 0
    acquire, release = make()
    assert acquire()
    for _ in each_line(lambda: release(), Abort, 1):  # noqa: B023
        aborted += 1
        if not is_free(make, name):
            with contextlib.suppress(LockError):
                release()
        assert is_free(make, name), f"abort {aborted} has left the lock held"
        acquire, release = make()
        assert acquire()
    release()
    assert aborted >= LEAST


def test_an_aborted_call_with_timeouts_leaves_its_thread_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever point of beginning a creation's thread an exception from outside hits, the next one gets a thread."""
    monkeypatch.setattr(timeouts, "_MOST", 1)
    monkeypatch.setattr(timeouts, "_slots", timeouts._Slots())
    aborted = 0
    begun: list[bool] = []
    for _ in each_line(lambda: begun.append(Outcome(object(), None).begin_in_thread(repr, None)), Abort, 1):
        aborted += not begun
        following = Outcome(object(), None)
        assert following.begin_in_thread(lambda outcome: "created", 5.0), f"abort {aborted} has left no thread"
        assert following.ended.wait(60)
        assert following.result() == "created"
        for thread in threading.enumerate():
            # One whose start was aborted may never begin, or not have begun yet.
            if thread.name == "beaker-creation" and thread.is_alive():
                thread.join(60)
    assert begun == [True]
    assert aborted >= LEAST
