"""The dogpile algorithm: who reads, who creates, who waits, and what an error does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from beaker import counters
from beaker.dogpile import Freshness, get_or_create
from beaker.entry import Entry
from beaker.exceptions import ConfigError, CreationAbortedError, LockError
from beaker.locks import LayeredLocks, Lock, LockFactory, NullLocks, ThreadLocks
from beaker.storage.lease import LeaseLocks
from beaker.storage.memory import MemoryStore
from beaker.testing import FakeClock
from beaker.testing.hooks import run_threads

PATIENCE = 60.0


class Cache:
    """One key: where its entry is kept, what is asked of it, and how it is created."""

    def __init__(self, locks: LockFactory | None = None) -> None:
        self.clock = FakeClock()
        self.locks = locks or ThreadLocks()
        self.entry: Entry | None = None
        self.expiretime: float | None = 10.0
        self.cost = 0.0
        self.reads = 0
        self.creations = 0
        self.create: Callable[[], Any] = lambda: "new"
        self.on_read: Callable[[], object] = lambda: None

    def put(self, value: Any, age: float = 0.0) -> None:
        self.entry = Entry(value, self.clock() - age, self.expiretime, self.cost)

    def get(self, **options: Any) -> Any:
        return get_or_create(self._read, self.put, self._create, self.lock, clock=self.clock, **options)

    def lock(self) -> Lock:
        return self.locks.creation("n", "k")

    def _read(self) -> Entry | None:
        self.reads += 1
        entry = self.entry
        self.on_read()
        return entry

    def _create(self) -> Any:
        self.creations += 1
        return self.create()

    @property
    def is_free(self) -> bool:
        lock = self.lock()
        if not lock.acquire(False):
            return False
        lock.release()
        return True


@pytest.fixture(params=["threads", "leases", "plain"])
def cache(request: pytest.FixtureRequest) -> Cache:
    """A cache whose creation lock is one among threads, a lease behind it, or the standard library's."""
    if request.param == "plain":
        return Cache(Plain())
    if request.param == "leases":
        return Cache(LayeredLocks(ThreadLocks(), LeaseLocks(MemoryStore(), renew=False)))
    return Cache()


class Plain:
    """The same ``threading.Lock`` for every key."""

    def __init__(self) -> None:
        self.only = threading.Lock()

    def creation(self, namespace: str, key: str) -> Lock:
        return self.only


class Gate:
    """A creation that says that it runs, and ends when told."""

    def __init__(self, cache: Cache, outcome: Any = "new") -> None:
        self.running = threading.Event()
        self.may_end = threading.Event()
        self.outcome = outcome
        cache.create = self

    def __call__(self) -> Any:
        self.running.set()
        assert self.may_end.wait(PATIENCE)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Call:
    """A thread that gets the value."""

    def __init__(self, cache: Cache, **options: Any) -> None:
        self.value: Any = None
        self.error: BaseException | None = None

        def work() -> None:
            try:
                self.value = cache.get(**options)
            except Exception as err:
                self.error = err

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def end(self) -> Any:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.error or self.value


def test_fresh_is_one_read(cache: Cache) -> None:
    """A fresh value is answered after exactly one read; no lock is even made."""
    cache.put("old", age=9.9)
    cache.lock = None  # type: ignore[assignment,method-assign]
    assert (
        get_or_create(cache._read, cache.put, cache._create, lambda: pytest.fail("a lock was made"), clock=cache.clock)
        == "old"
    )
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
    """Of many threads that find nothing one creates, and all answer what it made."""
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
    """While one creates, the others answer the old value at once, after one read each."""
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
    """Who gets the lock after another wrote answers what it wrote."""
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


