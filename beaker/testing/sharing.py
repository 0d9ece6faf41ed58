"""Contract suites for stores whose data several objects or processes share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

from beaker.storage.api import Listing, Store, Versioned
from beaker.testing.capabilities import VersionedStore, done, increment
from beaker.testing.hooks import STRESS, StoreHooks, run_threads

__all__ = ["ProcessContract", "SharedContract"]

Factory = Callable[..., Any]


class SharedContract(StoreHooks):
    """Two store objects on the same data see each other; override ``second_store``."""

    def test_writes_are_seen(self, store: Store, ns: str) -> None:
        """What one wrote, overwrote, deleted or cleared the other sees at its next read."""
        other: Store = self.second_store(store)
        assert other.get(ns, "k") is None
        store.set(ns, "k", b"1", ttl=None)
        assert other.get(ns, "k") == b"1"
        other.set(ns, "k", b"2", ttl=None)
        assert store.get(ns, "k") == b"2"
        store.delete(ns, "k")
        assert other.get(ns, "k") is None
        other.set(ns, "k", b"3", ttl=None)
        assert store.get(ns, "k") == b"3"
        store.clear(ns)
        assert other.get(ns, "k") is None
        other.set(ns, "k", b"4", ttl=None)
        assert store.get(ns, "k") == b"4"

    def test_versions_are_shared(self, store: VersionedStore, ns: str) -> None:
        """A version read by one is honoured, or refused, by the other."""
        other: VersionedStore = self.second_store(store)
        assert done(store.insert(ns, "k", b"1", ttl=None))
        assert other.insert(ns, "k", b"2", ttl=None) is False
        found = other.read(ns, "k")
        assert found is not None
        assert found == store.read(ns, "k")
        assert done(store.replace(ns, "k", b"3", found[1], ttl=None))
        assert other.replace(ns, "k", b"4", found[1], ttl=None) is False
        assert other.remove(ns, "k", found[1]) is False
        assert other.get(ns, "k") == b"3"

    def test_both_increment(self, store: VersionedStore, ns: str) -> None:
        """Threads on either object lose no increment."""
        stores = [store, self.second_store(store)]
        rounds = self.rounds * STRESS

        def work(index: int) -> None:
            for _ in range(rounds):
                increment(stores[index % 2], ns, "n")

        run_threads(self.threads, work)
        assert store.get(ns, "n") == b"%d" % (self.threads * rounds)


def write_distinct(factory: Factory, arguments: tuple[Any, ...], namespace: str, index: int, rounds: int) -> None:
    """In a child process: write ``rounds`` records that no other process writes, alternating insert and set."""
    store = factory(*arguments)
    for turn in range(rounds):
        name = f"{index}-{turn}"
        if turn % 2 and isinstance(store, Versioned):
            if not store.insert(namespace, name, name.encode(), ttl=None):
                raise AssertionError(f"insert of the new key {name} was refused")
        else:
            store.set(namespace, name, name.encode(), ttl=None)


def count_up(factory: Factory, arguments: tuple[Any, ...], namespace: str, index: int, rounds: int) -> None:
    """In a child process: increment one shared number ``rounds`` times."""
    store = factory(*arguments)
    for _ in range(rounds):
        increment(store, namespace, "n")


def together(barrier: Barrier, work: Callable[..., None], *arguments: Any) -> None:
    """In a child process: wait for the other children, then work. A child that never comes breaks the wait."""
    barrier.wait(60)
    work(*arguments)


class ProcessContract(StoreHooks):
    """Fresh processes on the same data lose nothing; override :meth:`process_factory`."""

    processes = 3
    process_rounds = 20
    start_method = "spawn"
    """How children are started; one of :func:`multiprocessing.get_all_start_methods` that starts them fresh."""

    def process_factory(self, store: Any) -> tuple[Factory, tuple[Any, ...]]:
        """An importable callable and its picklable arguments that build the store in a child. Override."""
        raise NotImplementedError("override process_factory()")

    def run_processes(self, store: Any, work: Callable[..., None], namespace: str, *, timeout: float = 120.0) -> None:
        """Run ``work`` in ``processes`` fresh children; fails when one fails or takes over ``timeout`` seconds."""
        factory, arguments = self.process_factory(store)
        context: Any = multiprocessing.get_context(self.start_method)
        rounds = self.process_rounds * STRESS
        # Starting a process takes longer than its work: without a barrier they would hardly collide.
        barrier = context.Barrier(self.processes)
        common = (barrier, work, factory, arguments, namespace)
        children = [
            context.Process(target=together, args=(*common, index, rounds), daemon=True)
            for index in range(self.processes)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(timeout)
        codes = [child.exitcode for child in children]
        for child in children:
            if child.exitcode is None:
                child.kill()
                child.join()
        assert codes == [0] * self.processes, "a child failed (see its traceback on stderr) or did not end"

    def test_processes_lose_no_write(self, store: Store, ns: str) -> None:
        """Distinct keys written by several processes at once are all there."""
        self.run_processes(store, write_distinct, ns)
        names = [f"{index}-{turn}" for index in range(self.processes) for turn in range(self.process_rounds * STRESS)]
        assert [name for name in names if store.get(ns, name) != name.encode()] == []
        if isinstance(store, Listing):
            assert sorted(store.keys(ns)) == sorted(names)

    def test_processes_lose_no_increment(self, store: Store, ns: str) -> None:
        """One number incremented by several processes ends at the exact sum."""
        assert isinstance(store, Versioned)
        self.run_processes(store, count_up, ns)
        assert store.get(ns, "n") == b"%d" % (self.processes * self.process_rounds * STRESS)
