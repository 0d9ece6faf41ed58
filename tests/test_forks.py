"""Forks and patches of threading: one hook for the process, what is called in which order, what is renewed."""

from __future__ import annotations

import concurrent.futures
import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beaker import forks
from beaker.forks import ForkAware, ForkGate, after_fork
from beaker.locking.creation import CreationLock
from beaker.locking.registries import SyncDict, ThreadLocal
from beaker.storage.dbm import DbmStore
from beaker.storage.memory import MemoryStore
from beaker.storage.redis import RedisStore
from beaker.storage.sql import SqlStore
from beaker.synchronization import ConditionSynchronizer, FileSynchronizer, NameLock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


def in_a_child(work: Callable[[], str]) -> str:
    """What ``work`` returns in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, work().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


class Noting(ForkAware):
    def __init__(self, notes: list[str], name: str) -> None:
        self.notes = notes
        self.name = name
        super().__init__()

    def _before_fork(self) -> None:
        self.notes.append(f"{self.name} before")

    def _after_fork_in_parent(self) -> None:
        self.notes.append(f"{self.name} parent")

    def _after_fork(self) -> None:
        self.notes.append(f"{self.name} child")

    def noted(self) -> None:
        self.notes.append(f"{self.name} hook")


class Freezing(Noting):
    _freezes = True


def test_one_registration_for_everything() -> None:
    """Whatever Beaker imports and however many objects it builds, the interpreter is given one set of hooks."""
    program = """
import os
given = []
os.register_at_fork = lambda **hooks: given.append(hooks)
import beaker.middleware, beaker.cache, beaker.util, beaker.synchronization, gae
from beaker.storage.dbm import DbmStore
from beaker.storage.files import FileStore
from beaker.storage.memory import MemoryStore
from beaker.storage.datastore import connection
from beaker.locking.registries import SyncDict
from gae import emulator, ndb_context
kept = [SyncDict() for _ in range(1000)], [MemoryStore(), DbmStore("x"), FileStore("x")]
print([(sorted(hooks), {hook.__module__ for hook in hooks.values()}) for hooks in given
       if any(hook.__module__.startswith(("beaker", "gae")) for hook in hooks.values())])
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[(['after_in_child', 'after_in_parent', 'before'], {'beaker.forks'})]"


def test_a_thousand_maps_leave_nothing_behind() -> None:
    """What is collected is no longer called at a fork, nor kept."""
    gc.collect()
    before = len(forks._watched)
    maps = [SyncDict[str, int]() for _ in range(1000)]
    assert {id(each) for each in maps} <= {id(each) for each in forks._watched.values()}
    del maps
    gc.collect()
    # Less where something of another test goes meanwhile.
    assert len(forks._watched) <= before


def test_order() -> None:
    """Freezing comes last before a fork and is undone first; a child calls functions, then objects."""
    notes: list[str] = []
    kept = [Freezing(notes, "ice"), Noting(notes, "one"), Noting(notes, "two")]
    after_fork(kept[2].noted)
    child = in_a_child(lambda: ", ".join(notes))
    assert child == "one before, two before, ice before, two hook, ice child, one child, two child"
    assert notes == ["one before", "two before", "ice before", "ice parent", "two parent", "one parent"]


def test_a_method_is_held_weakly() -> None:
    """A hook that is a bound method keeps its object no longer than other references do."""
    notes: list[str] = []
    item = Noting(notes, "one")
    after_fork(item.noted)
    held = weakref.ref(item)
    hooks = len(forks._hooks)
    del item
    gc.collect()
    assert held() is None
    assert len(forks._hooks) == hooks - 1


def test_a_method_whose_object_ends_with_the_process_prints_nothing() -> None:
    """Python ends a script's objects and what refers to them in an order of its own."""
    script = """
from beaker.forks import after_fork
class Thing:
    def __init__(self): after_fork(self.hook)
    def hook(self): pass
kept = Thing()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_one_failure_does_not_keep_the_others_from_being_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in one object's hook is reported by the interpreter after every other object was called."""
    notes: list[str] = []
    reported: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reported.append(str(report.exc_value)))

    class Failing(Noting):
        def _before_fork(self) -> None:
            raise ValueError("broken")

    kept = [Failing(notes, "bad"), Noting(notes, "good")]
    in_a_child(str)
    assert {"good before", "good parent"} <= set(notes)
    assert reported == ["broken"]
    del kept


def test_what_was_created_between_the_hook_and_the_fork_is_renewed() -> None:
    """An object that another thread creates while the fork is on its way is new in the child all the same."""
    notes: list[str] = []
    late: list[Noting] = []

    class Creating(Noting):
        def _before_fork(self) -> None:
            late.append(Noting(notes, "late"))

    kept = Creating(notes, "first")
    assert "late child" in in_a_child(lambda: ", ".join(notes))
    assert "late parent" not in notes
    del kept


