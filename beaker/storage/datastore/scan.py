"""Walking over many Datastore records: listing, clearing and purging, page by page."""

from __future__ import annotations

import base64
import binascii
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from beaker._typing import Clock
from beaker.exceptions import StoreUnavailable
from beaker.storage.api import Contents
from beaker.storage.datastore.chunks import LONGEST_WRITE
from beaker.storage.datastore.gateway import Gateway, Refused
from beaker.storage.datastore.record import HEAD_MASK, Layout, Record, decode, generation_of, generation_time, original

__all__ = ["COMMIT_ENTITIES", "Scan"]

COMMIT_ENTITIES = 500
"""Most mutations in one commit that every server has always taken."""

_PAGE = 100
_KEYS_PAGE = 500
_MOST_KEYS = 100_000
# A purge that finds little must end too: this many entities looked at for each one it may remove.
_LOOKS_A_REMOVAL = 20
_LEAST_LOOKS = 1000
# Chunks are written before the head that names them: only ones older than any write, by clocks a minute apart, can be
# orphans.
_ORPHAN_SECONDS = LONGEST_WRITE + 60.0
_AGAIN = "again"

# Numbers of the enums in google/datastore/v1/query.proto.
_LESS_THAN = 1
_GREATER_THAN = 3
_AND = 1
_ASCENDING = 1
_NOT_FINISHED = 1


