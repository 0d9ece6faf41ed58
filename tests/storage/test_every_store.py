"""What every store has in common: documented operations, declared capabilities, errors that name their operation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.config.parse import parse_session
from beaker.crypto.keyring import new_key
from beaker.exceptions import StoreUnavailable, ValueTooLarge
from beaker.operations.purging import stores_of
from beaker.session.context import SessionContext
from beaker.storage.api import Bulk, Joining, Listing, Purging, Spanning, Store, Versioned
from beaker.storage.datastore import DatastoreStore
from beaker.storage.dbm import DbmStore
from beaker.storage.files import FileStore
from beaker.storage.memcached import MemcachedStore
from beaker.storage.memory import MemoryStore
from beaker.storage.redis import RedisStore
from beaker.storage.sql import SqlStore
from tests.servers import free_port

PROTOCOLS: tuple[type, ...] = (Store, Versioned, Listing, Purging, Bulk, Spanning, Joining)
STORES: tuple[type, ...] = (
    MemoryStore,
    FileStore,
    DbmStore,
    SqlStore,
    MemcachedStore,
    RedisStore,
    DatastoreStore,
)
OPERATIONS: dict[type, tuple[str, ...]] = {
    protocol: tuple(name for name in sorted(protocol.__abstractmethods__) if name != "trusted")  # type: ignore[attr-defined]
    for protocol in PROTOCOLS
}
BIG = b"x" * 5_000


def out_of_reach(kind: str, directory: Path) -> Any:
    """A store whose place cannot be used or whose server is not there, for values of at most 4,000 bytes."""
    nowhere = directory / ("x" * 300)
    if kind == "file":
        return FileStore(nowhere, max_value=4_000)
    if kind in ("dbm", "dbm module"):
        return DbmStore(nowhere, dbmmodule=None if kind == "dbm" else "dbm.dumb", max_value=4_000)
    if kind == "sql":
        return SqlStore(f"sqlite:///{nowhere}/no.db", max_value=4_000)
    if kind == "memcached":
        return MemcachedStore(f"localhost:{free_port()}", max_value=4_000)
    if kind == "redis":
        return RedisStore(f"redis://localhost:{free_port()}", max_value=4_000)
    return DatastoreStore(
        project="p", emulator_host=f"localhost:{free_port()}", deadline=0.3, retries=0, max_value=4_000
    )


def calls(store: Any, data: bytes, ttl: float | None) -> dict[str, Callable[[], Any]]:
    """One call of each operation the store has, by name."""
    every: dict[str, Callable[[], Any]] = {
        "get": lambda: store.get("n", "k"),
        "set": lambda: store.set("n", "k", data, ttl=ttl),
        "delete": lambda: store.delete("n", "k"),
        "clear": lambda: store.clear("n"),
        "read": lambda: store.read("n", "k"),
        "insert": lambda: store.insert("n", "k", data, ttl=ttl),
        "replace": lambda: store.replace("n", "k", data, version(store), ttl=ttl),
        "remove": lambda: store.remove("n", "k", version(store)),
        "keys": lambda: list(store.keys("n")),
        "purge": lambda: store.purge(0.0, 10),
        "get_many": lambda: store.get_many("n", ["k", "l"]),
        "get_across": lambda: store.get_across([("n", "k"), ("m", "k")]),
        "set_many": lambda: store.set_many("n", {"k": data, "l": data}, ttl=ttl),
        "delete_many": lambda: store.delete_many("n", ["k", "l"]),
    }
    return {name: call for name, call in every.items() if hasattr(store, name)}


def version(store: Any) -> Any:
    """A version such as the store's ``read`` returns."""
    if isinstance(store, MemcachedStore):
        from beaker.storage.memcached.store import _Version

        return _Version(b"1", b"0" * 16, float("inf"))
    if isinstance(store, DatastoreStore):
        from beaker.storage.datastore.record import Version

        return Version(1, "", 0, b"", None)
    return b"0" * 16 if isinstance(store, (RedisStore, FileStore)) else 1


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.__name__)
def test_every_operation_is_documented(store: type) -> None:
    """``help(store.operation)`` says what it promises, on every store and for every operation."""
    for protocol in PROTOCOLS:
        for name in OPERATIONS[protocol] if protocol in store.__mro__ else ():
            assert inspect.getdoc(getattr(store, name)), f"{store.__name__}.{name} has no docstring"
    assert inspect.getdoc(store)


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.__name__)
def test_capabilities_are_declared(store: type) -> None:
    """A store subclasses each protocol whose methods it has, and no other."""
    for protocol in PROTOCOLS:
        has = all(hasattr(store, name) for name in OPERATIONS[protocol])
        assert (protocol in store.__mro__) == has, f"{store.__name__} and {protocol.__name__}"


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.__name__)
def test_every_option_is_documented(store: type) -> None:
    """Each option of a constructor stands in the class's docstring, by its name."""
    told = inspect.getdoc(store) or ""
    options = [name for name in inspect.signature(store).parameters if name not in ("clock", "gateway")]
    assert [name for name in options if f"``{name}``" not in told] == []


