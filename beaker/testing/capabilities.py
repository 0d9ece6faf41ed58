"""Contract suites for the capabilities of :mod:`beaker.storage.api`; hooks as in ``StoreContract``."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

from beaker.storage.api import Bulk, Listing, Purging, Spanning, Store, Versioned, Written
from beaker.testing.clock import FakeClock
from beaker.testing.hooks import ODD_NAMES, STRESS, StoreHooks, run_threads

__all__ = ["BulkContract", "ListingContract", "PurgingContract", "VersionedContract", "VersionedStore", "increment"]


class VersionedStore(Store, Versioned, Protocol):
    """What :class:`VersionedContract` needs."""


class ListingStore(Store, Listing, Protocol):
    """What :class:`ListingContract` needs."""


class PurgingStore(Store, Purging, Protocol):
    """What :class:`PurgingContract` needs."""


class BulkStore(Store, Bulk, Protocol):
    """What :class:`BulkContract` needs."""


def done(result: bool | Written) -> bool:
    """Whether a conditional write returned that it was carried out, in one of the two ways in which it may."""
    return result is True or isinstance(result, Written)


def increment(store: Versioned, namespace: str, key: str) -> None:
    """Add one to a decimal number by optimistic retries, as counters do."""
    while True:
        found = store.read(namespace, key)
        if found is None:
            if store.insert(namespace, key, b"1", ttl=None):
                return
        elif store.replace(namespace, key, b"%d" % (int(found[0]) + 1), found[1], ttl=None):
            return


class VersionedContract(StoreHooks):
    """Every promise of :class:`~beaker.storage.api.Versioned`."""

    def test_is_versioned(self, store: VersionedStore) -> None:
        """The object implements the protocol."""
        assert isinstance(store, Versioned)

    def test_read(self, store: VersionedStore, ns: str) -> None:
        """read returns the bytes and a hashable version that stays the same until a write."""
        assert store.read(ns, "k") is None
        store.set(ns, "k", b"1", ttl=None)
        first, second = store.read(ns, "k"), store.read(ns, "k")
        assert first is not None
        assert second is not None
        assert first[0] == b"1"
        assert type(first[0]) is bytes
        assert first[1] == second[1]
        hash(first[1])

    def test_every_write_changes_the_version(self, store: VersionedStore, ns: str) -> None:
        """Also one of the same bytes, whichever operation wrote it."""
        store.set(ns, "k", b"same", ttl=None)
        seen = []
        for _ in range(3):
            found = store.read(ns, "k")
            assert found is not None
            seen.append(found[1])
            assert done(store.replace(ns, "k", b"same", found[1], ttl=None))
            found = store.read(ns, "k")
            assert found is not None
            seen.append(found[1])
            store.set(ns, "k", b"same", ttl=None)
        assert len(set(seen)) == 6

    def test_a_returned_version_is_the_records(self, store: VersionedStore, ns: str) -> None:
        """Where insert and replace return the version they wrote, read returns the same, and it can be replaced."""
        result = store.insert(ns, "k", b"1", ttl=None)
        versions = []
        for data, ttl in ((b"2", None), (b"3", 100.25), (bytes(5_000), 1e9)):
            found = store.read(ns, "k")
            assert done(result)
            assert found is not None
            version = result.version if isinstance(result, Written) else found[1]
            assert version == found[1]
            versions.append(version)
            result = store.replace(ns, "k", data, version, ttl=ttl)
            assert store.get(ns, "k") == data
            # None that was returned before is the record's any more.
            assert not any(store.replace(ns, "k", b"stale", version, ttl=None) for version in versions)
        if isinstance(result, Written):
            assert store.remove(ns, "k", result.version) is True

    def test_insert_once(self, store: VersionedStore, ns: str) -> None:
        """Only the first insert of a key writes."""
        assert done(store.insert(ns, "k", b"first", ttl=None))
        assert store.insert(ns, "k", b"second", ttl=None) is False
        assert store.get(ns, "k") == b"first"
        store.set(ns, "set", b"set", ttl=None)
        assert store.insert(ns, "set", b"insert", ttl=None) is False
        store.delete(ns, "k")
        assert done(store.insert(ns, "k", b"third", ttl=None))
        assert store.get(ns, "k") == b"third"

    def test_stale_replace_is_refused(self, store: VersionedStore, ns: str) -> None:
        """replace writes on the current version and on no other, and never creates."""
        store.set(ns, "k", b"1", ttl=None)
        found = store.read(ns, "k")
        assert found is not None
        assert done(store.replace(ns, "k", b"2", found[1], ttl=None))
        assert store.replace(ns, "k", b"3", found[1], ttl=None) is False
        assert store.get(ns, "k") == b"2"
        store.delete(ns, "k")
        assert store.replace(ns, "k", b"4", found[1], ttl=None) is False
        assert store.get(ns, "k") is None

    def test_remove_if_unchanged(self, store: VersionedStore, ns: str) -> None:
        """remove deletes the version it was given and no other."""
        store.set(ns, "k", b"1", ttl=None)
        old = store.read(ns, "k")
        store.set(ns, "k", b"2", ttl=None)
        new = store.read(ns, "k")
        assert old is not None
        assert new is not None
        assert store.remove(ns, "k", old[1]) is False
        assert store.get(ns, "k") == b"2"
        assert store.remove(ns, "k", new[1]) is True
        assert store.get(ns, "k") is None
        assert store.remove(ns, "k", new[1]) is False

    def test_no_aba(self, store: VersionedStore, ns: str) -> None:
        """A record deleted and inserted again, with the same bytes, never has an old version."""
        versions: list[Hashable] = []
        for way in ("delete", "clear", "remove"):
            assert done(store.insert(ns, "k", b"same", ttl=None))
            found = store.read(ns, "k")
            assert found is not None
            for version in versions:
                assert store.replace(ns, "k", b"stolen", version, ttl=None) is False
                assert store.remove(ns, "k", version) is False
            versions.append(found[1])
            if way == "delete":
                store.delete(ns, "k")
            elif way == "clear":
                store.clear(ns)
            else:
                assert store.remove(ns, "k", found[1]) is True
        assert len(set(versions)) == 3

    def test_expired_is_absent(self, store: VersionedStore, clock: FakeClock, ns: str) -> None:
        """An expired record cannot be replaced or removed, and can be inserted over."""
        assert done(store.insert(ns, "k", b"1", ttl=self.ttl()))
        found = store.read(ns, "k")
        assert found is not None
        self.pass_ttl(clock, lambda: store.read(ns, "k") is None)
        assert store.replace(ns, "k", b"2", found[1], ttl=None) is False
        assert store.remove(ns, "k", found[1]) is False
        assert done(store.insert(ns, "k", b"3", ttl=None))
        assert store.get(ns, "k") == b"3"

    def test_replace_sets_the_ttl(self, store: VersionedStore, clock: FakeClock, ns: str) -> None:
        """replace brings its own ttl, and one of zero ends the record."""
        store.set(ns, "marker", b"", ttl=self.ttl())
        store.set(ns, "k", b"1", ttl=self.ttl())
        found = store.read(ns, "k")
        assert found is not None
        assert done(store.replace(ns, "k", b"2", found[1], ttl=None))
        self.pass_ttl(clock, lambda: store.get(ns, "marker") is None)
        found = store.read(ns, "k")
        assert found is not None
        assert found[0] == b"2"
        assert done(store.replace(ns, "k", b"3", found[1], ttl=0))
        assert store.get(ns, "k") is None

    def test_odd_names_are_versioned(self, store: VersionedStore, ns: str) -> None:
        """Names that narrow stores stumble over work here too."""
        for key in ODD_NAMES:
            assert done(store.insert(ns, key, b"1", ttl=None)), ascii(key[:40])
        for key in ODD_NAMES:
            found = store.read(ns, key)
            assert found is not None, ascii(key[:40])
            assert done(store.replace(ns, key, b"2", found[1], ttl=None)), ascii(key[:40])

    def test_threads_lose_no_increment(self, store: VersionedStore, ns: str) -> None:
        """Threads that increment one number by compare-and-set end at the exact sum."""
        rounds = self.rounds * STRESS

        def work(index: int) -> None:
            for _ in range(rounds):
                increment(store, ns, "n")

        run_threads(self.threads, work)
        assert store.get(ns, "n") == b"%d" % (self.threads * rounds)

    def test_one_of_many_inserts(self, store: VersionedStore, ns: str) -> None:
        """Of threads inserting the same key at once exactly one writes."""
        for turn in range(5 * STRESS):
            won: list[int] = []

            def work(index: int, turn: int = turn, won: list[int] = won) -> None:
                if store.insert(ns, f"k{turn}", b"%d" % index, ttl=None):
                    won.append(index)

            run_threads(self.threads, work)
            assert len(won) == 1
            assert store.get(ns, f"k{turn}") == b"%d" % won[0]


class ListingContract(StoreHooks):
    """Every promise of :class:`~beaker.storage.api.Listing`."""

    def test_lists_live_keys(self, store: ListingStore, clock: FakeClock, ns: str) -> None:
        """keys names the original keys of one namespace's live records, each once."""
        assert isinstance(store, Listing)
        assert list(store.keys(ns)) == []
        for key in ODD_NAMES:
            store.set(ns, key, b"1", ttl=None)
        store.set(ns + "2", "elsewhere", b"1", ttl=None)
        store.set(ns, "deleted", b"1", ttl=None)
        store.delete(ns, "deleted")
        store.set(ns, "expired", b"1", ttl=self.ttl())
        self.pass_ttl(clock, lambda: store.get(ns, "expired") is None)
        assert sorted(store.keys(ns)) == sorted(ODD_NAMES)
        store.clear(ns)
        assert list(store.keys(ns)) == []

    def test_writing_while_listing(self, store: ListingStore, ns: str) -> None:
        """Deleting what is being listed breaks nothing and deletes everything."""
        for index in range(20):
            store.set(ns, f"k{index}", b"1", ttl=None)
        for key in store.keys(ns):
            store.delete(ns, key)
        assert list(store.keys(ns)) == []


