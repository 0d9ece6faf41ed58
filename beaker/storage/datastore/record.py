"""How a record looks in Datastore: names, properties, compression, chunks. Pure functions, no I/O.

One entity (the *head*) for each (namespace, key), of the kind given by ``table_name``, nothing indexed:

============== ========= ==============================================================================
``ns, name``   text      the namespace and the key as the caller spelt them
``data``       blob      the bytes, or nothing when they are in chunks
``encoding``   integer   1: ``data`` (or the joined chunks) is zlib-compressed; absent: it is not
``created``    timestamp when it was written
``expires``    timestamp when it ends; absent: never. Fit for a TTL policy
``wid``        blob      random ids of the last 8 writes, 8 bytes each, newest first
``generation`` text      which set of chunks belongs to this head; absent without chunks
``parts``      integer   how many chunks; absent without chunks
============== ========= ==============================================================================

A *chunk* is a child entity of its head, of the same kind, named ``<generation>-<number>``, with ``data``,
``created`` and ``expires``. Writing new chunks never touches those the present head points to, so the
one write of the head switches from the old bytes to the new.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from beaker.storage.datastore.connection import Connection

__all__ = ["CHUNK_BYTES", "HEAD_MASK", "Layout", "Record", "Version", "compress", "decode", "decompress"]

CHUNK_BYTES = 1_000_000
"""Bytes of one chunk, and of ``data`` in a head: an entity holds 1,048,572 bytes with names and overhead."""
NAME_BYTES = 40_000
"""Namespace and key up to this many bytes fit beside a full ``data``; longer ones leave less room for it."""
HEAD_MASK = ("expires", "generation", "parts", "wid")
"""The properties that say everything about a head but its bytes."""
ZLIB = 1
_WORTH_COMPRESSING = 1024
_SAMPLE = 16_384
_WID_BYTES = 8
_KEPT_WIDS = 8
# The end of year 9999: the last instant a Datastore timestamp can hold.
_LAST_SECOND = 253_402_300_799.0


class Version(NamedTuple):
    """What a conditional write needs to know of the record it was based on."""

    number: int
    generation: str
    parts: int
    wids: bytes
    expires: float | None

    def live(self, now: float) -> bool:
        """Whether the record has not expired at ``now``."""
        return self.expires is None or self.expires > now


class Record(NamedTuple):
    """A head as read. ``payload`` is what is stored: perhaps compressed, empty when in chunks."""

    version: Version
    payload: bytes
    encoding: int

    def __repr__(self) -> str:
        return f"<Record of {len(self.payload)} bytes>"


def decode(result: Any) -> Record:
    """The Record of an EntityResult, also of one that was asked for with a mask or written by NDB."""
    properties = result.entity.properties
    version = Version(
        result.version,
        properties["generation"].string_value if "generation" in properties else "",
        properties["parts"].integer_value if "parts" in properties else 0,
        properties["wid"].blob_value if "wid" in properties else b"",
        expiry_in(properties),
    )
    payload = properties["data"].blob_value if "data" in properties else b""
    encoding = properties["encoding"].integer_value if "encoding" in properties else 0
    return Record(version, payload, encoding)


def original(entity: Any, name: str) -> str:
    """The text property ``name`` (``ns`` or ``name``) as the caller spelt it."""
    value = entity.properties[name]
    if value.HasField("blob_value"):
        return str(value.blob_value, "utf-8", "surrogatepass")
    text: str = value.string_value
    return text


def new_wid() -> bytes:
    """A random id for one write: how a writer that got no response finds out whether it wrote."""
    return secrets.token_bytes(_WID_BYTES)


def expiry_in(properties: Any) -> float | None:
    """When the head with these properties ends, in seconds since the epoch; ``None``: never."""
    # NDB writes None as a null value instead of leaving the property away.
    if "expires" not in properties or not properties["expires"].HasField("timestamp_value"):
        return None
    stamp = properties["expires"].timestamp_value
    return float(stamp.seconds + stamp.nanos / 1e9)


def wids_after(wid: bytes, earlier: bytes) -> bytes:
    """The write ids of a record after ``wid`` wrote over a record that had ``earlier``."""
    return (wid + earlier)[: _WID_BYTES * _KEPT_WIDS]


def has_wid(wids: bytes, wid: bytes) -> bool:
    """Whether ``wid`` is one of the last writes."""
    return any(wids[start : start + _WID_BYTES] == wid for start in range(0, len(wids), _WID_BYTES))


def new_generation(now: float) -> str:
    """A name for a set of chunks: the time in milliseconds, then 64 random bits, in hex."""
    return f"{max(int(now * 1000), 0):012x}{secrets.token_hex(8)}"


def generation_of(chunk_name: str) -> str:
    """The generation a chunk belongs to."""
    return chunk_name.rpartition("-")[0]


def generation_time(generation: str) -> float:
    """When the generation was named (seconds since the epoch); 0 when the name is not one of Beaker's."""
    try:
        return int(generation[:12], 16) / 1000
    except ValueError:
        return 0.0


def compress(data: bytes) -> tuple[int, bytes]:
    """``(encoding, payload)``: compressed when that is smaller."""
    if len(data) < _WORTH_COMPRESSING:
        return 0, data
    # Random or encrypted bytes cost 20 ms a megabyte only to find that they do not shrink.
    if len(data) > 4 * _SAMPLE and len(zlib.compress(data[:_SAMPLE], 1)) > 0.95 * _SAMPLE:
        return 0, data
    smaller = zlib.compress(data, 1)
    return (ZLIB, smaller) if len(smaller) < len(data) else (0, data)


