"""Caches and sessions on Datastore: the emulator, so that only ratios mean something."""

from __future__ import annotations

import pickle
from typing import Any

from benchmarks.row import Builder, Call, Place, Row, Store, gets, goals, needs, puts
from benchmarks.rows import sessions
from benchmarks.rows.options import options


def beaker_google(place: Place) -> Store:
    from beaker.cache import Cache

    cache = Cache("benchmark", expire=3600, **options("ext:google", place))
    return cache.get, cache.put


def bare_client(place: Place) -> Store:
    """Google's ``datastore.Client`` and one entity with pickled bytes."""
    from google.cloud import datastore

    library: Any = datastore  # its functions have no types
    client = library.Client(project=place.unique)

    def get(key: str) -> Any:
        return pickle.loads(client.get(client.key("kept", key))["value"])

    def put(key: str, value: Any) -> None:
        entity = library.Entity(client.key("kept", key), exclude_from_indexes=("value",))
        entity["value"] = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        client.put(entity)

    return get, put


def bare_ndb(place: Place) -> Store:
    """ndb without its caches: a context per call, as a request has."""
    from google.cloud import ndb

    class Kept(ndb.Model):  # type: ignore[misc, unused-ignore]
        value = ndb.BlobProperty()

    client = ndb.Client(project=place.unique)

    def get(key: str) -> Any:
        with client.context(cache_policy=False, global_cache=None):
            return pickle.loads(ndb.Key(Kept, key).get().value)

    def put(key: str, value: Any) -> None:
        with client.context(cache_policy=False, global_cache=None):
            Kept(id=key, value=pickle.dumps(value, pickle.HIGHEST_PROTOCOL)).put()

    return get, put


def both(opened: Any) -> Builder:
    """A read and a put, one after the other."""

    def build(place: Place) -> Call:
        get, put = opened(place)
        put("key-0", place.value)

        def call() -> None:
            put("key-0", get("key-0"))

        return call

    return build


DATASTORE = {"ours": beaker_google, "ndb": bare_ndb, "floor": bare_client}
_NOTE = "Beaker's ext:google does not work on Python 3. Floor: datastore.Client."

ROWS = (
    Row("Datastore cache get", gets(DATASTORE), needs("datastore"), goals(floor=0.6), _NOTE),
    Row("Datastore cache put", puts(DATASTORE), needs("datastore"), (), _NOTE),
    Row(
        "request, session read, Datastore",
        {"ours": sessions.beaker_requests("ext:google", "read"), **gets({"floor": bare_client})},
        needs("datastore"),
        goals(floor=0.6),
        _NOTE,
    ),
    Row(
        "request, session read + write, Datastore",
        {"ours": sessions.beaker_requests("ext:google", "write"), "floor": both(bare_client)},
        needs("datastore"),
        goals(floor=1.3),
        _NOTE + " Its get, then its put.",
    ),
)
