"""session.lock(), what a record may hold, operations, and points of revocation read at a bad moment."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import runtime
from beaker.exceptions import ConfigError, CorruptRecord, LockTimeout, StoreUnavailable
from beaker.middleware import SessionMiddleware
from beaker.session import Session
from beaker.session.proxy import SessionObject
from beaker.session.revocation import Revocations
from beaker.session.snapshot import Snapshot
from beaker.session.values import ValueCodec
from beaker.storage.memory import MemoryStore
from beaker.testing.clock import FakeClock
from beaker.testing.session_harness import SessionHarness, Tab
from tests.session.faults import Interruptible, interrupt

put = SessionHarness.put
Open = Callable[..., Tab]


class Selfish:
    """Its pickle differs after a round trip: an attribute's name is interned again, a text equal to it is not."""

    def __init__(self) -> None:
        self.selfish = "selfish"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selfish) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]


class TestPickledValues:
    def test_the_value_of_this_test_is_what_it_says(self) -> None:
        """The bytes of a loaded pickle are not always the bytes that were loaded."""
        codec = ValueCodec("pickle", may_pickle=True)
        once = codec.pack([("p", Selfish())])
        assert codec.pack(codec.unpack(once, trusted=True).items()) != once

    @pytest.mark.parametrize("place", ["file", "memory", "sqlite"])
    def test_reading_one_is_no_change(self, open_tab: Open, place: str) -> None:
        """A request with auto that reads a pickled value writes nothing, so it overwrites no concurrent change."""
        tab = open_tab(place, auto=True)
        tab.do(lambda s: s.update(p=Selfish()))
        other = tab.copy()

        def late(session: SessionObject) -> None:
            assert session["p"].selfish == "selfish"
            other.do(lambda s: s.update(p=Path("/changed")))

        tab.do(late)
        assert tab.do(lambda s: s["p"]) == Path("/changed")
        tab.do(lambda s: s.update(p=Selfish()))
        tab.do(lambda s: setattr(s["p"], "selfish", "changed"))
        assert tab.do(lambda s: s["p"].selfish) == "changed"


class TestLock:
    @pytest.mark.parametrize("place", ["file", "memory", "dbm", "sqlite", "hybrid in store"])
    def test_it_ends_by_itself(self, open_tab: Open, clock: FakeClock, place: str) -> None:
        """A lock that was not released is free after lock_ttl seconds, also where threads could prolong it."""
        tab = open_tab(place, lock_ttl=30)
        tab.do(put(a=1))
        earlier = set(threading.enumerate())
        other = tab.copy()

        def holder(session: SessionObject) -> None:
            session.lock()
            # Of those that other tests have left one may end meanwhile.
            assert not [thread for thread in set(threading.enumerate()) - earlier if thread.name == "beaker-lease"]
            clock.advance(31)
            assert other.do(locked) == 1

        tab.do(holder)

    def test_a_store_that_does_not_answer_gives_no_lock(self, open_tab: Open) -> None:
        """lock() raises StoreUnavailable where it cannot know whether the lock is free."""
        tab = open_tab("file")
        tab.do(put(a=1))
        store = interrupt(tab.middleware.context)

        def handler(session: SessionObject) -> None:
            session.get("a")
            store.quiet()
            store.lose(0, done=False, repeat=True)
            with pytest.raises(StoreUnavailable):
                session.lock()
            store.quiet()

        tab.do(handler)
        assert tab.do(locked) == 1

    def test_one_who_waits_in_vain_is_told(self, open_tab: Open, clock: FakeClock) -> None:
        """LockTimeout after lock_ttl seconds; a save works all the same, since it needs no lock."""
        tab = open_tab("file", lock_ttl=0.05)
        tab.do(put(a=1))
        other = tab.copy()

        def holder(session: SessionObject) -> None:
            session.lock()
            with pytest.raises(LockTimeout):
                other.do(locked)
            other.do(put(b=2))
            session.unlock()
            session.unlock()

        tab.do(holder)
        assert tab.do(lambda s: (s["a"], s["b"])) == (1, 2)


