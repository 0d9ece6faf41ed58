"""Records on one memcached server or several, by pymemcache.

Each server keeps its own copy of a namespace's generation (:mod:`beaker.storage.generations`), beside the
records that live there: one ``get`` of two keys is a hit, and one batch of ``set`` and ``get`` is an
acknowledged write that knows whether the namespace was cleared meanwhile.
"""

from __future__ import annotations

import ssl
from collections.abc import Hashable, Iterable, Iterator, Mapping
from time import monotonic
from typing import NamedTuple

from beaker import clock as _clock
from beaker._typing import Clock
from beaker.counters import store_tally
from beaker.exceptions import ConfigError, StoreUnavailable
from beaker.forks import ForkAware
from beaker.storage.api import Bulk, Spanning, Store, Versioned
from beaker.storage.deadline import within
from beaker.storage.generations import EXPIRES, STAMP, check_prefix
from beaker.storage.memcached.addresses import Connect, Ring, expiration, parse_servers, pymemcache_connect
from beaker.storage.memcached.server import BACKEND, Server
from beaker.storage.names import namespace_name, record_name
from beaker.storage.records import check_size, expiry

__all__ = ["MemcachedStore"]

_HEADER = STAMP + EXPIRES.size
_BATCH = 500
"""Keys in one message; with many more, client and server could each wait for the other to read."""
_MESSAGE = 4_000_000
_ROUNDS = 16
"""How often an insertion starts anew because other clients write the same record at the same time."""


class _Version(NamedTuple):
    cas: bytes
    generation: bytes
    expires: float


