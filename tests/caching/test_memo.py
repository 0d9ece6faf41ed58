"""The memo of a request: what it has read or created costs it nothing again, and what it changes it forgets."""

from __future__ import annotations

# over 320 lines because every way to change a value, and every way to leave a request, is held to one promise
import asyncio
import contextvars
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from beaker import cache as module
from beaker import serving
from beaker.cache import Cache, CacheManager, request_scope
from beaker.caching import memo as memo_module
from beaker.counters import measured
from beaker.exceptions import ConfigError, ConfigWarning, StoreUnavailable
from beaker.testing import FakeClock
from tests.caching.test_tags import Calls, CallsManager
from tests.caching.test_voiding import FourMethods
from tests.managers import DictManager
from tests.storage.datastore_fake import FakeDatastore
from tests.storage.shared import open_store


@pytest.fixture(autouse=True)
def nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cache_regions", {})
    module.cache_managers.clear()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> Calls:
    return Calls(clock)


def managed(store: Any, clock: FakeClock, **options: Any) -> CacheManager:
    return CacheManager(namespace_class=CallsManager, client=store, clock=clock, **{"memo": True, **options})


def in_context(work: Callable[[], Any]) -> None:
    """``work()`` in a thread with a copy of this context."""
    run(partial(contextvars.copy_context().run, work))


def run(work: Callable[[], Any]) -> None:
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as err:
            errors.append(err)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join(10)
    assert not errors


@pytest.mark.parametrize("name", ["calls", "redis", "datastore fake"])
def test_the_second_call_costs_nothing(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock, store: Calls
) -> None:
    """Of every kind of read the second in a request asks the store nothing; outside of a request each does."""
    other: Any = store
    if name == "redis":
        other = open_store("redis", request, clock, tmp_path)
    elif name != "calls":
        from beaker.storage.datastore import DatastoreStore

        other = DatastoreStore(gateway=FakeDatastore().gateway(), clock=clock)
    manager = managed(other, clock, expire=60, lock="thread")
    cache = manager.get_cache("kinds")
    runs: list[Any] = []

    @manager.cache("function", tags="t:{n}")
    def tagged(n: int) -> list[int]:
        runs.append(n)
        return [n]

    @manager.cache("coroutine")
    async def awaited(n: int) -> list[int]:
        runs.append(n)
        return [n]

    def reads() -> list[Any]:
        return [
            cache.get("there"),
            cache.get("created", createfunc=lambda: [2]),
            cache.get("tagged", tags="t"),
            cache.get_many(["there", "many"]),
            "there" in cache,
            tagged(3),
            tagged.get(3),
            asyncio.run(awaited(4)),
            asyncio.run(cache.aget("there")),
        ]

    cache.put_many({"there": [1], "many": "m"})
    cache.put("tagged", "by t", tags="t")
    with request_scope():
        first = reads()
        with measured() as spent:
            assert reads() == first
            assert reads() == first
        assert spent.stores == ()
    assert cache.stats().memo_hits > 10
    assert runs == [3, 4]
    with measured() as spent:
        assert reads() == first
    assert spent.stores[0].reads > 5
    if name == "redis":
        other.close()


@pytest.mark.parametrize("near_copy", ["bytes", "objects"])
def test_who_shares_a_value(near_copy: str, store: Calls, clock: FakeClock) -> None:
    """With ``bytes`` each call has a value of its own, the creator's too; with ``objects`` all share one."""
    cache = managed(store, clock, near_copy=near_copy).get_cache("copies")
    with request_scope():
        first = cache.get("k", createfunc=lambda: [1])
        second = cache.get("k")
        first.append(2)
        assert (second == [1, 2], cache.get("k") == [1, 2]) == ((near_copy == "objects",) * 2)
        assert (cache.get("k") is second) == (near_copy == "objects")


CHANGES: dict[str, Callable[[Any, Any, Any], object]] = {
    "put": lambda manager, cache, load: cache.put("k", "new"),
    "put_many": lambda manager, cache, load: cache.put_many({"k": "new"}),
    "remove": lambda manager, cache, load: cache.remove("k"),
    "remove_many": lambda manager, cache, load: cache.remove_many(["k"]),
    "clear": lambda manager, cache, load: cache.clear(),
    "invalidate_tags": lambda manager, cache, load: manager.invalidate_tags("t"),
    "invalidate_region": lambda manager, cache, load: manager.invalidate_region("r"),
    "invalidate": lambda manager, cache, load: load.invalidate("k"),
    "invalidate_all": lambda manager, cache, load: load.invalidate_all(),
    "refresh": lambda manager, cache, load: load.refresh("k"),
    "set": lambda manager, cache, load: load.set("new", "k"),
}


