"""Large values on both emulators: chunks, edges, switches under a reader, and what is left behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("google.cloud.datastore")

from beaker.exceptions import StoreUnavailable, ValueTooLarge
from beaker.storage.datastore import DatastoreStore
from beaker.storage.datastore.record import CHUNK_BYTES
from beaker.testing import FakeClock
from tests.storage.datastore_helpers import OnEmulators, build, entities


class TestChunks(OnEmulators):
    """Values over one entity."""

    @pytest.mark.parametrize(
        ("size", "parts"),
        [
            (CHUNK_BYTES - 1, 0),
            (CHUNK_BYTES, 0),
            (CHUNK_BYTES + 1, 2),
            (1_048_487, 2),
            (2**20, 2),
            (3_000_000, 3),
            (7_900_000, 8),
            (8_000_000, 8),
        ],
    )
    def test_sizes(self, store: DatastoreStore, size: int, parts: int) -> None:
        """One entity up to 1,000,000 bytes, then chunks; every size comes back by every kind of read."""
        data = os.urandom(size)
        store.set("n", "k", data, ttl=None)
        assert len(entities(store)) == 1 + parts
        assert store.get("n", "k") == data
        assert store.get_many("n", ["k"]) == {"k": data}
        assert list(store.keys("n")) == ["k"]
        store.delete("n", "k")
        assert entities(store) == []

    def test_long_names_leave_less_room(self, store: DatastoreStore) -> None:
        """Names of 100 kB and a value that just fits beside short ones are still within an entity."""
        namespace, key, data = "n" * 100_000, "k" * 200_000, os.urandom(CHUNK_BYTES)
        store.set(namespace, key, data, ttl=None)
        assert store.get(namespace, key) == data
        assert list(store.keys(namespace)) == [key]
        with pytest.raises(ValueTooLarge):
            store.set(namespace, "k" * 1_000_000, b"", ttl=None)

    def test_too_large_is_refused_before_any_call(self, host: str, project: str) -> None:
        """Over max_value every write is refused with size and limit, and nothing is called."""
        store = build(host, project, max_value=10)
        store.set("n", "k", b"1", ttl=None)
        found = store.read("n", "k")
        assert found is not None
        store.gateway.calls.clear()
        writes: list[Any] = [
            lambda data: store.set("n", "k", data, ttl=None),
            lambda data: store.set("n", "k", data, ttl=0),
            lambda data: store.insert("n", "new", data, ttl=None),
            lambda data: store.replace("n", "k", data, found[1], ttl=None),
            lambda data: store.set_many("n", {"a": b"1", "k": data}, ttl=None),
        ]
        for write in writes:
            with pytest.raises(ValueTooLarge) as caught:
                write(bytes(11))
            assert (caught.value.size, caught.value.limit) == (11, 10)
        assert not store.gateway.calls
        assert store.get("n", "k") == b"1"

    def test_compression(self, host: str, project: str) -> None:
        """What shrinks takes less room, what does not is left alone, and every store can read both."""
        store, plain = build(host, project), build(host, project, compress=False)
        repeated, noise = b"0123456789" * 300_000, os.urandom(50_000)
        store.set("n", "repeated", repeated, ttl=None)
        store.set("n", "noise", noise, ttl=None)
        assert len(entities(store)) == 2
        for reader in (store, plain):
            assert reader.get("n", "repeated") == repeated
            assert reader.get("n", "noise") == noise
        plain.set("n", "repeated", repeated, ttl=None)
        assert len(entities(store)) == 2 + 3
        assert store.get("n", "repeated") == repeated

    @pytest.mark.parametrize(
        "way", ["set", "set_many", "replace", "delete", "delete_many", "remove", "clear", "insert"]
    )
    def test_nothing_is_left_behind(self, store: DatastoreStore, clock: FakeClock, way: str) -> None:
        """Whatever ends a large value takes its chunks along."""
        store.set("n", "k", os.urandom(3_000_000), ttl=10)
        found = store.read("n", "k")
        assert found is not None
        assert len(entities(store)) == 4
        if way == "set":
            store.set("n", "k", b"small", ttl=None)
        elif way == "set_many":
            store.set_many("n", {"k": b"small"}, ttl=None)
        elif way == "replace":
            assert store.replace("n", "k", b"small", found[1], ttl=None)
        elif way == "delete":
            store.delete("n", "k")
        elif way == "delete_many":
            store.delete_many("n", ["k"])
        elif way == "remove":
            assert store.remove("n", "k", found[1])
        elif way == "clear":
            store.clear("n")
        else:
            clock.advance(11)
            assert store.insert("n", "k", b"small", ttl=None)
        kept = 1 if way in ("set", "set_many", "replace", "insert") else 0
        assert len(entities(store)) == kept
        assert store.get("n", "k") == (b"small" if kept else None)

    def test_a_refused_large_write_leaves_nothing(self, store: DatastoreStore) -> None:
        """The chunks of a write that lost are gone, those of the winner stay."""
        first, second = os.urandom(1_500_000), os.urandom(1_600_000)
        store.set("n", "k", b"1", ttl=None)
        old = store.read("n", "k")
        assert old is not None
        store.set("n", "k", first, ttl=None)
        assert store.replace("n", "k", second, old[1], ttl=None) is False
        assert store.insert("n", "k", second, ttl=None) is False
        assert store.get("n", "k") == first
        assert len(entities(store)) == 3

    def test_a_large_value_over_one_of_another_process(self, store: DatastoreStore, host: str, project: str) -> None:
        """A large write finds the chunks it replaces by itself; after a small one purge finds them 6 minutes later."""
        other = build(host, project, clock=store._clock)
        store.set("n", "k", os.urandom(1_500_000), ttl=None)
        other.set("n", "k", os.urandom(2_500_000), ttl=None)
        assert len(entities(store)) == 4
        build(host, project, clock=store._clock).set("n", "k", b"small", ttl=None)
        other.set("n", "large", os.urandom(1_500_000), ttl=None)
        assert len(entities(store)) == 1 + 3 + 3
        clock: Any = store._clock
        clock.advance(355)
        assert store.purge(clock(), 100) == (0, None)
        assert len(entities(store)) == 7
        clock.advance(6)
        assert store.purge(clock(), 100) == (0, None)
        assert len(entities(store)) == 4
        assert store.get("n", "k") == b"small"
        assert len(store.get("n", "large") or b"") == 1_500_000

    def test_purge_takes_the_chunks_along(self, store: DatastoreStore, clock: FakeClock) -> None:
        """An expired large value counts once and leaves nothing."""
        store.set("n", "k", os.urandom(2_500_000), ttl=10)
        store.set("n", "live", os.urandom(1_500_000), ttl=100)
        clock.advance(11)
        assert store.get("n", "k") is None
        assert store.purge(clock(), 100) == (1, None)
        assert len(entities(store)) == 3
        assert len(store.get("n", "live") or b"") == 1_500_000

    def test_a_missing_chunk_is_an_absent_record(self, store: DatastoreStore) -> None:
        """A value that cannot be put together is absent, and its place can be taken."""
        store.set("n", "k", os.urandom(1_500_000), ttl=None)
        found = store.read("n", "k")
        assert found is not None
        head = store._layout().head_key("n", "k")
        version: Any = found[1]
        chunk = store._layout().chunk_keys(head, version.generation, version.parts)[1]
        store.gateway.commit([store._layout().delete(chunk)], "test")
        assert store.get("n", "k") is None
        assert store.read("n", "k") is None
        assert store.get_many("n", ["k"]) == {}
        assert store.insert("n", "k", b"new", ttl=None)
        assert store.get("n", "k") == b"new"
        assert len(entities(store)) == 1

    def test_a_switch_under_a_reader(
        self, store: DatastoreStore, host: str, project: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A reader whose chunks are replaced between head and chunks gets the new value, never a mix or nothing."""
        other = build(host, project, clock=store._clock)
        old, new = os.urandom(1_500_000), os.urandom(1_600_000)
        store.set("n", "k", old, ttl=None)
        read = store._heads.chunks.read
        turns: list[int] = []

        def overtaken(*arguments: Any) -> bytes | None:
            if not turns:
                turns.append(1)
                other.set("n", "k", new, ttl=None)
            return read(*arguments)

        monkeypatch.setattr(store._heads.chunks, "read", overtaken)
        assert store.get("n", "k") == new


