"""A call that waits for a store is ended from outside, as greenlets are by ``gevent.Timeout``: nothing stays held.

Greenlets end nowhere else: at each call of a store, before the store was told or when its response is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import Cache
from beaker.counters.events import events
from beaker.storage.lease import LeaseLocks
from beaker.storage.memory import MemoryStore
from tests.caching.test_coroutines import options_for

_CALLS = ("read", "insert", "replace", "remove")


class _Killed(BaseException):
    pass


class _Kill:
    """At the call of a store with that number, before or after it."""

    def __init__(self, store: Any, number: int, when: str) -> None:
        self.made = 0
        self._store = store
        for name in _CALLS:
            setattr(store, name, self._guarded(getattr(store, name), number, when))

    def end(self) -> None:
        """The store is as before."""
        for name in _CALLS:
            delattr(self._store, name)

    def _guarded(self, call: Callable[..., Any], number: int, when: str) -> Callable[..., Any]:
        def guarded(*args: Any, **options: Any) -> Any:
            self.made += 1
            mine = self.made == number
            if mine and when == "before":
                raise _Killed
            result = call(*args, **options)
            if mine:
                raise _Killed
            return result

        return guarded


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("renew", [False, True])
def test_leases(renew: bool, when: str) -> None:
    """One that is killed as it takes a lease, or gives it back, leaves it free."""
    for number in range(1, 10):
        store: Any = MemoryStore()
        lease = LeaseLocks(store, ttl=30, renew=renew).creation("n", "k")
        other = LeaseLocks(store, ttl=30, renew=False).creation("n", "k")
        kill = _Kill(store, number, when)
        try:
            assert lease.acquire(False) is True
            lease.release()
        except _Killed:
            pass
        else:
            break
        assert (lease.held, other.acquire(False)) == (False, True), number
    assert kill.made + 1 == number > 2


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fails", [False, True], ids=["creates", "fails"])
def test_creations(fails: bool, when: str, tmp_path: Path) -> None:
    """One that is killed leaves no mark that the next call, in whatever process, would wait for."""

    def create() -> str:
        if fails:
            raise KeyError
        return "value"

    for number in range(1, 20):
        options = options_for("ext:database", tmp_path)
        cache, other = Cache("killed", **options), Cache("killed", **options, lock_timeout=0)
        kill = _Kill(cache.namespace.store, number, when)  # type: ignore[attr-defined]
        waits = events().get("creation_wait_timeout", 0)
        ended = False
        try:
            with suppress(KeyError):
                cache.get(str(number), createfunc=create)
        except _Killed:
            ended = True
        kill.end()
        assert other.get(str(number), createfunc=lambda: "next") in ("value", "next")
        assert events().get("creation_wait_timeout", 0) == waits, number
        for used in (cache, other):
            used.namespace.store.close()  # type: ignore[attr-defined]
        if not ended:
            break
    assert kill.made + 1 == number > 2
