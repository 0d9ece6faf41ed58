"""Caches in a database: SQLite."""

from __future__ import annotations

import pickle
from typing import Any

from benchmarks.row import Place, Row, Store, gets, goals, puts
from benchmarks.rows import peers
from benchmarks.rows.options import options


def beaker_database(place: Place) -> Store:
    from beaker.cache import Cache

    cache = Cache("benchmark", expire=3600, **options("ext:database", place))
    return cache.get, cache.put


def bare_core(place: Place) -> Store:
    """SQLAlchemy Core on SQLite in WAL mode: one select; one update in a transaction, or an insert."""
    import sqlalchemy as sa

    engine = sa.create_engine(f"sqlite:///{place.directory}/floor.db")
    table = sa.Table(
        "kept", sa.MetaData(), sa.Column("name", sa.String, primary_key=True), sa.Column("value", sa.LargeBinary)
    )
    table.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("pragma journal_mode = wal")
    select = sa.select(table.c.value).where(table.c.name == sa.bindparam("key"))
    update = table.update().where(table.c.name == sa.bindparam("key")).values(value=sa.bindparam("data"))
    insert = table.insert().values(name=sa.bindparam("key"), value=sa.bindparam("data"))

    def get(key: str) -> Any:
        with engine.connect() as connection:
            return pickle.loads(connection.execute(select, {"key": key}).scalar_one())

    def put(key: str, value: Any) -> None:
        given = {"key": key, "data": pickle.dumps(value, pickle.HIGHEST_PROTOCOL)}
        with engine.begin() as connection:
            connection.exec_driver_sql("pragma synchronous = normal")
            if not connection.execute(update, given).rowcount:
                connection.execute(insert, given)

    return get, put


def django_database(place: Place) -> Store:
    cache = peers.django_cache("database", place)
    from django.core.management import call_command
    from django.db import connection

    call_command("createcachetable", verbosity=0)
    cache.clear()
    with connection.cursor() as cursor:
        cursor.execute("pragma journal_mode = wal")
        cursor.execute("pragma synchronous = normal")
    return peers.django(cache)


SQLITE = {
    "ours": beaker_database,
    "beaker": beaker_database,
    "Django": django_database,
    "floor": bare_core,
}

_NOTE = "Floor: SQLAlchemy Core. Beaker keeps a namespace in one row and does not read it again."

ROWS = (
    Row("database get, 1 key (SQLite)", gets(SQLITE), goals=goals(floor=1.3), note=_NOTE),
    Row("database get, 1,000 keys (SQLite)", gets(SQLITE), goals=goals(floor=1.3), note=_NOTE, keys=1000),
    Row("database put, 1 key (SQLite)", puts(SQLITE), note=_NOTE),
    Row("database put, 1,000 keys (SQLite)", puts(SQLITE), note=_NOTE, keys=1000),
)
