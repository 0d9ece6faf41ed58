"""At the system's limit of threads: what needs one of its own goes on without it, and nothing is done twice."""

from __future__ import annotations

import asyncio
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

from beaker._typing import Receive, Send
from beaker.asgi import AsyncSessionObject
from beaker.cache import Cache
from beaker.exceptions import LockError
from beaker.locking import background
from beaker.locking.creation import CreationLock
from beaker.loops.hops import Hops, in_thread
from beaker.loops.turns import LoopLock
from beaker.storage.lease import LeaseLocks
from beaker.storage.memory import MemoryStore
from beaker.testing.clock import FakeClock
from tests.asgi.scripts import alone, cookie_of, middleware, talk
from tests.caching.test_coroutines import options_for
from tests.session.places import options_of


def _refuse(thread: threading.Thread) -> NoReturn:
    raise RuntimeError("can't start new thread")


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread can be started."""
    monkeypatch.setattr(threading.Thread, "start", _refuse)


@pytest.fixture(params=["anyio", "no anyio"])
def loaded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of worker threads."""
    if request.param == "no anyio":
        monkeypatch.delitem(sys.modules, "anyio")


@pytest.mark.usefixtures("limit", "loaded")
@pytest.mark.parametrize("kind", ["file", "ext:database"])
def test_caches_in_a_loop(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A coroutine's value is created, stored, found and removed; the log says that the loop waited."""
    cache = Cache("limit", **options_for(kind, tmp_path))

    async def calls() -> list[Any]:
        found = [await cache.aget("k", createfunc=partial(int, number)) for number in (1, 2)]
        await cache.aremove("k")
        return [*found, await cache.aget("k", createfunc=lambda: 3)]

    assert asyncio.run(calls()) == [1, 1, 3]
    assert "no thread" in caplog.text
    if kind == "ext:database":
        cache.namespace.store.close()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("limits", [{"hard_timeout": 60}, {"soft_timeout": 0}, {"soft_timeout": 0, "hard_timeout": 60}])
def test_timeouts(limits: dict[str, float], caplog: pytest.LogCaptureFixture) -> None:
    """A call without an old value creates in its own thread, and the log says so; another one returns the old one."""
    clock = FakeClock()
    cache = Cache(f"limit {limits}", type="memory", expire=10, clock=clock, **limits)
    assert cache.get("k", createfunc=threading.current_thread) is threading.current_thread()
    assert "no thread for its creation" in caplog.text
    clock.advance(11)
    assert cache.get("k", createfunc=lambda: "new") == (
        "new" if "soft_timeout" not in limits else threading.current_thread()
    )
    cache.remove_value("k")
    assert cache.get("k", createfunc=lambda: "next") == "next"


@pytest.mark.usefixtures("limit", "loaded")
def test_sessions_in_a_loop(tmp_path: Path) -> None:
    """A session is locked, saved, and read by the next request."""
    counted: list[int] = []

    async def count(session: AsyncSessionObject, receive: Receive, send: Send) -> None:
        await session.alock()
        counted.append(session.setdefault("n", 0))
        session["n"] += 1
        session.save()
        await alone(session, receive, send)

    async def visits() -> None:
        app = middleware(count, **options_of("file", tmp_path))
        cookie = cookie_of(await talk(app))
        await talk(app, cookie=cookie)
        await talk(app, cookie=cookie)

    asyncio.run(visits())
    assert counted == [0, 1, 2]


def test_work_is_done_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an executor kept when its thread could not be started is not done again by the next one."""
    monkeypatch.delitem(sys.modules, "anyio", raising=False)
    done: list[str] = []

    async def calls() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", _refuse)
            await in_thread(partial(done.append, "first"))
        await in_thread(partial(done.append, "second"))
        await in_thread(partial(done.append, "third"))

    asyncio.run(calls())
    assert done == ["first", "second", "third"]


def test_errors_of_the_work_are_its_own() -> None:
    """A RuntimeError of what was called is raised, and the call not made again."""
    calls: list[str] = []

    def work() -> None:
        calls.append("x")
        raise RuntimeError("can't start new thread")

    with pytest.raises(RuntimeError, match="can't start"):
        asyncio.run(in_thread(work))
    assert calls == ["x"]


def _interrupted(thread: threading.Thread) -> NoReturn:
    try:
        raise KeyboardInterrupt
    finally:
        # As threading.Condition does.
        raise RuntimeError("release unlocked lock")


@pytest.mark.usefixtures("loaded")
def test_an_exception_from_outside_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a signal's handler raised while a thread was started is raised, whatever it has become, in any handler."""
    calls: list[str] = []
    monkeypatch.setattr(threading.Thread, "start", _interrupted)
    with pytest.raises(RuntimeError, match="unlocked"):
        asyncio.run(in_thread(partial(calls.append, "x")))
    with pytest.raises(RuntimeError, match="unlocked"):
        background.begin("beaker-test", partial(calls.append, "x"))
    monkeypatch.setattr(threading.Thread, "start", _refuse)
    try:
        raise ValueError
    except ValueError:
        assert background.begin("beaker-test", partial(calls.append, "x")) is False
    assert calls == []


@pytest.mark.usefixtures("limit")
def test_a_lease_that_is_not_renewed(caplog: pytest.LogCaptureFixture) -> None:
    """It is taken all the same, for its ttl, and given back."""
    locks = LeaseLocks(MemoryStore(), ttl=10, renew=True)
    lease, other = locks.creation("n", "k"), locks.creation("n", "k")
    assert lease.acquire() is True
    assert "no thread for beaker-lease" in caplog.text
    assert other.acquire(False) is False
    lease.release()
    assert other.acquire(False) is True


class _OfOneThread:
    def acquire(self, wait: bool = True) -> bool:
        return True

    def release(self) -> None: ...


@pytest.mark.usefixtures("limit")
def test_a_lock_that_needs_a_thread() -> None:
    """A third party's lock cannot be held for a coroutine: LockError says so, and nothing stays locked."""
    front = CreationLock()

    async def take() -> None:
        await LoopLock(cast(Any, _OfOneThread()), lambda: front, Hops(True)).attempt()

    with pytest.raises(LockError) as raised:
        asyncio.run(take())
    assert raised.value.code == "lock.no-thread"
    assert front.acquire(False) is True
