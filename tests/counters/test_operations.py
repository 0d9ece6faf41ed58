"""Store operations: what is counted is what the store did, on every store, by a count that is not Beaker's."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.counters import StoreStats
from beaker.exceptions import StoreUnavailable
from beaker.storage.memory import MemoryStore
from beaker.testing import FakeClock
from tests.storage.shared import SHARED, open_store

KINDS = ("reads", "writes", "deletes", "refused")


@pytest.fixture(autouse=True)
def fresh() -> None:
    counters.reset()


@pytest.fixture
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Opens a store by its name, and closes it at the end."""
    stores: list[Any] = []

    def open_one(name: str) -> Any:
        clock = FakeClock()
        store = MemoryStore(clock=clock) if name == "memory" else open_store(name, request, clock, tmp_path)
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        getattr(store, "close", lambda: None)()


def run_script(store: Any) -> Counter[str]:
    """One run over every operation; returns what it asked of a store that keeps single records."""
    asked: Counter[str] = Counter()

    def counted(kind: str, done: Any = True, records: int = 1) -> Any:
        asked[kind if done is not False else "refused"] += records
        return done

    counted("reads", store.get("n", "a"))
    assert counted("writes", store.insert("n", "a", b"1" * 10, ttl=None))
    assert not counted("writes", store.insert("n", "a", b"2", ttl=None))
    _, version = counted("reads", store.read("n", "a"))
    assert counted("writes", store.replace("n", "a", b"3", version, ttl=60.0))
    assert not counted("writes", store.replace("n", "a", b"4", version, ttl=60.0))
    assert not counted("deletes", store.remove("n", "a", version))
    counted("writes", store.set("n", "b", b"5" * 20, ttl=60.0))
    assert counted("reads", store.get("n", "b")) == b"5" * 20
    _, version = counted("reads", store.read("n", "a"))
    assert counted("deletes", store.remove("n", "a", version))
    counted("deletes", store.delete("n", "b"))
    if hasattr(store, "set_many"):
        counted("writes", store.set_many("n", dict.fromkeys("cde", b"6"), ttl=None), 3)
        assert len(counted("reads", store.get_many("n", list("cdx")), 3)) == 2
        counted("deletes", store.delete_many("n", list("cd")), 2)
    return asked


def stats_of(backend: str) -> StoreStats:
    (found,) = (stats for stats in counters.snapshot().stores if stats.backend == backend)
    return found


def kinds(stats: StoreStats) -> dict[str, int]:
    return {kind: getattr(stats, kind) for kind in KINDS}


@pytest.mark.parametrize("name", ["memory", *(name for name in SHARED if "google" not in name)])
def test_every_operation_is_counted_by_kind(name: str, opened: Callable[[str], Any]) -> None:
    """Reads, writes and deletions are those that were asked for and carried out; for a request, the same."""
    store = opened(name)
    with counters.measured() as spent:
        asked = run_script(store)
    stats = stats_of(store.backend)
    # memcached's `add` does not say whether what is there is alive, so a refused insert has to look.
    asked["reads"] += name == "memcached"
    assert kinds(stats) == {kind: asked[kind] for kind in KINDS}
    assert stats.bytes_read >= 10 + 20
    assert stats.bytes_written >= 10 + 20
    assert spent.stores == (stats,)


@pytest.mark.parametrize("name", ["memory", "file", "dbm", "sqlite"])
def test_a_write_that_ends_at_once_is_a_deletion(name: str, opened: Callable[[str], Any]) -> None:
    """What is set with no time to live is removed, and counted so."""
    store = opened(name)
    store.set("n", "a", b"1", ttl=0)
    if hasattr(store, "set_many"):
        store.set_many("n", {"b": b"2"}, ttl=0)
    stats = stats_of(store.backend)
    assert (stats.writes, stats.bytes_written, stats.deletes) == (0, 0, 1 + hasattr(store, "set_many"))


