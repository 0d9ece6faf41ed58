"""A creation in flight is voided by what removes or writes its key: on every store, with every lock, from anywhere."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.cache import Cache, CacheManager, cache_region, cache_regions, region_invalidate, reset
from beaker.caching.store_manager import StoreNamespaceManager
from beaker.caching.value import Value
from beaker.storage.memory import MemoryStore
from beaker.testing.lock import PATIENCE, wait_until
from tests.caching.rival import LEAVES, VOIDING, Rival, rival
from tests.managers import DictManager
from tests.storage.shared import SHARED, session_options

LOCKS = ("lease", "file", "thread", "none")


class FourMethods:
    """A store without versions."""

    backend = "four"
    max_value: int | None = None
    trusted = True

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.get, self.set, self.delete, self.clear = (
            self.inner.get, self.inner.set, self.inner.delete, self.inner.clear,
        )  # fmt: skip


class FourManager(StoreNamespaceManager):
    """A manager over a store without versions."""

    store_of_all = FourMethods()

    def __init__(self, namespace: str, **options: Any) -> None:
        super().__init__(namespace, self.store_of_all, **options)


class Creation:
    """A call in a thread of its own, which stops inside the function that creates."""

    def __init__(self, call: Callable[[Callable[[], Any]], Any], outcome: Any = "created") -> None:
        self.running, self.may_end = threading.Event(), threading.Event()
        self.outcome = outcome
        self.result: Any = None
        self.thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self.thread.start()
        assert self.running.wait(PATIENCE)

    def _run(self, call: Callable[[Callable[[], Any]], Any]) -> None:
        try:
            self.result = call(self._create)
        except Exception as err:
            self.result = err

    def _create(self) -> Any:
        self.running.set()
        assert self.may_end.wait(PATIENCE)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def end(self) -> Any:
        self.may_end.set()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.result


def creation(cache: Cache, key: str = "k") -> Creation:
    return Creation(lambda create: cache.get(key, createfunc=create))


def expire(cache: Cache, key: str = "k") -> None:
    """Leave a value behind that expired 20 seconds ago."""
    Value(key, cache.namespace, expiretime=10.0).set_value("old", storedtime=time.time() - 30.0)


def check(cache: Cache, act: str, old: bool, other: Rival | None = None) -> None:
    """Pause a creation, void it, let it end: its caller gets its value, and it is stored nowhere."""
    if old:
        expire(cache)
    paused = creation(cache)
    if other is None:
        VOIDING[act](cache, "k")
    else:
        other.do(act, cache.namespace_name, "k")
    assert paused.end() == "created", act
    left = LEAVES.get(act)
    assert cache.get_many(["k"]) == ({} if left is None else {"k": left}), (act, old)
    assert cache.get("k", createfunc=lambda: "later") == (left or "later"), (act, old)


def cases() -> Iterator[tuple[str, bool]]:
    for act in VOIDING:
        for old in (False, True):
            yield act, old


def fresh_name() -> str:
    return f"void-{uuid.uuid4().hex}"


@pytest.fixture(params=SHARED)
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The options of a cache on each store that processes share."""
    return {**session_options(request.param, request, tmp_path), "lock_dir": str(tmp_path / "locks"), "expire": 600}


@pytest.mark.parametrize("lock", LOCKS)
def test_another_thread_voids(shared: dict[str, Any], lock: str) -> None:
    """Each operation by another thread: the creator stores nothing, the next call creates, or gets what was put."""
    for act, old in cases():
        cache = Cache(fresh_name(), **shared, lock=lock)
        check(cache, act, old)


@pytest.mark.parametrize("lock", LOCKS)
def test_another_process_voids(shared: dict[str, Any], lock: str) -> None:
    """The same when another process does it."""
    options = {**shared, "lock": lock}
    with rival(options) as other:
        for act, old in cases():
            check(Cache(fresh_name(), **options), act, old, other)


@pytest.mark.parametrize(
    "options",
    [
        {"type": "memory", "lock": "thread"},
        {"type": "memory", "lock": "none"},
        {"type": DictManager},
        {"type": FourManager, "lock": "thread"},
        {"type": FourManager, "lock": "none"},
    ],
    ids=["memory, thread", "memory, none", "dict", "four, thread", "four, none"],
)
def test_another_thread_voids_in_this_process(options: dict[str, Any]) -> None:
    """Live objects, managers of third parties and stores without versions: the same among threads."""
    for act, old in cases():
        cache = Cache(fresh_name(), **options, expire=600)
        check(cache, act, old)


