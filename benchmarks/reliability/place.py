"""A fresh place for records on one store, and what can be done to it from outside."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.faults.proxy import Proxy, proxy_to
from tests.servers import Server

FORGETFUL = {"memory", "memcached", "redis"}
"""Stores that are empty once their process was restarted; redis is run without persistence."""
SECRET = "reliability-only-32-bytes-of-nothing-secret"
HOURS = 4 * 3600


class Place:
    """Options of a fresh place of one kind of store, for ours or for Beaker 1.14.1, and the server behind it."""

    def __init__(self, kind: str, config: dict[str, Any], server: Any, *, ours: bool) -> None:
        self.kind, self.config, self.server, self.ours = kind, config, server, ours
        self.forgets = kind in FORGETFUL
        self.proxy: Proxy | None = None

    @property
    def path(self) -> Path | None:
        """The directory that holds the records, where there is one."""
        if self.kind in ("file", "dbm"):
            return Path(self.config["data_dir"])
        if self.kind == "sqlite":
            return Path(self.config["url"].partition(":///")[2]).parent
        return None

    @property
    def restartable(self) -> bool:
        return isinstance(self.server, Server)

    def environ(self) -> dict[str, str]:
        """What a process needs that works here."""
        host = self.config.get("emulator_host")
        return {"DATASTORE_EMULATOR_HOST": host} if host else {}

    def options(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Of sessions and of caches, without their prefixes. Calls of servers take 1 s at most, of emulators 3."""
        common = {name: value for name, value in self.config.items() if name != "emulator_host"}
        if self.ours and self.server is not None:
            common["store_timeout"] = 3.0 if self.kind.startswith("google") else 1.0
        session = {**common, "secret": SECRET, "timeout": HOURS}
        cache = {**common, "expire": HOURS}
        if self.ours and self.kind != "memory":
            cache |= {"lease_ttl": 2, "lock_timeout": 4}
        return session, cache

    @contextlib.contextmanager
    def behind_proxy(self) -> Iterator[Proxy]:
        """Until the block ends the options lead to a proxy in front of the server."""
        before = dict(self.config)
        with proxy_to("127.0.0.1", self.server.port) as proxy:
            port = proxy.address.rpartition(":")[2]
            for name in {"url", "emulator_host"} & self.config.keys():
                self.config[name] = self.config[name].replace(f":{self.server.port}", f":{port}")
            yield proxy
            self.config.update(before)

    @contextlib.contextmanager
    def small(self) -> Iterator[None]:
        """Until the block ends the directory is a file system of its own, of 16 MB. OSError where it cannot be."""
        assert self.path is not None
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", self.path], capture_output=True)
        if made.returncode:
            raise OSError("this user may not mount a tmpfs")
        try:
            yield
        finally:
            subprocess.run(["umount", "--lazy", self.path], check=True, capture_output=True)

    def fill(self) -> Path:
        """Take all the space there is, with a file to be removed again."""
        assert self.path is not None
        ballast = self.path / "ballast"
        with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (65536, 512):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * size)
        return ballast

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Until the block ends nothing may be created, opened for writing or removed."""
        assert self.path is not None
        modes = {path: path.stat().st_mode for path in (self.path, *self.path.rglob("*")) if path.exists()}
        try:
            for path, mode in modes.items():
                with contextlib.suppress(FileNotFoundError):
                    path.chmod(mode & ~0o222)
            yield
        finally:
            for path, mode in modes.items():
                with contextlib.suppress(FileNotFoundError):
                    path.chmod(mode)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The server and its children are stopped: the kernel accepts for them and they say nothing."""
        children = Path(f"/proc/{self.server.pid}/task/{self.server.pid}/children").read_text().split()
        pids = [self.server.pid, *map(int, children)]
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def damage(self, count: int, source: random.Random) -> int | None:
        """Flip a bit in some records and cut others short, at most ``count``; how many, ``None``: not possible here."""
        damagers: dict[str, Callable[[int, random.Random], int | None]] = {
            "file": self._damage_files,
            "dbm": self._damage_sqlite,
            "sqlite": self._damage_sqlite,
            "redis": self._damage_redis,
            "postgres": self._damage_postgres,
        }
        damager = damagers.get(self.kind)
        return None if damager is None else damager(count, source)

    def _damage_files(self, count: int, source: random.Random) -> int:
        assert self.path is not None
        files = sorted(path for path in self.path.rglob("*") if path.is_file() and path.stat().st_size > 40)
        chosen = source.sample(files, min(count, len(files)))
        for path in chosen:
            path.write_bytes(spoiled(path.read_bytes(), source))
        return len(chosen)

    def _damage_sqlite(self, count: int, source: random.Random) -> int | None:
        assert self.path is not None
        done = 0
        for path in sorted(self.path.rglob("*")):
            if not path.is_file() or path.read_bytes()[:6] != b"SQLite":
                continue
            with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection, connection:
                for table, columns in _blobs(connection):
                    key = columns[0]
                    rows = connection.execute(f'SELECT rowid, "{key}" FROM "{table}"').fetchall()
                    rows = [row for row in rows if isinstance(row[1], bytes) and len(row[1]) > 40]
                    for rowid, value in source.sample(rows, min(count - done, len(rows))):
                        change = f'UPDATE "{table}" SET "{key}" = ? WHERE rowid = ?'
                        connection.execute(change, (spoiled(value, source), rowid))
                        done += 1
        return done or None

    def _damage_redis(self, count: int, source: random.Random) -> int:
        import redis

        done = 0
        with contextlib.closing(redis.Redis.from_url(self.config["url"])) as client:
            keys = sorted(client.scan_iter(f"*{self.config.get('prefix', '')}*"))
            for key in source.sample(keys, min(count, len(keys))):
                if client.type(key) == b"string":
                    value = client.get(key)
                    if isinstance(value, bytes) and len(value) > 40:
                        client.set(key, spoiled(value, source), keepttl=True)
                        done += 1
        return done

    def _damage_postgres(self, count: int, source: random.Random) -> int:
        import sqlalchemy as sa

        engine = sa.create_engine(self.config["url"])
        try:
            table = sa.Table(self.config["table_name"], sa.MetaData(), autoload_with=engine)
            keys = list(table.primary_key.columns)
            with engine.begin() as connection:
                found = connection.execute(sa.select(*keys, table.c.data)).fetchall()
                rows = [row for row in found if len(row.data) > 40]
                chosen = source.sample(rows, min(count, len(rows)))
                for row in chosen:
                    same = sa.and_(*(key == value for key, value in zip(keys, row, strict=False)))
                    change = sa.update(table).where(same)
                    connection.execute(change.values(data=spoiled(bytes(row.data), source)))
            return len(chosen)
        finally:
            engine.dispose()


def spoiled(value: bytes, source: random.Random) -> bytes:
    """With one bit changed, or cut short."""
    place = source.randrange(len(value))
    if source.random() < 0.5:
        return value[:place]
    return value[:place] + bytes([value[place] ^ 1 << source.randrange(8)]) + value[place + 1 :]


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _blobs(connection: sqlite3.Connection) -> Iterator[tuple[str, list[str]]]:
    """Tables, and their columns of type BLOB that are called data or value."""
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for table in tables:
        columns = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
        names = [row[1] for row in columns if row[1] in ("data", "value")]
        if names:
            yield table, names
