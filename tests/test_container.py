"""Values, containers, live objects in memory, and where files go."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import beaker.container
from beaker import clock as beaker_clock
from beaker.caching.entry import Entry
from beaker.caching.object_pool import LivePool, approximate_size
from beaker.container import (
    Container,
    ContainerMeta,
    DBMContainer,
    DBMNamespaceManager,
    FileContainer,
    FileNamespaceManager,
    MemoryContainer,
    MemoryNamespaceManager,
    NullNamespaceManager,
    Value,
)
from beaker.exceptions import ConfigError, ConfigWarning, MissingCacheParameter, ValueTooLarge
from beaker.runtime import Platform, Runtime
from beaker.testing.clock import FakeClock
from tests.faults.aborting import Abort, each_line

CLOUD = Runtime(platform=Platform.FUNCTIONS)


def test_time_of_this_module_is_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever replaces beaker.container.time moves the clock of every value."""

    class Frozen:
        @staticmethod
        def time() -> float:
            return 1234.5

    value = Value("a", MemoryNamespaceManager("clock"), expiretime=10.0)
    value.set_value(1)
    monkeypatch.setattr(beaker.container, "time", Frozen)
    assert beaker_clock.now() == 1234.5
    value.set_value(1)
    entry = value.namespace.read("a")
    assert entry is not None
    assert entry.stored == 1234.5


def test_value_without_createfunc() -> None:
    """A value that was not created, and that nothing can create, is a KeyError."""
    value = Value("a", MemoryNamespaceManager("without"))
    assert not value.can_have_value()
    with pytest.raises(KeyError):
        value.get_value()
    value.set_value(5)
    assert (value.can_have_value(), value.has_value(), value.get_value()) == (True, True, 5)
    value.clear_value()
    assert not value.has_value()


def test_storedtime() -> None:
    """A value may be stored as if some time ago; it expires from then."""
    clock = FakeClock()
    value = Value("a", MemoryNamespaceManager("storedtime", clock=clock), expiretime=10.0)
    value.set_value(1, storedtime=clock() - 10)
    assert value.has_value()
    assert not value.has_current_value()


def test_containers(tmp_path: Path) -> None:
    """A container finds its manager by context and namespace, created once."""
    context: dict[str, Any] = {}
    kinds: list[tuple[type[Container], dict[str, Any]]] = [
        (MemoryContainer, {}),
        (FileContainer, {"data_dir": str(tmp_path)}),
        (DBMContainer, {"data_dir": str(tmp_path)}),
    ]
    for cls, kwargs in kinds:
        first = cls("a", context, cls.__name__, createfunc=lambda: 7, expiretime=60, **kwargs)
        second = cls("b", context, cls.__name__, **kwargs)
        assert first.namespace is second.namespace is context[cls.__name__]
        assert isinstance(first.namespace, cls.namespace_class)
        assert isinstance(first, Value)
        assert first.get_value() == 7
        assert not second.has_value()
    alone = MemoryContainer("a", None, "MemoryContainer")
    assert alone.get_value() == 7
    assert isinstance(MemoryContainer.create_namespace("x"), MemoryNamespaceManager)


def test_container_class_needs_a_manager() -> None:
    """A container class whose namespace_class is no manager is refused at its definition."""
    assert type(Container) is ContainerMeta

    with pytest.raises(ConfigError, match="namespace_class"):

        class Wrong(Container):
            namespace_class = dict  # type: ignore[assignment]


def test_memory_keeps_the_object_itself() -> None:
    """The memory backend gives back the very object, picklable or not."""
    manager = MemoryNamespaceManager("live")
    lock = threading.Lock()
    manager["a"] = lock
    assert MemoryNamespaceManager("live")["a"] is lock


def test_memory_is_bounded_by_entries_and_forgets_the_least_recently_used() -> None:
    """Over max_entries the entry not used for longest leaves."""
    manager = MemoryNamespaceManager("entries", max_entries=3, clock=FakeClock())
    for key in "abc":
        manager[key] = key
    assert manager["a"] == "a"
    manager["d"] = "d"
    assert sorted(manager.keys()) == ["a", "c", "d"]
    manager["e"] = "e"
    assert sorted(manager.keys()) == ["a", "d", "e"]


def test_memory_bound_is_for_all_namespaces_together() -> None:
    """Many namespaces do not keep more than one may."""
    clock = FakeClock()
    managers = [MemoryNamespaceManager(f"together-{n}", max_entries=5, clock=clock) for n in range(10)]
    for manager in managers:
        manager["a"] = 1
    assert sum("a" in manager for manager in managers) == 5