class Scan:
    """Queries over one kind. ``layout`` is asked for at each use, since a fork changes it."""

    def __init__(self, gateway: Gateway, layout: Callable[[], Layout], clock: Clock, index_expires: bool) -> None:
        self._gateway = gateway
        self._layout = layout
        self._clock = clock
        self._index_expires = index_expires

    def keys(self, namespace: str) -> Iterator[str]:
        """Original keys of the live heads of a namespace."""
        for page in self._pages(self._range(namespace, mask=("expires", "name")), "keys", _PAGE):
            now = self._clock()
            for result in page:
                if _is_head(result) and decode(result).version.live(now):
                    yield original(result.entity, "name")

    def contents(self) -> Iterator[Contents]:
        """The heads of each namespace, counted by their keys; see :meth:`DatastoreStore.contents`."""
        request = self._layout().query(())
        request.query.projection.add().property.name = "__key__"
        counts: Counter[str] = Counter()
        samples: dict[str, Any] = {}
        seen = 0
        for page in self._pages(request, "contents", _KEYS_PAGE):
            for result in filter(_is_head, page):
                prefix = _name(result.entity.key).partition(":")[0]
                counts[prefix] += 1
                samples[prefix] = result.entity.key
            seen += len(page)
            if seen >= _MOST_KEYS:
                break
        heads = self._gateway.lookup(list(samples.values()), "contents", mask=("ns",))
        names = {_name(head.entity.key).partition(":")[0]: original(head.entity, "ns") for head in heads}
        for prefix, records in sorted(counts.items(), key=lambda item: names.get(item[0], f"#{item[0]}")):
            name = names.get(prefix, f"#{prefix}")
            yield Contents(name, records, None, expired=None, at_least=seen >= _MOST_KEYS)

    def clear(self, namespace: str) -> None:
        """Delete every entity of a namespace that is there when the walk comes to it."""
        request = self._range(namespace, mask=())
        request.query.projection.add().property.name = "__key__"
        for page in self._pages(request, "clear", _KEYS_PAGE):
            self._delete([result.entity.key for result in page], "clear")

    def purge(self, now: float, limit: int, cursor: str | None, deadline: float | None) -> tuple[int, str | None]:
        """One bounded stretch of purging; see :meth:`DatastoreStore.purge`."""
        end = None if deadline is None else time.monotonic() + deadline
        position = given = _decode_cursor(cursor)
        looks = max(_LEAST_LOOKS, limit * _LOOKS_A_REMOVAL)
        removed = 0
        while True:
            request = self._expired(now) if self._index_expires else self._request(HEAD_MASK)
            request.query.start_cursor = position
            request.query.limit.value = _PAGE
            try:
                batch = self._gateway.query(request, "purge")
            except StoreUnavailable as err:
                # Refused today, a cursor of another query is refused always; a server that is down is not.
                if position and position == given and "INVALID_ARGUMENT" in str(err):
                    raise ValueError("cursor is not one that purge returned") from err
                raise
            results = list(batch.entity_results)
            taken = self._within(results, now, limit - removed)
            removed += self._purge_page(taken, now)
            looks -= len(results)
            if len(taken) == len(results):
                if _is_last(batch, _PAGE):
                    return removed, None
                position = batch.end_cursor
            elif taken:
                position = taken[-1].cursor
            if self._index_expires:
                # What was removed, or written again, no longer matches: the next look starts in front.
                position = b""
            spent = end is not None and time.monotonic() >= end
            if removed >= limit or len(taken) < len(results) or looks <= 0 or spent:
                return removed, _encode_cursor(position)

    def _within(self, results: list[Any], now: float, limit: int) -> list[Any]:
        """As many of a page's results as hold at most ``limit`` expired heads."""
        expired = 0
        ours = self._layout().ours
        for index, result in enumerate(results):
            if _is_head(result) and ours(result.entity.key) and not decode(result).version.live(now):
                if expired == limit:
                    return results[:index]
                expired += 1
        return results

    def _purge_page(self, results: list[Any], now: float) -> int:
        heads: list[tuple[Any, Record]] = []
        dead: list[Any] = []
        doubted: list[Any] = []
        ours = self._layout().ours
        for result in results:
            record = decode(result)
            key = result.entity.key
            if not ours(key):
                continue
            if _is_head(result):
                if not record.version.live(now):
                    heads.append((key, record))
            elif not record.version.live(now):
                # A generation is written once, so its chunks never get a later end.
                dead.append(key)
            elif self._clock() - generation_time(generation_of(_name(key))) > _ORPHAN_SECONDS:
                doubted.append(key)
        removed = self._delete_expired(heads)
        self._delete(dead + self._orphans(doubted), "purge")
        return removed

    def _delete_expired(self, heads: Sequence[tuple[Any, Record]]) -> int:
        """Delete heads that are still the ones that were read: a writer may have given them a new life."""
        if not heads:
            return 0
        layout = self._layout()
        keys = [key for key, _ in heads]
        versions = [record.version.number for _, record in heads]
        try:
            self._gateway.commit_if([layout.delete(key) for key in keys], keys, versions, "purge")
        except Refused:
            return self._delete_one_by_one(keys, versions)
        return len(heads)

    def _delete_one_by_one(self, keys: Sequence[Any], versions: Sequence[int]) -> int:
        layout = self._layout()
        present = {_path(found.entity.key) for found in self._gateway.lookup(keys, "purge", mask=HEAD_MASK)}
        removed = 0
        for key, version in zip(keys, versions, strict=True):
            if _path(key) in present:
                try:
                    self._gateway.commit_if([layout.delete(key)], [key], [version], "purge")
                except Refused:
                    continue
            removed += 1
        return removed

    def _orphans(self, chunks: Sequence[Any]) -> list[Any]:
        """Those of ``chunks`` that no head points to: left by a writer that was killed, or did not know of them."""
        if not chunks:
            return []
        layout = self._layout()
        heads = {name: layout.key(name) for name in (_path(chunk)[0] for chunk in chunks)}
        used = {
            (_path(found.entity.key)[0], decode(found).version.generation)
            for found in self._gateway.lookup(list(heads.values()), "purge", mask=HEAD_MASK)
        }
        return [chunk for chunk in chunks if (_path(chunk)[0], generation_of(_name(chunk))) not in used]

    def _delete(self, keys: Sequence[Any], operation: str) -> None:
        layout = self._layout()
        for start in range(0, len(keys), COMMIT_ENTITIES):
            self._gateway.commit([layout.delete(key) for key in keys[start : start + COMMIT_ENTITIES]], operation)

    def _pages(self, request: Any, operation: str, size: int) -> Iterator[Sequence[Any]]:
        request.query.limit.value = size
        while True:
            batch = self._gateway.query(request, operation)
            ours = self._layout().ours
            yield [result for result in batch.entity_results if ours(result.entity.key)]
            if _is_last(batch, size):
                return
            request.query.start_cursor = batch.end_cursor

    def _request(self, mask: Sequence[str]) -> Any:
        return self._layout().query(mask)

    def _range(self, namespace: str, mask: Sequence[str]) -> Any:
        """All entities of a namespace: a range of keys needs no index and is strongly consistent."""
        layout = self._layout()
        request = layout.query(mask)
        prefix = layout.prefix(namespace)
        both = request.query.filter.composite_filter
        both.op = _AND
        # ";" is the character after ":".
        for operator, name in ((_GREATER_THAN, f"{prefix}:"), (_LESS_THAN, f"{prefix};")):
            bound = both.filters.add().property_filter
            bound.property.name = "__key__"
            bound.op = operator
            bound.value.key_value.CopyFrom(layout.key(name))
        return request

    def _expired(self, now: float) -> Any:
        request = self._layout().query(HEAD_MASK)
        before = request.query.filter.property_filter
        before.property.name = "expires"
        before.op = _LESS_THAN
        before.value.timestamp_value.seconds = int(now)
        before.value.timestamp_value.nanos = int(now % 1 * 1e6) * 1000
        order = request.query.order.add()
        order.property.name = "expires"
        order.direction = _ASCENDING
        return request


def _is_last(batch: Any, size: int) -> bool:
    # One emulator says "more after the limit" even when nothing follows, so the number of results decides.
    return len(batch.entity_results) < size and batch.more_results != _NOT_FINISHED


def _is_head(result: Any) -> bool:
    return len(result.entity.key.path) == 1


def _path(key: Any) -> tuple[str, ...]:
    return tuple(element.name for element in key.path)


def _name(key: Any) -> str:
    name: str = key.path[-1].name
    return name


def _encode_cursor(position: bytes) -> str:
    return base64.urlsafe_b64encode(position).decode() if position else _AGAIN


def _decode_cursor(cursor: str | None) -> bytes:
    if cursor is None or cursor == _AGAIN:
        return b""
    try:
        return base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
    except (UnicodeError, binascii.Error) as err:
        raise ValueError("cursor is not one that purge returned") from err
