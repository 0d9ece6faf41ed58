"""Managers of third parties, written from the manual alone, and the bridge to stores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from beaker.cache import Cache
from beaker.caching.entry import Entry
from beaker.caching.store_manager import StoreNamespaceManager
from beaker.container import NamespaceManager, OpenResourceNamespaceManager, Value
from beaker.exceptions import StoreUnavailable, UnserializableValue
from beaker.storage.memory import MemoryStore
from beaker.synchronization import file_synchronizer
from beaker.testing.clock import FakeClock
from beaker.testing.manager import ManagerContract, OpenManager
from tests.managers import DictManager, DictOperations


class HandleManager(DictOperations, OpenResourceNamespaceManager):
    """A third party's manager over something that must be open, and says when it is not."""

    spaces: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, namespace: str, **kwargs: Any) -> None:
        super().__init__(namespace)
        self.handle: dict[str, Any] | None = None
        self.opened: list[str] = []

    def do_open(self, flags: str) -> None:
        self.opened.append(flags)
        self.handle = self.spaces.setdefault(self.namespace, {})

    def do_close(self) -> None:
        self.opened.append("closed")
        self.handle = None

    def do_remove(self) -> None:
        assert self.handle is None
        self.spaces.pop(self.namespace, None)

    @property
    def data(self) -> dict[str, Any]:
        assert self.handle is not None, "used while closed"
        return self.handle


class TestDictManager(ManagerContract):
    keeps_bytes = False

    @pytest.fixture
    def open_manager(self, clock: FakeClock) -> OpenManager:
        def opened(namespace: str, **options: Any) -> NamespaceManager:
            manager = DictManager(namespace)
            manager.configure({"clock": clock, **options})
            return manager

        return opened


class OpenWhenUsed(HandleManager):
    """For the contract's direct dict operations, which hold no lock: open around each."""

    @property
    def data(self) -> dict[str, Any]:
        return self.spaces.setdefault(self.namespace, {})


class TestHandleManager(ManagerContract):
    keeps_bytes = False

    @pytest.fixture
    def open_manager(self, clock: FakeClock) -> OpenManager:
        def opened(namespace: str, **options: Any) -> NamespaceManager:
            manager = OpenWhenUsed(namespace)
            manager.configure({"clock": clock, **options})
            return manager

        return opened


def test_resource_is_open_exactly_while_it_is_used() -> None:
    """Reading opens for reading, writing for creating; everything is closed again, after errors too."""
    manager = HandleManager("resource")
    value = Value("a", manager, createfunc=lambda: 1)
    assert value.get_value() == 1
    # one read, a second one under the creation lock, one write
    assert manager.opened == ["r", "closed", "r", "closed", "c", "closed"]
    manager.opened.clear()
    with manager.reading(), manager.reading():
        assert manager["a"] == (pytest.approx(manager["a"][0]), None, 1)
    assert manager.opened == ["r", "closed"]
    with pytest.raises(OSError, match="x"), manager.writing():
        raise OSError("x")
    assert manager.handle is None
    manager.remove()
    assert not Value("a", manager).has_value()


def test_failing_open_leaves_no_lock() -> None:
    """When the resource cannot be opened the lock is free again."""
    manager = HandleManager("failing")
    manager.do_open = lambda flags: 1 // 0  # type: ignore[method-assign, assignment]
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            manager.read("a")
        with pytest.raises(ZeroDivisionError):
            manager.write("a", Entry(1, 1.0))
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(manager.access_lock.acquire_write_lock(False)))
    thread.start()
    thread.join(10)
    assert done == [True]


def test_expiretime_reaches_set_value() -> None:
    """A manager that overrides set_value learns how long each value is valid."""
    seen: list[float | None] = []

    class Pruning(DictManager):
        def set_value(self, key: str, value: Any, expiretime: float | None = None) -> None:
            seen.append(expiretime)
            super().set_value(key, value, expiretime)

    Value("a", Pruning("pruning"), expiretime=60.0).set_value(1)
    Value("b", Pruning("pruning")).set_value(1)
    assert seen == [60.0, None]


