"""One record: its head looked up, drafted and published, with chunks when it is large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from beaker._typing import Clock
from beaker.exceptions import StoreUnavailable
from beaker.storage.api import Written
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
    expiry_in,
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
# So often a write tries to replace exactly the record that it has seen.
_OVERWRITES = 10


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

    def publish_new(self, draft: Draft) -> bool | Written:
        layout = self._layout()
        for _ in range(_ROUNDS):
            set_wids(draft.entity, draft.wid)
            self._check_time(draft, "insert")
            number = 0
            try:
                number = self._gateway.insert(layout.insert(draft.entity), "insert")
            except Refused as refused:
                record, data = self.look(draft.key, "insert")
                if record is None:
                    continue
                if not (refused.doubtful and has_wid(record.version.wids, draft.wid)):
                    if data is not None:
                        return False
                    # Expired or damaged: the place is free, unless another writer is faster.
                    if not (written := self.publish_over(draft, record.version, "insert")):
                        continue
                    return written
            return self._written(draft, draft.wid, number, None, "insert")
        return False

    def overwrite(self, draft: Draft, base: Version | None, operation: str) -> None:
        """Publish over whatever is there, and drop the chunks of the very record that this write replaced.

        ``base``: the record as last seen; ``None``: it was not. Where it had no chunks and the draft has none, nothing
        can be left behind, and one blind write does.
        """
        if base is None and not draft.parts:
            set_wids(draft.entity, draft.wid)
            self._gateway.commit([self._layout().upsert(draft.entity)], operation)
            self.chunks.remember(draft.key, None)
            return
        for _ in range(_OVERWRITES):
            if base is None:
                found = self.head(draft.key, operation)
                base = None if found is None else found.version
            if base is None:
                if self._publish_first(draft, operation):
                    return
            elif self.publish_over(draft, base, operation):
                return
            base = None
        # Other writers were faster each time. The last word is still ours; what it replaces is left to purge.
        self._check_time(draft, operation)
        set_wids(draft.entity, draft.wid)
        self._gateway.commit([self._layout().upsert(draft.entity)], operation)
        self.chunks.remember(draft.key, None)

    def delete(self, batch: Sequence[tuple[Any, Version]], operation: str) -> None:
        """Delete heads as they were seen, and their chunks; one that changed meanwhile as it is then. One commit."""
        layout = self._layout()
        large = [(key, version) for key, version in batch if version.parts]
        others = [layout.delete(key) for key, version in batch if not version.parts]
        # Their head is deleted here or was replaced by another write: no head names them either way.
        others += [
            layout.delete(chunk)
            for key, version in large
            for chunk in layout.chunk_keys(key, version.generation, version.parts)
        ]
        for key, _ in batch:
            self.chunks.remember(key, None)
        if not large:
            self._gateway.commit(others, operation)
            return
        keys = [key for key, _ in large]
        numbers = [version.number for _, version in large]
        try:
            self._gateway.commit_if([layout.delete(key) for key in keys], keys, numbers, operation, also=others)
        except Refused:
            # Which of them were applied is not known.
            self._gateway.commit(others, operation)
            for key in keys:
                self._delete_one(key, operation)

    def _delete_one(self, head_key: Any, operation: str) -> None:
        layout = self._layout()
        for _ in range(_OVERWRITES):
            found = self.head(head_key, operation)
            if found is None:
                return
            version = found.version
            chunks = layout.chunk_keys(head_key, version.generation, version.parts)
            try:
                self._gateway.commit_if(
                    [layout.delete(head_key)],
                    [head_key],
                    [version.number],
                    operation,
                    also=[layout.delete(chunk) for chunk in chunks],
                )
            except Refused:
                continue
            return
        self._gateway.commit([layout.delete(head_key)], operation)

    def _publish_first(self, draft: Draft, operation: str) -> bool:
        set_wids(draft.entity, draft.wid)
        self._check_time(draft, operation)
        try:
            number = self._gateway.insert(self._layout().insert(draft.entity), operation)
        except Refused as refused:
            if not self._landed(draft, refused, operation):
                return False
            number = 0
        self._written(draft, draft.wid, number, None, operation)
        return True

    def _landed(self, draft: Draft, refused: Refused, operation: str) -> bool:
        """Whether it was an earlier try of this very write that changed the record."""
        if not refused.doubtful:
            return False
        found = self.head(draft.key, operation)
        return found is not None and has_wid(found.version.wids, draft.wid)

    def publish_over(self, draft: Draft, base: Version, operation: str) -> bool | Written:
        wids = wids_after(draft.wid, base.wids)
        set_wids(draft.entity, wids)
        self._check_time(draft, operation)
        number = 0
        try:
            number = self._gateway.commit_if(
                [self._layout().update(draft.entity)], [draft.key], [base.number], operation
            )
        except Refused as refused:
            if not self._landed(draft, refused, operation):
                return False
        return self._written(draft, wids, number, base, operation)

    def publish_together(
        self, drafts: Sequence[tuple[Draft, bool, Version | None]], gone: Sequence[Any], operation: str
    ) -> bool | None:
        """Publish drafts without chunks, and delete the heads ``gone``, in one transaction; see
        :class:`~beaker.storage.api.Joining`. Of each draft: whether only where nothing is, and the version that is to
        be replaced, if any."""
        layout = self._layout()
        mutations, wids = [], []
        for draft, absent, base in drafts:
            own = draft.wid if base is None else wids_after(draft.wid, base.wids)
            set_wids(draft.entity, own)
            wids.append(own)
            kind = layout.insert if absent else layout.upsert if base is None else layout.update
            mutations.append(kind(draft.entity))
        mutations += [layout.delete(key) for key in gone]
        versions = [None if base is None else base.number for _, _, base in drafts] + [None] * len(gone)
        if not mutations:
            return True
        try:
            numbers = self._gateway.commit_together(mutations, versions, operation)
        except Refused as refused:
            # All of it was done, or nothing: what is true of one is true of the others.
            first = next((draft for draft, absent, base in drafts if absent or base is not None), drafts[0][0])
            if not self._landed(first, refused, operation):
                return False
            numbers = [0] * len(drafts)
        if numbers is None:
            return None
        for key in gone:
            self.chunks.remember(key, None)
        for (draft, absent, base), own, number in zip(drafts, wids, numbers, strict=False):
            if absent or base is not None:
                self._written(draft, own, number, base, operation)
            else:
                self.chunks.remember(draft.key, None)
        return True

    def _check_time(self, draft: Draft, operation: str) -> None:
        if draft.parts:
            self.chunks.check_time(draft.generation, operation)

    def _written(self, draft: Draft, wids: bytes, number: int, base: Version | None, operation: str) -> bool | Written:
        """Note what the server has; with ``number`` 0 it does not say which version that is."""
        version = Version(number, draft.generation, draft.parts, wids, expiry_in(draft.entity.properties))
        self.chunks.remember(draft.key, version)
        if base is not None:
            self.chunks.drop(draft.key, base.generation, base.parts, operation)
        return Written(version) if number else True
