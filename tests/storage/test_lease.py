"""Leases over a store: the contract, renewal, and stores that fail in the middle."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pytest

from beaker import counters, runtime
from beaker.exceptions import ConfigError, StoreError, StoreUnavailable
from beaker.locking.factories import LayeredLocks, ThreadLocks
from beaker.storage.lease import LeaseLocks
from beaker.storage.memory import MemoryStore
from beaker.testing import FakeClock
from beaker.testing.lock import LeaseContract, LockContract

ROOT = Path(__file__).parents[2]


class TestOverMemory(LeaseContract):
    @pytest.fixture
    def store(self, clock: FakeClock) -> MemoryStore:
        return MemoryStore(clock=clock)


class TestRenewing(LeaseContract):
    """The same promises while a thread prolongs what is held."""

    @pytest.fixture
    def store(self, clock: FakeClock) -> MemoryStore:
        return MemoryStore(clock=clock)

    @pytest.fixture
    def locks(self, store: Any, clock: FakeClock) -> LeaseLocks:
        return LeaseLocks(store, ttl=self.ttl, clock=clock, renew=True)


class TestThreadsInFront(LockContract):
    @pytest.fixture
    def locks(self) -> LayeredLocks:
        return LayeredLocks(ThreadLocks(), LeaseLocks(MemoryStore(), renew=False))


class Spy(MemoryStore):
    """A memory store that counts, and raises or acts on request in a named operation."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self.calls: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.replaced = threading.Event()
        self.lose_answer = False

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.errors:
            raise self.errors[name]

    def read(self, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        self._called("read")
        return super().read(namespace, key)

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> Any:
        self._called("insert")
        done = super().insert(namespace, key, data, ttl=ttl)
        return False if self.lose_answer else done

    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> Any:
        self._called("replace")
        done = super().replace(namespace, key, data, version, ttl=ttl)
        self.replaced.set()
        return done

    def remove(self, namespace: str, key: str, version: Hashable) -> bool:
        self._called("remove")
        return super().remove(namespace, key, version)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> Spy:
    return Spy(clock)


@pytest.fixture
def locks(store: Spy, clock: FakeClock) -> LeaseLocks:
    return LeaseLocks(store, clock=clock, renew=False)


def test_free_lease_is_one_write(store: Spy, locks: LeaseLocks) -> None:
    """An uncontended lease costs one insert to take, and a remove to give up."""
    lease = locks.creation("n", "k")
    lease.acquire(True, 1.0)
    assert store.calls == ["insert"]
    lease.release()
    assert store.calls == ["insert", "remove"]


def test_waiting_reads(store: Spy, clock: FakeClock) -> None:
    """A waiter reads the lease at every try after the first; it does not write."""
    locks = LeaseLocks(store, clock=clock, timer=clock, sleep=clock.advance, rng=lambda: 0.0, renew=False)
    locks.creation("n", "k").acquire()
    store.calls.clear()
    assert locks.creation("n", "k").acquire(True, 2.0) is False
    assert store.calls[0] == "insert"
    assert set(store.calls[1:]) == {"read"}


def test_pauses(store: Spy, clock: FakeClock) -> None:
    """Pauses grow from 1 ms by 1.7 up to 100 ms, and the last one ends at the timeout."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock.advance(seconds)

    locks = LeaseLocks(store, clock=clock, timer=clock, sleep=sleep, rng=lambda: 0.0, renew=False)
    locks.creation("n", "k").acquire()
    assert locks.creation("n", "k").acquire(True, 1.0) is False
    assert pauses[:3] == pytest.approx([0.001, 0.0017, 0.00289])
    assert max(pauses) == pytest.approx(0.1)
    assert sum(pauses) == pytest.approx(1.0)


def test_a_slow_store_is_waited_for_once(store: Spy, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A try whose calls go on beyond the timeout does not begin a further write."""
    locks = LeaseLocks(store, ttl=1.0, clock=clock, timer=clock, sleep=clock.advance, renew=False)
    locks.creation("n", "k").acquire()
    store.calls.clear()
    called = Spy._called

    def slowly(self: Spy, name: str) -> None:
        called(self, name)
        clock.advance(0.8)

    monkeypatch.setattr(Spy, "_called", slowly)
    assert locks.creation("n", "k").acquire(True, 1.0) is False
    assert store.calls == ["insert", "read"]


def test_waiter_takes_over(store: Spy, clock: FakeClock) -> None:
    """A waiter for a dead owner has the lease within a tenth of a second after its ttl, counted as takeover."""
    counters.reset()
    locks = LeaseLocks(store, ttl=5.0, clock=clock, timer=clock, sleep=clock.advance, renew=False)
    locks.creation("n", "k").acquire()
    began = clock()
    assert locks.creation("n", "k").acquire(True, 30.0) is True
    assert 5.0 <= clock() - began <= 5.1
    assert counters.snapshot().events["lock_takeover"] == 1


def test_a_clock_ahead_holds_no_lease_for_longer_than_that(store: Spy, clock: FakeClock) -> None:
    """Where an aborted owner's clock is an hour ahead, another has the lease at once; a minute is waited for."""
    for ahead, free in ((3600.0, True), (59.0, False)):
        theirs = LeaseLocks(store, ttl=5.0, clock=FakeClock(clock() + ahead)).creation("n", "k")
        store.set("lease:n", "k", theirs._record(bytes(16)), ttl=None)
        assert LeaseLocks(store, ttl=5.0, clock=clock, renew=False).creation("n", "k").acquire(False) is free


def test_record_leaves_the_store(store: Spy, clock: FakeClock, locks: LeaseLocks) -> None:
    """The record of a dead owner is gone from the store one second after the lease ran out."""
    locks.creation("n", "k").acquire()
    clock.advance(31.0)
    assert store.get("lease:n", "k") is None


def test_owners_are_random(store: Spy, clock: FakeClock, locks: LeaseLocks) -> None:
    """No two acquisitions write the same owner."""
    owners = set()
    for _ in range(20):
        lease = locks.creation("n", "k")
        lease.acquire()
        found = store.read("lease:n", "k")
        assert found is not None
        owners.add(found[0][:16])
        lease.release()
    assert len(owners) == 20


def test_lost_answer(store: Spy, locks: LeaseLocks) -> None:
    """An insert that was done and reported as refused is recognized by its token."""
    store.lose_answer = True
    assert locks.creation("n", "k").acquire(False) is True


def test_thread_renews(store: Spy, clock: FakeClock) -> None:
    """With renew=True a held lease is prolonged again and again, and not any more once it was released."""
    locks = LeaseLocks(store, ttl=0.03, clock=clock, renew=True)
    lease = locks.creation("n", "k")
    before = set(threading.enumerate())
    lease.acquire()
    (keeper,) = (thread for thread in set(threading.enumerate()) - before if thread.name == "beaker-lease")
    assert keeper.daemon
    for _ in range(3):
        store.replaced.clear()
        assert store.replaced.wait(30.0)
    lease.release()
    keeper.join(30.0)
    assert not keeper.is_alive()
    assert store.get("lease:n", "k") is None


def test_renewal_survives_errors(store: Spy, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """A renewal that fails is logged and tried again; one that finds a thief ends."""
    store.errors["replace"] = StoreUnavailable("away", backend="memory", operation="replace")
    locks = LeaseLocks(store, ttl=0.03, clock=clock, renew=True)
    lease = locks.creation("n", "k")
    before = set(threading.enumerate())
    lease.acquire()
    (keeper,) = (thread for thread in set(threading.enumerate()) - before if thread.name == "beaker-lease")
    while not caplog.records:
        assert keeper.is_alive()
        keeper.join(0.001)
    del store.errors["replace"]
    assert store.replaced.wait(30.0)
    store.set("lease:n", "k", b"somebody else's lease now", ttl=None)
    keeper.join(30.0)
    assert not keeper.is_alive()


def test_renew_by_runtime(store: Spy) -> None:
    """By default leases are renewed where threads run between requests, and not on serverless."""
    try:
        runtime.override(runtime.Runtime(platform=runtime.Platform.CLOUD_RUN))
        assert LeaseLocks(store).renew is False
        runtime.override(runtime.Runtime())
        assert LeaseLocks(store).renew is True
    finally:
        runtime.override(None)


@pytest.mark.parametrize("operation", ["insert", "read"])
def test_unavailable(store: Spy, locks: LeaseLocks, operation: str, caplog: pytest.LogCaptureFixture) -> None:
    """A store that stops responding at any step lets the caller proceed; a failure is news again after it responded."""
    error = StoreUnavailable("away", backend="memory", operation=operation)
    if operation == "read":
        store.set("lease:n", "k", b"held", ttl=None)
    for _ in range(2):
        store.errors[operation] = error
        assert locks.creation("n", "k").acquire(True, 1.0) is True
        assert locks.creation("n", "k").acquire(True, 1.0) is True
        assert locks.creation("n", "k").held is False
        store.errors.clear()
        store.delete("lease:n", "k")
        lease = locks.creation("n", "k")
        assert lease.acquire() is True
        if operation == "insert":
            lease.release()
    assert len(caplog.records) == 2


def test_other_errors_are_raised(store: Spy, locks: LeaseLocks) -> None:
    """An error that is not about reaching the store reaches the caller."""
    store.errors["insert"] = StoreError("no permission", backend="memory", operation="insert")
    with pytest.raises(StoreError, match="no permission"):
        locks.creation("n", "k").acquire()


@pytest.mark.parametrize("operation", ["read", "remove"])
def test_release_never_raises(store: Spy, locks: LeaseLocks, operation: str, caplog: pytest.LogCaptureFixture) -> None:
    """A failing release is logged; the lease is not held any more."""
    lease = locks.creation("n", "k")
    lease.acquire()
    if operation == "read":
        # As with a store that does not say which version it wrote.
        lease._version = None
    store.errors[operation] = OSError("cable")
    lease.release()
    assert lease.held is False
    assert len(caplog.records) == 1


@pytest.mark.parametrize("ttl", [0, -1, float("nan")])
def test_bad_ttl(store: Spy, ttl: float) -> None:
    """A lease that lasts no time is refused, naming the option."""
    with pytest.raises(ConfigError, match="seconds over 0") as caught:
        LeaseLocks(store, ttl=ttl)
    assert caught.value.option == "ttl"


FORK = """
import os
from beaker.storage.lease import LeaseLocks
from beaker.storage.memory import MemoryStore
store = MemoryStore()
lease = LeaseLocks(store, renew=True).creation("n", "k")
lease.acquire()
if not os.fork():
    assert not lease.held and not lease.renew()
    lease.release()
    assert store.get("lease:n", "k") is not None
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
assert lease.held
lease.release()
assert store.get("lease:n", "k") is None
"""


def test_fork() -> None:
    """A forked child does not own its parent's lease: releasing it there leaves it held."""
    # In a process of its own: this one may have threads, beside which Python 3.12 warns of forking.
    subprocess.run([sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK], check=True, timeout=60, cwd=ROOT)
