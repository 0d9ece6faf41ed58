"""Records on Redis or Valkey: one server, a set watched by sentinels, or a cluster; by redis-py."""

from __future__ import annotations

# over 320 lines because one server and a cluster share every operation, which is a few lines each
import contextlib
import math
import os
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from operator import methodcaller
from typing import Any

from beaker import clock as _clock
from beaker._typing import Clock
from beaker.counters import store_tally
from beaker.exceptions import ConfigError, StoreRefused, StoreUnavailable
from beaker.forks import ForkAware, notice_patch
from beaker.keys import encode_text
from beaker.storage.api import Bulk, Contents, Describing, Listing, Spanning, Store, Versioned, Written
from beaker.storage.breaker import Breaker
from beaker.storage.deadline import within
from beaker.storage.generations import EXPIRES, STAMP, check_prefix, new_stamp
from beaker.storage.names import record_name
from beaker.storage.records import check_size, expiry
from beaker.storage.redis import contents, scripts
from beaker.storage.redis.client import BACKEND, connect, faults, kind_of, parse_url, reason
from beaker.storage.redis.line import NONSENSE, Lines
from beaker.storage.redis.replies import checked, is_list, is_number, is_page, mget, records
from beaker.storage.redis.scripts import Shard, shard_of

__all__ = ["RedisStore"]

_VERSION = 16
_SHARDS = 64
"""Parts of a namespace in a cluster, each on one slot: many enough to use every node, few to clear."""
_BATCH = 500
_MESSAGE = 4_000_000
_Attempt = Callable[[Callable[[Any], Any], bool], Any]
_BURIALS = 20
"""Batches of old records one clear gives back; later writes give back the rest."""