class TestLeftLocked:
    """A lock that the application did not release is released when the request ends, however it ends."""

    PLACES = ("file", "memory", "dbm", "sqlite", "hybrid in store")

    @pytest.mark.parametrize("place", PLACES)
    def test_a_view_that_raises(self, open_tab: Open, place: str) -> None:
        """The next request need not wait for lock_ttl."""
        tab = open_tab(place)
        tab.do(put(a=1))

        def view(session: SessionObject) -> None:
            session.lock()
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            tab.do(view)
        assert tab.do(locked) == 1

    @pytest.mark.parametrize("end", ["returns", "raises in its body", "is closed early", "streams", "takes the socket"])
    def test_every_end_of_a_request(self, tmp_path: Path, end: str) -> None:
        """A list, a generator that ends, raises, or is closed half-way, a socket taken over: none keeps the lock."""

        def body(session: SessionObject) -> Iterator[bytes]:
            yield b"1"
            session.lock()
            yield b"2"
            if end == "raises in its body":
                raise ZeroDivisionError

        def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            session = environ["beaker.session"]
            session.get("a")
            if end == "takes the socket":
                session.lock()
                raise StopIteration
            start_response("200 OK", [])
            if end == "returns":
                session.lock()
                return [b""]
            return body(session)

        wrapped = SessionMiddleware(application, type="file", data_dir=str(tmp_path), lock_ttl=30)
        request: dict[str, Any] = {}
        session = Session(request, type="file", data_dir=str(tmp_path))
        session.save()
        cookie = request["cookie_out"].partition(";")[0]
        taken = {"gunicorn.socket": object(), "HTTP_UPGRADE": "websocket"} if end == "takes the socket" else {}
        environ = {"HTTP_COOKIE": cookie, "REQUEST_METHOD": "GET", "PATH_INFO": "/", **taken}
        with contextlib.suppress(ZeroDivisionError, StopIteration):
            chunks: Any = wrapped(environ, lambda *_: bytes)
            for number, _ in enumerate(chunks):
                if end == "is closed early" and number == 1:
                    break
            getattr(chunks, "close", str)()
        session.lock(timeout=0)
        session.unlock()

    def test_a_session_found_by_its_id(self, open_tab: Open) -> None:
        """Sessions that the request opened by their id are released with its own."""
        tab = open_tab("file")
        tab.do(put(a=1))
        known = tab.do(lambda s: s.id)

        def view(session: SessionObject) -> None:
            found = session.get_by_id(known)
            assert found is not None
            found.lock()
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            tab.do(view)
        assert tab.do(locked) == 1


class TestTimeout:
    def test_it_bounds_the_wait(self, open_tab: Open) -> None:
        """lock(timeout=seconds) raises LockTimeout, naming them, when the lock is not free within them; 0 asks once."""
        tab = open_tab("file", lock_ttl=30)
        tab.do(put(a=1))
        other = tab.copy()

        def holder(session: SessionObject) -> None:
            session.lock()
            for timeout in (0, 0.02, dt.timedelta(milliseconds=20)):
                with pytest.raises(LockTimeout, match=r"within 0(\.02)? s"):
                    other.do(locking(timeout))

        tab.do(holder)
        other.do(locking(0))

    @pytest.mark.parametrize("timeout", [-1, float("nan"), "soon", True])
    def test_it_is_seconds(self, open_tab: Open, timeout: Any) -> None:
        """A timeout that is not a number of seconds, 0 or more, is a ConfigError, and nothing is locked."""
        tab = open_tab("file")
        tab.do(put(a=1))
        with pytest.raises(ConfigError, match="timeout"):
            tab.do(locking(timeout))
        assert tab.do(locked) == 1


def locking(timeout: Any) -> Callable[[SessionObject], None]:
    """A handler that locks the session within a time, and leaves it locked."""
    return lambda session: session.lock(timeout=timeout)


def locked(session: SessionObject) -> Any:
    session.lock()
    try:
        return session["a"]
    finally:
        session.unlock()


@pytest.mark.parametrize("stamp", [math.nan, math.inf, -math.inf])
def test_a_record_with_impossible_stamps_is_corrupt(stamp: float) -> None:
    """A stamp that compares with nothing would make a session immortal: the record is refused."""
    for snapshot in (Snapshot(b"i" * 32, stamp, 1.0), Snapshot(b"i" * 32, 1.0, stamp)):
        with pytest.raises(CorruptRecord):
            Snapshot.decode(snapshot.id, snapshot.encode())


