"""Tags and regions: what was stored under them is not served once they were invalidated, on every store."""

from __future__ import annotations

# over 320 lines because stores, live objects, loops and mistakes are all held to one promise
import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import cache as module
from beaker.cache import Cache, CacheManager, cache_region
from beaker.caching.stamps import LIFE, NAMESPACE, Stamp, StampBook, name_of
from beaker.caching.store_manager import StoreNamespaceManager
from beaker.caching.value import Value
from beaker.exceptions import ConfigError, StoreUnavailable
from beaker.storage.memory import MemoryStore
from beaker.testing import FakeClock
from tests.caching.test_voiding import Creation, FourMethods
from tests.managers import DictManager
from tests.storage.shared import SHARED, session_options

ODD = ("", "user:42", "\0", "ä" * 3_000, "a b\r\nset x", "\udc80", "x" * 40_000)


class Calls(MemoryStore):
    """A store that writes down what it is asked."""

    trusted = True

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.calls: list[str] = []
        self.inside = 0
        self.down = False

    def take(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


def _counted(name: str) -> Callable[..., Any]:
    operation = getattr(MemoryStore, name)

    def call(store: Calls, *args: Any, **kwargs: Any) -> Any:
        if store.down:
            raise StoreUnavailable("down", backend="memory", operation=name)
        if not store.inside:
            store.calls.append(name)
        store.inside += 1
        try:
            return operation(store, *args, **kwargs)
        finally:
            store.inside -= 1

    return call


for _name in (
    "get", "set", "delete", "clear", "read", "insert", "replace", "remove", "keys", "get_many", "set_many",
    "delete_many", "get_across",
):  # fmt: skip
    setattr(Calls, _name, _counted(_name))


class CallsManager(StoreNamespaceManager):
    """A manager over one :class:`Calls`."""

    def __init__(self, namespace: str, *, client: Any, **options: Any) -> None:
        super().__init__(namespace, client, **options)


@pytest.fixture(autouse=True)
def nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Module-wide invalidations reach every region and cache of the process: only those of one test."""
    monkeypatch.setattr(module, "cache_regions", {})
    module.cache_managers.clear()


@pytest.fixture
def numbers() -> Iterator[int]:
    return itertools.count(1)


def manager_of(store: Any, clock: Any, **options: Any) -> CacheManager:
    return CacheManager(namespace_class=CallsManager, client=store, clock=clock, **options)


@pytest.mark.parametrize("name", ["memory", *SHARED])
def test_every_store(name: str, request: pytest.FixtureRequest, tmp_path: Path, numbers: Iterator[int]) -> None:
    """A decorated function, a value that was put and a whole region are old for every instance at once."""
    options = {"type": "memory"} if name == "memory" else session_options(name, request, tmp_path)
    regions = {f"r-{tmp_path.name}": {**options, "region_stamp": True, "expire": 60}}
    region = next(iter(regions))
    one, other = (CacheManager(**options, cache_regions=regions) for _ in range(2))

    @one.cache("tags", expire=60, tags=("user:{id}", "kind:{kind}"))
    def load(id: int, kind: str = "a") -> int:
        return next(numbers)

    before = [load(1), load(2), load(3, kind="b")]
    assert [load(1, "a"), load(id=2), load(3, "b")] == before
    other.invalidate_tags("user:1", "kind:b")
    assert load(2) == before[1]
    assert load(1) > before[2]
    assert load(3, kind="b") > before[2]

    cache, seen = one.get_cache("put"), other.get_cache("put")
    for key, tag in enumerate(ODD):
        cache.put(str(key), key, tags=(tag, "all"))
    cache.put_many({"x": 1, "y": 2}, tags="both")
    assert seen.get("1") == 1
    assert seen.get_many(["0", "1", "x", "y"]) == {"0": 0, "1": 1, "x": 1, "y": 2}
    other.invalidate_tags("user:42", "both")
    assert "1" not in seen
    assert seen.get_many(["0", "1", "2", "x"]) == {"0": 0, "2": 2}
    one.invalidate_tags("all")
    assert seen.get_many(map(str, range(len(ODD)))) == {}
    cache.put("1", "without", tags=())
    one.invalidate_tags("all")
    assert seen.get("1") == "without"
    with pytest.raises(KeyError):
        seen.get("1", tags=("user:42",))

    @one.region(region, "region")
    def regional(n: int) -> int:
        return next(numbers)

    kept = one.get_cache_region("regional", region)
    kept.put("k", "v")
    first = regional(1)
    assert (regional(1), kept.get("k")) == (first, "v")
    other.invalidate_region(region)
    assert regional(1) > first
    assert "k" not in kept


def test_in_an_event_loop(numbers: Iterator[int]) -> None:
    """Coroutine functions, the operations that begin with a, and the invalidations that are awaited."""
    store, clock = Calls(FakeClock()), FakeClock()
    manager = manager_of(store, clock, cache_regions={"loop": {"namespace_class": CallsManager, "client": store}})

    @manager.cache("loop", tags="n:{n}")
    async def load(n: int) -> int:
        await asyncio.sleep(0)
        return next(numbers)

    async def main() -> None:
        cache = manager.get_cache("async")
        await cache.aput("k", 1, tags=["n:1"])
        assert list(await asyncio.gather(load(1), load(1))) == [1, 1]
        assert await cache.aget("k", createfunc=lambda: 7, tags=["n:1"]) == 1
        await manager.ainvalidate_tags("n:1")
        assert await load(1) == 2
        assert await cache.aget("k", createfunc=lambda: 7, tags=["n:1"]) == 7
        await module.ainvalidate_tags("n:1")
        assert await load(1) == 3
        with pytest.raises(ConfigError, match="region_stamp"):
            await manager.ainvalidate_region("loop")

    asyncio.run(main())


def test_operations(numbers: Iterator[int]) -> None:
    """A hit is a batch, a plain read of a tagged value two, an invalidation one write, of however many tags."""
    clock = FakeClock()
    store = Calls(clock)
    manager = manager_of(store, clock, expire=60, lock="thread")

    @manager.cache("ops", tags=("a:{n}", "b"))
    def load(n: int) -> int:
        return next(numbers)

    load(1)
    assert store.take()[0] == "get_across"
    load(1)
    assert store.take() == ["get_across"]
    cache = manager.get_cache("ops2")
    cache.put("k", 1, tags=("b", "c"))
    store.take()
    assert cache.get("k") == 1
    assert store.take() == ["get", "get_many"]
    manager.invalidate_tags("a:1", "b", "unknown")
    assert store.take() == ["set_many"]
    load(1)
    # Read with the stamps, mark, store; none of the stamps is new.
    assert store.take() == ["get_across", "insert", "read", "replace"]


def test_a_creation_in_flight_never_serves_what_begins_after(numbers: Iterator[int]) -> None:
    """What began before an invalidation is returned to its caller alone; a call that begins after it creates anew."""
    stores: list[Any] = [Calls(FakeClock()), FourMethods()]
    for store in stores:
        manager = CallsManager("flight", client=store, lock="thread")

        def value(manager: CallsManager = manager) -> Value:
            return Value("k", manager.view(("t",)), expiretime=60)

        old = Creation(value().get_or_create, "old")
        StampBook(store).move_tags(["t"])
        assert old.end() == "old"
        assert value().get_or_create(lambda: "new") == "new"
        assert value().get_or_create(lambda: "newer") == "new"


def test_live_objects_in_flight() -> None:
    """The same for objects in memory, and a value that was put while its tag was invalidated."""
    cache = Cache("live-flight", expire=60)
    old = Creation(lambda create: cache.get("k", createfunc=create, tags=("live-t",)), "old")
    module.invalidate_tags("live-t")
    assert old.end() == "old"
    assert cache.get("k", createfunc=lambda: "new", tags=("live-t",)) == "new"
    assert cache.get("k") == "new"
    module.invalidate_tags("live-t")
    assert "k" not in cache


@pytest.mark.parametrize("lose", ["delete", "corrupt", "expire"])
def test_a_lost_stamp_never_revives_a_value(lose: str) -> None:
    """A stamp that was evicted, overwritten or expired makes its values misses, also when a new one is created."""
    clock = FakeClock()
    store = Calls(clock)
    cache = manager_of(store, clock).get_cache("lost")
    cache.put("k", "old", tags=("t",))
    cache.put("other", "old", tags=("t",))
    name = name_of("t", "t")
    if lose == "delete":
        store.delete(NAMESPACE, name)
    elif lose == "corrupt":
        store.set(NAMESPACE, name, b"nonsense", ttl=None)
    else:
        found = store.get(NAMESPACE, name)
        assert found is not None
        store.set(NAMESPACE, name, found, ttl=1)
        clock.advance(2)
    assert "k" not in cache
    assert cache.get("k", createfunc=lambda: "new", tags=("t",)) == "new"
    assert cache.get("k") == "new"
    assert "other" not in cache


def test_stamps_live_as_long_as_what_depends_on_them(numbers: Iterator[int]) -> None:
    """A stamp is prolonged when a value is stored that is kept for longer, and not at each: tags pile up no further."""
    clock = FakeClock()
    store = Calls(clock)
    cache = manager_of(store, clock).get_cache("life")
    name = name_of("t", "t")

    def life() -> float:
        stamp = Stamp.unpack(store.get(NAMESPACE, name) or b"")
        return -1.0 if stamp is None else stamp.until - clock()

    cache.put("k", 1, tags=("t",), expire=600)
    assert life() == LIFE
    clock.advance(LIFE - 900)
    store.take()
    cache.put("k", 2, tags=("t",), expire=600)
    assert store.take() == ["get", "read", "replace", "set"]
    assert life() == LIFE
    assert cache.get("k") == 2
    cache.put("k", 3, tags=("t",), expire=10 * LIFE)
    assert life() > 20 * LIFE
    clock.advance(10 * LIFE - 1)
    assert cache.get("k") == 3
    cache.put("ever", 3, tags=("t",))
    assert life() == float("inf")
    cache.put("ever", 4, tags=("short",), expire=60)
    clock.advance(LIFE + 1)
    assert store.get(NAMESPACE, name_of("t", "short")) is None


def test_prolonging_beside_an_invalidation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stamp that moves while it is prolonged stays moved."""
    clock = FakeClock()
    store = Calls(clock)
    book = StampBook(store, clock)
    name = name_of("t", "t")
    stamps = book.ensure({name: None})
    read = store.read

    def read_and_move(namespace: str, key: str) -> Any:
        found = read(namespace, key)
        monkeypatch.setattr(store, "read", read)
        book.move([name])
        return found

    monkeypatch.setattr(store, "read", read_and_move)
    book.prolong(stamps, None)
    moved = book.read([name])[name]
    assert moved is not None
    assert moved.token != stamps[name].token


def test_an_expired_value_of_a_moved_tag_is_not_served_stale() -> None:
    """serve_stale and stale_if_error serve no value that was invalidated."""
    clock = FakeClock()
    cache = manager_of(Calls(clock), clock, stale_if_error=60).get_cache("stale")
    cache.put("k", "old", tags=("t",), expire=10)
    clock.advance(11)

    def fail() -> Any:
        raise OSError

    assert cache.get("k", createfunc=fail, tags=("t",)) == "old"
    StampBook(cache.namespace.store, clock).move_tags(["t"])  # type: ignore[attr-defined]
    with pytest.raises(OSError):
        cache.get("k", createfunc=fail, tags=("t",))


def test_one_creator_when_a_tag_is_invalidated(numbers: Iterator[int]) -> None:
    """A stampede upon an invalidated value waits for one creation."""
    cache = manager_of(Calls(FakeClock()), FakeClock()).get_cache("herd", expire=60)
    cache.put("k", "old", tags=("t",))
    StampBook(cache.namespace.store).move_tags(["t"])  # type: ignore[attr-defined]
    first = Creation(lambda create: cache.get("k", createfunc=create, tags=("t",)), "new")

    async def main() -> list[Any]:
        async def call() -> Any:
            return await cache.aget("k", createfunc=lambda: next(numbers), tags=("t",))

        waiting = [asyncio.ensure_future(call()) for _ in range(5)]
        await asyncio.sleep(0)
        first.may_end.set()
        return list(await asyncio.gather(*waiting))

    assert asyncio.run(main()) == ["new"] * 5
    assert first.end() == "new"


def test_refresh_and_set(numbers: Iterator[int]) -> None:
    """What .refresh and .set keep has the call's tags, too."""
    for options in ({"type": "memory"}, {"namespace_class": CallsManager, "client": Calls(FakeClock())}):
        manager = CacheManager(**options)

        @manager.cache("refresh", tags=["r:{n}", lambda n: (f"double:{2 * n}", "s")])
        def load(n: int) -> int:
            return next(numbers)

        for keep in (lambda: load.refresh(1), lambda: load.set(-1, 1)):
            for tag in ("r:1", "double:2", "s"):
                keep()
                assert load.get(1) is not None
                manager.invalidate_tags(tag)
                assert load.get(1) is None


def test_methods() -> None:
    """A template names the instance's attributes; keyword arguments and defaults are among its parameters."""

    class Shop:
        def __init__(self, id: int) -> None:
            self.id = id

        def __cache_key__(self) -> int:
            return self.id

        @CacheManager().cache("shop", tags=("shop:{self.id}", "lang:{lang}"))
        def prices(self, *, lang: str = "en") -> object:
            return object()

    one, two = Shop(1), Shop(2)
    first, second, german = one.prices(), two.prices(), two.prices(lang="de")
    module.invalidate_tags("shop:1", "lang:de")
    assert one.prices() is not first
    assert two.prices() is second
    assert two.prices(lang="de") is not german


@pytest.mark.parametrize(
    ("tags", "match"),
    [
        ("user:{name}", "has no parameter 'name'; expected id"),
        (("fine:{id}", "{}"), "no parameter ''"),
        ("{id", "no format text"),
        ((7,), "texts and callables, got int"),
        (tuple(map(str, range(101))), "100 at most, got 101"),
    ],
)
def test_wrong_tags_of_a_function(tags: Any, match: str) -> None:
    """They are a ConfigError where the function is decorated, in every one of the decorators."""
    for decorate in (
        cache_region("nowhere", tags=tags),
        CacheManager().cache(tags=tags),
        CacheManager().region("nowhere", tags=tags),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=match):

            @decorate
            def load(id: int) -> None: ...


def test_wrong_tags_of_a_call() -> None:
    """What is no text, and too many of them, are a ConfigError that names the option and the number."""
    cache = Cache("wrong", type="null")
    for call in (
        lambda tags: cache.put("k", 1, tags=tags),
        lambda tags: cache.put_many({"k": 1}, tags=tags),
        lambda tags: cache.get("k", createfunc=int, tags=tags),
    ):
        with pytest.raises(ConfigError, match="tag is a text; expected texts, got int"):
            call([1])
        with pytest.raises(ConfigError, match="100 at most, got 3000"):
            call(map(str, range(3_000)))
    with pytest.raises(ConfigError, match="tag is a text"):
        module.invalidate_tags(1)  # type: ignore[arg-type]


def test_foreign_managers() -> None:
    """A third party's manager has no stamps: tags and region_stamp are refused, invalidations pass it by."""
    manager = CacheManager(namespace_class=DictManager)
    with pytest.raises(ConfigError, match="DictManager cannot have tags"):
        manager.get_cache("foreign").put("k", 1, tags="t")
    manager.invalidate_tags("t")
    with pytest.raises(ConfigError, match="region_stamp"):
        Cache("foreign", type=DictManager, region="r", region_stamp=True)


def test_the_namespace_of_stamps_is_taken() -> None:
    """No cache can be opened where the stamps are."""
    with pytest.raises(ConfigError, match=NAMESPACE):
        manager_of(Calls(FakeClock()), FakeClock()).get_cache(NAMESPACE)


def test_an_unavailable_store_is_reported(numbers: Iterator[int]) -> None:
    """An invalidation raises when a store does not respond, and has reached the other stores; that one as soon as it
    is read again."""
    clock = FakeClock()
    up, down = Calls(clock), Calls(clock)
    manager = CacheManager(clock=clock, expire=60)
    other, reached = (manager.get_cache("tags", namespace_class=CallsManager, client=store) for store in (down, up))
    memory = manager.get_cache("tags")
    for cache in (other, reached, memory):
        cache.put("k", 1, tags="t")
    down.down = True
    with pytest.raises(StoreUnavailable):
        manager.invalidate_tags("t")
    assert "k" not in memory
    assert "k" not in reached
    with pytest.raises(StoreUnavailable):
        other.get("k")
    down.down = False
    assert "k" not in other


def test_a_put_that_could_not_read_its_stamps() -> None:
    """It raises, and the value that it was to replace is not served afterwards."""
    clock = FakeClock()
    store = Calls(clock)
    cache = manager_of(store, clock).get_cache("unwritten")
    for put in (lambda: cache.put("k", "new", tags="t"), lambda: cache.put_many({"k": "new"}, tags="t")):
        cache.put("k", "old")
        store.down = True
        with pytest.raises(StoreUnavailable):
            put()
        store.down = False
        assert "k" not in cache


def test_what_is_decorated_is_reached_before_it_is_called() -> None:
    """A store that only a decorator names is reached, although this process never called the function."""
    clock = FakeClock()
    store = Calls(clock)
    manager = CacheManager()

    @manager.cache("uncalled", namespace_class=CallsManager, client=store, tags="t")
    def load() -> int:
        return 1

    manager.invalidate_tags("t")
    assert store.take() == ["set"]


def test_a_fork_shares_no_lock() -> None:
    """A child that was forked while another thread took stamps can take them."""
    from beaker.caching.stamps import local

    local._mutex.acquire()
    try:
        pid = os.fork()
        if pid == 0:
            os._exit(0 if local.take(("t",)) else 1)
    finally:
        local._mutex.release()
    assert os.waitpid(pid, 0)[1] == 0


def test_a_region_in_memory() -> None:
    """invalidate_region empties what a region opened in memory, creations in flight among it, and nothing else."""
    module.cache_regions["tags-mem"] = {"type": "memory", "expire": 60}
    inside, outside = CacheManager().get_cache_region("mem-in", "tags-mem"), Cache("mem-out")
    inside.put("k", 1)
    outside.put("k", 1)
    flight = Creation(lambda create: inside.get("flight", createfunc=create), "old")
    module.invalidate_region("tags-mem")
    assert flight.end() == "old"
    assert ("k" in inside, "flight" in inside, "k" in outside) == (False, False, True)


@pytest.mark.parametrize("kind", ["memory", "store", "region", "near"])
@pytest.mark.parametrize("write", ["put", "put_many", "created"])
def test_sliding(kind: str, write: str) -> None:
    """A value with tags, or of a region with a stamp, is renewed by reads like any other, up to its end, for which its
    stamps stay; its tags are old when they are invalidated."""
    clock = FakeClock()
    options: dict[str, Any] = {"namespace_class": CallsManager, "client": Calls(clock), "lock": "thread"}
    options = {"type": "memory"} if kind == "memory" else options
    options |= {"near": 5} if kind == "near" else {}
    life = 10 * LIFE
    region = {**options, "clock": clock, "expire": life, "sliding": LIFE, "region_stamp": kind == "region"}
    manager = CacheManager(cache_regions={"tagged": region})
    cache = manager.get_cache_region("tagged and sliding", "tagged")

    def read() -> Any:
        return cache.get("k", createfunc=lambda: "anew", tags="t")

    if write == "created":
        assert cache.get("k", createfunc=lambda: "v", tags="t") == "v"
    elif write == "put":
        cache.put("k", "v", tags="t")
    else:
        cache.put_many({"k": "v"}, tags="t")
    for _ in range(11):
        clock.advance(0.9 * LIFE)
        assert (read(), cache.get("k")) == ("v", "v")
    clock.advance(0.2 * LIFE)
    assert read() == "anew"
    manager.regions["tagged"]["clock"].advance(0.5 * LIFE)
    invalidate = CacheManager(**{**region, "region_stamp": False}).invalidate_tags
    invalidate("t")
    clock.advance(5)
    with pytest.raises(KeyError):
        cache.get("k")
