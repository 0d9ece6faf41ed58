"""Timeouts: a call stops waiting, its creation goes on."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import logging
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.cache import Cache, cache_region, cache_regions
from beaker.caching import timeouts
from beaker.caching.place import OldValue
from beaker.caching.value import Value
from beaker.exceptions import BeakerException, ConfigWarning, CreationTimeout, LockError
from beaker.runtime import Platform, Runtime
from beaker.testing import FakeClock
from beaker.testing.lock import PATIENCE, wait_until
from tests.caching.places import PLACES, STYLES, Style, options_at

SOON = 0.03
"""Seconds of a hard timeout that is meant to pass."""


class Hanging:
    """A creation that ends on request."""

    def __init__(self, outcome: Any = "new") -> None:
        self.outcome = outcome
        self.running, self.may_end = threading.Event(), threading.Event()
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        self.running.set()
        assert self.may_end.wait(PATIENCE)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture(params=[(place, style) for place in PLACES for style in STYLES], ids="-".join)
def style(request: pytest.FixtureRequest, tmp_path: Path, fake_clock: FakeClock) -> Style:
    place, name = request.param
    return Style(name, Cache("timeouts", expire=60, **options_at(place, request, tmp_path, fake_clock)))


class Loop:
    """An event loop in a thread of its own, so that tasks go on after a call."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def opened(style: Style, **options: Any) -> Cache:
    """The same cache with timeouts."""
    return Cache("timeouts", **{**style.cache.nsargs, "type": style.cache.type, "expire": 60, **options})


def get(style: Style, loop: Loop, cache: Cache, create: Hanging) -> Any:
    if not style.loops:
        return cache.get("k", createfunc=create)

    async def acreate() -> Any:
        return await asyncio.to_thread(create)

    return loop.run(cache.aget("k", createfunc=acreate))


def events(name: str) -> int:
    return counters.snapshot().events.get(name, 0)


def test_the_old_value_after_a_soft_timeout(style: Style, loop: Loop, fake_clock: FakeClock) -> None:
    """It is returned while the creation goes on, whose result is stored; nothing old: the call waits."""
    cache, create = opened(style, soft_timeout=0), Hanging()
    cache.put("k", "old")
    fake_clock.advance(61)
    assert get(style, loop, cache, create) == "old"
    assert get(style, loop, cache, create) == "old"
    assert create.running.wait(PATIENCE)
    create.may_end.set()
    wait_until(lambda: cache.has_key("k"))
    assert cache.get("k") == "new"
    assert create.calls == 1
    cache.remove("k")
    assert get(style, loop, cache, create) == "new"


def test_an_error_after_a_hard_timeout(style: Style, loop: Loop, fake_clock: FakeClock) -> None:
    """CreationTimeout, for the creator and for those that wait for it; the result is stored when it is there."""
    cache, create = opened(style, hard_timeout=SOON), Hanging()
    for _ in range(2):
        with pytest.raises(CreationTimeout) as caught:
            get(style, loop, cache, create)
    assert isinstance(caught.value, (TimeoutError, BeakerException))
    assert (caught.value.code, caught.value.seconds) == ("cache.creation-timeout", SOON)
    assert "stale_if_error" in caught.value.hint
    create.may_end.set()
    wait_until(lambda: cache.has_key("k"))
    assert create.calls == 1
    assert cache.get("k", createfunc=create) == "new"


