"""The memory store: the contract suites, its bounds, its sweeps and forks."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partialmethod
from typing import Any, cast

import pytest

from beaker.exceptions import ConfigError, ValueTooLarge
from beaker.storage.memory import MemoryStore
from beaker.testing import (
    BulkContract,
    FakeClock,
    ListingContract,
    PurgingContract,
    SharedContract,
    StoreContract,
    VersionedContract,
)


class TestMemoryStore(StoreContract, VersionedContract, ListingContract, PurgingContract, BulkContract, SharedContract):
    """The reference store passes every suite."""

    @pytest.fixture
    def store(self, clock: FakeClock) -> MemoryStore:
        return MemoryStore(clock=clock)

    def footprint(self, store: MemoryStore) -> int:
        assert sum(len(names) for names in store._names.values()) == len(store)
        return len(store)

    def second_store(self, store: MemoryStore) -> MemoryStore:
        # Memory is shared between threads by being one object, as shared_store() hands it out.
        return store


def test_oldest_leave_by_entries() -> None:
    """Over max_entries the least recently used record leaves; a read counts as use."""
    store = MemoryStore(max_entries=2)
    store.set("n", "a", b"1", ttl=None)
    store.set("m", "b", b"2", ttl=None)
    assert store.get("n", "a") == b"1"
    store.set("n", "c", b"3", ttl=None)
    assert store.get("m", "b") is None
    assert store.get("n", "a") == b"1"
    assert len(store) == 2


@pytest.mark.parametrize("bounds", [{"max_entries": 100}, {"max_bytes": 100 * 500}], ids=str)
@pytest.mark.parametrize("proof", ["read", "get", "set", "replace"])
def test_who_comes_back_is_not_displaced(bounds: dict[str, Any], proof: str) -> None:
    """10,000 records that nothing asks for again displace each other, not those that were read or written again."""
    store = MemoryStore(**bounds)
    for index in range(50):
        store.set("n", f"ours{index}", b"1", ttl=None)
        if proof == "set":
            store.set("n", f"ours{index}", b"1", ttl=None)
        elif proof == "get":
            store.get("n", f"ours{index}")
        else:
            found = store.read("n", f"ours{index}")
            if proof == "replace" and found is not None:
                assert store.replace("n", f"ours{index}", b"1", found[1], ttl=None)
    for index in range(10_000):
        assert store.insert("n", f"crowd{index}", b"1", ttl=None)
    assert sum(store.get("n", f"ours{index}") is not None for index in range(50)) == 50
    assert store.get("n", "crowd9999") is not None
    assert len(store) <= 150
    assert store.bytes_used <= 100 * 500


def test_newcomers_have_a_quarter() -> None:
    """However many records were asked for again, those that have just been written have time to be."""
    store = MemoryStore(max_entries=100)
    for index in range(200):
        store.set("n", f"ours{index}", b"1", ttl=None)
        store.get("n", f"ours{index}")
    for index in range(25):
        store.set("n", f"new{index}", b"1", ttl=None)
    assert all(store.get("n", f"new{index}") for index in range(25))
    assert [index for index in range(200) if store.get("n", f"ours{index}")] == list(range(125, 200))


def test_pinned_records_alone_over_the_bounds() -> None:
    """A write that only pinned records could make room for comes to an end, and is readable."""
    store = MemoryStore(max_bytes=2_000)
    for namespace in "ab":
        store.pin(namespace)
    store.set("a", "k", b"1", ttl=None)
    store.set("b", "k" * 5_000, b"2", ttl=None)
    store.set("c", "k", b"3", ttl=None)
    assert store.get("b", "k" * 5_000) == b"2"
    assert store.get("c", "k") == b"3"


def test_pinning_what_is_there() -> None:
    """Records that were written before their namespace was pinned, once or again, are spared as well."""
    store = MemoryStore(max_entries=20)
    for index in range(8):
        store.set("points", str(index), b"1", ttl=None)
    assert store.get("points", "0") == b"1"
    store.pin("points")
    for index in range(1_000):
        store.set("n", str(index), b"1", ttl=None)
    assert len(list(store.keys("points"))) == 8
    assert len(store) == 20
    store.clear("points")
    assert len(store) == 12
    assert store.get("points", "0") is None


def test_pinning_that_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception from outside in the middle is raised as it is; every record is there, and pinned."""
    store = MemoryStore(max_entries=20)
    for index in range(8):
        store.set("points", str(index), b"1", ttl=None)
    forget, left = store._forget_order, iter("ab")

    def interrupted(name: tuple[str, str]) -> object:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return forget(name)

    monkeypatch.setattr(store, "_forget_order", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.pin("points")
    monkeypatch.undo()
    for index in range(1_000):
        store.set("n", str(index), b"1", ttl=None)
    assert len(list(store.keys("points"))) == 8
    assert len(store) == 20
    store.clear("points")
    store.clear("n")
    assert store.bytes_used == 0


def test_the_work_of_a_write_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over its bounds for good, a store drops one record for each that it takes, whatever the crowd's size."""
    for entries in (10, 1_000):
        store = MemoryStore(max_entries=entries)
        steps = 0

        def count(store: MemoryStore, check: Callable[[MemoryStore], bool]) -> bool:
            nonlocal steps
            steps += 1
            return check(store)

        for method in ("_over_bounds", "_too_many_proven"):
            check = getattr(MemoryStore, method)
            monkeypatch.setattr(MemoryStore, method, partialmethod(count, check))
        for index in range(3_000):
            store.set("n", str(index), b"1", ttl=60)
            store.get("n", str(index - index % 7))
        monkeypatch.undo()
        assert len(store) == entries
        assert steps < 3_000 * 6


def test_oldest_leave_by_bytes() -> None:
    """Over max_bytes records leave until the bound holds, and overwriting gives bytes back."""
    store = MemoryStore(max_bytes=10_000)
    for _ in range(100):
        store.set("n", "same", bytes(5_000), ttl=None)
    assert store.bytes_used < 6_000
    for index in range(50):
        store.set("n", str(index), bytes(1_000), ttl=None)
        assert store.bytes_used <= 10_000
    assert store.get("n", "49") is not None
    # It was written again and again; what was written once left for it.
    assert store.get("n", "same") is not None
    assert store.get("n", "0") is None


def test_newest_stays_however_long_its_names() -> None:
    """A write that returned is readable even when its names alone are over max_bytes."""
    store = MemoryStore(max_bytes=1_000)
    store.set("n" * 5_000, "k", b"1", ttl=None)
    assert store.get("n" * 5_000, "k") == b"1"


def test_value_over_all_memory() -> None:
    """A value that max_bytes cannot hold is refused and nothing is evicted for it."""
    store = MemoryStore(max_bytes=1_000)
    store.set("n", "k", b"old", ttl=None)
    with pytest.raises(ValueTooLarge):
        store.set("n", "big", bytes(1_000), ttl=None)
    with pytest.raises(ValueTooLarge):
        store.set_many("n", {"k": b"new", "big": bytes(1_000)}, ttl=None)
    assert store.get("n", "k") == b"old"


def test_bounds_that_hold_nothing() -> None:
    """Bounds without room for one record are refused."""
    with pytest.raises(ConfigError, match="max_entries"):
        MemoryStore(max_entries=0)
    with pytest.raises(ConfigError, match="max_bytes"):
        MemoryStore(max_bytes=100)


def test_expired_records_leave_by_writes(clock: FakeClock) -> None:
    """Records that are never read again leave as others are written; the bookkeeping stays in proportion."""
    store = MemoryStore(clock=clock)
    for _ in range(50):
        for index in range(100):
            store.set("n", f"{index}", b"1", ttl=60)
        assert len(store._expiries) <= 2 * len(store) + 64
    clock.advance(61)
    for index in range(30):
        store.set("n", f"live{index}", b"1", ttl=None)
    for _ in range(100 * 50):
        store.set("n", "k", b"1", ttl=None)
    assert len(store) == 31
    assert len(store._names["n"]) == 31


def test_later_change_of_the_callers_buffer() -> None:
    """A bytearray changed after the write does not change the record."""
    store = MemoryStore()
    buffer = bytearray(b"before")
    store.set("n", "k", cast(bytes, buffer), ttl=None)
    buffer[:] = b"after!"
    assert store.get("n", "k") == b"before"


def test_fork_while_threads_write() -> None:
    """A child forked in the midst of writes has whole records and free locks, and its own future."""
    store = MemoryStore(max_entries=50)
    store.set("n", "fixed", b"1", ttl=None)
    stop = threading.Event()

    def write() -> None:
        index = 0
        while not stop.is_set():
            store.set("n", f"k{index % 100}", b"1", ttl=60)
            store.get("n", "fixed")
            index += 1

    threads = [threading.Thread(target=write, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # a child that hangs must not outlive the test
                code = 1
                try:
                    ok = store.get("n", "fixed") == b"1"
                    store.set("n", "child", b"1", ttl=None)
                    names = sum(len(names) for names in store._names.values())
                    code = 0 if ok and names == len(store) <= 50 else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.get("n", "child") is None
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