class TestConcurrentOverwrites(OnEmulators):
    """Several processes replace one large value: each removes what it replaced, so that one value's chunks are left."""

    def overtaken(
        self, monkeypatch: pytest.MonkeyPatch, store: DatastoreStore, meanwhile: Callable[[], object]
    ) -> None:
        """The store's next write of a head comes after ``meanwhile``."""
        call = store.gateway._call

        def late(method: str, request: Any, *arguments: Any, **named: Any) -> Any:
            if method == "Commit":
                written = [getattr(mutation, str(mutation.WhichOneof("operation"))) for mutation in request.mutations]
                keys = [getattr(one, "key", one) for one in written]
                if any(len(key.path) == 1 and "probe:" not in key.path[0].name for key in keys):
                    monkeypatch.undo()
                    meanwhile()
            return call(method, request, *arguments, **named)

        monkeypatch.setattr(store.gateway, "_call", late)

    @pytest.mark.parametrize("way", ["set", "set_many", "small", "delete", "delete_many"])
    def test_a_write_in_between(
        self, store: DatastoreStore, host: str, project: str, monkeypatch: pytest.MonkeyPatch, way: str
    ) -> None:
        """A value that another process wrote after ours was looked at is replaced, or deleted, with its chunks."""
        other = build(host, project, clock=store._clock)
        store.set("n", "k", os.urandom(1_500_000), ttl=None)
        self.overtaken(monkeypatch, store, lambda: other.set("n", "k", os.urandom(3_500_000), ttl=None))
        data = b"small" if way == "small" else os.urandom(2_500_000)
        if way in ("set", "small"):
            store.set("n", "k", data, ttl=None)
        elif way == "set_many":
            store.set_many("n", {"k": data, "l": b"small"}, ttl=None)
        elif way == "delete":
            store.delete("n", "k")
        else:
            store.delete_many("n", ["k", "l"])
        kept = {"set": 1 + 3, "set_many": 1 + 3 + 1, "small": 1}.get(way, 0)
        assert len(entities(store)) == kept
        assert store.get("n", "k") == (data if kept else None)

    def test_many_at_once(self, store: DatastoreStore, host: str, project: str, clock: FakeClock) -> None:
        """Of 16 overwrites by 4 processes the last is left, whole; a leftover, if any, ends with the next purge."""
        stores = [build(host, project, clock=clock) for _ in range(4)]
        values = [os.urandom(1_500_000) for _ in stores]

        def write(turn: int) -> None:
            for _ in range(4):
                stores[turn].set("n", "k", values[turn], ttl=None)

        with ThreadPoolExecutor(len(stores)) as pool:
            list(pool.map(write, range(len(stores))))
        clock.advance(361)
        assert store.purge(clock(), 100) == (0, None)
        assert len(entities(store)) == 1 + 2
        assert store.get("n", "k") in values

    def test_calls(self, store: DatastoreStore, host: str, project: str) -> None:
        """Where no other process writes, it costs no call more than a blind write would."""
        calls = store.gateway.calls
        large = os.urandom(1_500_000)
        store.set("n", "k", large, ttl=None)
        store.set("n", "k", large, ttl=None)
        for act, expected in (
            (lambda: store.set("n", "k", large, ttl=None), {"Commit": 3}),
            (lambda: store.set("n", "small", b"1", ttl=None), {"Commit": 1}),
            (lambda: store.delete_many("n", ["k", "small"]), {"Lookup": 1, "Commit": 1}),
            (lambda: store.set("n", "k", large, ttl=None), {"Lookup": 1, "Commit": 2}),
            (lambda: store.set("n", "k", b"1", ttl=None), {"Commit": 2}),
        ):
            calls.clear()
            act()
            assert dict(calls) == expected

    @pytest.mark.parametrize("way", ["set", "insert", "replace"])
    def test_a_writer_that_was_stopped(
        self, store: DatastoreStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, way: str
    ) -> None:
        """After 5 minutes it publishes no head, as a purge may have taken its chunks; the old value stays."""
        if way != "insert":
            store.set("n", "k", b"old", ttl=None)
        version = store.read("n", "k")
        write = store._heads.chunks.write

        def stopped(*arguments: Any) -> Any:
            written = write(*arguments)
            clock.advance(300)
            return written

        monkeypatch.setattr(store._heads.chunks, "write", stopped)
        large = os.urandom(1_500_000)
        writes: dict[str, Callable[[], object]] = {
            "set": lambda: store.set("n", "k", large, ttl=None),
            "insert": lambda: store.insert("n", "k", large, ttl=None),
            "replace": lambda: version and store.replace("n", "k", large, version[1], ttl=None),
        }
        with pytest.raises(StoreUnavailable, match="too long"):
            writes[way]()
        clock.advance(61)
        assert store.purge(clock(), 100) == (0, None)
        assert len(entities(store)) == (way != "insert")
        assert store.get("n", "k") == (None if way == "insert" else b"old")


