"""Creations in flight, by their marks alone: what each step returns, and what it leaves in the store."""

# over 320 lines because both kinds of marks are held to the same promises, with one double of a store

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable
from typing import Any

import pytest

from beaker import counters
from beaker.caching.entry import Entry, EntryCodec
from beaker.caching.freshness import MAX_AHEAD
from beaker.caching.mark import Mark
from beaker.caching.marks import Begun, LocalMarks, Unmarked
from beaker.caching.stored_marks import Lease, StoredMarks
from beaker.counters.tallies import CacheTally
from beaker.crypto.envelope import Envelope
from beaker.exceptions import CorruptRecord, StoreUnavailable, ValueTooLarge
from beaker.storage.memory import MemoryStore
from beaker.testing import FakeClock
from beaker.testing.lock import wait_until
from tests.test_forks import in_a_child

TTL = 9.0


def counted(name: str) -> int:
    return counters.snapshot().events.get(name, 0)


class Local:
    """One key in a process: ``value`` is what is stored."""

    def __init__(self) -> None:
        self.marks = LocalMarks()
        self.value: Any = "old"

    def begin(self) -> Any:
        return self.marks.begin("k", self.write, lambda: self.write(None))

    def write(self, entry: Any) -> None:
        self.value = entry


class TestWithoutVersions:
    def test_a_creation_stores_once(self) -> None:
        """store() writes and returns True; abandon() after it is harmless, returns False, and no mark stays."""
        local = Local()
        creation = local.begin()
        assert len(local.marks) == 1
        assert creation.store("new") is True
        assert creation.abandon(drop=True) is False
        assert (local.value, len(local.marks)) == ("new", 0)

    def test_what_was_voided_stores_nothing(self) -> None:
        """After void() and after void_all() store() returns False, writes nothing and is counted."""
        for void in (lambda marks: marks.void("k"), LocalMarks.void_all):
            local, before = Local(), counted("creation_voided")
            creation = local.begin()
            void(local.marks)
            assert creation.store("new") is False
            assert counted("creation_voided") == before + 1
            assert creation.abandon(drop=True) is False
            assert (local.value, len(local.marks)) == ("old", 0)

    def test_the_first_to_store_voids_those_beside_it_but_none_after_it(self) -> None:
        """Of two creations in flight one stores; one that begins once it has stored, stores too."""
        local = Local()
        first, second = local.begin(), local.begin()
        assert first.store("first") is True
        third = local.begin()
        assert second.store("second") is False
        assert third.store("third") is True
        second.abandon()
        assert (local.value, len(local.marks)) == ("third", 0)

    @pytest.mark.parametrize("drop", [False, True])
    def test_abandoning(self, drop: bool) -> None:
        """abandon() returns True where nothing had voided the creation; it removes the old value with ``drop`` only."""
        local = Local()
        assert local.begin().abandon(drop=drop) is True
        assert (local.value, len(local.marks)) == (None if drop else "old", 0)

    def test_one_that_is_abandoned_leaves_the_mark_to_those_beside_it(self) -> None:
        """However often one creation is abandoned, void() still reaches the other."""
        local = Local()
        first, second = local.begin(), local.begin()
        assert (first.abandon(), first.abandon()) == (True, False)
        local.marks.void("k")
        assert second.store("second") is False
        assert local.value == "old"

    def test_a_discard_that_fails(self) -> None:
        """abandon(drop=True) raises nothing where the store does; it returns False and takes its mark away."""
        marks = LocalMarks()

        def discard() -> None:
            raise StoreUnavailable("no reply", backend="test", operation="delete")

        assert marks.begin("k", lambda entry: None, discard).abandon(drop=True) is False
        assert len(marks) == 0

    def test_a_child_begins_without_marks(self) -> None:
        """What is in flight in the parent is not in a forked child, where no thread would end it."""
        local = Local()
        local.begin()
        assert in_a_child(lambda: str(len(local.marks))) == "0"
        assert len(local.marks) == 1

    def test_one_without_a_mark_stores_nothing(self) -> None:
        """Unmarked: store() and abandon() return False."""
        assert (Unmarked().store(Entry("x", 0.0, None)), Unmarked().abandon()) == (False, False)


