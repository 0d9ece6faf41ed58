"""Every backend's manager under the one contract."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker import backends
from beaker.testing.clock import FakeClock
from beaker.testing.manager import ManagerContract, OpenManager


def opener(kind: str, clock: FakeClock, **fixed: Any) -> OpenManager:
    manager: Any = backends.load(kind)
    return lambda namespace, **options: manager(namespace, clock=clock, **fixed, **options)


class TestMemory(ManagerContract):
    keeps_bytes = False

    @pytest.fixture
    def open_manager(self, clock: FakeClock) -> OpenManager:
        return opener("memory", clock)


class TestFile(ManagerContract):
    @pytest.fixture
    def open_manager(self, clock: FakeClock, tmp_path: Path) -> OpenManager:
        return opener("file", clock, data_dir=str(tmp_path))


class TestSignedFile(ManagerContract):
    @pytest.fixture
    def open_manager(self, clock: FakeClock, tmp_path: Path) -> OpenManager:
        return opener("file", clock, data_dir=str(tmp_path), secret="k3J8vQz1mN5pR7tX9wB2cD4fG6hL0sYa")


class TestDbm(ManagerContract):
    @pytest.fixture
    def open_manager(self, clock: FakeClock, tmp_path: Path) -> OpenManager:
        return opener("dbm", clock, data_dir=str(tmp_path))


class TestGoogle(ManagerContract):
    @pytest.fixture
    def open_manager(self, clock: FakeClock, datastore_emulator: Any, monkeypatch: pytest.MonkeyPatch) -> OpenManager:
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", datastore_emulator.host)
        return opener("ext:google", clock, project=f"p-{uuid.uuid4().hex[:12]}")


class TestMemcached(ManagerContract):
    @pytest.fixture
    def open_manager(self, clock: FakeClock, memcached_server: Any) -> OpenManager:
        return opener("ext:memcached", clock, url=f"{memcached_server.host}:{memcached_server.port}")


class TestRedis(ManagerContract):
    @pytest.fixture
    def open_manager(self, clock: FakeClock, redis_server: Any) -> OpenManager:
        return opener("ext:redis", clock, url=redis_server.url)


class TestSqlite(ManagerContract):
    @pytest.fixture
    def open_manager(self, clock: FakeClock, tmp_path: Path) -> OpenManager:
        return opener("ext:database", clock, url=f"sqlite:///{tmp_path}/cache.db")


class TestPostgres(ManagerContract):
    @pytest.fixture
    def open_manager(self, clock: FakeClock, postgres_server: Any) -> OpenManager:
        return opener("ext:database", clock, url=postgres_server.url)


class TestSqla(ManagerContract):
    @pytest.fixture
    def open_manager(self, clock: FakeClock, tmp_path: Path) -> Iterator[OpenManager]:
        from sqlalchemy import MetaData, create_engine

        from beaker.ext.sqla import make_cache_table

        engine = create_engine(f"sqlite:///{tmp_path}/cache.db")
        metadata = MetaData()
        table = make_cache_table(metadata)
        metadata.create_all(engine)
        yield opener("ext:sqla", clock, bind=engine, table=table)
        engine.dispose()