@pytest.mark.parametrize("cut", range(0, 60))
def test_a_record_cut_anywhere_is_corrupt_or_shorter(cut: int) -> None:
    """Decoding any prefix of a record raises CorruptRecord, or gives fewer whole pairs; never anything else."""
    whole = Snapshot(b"i" * 32, 1.0, 2.0, 3, {b"a": b"1", b"b": b"2"}, (b"12345678",), returned={b"a": b"0"})
    data = whole.encode()
    assert Snapshot.decode(whole.id, data) == whole
    try:
        found = Snapshot.decode(whole.id, data[: min(cut, len(data) - 1)])
    except CorruptRecord:
        return
    assert found.values.items() <= whole.values.items()


def test_discard_of_what_is_not_there_changes_nothing(open_tab: Open) -> None:
    """discard() on a key the session does not have leaves it without that key."""
    tab = open_tab("file")
    tab.do(put(a=1))

    def handler(session: SessionObject) -> None:
        session.discard("tags", "x")
        session.save()

    tab.do(handler)
    assert tab.do(lambda s: "tags" in s) is False


class TestRevocationPoints:
    def points(self, clock: FakeClock) -> tuple[Revocations, Interruptible]:
        store = Interruptible(MemoryStore(clock=clock))
        return Revocations(store, interval=60.0, lifetime=None, clock=clock), store

    def test_a_read_that_a_revocation_overtakes_does_not_hide_it(self, clock: FakeClock) -> None:
        """A point set while an older read was in flight is remembered, not what that read returned."""
        revocations, store = self.points(clock)

        def overtake(name: str, _: int) -> None:
            store.quiet()
            revocations.revoke(user="ann")

        began = revocations.mark()
        store.after = overtake
        revocations.revoked_at(began, "ann")
        assert revocations.revoked_at(began, "ann") is not None

    def test_answers_are_remembered_for_the_interval_and_no_longer(self, clock: FakeClock) -> None:
        """One read per interval; another process's revocation is seen when the interval is over, or in a fresh read."""
        revocations, store = self.points(clock)
        other = Revocations(store.inner, interval=60.0, lifetime=None, clock=clock)
        began = revocations.mark()
        assert revocations.revoked_at(began, "ann") is None
        asked = store.number
        other.revoke(user="ann")
        assert revocations.revoked_at(began, "ann") is None
        assert store.number == asked
        assert revocations.revoked_at(began, "ann", fresh=True) is not None
        clock.advance(61)
        assert revocations.revoked_at(began, "ann") is not None

    def test_an_unreadable_point_lets_nobody_in(self, clock: FakeClock) -> None:
        """A damaged point raises CorruptRecord instead of counting as none."""
        revocations, store = self.points(clock)
        revocations.revoke(everybody=True)
        for key in list(store.inner.keys("beaker.session.revoked")):
            store.inner.set("beaker.session.revoked", key, b"damaged", ttl=None)
        with pytest.raises(CorruptRecord):
            revocations.revoked_at(b"", None, fresh=True)


def test_background_threads_are_possible_here() -> None:
    """The lock test above would prove nothing where the runtime allows no threads anyway."""
    assert runtime.current().background_threads


@pytest.mark.parametrize("place", ["memory", "hybrid in store"])
@pytest.mark.parametrize("meanwhile", [False, True])
def test_what_was_added_before_the_lock_is_added_when_it_is_saved(open_tab: Open, place: str, meanwhile: bool) -> None:
    """Taking the lock reads what other requests have saved; what one without it adds after that is not overwritten."""
    tab = open_tab(place)
    tab.do(put(n=10, members={1}, word=5))
    other = tab.copy()

    def elsewhere(session: SessionObject) -> None:
        session.increment("n", 100)
        session.add("members", 2)
        session["word"] = "text"
        session.save()

    def mine(session: SessionObject) -> None:
        session.increment("n")
        session.add("members", 3)
        session.increment("word")
        if meanwhile:
            other.do(elsewhere)
        session.lock()
        other.do(elsewhere)
        session.increment("n")
        session.save()
        session.persist()
        session.unlock()

    tab.do(mine)
    added = 200 if meanwhile else 100
    assert tab.do(lambda s: (s["n"], s["members"], s["word"])) == (12 + added, {1, 2, 3}, 6)
