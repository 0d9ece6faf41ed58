"""Contract suites for lock factories: :class:`LockContract` for all, :class:`LeaseContract` for leases.

::

    class TestMyLocks(LockContract):
        @pytest.fixture
        def locks(self): return MyLocks()

    class TestLeasesOnMyStore(LeaseContract):
        @pytest.fixture
        def store(self): return MyStore()      # a beaker.storage.api.Versioned
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from beaker.exceptions import StoreUnavailable
from beaker.locking.factories import LayeredLocks, LockFactory, ThreadLocks
from beaker.storage.lease import LeaseLocks
from beaker.testing.capabilities import done
from beaker.testing.clock import FakeClock
from beaker.testing.hooks import STRESS, run_threads

__all__ = ["LeaseContract", "LockContract", "elsewhere", "wait_until"]

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds after which a test that waits for another thread has failed."""


def elsewhere(work: Callable[[], T]) -> T:
    """What ``work()`` returns in a thread of its own; raises what it raised."""
    answers: list[T] = []
    run_threads(1, lambda _: answers.append(work()))
    return answers[0]


def wait_until(condition: Callable[[], object]) -> None:
    """Give other threads time until ``condition()`` holds; fails when it never does."""
    pause = threading.Event()
    for _ in range(int(PATIENCE * 1000)):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("it never happened")


class LockContract:
    """Every promise of :class:`beaker.locking.factories.Lock`; override the fixture ``locks``."""

    threads = 4
    rounds = 25

    @pytest.fixture
    def locks(self) -> Any:
        """The factory under test. Override."""
        raise NotImplementedError("override the locks fixture")

    @pytest.fixture
    def ns(self) -> str:
        """A namespace no other test uses."""
        return f"contract-{uuid.uuid4().hex}"

    def test_mutual_exclusion(self, locks: LockFactory, ns: str) -> None:
        """Of many threads one at a time is inside, and each comes in as often as it asks."""
        inside: list[int] = []
        crowds: list[int] = []
        entered: list[int] = []

        def work(index: int) -> None:
            for _ in range(self.rounds * STRESS):
                lock = locks.creation(ns, "k")
                assert lock.acquire(True, PATIENCE) is True
                inside.append(index)
                threading.Event().wait(0)
                crowds.append(len(inside))
                inside.remove(index)
                entered.append(index)
                lock.release()

        run_threads(self.threads, work)
        assert set(crowds) == {1}
        assert len(entered) == self.threads * self.rounds * STRESS

    def test_no_wait(self, locks: LockFactory, ns: str) -> None:
        """Without waiting it returns False while it is held and True once it is free."""
        first, second = locks.creation(ns, "k"), locks.creation(ns, "k")
        assert first.acquire(False) is True
        assert second.acquire(False) is False
        assert elsewhere(lambda: second.acquire(False)) is False
        first.release()
        assert second.acquire(False) is True
        second.release()

    def test_timeout(self, locks: LockFactory, ns: str) -> None:
        """Waiting ends with False when the time runs out, and leaves the lock to its holder."""
        first, second = locks.creation(ns, "k"), locks.creation(ns, "k")
        assert first.acquire() is True
        assert elsewhere(lambda: second.acquire(True, 0.01)) is False
        assert elsewhere(lambda: second.acquire(True, 0)) is False
        assert elsewhere(lambda: second.acquire(False)) is False
        first.release()
        assert second.acquire(True, 0.01) is True
        second.release()

    def test_release_lets_a_waiter_in(self, locks: LockFactory, ns: str) -> None:
        """Who waits without a limit gets the lock when it is released, and not before."""
        first, second = locks.creation(ns, "k"), locks.creation(ns, "k")
        first.acquire()
        released = threading.Event()
        waiting = threading.Event()

        def wait() -> bool:
            waiting.set()
            assert second.acquire() is True
            early = not released.is_set()
            second.release()
            return early

        answers: list[bool] = []
        waiter = threading.Thread(target=lambda: answers.append(wait()), daemon=True)
        waiter.start()
        assert waiting.wait(PATIENCE)
        released.set()
        first.release()
        waiter.join(PATIENCE)
        assert answers == [False]

    def test_again(self, locks: LockFactory, ns: str) -> None:
        """One lock object can be taken and released any number of times."""
        lock = locks.creation(ns, "k")
        for _ in range(3):
            assert lock.acquire(True, PATIENCE) is True
            lock.release()

    def test_names_are_apart(self, locks: LockFactory, ns: str) -> None:
        """Different keys, and different namespaces, do not exclude each other, however alike they look."""
        names = [(ns, "k"), (ns, "K"), (ns, ""), (ns + "k", ""), (ns, "k\0"), (ns, "k ключ"), (ns, "x" * 5000)]
        held = [locks.creation(*name) for name in names]
        assert [lock.acquire(False) for lock in held] == [True] * len(names)
        for lock in held:
            lock.release()


