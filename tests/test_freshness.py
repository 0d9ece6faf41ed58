"""What the policies of freshness do: at expiry, on errors, early, with jitter."""

from __future__ import annotations

from typing import Any

import pytest

from beaker import counters
from beaker.caching.dogpile import Freshness
from beaker.exceptions import ConfigError, CreationAbortedError
from beaker.testing.lock import PATIENCE, wait_until
from tests.dogpiles import LOCKS, WAYS, Cache, Call, Gate, waiting


@pytest.fixture(params=WAYS)
def cache(request: pytest.FixtureRequest) -> Cache:
    """A cache with each kind of creation lock, called in threads and in event loops."""
    kind, loops = request.param
    return Cache(LOCKS[kind](), loops=loops)


def test_wait_policy(cache: Cache) -> None:
    """on_expired=wait: no call sees the old value; those that come meanwhile wait for the new one."""
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
    wait_until(lambda: cache.creations == 2)
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
    assert counters.snapshot().events["stale_served"] == 1
    assert [record.levelname for record in caplog.records if record.name == "beaker.cache"] == ["WARNING"]
    assert "old" not in caplog.text
    # While another call creates, the old value is served whatever happens to that one.
    wait_until(lambda: cache.is_free)
    cache.clock.advance(0.1)
    with pytest.raises(ZeroDivisionError):
        cache.get(policy=policy)
    assert cache.is_free


def test_stale_if_error_for_waiters() -> None:
    """Calls that waited for a creator that raises return the old value too, where the policy allows it."""
    policy = Freshness(on_expired="wait", stale_if_error=60.0)
    cache = Cache()
    cache.put("old", age=11.0)
    gate = Gate(cache, ValueError("down"))
    calls = [Call(cache, policy=policy)]
    assert gate.running.wait(PATIENCE)
    calls += [Call(cache, policy=policy) for _ in range(3)]
    lock: Any = cache.lock()
    wait_until(lambda: waiting(lock) == 3)
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


def test_early_refresh() -> None:
    """A fresh value is refreshed early by chance: never when cheap or young, always when expensive and near expiry."""
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
    """Early refresh does not wait for a lock, and its failure leaves the fresh value."""
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
    """A call that gets the lock after another refreshed returns the newer value."""
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