def test_memory_is_bounded_by_bytes() -> None:
    """Big values push others out; one that could never fit is refused, pushes nothing out and leaves nothing old."""
    manager = MemoryNamespaceManager("bytes", max_bytes=50_000, clock=FakeClock())
    for n in range(10):
        manager[str(n)] = bytes(10_000)
    assert 3 <= len(list(manager.keys())) <= 4
    before = sorted(manager.keys())
    for key in ("huge", "9"):
        with pytest.raises(ValueTooLarge):
            manager[key] = bytes(60_000)
    assert sorted(manager.keys()) == sorted(set(before) - {"9"})


def test_expired_entries_leave_memory() -> None:
    """Entries past their end leave as new entries come."""
    clock = FakeClock()
    pool = LivePool(1000, 10**9, clock)
    space = pool.space("ns")
    for n in range(20):
        pool.put(space, str(n), Entry(n, clock(), 10.0), clock() + 70)
    clock.advance(100)
    for n in range(20, 24):
        pool.put(space, str(n), Entry(n, clock(), 10.0), clock() + 70)
    assert len(pool) == 4
    assert set(space.slots) == {"20", "21", "22", "23"}


def test_overwriting_does_not_grow() -> None:
    """The same key written again and again costs the same memory, in the books and in the heap."""
    clock = FakeClock()
    pool = LivePool(1000, 10**9, clock)
    space = pool.space("ns")
    for _ in range(1000):
        pool.put(space, "a", Entry("v", clock(), 1e6), clock() + 1e6)
    assert len(pool) == 1
    assert len(pool._deaths) < 100
    used = pool.bytes_used
    pool.put(space, "a", Entry("v", clock()), None)
    assert pool.bytes_used == used
    pool.discard(space, "a")
    assert (pool.bytes_used, len(pool)) == (0, 0)


def test_an_overwritten_entry_lives_as_long_as_the_last_one() -> None:
    """What replaced an entry is dropped at its own end: not at that of the entry before, and not later."""
    clock = FakeClock()
    pool = LivePool(1000, 10**9, clock)
    space = pool.space("ns")
    for key, first, second in (("longer", 10, 100), ("shorter", 100, 10), ("for ever", 10, None)):
        pool.put(space, key, Entry(1, clock()), clock() + first)
        pool.put(space, key, Entry(2, clock()), None if second is None else clock() + second)
    for seconds, left in ((50, {"longer", "for ever"}), (100, {"for ever"})):
        clock.advance(seconds)
        pool.put(space, "sweep", Entry(0, clock()), None)
        assert set(space.slots) - {"sweep"} == left


def test_reading_leaves_nothing_behind() -> None:
    """A read of what is not there, and a manager that stored nothing, keep no memory."""
    pool = LivePool(10, 10**6, FakeClock())
    for n in range(1000):
        assert pool.space(f"bogus-{n}").get("x") is None
    assert len(pool._spaces) <= 1


def test_memory_survives_a_fork_that_interrupts_a_writer() -> None:
    """A child forked while another thread writes begins with whole maps and a free lock."""
    pool = LivePool(10, 10**6, FakeClock())
    space = pool.space("ns")
    pool.put(space, "a", Entry(1, 1.0), None)
    pool._after_fork()
    assert space.get("a") is not None
    pool.lock.acquire()
    pool._after_fork()
    assert space.get("a") is None
    pool.put(space, "a", Entry(2, 1.0), None)
    assert space.get("a") == Entry(2, 1.0)


def test_approximate_size() -> None:
    """The estimate grows with the value, ends on cycles, and bears objects that raise when looked at."""

    class Proxy:
        @property
        def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
            raise RuntimeError("outside of a request")

    class Article:
        def __init__(self, text: str) -> None:
            self.text = text

    loop: list[Any] = []
    loop.append(loop)
    assert approximate_size("x" * 1000) > 1000
    assert 80_000 < approximate_size(["x" * 1000] * 100) < 200_000
    assert approximate_size({"k": "x" * 1000}) > 1000
    for value in ({("k", "x" * 1000): 1}, {"k": {"x" * 1000}}, OrderedDict(k=["x" * 1000]), Article("x" * 1000)):
        assert 1000 < approximate_size(value) < 3000
    assert approximate_size(loop) < 10_000
    assert 0 < approximate_size(Proxy()) < 10_000
    assert approximate_size({"k": Proxy(), "text": "x" * 100_000}) > 100_000  # what is beside it still counts