class RedisStore(Store, Versioned, Listing, Describing, Bulk, Spanning, ForkAware):
    """Bytes in Redis, shared by every process and host that names the same database and prefix; all but ``Purging``.

    - ``url``: ``redis://[user:password@]host[:port][/db]``, ``rediss://`` (TLS; ``?ssl_ca_certs=…`` and the like),
      ``unix:///path``, ``redis+sentinel://host:port,host:port/service[/db]`` (the login is Redis's;
      ``?sentinel_password=…``), ``redis+cluster://host:port,host:port``; with ``rediss+`` over TLS.
    - ``timeout``: seconds a call may take in all (default 2), over 0; a bulk call, each 500 records. Of these
      ``connect_timeout`` (default 1) for one connection.
    - ``max_value``: bytes of a value at most, over 0, default 64 MiB; Redis itself takes 512 MiB.
    - ``prefix``: what every key on the server begins with, 1 to 64 of ``A-Z a-z 0-9 _ . -``; default ``beaker``.
    - ``client``: your ``redis.Redis`` or ``RedisCluster`` (bytes, not decoded text) instead of a url; what it repeats
      and how long it waits is then up to it. Default ``None``.
    - ``clock``: seconds since the epoch; decides what has expired, beside Redis itself.

    Round trips: 1 for every operation on one record, 1 for each 500 records in bulk (in a cluster for each
    of 64 shards touched). ``clear`` empties the namespace at once for every client by one script (64 in a
    cluster), then frees up to 10,000 records; later writes free the rest, 500 at a time. Lua runs where a
    step must be atomic. Records with a ttl are expired by Redis too.

    A replica that was promoted may lack the last writes (Redis replicates asynchronously).

    Raises ``ConfigError`` for a wrong option, ``InvalidCacheBackendError`` without redis-py, and
    ``StoreUnavailable`` naming the server for every failure. A conditional write whose connection broke may
    have happened; reads, ``set`` and ``delete`` are tried twice when a connection turns out to be broken, and
    every call when it leads to a server that has become a replica.
    """

    backend = BACKEND
    trusted = False
    rough = True
    forgets = True  # by a restart, or where it evicts

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 2.0,
        connect_timeout: float = 1.0,
        max_value: int = 64 * 2**20,
        prefix: str = "beaker",
        clock: Clock = _clock.now,
        client: Any = None,
    ) -> None:
        for option, number in (("timeout", timeout), ("connect_timeout", connect_timeout), ("max_value", max_value)):
            if not number > 0:
                raise ConfigError(f"{option} is not positive", option=option, expected="a number above 0")
        self.max_value: int | None = max_value
        self._tally = store_tally(BACKEND)
        self._prefix = check_prefix(prefix)
        self._clock = clock
        self._timeouts = (timeout, connect_timeout)
        self._place = parse_url(url) if client is None else None
        self._address = self._place.address if self._place else "the given client's server"
        self._faults = faults()
        if client is not None and client.get_encoder().decode_responses:
            raise ConfigError("client decodes responses to text", option="client", hint="leave decode_responses out")
        clustered = self._place.kind == "cluster" if self._place else hasattr(client, "nodes_manager")
        self._shard_count = _SHARDS if clustered else 1
        self._breaker = Breaker(BACKEND, self._address)
        # redis-py's own pools notice a fork; a client of the caller's is not ours to replace.
        self._given = client
        self._client: Any = client
        # Elsewhere the client has to find the server for each command, or to follow it.
        self._has_lines = self._place is not None and self._place.kind in ("server", "unix")
        self._lines: Lines | None = None
        self._after_fork()
        self._watch_forks()

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._client = self._given
        self._lines = None

    def _renew_locks(self) -> None:
        # Of the client's pool too: the next call builds another.
        self._lock = threading.Lock()
        self.close()

    def close(self) -> None:
        """Close idle connections, unless the client was given. The store stays usable."""
        with self._lock:
            client, self._client = self._client, self._given
            lines, self._lines = self._lines, None
        if client is not None and client is not self._given:
            client.close()
        if lines is not None:
            lines.close()

    # Store

    def get(self, namespace: str, key: str) -> bytes | None:
        name, shard = self._locate(namespace, key)
        generation, record = self._ask("get", mget(shard.generation, name))
        self._tally.read(record)
        return record[scripts.HEADER :] if record is not None and self._live(record, generation) else None

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        check_size(data, self.max_value, BACKEND, "set")
        if ttl is not None and ttl <= 0:
            self._delete("set", namespace, (key,))
            return
        name, shard = self._locate(namespace, key)
        self._write("set", namespace, shard, [(key, name, data)], ttl)

    def delete(self, namespace: str, key: str) -> None:
        self._delete("delete", namespace, (key,))

    def clear(self, namespace: str) -> None:
        for number in range(self._shard_count):
            shard = self._shard(namespace, number)
            grave = new_stamp().decode()
            keys = (shard.generation, shard.index, shard.graves, shard.grave(grave))
            if self._script("clear", scripts.CLEAR, keys, (grave,)):
                self._bury(namespace, shard, _BURIALS)
        self._tally.deleted()

    # Bulk

    def get_many(self, namespace: str, keys: Iterable[str]) -> dict[str, bytes]:
        found = self._get_all([(namespace, key) for key in keys], "get_many")
        return {key: data for (_, key), data in found.items()}

    def get_across(self, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        return self._get_all(names, "get_across")

    def _get_all(self, pairs: Iterable[tuple[str, str]], operation: str) -> dict[tuple[str, str], bytes]:
        # In a cluster a command reaches one shard; elsewhere it takes them all.
        groups: dict[Shard | None, list[tuple[tuple[str, str], str, Shard]]] = {}
        for pair in pairs:
            name, shard = self._locate(*pair)
            groups.setdefault(shard if self._shard_count > 1 else None, []).append((pair, name, shard))
        values: dict[tuple[str, str], bytes] = {}
        for places in groups.values():
            for start in range(0, len(places), _BATCH):
                part = places[start : start + _BATCH]
                generations = list({shard.generation: None for _, _, shard in part})
                found = self._ask(operation, mget(*generations, *(name for _, name, _ in part)))
                alive, records = dict(zip(generations, found, strict=False)), found[len(generations) :]
                self._tally.read_many(len(part), sum(len(record) for record in records if record is not None))
                for (pair, _, shard), record in zip(part, records, strict=True):
                    if record is not None and self._live(record, alive[shard.generation]):
                        values[pair] = record[scripts.HEADER :]
        return values

    def set_many(self, namespace: str, items: Mapping[str, bytes], *, ttl: float | None) -> None:
        for data in items.values():
            check_size(data, self.max_value, BACKEND, "set_many")
        if ttl is not None and ttl <= 0:
            self._delete("set_many", namespace, items)
            return
        for shard, names in self._by_shard(namespace, items):
            part: list[tuple[str, str, bytes]] = []
            size = 0
            for number, (key, name) in enumerate(names, 1):
                part.append((key, name, items[key]))
                size += len(items[key])
                if len(part) == _BATCH or size > _MESSAGE or number == len(names):
                    self._write("set_many", namespace, shard, part, ttl)
                    part, size = [], 0

    def delete_many(self, namespace: str, keys: Iterable[str]) -> None:
        self._delete("delete_many", namespace, keys)

    def _delete(self, operation: str, namespace: str, keys: Iterable[str]) -> None:
        for shard, names in self._by_shard(namespace, keys):
            for start in range(0, len(names), _BATCH):
                part = names[start : start + _BATCH]
                members = [encode_text(key) for key, _ in part]
                self._script(operation, scripts.DELETE, (shard.index, *(name for _, name in part)), members)
                self._tally.deleted(len(part))

    # Versioned

    def read(self, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        return self._read("read", namespace, key)

    def _read(self, operation: str, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        name, shard = self._locate(namespace, key)
        generation, record = self._ask(operation, mget(shard.generation, name))
        self._tally.read(record)
        if record is None or not self._live(record, generation):
            return None
        return record[scripts.HEADER :], record[STAMP : STAMP + _VERSION]

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> bool | Written:
        check_size(data, self.max_value, BACKEND, "insert")
        if ttl is not None and ttl <= 0:
            return self._read("insert", namespace, key) is None
        name, shard = self._locate(namespace, key)
        return self._write("insert", namespace, shard, [(key, name, data)], ttl, mode="add")

    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> bool | Written:
        check_size(data, self.max_value, BACKEND, "replace")
        if ttl is not None and ttl <= 0:
            return self._remove("replace", namespace, key, version)
        name, shard = self._locate(namespace, key)
        return self._write("replace", namespace, shard, [(key, name, data)], ttl, mode="swap", version=version)

    def remove(self, namespace: str, key: str, version: Hashable) -> bool:
        return self._remove("remove", namespace, key, version)

    def _remove(self, operation: str, namespace: str, key: str, version: Hashable) -> bool:
        name, shard = self._locate(namespace, key)
        return bool(self._write(operation, namespace, shard, [(key, name, b"")], None, mode="remove", version=version))

    # Listing

    def keys(self, namespace: str) -> Iterator[str]:
        for number in range(self._shard_count):
            shard = self._shard(namespace, number)
            seen: set[bytes] = set()
            cursor = -1
            while cursor:
                cursor, found = self._scan(shard, max(cursor, 0))
                # A scan may name an element twice while the set is being rehashed.
                fresh = [member for member, _ in found if member not in seen]
                seen.update(fresh)
                yield from self._only_live(namespace, shard, fresh)

    def _scan(self, shard: Shard, cursor: int) -> tuple[int, list[tuple[bytes, float]]]:
        found: tuple[int, list[tuple[bytes, float]]]
        found = self._run("keys", checked(methodcaller("zscan", shard.index, cursor=cursor, count=_BATCH), is_page))
        return found

    def _only_live(self, namespace: str, shard: Shard, members: Sequence[bytes]) -> Iterator[str]:
        for start in range(0, len(members), _BATCH):
            keys = [member.decode("utf-8", "surrogatepass") for member in members[start : start + _BATCH]]
            names = [self._locate(namespace, key)[0] for key in keys]
            generation, *heads = self._script(
                "keys", scripts.HEADS, (shard.generation, *names), (), fits=records(1 + len(names))
            )
            yield from (key for key, head in zip(keys, heads, strict=True) if head and self._live(head, generation))

    def contents(self, now: float) -> Iterator[Contents]:
        """How many records each namespace has, named by its digest; sizes and ages are not known.

        SCAN goes over the whole database, keys of other programs included, up to two million; then two counts for each
        namespace (128 in a cluster). Raises StoreUnavailable.
        """
        return contents.contents(self._run, self._prefix, now, clustered=self._shard_count > 1)

    def eviction_policy(self) -> str | None:
        """The server's ``maxmemory-policy`` where it evicts, ``""`` where it does not, ``None`` if it does not say.

        Asks ``INFO memory``, of every node in a cluster; raises StoreUnavailable.
        """
        nodes = self._info("memory")
        if any("maxmemory" not in node or "maxmemory_policy" not in node for node in nodes):
            return None
        policies = {str(node["maxmemory_policy"]) for node in nodes if str(node["maxmemory"]) != "0"} - {"noeviction"}
        return min(policies, default="")

    def keeps_snapshots_only(self) -> bool | None:
        """Whether a crash sets the server back to its last snapshot; ``None`` if it does not say.

        Asks ``INFO persistence`` and ``CONFIG GET save``, of any node of a cluster; raises StoreUnavailable.
        """
        if any(str(node.get("aof_enabled")) == "1" for node in self._info("persistence")):
            return False
        try:
            told: dict[str, Any] = self._run(
                "info", checked(methodcaller("config_get", "save"), lambda told: isinstance(told, dict))
            )
        except StoreRefused:
            return None
        return bool(told["save"]) if "save" in told else None

    def _info(self, section: str) -> list[dict[str, Any]]:
        """What ``INFO`` says, of every node that was asked."""
        found: dict[str, Any] = self._run(
            "info", checked(methodcaller("info", section), lambda told: isinstance(told, dict))
        )
        return list(found.values()) if found and all(isinstance(node, dict) for node in found.values()) else [found]

    # Names and records

    def _shard(self, namespace: str, number: int) -> Shard:
        return shard_of(self._prefix, namespace, f".{number:02x}" if self._shard_count > 1 else "")

    def _locate(self, namespace: str, key: str) -> tuple[str, Shard]:
        name = record_name(namespace, key)
        shard = self._shard(namespace, int(name[:8], 16) % self._shard_count)
        return f"{shard.base}:r:{name}", shard

    def _by_shard(self, namespace: str, keys: Iterable[str]) -> list[tuple[Shard, list[tuple[str, str]]]]:
        groups: dict[Shard, list[tuple[str, str]]] = {}
        for key in keys:
            name, shard = self._locate(namespace, key)
            groups.setdefault(shard, []).append((key, name))
        return list(groups.items())

    def _live(self, record: bytes, generation: bytes | None) -> bool:
        if len(record) < scripts.HEADER or record[:STAMP] != generation:
            return False
        expires: float = EXPIRES.unpack_from(record, STAMP + _VERSION)[0]
        return expires > self._clock()

    # Talking

    def _write(
        self,
        operation: str,
        namespace: str,
        shard: Shard,
        part: Sequence[tuple[str, str, bytes]],
        ttl: float | None,
        *,
        mode: str = "set",
        version: Hashable = b"",
    ) -> bool | Written:
        if not isinstance(version, bytes):
            self._tally.refuse()
            return False
        with within(self._timeouts[0]):
            return self._write_within(operation, namespace, shard, part, ttl, mode, version)

    def _write_within(
        self,
        operation: str,
        namespace: str,
        shard: Shard,
        part: Sequence[tuple[str, str, bytes]],
        ttl: float | None,
        mode: str,
        version: bytes,
    ) -> bool | Written:
        """Returns the version of the last of ``part``; ``False``: refused."""
        now = self._clock()
        ends = EXPIRES.pack(expiry(now, ttl))
        milliseconds = "" if ttl is None or ttl > 1e10 else str(math.ceil(ttl * 1000))
        grave = new_stamp().decode()
        keys = [shard.generation, shard.index, shard.graves, shard.grave(grave)]
        arguments: list[str | bytes] = [mode, repr(now), version, grave, milliseconds]
        size, new = 0, b""
        for key, name, data in part:
            size += len(data)
            keys.append(name)
            new = os.urandom(_VERSION)
            arguments += [encode_text(key), new + ends + data]
        result = self._script(operation, scripts.WRITE, keys, arguments, repeatable=mode == "set")
        if not result:
            self._tally.refuse(len(part))
        elif mode == "remove":
            self._tally.deleted(len(part))
        else:
            self._tally.wrote(size, len(part))
        if result == 2:
            # The write is done whatever becomes of this; graves wait for the next writer.
            with contextlib.suppress(StoreUnavailable):
                self._bury(namespace, shard, 1)
        return Written(new) if result else False

    def _bury(self, namespace: str, shard: Shard, batches: int) -> None:
        for _ in range(batches):
            found: bytes | None = self._run(
                "clear", checked(methodcaller("lindex", shard.graves, 0), lambda name: records(1)([name]))
            )
            if found is None:
                return
            grave = shard.grave(found.decode())
            members: list[bytes] = self._run("clear", checked(methodcaller("zrange", grave, 0, _BATCH - 1), is_list))
            names = [self._locate(namespace, member.decode("utf-8", "surrogatepass"))[0] for member in members]
            keys = (shard.generation, shard.graves, grave, *names)
            if not self._script("clear", scripts.BURY, keys, (found, *members)):
                return

    def _script(
        self,
        operation: str,
        source: str,
        keys: Sequence[str],
        arguments: Sequence[str | bytes],
        *,
        repeatable: bool = True,
        fits: Callable[[Any], bool] = is_number,
    ) -> Any:
        sha = scripts.sha(source)

        def work(client: Any) -> Any:
            try:
                return client.evalsha(sha, len(keys), *keys, *arguments)
            except self._faults.no_script:
                return client.eval(source, len(keys), *keys, *arguments)

        return self._ask(operation, checked(work, fits), repeatable=repeatable)

    def _ask(self, operation: str, work: Callable[[Any], Any], *, repeatable: bool = True) -> Any:
        """The result of ``work``, which uses no commands but those of a line."""
        attempt = self._attempt_on_a_line if self._has_lines else self._attempt
        return self._run(operation, work, repeatable=repeatable, attempt=attempt)

    def _run(
        self, operation: str, work: Callable[[Any], Any], *, repeatable: bool = True, attempt: _Attempt | None = None
    ) -> Any:
        notice_patch()
        attempt = attempt or self._attempt
        with within(self._timeouts[0]) as deadline, self._breaker(operation):
            try:
                return attempt(work, repeatable)
            except self._faults.every as err:
                again = self._faults.broken if repeatable else ()
                if not isinstance(err, (*again, *self._faults.demoted)) or deadline.left() <= 0:
                    raise self._unavailable(operation, err) from err
            try:
                return attempt(work, repeatable)
            except self._faults.every as err:
                raise self._unavailable(operation, err) from err

    def _attempt_on_a_line(self, work: Callable[[Any], Any], repeatable: bool) -> Any:
        lines = self._lines
        if lines is None:
            client = self._connected()
            with self._lock:
                lines = self._lines = self._lines or Lines(client, self._faults)
        return lines.run(work, repeatable=repeatable)

    def _attempt(self, work: Callable[[Any], Any], repeatable: bool) -> Any:
        client = self._client or self._connected()
        try:
            return work(client)
        except self._faults.own:
            raise
        except BaseException as err:
            # Raised at any line inside redis-py, whose pool may count a connection that is lost: it is not used again.
            with self._lock:
                if self._client is client:
                    self._client = self._given
            if isinstance(err, NONSENSE):
                raise self._faults.nonsense(type(err).__name__) from err
            raise

    def _unavailable(self, operation: str, err: BaseException) -> StoreUnavailable:
        return kind_of(err)(f"{self._address} {reason(err)}", backend=BACKEND, operation=operation)

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None and self._place is not None:
                self._client = connect(self._place, *self._timeouts)
            return self._client
