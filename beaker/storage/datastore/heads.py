"""One record: its head looked up, drafted and published, with chunks when it is large."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from beaker._typing import Clock
from beaker.exceptions import StoreUnavailable
from beaker.storage.datastore.chunks import Chunks
from beaker.storage.datastore.connection import BACKEND
from beaker.storage.datastore.gateway import Gateway, Refused
from beaker.storage.datastore.record import (
    CHUNK_BYTES,
    HEAD_MASK,
    NAME_BYTES,
    Layout,
    Record,
    Version,
    compress,
    decode,
    decompress,
    has_wid,
    names_size,
    new_wid,
    set_wids,
    wids_after,
)
from beaker.storage.records import expires_at

__all__ = ["Draft", "Heads"]

# So often a record may change under a reader or an insert before that counts as unavailable.
_ROUNDS = 5


@dataclass(repr=False)
class Draft:
    """A write whose chunks, if any, are stored and whose head is not."""

    key: Any
    entity: Any
    generation: str
    parts: int
    wid: bytes

    def __repr__(self) -> str:
        return f"<Draft with {self.parts} chunks>"


class Heads:
    """What single records need; ``layout`` is asked for at each use, since a fork changes it."""

    def __init__(
        self, gateway: Gateway, layout: Callable[[], Layout], clock: Clock, *, limit: int, compressing: bool
    ) -> None:
        self.chunks = Chunks(gateway, layout, clock)
        self._gateway = gateway
        self._layout = layout
        self._clock = clock
        self._limit = limit
        self._compressing = compressing

    def look(self, head_key: Any, operation: str) -> tuple[Record | None, bytes | None]:
        """The head and its bytes. A head without bytes has expired, or is damaged, which is as good as absent."""
        generation = None
        for _ in range(_ROUNDS):
            found = self._gateway.lookup([head_key], operation)
            if not found:
                return None, None
            record = decode(found[0])
            if not record.version.live(self._clock()):
                return record, None
            if not record.version.parts:
                return record, self.open(record, record.payload)
            payload = self.chunks.read(head_key, record.version, operation)
            if payload is not None:
                return record, self.open(record, payload)
            if record.version.generation == generation:
                return record, None
            # A writer may have switched to other chunks, and dropped these, after the head was read.
            generation = record.version.generation
        raise StoreUnavailable("the record changes faster than it can be read", backend=BACKEND, operation=operation)

    def open(self, record: Record, payload: bytes) -> bytes | None:
        return decompress(record.encoding, payload, self._limit)

    def head(self, head_key: Any, operation: str) -> Record | None:
        found = self._gateway.lookup([head_key], operation, mask=HEAD_MASK)
        return decode(found[0]) if found else None

    def draft(self, namespace: str, key: str, data: bytes, ttl: float | None, operation: str) -> Draft:
        layout = self._layout()
        head_key = layout.head_key(namespace, key)
        now = self._clock()
        expires = expires_at(now, ttl)
        encoding, payload = compress(data) if self._compressing else (0, data)
        generation, parts = "", 0
        if len(payload) > CHUNK_BYTES - max(names_size(namespace, key) - NAME_BYTES, 0):
            generation, parts = self.chunks.write(head_key, payload, expires, operation)
            payload = b""
        entity = layout.head(head_key, (namespace, key), payload, encoding, now, expires, generation, parts)
        return Draft(head_key, entity, generation, parts, new_wid())

    def publish_new(self, draft: Draft) -> bool:
        layout = self._layout()
        for _ in range(_ROUNDS):
            set_wids(draft.entity, draft.wid)
            try:
                self._gateway.insert(layout.insert(draft.entity), "insert")
            except Refused as refused:
                record, data = self.look(draft.key, "insert")
                if record is None:
                    continue
                if not (refused.doubtful and has_wid(record.version.wids, draft.wid)):
                    if data is not None:
                        return False
                    # Expired or damaged: the place is free, unless another writer is faster.
                    if not self.publish_over(draft, record.version, "insert"):
                        continue
                    return True
            self.written(draft, "", 0, "insert")
            return True
        return False

    def publish_over(self, draft: Draft, base: Version, operation: str) -> bool:
        set_wids(draft.entity, wids_after(draft.wid, base.wids))
        try:
            self._gateway.commit_if([self._layout().update(draft.entity)], [draft.key], [base.number], operation)
        except Refused as refused:
            if not refused.doubtful:
                return False
            found = self.head(draft.key, operation)
            if found is None or not has_wid(found.version.wids, draft.wid):
                return False
        self.written(draft, base.generation, base.parts, operation)
        return True

    def written(self, draft: Draft, old_generation: str, old_parts: int, operation: str) -> None:
        self.chunks.remember(draft.key, draft.generation, draft.parts)
        self.chunks.drop(draft.key, old_generation, old_parts, operation)