def decompress(encoding: int, payload: bytes, limit: int) -> bytes | None:
    """The original bytes; ``None`` when they are damaged, in an unknown encoding or over ``limit`` bytes."""
    if encoding == 0:
        return payload
    if encoding != ZLIB:
        return None
    machine = zlib.decompressobj()
    try:
        # One more than the limit: at the limit exactly, zlib would stop before it has seen the checksum.
        data = machine.decompress(payload, limit + 1)
    except zlib.error:
        return None
    return data if machine.eof and len(data) <= limit else None


class Layout:
    """Creates keys, entities and mutations of one kind on one connection."""

    def __init__(self, connection: Connection, kind: str, partition: str, index_expires: bool) -> None:
        self._connection = connection
        self._kind = kind
        self._partition = partition
        self._index_expires = index_expires

    @staticmethod
    def prefix(namespace: str) -> str:
        """What the names of all heads of a namespace start with, before the colon: 128 bits of its SHA-256."""
        return hashlib.sha256(_encoded(namespace)).hexdigest()[:32]

    def head_key(self, namespace: str, key: str) -> Any:
        """The entity key of the head: ``<namespace digest>:<key digest>`` fits every name into 97 bytes."""
        return self.key(f"{self.prefix(namespace)}:{hashlib.sha256(_encoded(key)).hexdigest()}")

    def key(self, name: str) -> Any:
        key = self._connection.key()
        partition = key.partition_id
        partition.project_id = self._connection.project
        if self._connection.database:
            partition.database_id = self._connection.database
        if self._partition:
            partition.namespace_id = self._partition
        key.path.add(kind=self._kind, name=name)
        return key

    def chunk_keys(self, head_key: Any, generation: str, parts: int) -> list[Any]:
        keys = []
        for number in range(parts):
            key = self._connection.key()
            key.CopyFrom(head_key)
            key.path.add(kind=self._kind, name=f"{generation}-{number:04d}")
            keys.append(key)
        return keys

    def ours(self, key: Any) -> bool:
        """Whether a query's result belongs to the database that was asked."""
        # One emulator returns for a query the entities of all databases.
        database: str = key.partition_id.database_id
        return not self._connection.emulated or database == self._connection.database

    def query(self, mask: Sequence[str]) -> Any:
        """A RunQueryRequest over the kind; ``mask``: these properties suffice."""
        request = self._connection.request("RunQuery")
        request.partition_id.project_id = self._connection.project
        if self._connection.database:
            request.partition_id.database_id = self._connection.database
        if self._partition:
            request.partition_id.namespace_id = self._partition
        request.query.kind.add(name=self._kind)
        if mask:
            # An empty mask that is present means: no properties at all.
            request.property_mask.paths.extend(mask)
        return request

    def delete(self, key: Any) -> Any:
        return self._connection.mutation(delete=key)

    def upsert(self, entity: Any) -> Any:
        return self._connection.mutation(upsert=entity)

    def insert(self, entity: Any) -> Any:
        return self._connection.mutation(insert=entity)

    def update(self, entity: Any) -> Any:
        return self._connection.mutation(update=entity)

    def entity(self, key: Any, data: bytes, created: float, expires: float | None) -> Any:
        """A chunk, or the common part of a head."""
        entity = self._connection.entity()
        entity.key.CopyFrom(key)
        properties = entity.properties
        blob = properties["data"]
        blob.blob_value = data
        blob.exclude_from_indexes = True
        _stamp(properties["created"], created)
        if expires is not None:
            _stamp(properties["expires"], expires, indexed=self._index_expires)
        return entity

    def head(
        self,
        key: Any,
        names: tuple[str, str],
        payload: bytes,
        encoding: int,
        created: float,
        expires: float | None,
        generation: str,
        parts: int,
    ) -> Any:
        """A head without its write ids, which :func:`set_wids` adds when it is known what it replaces."""
        entity = self.entity(key, payload, created, expires)
        properties = entity.properties
        for name, text in zip(("ns", "name"), names, strict=True):
            value = properties[name]
            try:
                value.string_value = text
            except (UnicodeError, ValueError):
                # A lone surrogate is a legal str that no UTF-8 text field takes.
                value.blob_value = _encoded(text)
            value.exclude_from_indexes = True
        if encoding:
            properties["encoding"].integer_value = encoding
            properties["encoding"].exclude_from_indexes = True
        if parts:
            properties["generation"].string_value = generation
            properties["generation"].exclude_from_indexes = True
            properties["parts"].integer_value = parts
            properties["parts"].exclude_from_indexes = True
        return entity


def set_wids(entity: Any, wids: bytes) -> None:
    """Write the ids of a head's last writes into it."""
    value = entity.properties["wid"]
    value.blob_value = wids
    value.exclude_from_indexes = True


def names_size(namespace: str, key: str) -> int:
    """Bytes the two names take in an entity."""
    return len(_encoded(namespace)) + len(_encoded(key))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _stamp(value: Any, seconds: float, *, indexed: bool = False) -> None:
    seconds = min(max(seconds, 0.0), _LAST_SECOND)
    whole = int(seconds)
    value.timestamp_value.seconds = whole
    # Datastore keeps microseconds and cuts the rest.
    value.timestamp_value.nanos = int((seconds - whole) * 1e6) * 1000
    value.exclude_from_indexes = not indexed
