"""A fresh place for records on one store, and what can be done to it from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gae import emulator
from tests.faults.proxy import Proxy, proxy_to
from tests.servers import Server

FORGETFUL = {"memory", "memcached", "redis", "hybrid on redis", "google on firestore"}
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
    def in_cookies(self) -> bool:
        """Whether sessions live in their cookies while they are small."""
        return self.kind.startswith("hybrid")

    @property
    def restartable(self) -> bool:
        return isinstance(self.server, (Server, RestartedEmulator))

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
        if self.in_cookies:
            # Some values fit into a cookie of that size, others do not.
            session |= {"type": "hybrid", "store": common["type"], "cookie_max": 1200, "revocation_check_interval": 0}
        if self.ours and self.kind == "google on firestore":
            # Firestore keeps the ledger of what has ended, which a process therefore remembers; its emulator forgets.
            session["revocation_check_interval"] = 0
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
    def restarting(self) -> Iterator[None]:
        """Until the block ends an emulator is one that can be restarted."""
        if not self.kind.startswith("google"):
            yield
            return
        shared, host = self.server, self.config["emulator_host"]
        with tempfile.TemporaryDirectory() as directory:
            self.server = RestartedEmulator(shared.kind, directory)
            try:
                self.config["emulator_host"] = self.server.host
                yield
            finally:
                self.server.stop()
                self.server, self.config["emulator_host"] = shared, host

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


class RestartedEmulator:
    """An emulator of one's own that can be ended and started again, with the interface of ``tests.servers.Server``.

    The Datastore emulator keeps its data in ``directory``, the Firestore emulator forgets.
    """

    def __init__(self, kind: emulator.Kind, directory: str) -> None:
        self.kind = kind
        self.directory = directory if kind == "datastore" else None
        self._running: emulator.Emulator | None = emulator.start(kind, data_dir=self.directory)
        self.host, self.port = self._running.host, self._running.port

    @property
    def pid(self) -> int | None:
        return self._running.pid if self._running is not None else None

    def start(self) -> None:
        if self._running is None:
            self._running = emulator.start(self.kind, port=self.port, data_dir=self.directory)

    def stop(self, *, kill: bool = False) -> None:
        """It writes its data when it is asked to end, which is why ``kill`` is not obeyed."""
        running, self._running = self._running, None
        if running is not None:
            running.stop()


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