class TestMany(OnEmulators):
    """More than fits in one message or page."""

    def test_many_records(self, store: DatastoreStore, clock: FakeClock) -> None:
        """1,200 records are written, listed, read, purged and cleared; a neighbour stays."""
        items = {f"k{number}": b"%d" % number for number in range(1200)}
        store.set_many("n", items, ttl=None)
        store.set_many("n", {f"old{number}": b"1" for number in range(300)}, ttl=10)
        store.set("n2", "k", b"1", ttl=None)
        assert store.get_many("n", items) == items
        clock.advance(11)
        assert sorted(store.keys("n")) == sorted(items)
        gone, cursor, turns = 0, None, 0
        while True:
            some, cursor = store.purge(clock(), 70, cursor=cursor)
            assert some <= 70
            gone += some
            turns += 1
            if cursor is None:
                break
        assert gone == 300
        assert 5 <= turns <= 8
        store.delete_many("n", [f"k{number}" for number in range(600)])
        assert len(entities(store)) == 601
        store.clear("n")
        assert len(entities(store)) == 1
        assert store.get("n2", "k") == b"1"

    def test_large_values_in_bulk(self, store: DatastoreStore) -> None:
        """Together more than a message holds, some of them more than an entity."""
        items = {f"k{size}": os.urandom(size) for size in (10, 900_000, 900_001, 900_002, 900_003, 1_500_000, 900_004)}
        store.set_many("n", items, ttl=None)
        assert store.get_many("n", items) == items
        store.delete_many("n", items)
        assert entities(store) == []

    def test_purge_spares_what_was_written_again(
        self, store: DatastoreStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A record that gets a new life between being seen and being deleted stays; the others of the page go."""
        for key in ("a", "b", "c"):
            store.set("n", key, b"old", ttl=10)
        clock.advance(11)
        commit_if = store.gateway.commit_if

        def overtaken(*arguments: Any) -> int:
            monkeypatch.undo()
            store.set("n", "b", b"new", ttl=None)
            return commit_if(*arguments)

        monkeypatch.setattr(store.gateway, "commit_if", overtaken)
        assert store.purge(clock(), 100) == (2, None)
        assert store.get("n", "b") == b"new"
        assert len(entities(store)) == 1

    def test_a_foreign_cursor_is_refused(self, store: DatastoreStore) -> None:
        """A cursor that no purge returned is a ValueError, not a scan from somewhere."""
        with pytest.raises(ValueError, match="cursor"):
            store.purge(0, 10, cursor="not one of ours!")