@pytest.mark.parametrize("kind", ["file", "dbm", "dbm module", "sql", "memcached", "redis", "google"])
@pytest.mark.parametrize("ttl", [60.0, 0.0])
def test_a_failure_names_its_operation(kind: str, ttl: float, tmp_path: Path) -> None:
    """StoreUnavailable carries the operation that was called, whatever the store does inside it."""
    store = out_of_reach(kind, tmp_path)
    for name, call in calls(store, b"data", ttl).items():
        with pytest.raises(StoreUnavailable) as caught:
            call()
        assert (caught.value.operation, caught.value.backend) == (name, store.backend)


@pytest.mark.parametrize("kind", ["memory", "file", "dbm", "dbm module", "sql", "memcached", "redis", "google"])
def test_a_value_too_large_names_its_operation(kind: str, tmp_path: Path) -> None:
    """ValueTooLarge carries the operation that was called, the sizes, and comes before any I/O."""
    store = MemoryStore(max_bytes=4_400) if kind == "memory" else out_of_reach(kind, tmp_path)
    for name, call in calls(store, BIG, 60.0).items():
        if name not in ("set", "insert", "replace", "set_many"):
            continue
        with pytest.raises(ValueTooLarge) as caught:
            call()
        told = caught.value
        assert (told.operation, told.backend, told.size, told.limit) == (name, store.backend, 5_000, 4_000)


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("file", "data_dir"),
        ("dbm", "data_dir"),
        ("ext:database", "sqlite://"),
        ("ext:memcached", "localhost:1"),
        ("ext:redis", "redis://localhost:1"),
        ("ext:google", "project"),
    ],
)
def test_the_largest_value_is_an_option_of_every_store(kind: str, place: str, tmp_path: Path) -> None:
    """`max_value` of a cache or session reaches its store, whatever its type."""
    given = {"data_dir": {"data_dir": str(tmp_path)}, "project": {"project": "p"}}.get(place, {"url": place})
    for options in ({}, {"dbmmodule": "dbm.dumb"}) if kind == "dbm" else ({},):
        parsed = parse_session(kwargs={"type": kind, "secret": new_key(), "max_value": "4000", **given, **options})
        cache = {"type": kind, "max_value": 4_000, **given, **options, "cache_regions": {}}
        stores = stores_of(SessionContext(parsed), cache)
        assert [store.max_value for store in stores] == [4_000] * len(stores)
        for store in stores:
            getattr(store, "close", lambda: None)()


def test_a_store_that_lacks_an_operation_cannot_be_built() -> None:
    """A subclass of a protocol without one of its methods cannot be instantiated."""

    class Half(Store):
        backend = "half"
        max_value = None
        trusted = False

        def get(self, namespace: str, key: str) -> bytes | None:
            return None

    half: Any = Half
    with pytest.raises(TypeError, match="abstract"):
        half()