class TestMark:
    @pytest.mark.parametrize(
        ("until", "held"),
        [(0.0, False), (0.1, True), (TTL + MAX_AHEAD, True), (TTL + MAX_AHEAD + 0.1, False)],
    )
    def test_how_long_it_is_held(self, until: float, held: bool) -> None:
        """From now until its end, unless that is further off than its ttl and a minute."""
        assert Mark(bytes(16), bytes(16), 1000.0 + until).is_held(1000.0, TTL) is held

    def test_too_short(self) -> None:
        """CorruptRecord for bytes that hold no whole mark; a mark alone has no old value."""
        packed = Mark(b"e" * 16, b"h" * 16, 5.0).pack(b"")
        assert Mark.unpack(packed) == (Mark(b"e" * 16, b"h" * 16, 5.0), b"")
        with pytest.raises(CorruptRecord):
            Mark.unpack(packed[:-1])


class Trouble(MemoryStore):
    """A memory store that refuses, loses or is gone, as told."""

    gone = False
    deaf = False
    """Writes are carried out, and reported as refused."""
    contended = False
    largest = 1 << 20
    reads = 0

    def _check(self, data: bytes = b"") -> None:
        if self.gone:
            raise StoreUnavailable("no reply", backend="test", operation="set")
        if len(data) > self.largest:
            raise ValueTooLarge(size=len(data), limit=self.largest)

    def read(self, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        self._check()
        self.reads += 1
        return super().read(namespace, key)

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> bool:
        self._check(data)
        return not self.contended and super().insert(namespace, key, data, ttl=ttl) and not self.deaf

    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> bool:
        self._check(data)
        return not self.contended and super().replace(namespace, key, data, version, ttl=ttl) and not self.deaf


class Stored:
    """The marks of one key in a store, with a lease of 9 seconds or without."""

    def __init__(self, clock: FakeClock, *, lease: bool = True, renew: bool = False, ttl: float = TTL) -> None:
        self.clock = clock
        self.store = Trouble(clock=clock)
        self.codec = EntryCodec(Envelope(backend="test"), "json")
        self.marks = StoredMarks(
            self.store,
            self.codec,
            "n",
            clock=clock,
            keep=lambda entry: None,
            lease=Lease(ttl, None, renew) if lease else None,
        )

    def entry(self, value: Any) -> Entry:
        return Entry(value, self.clock(), None)

    def put(self, value: Any) -> None:
        self.store.set("n", "k", self.codec.encode("n", "k", self.entry(value)), ttl=None)

    def begin(self, mode: Any = "hold", *, absent: bool = False, good: bool = False) -> Begun:
        return self.marks.begin("k", lambda entry: good, absent=absent, mode=mode)

    def creation(self, mode: Any = "hold") -> Any:
        creation = self.begin(mode).creation
        assert creation is not None
        return creation

    @property
    def value(self) -> Any:
        entry = self.marks.look("k").entry
        return None if entry is None else entry.value

    @property
    def mark(self) -> Mark | None:
        return self.marks.look("k").mark


def restarted(stored: Stored) -> Any:
    creation = stored.marks.restart("k").creation
    assert creation is not None
    return creation


@pytest.fixture
def stored(fake_clock: FakeClock) -> Stored:
    return Stored(fake_clock)


class TestBeginning:
    def test_what_is_good_is_returned(self, stored: Stored) -> None:
        """A good entry needs no creation, and its record gets no mark."""
        stored.put("good")
        begun = stored.begin(good=True)
        assert begun.entry is not None
        assert (begun.entry.value, begun.creation, begun.taken) == ("good", None, False)
        assert stored.mark is None

    def test_absent_spares_a_look(self, stored: Stored) -> None:
        """With ``absent`` the mark is inserted unseen; without it the key is looked at once."""
        for absent, reads in ((True, 0), (False, 1)):
            before = stored.store.reads
            assert stored.begin(absent=absent).creation is not None
            assert stored.store.reads == before + reads
            stored.store.delete("n", "k")

    def test_one_holds_the_key_until_its_lease_ends(self, stored: Stored) -> None:
        """A second one finds it taken, with the old value at hand; after 9 seconds it takes over, which is counted."""
        stored.put("old")
        before = counted("lock_takeover")
        stored.creation()
        begun = stored.begin()
        assert begun.entry is not None
        assert (begun.entry.value, begun.creation, begun.taken) == ("old", None, True)
        stored.clock.advance(TTL - 1)
        assert stored.begin().taken is True
        assert counted("lock_takeover") == before
        stored.clock.advance(2)
        second = stored.creation()
        assert counted("lock_takeover") == before + 1
        assert second.store(stored.entry("second")) is True
        assert (stored.value, stored.mark) == ("second", None)

    @pytest.mark.parametrize("mode", ["hold", "join"])
    def test_without_a_lease_they_join(self, fake_clock: FakeClock, mode: str) -> None:
        """No creation excludes another; the first to store voids the second, with and without an old value."""
        for old in (None, "old"):
            stored = Stored(fake_clock, lease=False)
            if old:
                stored.put(old)
            first, second = stored.creation(mode), stored.creation(mode)
            assert stored.begin(mode).taken is False
            assert stored.marks.is_taken(stored.mark) is False
            assert first.store(stored.entry("first")) is True
            assert second.store(stored.entry("second")) is False
            assert (stored.value, stored.mark) == ("first", None)

    @pytest.mark.parametrize("mode", ["hold", "join"])
    def test_two_that_find_nothing_join(self, fake_clock: FakeClock, mode: str) -> None:
        """Of two that were told that there is no record one inserts the mark and the other joins it: either may store,
        and the last to give up leaves no mark behind."""
        stored = Stored(fake_clock, lease=False)
        first, second = (stored.begin(mode, absent=True).creation for _ in range(2))
        assert first is not None
        assert second is not None
        assert second.store(stored.entry("second")) is True
        assert first.store(stored.entry("first")) is False
        stored.store.delete("n", "k")
        alone = stored.begin(mode, absent=True).creation
        assert alone is not None
        assert alone.abandon() is True
        assert stored.store.read("n", "k") is None

    def test_what_has_been_stored_is_not_looked_at_again(self, stored: Stored) -> None:
        """Giving up after storing does nothing, and asks nothing of the store."""
        creation = stored.creation()
        assert creation.record is None
        assert creation.store(stored.entry("new")) is True
        before = stored.store.reads
        assert creation.abandon(drop=True) is False
        assert (stored.store.reads, stored.value) == (before, "new")

    def test_a_longer_life_counts_the_bytes_it_writes(self, stored: Stored) -> None:
        """prolong() counts a record it has replaced, and none that the store refused."""
        entry, later = stored.entry("slides"), Entry("slides", stored.clock(), 60.0)
        stored.put("slides")
        stored.marks.tally = tally = CacheTally("r", "n")
        stored.store.contended = True
        stored.marks.prolong("k", entry, later)
        assert tally.bytes_written == 0
        stored.store.contended = False
        stored.marks.prolong("k", entry, later)
        assert tally.bytes_written == len(stored.store.get("n", "k") or b"")
        assert stored.marks.look("k").entry == later

    def test_one_that_joins_a_holder(self, stored: Stored) -> None:
        """With ``join`` a creation goes beside the one that holds the key; removing the key voids both."""
        holder, beside = stored.creation(), stored.creation("join")
        stored.store.delete("n", "k")
        assert (holder.store(stored.entry(1)), beside.store(stored.entry(2))) == (False, False)
        holder, beside = stored.creation(), stored.creation("join")
        assert beside.store(stored.entry(3)) is True
        assert holder.store(stored.entry(4)) is False
        assert stored.value == 3

    def test_a_write_whose_response_was_lost(self, stored: Stored) -> None:
        """A mark that was written although the store said no is recognized as this creation's own."""
        stored.store.deaf = True
        for begin in (stored.creation, lambda: restarted(stored)):
            creation = begin()
            stored.store.deaf = False
            assert creation.store(stored.entry("mine")) is True
            assert stored.value == "mine"
            stored.store.deaf = True
            stored.store.delete("n", "k")

    def test_a_store_that_is_gone(self, stored: Stored, caplog: pytest.LogCaptureFixture) -> None:
        """The creation goes on and stores nothing; each is counted, one line is logged until the store is back."""
        before = counted("lease_unavailable")
        for logged in (1, 1, 2):
            stored.store.gone = True
            creation = stored.begin(absent=True).creation
            assert creation is not None
            assert (creation.store(stored.entry("x")), creation.abandon()) == (False, False)
            assert len([record for record in caplog.records if "without a lease" in record.message]) == logged
            stored.store.gone = False
            if counted("lease_unavailable") == before + 2:
                stored.creation().abandon()
        assert counted("lease_unavailable") == before + 3

    def test_other_writers_without_end(self, stored: Stored) -> None:
        """Where every write is refused a creation begins without a mark, and refresh removes the key instead."""
        stored.put("old")
        stored.store.contended = True
        begun = stored.begin()
        assert begun.creation is not None
        assert begun.creation.store(stored.entry("x")) is False
        assert stored.value == "old"
        assert restarted(stored).store(stored.entry("x")) is False
        assert stored.value is None

    def test_an_old_value_too_large_to_be_marked(self, stored: Stored) -> None:
        """It gives way to the mark; a mark that is too large by itself begins a creation without one."""
        stored.put("x" * 100)
        stored.store.largest = len(stored.store.get("n", "k") or b"") + 10
        begun = stored.begin()
        assert begun.entry is not None
        assert begun.entry.value == "x" * 100
        assert stored.mark is not None
        assert (stored.value, stored.marks.look("k").old) == (None, b"")
        assert begun.creation is not None
        assert begun.creation.store(stored.entry("new")) is True
        stored.store.delete("n", "k")
        stored.store.largest = 10
        small = stored.begin().creation
        assert small is not None
        assert small.abandon() is False

    def test_refresh_voids_those_in_flight(self, stored: Stored) -> None:
        """restart() leaves the old value until the new one is stored; what began before it stores nothing."""
        stored.put("old")
        before = stored.creation()
        again = restarted(stored)
        assert stored.value == "old"
        assert before.store(stored.entry("before")) is False
        assert again.store(stored.entry("again")) is True
        assert stored.value == "again"


class TestEnding:
    def test_storing_is_counted(self, stored: Stored) -> None:
        """The bytes of what was stored are added to the tally; what was voided is counted, and adds none."""
        stored.marks.tally = tally = CacheTally("", "n")
        before = counted("creation_voided")
        assert stored.creation().store(stored.entry("x" * 50)) is True
        written = tally.bytes_written
        assert written > 50
        creation = stored.creation()
        stored.put("other")
        assert creation.store(stored.entry("x")) is False
        assert tally.bytes_written == written
        assert counted("creation_voided") == before + 1

    def test_once_it_has_ended(self, stored: Stored) -> None:
        """abandon() after store(), and a second abandon(), return False and touch nothing."""
        creation = stored.creation()
        creation.store(stored.entry("new"))
        assert creation.abandon(drop=True) is False
        assert stored.value == "new"
        creation = stored.creation()
        assert (creation.abandon(), creation.abandon(drop=True)) == (True, False)
        assert stored.value == "new"
        creation = stored.creation("join")
        assert (creation.abandon(), creation.abandon(drop=True)) == (True, False)
        assert stored.value == "new"

    @pytest.mark.parametrize("drop", [False, True])
    @pytest.mark.parametrize("old", [None, "old"])
    @pytest.mark.parametrize("mode", ["hold", "join"])
    def test_abandoning_leaves_no_mark(self, stored: Stored, mode: str, old: str | None, drop: bool) -> None:
        """abandon() puts the old value back as it was, or with ``drop`` removes it; an absent key is absent again."""
        if old:
            stored.put(old)
        creation = stored.creation(mode)
        assert creation.abandon(drop=drop) is True
        assert stored.value == (None if drop else old)
        assert mode == "join" or stored.mark is None

    @pytest.mark.parametrize("mode", ["hold", "join"])
    def test_abandoning_what_was_voided(self, stored: Stored, mode: str) -> None:
        """abandon() returns False and leaves alone what was written, or removed, meanwhile."""
        for old in (None, "old"):
            if old:
                stored.put(old)
            creation = stored.creation(mode)
            stored.put("other")
            assert creation.abandon(drop=True) is False
            assert stored.value == "other"
            creation = stored.creation(mode)
            stored.store.delete("n", "k")
            assert creation.abandon(drop=True) is False

    def test_one_beside_the_holder_leaves_its_mark(self, stored: Stored) -> None:
        """Who joined, or was taken over from, does not take away the mark of the one that holds the key."""
        stored.put("old")
        first = stored.creation()
        assert stored.creation("join").abandon() is True
        assert stored.begin().taken is True
        stored.clock.advance(TTL + 1)
        second = stored.creation()
        assert first.abandon() is True
        assert stored.begin().taken is True
        assert second.store(stored.entry("second")) is True

    def test_abandoning_without_the_store(self, stored: Stored) -> None:
        """abandon() returns False, raises nothing, and the mark runs out."""
        creation = stored.creation()
        stored.store.gone = True
        assert creation.abandon() is False
        stored.store.gone = False
        assert stored.begin().taken is True
        stored.clock.advance(TTL + 1)
        assert stored.begin().taken is False

    def test_a_store_that_fails_leaves_the_mark_to_abandon(self, stored: Stored) -> None:
        """store() raises what the store raises; abandon() then takes the mark away."""
        creation = stored.creation()
        stored.store.gone = True
        with pytest.raises(StoreUnavailable):
            creation.store(stored.entry("x"))
        stored.store.gone = False
        assert creation.abandon() is True
        assert stored.store.read("n", "k") is None

    def test_refused_writes_without_end(self, stored: Stored) -> None:
        """store() returns False where its replacement is refused again and again."""
        creation = stored.creation()
        stored.store.contended = True
        assert creation.store(stored.entry("x")) is False


class Turns(threading.Event):
    """Runs out after some turns; ``waits`` are the seconds asked for, and the clock goes on by as many."""

    def __init__(self, clock: FakeClock, turns: int, each: Any = None) -> None:
        super().__init__()
        self.clock, self.turns, self.each = clock, turns, each
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        self.clock.advance(timeout or 0.0)
        if self.each is not None:
            self.each(len(self.waits))
        return len(self.waits) > self.turns


class TestProlonging:
    def test_a_third_at_a_time(self, stored: Stored) -> None:
        """The lease is prolonged every third of its ttl, so that the key stays taken for as long as that goes on."""
        creation = stored.creation()
        turns = Turns(stored.clock, 9)
        creation._prolong(Lease(TTL, None, True), turns)
        assert turns.waits == [TTL / 3] * 10
        assert stored.begin().taken is True
        stored.clock.advance(TTL - TTL / 3 - 0.5)
        assert stored.begin().taken is True
        stored.clock.advance(1.0)
        assert stored.begin().taken is False

    def test_its_limit(self, stored: Stored) -> None:
        """Until its limit the lease is prolonged, then not any more."""
        creation = stored.creation()
        turns = Turns(stored.clock, 3)
        creation._prolong(Lease(TTL, 3600.0, True), turns)
        assert len(turns.waits) == 4
        turns = Turns(stored.clock, 9)
        creation._prolong(Lease(TTL, 0.0, True), turns)
        assert len(turns.waits) == 1
        stored.clock.advance(TTL)
        assert stored.begin().taken is False

    def test_it_ends_with_the_mark(self, stored: Stored) -> None:
        """Once another took over, or the key was written, it prolongs nothing."""
        first = stored.creation()
        stored.clock.advance(TTL + 1)
        second = stored.creation()
        turns = Turns(stored.clock, 9)
        first._prolong(Lease(TTL, None, True), turns)
        assert len(turns.waits) == 1
        stored.put("written")
        turns = Turns(stored.clock, 9)
        second._prolong(Lease(TTL, None, True), turns)
        assert len(turns.waits) == 1
        assert stored.value == "written"

    def test_a_turn_that_fails(self, stored: Stored, caplog: pytest.LogCaptureFixture) -> None:
        """A store without a reply is logged, and the next turn tries again."""
        creation = stored.creation()

        def each(turn: int) -> None:
            stored.store.gone = turn == 2

        with caplog.at_level(logging.WARNING):
            creation._prolong(Lease(TTL, None, True), Turns(stored.clock, 3, each))
        assert [record.message for record in caplog.records] == ["a lease was not prolonged: test set: no reply"]
        assert stored.begin().taken is True

    @pytest.mark.parametrize("end", ["store", "abandon"])
    def test_the_thread_ends_with_the_creation(self, fake_clock: FakeClock, end: str) -> None:
        """store() and abandon() end the thread at once, not at its next turn an hour later."""
        stored = Stored(fake_clock, renew=True, ttl=10_800.0)
        earlier = set(threading.enumerate())
        creation = stored.creation()

        def threads() -> int:
            return sum(thread.name == "beaker-lease" for thread in set(threading.enumerate()) - earlier)

        assert threads() == 1
        creation.store(stored.entry("x")) if end == "store" else creation.abandon()
        wait_until(lambda: threads() == 0)


def test_whether_a_creation_is_in_flight() -> None:
    """A key has a mark from the beginning of its creation to its end."""
    marks = LocalMarks()
    creation = marks.begin("k", lambda entry: None, lambda: None)
    assert [marks.has("k"), marks.has("other")] == [True, False]
    creation.abandon()
    assert marks.has("k") is False