@pytest.mark.parametrize("options", [{"type": "memory"}, {"type": DictManager}], ids=["memory", "dict"])
def test_nothing_stays_behind(options: dict[str, Any]) -> None:
    """A key has a mark only while a creation is in flight, whatever becomes of it."""
    cache = Cache(fresh_name(), **options)
    marks = cache.namespace.marks
    for end in ("created", ValueError("broken"), iter(())):
        paused = Creation(lambda create: cache.get("k", createfunc=create), end)
        assert len(marks) == 1
        paused.end()
        assert len(marks) == 0
        cache.remove_value("k")
    paused = creation(cache)
    cache.remove_value("k")
    assert len(marks) == 0
    paused.end()
    assert len(marks) == 0


def test_reset_voids() -> None:
    """`reset()` between two tests: what the first one still creates is not seen by the second."""
    cache = Cache(fresh_name(), type="memory")
    paused = creation(cache)
    reset()
    assert paused.end() == "created"
    assert not cache.has_key("k")


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_functions_and_regions(kind: str, tmp_path: Path) -> None:
    """Every way to forget or to set the result of a decorated function voids the call in flight."""
    cache_regions["voided"] = {"type": kind, "data_dir": str(tmp_path), "expire": 600}
    manager = CacheManager(type=kind, data_dir=str(tmp_path))
    gates: list[Callable[[], Any]] = []

    @cache_region("voided", uuid.uuid4().hex)
    def by_region(n: int) -> Any:
        return gates.pop()()

    @manager.cache(uuid.uuid4().hex, expire=600)
    def by_manager(n: int) -> Any:
        return gates.pop()()

    for function in (by_region, by_manager):
        check_function(function, gates, manager)


def check_function(function: Any, gates: list[Callable[[], Any]], manager: CacheManager) -> None:
    def call(create: Callable[[], Any]) -> Any:
        gates.append(create)
        return function(1)

    ways: list[Callable[[], object]] = [
        lambda: function.invalidate(1),
        lambda: function.invalidate_all(),
        lambda: function.set("set", 1),
        lambda: manager.invalidate(function, *function.deco_args, 1),
        lambda: region_invalidate(function, None, *function.deco_args, 1),
    ]
    for number, way in enumerate(ways):
        paused = Creation(call)
        way()
        assert paused.end() == "created"
        assert function.get(1) == ("set" if number == 2 else None)
        function.invalidate(1)


@pytest.mark.parametrize("kind", ["memory", "file", DictManager])
def test_the_last_refresh_wins(kind: Any, tmp_path: Path) -> None:
    """A refresh voids the creations and refreshes begun before it; one that is overtaken returns what it created."""
    cache = Cache(fresh_name(), type=kind, data_dir=str(tmp_path), lock="none")
    value = Value("k", cache.namespace)
    created = creation(cache)
    first = Creation(value.refresh, "first")
    second = Creation(value.refresh, "second")
    assert created.end() == "created"
    assert not cache.has_key("k")
    assert second.end() == "second"
    assert first.end() == "first"
    assert cache.get("k") == "second"
    third = Creation(value.refresh, "third")
    cache.put("k", "put")
    assert third.end() == "third"
    assert cache.get("k") == "put"


@pytest.mark.parametrize("kind", ["memory", "file", DictManager])
def test_a_failed_refresh_leaves_the_value(kind: Any, tmp_path: Path) -> None:
    """The value stays as it was while a refresh runs and when it raises."""
    cache = Cache(fresh_name(), type=kind, data_dir=str(tmp_path), expire=600)
    cache.put("k", "kept")
    refresh = Creation(Value("k", cache.namespace).refresh, ValueError("broken"))
    assert cache.get("k") == "kept"
    assert isinstance(refresh.end(), ValueError)
    assert cache.get("k") == "kept"
    entry = cache.namespace.read("k")
    assert type(entry).__name__ == "Entry"


@pytest.mark.parametrize("kind", ["memory", "file", DictManager])
def test_who_comes_after_does_not_get_an_error_from_before(kind: Any, tmp_path: Path) -> None:
    """A creation that was voided keeps its exception to itself: those that wait for it create anew."""
    cache = Cache(fresh_name(), type=kind, data_dir=str(tmp_path))
    paused = Creation(lambda create: cache.get("k", createfunc=create), ValueError("from before"))
    cache.remove_value("k")
    lock: Any = cache.namespace.get_creation_lock("k")
    lock = getattr(lock, "first", lock)
    results: list[Any] = []
    later = threading.Thread(target=lambda: results.append(cache.get("k", createfunc=lambda: "after")), daemon=True)
    later.start()
    wait_until(lambda: lock._waiting)
    assert isinstance(paused.end(), ValueError)
    later.join(PATIENCE)
    assert results == ["after"]


def test_voided_creations_are_counted() -> None:
    """Each creation whose value was not stored because it was voided counts as `creation_voided`."""
    counters.reset()
    cache = Cache(fresh_name(), type="memory")
    paused = creation(cache)
    cache.clear()
    paused.end()
    assert counters.snapshot().events["creation_voided"] == 1
