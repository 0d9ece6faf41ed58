"""Threads of one process that save one session: they queue, and none is held up for good."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from beaker.exceptions import StoreUnavailable, WriteConflict
from beaker.locking.turn import Turn, Turns
from beaker.session import contention
from beaker.session.proxy import SessionObject
from beaker.session.snapshot import Snapshot
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import SessionHarness, Tab
from tests.session.faults import Interruptible, interrupt

put = SessionHarness.put
Open = Callable[..., Tab]


class Scene:
    """A saved session, its record's store, and the turn of it, which this thread has taken."""

    def __init__(self, tab: Tab) -> None:
        tab.do(put(n=0))
        self.tab = tab
        self.records = tab.middleware.context.records
        self.store: Interruptible = interrupt(tab.middleware.context)
        self.operations: list[str] = []
        self.store.before = lambda name, number: self.operations.append(name)
        self.key = tab.do(lambda s: s._session()._snapshot.key)
        self.id = tab.do(lambda s: s._session()._snapshot.id)
        self.turn: Turn = self.records.turns.of(self.key)
        self.me = object()
        assert self.turn.take(self.me)

    def write(self, **values: Any) -> Snapshot:
        """Change the record beside all requests; returns what was written, its version included."""
        before, self.store.before = self.store.before, lambda name, number: None
        found = self.records.load(self.id)
        assert isinstance(found, Snapshot)
        found.values = {**found.values, **self.tab.middleware.context.values.pack(values.items())}
        assert self.records.replace(found, found.version)
        self.store.before = before
        return found

    def save_elsewhere(self) -> threading.Thread:
        """A request of another thread that has loaded the session, changed it, and waits for its turn."""
        self.operations.clear()
        thread = threading.Thread(target=self.tab.copy().do, args=(put(n=1),))
        thread.start()
        while not self.turn._waiting:
            time.sleep(0.001)
        return thread


@pytest.fixture
def scene(open_tab: Open) -> Scene:
    return Scene(open_tab("memory", timeout=600))


def test_a_save_does_not_try_what_another_thread_has_made_old(scene: Scene) -> None:
    """Behind a thread that wrote meanwhile, a save reads the record and writes once; a lost try would be a third."""
    thread = scene.save_elsewhere()
    assert scene.operations == ["read"]
    written = scene.write(m=2)
    written.version = None
    scene.turn.note = written
    scene.turn.free(scene.me)
    thread.join()
    assert scene.operations == ["read", "read", "replace"]
    assert scene.tab.do(lambda s: (s["n"], s["m"])) == (1, 2)
    assert scene.key not in scene.records.turns


def test_a_save_goes_on_with_what_another_thread_has_written(scene: Scene) -> None:
    """Where the store said which version that thread wrote, the record is not read again; both changes are in it."""
    thread = scene.save_elsewhere()
    scene.turn.note = scene.write(m=2)
    scene.turn.free(scene.me)
    thread.join()
    assert scene.operations == ["read", "replace"]
    assert scene.tab.do(lambda s: (s["n"], s["m"])) == (1, 2)


@pytest.mark.parametrize("then", ["changed", "ended", "over"])
def test_what_another_thread_has_written_may_be_old(scene: Scene, clock: FakeClock, then: str) -> None:
    """Another process changes or ends the session after that thread wrote, or its time is over: nothing is lost,
    and nothing comes back."""
    thread = scene.save_elsewhere()
    written = scene.turn.note = scene.write(m=2)
    if then == "changed":
        scene.write(m=3)
    elif then == "ended":
        scene.records.kill(written.id)
    else:
        clock.advance(601)
    scene.operations.clear()
    scene.turn.free(scene.me)
    thread.join()
    assert scene.operations == {
        "changed": ["replace", "read", "replace"], "ended": ["replace", "read"], "over": ["read"],
    }[then]  # fmt: skip
    found = scene.tab.do(lambda s: (s.get("n"), s.get("m")))
    assert found == ((1, 3) if then == "changed" else (None, None))


def test_a_save_behind_one_that_wrote_nothing_tries_at_once(scene: Scene) -> None:
    """Without a write since it was loaded, the record is not read a second time."""
    thread = scene.save_elsewhere()
    scene.turn.free(scene.me)
    thread.join()
    assert scene.operations == ["read", "replace"]


