"""What an operator asks of stored records: how many live, how many are dead, since when."""

from __future__ import annotations

import datetime as dt
import os
import uuid
from typing import Any

import pytest

from beaker.runtime import Runtime
from beaker.storage.datastore import DatastoreStore
from beaker.testing import FakeClock
from gae.models import Counts, count_records, oldest_expired, record_model
from gae.ndb_context import NDBSource

KIND = "counted"


@pytest.fixture(params=["datastore", "firestore"])
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> NDBSource:
    """NDB on each emulator, with a project of this test's own."""
    emulator = request.getfixturevalue(f"{request.param}_emulator")
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", emulator.host)
    return NDBSource(runtime=Runtime(project=f"models-{uuid.uuid4().hex[:8]}", emulator_host=emulator.host))


def store(source: NDBSource, clock: FakeClock, **more: Any) -> DatastoreStore:
    return DatastoreStore(
        table_name=KIND,
        project=source.client.project,
        emulator_host=os.environ["DATASTORE_EMULATOR_HOST"],
        clock=clock,
        **more,
    )


def test_records_are_counted_by_what_they_are(source: NDBSource, fake_clock: FakeClock) -> None:
    """Live, endless, expired and chunks are counted apart; the earliest end is that of the longest dead record."""
    records = store(source, fake_clock)
    records.set("n", "gone", b"12345", ttl=10)
    fake_clock.advance(5)
    records.set("n", "gone later", b"123", ttl=10)
    records.set("n", "stays", b"1", ttl=None)
    records.set("m", "large", os.urandom(1_500_000), ttl=1000)
    assert count_records(KIND, source=source, now=fake_clock()) == Counts(4, 0, 2, 1_500_009)
    assert oldest_expired(KIND, source=source, now=fake_clock()) is None

    fake_clock.advance(20)
    ended = dt.datetime(2023, 11, 14, 22, 13, 30)
    assert count_records(KIND, source=source, now=fake_clock()) == Counts(2, 2, 2, 1_500_009, ended)
    assert oldest_expired(KIND, source=source, now=fake_clock()) == ended
    assert count_records("another", source=source, now=fake_clock()) == Counts()

    removed, _ = records.purge(fake_clock(), 100)
    assert removed == 2
    assert count_records(KIND, source=source, now=fake_clock()) == Counts(2, 0, 2, 1_500_001)


def test_counting_is_bounded_and_says_so(source: NDBSource, fake_clock: FakeClock) -> None:
    """At most ``limit`` entities are looked at; ``complete`` is false when there are more."""
    records = store(source, fake_clock)
    records.set_many("n", {str(number): b"x" for number in range(5)}, ttl=10)
    fake_clock.advance(10)
    assert count_records(KIND, source=source, limit=4, now=fake_clock()).complete is False
    counts = count_records(KIND, source=source, limit=5, now=fake_clock())
    assert (counts.expired, counts.complete) == (5, True)


def test_a_namespace_of_datastore_is_counted_alone(source: NDBSource, fake_clock: FakeClock) -> None:
    """Records of the option datastore_namespace are counted when it is named, and only they."""
    store(source, fake_clock).set("n", "k", b"x", ttl=None)
    store(source, fake_clock, datastore_namespace="tenant").set("n", "k", b"xyz", ttl=None)
    assert count_records(KIND, source=source, now=fake_clock()).bytes == 1
    assert count_records(KIND, source=source, namespace="tenant", now=fake_clock()).bytes == 3


def test_an_open_context_is_used_and_not_joined(source: NDBSource, fake_clock: FakeClock) -> None:
    """Within the application's context counting sees what the store wrote since, not what the context remembers."""
    records = store(source, fake_clock)
    with source.client.context():
        records.set("n", "k", b"x", ttl=None)
        assert count_records(KIND, now=fake_clock()).bytes == 1
        records.set("n", "k", b"xyz", ttl=None)
        assert count_records(KIND, now=fake_clock()).bytes == 3
        [record] = record_model(KIND).query().fetch()
        assert (record.name or record.key.id(), record.data) == ("k", b"xyz")
