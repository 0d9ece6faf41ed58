"""One call's turn step by step: in which mode it begins, what it waits for, what it counts, what it shares."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from beaker import counters
from beaker.caching.dogpile import Freshness
from beaker.caching.entry import Entry
from beaker.caching.lifetime import Unkept
from beaker.caching.negative import Failed
from beaker.counters.tallies import creation_listeners
from beaker.exceptions import CreationTimeout
from beaker.locking.creation import Passed
from tests.caching.scene import TAKEN, Place, Scene

RECOMPUTE, WAIT = Freshness(on_expired="recompute"), Freshness(on_expired="wait")


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture(autouse=True)
def _apart() -> Iterator[None]:
    counters.reset()
    yield
    counters.reset()


@pytest.fixture
def ended() -> Iterator[list[tuple[float, bool]]]:
    """Of each creation its seconds, and whether it returned."""
    seen: list[tuple[float, bool]] = []

    def listen(region: str, namespace: str, seconds: float, good: bool) -> None:
        seen.append((seconds, good))

    creation_listeners.append(listen)
    yield seen
    creation_listeners.remove(listen)


def events(name: str) -> int:
    return counters.snapshot().events.get(name, 0)


# The lock of this process


def test_a_miss(scene: Scene) -> None:
    """It takes the lock, begins with what it knows, that nothing was there, and waits for nothing."""
    assert scene.get() == "new"
    assert scene.noted == ["attempt", 0.0, "hold, absent", "release"]
    assert scene.tally.waits == 0


def test_an_expired_value(scene: Scene) -> None:
    """Where something was there the beginning reads."""
    assert scene.get(found=scene.entry()) == "new"
    assert scene.noted == ["attempt", 0.0, "hold", "release"]


def test_a_wait_for_the_lock(scene: Scene) -> None:
    """It is counted once; something may be there afterwards."""
    scene.way.free = False
    assert scene.get() == "new"
    assert scene.noted == ["attempt", "wait 30", 0.0, "hold", "release"]
    assert scene.tally.waits == 1


@pytest.mark.parametrize(("limit", "timeout"), [(None, -1.0), (0.5, 0.5), (-3.0, 0.0), (1e300, threading.TIMEOUT_MAX)])
def test_how_long_is_waited(scene: Scene, limit: float | None, timeout: float) -> None:
    """lock_timeout within what can be waited for; -1 is no limit."""
    scene.way.free = False
    waited: list[float] = []

    def waiting(call: Any) -> bool:
        waited.append(call.timeout)
        return True

    scene.way.waiting = waiting
    scene.get(lock_timeout=limit)
    assert waited == [timeout]


def test_time_that_runs_out(scene: Scene) -> None:
    """The call creates beside the holder, counted, and keeps a failure to itself."""
    scene.way.free = False
    scene.way.waiting = lambda call: False
    assert scene.get() == "new"
    assert scene.noted == ["attempt", "wait 30", 0.0, "join"]
    assert events("creation_wait_timeout") == 1
    assert scene.failing() == []
    assert events("creation_wait_timeout") == 2


def test_time_that_runs_out_for_a_value_that_is_there(scene: Scene) -> None:
    """The last look found it: that is no timeout."""
    scene.way.free = False
    scene.way.waiting = lambda call: False
    scene.place.beginnings = [scene.entry("theirs", 0.0)]
    assert scene.get() == "theirs"
    assert events("creation_wait_timeout") == 0


def test_time_that_runs_out_for_a_call_that_was_left(scene: Scene) -> None:
    """Where nothing waits for the call it creates nothing."""
    scene.way.free = False
    scene.way.waiting = lambda call: False
    with pytest.raises(CreationTimeout) as caught:
        scene.get(has_left=lambda: True, lock_timeout=2.0)
    assert caught.value.seconds == 2.0
    assert scene.get(has_left=lambda: False) == "new"


def test_a_failure_while_it_waits(scene: Scene) -> None:
    """The holder's is the call's; one for another value is not."""
    scene.way.free = False
    error = ValueError("holder's")

    def waiting(call: Any) -> bool:
        scene.way.lock = SimpleNamespace(failures=1, error=error, failed=failed)
        settled.append(call.is_settled())
        return not settled[-1]

    scene.way.waiting = waiting
    settled: list[bool] = []
    failed: Any = Place.origin
    with pytest.raises(ValueError, match="holder's"):
        scene.get()
    scene.way.lock = SimpleNamespace(failures=0)
    failed = "another"
    assert scene.get() == "new"
    assert settled == [True, False]


def test_a_value_while_it_waits(scene: Scene) -> None:
    """What is read between two tries ends the waiting."""
    scene.way.free = False
    scene.place.stored = scene.entry("theirs", 0.0)
    scene.way.waiting = lambda call: not call.is_settled()
    assert scene.get() == "theirs"


# What the holder passes on


@pytest.mark.parametrize(
    ("number", "origin", "age", "taken"),
    [
        (3, Place.origin, 0.0, False),
        (4, Place.origin, 0.0, True),
        (2, Place.origin, 0.0, False),
        (4, "another", 0.0, False),
        (4, Place.origin, 11.0, False),
    ],
    ids=["as old as the call", "newer", "older", "another's", "expired"],
)
def test_what_is_passed_on(scene: Scene, number: int, origin: Any, age: float, taken: bool) -> None:
    """A value that began to be stored after the call did, of the same place and fresh: a copy of it is the result."""
    scene.way.free = False
    scene.way.front = SimpleNamespace(passing=3, passed=None)
    entry = scene.entry("original", age)
    seen: list[bool] = []

    def waiting(call: Any) -> bool:
        seen.append(call.takes(Passed(number, origin, entry, lambda: scene.entry("copy", age))))
        return not seen[0]

    scene.way.waiting = waiting
    assert scene.get() == ("copy" if taken else "new")
    assert seen == [taken]


@pytest.mark.parametrize(("number", "taken"), [(0, False), (1, True)])
def test_what_is_passed_on_where_nothing_was(scene: Scene, number: int, taken: bool) -> None:
    """Values are numbered from 1."""
    scene.way.free = False
    entry, seen = scene.entry(age=0.0), []

    def waiting(call: Any) -> bool:
        seen.append(call.takes(Passed(number, Place.origin, entry, scene.entry)))
        return True

    scene.way.waiting = waiting
    scene.get()
    assert seen == [taken]


@pytest.mark.parametrize("kind", [Unkept, Entry])
def test_a_value_that_is_not_kept(scene: Scene, kind: type[Entry]) -> None:
    """A call that waited takes it from the holder, as no read finds it; what is kept is read."""
    scene.way.free = False
    entry = scene.entry("theirs", 0.0, kind=kind)
    scene.way.front = SimpleNamespace(passing=3, passed=Passed(4, Place.origin, entry, lambda: entry))
    assert scene.get() == ("theirs" if kind is Unkept else "new")
    scene.way.free = True
    assert scene.get() == "new"


# Another process


def test_a_key_that_is_taken_elsewhere(scene: Scene) -> None:
    """The call waits for its value, counted once, also after it waited for the lock."""
    scene.place.beginnings = [TAKEN, scene.entry("theirs", 0.0)]
    assert scene.get() == "theirs"
    assert scene.noted == ["attempt", 0.0, "hold, absent", 30.0, "hold", "release"]
    assert scene.tally.waits == 1
    scene.way.free = False
    scene.place.beginnings = [TAKEN, scene.entry("theirs", 0.0)]
    assert scene.get() == "theirs"
    assert scene.tally.waits == 2


def test_a_failure_after_the_wait_for_it(scene: Scene) -> None:
    """The call holds the lock of this process: those that wait for it share its failure."""
    scene.place.beginnings = [TAKEN]
    assert len(scene.failing()) == 1
    assert events("creation_wait_timeout") == 0


def test_time_that_runs_out_elsewhere(scene: Scene) -> None:
    """The call creates beside it, counted; it holds the lock of this process, whose waiters share its failure."""
    scene.place.beginnings = [TAKEN, TAKEN]
    assert scene.get() == "new"
    assert scene.noted[-4:] == ["hold", 0.0, "join", "release"]
    assert events("creation_wait_timeout") == 1
    scene.place.beginnings = [TAKEN, TAKEN]
    assert len(scene.failing()) == 1


def test_time_that_runs_out_elsewhere_for_a_call_that_was_left(scene: Scene) -> None:
    """Where nothing waits for the call it creates nothing."""
    scene.place.beginnings = [TAKEN, TAKEN]
    with pytest.raises(CreationTimeout):
        scene.get(has_left=lambda: True)
    assert events("creation_wait_timeout") == 0


def test_the_old_value_meanwhile(scene: Scene) -> None:
    """It is returned meanwhile, counted as such; where it is overdue the call creates in place of the other."""
    scene.place.old = scene.entry()
    scene.place.beginnings = [TAKEN]
    assert scene.get() == "old"
    assert (scene.tally.stale, scene.tally.waits) == (1, 0)
    scene.place.beginnings = [TAKEN]
    scene.place.overdue = True
    assert scene.get() == "new"
    assert scene.noted[-3:] == [0.0, "seize", "release"]


def test_an_old_value_that_is_hidden(scene: Scene) -> None:
    """What is older than starttime is not there: the call waits; what is not older is returned meanwhile."""
    scene.place.old = old = scene.entry()
    scene.place.beginnings = [TAKEN]
    assert scene.get(starttime=old.stored) == "old"
    scene.noted.clear()
    scene.place.beginnings = [TAKEN]
    assert scene.get(starttime=scene.clock()) == "new"
    assert scene.noted == ["attempt", 0.0, "hold, absent", 30.0, "hold", "release"]


@pytest.mark.parametrize(("policy", "old", "waits"), [(RECOMPUTE, True, 0), (RECOMPUTE, False, 1), (WAIT, True, 1)])
def test_policies_while_it_is_taken_elsewhere(scene: Scene, policy: Freshness, old: bool, waits: int) -> None:
    """``recompute`` creates at once, beside it, where there is an old value; else the call waits."""
    scene.place.old = scene.entry() if old else None
    scene.place.beginnings = [TAKEN]
    assert scene.get(policy=policy) == "new"
    assert scene.tally.waits == waits
    assert scene.noted[-2] == ("hold" if waits else "join")


def test_recompute(scene: Scene) -> None:
    """An old value is created anew by each call at once, without the lock; a failure is its own."""
    assert scene.get(found=scene.entry(), policy=RECOMPUTE) == "new"
    assert scene.noted == [0.0, "join"]
    assert scene.failing(found=scene.entry(), policy=RECOMPUTE) == []


# What a creation costs, and how it is counted


@pytest.mark.parametrize(("times", "cost"), [([100.0, 103.5], 3.5), ([100.0], 0.0), ([100.0, 90.0], 0.0)])
def test_what_a_creation_took(scene: Scene, ended: list[Any], times: list[float], cost: float) -> None:
    """Its seconds are stored with it and counted, never negative, whether it returns, fails, or its failure is kept."""
    scene.times = times
    assert scene.get() == "new"
    assert scene.place.costs == [cost]
    assert (scene.tally.creations, scene.tally.errors) == (1, 0)
    scene.failing()
    assert (scene.tally.creations, scene.tally.errors) == (1, 1)
    failed: Any = Failed(ValueError("kept"), None)  # type: ignore[arg-type]
    assert scene.get(lambda: failed) is failed
    assert (scene.tally.creations, scene.tally.errors) == (1, 2)
    assert ended == [(cost, True), (cost, False), (cost, False)]


def test_a_value_that_cannot_be_stored(scene: Scene, ended: list[Any]) -> None:
    """An error of the store is one more, which took no time of the creation."""
    scene.place.is_full = True
    with pytest.raises(OSError, match="disk"):
        scene.get()
    assert (scene.tally.creations, scene.tally.errors) == (1, 1)
    assert ended == [(0.0, True)]


# Early refresh

EARLY: dict[str, Any] = {"policy": Freshness(early=100.0), "rng": lambda: 0.5}


def test_an_early_refresh_that_fails(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted and logged, and the fresh value returned, which is no stale one."""
    scene.place.old = entry = scene.entry("fresh", 5.0, cost=1.0)

    def create() -> Any:
        raise ValueError("s3cret")

    assert scene.get(create, found=entry, **EARLY) == "fresh"
    assert events("early_refresh_failed") == 1
    assert "ValueError" in caplog.text
    assert "s3cret" not in caplog.text
    assert scene.tally.stale == 0


def test_an_early_refresh_beside_another(scene: Scene) -> None:
    """The fresh value is returned, which is no stale one; an expired one is."""
    scene.way.free = False
    assert scene.get(found=scene.entry("fresh", 5.0, cost=1.0), **EARLY) == "fresh"
    assert scene.tally.stale == 0
    assert scene.get(found=scene.entry()) == "old"
    assert scene.tally.stale == 1