@pytest.mark.parametrize("style", [(place, "threads") for place in PLACES], ids="-".join, indirect=True)
def test_what_was_removed_meanwhile_does_not_come_back(
    style: Style, loop: Loop, fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an invalidation there is no old value to return; the voided result is not stored."""
    cache, create = opened(style, soft_timeout=0, hard_timeout=SOON), Hanging()
    cache.put("k", "old")
    fake_clock.advance(61)
    stale, before = OldValue.stale, events("creation_voided")

    def removed_first(old: OldValue) -> Any:
        assert create.running.wait(PATIENCE)
        cache.remove("k")
        return stale(old)

    monkeypatch.setattr(OldValue, "stale", removed_first)
    try:
        with pytest.raises(CreationTimeout):
            get(style, loop, cache, create)
    finally:
        create.may_end.set()
    wait_until(lambda: events("creation_voided") == before + 1)
    assert cache.namespace.read("k") is None


def refresh(style: Style, loop: Loop, cache: Cache, create: Hanging) -> Any:
    value = Value("k", cache.namespace, None, 60.0)
    if not style.loops:
        return value.refresh(create)

    async def acreate() -> Any:
        return await asyncio.to_thread(create)

    return loop.run(value.arefresh(acreate))


def test_a_refresh_goes_by_them(style: Style, loop: Loop, fake_clock: FakeClock) -> None:
    """It returns the present value, or raises, also where that is fresh, and stores its result when it is there; one
    that ends in time, or fails, is as ever."""
    soft, hard, create = opened(style, soft_timeout=0), opened(style, hard_timeout=SOON, stale_if_error=60), Hanging()
    soft.put("k", "old")
    assert refresh(style, loop, soft, create) == "old"
    assert create.running.wait(PATIENCE)
    create.may_end.set()
    wait_until(lambda: soft.get("k") == "new")
    again = Hanging("newer")
    with pytest.raises(CreationTimeout):
        refresh(style, loop, hard, again)
    assert hard.get("k") == "new"
    again.may_end.set()
    wait_until(lambda: hard.get("k") == "newer")
    at_once = opened(style, soft_timeout=PATIENCE, hard_timeout=2 * PATIENCE)
    for outcome in ("newest", ValueError("none")):
        last = Hanging(outcome)
        last.may_end.set()
        if isinstance(outcome, ValueError):
            with pytest.raises(ValueError, match="none"):
                refresh(style, loop, at_once, last)
        else:
            assert refresh(style, loop, at_once, last) == outcome
    assert at_once.get("k") == "newest"
    soft.remove("k")
    waits = Hanging("waited for")
    waits.may_end.set()
    assert refresh(style, loop, soft, waits) == "waited for"


def test_a_late_failure_is_logged_once(
    style: Style, loop: Loop, fake_clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The exception that no call gets is counted; the old value stays; the text has no more than its type."""
    cache, create = opened(style, soft_timeout=0), Hanging(ValueError("s3cret"))
    cache.put("k", "old")
    fake_clock.advance(61)
    before = events("creation_failed_late")
    with caplog.at_level(logging.WARNING, "beaker.cache"):
        assert get(style, loop, cache, create) == "old"
        create.may_end.set()
        wait_until(lambda: events("creation_failed_late") == before + 1)
        wait_until(lambda: "ValueError" in caplog.text)
    assert caplog.text.count("ValueError") == 1
    assert "s3cret" not in caplog.text
    entry = cache.namespace.read("k")
    assert entry is not None
    assert entry.value == "old"


def test_what_ends_in_time(style: Style, loop: Loop, fake_clock: FakeClock) -> None:
    """Results and exceptions are those of a call without timeouts."""
    cache = opened(style, soft_timeout=PATIENCE, hard_timeout=2 * PATIENCE)
    create = Hanging()
    create.may_end.set()
    assert get(style, loop, cache, create) == "new"
    fake_clock.advance(61)
    failing = Hanging(KeyError("down"))
    failing.may_end.set()
    with pytest.raises(KeyError, match="down"):
        get(style, loop, cache, failing)
    assert get(style, loop, cache, create) == "new"


def cache_of(clock: FakeClock, number: int, **options: Any) -> Cache:
    return Cache(f"timeouts {number}", expire=60, clock=clock, max_entries=530, **options)


def test_stale_if_error_covers_a_hard_timeout(fake_clock: FakeClock) -> None:
    """A timeout is a failure of the creation: within its grace the old value is returned."""
    cache, create = cache_of(fake_clock, 1, hard_timeout=SOON, stale_if_error=100, on_expired="wait"), Hanging()
    cache.put("k", "old")
    fake_clock.advance(61)
    assert cache.get("k", createfunc=create) == "old"
    fake_clock.advance(100)
    with pytest.raises(CreationTimeout):
        cache.get("k", createfunc=create)
    create.may_end.set()


def test_max_stale_and_starttime_limit_what_is_returned(fake_clock: FakeClock) -> None:
    """What is too old, or from before starttime, is as absent."""
    cache, create = cache_of(fake_clock, 2, soft_timeout=0, hard_timeout=SOON, max_stale=10), Hanging()
    cache.put("k", "old")
    fake_clock.advance(71)
    with pytest.raises(CreationTimeout):
        cache.get("k", createfunc=create)
    cache.put("j", "old")
    fake_clock.advance(61)
    with pytest.raises(CreationTimeout):
        cache.get("j", createfunc=create, starttime=fake_clock())
    create.may_end.set()


def test_hundreds_of_hung_creations(fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of threads is bounded; a call beyond it gets the old value, or the error, in its time."""
    monkeypatch.setattr(timeouts, "_MOST", 4)
    monkeypatch.setattr(timeouts, "_slots", timeouts._Slots())
    cache, create = cache_of(fake_clock, 3, soft_timeout=0, hard_timeout=0.001), Hanging()
    # A thread whose start another test aborted stands still in it for good.
    earlier = set(threading.enumerate())
    cache.put_many({f"old {n}": n for n in range(100)})
    fake_clock.advance(61)
    before = events("creation_threads_exhausted")
    for number in range(100):
        assert cache.get(f"old {number}", createfunc=create) == number
        with pytest.raises(CreationTimeout):
            cache.get(f"absent {number}", createfunc=create)
    assert sum(thread.name == "beaker-creation" for thread in set(threading.enumerate()) - earlier) <= 4
    assert events("creation_threads_exhausted") - before >= 190
    inline = cache_of(fake_clock, 4, soft_timeout=0)
    assert inline.get("k", createfunc=lambda: threading.current_thread()) is threading.current_thread()
    create.may_end.set()
    wait_until(lambda: all(thread.name != "beaker-creation" for thread in set(threading.enumerate()) - earlier))


def test_the_creation_runs_in_a_copy_of_the_context(fake_clock: FakeClock) -> None:
    """It knows the request's variables, in a daemon thread, which does not keep the interpreter."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("of the request")
    cache = cache_of(fake_clock, 5, hard_timeout=PATIENCE)

    def create() -> Any:
        value = variable.get()
        variable.set("of the creation")
        return value, threading.current_thread().daemon

    assert cache.get("k", createfunc=create) == ("of the request", True)
    assert variable.get() == "of the request"


def test_a_creation_that_waits_for_itself(fake_clock: FakeClock) -> None:
    """The error is that of a call without timeouts, through another creation too, in threads and in loops."""
    cache = cache_of(fake_clock, 6, hard_timeout=PATIENCE)

    def circle() -> Any:
        return cache.get("j", createfunc=lambda: cache.get("k", createfunc=circle))

    with pytest.raises(LockError, match="waits for itself"):
        cache.get("k", createfunc=circle)

    async def acircle() -> Any:
        return await cache.aget("k", createfunc=acircle)

    with pytest.raises(LockError, match="waits for itself"):
        asyncio.run(cache.aget("k", createfunc=acircle))
    assert cache.get("k", createfunc=lambda: "new") == "new"


def test_decorated_functions_and_counts(fake_clock: FakeClock) -> None:
    """Options of a region and of a decorator; a hit begins no thread; stale and failed calls are counted as ever."""
    cache_regions["timed"] = {"expire": 60, "soft_timeout": "0s", "clock": fake_clock, "max_entries": 531}
    create = Hanging()
    create.may_end.set()

    @cache_region("timed", hard_timeout=SOON)
    def f() -> Any:
        return create(), threading.current_thread().name

    before = f.stats()
    assert f() == f() == ("new", "beaker-creation")
    create.may_end.clear()
    fake_clock.advance(61)
    assert f() == ("new", "beaker-creation")
    f.invalidate()
    with pytest.raises(CreationTimeout):
        f()
    after = f.stats()
    assert (after.hits - before.hits, after.stale - before.stale) == (1, 1)
    create.may_end.set()
    del cache_regions["timed"]


@pytest.mark.parametrize("platform", [Platform.FUNCTIONS, Platform.CLOUD_RUN, Platform.APPENGINE])
def test_where_nothing_runs_after_the_response(
    fake_clock: FakeClock, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warning, once; then calls wait as without the options."""
    monkeypatch.setattr(timeouts, "_warned", set())
    options = {"soft_timeout": 0, "hard_timeout": SOON, "runtime": Runtime(platform=platform)}
    with pytest.warns(ConfigWarning, match="no creation goes on"):
        cache_of(fake_clock, 8, **options)
    cache = cache_of(fake_clock, 9, **options)
    thread = threading.current_thread()
    assert cache.get("k", createfunc=threading.current_thread) is thread


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_begins_anew(fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that hang in the parent take no place in the child."""
    monkeypatch.setattr(timeouts, "_MOST", 1)
    monkeypatch.setattr(timeouts, "_slots", timeouts._Slots())
    cache, create = cache_of(fake_clock, 10, hard_timeout=SOON), Hanging()
    with pytest.raises(CreationTimeout):
        cache.get("k", createfunc=create)
    child = os.fork()
    if not child:
        patient = cache_of(fake_clock, 10, hard_timeout=PATIENCE)
        os._exit(patient.get("k", createfunc=lambda: "child") != "child")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    create.may_end.set()


def test_the_exception_travels() -> None:
    """It is copied and pickled whole."""
    error = CreationTimeout(2.5)
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(again), again.seconds, again.code) == (str(error), 2.5, "cache.creation-timeout")
        assert "2.5 s" in str(again)
