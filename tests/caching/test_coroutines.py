"""Caches in event loops: one creation a key, no thread for what is near, cancellations, policies and refusals."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import anyio
import pytest

from beaker import counters
from beaker.cache import Cache
from beaker.caching import async_cache, value
from beaker.caching.dictionary import AbstractDictionaryNSManager
from beaker.exceptions import ConfigError, LockError
from beaker.loops import hops
from beaker.testing import FakeClock
from tests.caching.rival import LEAVES, VOIDING
from tests.dogpiles import waiting
from tests.loops import until

T = TypeVar("T")

STORES = ("memory", "file", "dbm", "ext:database")


def options_for(kind: str, at: Path) -> dict[str, Any]:
    if kind == "ext:database":
        return {"type": kind, "url": f"sqlite:///{at}/cache.db", "lock": "lease", "lease_ttl": 30}
    return {"type": kind} if kind == "memory" else {"type": kind, "data_dir": str(at), "lock_dir": str(at / "lock")}


@pytest.fixture(params=STORES)
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cache]:
    """A cache of each kind of store, whose clock stands still."""
    clock = FakeClock()
    cache = Cache(f"coroutines-{tmp_path}", expire=10, clock=clock, **options_for(request.param, tmp_path))
    yield cache
    if cache.type == "ext:database":
        cache.namespace.store.close()  # type: ignore[attr-defined]


@pytest.fixture
def hopping(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each call in a worker thread."""
    made: list[str] = []
    inner = hops.in_thread

    async def in_thread(work: Callable[[], T]) -> T:
        made.append("hop")
        return await inner(work)

    for module in (hops, async_cache, value):
        monkeypatch.setattr(module, "in_thread", in_thread)
    return made


class Creation:
    """A creation function that says that it runs, and ends when told."""

    def __init__(self, outcome: Any = "new") -> None:
        self.calls = 0
        self.running = asyncio.Event()
        self.may_end = asyncio.Event()
        self.outcome = outcome

    async def __call__(self) -> Any:
        self.calls += 1
        self.running.set()
        await self.may_end.wait()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def old(cache: Cache, age: float = 11.0) -> None:
    cache._value("k", {}).set_value("old", cache.namespace.clock() - age)


async def turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0.001)


async def waiters(cache: Cache, number: int) -> None:
    """Go on when so many calls wait for the creation in flight."""
    await until(lambda: waiting(cache.namespace.get_creation_lock("k")) == number)


def test_a_thousand_calls_create_once(cache: Cache) -> None:
    """1,000 calls of one loop over a cold key: one creation, and each has a value of its own where stores copy."""

    async def calls() -> list[Any]:
        create = Creation(["new"])
        tasks = [asyncio.create_task(cache.aget("k", createfunc=create)) for _ in range(1_000)]
        await create.running.wait()
        await waiters(cache, 999)
        create.may_end.set()
        found = await asyncio.gather(*tasks)
        assert create.calls == 1
        return found

    found = asyncio.run(calls())
    assert found == [["new"]] * 1_000
    assert len({id(value) for value in found}) == (1 if cache.type == "memory" else 1_000)
    assert threading.active_count() < 60


def test_hits_of_memory_take_no_thread(cache: Cache, hopping: list[str]) -> None:
    """A hit is one call in a thread, and none where nothing can block; so is a miss of memory."""

    async def create() -> str:
        return "new"

    async def calls() -> tuple[int, int]:
        assert await cache.aget("k", createfunc=create) == "new"
        cold = len(hopping)
        assert await cache.aget("k", createfunc=create) == "new"
        return cold, len(hopping) - cold

    cold, hit = asyncio.run(calls())
    assert (cold, hit) == (0, 0) if cache.type == "memory" else (cold <= 4, hit) == (True, 1)


def test_a_cancelled_creator_hands_over(cache: Cache) -> None:
    """When the task that creates is cancelled, one that waits creates; one that was cancelled waiting is not missed."""

    async def calls() -> None:
        first, second = Creation(), Creation("second")
        creator = asyncio.create_task(cache.aget("k", createfunc=first))
        await first.running.wait()
        others = [asyncio.create_task(cache.aget("k", createfunc=second)) for _ in range(5)]
        await waiters(cache, 5)
        others[0].cancel()
        await waiters(cache, 4)
        creator.cancel()
        await second.running.wait()
        second.may_end.set()
        assert await asyncio.gather(*others[1:]) == ["second"] * 4
        assert (first.calls, second.calls) == (1, 1)
        assert all(task.cancelled() for task in (creator, others[0]))

    asyncio.run(calls())