def test_counting_queues_too(scene: Scene) -> None:
    """A number that another thread of this process counts at the same time is added up once its turn has come, and
    those behind it learn of the write."""
    scene.operations.clear()
    thread = threading.Thread(target=scene.tab.copy().do, args=(lambda s: s.monotonic("m", 1),))
    thread.start()
    while not scene.turn._waiting:
        time.sleep(0.001)
    assert scene.operations == ["read"]
    scene.turn.free(scene.me)
    thread.join()
    assert scene.operations == ["read", "replace"]
    assert scene.turn.note is not None
    assert scene.tab.do(lambda s: s.monotonic("m")) == 1


def test_a_thread_that_never_goes_on_holds_up_no_save(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is only faster: a save that has waited long enough writes without its turn."""
    monkeypatch.setattr(contention, "LEASE", 0.01)
    scene.tab.do(put(n=1))
    assert scene.tab.do(lambda s: s["n"]) == 1


def test_a_slow_store_does_not_prolong_a_save(monkeypatch: pytest.MonkeyPatch) -> None:
    """A save whose time has gone by while it asked for a lease ends, and leaves a lease alone that has run out."""
    clock, slept = FakeClock(), FakeClock()
    done: list[str] = []

    class SlowLocks:
        def __init__(self, store: object, **options: object) -> None:
            pass

        def creation(self, namespace: str, key: str) -> SlowLocks:
            return self

        def acquire(self, wait: bool, timeout: float) -> bool:
            clock.advance(7.0)
            return True

        def release(self) -> None:
            done.append("released")

    monkeypatch.setattr(contention, "LeaseLocks", SlowLocks)
    monkeypatch.setattr("time.monotonic", clock)
    for within, ended in ((5.0, True), (60.0, False)):
        save = contention.Contention(
            None, "k", Turns(), within=within, clock=clock, sleep=slept.advance, random=random.Random(1)
        )
        save.lose()
        with pytest.raises(WriteConflict) if ended else contextlib.nullcontext():
            save.lose()
        clock.advance(0.0 if ended else 2.0)
        save.end()
    assert done == ["released"]


def test_a_failed_save_leaves_the_queue(scene: Scene) -> None:
    """The store fails while a save has its turn: the next one does not wait for it."""
    thread = scene.save_elsewhere()
    scene.turn.free(scene.me)
    thread.join()
    turn = scene.records.turns.of(scene.key)

    def fail(name: str, number: int) -> None:
        if name == "replace":
            assert turn.holder is not None
        raise StoreUnavailable("down", backend="test", operation=name)

    def late(session: SessionObject) -> None:
        session["n"] = 2
        scene.store.before = fail
        session.save()

    with pytest.raises(StoreUnavailable):
        scene.tab.do(late)
    assert turn.is_idle
    assert scene.key not in scene.records.turns


def test_a_save_within_a_save_does_not_wait_for_itself(open_tab: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that saves the same session from within its conflict gets its turn at once."""
    monkeypatch.setattr(contention, "LEASE", 3600.0)
    waited: list[object] = []

    def wait(turn: Turn, place: object, timeout: float) -> bool:
        waited.extend([place] * (not turn.take(place)))
        return True

    monkeypatch.setattr(Turn, "wait", wait)

    def policy(key: str, base: Any, mine: Any, theirs: Any) -> Any:
        if len(inner) < 2:
            inner.append(theirs)
            tab.copy().do(put(other=len(inner)))
        return mine

    inner: list[Any] = []
    tab = open_tab("memory", on_conflict=policy)
    tab.do(put(n=0))

    def late(session: SessionObject) -> None:
        session["n"] += 1
        tab.copy().do(put(n=5))
        session.save()

    tab.do(late)
    assert inner == [5, 5]
    assert not waited
    assert tab.do(lambda s: (s["n"], s["other"])) == (1, 2)


def test_turns_are_kept_only_while_they_are_used() -> None:
    """A turn is shared by those who use it at the same time, and forgotten with the last of them."""
    turns, first, second = Turns(), object(), object()
    turn = turns.of("k")
    assert turn.take(first)
    assert turns.of("k") is turn
    turns.leave("k", turn)
    assert "k" in turns
    turn.free(first)
    turns.leave("k", turn)
    assert "k" not in turns
    other = turns.of("k")
    assert other.take(second)
    turns.leave("k", turn)
    assert "k" in turns, "a turn that was replaced takes nothing away"
    turns._after_fork()
    assert "k" not in turns
