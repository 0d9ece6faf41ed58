"""The Google Cloud Datastore store (``ext:google``): one entity per (namespace, key)."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from beaker import clock as _clock
from beaker import runtime
from beaker._typing import Clock
from beaker.config.coerce import as_bool, as_count, as_int, as_seconds
from beaker.exceptions import ConfigError, ValueTooLarge
from beaker.forks import ForkAware
from beaker.storage.api import (
    Bulk,
    Change,
    Contents,
    Describing,
    Joining,
    Listing,
    Purging,
    Spanning,
    Store,
    Versioned,
    Written,
)
from beaker.storage.datastore.chunks import CHUNKS_A_MESSAGE, LONGEST_CALL
from beaker.storage.datastore.connection import BACKEND, connector, require_packages
from beaker.storage.datastore.gateway import Gateway, Refused
from beaker.storage.datastore.heads import Draft, Heads
from beaker.storage.datastore.record import CHUNK_BYTES, HEAD_MASK, Layout, Version, decode, names_size, set_wids
from beaker.storage.datastore.scan import COMMIT_ENTITIES, Scan
from beaker.storage.records import check_size

__all__ = ["DatastoreStore"]

_COMMIT_BYTES = CHUNKS_A_MESSAGE * CHUNK_BYTES
_NAMESPACE = re.compile(r"[0-9A-Za-z._-]{0,100}")


class DatastoreStore(Store, Versioned, Listing, Describing, Purging, Bulk, Spanning, Joining, ForkAware):
    """Bytes in Firestore in Datastore mode (or classic Datastore), through raw calls that need no NDB context.

    An application's NDB context, transaction and tenant namespace are neither used nor touched.

    - ``table_name``: the kind, 1 to 1,500 bytes without ``/``, not ``__like_this__``; default ``beaker_cache``.
    - ``project``, ``database``, ``datastore_namespace``: where it is; project defaults to ``GOOGLE_CLOUD_PROJECT``,
      then to the credentials' own, the others to the default ones.
    - ``client``: a ``google.cloud.datastore.Client`` or ``google.cloud.ndb.Client`` whose channel, project and
      database to use; create it after a fork, not before. Default ``None``.
    - ``emulator_host``: ``host:port``; defaults to ``DATASTORE_EMULATOR_HOST``. Ignored with ``client``.
    - ``deadline``: seconds, over 0 and at most 150, one remote call may take with its at most ``retries`` retries (0 or
      more); default 5 and 3. A read or a write up to 1 MB is one call. Connecting for the first time asks Google's
      metadata server, on its own time.
    - ``compress``: zlib level 1 for values over 1 KiB when that makes them smaller; default true.
    - ``max_value``: bytes, before compression; default 8,000,000. Up to 1,000,000 bytes fit in one entity; more go
      into chunks, written before and read after the head that names them, so that a reader gets the old or the new
      value.
    - ``index_expires``: index the end of each record, so that :meth:`purge` need not look at live ones. The
      index limits the kind to about 500 writes a second, so the default is false.
    - ``clock``: seconds since the epoch; decides what has expired.

    Every failure of the service is :class:`StoreUnavailable`. ``delete`` costs a read too (chunks). Whoever replaces a
    value over 1 MB removes the chunks of the very record it replaced. A small one blindly written over it by another
    process, and a writer that is killed, leave chunks behind until ``purge``. A write that takes over 5 minutes fails.
    Raises ConfigError for a wrong option, InvalidCacheBackendError without Google's packages.
    """

    backend = BACKEND
    trusted = False
    rough = True

    def __init__(
        self,
        *,
        table_name: str = "beaker_cache",
        project: str | None = None,
        database: str | None = None,
        datastore_namespace: str | None = None,
        client: Any = None,
        emulator_host: str | None = None,
        deadline: float = 5.0,
        retries: int = 3,
        compress: bool = True,
        max_value: int = 8_000_000,
        index_expires: bool = False,
        clock: Clock = _clock.now,
        gateway: Gateway | None = None,
    ) -> None:
        _check("table_name", _is_kind(table_name), "1 to 1500 bytes, no '/', not __like_this__", table_name)
        deadline = as_seconds("deadline", deadline)
        within = f"seconds over 0, at most {LONGEST_CALL:.0f} (also as store_timeout)"
        _check("deadline", 0 < deadline <= LONGEST_CALL, within, deadline)
        retries = as_int("retries", retries)
        _check("retries", retries >= 0, "a number, 0 or more", retries)
        max_value = as_count("max_value", max_value)
        index_expires = as_bool("index_expires", index_expires)
        partition = datastore_namespace or (getattr(client, "namespace", None) if client is not None else None) or ""
        _check("datastore_namespace", _NAMESPACE.fullmatch(partition), "at most 100 of 0-9 A-Z a-z . _ -", partition)
        if gateway is None:
            require_packages()
            here = runtime.current()
            host = emulator_host or here.emulator_host
            connect = connector(project or here.project, database, host, client)
            place = host or project or here.project or "the client's project"
            gateway = Gateway(connect, deadline=deadline, retries=retries, place=place)
        self.gateway = gateway
        self.table_name = table_name
        self.max_value: int | None = max_value
        self._limit = max_value
        self._clock = clock
        self._partition = partition
        self._index_expires = index_expires
        self._heads = Heads(gateway, self._layout, clock, limit=max_value, compressing=as_bool("compress", compress))
        self._scan = Scan(gateway, self._layout, clock, index_expires)
        self._after_fork()
        self._watch_forks()

    def _after_fork(self) -> None:
        """Forget what was built on the parent's connection."""
        self._made: Layout | None = None

    def get(self, namespace: str, key: str) -> bytes | None:
        return self._heads.look(self._layout().head_key(namespace, key), "get")[1]

    def read(self, namespace: str, key: str) -> tuple[bytes, Hashable] | None:
        record, data = self._heads.look(self._layout().head_key(namespace, key), "read")
        return None if record is None or data is None else (data, record.version)

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None:
        self._check_size(namespace, key, data, "set")
        if ttl is not None and ttl <= 0:
            self._delete([key], namespace, "set")
            return
        draft = self._heads.draft(namespace, key, data, ttl, "set")
        self._heads.overwrite(draft, self._heads.chunks.known(draft.key), "set")

    def insert(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> bool | Written:
        self._check_size(namespace, key, data, "insert")
        draft = self._heads.draft(namespace, key, data, ttl, "insert")
        if written := self._heads.publish_new(draft):
            return written
        self._heads.chunks.drop(draft.key, draft.generation, draft.parts, "insert")
        return False

    def replace(self, namespace: str, key: str, data: bytes, version: Hashable, *, ttl: float | None) -> bool | Written:
        base = _own(version)
        self._check_size(namespace, key, data, "replace")
        if not base.live(self._clock()):
            return False
        draft = self._heads.draft(namespace, key, data, ttl, "replace")
        if written := self._heads.publish_over(draft, base, "replace"):
            return written
        self._heads.chunks.drop(draft.key, draft.generation, draft.parts, "replace")
        return False

    def remove(self, namespace: str, key: str, version: Hashable) -> bool:
        base = _own(version)
        if not base.live(self._clock()):
            return False
        layout = self._layout()
        head_key = layout.head_key(namespace, key)
        try:
            self.gateway.commit_if([layout.delete(head_key)], [head_key], [base.number], "remove")
        except Refused as refused:
            # No response to a first try, and now nothing is there: it was that try that removed the record.
            if not refused.doubtful or self._heads.head(head_key, "remove") is not None:
                return False
        self._heads.chunks.drop(head_key, base.generation, base.parts, "remove")
        return True

    def delete(self, namespace: str, key: str) -> None:
        self._delete([key], namespace, "delete")

    def clear(self, namespace: str) -> None:
        self._scan.clear(namespace)

    def keys(self, namespace: str) -> Iterator[str]:
        return self._scan.keys(namespace)

    def contents(self, now: float) -> Iterator[Contents]:
        """How many records each namespace has; their sizes and ages, and which have expired, are not known.

        Queries for keys only, 500 at a time and 100,000 at most: each query counts as one read. The name of a
        namespace is read from one of its records: one more read each. Raises StoreUnavailable.
        """
        return self._scan.contents()

    def purge(
        self, now: float, limit: int, *, cursor: str | None = None, deadline: float | None = None
    ) -> tuple[int, str | None]:
        """Remove at most ``limit`` records that ended before ``now``, and chunks over 6 minutes old without a record.

        Without ``index_expires`` it walks over the kind, live records included (without their data), at most
        20 for each of ``limit`` and at least 1000 a call; with it, over the expired ones only, and orphaned
        chunks that have no end stay. ``deadline`` seconds are looked at after each page of 100. Raises
        ValueError for a ``cursor`` that no purge returned.
        """
        return self._scan.purge(now, limit, cursor, deadline)

    def get_many(self, namespace: str, keys: Iterable[str]) -> dict[str, bytes]:
        found = self._get_all(((namespace, key) for key in keys), "get_many")
        return {key: data for (_, key), data in found.items()}

    def get_across(self, names: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bytes]:
        return self._get_all(names, "get_across")

    def _get_all(self, pairs: Iterable[tuple[str, str]], operation: str) -> dict[tuple[str, str], bytes]:
        layout = self._layout()
        heads = {pair: layout.head_key(*pair) for pair in pairs}
        names = {head.path[0].name: pair for pair, head in heads.items()}
        found: dict[tuple[str, str], bytes] = {}
        for result in self.gateway.lookup(list(heads.values()), operation):
            record = decode(result)
            if not record.version.live(self._clock()):
                continue
            pair = names[result.entity.key.path[0].name]
            data = (
                self._heads.look(heads[pair], operation)[1]
                if record.version.parts
                else self._heads.open(record, record.payload)
            )
            if data is not None:
                found[pair] = data
        return found

    def set_many(self, namespace: str, items: Mapping[str, bytes], *, ttl: float | None) -> None:
        """Write all of ``items`` or as many as come before a StoreUnavailable; sizes are checked first of all."""
        for key, data in items.items():
            self._check_size(namespace, key, data, "set_many")
        if ttl is not None and ttl <= 0:
            self._delete(items, namespace, "set_many")
            return
        batch: list[Draft] = []
        size = 0
        for key, data in items.items():
            draft = self._heads.draft(namespace, key, data, ttl, "set_many")
            known = self._heads.chunks.known(draft.key)
            if draft.parts or known is not None:
                # Its chunks, or those it replaces, are a matter of this record alone.
                self._heads.overwrite(draft, known, "set_many")
                continue
            set_wids(draft.entity, draft.wid)
            if len(batch) == COMMIT_ENTITIES or size + draft.entity.ByteSize() > _COMMIT_BYTES:
                self._write_batch(batch)
                batch, size = [], 0
            batch.append(draft)
            size += draft.entity.ByteSize()
        self._write_batch(batch)

    def delete_many(self, namespace: str, keys: Iterable[str]) -> None:
        self._delete(keys, namespace, "delete_many")

    def write_together(self, changes: Sequence[Change]) -> bool | None:
        """See :class:`~beaker.storage.api.Joining`. Records with chunks, and conditional deletions, cannot be joined.

        Deletions cost a read besides, as :meth:`delete` does.
        """
        drafts: list[tuple[Draft, bool, Version | None]] = []
        gone: list[Any] = []
        size = 0
        for change in changes:
            data, base = change.data, None if change.version is None else _own(change.version)
            if data is None or (change.ttl is not None and change.ttl <= 0):
                if base is not None or change.absent:
                    return None
                gone.append(self._layout().head_key(change.namespace, change.key))
                continue
            self._check_size(change.namespace, change.key, data, "write_together")
            size += len(data)
            if size > CHUNK_BYTES // 2 or len(changes) > COMMIT_ENTITIES or (base is not None and base.parts):
                return None
            if base is not None and not base.live(self._clock()):
                return False
            draft = self._heads.draft(change.namespace, change.key, data, change.ttl, "write_together")
            if base is None and not change.absent and self._heads.chunks.known(draft.key) is not None:
                return None
            drafts.append((draft, change.absent, base))
        found = self.gateway.lookup(gone, "write_together", mask=HEAD_MASK) if gone else ()
        if any(decode(result).version.parts for result in found):
            return None
        return self._heads.publish_together(drafts, [result.entity.key for result in found], "write_together")

    def _layout(self) -> Layout:
        layout = self._made
        if layout is None:
            layout = self._made = Layout(
                self.gateway.connection(), self.table_name, self._partition, self._index_expires
            )
        return layout

    def _check_size(self, namespace: str, key: str, data: bytes, operation: str) -> None:
        check_size(data, self._limit, BACKEND, operation)
        names = names_size(namespace, key)
        if names > CHUNK_BYTES:
            raise ValueTooLarge(names, CHUNK_BYTES, backend=BACKEND, operation=operation)

    def _write_batch(self, batch: list[Draft]) -> None:
        if not batch:
            return
        layout = self._layout()
        self.gateway.commit([layout.upsert(draft.entity) for draft in batch], "set_many")

    def _delete(self, keys: Iterable[str], namespace: str, operation: str) -> None:
        layout = self._layout()
        heads = [layout.head_key(namespace, key) for key in keys]
        batch: list[tuple[Any, Version]] = []
        size = 0
        for result in self.gateway.lookup(heads, operation, mask=HEAD_MASK):
            version = decode(result).version
            if batch and size + 1 + version.parts > COMMIT_ENTITIES:
                self._heads.delete(batch, operation)
                batch, size = [], 0
            batch.append((result.entity.key, version))
            size += 1 + version.parts
        if batch:
            self._heads.delete(batch, operation)


def _own(version: Hashable) -> Version:
    if not isinstance(version, Version):
        raise TypeError(f"version must be one that this store's read returned, not {type(version).__name__}")
    return version


def _is_kind(name: object) -> bool:
    if not isinstance(name, str) or not 0 < len(name.encode("utf-8", "surrogatepass")) <= 1500:
        return False
    return "/" not in name and not (name.startswith("__") and name.endswith("__"))


def _check(option: str, good: object, expected: str, value: object) -> None:
    if not good:
        raise ConfigError(f"{option} cannot be used", option=option, expected=expected, got=type(value).__name__)