class _Down:
    """A store that does not answer."""

    def read(self, namespace: str, key: str) -> None:
        raise StoreUnavailable("nobody there", backend="double", operation="read")

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> bool:
        raise StoreUnavailable("nobody there", backend="double", operation="insert")

    def replace(self, namespace: str, key: str, data: bytes, version: object, *, ttl: float | None) -> bool:
        raise StoreUnavailable("nobody there", backend="double", operation="replace")

    def remove(self, namespace: str, key: str, version: object) -> bool:
        raise StoreUnavailable("nobody there", backend="double", operation="remove")


class LeaseContract(LockContract):
    """Leases over any :class:`beaker.storage.api.Versioned` store; override the fixture ``store``.

    Which lease ran out is decided by ``clock``, even on a store whose own expiry runs on a server's clock.
    """

    ttl = 30.0

    @pytest.fixture
    def store(self) -> Any:
        """The store under test. Override."""
        raise NotImplementedError("override the store fixture")

    @pytest.fixture
    def clock(self) -> FakeClock:
        """What the leases' owners agree on."""
        return FakeClock()

    @pytest.fixture
    def locks(self, store: Any, clock: FakeClock) -> LeaseLocks:
        """One host."""
        return LeaseLocks(store, ttl=self.ttl, clock=clock, renew=False)

    @pytest.fixture
    def rival(self, store: Any, clock: FakeClock) -> LeaseLocks:
        """Another host on the same store."""
        return LeaseLocks(store, ttl=self.ttl, clock=clock, renew=False)

    def test_hosts_exclude_each_other(self, locks: LeaseLocks, rival: LeaseLocks, ns: str) -> None:
        """What one host holds no other gets, before it is released."""
        mine, theirs = locks.creation(ns, "k"), rival.creation(ns, "k")
        assert mine.acquire(False) is True
        assert theirs.acquire(False) is False
        mine.release()
        assert theirs.acquire(False) is True
        assert mine.acquire(False) is False
        theirs.release()

    def test_dead_owner(self, locks: LeaseLocks, rival: LeaseLocks, clock: FakeClock, ns: str) -> None:
        """A lease that is not given up is another's once its ttl is over, and only then, and only one's."""
        assert locks.creation(ns, "k").acquire(False) is True
        clock.advance(self.ttl - 0.01)
        assert rival.creation(ns, "k").acquire(False) is False
        clock.advance(0.01)
        assert [rival.creation(ns, "k").acquire(False) for _ in range(3)] == [True, False, False]

    def test_late_release(self, locks: LeaseLocks, rival: LeaseLocks, clock: FakeClock, ns: str) -> None:
        """An owner that comes back after a takeover does not free the new owner's lease."""
        late = locks.creation(ns, "k")
        late.acquire(False)
        clock.advance(self.ttl)
        thief = rival.creation(ns, "k")
        assert thief.acquire(False) is True
        late.release()
        assert locks.creation(ns, "k").acquire(False) is False
        thief.release()
        assert locks.creation(ns, "k").acquire(False) is True

    def test_renew(self, locks: LeaseLocks, rival: LeaseLocks, clock: FakeClock, ns: str) -> None:
        """Renewing starts the ttl anew; it is refused to who does not hold the lease any more."""
        lease = locks.creation(ns, "k")
        assert lease.renew() is False
        lease.acquire(False)
        for _ in range(3):
            clock.advance(self.ttl - 1)
            assert lease.renew() is True
            assert rival.creation(ns, "k").acquire(False) is False
        clock.advance(self.ttl)
        assert rival.creation(ns, "k").acquire(False) is True
        assert lease.renew() is False
        lease.release()
        assert lease.renew() is False

    def test_one_of_many_takes_over(self, locks: LeaseLocks, rival: LeaseLocks, clock: FakeClock, ns: str) -> None:
        """Of many that find a lease run out at the same moment exactly one gets it."""
        locks.creation(ns, "k").acquire(False)
        clock.advance(self.ttl)
        won: list[bool] = []
        run_threads(self.threads, lambda _: won.append(rival.creation(ns, "k").acquire(False)))
        assert sorted(won) == [False] * (self.threads - 1) + [True]

    def test_foreign_bytes(self, locks: LeaseLocks, store: Any, ns: str) -> None:
        """A record that is no lease is replaced, never waited for."""
        assert done(store.insert(f"lease:{ns}", "k", b"what is this", ttl=60.0))
        assert locks.creation(ns, "k").acquire(False) is True
        assert locks.creation(ns, "k").acquire(False) is False

    def test_release_leaves_nothing(self, locks: LeaseLocks, store: Any, ns: str) -> None:
        """After the release the store holds no record of the lease."""
        lease = locks.creation(ns, "k")
        lease.acquire(False)
        assert store.read(f"lease:{ns}", "k") is not None
        lease.release()
        assert store.read(f"lease:{ns}", "k") is None

    def test_done_ends_the_waiting(self, locks: LeaseLocks, rival: LeaseLocks, ns: str) -> None:
        """A waiter asks between two tries whether it is done, and then holds nothing."""
        mine = locks.creation(ns, "k")
        mine.acquire(False)
        asked: list[int] = []

        def done() -> bool:
            asked.append(1)
            return len(asked) == 3

        waiter = rival.creation(ns, "k")
        assert waiter.acquire_unless(done, PATIENCE) is False
        assert len(asked) == 3
        assert waiter.held is False
        mine.release()
        assert waiter.acquire_unless(done, PATIENCE) is True
        assert len(asked) == 3, "a lease that is free is taken without asking"
        waiter.release()

    def test_threads_in_front(self, store: Any, clock: FakeClock, ns: str) -> None:
        """With thread locks in front the hosts exclude each other as well."""
        one, other = (
            LayeredLocks(ThreadLocks(), LeaseLocks(store, ttl=self.ttl, clock=clock, renew=False)) for _ in range(2)
        )
        inside: list[int] = []
        crowds: list[int] = []

        def work(index: int) -> None:
            for _ in range(self.rounds):
                lock = (one, other)[index % 2].creation(ns, "k")
                assert lock.acquire(True, PATIENCE) is True
                inside.append(index)
                threading.Event().wait(0)
                crowds.append(len(inside))
                inside.remove(index)
                lock.release()

        run_threads(self.threads, work)
        assert crowds == [1] * (self.threads * self.rounds)

    def test_store_down(self, clock: FakeClock, ns: str, caplog: pytest.LogCaptureFixture) -> None:
        """A store that does not reply lets every caller proceed, with one warning, and release is silent."""
        locks = LeaseLocks(_Down(), ttl=self.ttl, clock=clock, renew=False)
        for _ in range(3):
            lease = locks.creation(ns, "k")
            assert lease.acquire(True, PATIENCE) is True
            lease.release()
        assert [record.levelname for record in caplog.records if record.name == "beaker.lease"] == ["WARNING"]