@pytest.mark.parametrize("front", ["threads", "leases"])
def test_waiters_of_a_failing_creator(front: str) -> None:
    """Those that waited for a creator that raises get its exception; none of them runs it again, later ones do."""
    locks = LayeredLocks(ThreadLocks(), LeaseLocks(MemoryStore(), renew=False))
    cache = Cache(locks if front == "leases" else None)
    gate = Gate(cache, ValueError("backend is down"))
    first = Call(cache)
    assert gate.running.wait(PATIENCE)
    waiters = [Call(cache) for _ in range(7)]
    lock: Any = cache.lock()
    _until(lambda: len(getattr(lock, "first", lock)._waiting) == 7)
    gate.may_end.set()
    errors = [call.end() for call in [first, *waiters]]
    assert errors == [gate.outcome] * 8
    assert cache.creations == 1
    cache.create = lambda: "works again"
    assert cache.get() == "works again"


def _until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(PATIENCE * 1000)):
        if condition():
            return
        pause.wait(0.001)
    raise AssertionError("it never happened")


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


def test_wait_policy(cache: Cache) -> None:
    """on_expired=wait: nobody sees the old value; those that come meanwhile wait for the new one."""
    policy = Freshness(on_expired="wait")
    cache.put("old", age=11.0)
    gate = Gate(cache)
    creator = Call(cache, policy=policy)
    assert gate.running.wait(PATIENCE)
    others = [Call(cache, policy=policy) for _ in range(4)]
    gate.may_end.set()
    assert [call.end() for call in [creator, *others]] == ["new"] * 5
    assert cache.creations == 1


def test_recompute_policy(cache: Cache) -> None:
    """on_expired=recompute: each caller creates for itself at once; an absent value is still created by one."""
    policy = Freshness(on_expired="recompute")
    cache.put("old", age=11.0)
    gate = Gate(cache)
    first = Call(cache, policy=policy)
    assert gate.running.wait(PATIENCE)
    second = Call(cache, policy=policy)
    _until(lambda: cache.creations == 2)
    gate.may_end.set()
    assert (first.end(), second.end()) == ("new", "new")
    assert cache.get(policy=policy) == "new"
    assert cache.creations == 2