class PurgingContract(StoreHooks):
    """Every promise of :class:`~beaker.storage.api.Purging`; needs an injectable clock."""

    def _drain(self, store: PurgingStore, now: float, limit: int) -> int:
        total, cursor = 0, None
        for _ in range(10_000):
            gone, cursor = store.purge(now, limit, cursor=cursor)
            assert 0 <= gone <= limit
            total += gone
            if cursor is None:
                return total
        raise AssertionError("purge never reached the end")

    def test_purges_the_expired_only(self, store: PurgingStore, clock: FakeClock, ns: str) -> None:
        """Expired records go, at most limit a call, and live ones stay; the cursor leads to the end."""
        assert isinstance(store, Purging)
        store.set(ns, "for ever", b"1", ttl=None)
        store.set(ns, "long", b"1", ttl=1000)
        live = self.footprint(store)
        for index in range(7):
            store.set(ns if index % 2 else ns + "2", f"k{index}", b"1", ttl=10)
        assert self.footprint(store) >= live
        clock.advance(11)
        assert self._drain(store, clock(), 2) >= 7
        assert self.footprint(store) == live
        assert store.get(ns, "for ever") == b"1"
        assert store.get(ns, "long") == b"1"
        assert self._drain(store, clock(), 2) == 0

    def test_now_decides(self, store: PurgingStore, clock: FakeClock, ns: str) -> None:
        """A record that expires after ``now`` is not purged, nor one written again without ttl."""
        store.set(ns, "later", b"1", ttl=100)
        store.set(ns, "again", b"1", ttl=10)
        store.set(ns, "in time", b"1", ttl=10)
        store.set(ns, "in time", b"2", ttl=None)
        clock.advance(11)
        store.set(ns, "again", b"2", ttl=None)
        assert self._drain(store, clock(), 100) == 0
        assert store.get(ns, "later") == b"1"
        assert store.get(ns, "again") == b"2"
        assert store.get(ns, "in time") == b"2"

    def test_no_time_at_all(self, store: PurgingStore, clock: FakeClock, ns: str) -> None:
        """With a deadline of zero seconds the call comes back, and a later one can finish the work."""
        for index in range(5):
            store.set(ns, f"k{index}", b"1", ttl=10)
        clock.advance(11)
        gone, cursor = store.purge(clock(), 100, deadline=0.0)
        if cursor is not None:
            gone += self._drain(store, clock(), 100)
        assert gone >= 5