def test_a_clear_that_fails_is_not_counted(opened: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """No deletion was carried out where the file system refused it; one of nothing is counted as on other stores."""
    store = opened("file")
    store.clear("n")

    def refuse(*names: str) -> None:
        raise PermissionError(errno.EACCES, "refused")

    monkeypatch.setattr("os.rename", refuse)
    with pytest.raises(StoreUnavailable):
        store.clear("n")
    assert stats_of("file").deletes == 1


@pytest.mark.parametrize("name", [name for name in SHARED if "google" in name])
def test_datastore_bills_what_is_counted(name: str, opened: Callable[[str], Any]) -> None:
    """Entities read, written and deleted are those of the messages on the wire."""
    store = opened(name)
    wire: Counter[str] = Counter()
    stubs = store.gateway.connection().stubs

    def watched(method: str, stub: Callable[..., Any]) -> Callable[..., Any]:
        def call(request: Any, **options: Any) -> Any:
            answer = stub(request, **options)
            if method == "Lookup":
                wire["reads"] += len(request.keys)
            elif method == "Commit":
                deleted = sum(bool(mutation.HasField("delete")) for mutation in request.mutations)
                wire["deletes"] += deleted
                wire["writes"] += len(request.mutations) - deleted
            elif method == "RunQuery":
                wire["reads"] += max(1, len(answer.batch.entity_results))
            return answer

        return call

    for method, stub in list(stubs.items()):
        stubs[method] = watched(method, stub)
    run_script(store)
    assert list(store.keys("n")) == ["e"]
    stats = stats_of("ext:google")
    assert (stats.reads, stats.writes, stats.deletes) == (wire["reads"], wire["writes"], wire["deletes"])
    assert stats.refused >= 3
    assert stats.calls >= sum(store.gateway.calls.values())
    assert stats.seconds > 0


def test_redis_received_as_many_commands_as_calls_are_counted(opened: Callable[[str], Any]) -> None:
    """The server's own ``INFO commandstats`` has as many commands as the counts have exchanges."""
    store = opened("redis")
    run_script(store)  # loads the scripts
    client = store._connected()

    def served() -> int:
        found = client.info("commandstats")
        return sum(found.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("mget", "evalsha", "eval"))

    before, counted = served(), stats_of("redis").calls
    run_script(store)
    assert stats_of("redis").calls - counted == served() - before


def test_memcached_received_as_many_records_as_are_counted(opened: Callable[[str], Any]) -> None:
    """The server's own ``cmd_set`` has the writes, the refused ones too, and the namespace's generation."""
    store = opened("memcached")
    (server,) = store._servers

    def served() -> int:
        return int(server._run("stats", lambda client: client.stats())[b"cmd_set"])

    before = served()
    run_script(store)
    stats = stats_of(store.backend)
    # A conditional removal is a write of nothing.
    assert served() - before == stats.writes + stats.refused + 1 + 1


@pytest.mark.parametrize("name", ["sqlite", "postgres"])
def test_a_database_received_as_many_statements_as_are_counted(name: str, opened: Callable[[str], Any]) -> None:
    """SQLAlchemy's own event sees a statement for each record, or one for those that go together."""
    from sqlalchemy import event

    store = opened(name)
    seen: Counter[str] = Counter()
    store.exists()
    store.set("n", "-", b"", ttl=None)  # creates the table
    counters.reset()

    def listen(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        seen[statement.split(None, 1)[0].upper()] += 1

    event.listen(store._binding._engine, "before_cursor_execute", listen)
    store.get("n", "-")
    store.read("n", "x")
    store.set("n", "-", b"2", ttl=None)
    store.delete("n", "-")
    stats = stats_of(store.backend)
    assert (stats.reads, stats.writes, stats.deletes) == (seen["SELECT"], seen["INSERT"], seen["DELETE"]) == (2, 1, 1)


def test_an_exchange_without_a_response_is_an_error(opened: Callable[[str], Any]) -> None:
    """Calls to a server that is not there are counted with their errors and their time."""
    from beaker.exceptions import StoreUnavailable
    from beaker.storage.redis import RedisStore
    from tests.servers import free_port

    store = RedisStore(f"redis://localhost:{free_port()}")
    with pytest.raises(StoreUnavailable):
        store.get("n", "k")
    stats = stats_of("redis")
    assert (stats.calls, stats.errors, stats.reads) == (1, 1, 0)
