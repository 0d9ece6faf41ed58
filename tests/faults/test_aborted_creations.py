"""Exceptions from outside at any line of a cache's call: later calls neither stand still nor are slower for good."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import CacheManager
from beaker.caching.entry import Entry
from beaker.caching.factory import codec_for
from beaker.caching.stored_marks import Lease, StoredMarks
from beaker.locking.flag import Flag
from beaker.storage.memory import MemoryStore
from beaker.testing import FakeClock
from tests.faults.aborting import Abort, each_line

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Renaming:
    """``threading``, whose threads are named after this module."""

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)

    def Thread(self, **options: Any) -> threading.Thread:
        return threading.Thread(**{**options, "name": __name__})


def ends(work: Callable[[], object]) -> bool:
    """Whether ``work()`` ends, in a thread of its own, in time."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as err:
            failures.append(err)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    if failures:
        raise failures[0]
    return not thread.is_alive()


def test_an_aborted_flag_can_be_given() -> None:
    """Whichever line of giving a flag, or of waiting for it, is aborted: it can be given, and waited for, later."""

    def give(use: Callable[[Flag], object]) -> None:
        flags: list[Flag] = []

        def once() -> None:
            flags.append(Flag())
            use(flags[-1])

        for _ in each_line(once, Abort, 1):
            if flags:
                flags[-1].set()
                assert flags[-1].wait(10)

    assert ends(lambda: give(Flag.set))
    assert ends(lambda: give(lambda flag: flag.wait(0.0)))


def test_an_aborted_creation_with_a_lease_ends(fake_clock: FakeClock) -> None:
    """Whichever line of storing is aborted, giving the creation up does not stand still, and the next one stores."""
    store = MemoryStore(clock=fake_clock)
    codec, lease = codec_for(store, {}), Lease(ttl=15.0, limit=30.0, renew=True)
    marks = StoredMarks(store, codec, "n", clock=fake_clock, keep=lambda entry: 60.0, lease=lease)

    def create() -> None:
        creation = marks.begin("k", lambda entry: False, absent=False, mode="seize").creation
        assert creation is not None
        try:
            creation.store(Entry(1, fake_clock(), 60.0))
        except BaseException:
            creation.abandon()
            raise

    def attack() -> None:
        for _ in each_line(create, Abort, 1):
            create()

    assert ends(attack)


def test_aborted_calls_take_no_thread_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever line of a call with a timeout is aborted: later ones have a thread, and none stands still."""
    monkeypatch.setattr("beaker.caching.timeouts._MOST", 3)
    # Where start() is aborted, the thread stands still in it; other tests count those of the usual name.
    monkeypatch.setattr("beaker.caching.timeouts.threading", Renaming())
    cache = CacheManager(type="memory", hard_timeout=20.0).get_cache("aborted with a timeout")

    numbers = itertools.count()

    def attack() -> None:
        for _ in each_line(lambda: cache.get(f"k{next(numbers)}", createfunc=lambda: 1), Abort, 1):
            assert cache.get(f"k{next(numbers)}", createfunc=lambda: 2) == 2

    assert ends(attack)


def test_an_aborted_change_leaves_the_near_tier_on(tmp_path: Path) -> None:
    """Whichever line of a put is aborted: once a later one is done, copies are kept and served again."""
    cache = CacheManager(type="file", data_dir=str(tmp_path), near=60).get_cache("aborted beside copies")

    def attack() -> None:
        for _ in each_line(lambda: cache.put("k", 1), Abort, 5):
            cache.put("k", 2)
            cache.get("k")
            cache.get("k")
            before = cache.stats().near_hits
            assert cache.get("k") == 2
            assert cache.stats().near_hits == before + 1

    assert ends(attack)
