"""The ledger of revocations on a store that is of an earlier state again: a snapshot, a backup, an early promotion."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from beaker.exceptions import StoreUnavailable
from beaker.session.revocation import NAMESPACE, Revocations
from beaker.storage.memory import MemoryStore
from beaker.testing.clock import FakeClock
from tests.session.faults import Interruptible
from tests.session.test_ledger import IN_COOKIES, Open, login, store_of, user


class TestSetBack:
    """A store that is of an earlier state again: a snapshot, a restored backup, a replica promoted too early."""

    @pytest.fixture
    def store(self, clock: FakeClock) -> MemoryStore:
        return MemoryStore(clock=clock)

    def process(self, store: Any, clock: FakeClock, **more: Any) -> Revocations:
        return Revocations(store, interval=60.0, lifetime=None, clock=clock, **more)

    def copy(self, store: Any) -> dict[str, bytes]:
        return {key: store.get(NAMESPACE, key) for key in store.keys(NAMESPACE)}

    def set_back(self, store: Any, records: dict[str, bytes], clock: FakeClock) -> None:
        store.clear(NAMESPACE)
        for key, record in records.items():
            store.set(NAMESPACE, key, record, ttl=None)
        clock.advance(61)

    @pytest.mark.parametrize("knows", [True, False], ids=["the process of before", "a new process"])
    @pytest.mark.parametrize("end", [{"user": "ann"}, {"everybody": True}], ids=["user", "everybody"])
    def test_a_revocation_after_it_ends_sessions_that_carry_a_lost_number(
        self, store: MemoryStore, clock: FakeClock, knows: bool, end: dict[str, Any]
    ) -> None:
        """Numbers that the store has lost make no session outlive its end; a session that begins then lives."""
        first = self.process(store, clock)
        first.mark()
        records = self.copy(store)
        for _ in range(3):
            first.revoke(user="bob")
        mark = first.mark()
        self.set_back(store, records, clock)
        admin = first if knows else self.process(store, clock)
        admin.revoke(**end)
        clock.advance(61)
        for process in (admin, self.process(store, clock), first):
            assert process.revoked_at(mark, "ann") is not None
            assert process.revoked_at(admin.mark(), "ann") is None

    def test_the_end_of_everybody_counts_no_numbers(self, store: MemoryStore, clock: FakeClock) -> None:
        """What docs/security.md advises after a restored backup holds though the new number is one given before."""
        first = self.process(store, clock)
        first.mark()
        records = self.copy(store)
        first.revoke(user="bob")
        mark = first.mark()
        self.set_back(store, records, clock)
        self.process(store, clock).revoke(everybody=True)
        assert self.process(store, clock).revoked_at(mark, "ann") is not None

    @pytest.mark.parametrize("knows", [True, False], ids=["by its number", "by a session's"])
    def test_a_lost_revocation_is_noticed(self, store: MemoryStore, clock: FakeClock, knows: bool) -> None:
        """A number below one that was given shows the loss: as after any, all sessions of before are over."""
        first = self.process(store, clock)
        before = first.mark()
        records = self.copy(store)
        first.revoke(user="ann")
        mark = first.mark()
        self.set_back(store, records, clock)
        process = first if knows else self.process(store, clock)
        if not knows:
            assert process.revoked_at(mark, "bob") == 0.0
        assert process.revoked_at(before, "ann") is not None
        began = process.mark()
        assert [known.revoked_at(began, "ann") for known in (process, first, self.process(store, clock))] == [None] * 3

    def test_two_processes_notice_it_at_once(self, store: MemoryStore, clock: FakeClock) -> None:
        """One that finds another ledger begun in its place keeps nothing of its own: no session begins with that."""
        late = self.process(store, clock)
        late.mark()
        records = self.copy(store)
        late.revoke(user="bob")
        mark = late.mark()
        self.set_back(store, records, clock)
        read = store.get_many

        def overtaken(*names: Any) -> dict[str, bytes]:
            found = read(*names)
            store.get_many = read  # type: ignore[method-assign]
            assert self.process(store, clock).revoked_at(mark, "ann") is not None
            return found

        store.get_many = overtaken  # type: ignore[method-assign, assignment]
        assert late.revoked_at(mark, "ann") is not None
        assert late.mark() == self.process(store, clock).mark()

    def test_a_ledger_that_was_replaced_does_not_come_back(self, store: MemoryStore, clock: FakeClock) -> None:
        """The process that ended everybody knows its name, and begins another."""
        first = self.process(store, clock)
        before = first.mark()
        records = self.copy(store)
        first.revoke(everybody=True)
        between = first.mark()
        self.set_back(store, records, clock)
        assert [first.revoked_at(mark) is None for mark in (before, between)] == [False, False]
        assert first.mark()[:4] not in (before[:4], between[:4])
        assert first.revoked_at(first.mark()) is self.process(store, clock).revoked_at(first.mark()) is None

    def test_who_only_reads_writes_nothing(self, store: MemoryStore, clock: FakeClock) -> None:
        """The session is over there, too."""
        first = self.process(store, clock)
        first.mark()
        records = self.copy(store)
        first.revoke(user="bob")
        mark = first.mark()
        self.set_back(store, records, clock)
        assert self.process(store, clock, readonly=True).revoked_at(mark, "ann") is not None
        assert self.copy(store) == records

    def test_a_ledger_that_cannot_be_replaced(self, store: MemoryStore, clock: FakeClock) -> None:
        """Sessions that carry it are over; none begins, and none is ended for longer than the store is full."""
        between = Interruptible(store)
        first = self.process(between, clock)
        before = first.mark()
        records = self.copy(store)
        first.revoke(everybody=True)
        self.set_back(store, records, clock)
        for number in range(20):
            between.lose(number, done=False)
            with contextlib.suppress(StoreUnavailable):
                assert first.revoked_at(before) is not None
            between.lose(number, done=False)
            with contextlib.suppress(StoreUnavailable):
                first.mark()
            between.quiet()
        assert first.revoked_at(before) is not None
        assert first.revoked_at(first.mark()) is None

    def test_a_process_that_asked_too_early_takes_no_number_for_lost(
        self, store: MemoryStore, clock: FakeClock
    ) -> None:
        """A session of after another process's revocation lives here at once, and costs one read more."""
        early = self.process(store, clock)
        late, old = self.process(store, clock), early.mark()
        late.revoke(user="bob")
        mark = late.mark()
        assert early.revoked_at(mark, "ann") is None
        assert early.mark() == mark != old

    def test_revocations_meanwhile_are_no_loss(self, store: MemoryStore, clock: FakeClock) -> None:
        """What a read brings that another thread has overtaken is looked at anew, and ends nothing."""
        between = Interruptible(store)
        process = self.process(between, clock)
        process.mark()
        clock.advance(61)
        read = store.get_many

        def overtaken(*names: Any) -> dict[str, bytes]:
            found = read(*names)
            store.get_many = read  # type: ignore[method-assign]
            self.process(store, clock).revoke(user="bob")
            process.mark(fresh=True)
            return found

        store.get_many = overtaken  # type: ignore[method-assign, assignment]
        mark = process.mark()
        assert process.revoked_at(mark, "ann") is self.process(store, clock).revoked_at(mark, "ann") is None
        assert process.mark() == self.process(store, clock).mark()

    @pytest.mark.parametrize("place", IN_COOKIES)
    def test_in_sessions(self, open_tab: Open, clock: FakeClock, place: str) -> None:
        """A login of after a lost revocation is over once that is noticed, and the visitor can log in anew."""
        tab = open_tab(place)
        tab.do(login("bob"))
        store = store_of(tab)
        records = self.copy(store)
        tab.middleware.revoke(user="ann")
        tab.do(login("carl"))
        self.set_back(store, records, clock)
        assert tab.do(user) is None
        tab.do(login("carl"))
        assert tab.do(user) == "carl"