class MemcachedStore(Store, Versioned, Bulk, Spanning, ForkAware):
    """Bytes in memcached, shared by every process and host that names the same servers; ``Versioned`` and ``Bulk``.

    - ``url``: ``host:port``, several separated by ``;`` (spread by consistent hashing), or ``unix:/path``.
    - ``timeout``: seconds a call may take in all (default 2), over 0; a bulk call, each 500 records of a server. Of
      these ``connect_timeout`` (default 1) for one connection.
    - ``tls``: true for the system's certificates, or your :class:`ssl.SSLContext`; default false. Hosts only.
    - ``pool_size``: how many idle connections are kept for each server, at least 1, default 16; more are opened when
      more threads need one at once.
    - ``max_value``: bytes of data, over 0, default 1,000,000. The server's own limit (``-I``, 1 MiB unless set) counts
      another 200 for key and headers, and a value that only the server finds too large ends the old one.
    - ``prefix``: what every key on the server begins with, 1 to 64 of ``A-Z a-z 0-9 _ . -``; default ``beaker``.
    - ``client``: replaces what opens connections: called with an address, it returns a ``pymemcache.Client``.
    - ``clock``: seconds since the epoch; decides what has expired.

    Round trips: 1 for a hit, a miss, ``set``, ``delete``, ``read``, ``replace``, ``remove`` and a successful
    ``insert``; 2 or 3 for a process's first write to a namespace, and for its first after a ``clear``. Bulk
    calls and ``clear`` take one for each server. Keys cannot be listed on memcached.

    memcached forgets: when it is full, restarted or replaced, records are absent (never wrong). A lease
    or a version kept here is only as lasting.

    Raises ``ConfigError`` for a wrong option, ``InvalidCacheBackendError`` without pymemcache, and
    ``StoreUnavailable`` naming the server for every failure. A write whose connection broke may have
    happened. Each ``set`` and read is tried twice when a kept connection turns out to be broken.
    """

    backend = BACKEND
    trusted = False
    forgets = True  # by a restart, or when it is full

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 2.0,
        connect_timeout: float = 1.0,
        tls: bool | ssl.SSLContext = False,
        pool_size: int = 16,
        max_value: int = 1_000_000,
        prefix: str = "beaker",
        clock: Clock = _clock.now,
        client: Connect | None = None,
    ) -> None:
        addresses = parse_servers(url)
        for option, number in (("timeout", timeout), ("connect_timeout", connect_timeout), ("max_value", max_value)):
            if not number > 0:
                raise ConfigError(f"{option} is not positive", option=option, expected="a number above 0")
        if pool_size < 1:
            raise ConfigError("pool_size is not positive", option="pool_size", expected="a whole number above 0")
        if tls and any(isinstance(address, str) for address in addresses):
            raise ConfigError("a Unix socket has no TLS", option="tls", hint="leave tls out or name a host")
        context = ssl.create_default_context() if tls is True else (tls or None)
        connect = pymemcache_connect(timeout, connect_timeout, context)
        self.max_value: int | None = max_value
        self._limit = max_value
        self._tally = store_tally(BACKEND)
        self._timeout = timeout
        self._clock = clock
        self._servers = [Server(address, client or connect, pool_size, timeout) for address in addresses]
        self._ring = Ring({server.name: server for server in self._servers})
        self._generation_prefix = f"{check_prefix(prefix)}:g:"
        self._record_prefix = f"{prefix}:r:"
        self._watch_forks()

    def _after_fork(self) -> None:
        # Closing a child's copies says nothing to the server; the parent goes on with its own.
        self.close()

    def close(self) -> None:
        """Close idle connections. The store stays usable."""
        for server in self._servers:
            server.close()

    # Store

    def get(self, namespace: str, key: str) -> bytes | None:
        name, server = self._locate(namespace, key)
        generation_key = self._generation_key(namespace)
        found = server.fetch("get", (generation_key, name))
        record = found.get(name)
        self._tally.read(record)
        if record is None or self._expires(record, found.get(generation_key)) is None:
            return None
        return record[_HEADER:]

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        check_size(data, self._limit, BACKEND, "set")
        if ttl is not None and ttl <= 0:
            self._delete("set", namespace, (key,))
            return
        name, server = self._locate(namespace, key)
        self._store("set", server, self._generation_key(namespace), [(name, data)], ttl)

    def delete(self, namespace: str, key: str) -> None:
        self._delete("delete", namespace, (key,))

    def clear(self, namespace: str) -> None:
        generation_key = self._generation_key(namespace)
        failure: StoreUnavailable | None = None
        for server in self._servers:
            try:
                server.write("clear", (b"delete %b\r\n" % generation_key,), generation_key)
            except StoreUnavailable as err:
                failure = failure or err
        if failure is not None:
            raise failure
        self._tally.deleted()

    # Bulk

    def get_many(self, namespace: str, keys: Iterable[str]) -> dict[str, bytes]:
        generation_key = self._generation_key(namespace)
        values: dict[str, bytes] = {}
        for server, names in self._by_server(namespace, keys):
            for start in range(0, len(names), _BATCH):
                part = names[start : start + _BATCH]
                found = server.fetch("get_many", (generation_key, *(name for _, name in part)))
                generation = found.pop(generation_key, None)
                self._tally.read_many(len(part), sum(map(len, found.values())))
                for key, name in part:
                    record = found.get(name)
                    if record is not None and self._expires(record, generation) is not None:
                        values[key] = record[_HEADER:]
        return values

    def get_across(self, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        groups: dict[Server, list[tuple[tuple[str, str], bytes, bytes]]] = {}
        for pair in names:
            name, server = self._locate(*pair)
            groups.setdefault(server, []).append((pair, name, self._generation_key(pair[0])))
        values: dict[tuple[str, str], bytes] = {}
        for server, places in groups.items():
            for start in range(0, len(places), _BATCH):
                part = places[start : start + _BATCH]
                generations = {generation: None for _, _, generation in part}
                found = server.fetch("get_across", (*generations, *(name for _, name, _ in part)))
                alive = {key: found.pop(key, None) for key in generations}
                self._tally.read_many(len(part), sum(map(len, found.values())))
                for pair, name, generation in part:
                    record = found.get(name)
                    if record is not None and self._expires(record, alive[generation]) is not None:
                        values[pair] = record[_HEADER:]
        return values

    def set_many(self, namespace: str, items: Mapping[str, bytes], *, ttl: float | None) -> None:
        for data in items.values():
            check_size(data, self._limit, BACKEND, "set_many")
        if ttl is not None and ttl <= 0:
            self._delete("set_many", namespace, items)
            return
        generation_key = self._generation_key(namespace)
        for server, names in self._by_server(namespace, items):
            for part in _parts([(name, items[key]) for key, name in names]):
                self._store("set_many", server, generation_key, part, ttl)

    def delete_many(self, namespace: str, keys: Iterable[str]) -> None:
        self._delete("delete_many", namespace, keys)

    def _delete(self, operation: str, namespace: str, keys: Iterable[str]) -> None:
        generation_key = self._generation_key(namespace)
        for server, names in self._by_server(namespace, keys):
            for start in range(0, len(names), _BATCH):
                part = names[start : start + _BATCH]
                server.write(operation, [b"delete %b\r\n" % name for _, name in part], generation_key)
                self._tally.deleted(len(part))

    # Versioned

    def read(self, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        found = self._read("read", *self._locate(namespace, key), self._generation_key(namespace))[0]
        return None if found is None else (found[0][_HEADER:], found[1])

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> bool:
        check_size(data, self._limit, BACKEND, "insert")
        with within(self._timeout):
            return self._tally.tried(self._insert(namespace, key, data, ttl), len(data))

    def _insert(self, namespace: str, key: str, data: bytes, ttl: float | None) -> bool:
        name, server = self._locate(namespace, key)
        generation_key = self._generation_key(namespace)
        if ttl is not None and ttl <= 0:
            return self._read("insert", name, server, generation_key)[0] is None
        generation = server.known_generation(generation_key) or server.learn("insert", generation_key, None)
        cas: bytes | None = None
        for _ in range(_ROUNDS):
            command = self._command(b"add" if cas is None else b"cas", name, generation, data, ttl, cas)
            lines, current = server.write(
                "insert", (command,), generation_key, repeatable=False, size=len(data), limit=self._limit
            )
            if current == generation and lines[0] == b"STORED":
                return True
            generation = server.learn("insert", generation_key, current)
            # In the way is a live record, an expired or cleared one, or ours under a generation that is gone.
            live, cas = self._read("insert", name, server, generation_key)
            if live is not None:
                return False
        raise StoreUnavailable(
            f"{server.name}: {_ROUNDS} attempts collided with other writers", backend=BACKEND, operation="insert"
        )

    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> bool:
        check_size(data, self._limit, BACKEND, "replace")
        if ttl is not None and ttl <= 0:
            return self._swap("replace", namespace, key, None, version, None)
        return self._swap("replace", namespace, key, data, version, ttl)

    def remove(self, namespace: str, key: str, version: Hashable) -> bool:
        return self._swap("remove", namespace, key, None, version, None)

    def _swap(
        self, operation: str, namespace: str, key: str, data: bytes | None, version: Hashable, ttl: float | None
    ) -> bool:
        if not isinstance(version, _Version) or version.expires <= self._clock():
            self._tally.refuse()
            return False
        name, server = self._locate(namespace, key)
        generation_key = self._generation_key(namespace)
        if data is None:
            # `delete` cannot be made conditional in the text protocol; a record that expires at once can.
            command = b"cas %b 0 -1 0 %b\r\n\r\n" % (name, version.cas)
        else:
            command = self._command(b"cas", name, version.generation, data, ttl, version.cas)
        size = 0 if data is None else len(data)
        lines, current = server.write(
            operation, (command,), generation_key, repeatable=False, size=size, limit=self._limit
        )
        done = lines[0] == b"STORED" and current == version.generation
        return self._tally.removed(done) if data is None else self._tally.tried(done, size)

    # Names and records

    def _generation_key(self, namespace: str) -> bytes:
        return (self._generation_prefix + namespace_name(namespace)).encode()

    def _locate(self, namespace: str, key: str) -> tuple[bytes, Server]:
        name = record_name(namespace, key)
        return (self._record_prefix + name).encode(), self._ring.owner(name)

    def _by_server(self, namespace: str, keys: Iterable[str]) -> list[tuple[Server, list[tuple[str, bytes]]]]:
        groups: dict[Server, list[tuple[str, bytes]]] = {}
        for key in keys:
            name, server = self._locate(namespace, key)
            groups.setdefault(server, []).append((key, name))
        return list(groups.items())

    def _expires(self, record: bytes, generation: bytes | None) -> float | None:
        """When a live record ends; ``None`` for one that is cleared, expired or not ours."""
        if len(record) < _HEADER or record[:STAMP] != generation:
            return None
        expires: float = EXPIRES.unpack_from(record, STAMP)[0]
        return expires if expires > self._clock() else None

    def _command(
        self, verb: bytes, name: bytes, generation: bytes, data: bytes, ttl: float | None, cas: bytes | None = None
    ) -> bytes:
        header = generation + EXPIRES.pack(expiry(self._clock(), ttl))
        suffix = b"" if cas is None else b" " + cas
        size = len(header) + len(data)
        return b"%b %b 0 %d %d%b\r\n%b%b\r\n" % (verb, name, expiration(ttl), size, suffix, header, data)

    # Talking

    def _read(
        self, operation: str, name: bytes, server: Server, generation_key: bytes
    ) -> tuple[tuple[bytes, _Version] | None, bytes | None]:
        """The live record with its version, and the cas of whatever is under the name."""
        found = server.fetch_versions(operation, (generation_key, name))
        self._tally.read(found[name][0] if name in found else None)
        if name not in found:
            return None, None
        record, cas = found[name]
        generation = found.get(generation_key, (b"", b""))[0]
        expires = self._expires(record, generation)
        return (None if expires is None else (record, _Version(cas, generation, expires))), cas

    def _store(
        self,
        operation: str,
        server: Server,
        generation_key: bytes,
        part: list[tuple[bytes, bytes]],
        ttl: float | None,
    ) -> None:
        begun, current = monotonic(), None
        guess = server.known_generation(generation_key)
        if guess is not None:
            current = self._write(operation, server, generation_key, guess, part, ttl)
            if current == guess:
                return
        with within(max(0.0, self._timeout - (monotonic() - begun))):
            # In force during this call, so that a clear which moves it on meanwhile comes after this write.
            generation = server.learn(operation, generation_key, current)
            self._write(operation, server, generation_key, generation, part, ttl)

    def _write(
        self,
        operation: str,
        server: Server,
        generation_key: bytes,
        generation: bytes,
        part: list[tuple[bytes, bytes]],
        ttl: float | None,
    ) -> bytes | None:
        """Write ``part`` under ``generation``; returns the one in force then."""
        sizes = [len(data) for _, data in part]
        commands = [self._command(b"set", name, generation, data, ttl) for name, data in part]
        lines, current = server.write(operation, commands, generation_key, size=max(sizes), limit=self._limit)
        if lines.count(b"STORED") != len(lines):
            raise StoreUnavailable(f"{server.name} did not store a record", backend=BACKEND, operation=operation)
        self._tally.wrote(sum(sizes), len(part))
        return current


def _parts(items: list[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """Cut so that one message has at most 500 records and not much over 4 MB."""
    part: list[tuple[bytes, bytes]] = []
    size = 0
    for item in items:
        part.append(item)
        size += len(item[1])
        if len(part) == _BATCH or size > _MESSAGE:
            yield part
            part, size = [], 0
    if part:
        yield part