def test_an_aborted_put_of_a_live_object_is_mended() -> None:
    """Whichever line of it an exception from outside hits, the pool's sums and orders agree and its lock is free."""
    pool = LivePool(3, 10**6, FakeClock())
    space = pool.space("ns")
    for key, value in ("new", "x"), ("old", "longer"):
        for _ in each_line(partial(pool.put, space, key, Entry(value, 1.0, 60.0), 200.0), Abort, 1):
            assert not pool.lock.locked()
            assert set(space.slots.values()) == set(pool._queue)
            assert pool.bytes_used == sum(slot.size for slot in pool._queue)
            for number in range(3):
                pool.put(space, f"old-{number}" if number else "old", Entry("x", 1.0), None)


def test_store_beside_the_live_objects() -> None:
    """The memory manager offers a store of bytes, one for equal bounds."""
    first, second = MemoryNamespaceManager("one"), MemoryNamespaceManager("two")
    assert first.store is second.store
    first.store.set("one", "k", b"data", ttl=None)
    assert second.store.get("one", "k") == b"data"


def test_null_keeps_nothing() -> None:
    """The null backend creates every value anew."""
    made: list[int] = []
    value = Value("a", NullNamespaceManager("null"), createfunc=lambda: made.append(1))
    value.get_value()
    value.get_value()
    assert len(made) == 2
    assert list(value.namespace.keys()) == []
    value.clear_value()
    value.namespace.remove()


@pytest.mark.parametrize("manager", [FileNamespaceManager, DBMNamespaceManager])
def test_constructors_touch_no_disk(manager: Any, tmp_path: Path) -> None:
    """No directory is created before something is written, nor by reading; a hit needs no lock file."""
    made = manager("ns", data_dir=str(tmp_path / "data"), lock_dir=str(tmp_path / "lock"))
    assert made.read("a") is None
    assert list(tmp_path.iterdir()) == []
    made["a"] = 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == [f"container_{made.store.backend}"]


@pytest.mark.parametrize(("manager", "own"), [(FileNamespaceManager, "file_dir"), (DBMNamespaceManager, "dbm_dir")])
def test_directories(manager: Any, own: str, tmp_path: Path) -> None:
    """The backend's own directory wins over data_dir; without either a private one is used, with a warning."""
    made = manager("ns", data_dir=str(tmp_path / "data"), **{own: str(tmp_path / "own")})
    assert made.store.directory == str(tmp_path / "own")
    runtime = Runtime(temp_dir=str(tmp_path))
    with pytest.warns(ConfigWarning, match="set data_dir"):
        made = manager("ns", runtime=runtime)
    (private,) = tmp_path.glob("beaker-*")
    assert made.store.directory.startswith(str(private))
    assert private.stat().st_mode & 0o777 == 0o700
    private.chmod(0o755)
    with pytest.raises(MissingCacheParameter, match="not a directory private"):
        manager("ns", runtime=runtime)


@pytest.mark.parametrize("manager", [FileNamespaceManager, DBMNamespaceManager])
def test_files_on_serverless(manager: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On serverless files go to the temporary directory, are called instance-local once, and take no file lock."""
    monkeypatch.setattr(beaker.container, "_warned", set())
    runtime = Runtime(platform=Platform.APPENGINE, temp_dir=str(tmp_path))
    with pytest.warns(ConfigWarning, match="instance's memory"):
        made = manager("ns", runtime=runtime)
    again = manager("ns", runtime=runtime)
    assert again.store is made.store
    assert made.store.directory.startswith(os.fspath(tmp_path))
    assert Value("a", made, createfunc=lambda: 1).get_value() == 1
    assert not list(tmp_path.rglob("creation-*"))


def test_memory_bound_follows_the_instance() -> None:
    """On a small instance at most a quarter of its memory is used."""
    small = Runtime(platform=Platform.APPENGINE, memory_limit=128 * 2**20)
    manager = MemoryNamespaceManager("small", runtime=small, clock=FakeClock())
    assert manager.store.max_bytes == 32 * 2**20


def test_file_manager_shares_one_store(tmp_path: Path) -> None:
    """Managers of equal options share the store; removing a file from outside removes the value."""
    first = FileNamespaceManager("one", data_dir=str(tmp_path))
    assert FileNamespaceManager("two", data_dir=str(tmp_path)).store is first.store
    first["a"] = 1
    # Beside the value's file there are the directory's key and locks.
    values = [
        path for path in tmp_path.rglob("*") if path.is_file() and not re.search(r"lock|\.signing-key", str(path))
    ]
    assert len(values) == 1
    values[0].unlink()
    assert "a" not in first
