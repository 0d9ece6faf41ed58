"""The contract suite for :class:`beaker.storage.api.Store`.

::

    class TestMyStore(StoreContract, VersionedContract):
        @pytest.fixture
        def store(self, clock): return MyStore(clock=clock)
        def footprint(self, store): return number_of_records_rows_or_files

A store whose expiry runs on a server's clock sets ``server_clock = True`` (and ``shortest_ttl``); expiry
is then awaited by polling with a deadline instead of moving ``clock``. The suites of the capabilities
are in :mod:`beaker.testing.capabilities` and :mod:`beaker.testing.sharing`.
"""

from __future__ import annotations

import os

import pytest

from beaker.exceptions import ValueTooLarge
from beaker.storage.api import Listing, Store, Versioned
from beaker.testing.clock import FakeClock
from beaker.testing.hooks import ODD_NAMES, STRESS, StoreHooks, run_threads

__all__ = ["StoreContract"]


class StoreContract(StoreHooks):
    """Every promise of :class:`~beaker.storage.api.Store`."""

    def test_is_a_store(self, store: Store) -> None:
        """The object implements the protocol and names its backend."""
        assert isinstance(store, Store)
        assert isinstance(store.backend, str)
        assert store.backend
        assert store.max_value is None or store.max_value > 0
        assert isinstance(store.trusted, bool)

    def test_absent(self, store: Store, ns: str) -> None:
        """What was never written is None."""
        assert store.get(ns, "nothing") is None

    @pytest.mark.parametrize(
        "data",
        [b"", b"x", bytes(range(256)), b"\r\nEND\r\n", b"\0" * 1000],
        ids=["empty", "byte", "all bytes", "lines", "NULs"],
    )
    def test_round_trip(self, store: Store, ns: str, data: bytes) -> None:
        """Any bytes come back as they were."""
        store.set(ns, "k", data, ttl=None)
        got = store.get(ns, "k")
        assert got == data
        assert type(got) is bytes

    def test_large_value(self, store: Store, ns: str) -> None:
        """A large value comes back whole, is overwritten by a small one, and leaves nothing behind."""
        size = self.large if store.max_value is None else min(self.large, store.max_value)
        data = os.urandom(size)
        store.set(ns, "k", data, ttl=None)
        assert store.get(ns, "k") == data
        store.set(ns, "k", b"small", ttl=None)
        assert store.get(ns, "k") == b"small"

    def test_set_overwrites(self, store: Store, ns: str) -> None:
        """The last write wins, and its ttl with it."""
        store.set(ns, "k", b"1", ttl=None)
        store.set(ns, "k", b"2", ttl=None)
        assert store.get(ns, "k") == b"2"

    def test_odd_keys(self, store: Store, ns: str) -> None:
        """Any str is a key of its own."""
        for index, key in enumerate(ODD_NAMES):
            store.set(ns, key, b"%d" % index, ttl=None)
        for index, key in enumerate(ODD_NAMES):
            assert store.get(ns, key) == b"%d" % index, ascii(key[:40])

    def test_odd_namespaces(self, store: Store) -> None:
        """Any str is a namespace of its own, and can be cleared."""
        for namespace in ODD_NAMES:
            store.clear(namespace)
        for index, namespace in enumerate(ODD_NAMES):
            store.set(namespace, "k", b"%d" % index, ttl=None)
        for index, namespace in enumerate(ODD_NAMES):
            assert store.get(namespace, "k") == b"%d" % index, ascii(namespace[:40])
        for index, namespace in enumerate(ODD_NAMES):
            store.clear(namespace)
            assert store.get(namespace, "k") is None
            for later in ODD_NAMES[index + 1 :]:
                assert store.get(later, "k") is not None, ascii(later[:40])

    def test_pairs_never_meet(self, store: Store, ns: str) -> None:
        """Joining namespace and key with anything does not turn two pairs into one."""
        pairs = [(f"a{mark}b", "c") for mark in "_:/. "] + [("a", f"b{mark}c") for mark in "_:/. "]
        pairs += [("ab", ""), ("a", "b"), ("", "ab")]
        for namespace, key in pairs:
            store.set(ns + namespace, key, repr((namespace, key)).encode(), ttl=None)
        for namespace, key in pairs:
            assert store.get(ns + namespace, key) == repr((namespace, key)).encode()

    @pytest.mark.parametrize("ttl", [0, 0.0, -1, -3600.5])
    def test_ttl_of_nothing(self, store: Store, ns: str, ttl: float) -> None:
        """A ttl of zero or less is a record that is already gone; what was there is gone too."""
        store.set(ns, "new", b"1", ttl=ttl)
        assert store.get(ns, "new") is None
        store.set(ns, "old", b"1", ttl=None)
        store.set(ns, "old", b"2", ttl=ttl)
        assert store.get(ns, "old") is None

    def test_expiry(self, store: Store, clock: FakeClock, ns: str) -> None:
        """A record is there before its ttl ends and absent from then on; other records stay."""
        store.set(ns, "for ever", b"1", ttl=None)
        store.set(ns, "long", b"2", ttl=86_400 * 60)
        store.set(ns, "short", b"3", ttl=self.ttl())
        if not self.server_clock:
            clock.advance(self.ttl() * 0.99)
            assert store.get(ns, "short") == b"3"
            clock.advance(-self.ttl() * 0.99)
        self.pass_ttl(clock, lambda: store.get(ns, "short") is None)
        assert store.get(ns, "for ever") == b"1"
        assert store.get(ns, "long") == b"2"

    def test_overwriting_lifts_expiry(self, store: Store, clock: FakeClock, ns: str) -> None:
        """A later write without ttl is not hit by the earlier ttl."""
        store.set(ns, "k", b"1", ttl=self.ttl())
        store.set(ns, "marker", b"1", ttl=self.ttl())
        store.set(ns, "k", b"2", ttl=None)
        self.pass_ttl(clock, lambda: store.get(ns, "marker") is None)
        assert store.get(ns, "k") == b"2"

    def test_delete_is_idempotent(self, store: Store, ns: str) -> None:
        """Deleting removes one record, and deleting nothing is fine."""
        store.delete(ns, "k")
        store.set(ns, "k", b"1", ttl=None)
        store.set(ns, "other", b"2", ttl=None)
        store.delete(ns, "k")
        store.delete(ns, "k")
        assert store.get(ns, "k") is None
        assert store.get(ns, "other") == b"2"

    def test_clear_touches_one_namespace(self, store: Store, ns: str) -> None:
        """A bystander namespace survives; the cleared one is usable at once; clearing nothing is fine."""
        store.clear(ns)
        for key in ("a", "b", "c"):
            store.set(ns, key, b"1", ttl=None)
            store.set(ns + "2", key, b"1", ttl=None)
        store.clear(ns)
        store.clear(ns)
        assert [store.get(ns, key) for key in ("a", "b", "c")] == [None] * 3
        assert [store.get(ns + "2", key) for key in ("a", "b", "c")] == [b"1"] * 3
        store.set(ns, "a", b"2", ttl=None)
        assert store.get(ns, "a") == b"2"
        assert store.get(ns, "b") is None

    def test_reads_create_nothing(self, store: Store, ns: str) -> None:
        """Bogus reads and deletes leave no file, row, entity or memory behind."""
        store.set(ns, "real", b"1", ttl=None)
        before = self.footprint(store)
        for index in range(50):
            store.get(ns, f"bogus{index}")
            store.get(f"{ns}-bogus{index}", "k")
            store.delete(ns, f"bogus{index}")
            if isinstance(store, Versioned):
                assert store.read(ns, f"bogus{index}") is None
            if isinstance(store, Listing):
                assert list(store.keys(f"{ns}-bogus{index}")) == []
        assert self.footprint(store) == before

    def test_oversize(self, store: Store, ns: str) -> None:
        """One byte over max_value is refused, the old value stays; exactly max_value is accepted."""
        limit = store.max_value
        if limit is None:
            return
        store.set(ns, "k", b"old", ttl=None)
        with pytest.raises(ValueTooLarge) as caught:
            store.set(ns, "k", bytes(limit + 1), ttl=None)
        assert (caught.value.size, caught.value.limit) == (limit + 1, limit)
        if isinstance(store, Versioned):
            with pytest.raises(ValueTooLarge):
                store.insert(ns, "new", bytes(limit + 1), ttl=None)
            assert store.get(ns, "new") is None
        assert store.get(ns, "k") == b"old"
        if limit <= 16 * 2**20:
            full = os.urandom(limit)
            store.set(ns, "k", full, ttl=None)
            assert store.get(ns, "k") == full

    def test_threads_share_it(self, store: Store, ns: str) -> None:
        """Threads write distinct keys at once and every one of them is there with its own value."""

        def work(index: int) -> None:
            for turn in range(self.rounds * STRESS):
                name = f"{index}-{turn}"
                store.set(ns, name, name.encode(), ttl=None)
                assert store.get(ns, name) == name.encode()

        run_threads(self.threads, work)
        for index in range(self.threads):
            for turn in range(self.rounds * STRESS):
                assert store.get(ns, f"{index}-{turn}") == f"{index}-{turn}".encode()