def test_two_threads_may_fork_at_once() -> None:
    """Each fork undoes what it did itself; stores and gates are usable in both children and in the parent."""
    store, gate = MemoryStore(), ForkGate()
    store.set("n", "k", b"v", ttl=None)

    class Gated(ForkAware):
        def _before_fork(self) -> None:
            gate.close()

        def _after_fork_in_parent(self) -> None:
            gate.open()

        def _after_fork(self) -> None:
            gate.reset()

    kept = Gated()

    def use() -> str:
        with gate:
            return str(store.get("n", "k"))

    said: list[str] = []
    threads = [threading.Thread(target=lambda: said.extend(in_a_child(use) for _ in range(10))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["b'v'"] * 30
    assert use() == "b'v'"
    del kept


def test_a_platform_that_cannot_fork() -> None:
    """Without os.register_at_fork everything imports and works."""
    program = """
import os
del os.register_at_fork, os.fork
import beaker.middleware, beaker.cache, beaker.synchronization
from beaker.storage.memory import MemoryStore
store = MemoryStore()
store.set("n", "k", b"v", ttl=None)
print(store.get("n", "k"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("b'v'", "")


class TestAPatch:
    """What gevent's monkey.patch_all() does to threading, without gevent."""

    @pytest.fixture(autouse=True)
    def patchable(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Undone with everything renewed, so that no later test gets one of these locks."""
        forks.notice_patch()
        with monkeypatch.context() as patch:
            self.patch = patch
            yield
        forks.notice_patch()

    def replace_locks(self) -> list[object]:
        """Every lock created from now on is noted."""
        created: list[object] = []
        native = threading._allocate_lock  # type: ignore[attr-defined]

        def lock() -> object:
            created.append(native())
            return created[-1]

        self.patch.setattr(threading, "Lock", lock)
        return created

    def test_what_is_free_is_made_anew(self) -> None:
        """Locks that were created before the patch are replaced at the first use after it, once."""
        lock = NameLock()
        created = self.replace_locks()
        old = lock._mutex._turn._guard
        lock.acquire()
        lock.release()
        assert lock._mutex._turn._guard is not old
        assert lock._mutex._turn._guard in created
        new = lock._mutex._turn._guard
        lock.acquire()
        lock.release()
        assert lock._mutex._turn._guard is new

    def test_what_is_held_stays(self) -> None:
        """A lock that is held while threading is patched excludes until it is released, and is released as it was."""
        held, free = NameLock("held"), NameLock("free")
        synchronizer = ConditionSynchronizer("held")
        held.acquire()
        synchronizer.acquire_write_lock()
        self.replace_locks()
        free.acquire()
        assert not NameLock("held").acquire(wait=False)
        assert not elsewhere(lambda: ConditionSynchronizer("held").acquire_write_lock(False))
        held.release()
        synchronizer.release_write_lock()
        free.release()
        assert NameLock("held").acquire(wait=False)
        NameLock("held").release()

    def test_every_lock_that_waits_is_renewed(self, tmp_path: Path) -> None:
        """Stores, registries and locks of every kind: none keeps a lock from before the patch."""
        made = {
            "map": SyncDict[str, int](),
            "memory": MemoryStore(),
            "dbm": DbmStore(tmp_path),
            "sql": SqlStore(f"sqlite:///{tmp_path}/x.db"),
            "redis": RedisStore("redis://localhost:1"),
            "condition": ConditionSynchronizer("renewed"),
            "file": FileSynchronizer("renewed", tmp_path),
            "creation": CreationLock(),
        }
        for name in ("dbm", "sql"):
            made[name].set("n", "k", b"v", ttl=None)  # type: ignore[attr-defined]
        before = {name: locks_in(item) for name, item in made.items()}
        assert all(before.values()), before
        self.replace_locks()
        self.patch.setattr(threading, "RLock", lambda: threading._RLock())
        forks.notice_patch()
        for name, item in made.items():
            assert not before[name] & locks_in(item), name
        assert made["dbm"].get("n", "k") == made["sql"].get("n", "k") == b"v"  # type: ignore[attr-defined]

    def test_a_thread_local_value_stays(self) -> None:
        """ThreadLocal keeps the value of the thread that patches, and separates greenlets from then on."""
        local = ThreadLocal()
        local.put(1)
        before = local._local
        self.replace_locks()
        assert local.get() == 1
        assert local._local is not before


def elsewhere(work: Callable[[], object]) -> object:
    """What ``work`` returns in another thread."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def locks_in(item: object, depth: int = 4) -> set[int]:
    """The locks that one of our objects holds, by identity, through its own objects and their containers."""
    found: set[int] = set()
    pending = [(item, depth)]
    while pending:
        thing, left = pending.pop()
        if type(thing).__name__ in ("lock", "RLock", "_RLock"):
            _kept.append(thing)
            found.add(id(thing))
        elif left and isinstance(thing, threading.Condition):
            pending.append((thing._lock, left))  # type: ignore[attr-defined]
        elif left and type(thing).__module__.startswith("beaker."):
            pending += [(value, left - 1) for value in getattr(thing, "__dict__", {}).values()]
        elif left and isinstance(thing, (dict, list)):
            pending += [(value, left - 1) for value in (thing.values() if isinstance(thing, dict) else thing)]
    return found


_kept: list[object] = []
"""So that no identity is used twice."""