def test_foreign_creation_lock(tmp_path: Any) -> None:
    """A manager may bring a synchronizer, or any lock that knows only acquire(wait), as its creation lock."""

    class Plain:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def acquire(self, wait: bool = True) -> bool:
            return self.lock.acquire(wait)

        def release(self) -> None:
            self.lock.release()

    for lock in (file_synchronizer("x", lock_dir=str(tmp_path)), Plain(), threading.Lock()):

        class Locked(DictManager):
            def get_creation_lock(self, key: str, lock: Any = lock) -> Any:
                return lock

        cache = Cache(f"foreign-{type(lock).__name__}", Locked)
        assert cache.get("a", createfunc=lambda: 1) == 1
        cache.remove_value("a")
        with pytest.raises(ZeroDivisionError):
            cache.get("a", createfunc=lambda: 1 // 0)
        assert cache.get("a", createfunc=lambda: 2) == 2


def test_garbage_in_a_foreign_manager_is_a_miss() -> None:
    """A value stored without the engine is not an entry."""
    manager = DictManager("garbage")
    for garbage in ("text", (1, 2), ("when", None, 3), (1.0, "long", 3)):
        manager["a"] = garbage
        assert manager.read("a") is None
        assert Value("a", manager, createfunc=lambda: "new").get_value() == "new"


class Counting(MemoryStore):
    """Counts its calls and remembers the last ttl."""

    backend = "counting"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.calls: list[str] = []
        self.ttl: float | None = None

    def get(self, namespace: str, key: str) -> bytes | None:
        self.calls.append("get")
        return super().get(namespace, key)

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        self.calls.append("set")
        self.ttl = ttl
        super().set(namespace, key, data, ttl=ttl)

    def get_many(self, namespace: str, keys: Iterable[str]) -> dict[str, bytes]:
        self.calls.append("get_many")
        return super().get_many(namespace, keys)

    def set_many(self, namespace: str, items: Mapping[str, bytes], *, ttl: float | None) -> None:
        self.calls.append(f"set_many {len(items)}")
        self.ttl = ttl
        super().set_many(namespace, items, ttl=ttl)

    def read(self, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        self.calls.append("read")
        return super().read(namespace, key)

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> Any:
        self.calls.append("insert")
        return super().insert(namespace, key, data, ttl=ttl)

    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> Any:
        self.calls.append("replace")
        return super().replace(namespace, key, data, version, ttl=ttl)

    def remove(self, namespace: str, key: str, version: Hashable) -> bool:
        self.calls.append("remove")
        return super().remove(namespace, key, version)

    def delete(self, namespace: str, key: str) -> None:
        self.calls.append("delete")
        super().delete(namespace, key)


@pytest.mark.parametrize(
    ("lock", "expired"),
    [
        ("lease", "get read replace replace"),
        ("file", "get read replace"),
        ("thread", "get read replace"),
        ("none", "get read replace"),
    ],
)
def test_round_trips(lock: str, expired: str, tmp_path: Path) -> None:
    """A hit is one read of the store, a miss a read and two writes, an expired value a read and a write more, or two
    writes more with a lease; what voids is one call; several keys are one call."""
    clock = FakeClock()
    store = Counting(clock=clock)
    manager = StoreNamespaceManager("ns", store, lock=lock, lock_dir=str(tmp_path), clock=clock)
    value = Value("a", manager, createfunc=lambda: 1, expiretime=60.0)

    def spent(act: Callable[[], object]) -> str:
        store.calls.clear()
        act()
        return " ".join(store.calls)

    def broken() -> Any:
        with pytest.raises(ZeroDivisionError):
            Value("b", manager, createfunc=lambda: 1 // 0).get_value()

    assert spent(value.get_value) == "get insert replace"
    assert spent(value.get_value) == "get"
    clock.advance(61.0)
    assert spent(value.get_value) == expired
    assert spent(broken) == "get insert read remove"
    assert spent(lambda: value.refresh(lambda: 2)) == "read replace replace"
    assert spent(lambda: value.set_value(3)) == "set"
    assert spent(value.clear_value) == "delete"
    assert spent(lambda: manager.read_many(["a", "b", "c"])) == "get_many"


def test_another_host_reads_once() -> None:
    """While another host creates, an old value is one read."""
    clock = FakeClock()
    store = Counting(clock=clock)
    here, there = (StoreNamespaceManager("ns", store, lock="lease", clock=clock) for _ in range(2))
    Value("a", here, expiretime=10.0).set_value("old")
    clock.advance(11.0)
    begun = here.begin("a", lambda entry: False)
    store.calls.clear()
    assert Value("a", there, expiretime=10.0).get_or_create(lambda: "needless") == "old"
    assert store.calls == ["get"]
    assert begun.creation is not None
    begun.creation.abandon()


@pytest.mark.parametrize(
    ("expiretime", "options", "ttl"),
    [
        (None, {}, None),
        (10.0, {}, 70.0),
        (600.0, {}, 1200.0),
        (10.0**6, {}, 10.0**6 + 86_400.0),
        (10.0, {"stale_if_error": 3600.0}, 3610.0),
    ],
)
def test_the_store_keeps_a_value_past_its_expiry(
    expiretime: float | None, options: dict[str, Any], ttl: float | None
) -> None:
    """The store is told to keep what a next caller may still want: the old value while a new one is created."""
    clock = FakeClock()
    store = Counting(clock=clock)
    manager = StoreNamespaceManager("ns", store, clock=clock, **options)
    manager.set_value("a", 1, expiretime)
    assert store.ttl == ttl


def test_values_of_one_end_are_one_batch_though_the_clock_goes_on() -> None:
    """The clock is not asked for each value: a batch would then be cut into as many as there are values."""
    clock = FakeClock()

    def ticking() -> float:
        clock.advance(0.125)
        return clock()

    store = Counting()
    manager = StoreNamespaceManager("ns", store, clock=ticking)
    now = clock()
    manager.write_many({str(number): Entry(number, now, 600.0) for number in range(5)})
    manager.write_many({"a": Entry(1, now, None), "b": Entry(2, now, None), "c": Entry(3, now, 60.0)})
    assert store.calls == ["set_many 5", "set_many 2", "set_many 1"]
    assert store.ttl == 119.75


def test_unserializable_value_writes_nothing() -> None:
    """What cannot be stored raises and leaves the old value; in a batch nothing is written."""
    store = Counting()
    manager = StoreNamespaceManager("ns", store, serializer="json")
    manager["a"] = 1
    for write in (
        lambda: manager.write("a", Entry(object(), 1.0)),
        lambda: manager.write_many({"b": Entry(1, 1.0), "c": Entry(object(), 1.0)}),
    ):
        with pytest.raises(UnserializableValue):
            write()
    assert manager["a"] == 1
    assert "b" not in manager


class Careless(DictManager):
    """Raises what it likes for an absent key, as managers of Beaker's time do, which asked ``in`` before."""

    broken = False

    def __getitem__(self, key: str) -> Any:
        if self.broken:
            raise RuntimeError("the server is gone")
        return len(self.data.get(key)) and self.data[key]

    def __delitem__(self, key: str) -> None:
        if self.broken or key not in self.data:
            raise TypeError("nothing to delete")
        del self.data[key]


def test_a_manager_that_raises_anything_for_an_absent_key() -> None:
    """It is a miss; of a key that is there the error is raised."""
    manager = Careless("careless")
    cache = Cache("careless", type=Careless)
    assert cache.get("a", createfunc=lambda: 5) == 5
    assert (manager.get("b", 7), "a" in manager) == (7, True)
    cache.remove_value("b")
    cache.remove_value("a")
    assert "a" not in cache
    cache.put("a", 6)
    manager.broken = True
    with pytest.raises(RuntimeError, match="gone"):
        manager.get("a")
    with pytest.raises(RuntimeError, match="gone"):
        manager.read("a")
    with pytest.raises(TypeError, match="delete"):
        manager.discard("a")


def test_a_store_that_does_not_respond_is_not_asked_again() -> None:
    """StoreUnavailable of a manager is raised as it is, without another call that would time out, too."""

    class Gone(DictManager):
        def __getitem__(self, key: str) -> Any:
            raise StoreUnavailable("gone", backend="x", operation="get")

        __delitem__ = __getitem__

        def __contains__(self, key: object) -> bool:
            pytest.fail("asked again")

    manager = Gone("gone")
    for act in (manager.read, manager.get, manager.discard):
        with pytest.raises(StoreUnavailable):
            act("a")


@pytest.mark.parametrize(("expire", "told"), [(60, 60), (0.2, 1), (None, None), (3e9, 10**9)])
def test_a_manager_is_told_whole_seconds(expire: float | None, told: int | None) -> None:
    """Servers that prune take no fractions; what a value is judged by keeps them."""
    seen: list[Any] = []

    class Pruning(DictManager):
        def set_value(self, key: str, value: Any, expiretime: float | None = None) -> None:
            seen.append(expiretime)
            self[key] = value

    Cache(f"pruning {expire}", type=Pruning, expire=expire).put("a", 1)
    assert seen == [told]
    assert type(seen[0]) in (int, type(None))
