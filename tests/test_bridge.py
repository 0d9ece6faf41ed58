"""From options to locks and identities."""

from __future__ import annotations

from typing import Any

import pytest

from beaker.caching.factory import freeze, lease_for, locks_for
from beaker.caching.namespace import NamespaceManager
from beaker.config.options import CacheOptions, describe
from beaker.exceptions import ConfigError, MissingCacheParameter
from beaker.locking.factories import FileLocks, NullLocks, ThreadLocks
from beaker.runtime import Platform, Runtime
from beaker.storage.memory import MemoryStore

LOCAL = Runtime()
CLOUD = Runtime(platform=Platform.CLOUD_RUN)


def _store(backend: str) -> MemoryStore:
    store = MemoryStore()
    store.backend = backend
    return store


@pytest.mark.parametrize(
    ("backend", "options", "expected"),
    [
        ("memory", {}, ThreadLocks),
        ("memory", {"lock_dir": "/tmp/locks"}, ThreadLocks),
        ("file", {"lock_dir": "/tmp/locks", "runtime": LOCAL}, FileLocks),
        ("file", {"lock_dir": "/tmp/locks", "runtime": CLOUD}, ThreadLocks),
        ("dbm", {"lock_dir": "/tmp/locks", "runtime": LOCAL}, FileLocks),
        ("redis", {}, ThreadLocks),
        ("redis", {"lock_dir": "/tmp/locks"}, ThreadLocks),
        ("redis", {"lock": "thread"}, ThreadLocks),
        ("redis", {"lock": "file", "lock_dir": "/tmp/locks"}, FileLocks),
        ("redis", {"lock": "none"}, NullLocks),
        ("memory", {"lock": "lease"}, ThreadLocks),
    ],
)
def test_creation_locks_by_option_and_capability(backend: str, options: dict[str, Any], expected: type) -> None:
    """lock = auto is a lease on shared stores, flock for local files that last, threads elsewhere. The locks of a lease
    are those among threads; it is itself in the key's record."""
    store = _store(backend)
    assert type(locks_for(store, options)) is expected
    leased = options.get("lock") == "lease" or (backend == "redis" and "lock" not in options)
    assert (lease_for(store, options) is not None) is leased


def test_a_lease_lasts_as_long_as_the_reference_says() -> None:
    """Without lease_ttl a lease has the option's default, and a creator that lives has it for lock_timeout."""
    lease = lease_for(_store("redis"), {"runtime": LOCAL})
    assert lease is not None
    assert lease.ttl == describe(CacheOptions)["lease_ttl"].default
    assert lease.ttl < NamespaceManager.lock_timeout == lease.limit
    assert lease.renew
    assert lease_for(_store("redis"), {"runtime": LOCAL, "lock_timeout": 5}) == (20.0, 20.0, False)
    serverless = lease_for(_store("redis"), {"runtime": CLOUD})
    assert serverless is not None
    assert not serverless.renew
    with pytest.raises(ConfigError, match="seconds over 0"):
        lease_for(_store("redis"), {"lease_ttl": -1})


def test_locks_that_cannot_be() -> None:
    """A lease on a store without versions, and file locks without a directory, are errors by name."""

    class Four:
        backend = "four"
        max_value: int | None = None
        trusted = False

        def get(self, namespace: str, key: str) -> bytes | None: ...

        def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None: ...

        def delete(self, namespace: str, key: str) -> None: ...

        def clear(self, namespace: str) -> None: ...

    assert type(locks_for(Four(), {})) is ThreadLocks
    with pytest.raises(ConfigError, match="lock"):
        locks_for(Four(), {"lock": "lease"})
    with pytest.raises(MissingCacheParameter, match="lock_dir"):
        locks_for(Four(), {"lock": "file"})


def test_freeze() -> None:
    """Equal options have equal identities, whatever they are made of."""
    assert freeze({"a": [1, {"b": 2}]}) == freeze({"a": (1, {"b": 2})})
    assert freeze({"a": 1}) != freeze({"a": 2})
    unhashable = {1, 2}
    assert freeze(unhashable) == freeze(unhashable)
    assert freeze({1, 2}) != freeze(unhashable)
