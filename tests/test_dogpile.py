"""The dogpile algorithm: who reads, who creates, who waits, and what an error does."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from beaker import counters
from beaker.caching.dogpile import Freshness, get_or_create
from beaker.exceptions import LockError
from beaker.locking.factories import LayeredLocks, NullLocks, ThreadLocks
from beaker.storage.lease import LeaseLocks
from beaker.storage.memory import MemoryStore
from beaker.testing.hooks import run_threads
from beaker.testing.lock import PATIENCE, wait_until
from tests.dogpiles import LOCKS, WAYS, Cache, Call, Gate, waiting


@pytest.fixture(params=WAYS)
def cache(request: pytest.FixtureRequest) -> Cache:
    """A cache with each kind of creation lock, called in threads and in event loops."""
    kind, loops = request.param
    return Cache(LOCKS[kind](), loops=loops)


def test_fresh_is_one_read(cache: Cache) -> None:
    """A fresh value is returned after exactly one read; no lock is even created."""
    cache.put("old", age=9.9)
    cache.lock = lambda: pytest.fail("a lock was created")  # type: ignore[method-assign]
    assert cache.get() == "old"
    assert (cache.reads, cache.creations) == (1, 0)


@pytest.mark.parametrize("value", [None, 0, "", [], False])
def test_miss_creates_and_stores(cache: Cache, value: Any) -> None:
    """What is absent is created once and stored, None and other false values included; the lock is free again."""
    cache.create = lambda: value
    assert cache.get() == value
    assert cache.get() == value
    assert cache.creations == 1
    assert cache.entry is not None
    assert cache.is_free


@pytest.mark.parametrize("threads", [8, 16])
def test_cold_start(cache: Cache, threads: int) -> None:
    """Of many threads that find nothing one creates, and all return what it created."""
    everybody_read = threading.Barrier(threads)
    first_read = threading.local()

    def meet() -> None:
        if not hasattr(first_read, "done"):
            first_read.done = True
            everybody_read.wait(PATIENCE)

    cache.on_read = meet
    values: list[Any] = []
    cache.create = object
    run_threads(threads, lambda _: values.append(cache.get()))
    assert cache.creations == 1
    assert len(set(values)) == 1
    assert len(values) == threads


def test_old_value_meanwhile(cache: Cache) -> None:
    """While one creates, the other calls return the old value at once, after one read each."""
    cache.put("old", age=11.0)
    gate = Gate(cache)
    creator = Call(cache)
    assert gate.running.wait(PATIENCE)
    before = cache.reads
    assert [cache.get() for _ in range(5)] == ["old"] * 5
    assert cache.reads - before == 5
    gate.may_end.set()
    assert creator.end() == "new"
    assert cache.get() == "new"
    assert cache.creations == 1


def test_reads_again_under_the_lock(cache: Cache) -> None:
    """A call that gets the lock after another wrote returns what that one wrote."""
    cache.put("old", age=11.0)
    cache.on_read = lambda: cache.put("other's") if cache.reads == 1 else None
    assert cache.get() == "other's"
    assert (cache.reads, cache.creations) == (2, 0)
    assert cache.is_free


def test_failing_creator(cache: Cache) -> None:
    """An exception reaches the caller, writes nothing, frees the lock, and the old entry stays."""
    cache.put("old", age=11.0)
    entry = cache.entry
    cache.create = lambda: 1 / 0
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            cache.get()
        assert cache.entry is entry
        assert cache.is_free


@pytest.mark.parametrize("loops", [False, True], ids=["threads", "loops"])
@pytest.mark.parametrize("front", ["threads", "leases"])
def test_waiters_of_a_failing_creator(front: str, loops: bool) -> None:
    """Calls that waited for a creator that raises get its exception; none of them runs it again, later ones do."""
    locks = LayeredLocks(ThreadLocks(), LeaseLocks(MemoryStore(), renew=False))
    cache = Cache(locks if front == "leases" else None, loops=loops)
    gate = Gate(cache, ValueError("backend is down"))
    first = Call(cache)
    assert gate.running.wait(PATIENCE)
    waiters = [Call(cache) for _ in range(7)]
    lock: Any = cache.lock()
    wait_until(lambda: waiting(lock) == 7)
    gate.may_end.set()
    errors = [call.end() for call in [first, *waiters]]
    assert errors == [gate.outcome] * 8
    assert cache.creations == 1
    cache.create = lambda: "works again"
    assert cache.get() == "works again"


def test_failure_is_not_for_latecomers() -> None:
    """A call that begins after a failure creates anew, even while earlier waiters still take theirs."""
    cache = Cache()
    lock: Any = cache.lock()
    lock.acquire()
    lock.fail(ValueError("earlier"))
    lock._waiting.add(-1)
    lock.release()
    assert lock.error is not None
    assert cache.get() == "new"


def test_interrupt_is_not_shared() -> None:
    """KeyboardInterrupt in the creator is its own affair; the lock is free again."""
    cache = Cache()

    def interrupt() -> None:
        raise KeyboardInterrupt

    cache.create = interrupt
    with pytest.raises(KeyboardInterrupt):
        cache.get()
    assert cache.is_free
    assert cache.lock().failures == 0  # type: ignore[attr-defined]


def test_starttime(cache: Cache) -> None:
    """What was stored before starttime is as if it were not there: it is not served, not even meanwhile."""
    cache.put("old", age=5.0)
    start = cache.clock() - 1.0
    gate = Gate(cache)
    creator = Call(cache, starttime=start)
    assert gate.running.wait(PATIENCE)
    other = Call(cache, starttime=start)
    gate.may_end.set()
    assert (creator.end(), other.end()) == ("new", "new")
    assert cache.creations == 1
    cache.put("old", age=5.0)
    cache.create = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        cache.get(starttime=start, policy=Freshness(stale_if_error=60.0))
    assert cache.get(starttime=cache.clock() - 5.0) == "old"


def test_lock_timeout(cache: Cache) -> None:
    """A call whose wait runs out creates the value itself and stores it, counted; the lock stays with its holder."""
    counters.reset()
    lock = cache.lock()
    lock.acquire()
    assert Call(cache, lock_timeout=0.01).end() == "new"
    assert cache.entry is not None
    assert cache.entry.value == "new"
    assert not cache.is_free
    assert counters.snapshot().events["creation_wait_timeout"] == 1
    lock.release()


def test_last_look_after_the_wait(cache: Cache) -> None:
    """A call whose wait runs out looks once more before it creates."""
    lock = cache.lock()
    lock.acquire()
    cache.on_read = lambda: cache.put("other's")
    assert Call(cache, lock_timeout=0.01).end() == "other's"
    assert cache.creations == 0
    lock.release()


@pytest.mark.parametrize("timeout", [None, 1e300])
def test_unlimited_wait(cache: Cache, timeout: float | None) -> None:
    """Without a limit, or with an absurd one, the wait lasts until the creator is done."""
    gate = Gate(cache)
    creator = Call(cache)
    assert gate.running.wait(PATIENCE)
    waiter = Call(cache, lock_timeout=timeout)
    gate.may_end.set()
    assert (creator.end(), waiter.end()) == ("new", "new")


def test_value_appears_while_polling() -> None:
    """A call that polls for a lease reads the value between tries and needs no lease once another host wrote it."""
    store = MemoryStore()
    lease = LeaseLocks(store, renew=False).creation("n", "k")
    lease.acquire()
    cache = Cache(LayeredLocks(ThreadLocks(), LeaseLocks(store, renew=False)))
    cache.on_read = lambda: cache.put("other host's") if cache.reads == 3 else None
    assert cache.get() == "other host's"
    assert (cache.reads, cache.creations) == (4, 0)
    lease.release()
    assert cache.is_free


def test_errors_of_reading_and_writing(cache: Cache) -> None:
    """What read or write raises reaches the caller, and the lock is free again."""

    def broken(*_: Any) -> Any:
        raise OSError("disk")

    cache.write = broken  # type: ignore[method-assign,assignment]
    with pytest.raises(OSError, match="disk"):
        cache.get()
    assert cache.is_free
    cache.on_read = lambda: broken() if cache.reads == 3 else None
    with pytest.raises(OSError, match="disk"):
        cache.get()
    assert cache.is_free


def test_creation_that_asks_for_itself() -> None:
    """A creation function that wants its own value gets an error instead of a hang."""
    cache = Cache()
    cache.create = cache.get
    with pytest.raises(LockError, match="waits for itself"):
        cache.get()
    assert cache.is_free


def test_nested_creation() -> None:
    """A creation function may use other keys."""
    outer, inner = Cache(), Cache()
    outer.create = lambda: inner.get() + "er"
    assert outer.get() == "newer"


def test_lock_without_timeout() -> None:
    """A lock as the manual's managers give it, which knows acquire(wait) only, is waited for all the same."""

    class Old:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def acquire(self, wait: bool = True) -> bool:
            return self.lock.acquire(wait)

        def release(self) -> None:
            self.lock.release()

    old: Any = Old()
    cache = Cache()
    cache.lock = lambda: old  # type: ignore[method-assign]
    assert cache.get() == "new"
    cache.entry = None
    old.acquire()
    assert cache.get(lock_timeout=0.01) == "new"
    assert cache.creations == 2


def test_lock_itself() -> None:
    """The lock may be given instead of a function that creates it."""
    cache = Cache(NullLocks())
    lock = threading.Lock()
    assert get_or_create(cache, cache._create, lock, clock=cache.clock) == "new"
    assert not lock.locked()