@pytest.mark.parametrize("step", ["begin", "write"])
def test_cancelled_in_a_store_call(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is cancelled while its thread begins or stores leaves no lease behind, nor its renewing."""
    earlier = set(threading.enumerate())
    cache = Cache("cancelled", **options_for("ext:database", tmp_path))
    manager: Any = cache.namespace
    inside, go_on = threading.Event(), threading.Event()
    name = {"begin": "insert", "write": "replace"}[step]
    inner = getattr(manager.store, name)

    def slow(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(manager.store, name, inner)
        inside.set()
        assert go_on.wait(10)
        return inner(*args, **kwargs)

    monkeypatch.setattr(manager.store, name, slow)

    async def create() -> str:
        return "cancelled"

    async def calls() -> None:
        task = asyncio.create_task(cache.aget("k", createfunc=create))
        while not inside.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await turns(3)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        # Well before a lease could run out.
        found = await asyncio.wait_for(cache.aget("k", createfunc=lambda: "next"), 5)
        assert found == ("next" if step == "begin" else "cancelled")

    asyncio.run(calls())
    leased = [thread for thread in set(threading.enumerate()) - earlier if thread.name == "beaker-lease"]
    for thread in leased:
        thread.join(5)
    assert not any(thread.is_alive() for thread in leased)
    manager.store.close()


def test_old_values_meanwhile(cache: Cache) -> None:
    """serve_stale: one call creates and other calls return the old value at once."""
    old(cache)

    async def calls() -> None:
        create = Creation()
        creator = asyncio.create_task(cache.aget("k", createfunc=create))
        await create.running.wait()
        assert [await cache.aget("k", createfunc=create) for _ in range(3)] == ["old"] * 3
        create.may_end.set()
        assert await creator == "new"
        assert await cache.aget("k") == "new"
        assert create.calls == 1

    asyncio.run(calls())


def test_failures_are_shared_and_covered(cache: Cache) -> None:
    """Calls that wait for a creation that raises get its exception, or, with stale_if_error, the old value."""

    async def calls() -> list[Any]:
        create = Creation(ValueError("no"))
        tasks = [asyncio.create_task(cache.aget("k", createfunc=create)) for _ in range(20)]
        await create.running.wait()
        await waiters(cache, 19)
        create.may_end.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert create.calls == 1
        return found

    assert [type(found) for found in asyncio.run(calls())] == [ValueError] * 20
    cache.namespace.configure(
        {"on_expired": "wait", "stale_if_error": 60, "clock": cache.namespace.clock, "lock_timeout": 30}
    )
    old(cache)
    assert asyncio.run(calls()) == ["old"] * 20


@pytest.mark.parametrize("act", [act for act in VOIDING if act != "entry written"])  # by another clock
def test_what_is_voided_is_not_stored(cache: Cache, act: str) -> None:
    """An invalidation or a write while a coroutine creates: its value reaches its caller, not the store, nor those
    that wait."""

    async def calls() -> None:
        create, later = Creation(), Creation("later")
        creator = asyncio.create_task(cache.aget("k", createfunc=create))
        await create.running.wait()
        await asyncio.to_thread(VOIDING[act], cache, "k")
        waiter = asyncio.create_task(cache.aget("k", createfunc=later))
        later.may_end.set()
        await turns(3)
        create.may_end.set()
        assert await creator == "new"
        assert await waiter == LEAVES.get(act, "later")
        assert await cache.aget("k") == LEAVES.get(act, "later")

    asyncio.run(calls())


def test_a_hung_creator_is_replaced_once(cache: Cache) -> None:
    """lock_timeout bounds the waiting; of many calls whose time runs out one creates, and the others get its value."""
    counters.reset()
    # The others wait for as long once more, for a creation that a busy machine may slow down.
    cache.namespace.lock_timeout = 0.3

    async def calls() -> None:
        hung, create = Creation("hung"), Creation()
        creator = asyncio.create_task(cache.aget("k", createfunc=hung))
        await hung.running.wait()
        tasks = [asyncio.create_task(cache.aget("k", createfunc=create)) for _ in range(50)]
        await create.running.wait()
        create.may_end.set()
        assert await asyncio.gather(*tasks) == ["new"] * 50
        assert create.calls == 1
        hung.may_end.set()
        assert await creator == "hung"
        assert await cache.aget("k") == "new"

    asyncio.run(calls())
    assert counters.snapshot().events["creation_wait_timeout"] == 1


def test_a_creation_that_waits_for_itself(cache: Cache) -> None:
    """A creation function that awaits its own value is told so."""

    async def create() -> Any:
        return await cache.aget("k", createfunc=create)

    async def blocking() -> Any:
        return cache.get("k", createfunc=lambda: "never")

    for each in (create, blocking):
        with pytest.raises(LockError, match="waits for itself"):
            asyncio.run(cache.aget("k", createfunc=each))


def test_every_operation_has_its_form(cache: Cache) -> None:
    """What Cache does is there under the prefix a, with the same results and errors."""

    async def calls() -> None:
        await cache.aput("a", 1)
        await cache.aput_many({"b": 2, ("c", 3): 3})
        assert await cache.aget("a") == await cache.aget_value("a") == 1
        assert await cache.aget_many(["a", "b", ("c", 3), "z"]) == {"a": 1, "b": 2, ("c", 3): 3}
        assert await cache.ahas_key("b")
        assert set(await cache.akeys()) >= {"a", "b"}
        await cache.aremove("a")
        await cache.aremove_many(["b"])
        assert not await cache.ahas_key("a")
        await cache.aclear()
        with pytest.raises(KeyError):
            await cache.aget(("c", 3))
        with pytest.raises(ConfigError):
            await cache.aget("k", createfunc=5)

    asyncio.run(calls())
    operations = {name for name in dir(Cache) if not name.startswith("_") and callable(getattr(Cache, name))}
    sync = {name for name in operations if not name.startswith("a")} - {"call_key", "stats", "value"}
    assert {f"a{name}" for name in sync} <= operations


class Bound(AbstractDictionaryNSManager):
    """A third party's manager, whose lock belongs to the thread that took it."""

    locks: ClassVar[dict[str, Any]] = {}

    def __init__(self, namespace: str, **options: Any) -> None:
        super().__init__(namespace)
        self.dictionary = {}

    def get_creation_lock(self, key: str) -> Any:
        return self.locks.setdefault(key, threading.RLock())


def test_a_third_partys_lock_is_held_by_one_thread() -> None:
    """A manager whose creation lock knows threads: held by one, released by it, waited for and given up."""
    cache = Cache("bound", type=Bound)
    lock = cache.namespace.get_creation_lock("k")

    async def calls() -> None:
        create = Creation()
        tasks = [asyncio.create_task(cache.aget("k", createfunc=create)) for _ in range(20)]
        await create.running.wait()
        assert not lock.acquire(False)
        create.may_end.set()
        assert await asyncio.gather(*tasks) == ["new"] * 20
        assert create.calls == 1

    async def beside_another() -> None:
        create = Creation("after")
        task = asyncio.create_task(cache.aget("k", createfunc=create))
        await turns(50)
        assert create.calls == 0
        lock.release()
        await create.running.wait()
        create.may_end.set()
        assert await task == "after"

    asyncio.run(calls())
    assert lock.acquire(True, 5)
    cache.remove("k")
    asyncio.run(beside_another())
    assert lock.acquire(True, 5)
    cache.remove("k")
    cache.namespace.lock_timeout = 0.05
    assert asyncio.run(cache.aget("k", createfunc=lambda: "late")) == "late"
    lock.release()


def test_trio_runs_it_too(cache: Cache) -> None:
    """Where AnyIO is loaded, another loop than asyncio's works: one creation, and a cancelled creator hands over."""

    async def calls() -> None:
        made: list[str] = []
        found: list[Any] = []
        running = anyio.Event()

        async def hang() -> str:
            running.set()
            await anyio.sleep_forever()
            return "never"

        async def create() -> str:
            made.append("x")
            await anyio.sleep(0.01)
            return "new"

        async def get() -> None:
            found.append(await cache.aget("k", createfunc=create))

        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as inner:
                    inner.start_soon(lambda: cache.aget("k", createfunc=hang))
                    await running.wait()
                    for _ in range(20):
                        group.start_soon(get)
                    while waiting(cache.namespace.get_creation_lock("k")) < 20:
                        await anyio.sleep(0.001)
                    scope.cancel()
        assert (found, made) == (["new"] * 20, ["x"])

    anyio.run(calls, backend="trio")
