"""A cache's key introduced in a running fleet: instances of two stages side by side, and each value is created once."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import CacheManager
from beaker.caching.cache import Cache
from beaker.caching.entry import _COST, CACHE_RECORD
from beaker.crypto.envelope import Envelope
from beaker.crypto.keyring import new_key
from beaker.exceptions import ConfigError, UnserializableValue
from beaker.testing.clock import FakeClock

SECRET, ENCRYPTING = new_key(), new_key()
OLD: dict[str, dict[str, Any]] = {"secret": {}, "encrypt_key": {}, "encrypt_key beside secret": {"secret": SECRET}}
NEW: dict[str, dict[str, Any]] = {
    "secret": {"secret": SECRET},
    "encrypt_key": {"encrypt_key": ENCRYPTING},
    "encrypt_key beside secret": {"secret": SECRET, "encrypt_key": ENCRYPTING},
}
ORDER = [("before", "prepare"), ("prepare", "prepare"), ("prepare", "accept"), ("accept", "accept"), ("accept", "done"),
         ("done", "done")]  # fmt: skip
each_key = pytest.mark.parametrize("key", NEW)


def caches(at: Path, key: str, clock: FakeClock) -> dict[str, Cache]:
    common: dict[str, Any] = {"type": "ext:database", "url": f"sqlite:///{at}/cache.db", "clock": clock}
    stages = {
        "before": OLD[key],
        "prepare": {**NEW[key], "key_rollout": "prepare"},
        "accept": {**NEW[key], "key_rollout": "accept"},
        "done": NEW[key],
    }
    return {stage: CacheManager(**common, **own).get_cache("shared") for stage, own in stages.items()}


@each_key
def test_each_value_is_created_once(tmp_path: Path, key: str, fake_clock: FakeClock) -> None:
    """At each stage whichever of two instances creates a value, both have it, and those of the stage before."""
    instances = caches(tmp_path, key, fake_clock)
    created: list[str] = []

    def create(name: str) -> Any:
        created.append(name)
        return {"of": name}

    known: list[str] = []
    for n, pair in enumerate(ORDER):
        for creator in pair:
            known.append(f"{n}-{creator}-{len(known)}")
            instances[creator].get(known[-1], createfunc=lambda: create(known[-1]))
        # A value written before, and not read since, is not written again by reading.
        for stage in pair:
            for name in known[-4:]:
                assert instances[stage].get(name, createfunc=lambda name=name: create(name)) == {"of": name}
    assert created == known


@each_key
def test_when_it_is_done_nothing_older_is_read(tmp_path: Path, key: str, fake_clock: FakeClock) -> None:
    """Without key_rollout a value of the older form is a miss."""
    instances = caches(tmp_path, key, fake_clock)
    instances["before"].put("a", 1)
    assert "a" in instances["accept"]
    assert "a" not in instances["done"]
    instances["accept"].put("a", 2)
    found = {stage: cache["a"] for stage, cache in instances.items() if "a" in cache}
    assert found == {"prepare": 2, "accept": 2, "done": 2}


class Planted:
    done: list[int] = []  # noqa: RUF012

    def __reduce__(self) -> Any:
        return Planted.done.append, (1,)


@pytest.mark.parametrize("key", ["secret", "encrypt_key"])
def test_a_pickle_without_a_signature_is_never_loaded(tmp_path: Path, key: str, fake_clock: FakeClock) -> None:
    """Whoever can write the store puts a pickle there as it was before the key: it is a miss at every stage."""
    instances = caches(tmp_path, key, fake_clock)
    store: Any = instances["before"].namespace.store  # type: ignore[attr-defined]
    instances["before"].put("a", 1)
    payload = _COST.pack(0.0) + pickle.dumps(Planted())
    record = Envelope(backend=store.backend).seal(
        "shared", "a", payload, stored=fake_clock(), expires=None, kind=CACHE_RECORD
    )
    names = instances["before"].namespace
    store.set(names.namespace, next(iter(names.keys())), record, ttl=None)
    for cache in instances.values():
        assert "a" not in cache
    assert Planted.done == []


def test_what_needs_the_key_waits_for_it(tmp_path: Path, fake_clock: FakeClock) -> None:
    """While it is prepared, objects are refused as before: other instances could not read them; then all stages can."""
    instances = caches(tmp_path, "secret", fake_clock)
    for stage in ("before", "prepare"):
        with pytest.raises(UnserializableValue):
            instances[stage].put("path", Path("/a"))
    instances["accept"].put("path", Path("/a"))
    assert [instances[stage]["path"] for stage in ("prepare", "accept", "done")] == [Path("/a")] * 3


def test_a_rollout_of_nothing(tmp_path: Path) -> None:
    """key_rollout without a key, or with another word, is an error."""
    for given in ({"key_rollout": "accept"}, {"key_rollout": "later", "secret": SECRET}):
        with pytest.raises(ConfigError, match=r"cache\.key_rollout"):
            CacheManager(type="ext:database", url=f"sqlite:///{tmp_path}/c.db", **given)
