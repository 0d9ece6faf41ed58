"""What a request costs in Datastore operations: the promise of issue A, counted on the real emulator."""

from __future__ import annotations

import os
import uuid
from collections import Counter
from typing import Any

import pytest

from beaker.cache import CacheManager
from beaker.caching.value import Value
from beaker.middleware import SessionMiddleware
from beaker.testing.session_harness import SECRET, Tab


class Meter:
    """Counts the calls of one store's gateway."""

    def __init__(self, store: Any) -> None:
        self.calls: Counter[str] = store.gateway.calls

    def spent(self) -> dict[str, int]:
        spent = dict(self.calls)
        self.calls.clear()
        return spent


@pytest.fixture
def project(datastore_emulator: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", datastore_emulator.host)
    return f"rpc-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def tab(project: str) -> Tab:
    handlers: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        handlers.pop()(environ["beaker.session"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    options = {"session.type": "ext:google", "session.secret": SECRET, "session.project": project}
    return Tab(SessionMiddleware(app, options), handlers)


def put(**values: Any) -> Any:
    def handler(session: Any) -> None:
        session.update(values)
        session.save()

    return handler


def test_a_request_costs_what_it_needs_and_no_more(tab: Tab) -> None:
    """Untouched: nothing. Read only: one read. Changed: one read and one commit. Saved unchanged: one read."""
    meter = Meter(tab.middleware.context.records.store)
    tab.do(put(a=0))
    # The first conditional write of a process is preceded by the store's self-test, once.
    tab.do(put(a=1))
    meter.spent()
    tab.do(lambda s: None)
    assert meter.spent() == {}
    tab.do(lambda s: s["a"])
    assert meter.spent() == {"Lookup": 1}
    tab.do(put(a=2))
    assert meter.spent() == {"Lookup": 1, "Commit": 1}
    tab.do(put(a=2))
    assert meter.spent() == {"Lookup": 1}
    tab.do(lambda s: s.regenerate_id())
    assert meter.spent() == {"Lookup": 1, "Commit": 1}
    tab.do(lambda s: s.delete())
    assert meter.spent() == {"Lookup": 1, "Commit": 1}


def test_a_login_costs_one_commit(tab: Tab) -> None:
    """The data under a new id and the end of the old one are one commit, changes of the request included; a login reads
    the revocation points, once."""
    meter = Meter(tab.middleware.context.records.store)
    tab.do(put(a=0))
    tab.do(put(a=1))
    meter.spent()

    def login(session: Any) -> None:
        session["b"] = 2
        session.login("ann")

    tab.do(login)
    assert meter.spent() == {"Lookup": 2, "Commit": 1}
    seen: list[Any] = []
    tab.do(lambda s: seen.append((s["a"], s["b"])))
    assert seen == [(1, 2)]


def test_a_second_save_of_a_request_reads_nothing(tab: Tab) -> None:
    """The commit says which version it wrote: to save again, after a first save or a count, is one commit more. What
    another request saves in between is read, and merged."""
    meter = Meter(tab.middleware.context.records.store)
    tab.do(put(a=0))
    tab.do(put(a=1))
    meter.spent()

    def twice(first: Any, *then: Any) -> Any:
        def handler(session: Any) -> None:
            session["a"] = session.get("a", 0) + 1
            first(session)
            session["b"] = session["a"]
            session.save()
            for step in then:
                step(session)

        return handler

    def persist(session: Any) -> None:
        session.save()
        session.persist()

    tab.do(twice(persist))
    assert meter.spent() == {"Lookup": 1, "Commit": 2}
    tab.do(twice(lambda s: s.monotonic("n", 1)))
    assert meter.spent() == {"Lookup": 1, "Commit": 2}
    tab.do(twice(persist, persist, lambda s: s.regenerate_id()))
    assert meter.spent() == {"Lookup": 1, "Commit": 3}
    tab.do(twice(persist, persist, lambda s: s.delete()))
    assert meter.spent() == {"Lookup": 1, "Commit": 3}
    tab.cookies.clear()
    tab.do(twice(persist))
    assert meter.spent() == {"Commit": 2}

    def meanwhile(session: Any) -> None:
        persist(session)
        tab.copy().do(put(c=3))

    tab.do(twice(meanwhile))
    assert meter.spent() == {"Lookup": 3, "Commit": 4}
    assert tab.do(lambda s: (s["a"], s["b"], s["c"])) == (2, 2, 3)


def test_a_forged_cookie_costs_nothing(tab: Tab) -> None:
    """A cookie whose signature does not verify is not looked up."""
    meter = Meter(tab.middleware.context.records.store)
    tab.do(put(a=1))
    meter.spent()
    for name in tab.cookies:
        tab.cookies[name] = tab.cookies[name][:-1] + "!"
    tab.do(lambda s: s.get("a"))
    assert meter.spent() == {}


def test_a_cached_hit_costs_one_read(project: str) -> None:
    """A hit of a decorated function is one read of the store."""
    manager = CacheManager(type="ext:google", project=project, cache_regions={})
    runs = []

    @manager.cache("counted", expire=60)
    def double(n: int) -> int:
        runs.append(n)
        return 2 * n

    assert double(2) == 4
    namespace: Any = manager.get_cache("any").namespace
    meter = Meter(namespace.store)
    meter.spent()
    assert [double(2), double(n=2)] == [4, 4]
    assert meter.spent() == {"Lookup": 2}
    assert runs == [2]


@pytest.mark.parametrize(
    ("lock", "miss", "expired"),
    [
        ("lease", {"Lookup": 1, "Commit": 2}, {"Lookup": 2, "Commit": 2}),
        ("thread", {"Lookup": 1, "Commit": 2}, {"Lookup": 2, "Commit": 1}),
    ],
)
def test_what_a_creation_costs(project: str, lock: str, miss: dict[str, int], expired: dict[str, int]) -> None:
    """A miss: 1 read, 2 writes. An expired value: 2 and 2 with a lease, 2 and 1 without."""
    cache = CacheManager(type="ext:google", project=project, lock=lock, expire=60).get_cache("created")
    manager: Any = cache.namespace
    meter = Meter(manager.store)
    # The first conditional write of a process is preceded by the store's self-test, once.
    cache.get("warm", createfunc=lambda: 1)
    Value("expired", manager, None, 10.0).set_value("old", storedtime=manager.clock() - 20.0)
    meter.spent()
    cache.get("absent", createfunc=lambda: 1)
    assert meter.spent() == miss
    cache.get("expired", createfunc=lambda: 1)
    assert meter.spent() == expired


def test_a_put_beside_near_tiers_costs_one_commit(project: str) -> None:
    """The value, or many, and the stamp by which other processes know of it are one commit; so are, before it,
    the stamps of new tags, which are to last. A removal costs one read and one commit."""
    cache = CacheManager(type="ext:google", project=project, near=5).get_cache("near")
    manager: Any = cache.namespace
    meter = Meter(manager.store)
    cache.put("a", 1)
    assert meter.spent() == {"Commit": 1}
    cache.put_many({"a": 2, "b": 3})
    assert meter.spent() == {"Commit": 1}
    assert cache.get_many(["a", "b"]) == {"a": 2, "b": 3}
    assert meter.spent() == {"Lookup": 1}
    cache.put("c", 4, tags=("x", "y", "z"))
    assert meter.spent() == {"Lookup": 1, "Commit": 2}
    cache.put("d", 5, tags=("x", "y", "z"))
    assert meter.spent() == {"Lookup": 1, "Commit": 1}
    cache.remove("a")
    assert meter.spent() == {"Lookup": 1, "Commit": 1}
    cache.remove_many(["b", "c", "none"])
    assert meter.spent() == {"Lookup": 1, "Commit": 1}
    assert cache.get_many(["a", "b", "c", "d"]) == {"d": 5}
    meter.spent()
    # Over one megabyte a value has parts of its own, and the stamp comes after it.
    cache.put("large", os.urandom(1_500_000))
    assert meter.spent()["Commit"] > 1
    assert len(cache.get("large")) == 1_500_000
