"""Contract suite for :class:`beaker.caching.namespace.NamespaceManager`, of a store or of a third party.

::

    class TestMine(ManagerContract):
        @pytest.fixture
        def open_manager(self, clock):
            return lambda namespace, **options: MyManager(namespace, clock=clock, **options)
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any, Protocol

import pytest

from beaker.caching.entry import Entry
from beaker.caching.namespace import NamespaceManager
from beaker.caching.store_manager import StoreNamespaceManager
from beaker.container import Value
from beaker.testing.clock import FakeClock

__all__ = ["ManagerContract", "OpenManager"]

_PATIENCE = 30.0
"""Seconds a test waits for an event that must come."""


class OpenManager(Protocol):
    """Makes a manager of the kind under test."""

    def __call__(self, namespace: str, **options: Any) -> NamespaceManager: ...


class ManagerContract:
    """Everything the engine expects of a manager. Override :meth:`open_manager`; ``clock`` is to be its clock."""

    keeps_bytes = True
    """False for a manager that keeps live objects, so that no record of it can be corrupt."""

    threads = 8

    @pytest.fixture
    def clock(self) -> FakeClock:
        """The clock the manager under test reads."""
        return FakeClock()

    @pytest.fixture
    def open_manager(self, clock: FakeClock) -> OpenManager:
        """Makes managers that read ``clock``; two of one namespace must share their data."""
        raise NotImplementedError

    @pytest.fixture
    def name(self) -> str:
        """A namespace that was never used before."""
        return f"contract-{uuid.uuid4().hex}"

    @pytest.fixture
    def manager(self, open_manager: OpenManager, name: str) -> NamespaceManager:
        return open_manager(name)

    def test_dict_operations(self, manager: NamespaceManager) -> None:
        """A manager is a dict of its namespace: set, get, contains, delete, KeyError for what is absent."""
        manager["a"] = {"x": [1, None]}
        assert manager["a"] == {"x": [1, None]}
        assert "a" in manager
        assert manager.has_key("a")
        assert manager.get("b", "nothing") == "nothing"
        assert "b" not in manager
        del manager["a"]
        assert "a" not in manager
        with pytest.raises(KeyError):
            manager["a"]
        with pytest.raises(KeyError):
            del manager["a"]

    def test_keys(self, manager: NamespaceManager) -> None:
        """Keys are listed, or NotImplementedError says that this backend cannot."""
        manager["a"] = 1
        manager["b"] = 2
        try:
            keys = sorted(manager.keys())
        except NotImplementedError:
            return
        assert keys == ["a", "b"]

    def test_managers_of_one_namespace_share(self, open_manager: OpenManager, name: str) -> None:
        """What one manager writes, another of the same namespace reads."""
        open_manager(name)["a"] = 1
        assert open_manager(name)["a"] == 1

    def test_remove_spares_other_namespaces(self, open_manager: OpenManager, name: str) -> None:
        """remove() empties its namespace and leaves the neighbour's values."""
        mine, other = open_manager(name), open_manager(name + "-bystander")
        mine["a"] = other["a"] = 1
        mine.remove()
        assert "a" not in mine
        assert other["a"] == 1

    def test_entry_round_trip(self, manager: NamespaceManager, clock: FakeClock) -> None:
        """read() gives back the value and the stamps that write() was given."""
        manager.write("a", Entry((1, "x"), clock(), 60.0))
        entry = manager.read("a")
        assert entry is not None
        assert (entry.value, entry.stored, entry.expiretime) == ((1, "x"), clock(), 60.0)
        assert manager.read("b") is None
        manager.discard("a")
        manager.discard("a")
        assert manager.read("a") is None

    def test_many(self, manager: NamespaceManager, clock: FakeClock) -> None:
        """Several entries are written, read and discarded by one call each; absent ones are left out."""
        manager.write_many({"a": Entry(1, clock(), 60.0), "b": Entry(2, clock()), "c": Entry(3, clock(), 60.0)})
        assert {key: entry.value for key, entry in manager.read_many(["a", "b", "x"]).items()} == {"a": 1, "b": 2}
        manager.discard_many(["a", "x"])
        assert set(manager.read_many(["a", "b", "c"])) == {"b", "c"}

    def test_value_is_created_once_and_again_after_expiry(self, manager: NamespaceManager, clock: FakeClock) -> None:
        """A value is created when it is absent or expired, by the clock, and not otherwise."""
        made: list[int] = []

        def create() -> int:
            made.append(1)
            return len(made)

        value = Value("a", manager, createfunc=create, expiretime=60.0)
        assert not value.has_value()
        assert [value.get_value(), value.get_value()] == [1, 1]
        clock.advance(59.0)
        assert value.get_value() == 1
        clock.advance(1.0)
        assert value.has_value()
        assert not value.has_current_value()
        assert value.can_have_value()
        assert value.get_value() == 2

    def test_expiretime_is_kept_with_the_value(self, manager: NamespaceManager, clock: FakeClock) -> None:
        """Whoever reads later knows when the value expires, whatever its own expiretime is."""
        Value("a", manager, expiretime=10.0).set_value(1)
        other = Value("a", manager, expiretime=1000.0)
        assert other.get_value() == 1
        clock.advance(10.0)
        with pytest.raises(KeyError):
            other.get_value()

    def test_starttime(self, manager: NamespaceManager, clock: FakeClock) -> None:
        """Values stored before starttime count as old."""
        Value("a", manager).set_value(1)
        assert Value("a", manager, starttime=clock()).has_current_value()
        assert not Value("a", manager, starttime=clock() + 1).has_current_value()
        assert Value("a", manager, createfunc=lambda: 2, starttime=clock() + 1).get_value() == 2

    def test_none_is_a_value(self, manager: NamespaceManager) -> None:
        """A created None is kept like any other value."""
        made: list[int] = []
        value = Value("a", manager, createfunc=lambda: made.append(1))
        assert value.get_value() is None
        assert value.get_value() is None
        assert made == [1]

    def test_threads_create_once(self, open_manager: OpenManager, name: str) -> None:
        """Threads that want one absent value at the same time get it from a single creation."""
        made: list[int] = []
        results: list[Any] = []
        barrier = threading.Barrier(self.threads)
        in_creation = threading.Event()

        def create() -> str:
            made.append(1)
            in_creation.wait(0.05)
            return "value"

        def work() -> None:
            value = Value("a", open_manager(name), createfunc=create)
            barrier.wait(_PATIENCE)
            results.append(value.get_value())

        _run([work] * self.threads)
        assert results == ["value"] * self.threads
        assert len(made) == 1

    def test_old_value_is_served_while_one_creates(
        self, open_manager: OpenManager, name: str, clock: FakeClock
    ) -> None:
        """While one thread creates the new value, another gets the old one without waiting."""
        Value("a", open_manager(name), expiretime=10.0).set_value("old")
        clock.advance(11.0)
        begun, go_on = threading.Event(), threading.Event()

        def create() -> str:
            begun.set()
            assert go_on.wait(_PATIENCE)
            return "new"

        creator = threading.Thread(target=lambda: Value("a", open_manager(name), create, 10.0).get_value())
        creator.start()
        try:
            assert begun.wait(_PATIENCE)
            assert Value("a", open_manager(name), _never, 10.0).get_value() == "old"
        finally:
            go_on.set()
            creator.join(_PATIENCE)
        assert Value("a", open_manager(name), _never, 10.0).get_value() == "new"

    def test_failing_creator_leaves_the_old_value(self, manager: NamespaceManager, clock: FakeClock) -> None:
        """A creation that raises reaches its caller, keeps the old value and frees the lock."""
        Value("a", manager, expiretime=10.0).set_value("old")
        clock.advance(11.0)
        with pytest.raises(ZeroDivisionError):
            Value("a", manager, lambda: 1 // 0, 10.0).get_value()
        assert Value("a", manager).has_value()
        assert Value("a", manager, lambda: "new", 10.0).get_value() == "new"

    def test_corrupt_record_is_a_miss(self, manager: NamespaceManager) -> None:
        """Bytes that are not our record count as absent, and are replaced."""
        if not self.keeps_bytes:
            assert not isinstance(manager, StoreNamespaceManager)
            return
        assert isinstance(manager, StoreNamespaceManager)
        for garbage in (b"", b"garbage", b"BKR2" + bytes(60)):
            manager.store.set(manager.namespace, "a", garbage, ttl=None)
            assert manager.read("a") is None
            assert Value("a", manager, lambda: "new").get_value() == "new"
            assert Value("a", manager).get_value() == "new"


def _never() -> Any:
    raise AssertionError("this caller must not create")


def _run(jobs: list[Callable[[], None]]) -> None:
    failures: list[BaseException] = []

    def guarded(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as err:
            failures.append(err)

    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]