class BulkContract(StoreHooks):
    """Every promise of :class:`~beaker.storage.api.Bulk`."""

    def test_bulk(self, store: BulkStore, clock: FakeClock, ns: str) -> None:
        """Many are written, read and deleted as if one by one; only present keys are returned."""
        assert isinstance(store, Bulk)
        items = {key: b"%d" % index for index, key in enumerate(ODD_NAMES)}
        store.set_many(ns, items, ttl=None)
        assert store.get_many(ns, iter([*ODD_NAMES, "absent"])) == items
        assert all(store.get(ns, key) == data for key, data in items.items())
        store.delete_many(ns, iter([*ODD_NAMES[:3], "absent"]))
        assert set(store.get_many(ns, ODD_NAMES)) == set(ODD_NAMES[3:])

    def test_across_namespaces(self, store: BulkStore, clock: FakeClock, ns: str) -> None:
        """Where the store can, keys of several namespaces are read together; only live records are returned."""
        if not isinstance(store, Spanning):
            return
        other = f"{ns}, another"
        store.set_many(ns, dict.fromkeys(ODD_NAMES, b"1"), ttl=None)
        store.set_many(other, {"a": b"2", "gone": b"3", "b": b"4"}, ttl=None)
        store.delete(other, "gone")
        wanted = [(ns, key) for key in ODD_NAMES] + [(other, "a"), (other, "gone"), (other, "b"), (ns, "absent")]
        expected = {**{(ns, key): b"1" for key in ODD_NAMES}, (other, "a"): b"2", (other, "b"): b"4"}
        assert store.get_across(iter(wanted)) == expected
        store.clear(other)
        assert store.get_across([(ns, ODD_NAMES[0]), (other, "a")]) == {(ns, ODD_NAMES[0]): b"1"}
        assert store.get_across([]) == {}

    def test_bulk_of_nothing(self, store: BulkStore, ns: str) -> None:
        """Empty input is fine."""
        store.set_many(ns, {}, ttl=None)
        store.delete_many(ns, [])
        assert store.get_many(ns, []) == {}

    def test_bulk_expiry(self, store: BulkStore, clock: FakeClock, ns: str) -> None:
        """The ttl counts for each of them."""
        store.set_many(ns, {"a": b"1", "b": b"2"}, ttl=self.ttl())
        assert store.get_many(ns, ["a", "b"]) == {"a": b"1", "b": b"2"}
        self.pass_ttl(clock, lambda: store.get_many(ns, ["a", "b"]) == {})
