"""What the tests of stores on servers share: children that forked, sockets that count, servers of one test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

from pymemcache.client.base import Client

from tests.servers import RedisServer, Server, free_port, missing

_FORKING = """
import os, sys
from beaker.storage.memcached import MemcachedStore
from beaker.storage.redis import RedisStore

store = {"memcached": MemcachedStore, "redis": RedisStore}[sys.argv[1]](sys.argv[2], prefix=sys.argv[3])
people = ["parent", "child1", "child2"]
for person in people:
    for number in range(20):
        store.set("people", f"{person}{number}", f"{person}{number}".encode() * 50, ttl=None)

def read_own(person):
    wrong = 0
    for turn in range(1500):
        name = f"{person}{turn % 20}"
        wrong += store.get("people", name) != name.encode() * 50
    store.set("done", person, b"1", ttl=None)
    return wrong

children = []
for person in people[1:]:
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = min(read_own(person), 60)
        finally:
            os._exit(code)
    children.append(pid)
wrong = read_own("parent")
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
print(wrong, codes, sorted(store.get_many("done", people)))
"""


def read_after_fork(kind: str, url: str, prefix: str) -> str:
    """A process that used a store forks twice; each of the three reads 1,500 of its own values."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", _FORKING, kind, url, prefix],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return run.stdout.strip() + run.stderr.strip()


@contextlib.contextmanager
def frozen(server: Server) -> Iterator[None]:
    """The server accepts connections and says nothing."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    try:
        # The signal is on its way: a thread of the server may still respond until it is stopped too.
        deadline, pause = time.monotonic() + 10, threading.Event()
        while not _stopped(server.pid) and time.monotonic() < deadline:
            pause.wait(0.005)
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def _stopped(pid: int) -> bool:
    states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()]
    return set(states) == {"T"}


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """A server of one test."""
    try:
        yield server
    finally:
        server.stop(kill=True)
        server.close()


def dead_port() -> int:
    """A port on which no server listens."""
    return free_port()


class CountingSocket(socket.socket):
    """Counts messages sent by all of its kind."""

    sent = 0

    def sendall(self, *arguments: Any) -> None:
        CountingSocket.sent += 1
        super().sendall(*arguments)


COUNTING_SOCKETS: Any = SimpleNamespace(**{**vars(socket), "socket": CountingSocket})
"""A stand-in for the module ``socket``."""


def make_certificate(directory: Path) -> tuple[str, str]:
    """A certificate for 127.0.0.1 signed by itself, and its key: two PEM files."""
    openssl = shutil.which("openssl") or missing("openssl", "apt-get install openssl")
    certificate, key = str(directory / "certificate.pem"), str(directory / "key.pem")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    # Servers drop root's rights before they read these.
    for path in (directory, certificate, key):
        os.chmod(path, 0o755)
    return certificate, key


def metadump(server: Server, prefix: str) -> list[str]:
    """What the server reports for each item whose key begins with the prefix."""
    with socket.create_connection((server.host, server.port), timeout=5) as connection:
        connection.sendall(b"lru_crawler metadump all\r\n")
        dump = b""
        while not dump.endswith(b"END\r\n"):
            dump += connection.recv(65536)
    return [line for line in unquote(dump.decode()).splitlines() if line.startswith(f"key={prefix}:")]


def names_on(server: Server, prefix: str) -> list[str]:
    """The server's keys that begin with the prefix."""
    return [line.split()[0].removeprefix("key=") for line in metadump(server, prefix)]


def start_memcached(*options: str) -> Server:
    """A memcached of one test's own, with options on its command line."""
    binary = shutil.which("memcached") or missing("memcached", "apt-get install memcached")
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    return Server("memcached", lambda port: [binary, *user, "-l", Server.host, "-p", str(port), "-U", "0", *options])


def counting_client(address: Any) -> Client:
    """A memcached connection whose messages are counted."""
    return Client(address, timeout=5, socket_module=COUNTING_SOCKETS)


def messages(work: Callable[[], object]) -> int:
    """How many messages ``work`` sends over counting sockets."""
    before = CountingSocket.sent
    work()
    return CountingSocket.sent - before


def start_redis(directory: Path, *options: str, user: str | None = None) -> RedisServer:
    """A Redis of one test's own, with options on its command line."""
    binary = shutil.which("redis-server") or missing("redis", "apt-get install redis-server")
    fixed = ["--bind", Server.host, "--save", "", "--appendonly", "no", "--dir", str(directory)]
    return RedisServer("redis", lambda port: [binary, "--port", str(port), *fixed, *options], user=user)


def start_sentinel(directory: Path, service: str, master: Server) -> Server:
    """A sentinel that watches one server under the name ``service``."""
    binary = shutil.which("redis-server") or missing("redis", "apt-get install redis-server")

    def command(port: int) -> list[str]:
        # A sentinel writes what it learns into its configuration.
        file = directory / f"sentinel-{port}.conf"
        file.write_text(f"bind {Server.host}\nport {port}\nsentinel monitor {service} {master.host} {master.port} 1\n")
        return [binary, str(file), "--sentinel"]

    return Server("redis-sentinel", command)