@pytest.mark.parametrize("on_expired", ["serve_stale", "wait", "recompute"])
def test_stale_if_error(cache: Cache, on_expired: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The old value replaces an exception until so many seconds after its expiry, counted and logged."""
    counters.reset()
    policy = Freshness(on_expired=on_expired, stale_if_error=60.0)
    cache.create = lambda: 1 / 0
    cache.put("old", age=10.0 + 59.9)
    assert cache.get(policy=policy) == "old"
    assert counters.snapshot()["stale_served"] == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "old" not in caplog.text
    cache.clock.advance(0.1)
    with pytest.raises(ZeroDivisionError):
        cache.get(policy=policy)
    assert cache.is_free


def test_stale_if_error_for_waiters() -> None:
    """Those that waited for a creator that raises answer the old value too, where the policy allows it."""
    policy = Freshness(on_expired="wait", stale_if_error=60.0)
    cache = Cache()
    cache.put("old", age=11.0)
    gate = Gate(cache, ValueError("down"))
    calls = [Call(cache, policy=policy)]
    assert gate.running.wait(PATIENCE)
    calls += [Call(cache, policy=policy) for _ in range(3)]
    lock: Any = cache.lock()
    _until(lambda: len(lock._waiting) == 3)
    gate.may_end.set()
    assert [call.end() for call in calls] == ["old"] * 4
    assert cache.creations == 1


def test_removed_value_is_not_served(cache: Cache) -> None:
    """A value removed after it was read does not come back in place of an exception."""
    cache.put("old", age=11.0)
    cache.on_read = lambda: setattr(cache, "entry", None)
    cache.create = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        cache.get(policy=Freshness(stale_if_error=60.0))


def test_aborted(cache: Cache) -> None:
    """CreationAbortedError always reaches the caller, whatever stale_if_error says."""

    def abort() -> None:
        raise CreationAbortedError("nothing to see")

    cache.create = abort
    cache.put("old", age=11.0)
    with pytest.raises(CreationAbortedError):
        cache.get(policy=Freshness(stale_if_error=60.0))
    cache.entry = None
    with pytest.raises(CreationAbortedError):
        cache.get()
    assert cache.entry is None
    assert cache.is_free


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
    """Whose wait runs out creates the value itself and stores it, counted; the lock stays with its holder."""
    counters.reset()
    lock = cache.lock()
    lock.acquire()
    assert Call(cache, lock_timeout=0.01).end() == "new"
    assert cache.entry is not None
    assert cache.entry.value == "new"
    assert not cache.is_free
    assert counters.snapshot()["creation_wait_timeout"] == 1
    lock.release()


def test_last_look_after_the_wait(cache: Cache) -> None:
    """Whose wait runs out looks once more before it creates."""
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
    """Who polls for a lease reads the value between tries and needs no lease once another host wrote it."""
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

    with pytest.raises(OSError, match="disk"):
        get_or_create(cache._read, broken, cache._create, cache.lock, clock=cache.clock)
    assert cache.is_free
    cache.on_read = lambda: broken() if cache.reads == 3 else None
    with pytest.raises(OSError, match="disk"):
        cache.get()
    assert cache.is_free


def test_creation_that_asks_for_itself() -> None:
    """A creation function that wants its own value is told so instead of hanging."""
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
    """The lock may be given instead of a function that makes it."""
    cache = Cache(NullLocks())
    lock = threading.Lock()
    assert get_or_create(cache._read, cache.put, cache._create, lock, clock=cache.clock) == "new"
    assert not lock.locked()


# Early refresh and jitter


def test_early_refresh() -> None:
    """A fresh value is refreshed early by chance: surely not when cheap or young, surely when dear and near expiry."""
    policy = Freshness(early=1.0)
    cache = Cache()
    cache.cost = 2.0
    cache.put("old", age=5.0)
    # -ln(1 - 0.9) is 2.3: 4.6 seconds ahead is short of the expiry that is 5 away, and 9.99 is past it.
    assert cache.get(policy=policy, rng=lambda: 0.9) == "old"
    assert cache.get(policy=policy, rng=lambda: 0.0) == "old"
    assert cache.get(policy=Freshness(), rng=lambda: 0.999999) == "old"
    assert cache.get(policy=policy, rng=lambda: 0.95) == "new"
    assert cache.creations == 1
    cache.cost = 0.0
    cache.put("cheap", age=9.99)
    assert cache.get(policy=policy, rng=lambda: 0.999999) == "cheap"


def test_early_refresh_never_hurts(cache: Cache) -> None:
    """Early refresh waits for nobody, and its failure leaves the fresh value."""
    options: dict[str, Any] = {"policy": Freshness(early=1.0, on_expired="wait"), "rng": lambda: 0.999}
    cache.cost = 5.0
    cache.put("old", age=9.0)
    lock = cache.lock()
    lock.acquire()
    assert cache.get(**options) == "old"
    lock.release()
    cache.create = lambda: 1 / 0
    assert cache.get(**options) == "old"
    assert cache.is_free
    assert cache.creations == 1


def test_early_refresh_happens_once(cache: Cache) -> None:
    """Who gets the lock after another refreshed answers the newer value."""
    cache.cost = 5.0
    cache.put("old", age=9.0)
    cache.on_read = lambda: cache.put("newer") if cache.reads == 1 else None
    assert cache.get(policy=Freshness(early=1.0), rng=lambda: 0.999) == "newer"
    assert cache.creations == 0


def test_jitter() -> None:
    """Jitter shortens an expiry by at most its fraction; no expiry stays none."""
    policy = Freshness(jitter=0.1)
    assert policy.jittered(100.0, lambda: 0.0) == 100.0
    assert policy.jittered(100.0, lambda: 1.0) == pytest.approx(90.0)
    assert policy.jittered(None) is None
    assert Freshness().jittered(100.0, lambda: 1.0) == 100.0
    assert len({policy.jittered(100.0) for _ in range(10)}) > 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("on_expired", "stale"), ("stale_if_error", -1.0), ("jitter", 1.1), ("jitter", -0.1), ("early", -1.0)],
)
def test_bad_options(option: str, value: Any) -> None:
    """A value outside its limits is an error that names the option and its limits."""
    with pytest.raises(ConfigError) as caught:
        Freshness(**{option: value})
    assert caught.value.option == option
    assert caught.value.expected