@pytest.mark.parametrize("where", ["here", "copied context", "plain thread"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_the_request_changes_it_forgets(change: str, where: str, store: Calls, clock: FakeClock) -> None:
    """Whatever changes a value ends its copy at once, in any thread of the request, by a cache with or without
    ``memo``; the next read after that costs nothing again."""
    regions = {"r": {"namespace_class": CallsManager, "client": store, "clock": clock, "region_stamp": True}}
    reader, writer = (
        managed(store, clock, cache_regions={"r": {**regions["r"], "memo": memo}}, memo=memo) for memo in (True, False)
    )
    values = iter(["old", "new", "newer"])
    of_function = change in ("invalidate", "invalidate_all", "refresh", "set")

    def both(manager: CacheManager) -> Any:
        @manager.region("r", "load")
        def load(key: str) -> str:
            return next(values)

        return manager.get_cache_region("changes", "r"), load

    cache, load = both(reader)
    other, other_load = both(writer)
    # Functions are bound to the region of their own manager.
    other_load.namespace = load.namespace

    def seen() -> Any:
        if of_function:
            return load("k")
        try:
            return cache.get("k")
        except KeyError:
            return None

    if not of_function:
        other.put("k", "old", tags="t")
    with request_scope():
        assert (seen(), seen()) == ("old", "old")
        work = partial(CHANGES[change], writer, other, other_load)
        {"here": lambda work: work(), "copied context": in_context, "plain thread": run}[where](work)
        expected = "new" if of_function or change in ("put", "put_many") else None
        assert seen() == expected
        store.take()
        assert seen() == expected
        assert expected is None or store.take() == []


def test_other_requests_are_not_seen(store: Calls, clock: FakeClock) -> None:
    """A request reads the same value twice, whatever another one changes meanwhile; the next one sees it."""
    cache = managed(store, clock).get_cache("repeatable")
    cache.put("k", "old")

    def other_request() -> None:
        with request_scope():
            assert cache.get("k") == "old"
            cache.put("k", "new")
            assert cache.get("k") == "new"

    with request_scope():
        assert cache.get("k") == "old"
        run(other_request)
        assert cache.get("k") == "old"
    with request_scope():
        assert cache.get("k") == "new"
        with request_scope():
            # A scope inside is one of its own; what it changes, the one around it forgets.
            store.take()
            assert cache.get("k") == "new"
            assert store.take() != []
            cache.put("k", "newer")
        assert cache.get("k") == "newer"


def test_what_has_expired_is_not_served(store: Calls, clock: FakeClock) -> None:
    """A copy is served no longer than its value is valid, and a kept exception and None as long as ``negative``."""
    cache = managed(store, clock, expire=10, negative=5, negative_errors=(LookupError,)).get_cache("expiry")
    numbers = iter(range(10))

    def fail() -> None:
        next(numbers)
        raise LookupError("none")

    with request_scope():
        assert cache.get("k", createfunc=lambda: next(numbers)) == 0
        assert cache.get("none", createfunc=lambda: None) is None
        for _ in range(3):
            with pytest.raises(LookupError):
                cache.get("failed", createfunc=fail)
        store.take()
        with pytest.raises(LookupError):
            cache.get("failed", createfunc=fail)
        assert cache.get("none", createfunc=lambda: 1 / 0) is None
        assert store.take() == []
        clock.advance(6)
        assert cache.get("k", createfunc=lambda: next(numbers)) == 0
        assert store.take() == []
        with pytest.raises(LookupError):
            cache.get("failed", createfunc=fail)
        assert next(numbers) == 3
        clock.advance(5)
        assert cache.get("k", createfunc=lambda: next(numbers)) == 4


def test_sliding_values_slide(store: Calls, clock: FakeClock) -> None:
    """A value that only the memo's hits ask for is renewed like any other."""
    cache = managed(store, clock, expire=1_000, sliding=40).get_cache("sliding")
    cache.put("k", "v")
    with request_scope():
        for _ in range(10):
            clock.advance(30)
            assert cache.get("k") == "v"


def test_a_value_read_before_a_change_is_not_remembered_after_it(store: Calls, clock: FakeClock) -> None:
    """A read of the same request that an invalidation overtakes leaves nothing behind, nor does a creation."""
    cache = managed(store, clock, lock="none").get_cache("overtaken")
    cache.put("k", "old")
    original = store.get

    def overtaken(namespace: str, key: str) -> Any:
        found = original(namespace, key)
        store.get = original  # type: ignore[method-assign]
        in_context(partial(cache.put, "k", "new"))
        return found

    with request_scope():
        store.get = overtaken  # type: ignore[method-assign]
        assert cache.get("k") == "old"
        assert cache.get("k") == "new"

    def create() -> str:
        in_context(partial(cache.put, "c", "new"))
        return "old"

    with request_scope():
        assert cache.get("c", createfunc=create) == "old"
        assert cache.get("c") == "new"


def test_a_creation_that_is_overtaken_as_it_ends_is_not_remembered(store: Calls, clock: FakeClock) -> None:
    """What another thread of the request puts right after a creation was stored is what the request reads."""
    cache = managed(store, clock, lock="none").get_cache("as it ends")
    original = store.replace

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        store.replace = original  # type: ignore[method-assign]
        done = original(*args, **kwargs)
        in_context(partial(cache.put, "c", "new"))
        return done

    with request_scope():
        store.replace = overtaken  # type: ignore[method-assign]
        assert cache.get("c", createfunc=lambda: "created") == "created"
        assert cache.get("c") == "new"


def test_what_is_read_while_a_refresh_stores_is_not_remembered() -> None:
    """A thread of the request that has read the old value right before the new one was stored leaves the new one."""
    store: Any = FourMethods()
    manager = CacheManager(namespace_class=CallsManager, client=store, memo=True)
    values = iter(["old", "new"])
    has_read, may_return = threading.Event(), threading.Event()
    get, set_ = store.get, store.set

    @manager.cache("refreshed")
    def load() -> str:
        return next(values)

    def held(*args: Any) -> Any:
        found = get(*args)
        has_read.set()
        assert may_return.wait(10)
        return found

    def overtaking(*args: Any, **kwargs: Any) -> None:
        store.set, store.get = set_, held
        reader.start()
        assert has_read.wait(10)
        store.get = get
        set_(*args, **kwargs)

    assert load() == "old"
    with request_scope():
        reader = threading.Thread(target=contextvars.copy_context().run, args=(load,))
        store.set = overtaking
        assert load.refresh() == "new"
        may_return.set()
        reader.join(10)
        assert load() == "new"


def test_a_failed_change_is_forgotten_too(store: Calls, clock: FakeClock) -> None:
    """After a change that could not be written the memo serves nothing: the store is asked, and unavailable."""
    cache = managed(store, clock).get_cache("failed")
    cache.put("k", "old")
    with request_scope():
        assert cache.get("k") == "old"
        store.down = True
        with pytest.raises(StoreUnavailable):
            cache.remove("k")
        with pytest.raises(StoreUnavailable):
            cache.get("k")
        store.down = False
        assert "k" not in cache


def test_outside_of_a_request_nothing_is_remembered(store: Calls, clock: FakeClock) -> None:
    """What runs on in a copy of the context after the request has ended reads, and leaves, no memo."""
    cache = managed(store, clock).get_cache("outlives")
    cache.put("k", "old")
    with request_scope():
        context = contextvars.copy_context()
        assert cache.get("k") == "old"
        memo = memo_module.here()
    cache.put("k", "new")
    store.take()
    assert [context.run(cache.get, "k") for _ in range(2)] == ["new", "new"]
    assert store.take() == ["get", "get"]
    assert memo is not None
    assert memo_module.here() is None
    assert context.run(memo_module.here) is None


def test_a_request_remembers_a_bounded_number(store: Calls, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most ``LIMIT`` values, the latest ones; so many changed keys are remembered, too."""
    monkeypatch.setattr(memo_module, "LIMIT", 3)
    cache = managed(store, clock).get_cache("bounded")
    cache.put_many({str(n): n for n in range(10)})
    with request_scope():
        assert [cache.get(str(n)) for n in range(10)] == list(range(10))
        memo = memo_module.here()
        assert memo is not None
        assert len(memo) == 3
        store.take()
        assert [cache.get(str(n)) for n in (9, 8, 7)] == [9, 8, 7]
        assert store.take() == []
        for n in range(10):
            cache.put(str(n), -n)
        assert len(memo.space(cache.namespace).changed) <= 3  # type: ignore[arg-type]
        assert [cache.get(str(n)) for n in range(10)] == [-n for n in range(10)]


def test_event_loops_take_no_thread(store: Calls, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the request has read is found in an event loop without a worker thread, also by its other tasks."""
    manager = managed(store, clock)
    cache = manager.get_cache("loop")

    @manager.cache("function", tags="t:{n}")
    async def load(n: int) -> int:
        return n

    async def main() -> None:
        await cache.aput("k", 1)
        with request_scope():
            assert (await load(1), await cache.aget("k")) == (1, 1)
            monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", None)
            assert list(await asyncio.gather(load(1), load.get(1), cache.aget("k"))) == [1, 1, 1]

    asyncio.run(main())


def test_with_near(store: Calls, clock: FakeClock) -> None:
    """Under a memo the near tier may move on; the request goes on to read what it has read."""
    cache, writer = (managed(each, clock, near=5).get_cache("near") for each in (store, Calls(clock)))
    cache.put("k", "old")
    for _ in range(3):
        cache.get("k")
    near_hits = cache.stats().near_hits
    with request_scope():
        assert [cache.get("k"), cache.get("k")] == ["old", "old"]
        assert cache.stats().near_hits == near_hits + 1
        clock.advance(60)
        store.take()
        assert cache.get("k") == "old"
        assert store.take() == []
    del writer


def test_options(store: Calls, clock: FakeClock) -> None:
    """``memo`` is a boolean, also of a region and a decorator; where there is no store a warning says that it is
    without effect, and on ``memory`` there is no need to."""
    with pytest.raises(ConfigError, match="memo"):
        CacheManager(type="file", memo="perhaps")
    with pytest.warns(ConfigWarning, match="memo has no effect on DictManager"):
        Cache("memo", type=DictManager, memo=True)
    with pytest.raises(ConfigError, match="memo has no effect"):
        Cache("memo", type=DictManager, memo=True, strict=True)
    with request_scope():
        cache = Cache("memo", type="memory", memo=True)
        cache.put("k", 1)
        assert cache.get("k") == 1
    manager = managed(store, clock, memo=False)

    @manager.cache("decorator", memo=True)
    def load() -> int:
        return 1

    with request_scope():
        assert load() == 1
        store.take()
        assert load() == 1
        assert store.take() == []


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_calls(seed: int, store: Calls, clock: FakeClock) -> None:
    """Whatever two requests do in turn, each reads what it has read at no cost, until it changes that itself; so does
    what belongs to no request, for both."""
    draw = random.Random(seed)
    cache = managed(store, clock, lock="thread", expire=30).get_cache("any")
    stored: dict[str, tuple[int, float]] = {}
    # The last is that of no request.
    contexts = [contextvars.copy_context() for _ in range(3)]
    requests: list[serving.Request | None] = [None, None, None]
    views: list[dict[str, tuple[int, float]]] = [{}, {}, {}]

    def put(key: str, value: int) -> None:
        cache.put(key, value)
        stored[key] = (value, clock() + 30)

    def changed(me: int, *keys: str) -> None:
        for view in views[:2] if requests[me] is None else views[me : me + 1]:
            for key in list(view) if requests[me] is None else keys:
                view.pop(key, None)

    def step(me: int, number: int) -> None:
        view, key = views[me], draw.choice("abc")
        what = draw.choice(["get", "get", "get", "create", "put", "remove", "clear", "many", "end", "wait"])
        store.take()
        if what == "end":
            request = requests[me]
            if request is not None:
                request.end()
            requests[me] = serving.Request() if me < 2 else None
            serving._current.set(requests[me])
            view.clear()
        elif what == "wait":
            clock.advance(draw.choice([1, 12]))
        elif what == "put":
            put(key, number)
            changed(me, key)
        elif what == "remove":
            cache.remove(key)
            stored.pop(key, None)
            changed(me, key)
        elif what == "clear":
            cache.clear()
            stored.clear()
            changed(me, *"abc")
        else:
            read(what, view, key, number, me)

    def read(what: str, view: dict[str, tuple[int, float]], key: str, number: int, me: int) -> None:
        now = clock()
        known = view.get(key)
        remembered = requests[me] is not None and known is not None and known[1] > now
        expected = known if remembered else stored.get(key)
        if expected is not None and expected[1] <= now:
            expected = None
        if what == "create" and expected is None:
            assert cache.get(key, createfunc=lambda: number) == number
            stored[key] = expected = (number, now + 30)
            changed(me, key)
        elif what == "many":
            found = cache.get_many([key])
            assert found == ({} if expected is None else {key: expected[0]})
        else:
            assert cache.namespace.get(key) == cache.get(key) if expected else key not in cache
            assert expected is None or cache.get(key) == expected[0]
        assert not remembered or store.take() == []
        if expected is not None and requests[me] is not None:
            view[key] = expected

    for number in range(400):
        me = draw.randrange(3)
        contexts[me].run(step, me, number)


@pytest.fixture(autouse=True)
def opened_where_wanted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins as a process does in which nothing has asked for a memo."""
    monkeypatch.setattr(serving, "wanted", False)
    yield
    assert serving.current() is None
