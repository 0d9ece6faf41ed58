"""Datastore in memory, behind the interface of a gRPC channel, with faults on request: for tests without Java."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import grpc
from google.cloud.datastore_v1 import types

from beaker.storage.datastore.connection import Connection
from beaker.storage.datastore.gateway import Gateway

_FAIL = 3
_KEY_ONLY = "__key__"


class FakeRpcError(grpc.RpcError):  # type: ignore[misc]
    """What a stub raises."""

    def __init__(self, code: str, details: str = "") -> None:
        super().__init__(code)
        self._code = grpc.StatusCode[code]
        self._details = details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


class FakeDatastore:
    """A channel. ``faults`` are taken one a call: ``(method, code, done)``, ``done`` when the work is done first.

    ``versioned=False`` is a server that ignores base_version. ``seen`` are the (method, timeout) of every try.
    """

    def __init__(self, *, versioned: bool = True) -> None:
        self.entities: dict[tuple[str, ...], tuple[int, Any]] = {}
        self.faults: list[tuple[str, str, bool]] = []
        self.seen: list[tuple[str, float]] = []
        self.defer = 0
        self.answer_limit: int | None = None
        self.before: Callable[[str, Any], None] | None = None
        self.metadata: Any = None
        self.last: Any = None
        self._versioned = versioned
        self._clock = itertools.count(100)
        self._lock = threading.RLock()

    def gateway(self, **options: Any) -> Gateway:
        """A gateway on this channel that never really sleeps."""
        options = {"sleep": lambda seconds: None, **options}
        return Gateway(lambda: Connection(self, "fake", options.pop("database", None)), **options)

    def unary_unary(self, path: str, **_: Any) -> Callable[..., Any]:
        method = path.rpartition("/")[2]
        handle = getattr(self, f"_{method.lower()}")
        answer_type = getattr(types, f"{method}Response").pb()

        def stub(request: Any, timeout: float, metadata: Any) -> Any:
            self.seen.append((method, timeout))
            self.metadata, self.last = metadata, request
            if self.before is not None:
                self.before(method, request)
            fault = self.faults.pop(0) if self.faults and self.faults[0][0] == method else None
            if fault and not fault[2]:
                raise FakeRpcError(fault[1])
            with self._lock:
                answer = answer_type()
                handle(request, answer)
            if fault:
                raise FakeRpcError(fault[1])
            if self.answer_limit is not None and answer.ByteSize() > self.answer_limit:
                raise FakeRpcError("RESOURCE_EXHAUSTED", "Received message larger than max")
            return answer

        return stub

    def _lookup(self, request: Any, answer: Any) -> None:
        keys = list(request.keys)
        kept = max(len(keys) - self.defer, 1)
        answer.deferred.extend(keys[kept:])
        for key in keys[:kept]:
            held = self.entities.get(_path(key))
            if held is not None:
                _fill(answer.found.add(), *held, request)

    def _commit(self, request: Any, answer: Any) -> None:
        for mutation in request.mutations:
            self._check(mutation)
        for mutation in request.mutations:
            version = next(self._clock)
            operation = mutation.WhichOneof("operation")
            if operation == "delete":
                self.entities.pop(_path(mutation.delete), None)
            else:
                entity = getattr(mutation, operation)
                self.entities[_path(entity.key)] = (version, entity)
            answer.mutation_results.add(version=version)

    def _check(self, mutation: Any) -> None:
        operation = mutation.WhichOneof("operation")
        target = getattr(mutation, operation)
        held = self.entities.get(_path(target if operation == "delete" else target.key))
        if operation == "insert" and held is not None:
            raise FakeRpcError("ALREADY_EXISTS")
        if operation == "update" and held is None:
            raise FakeRpcError("NOT_FOUND")
        wanted = mutation.base_version
        if self._versioned and wanted and mutation.conflict_resolution_strategy == _FAIL:
            if held is None or held[0] > wanted:
                raise FakeRpcError("FAILED_PRECONDITION")
            if held[0] < wanted:
                raise FakeRpcError("INVALID_ARGUMENT", "Invalid base version, it is greater than the stored version")

    def _runquery(self, request: Any, answer: Any) -> None:
        query = request.query
        names = sorted(self.entities)
        for part in query.filter.composite_filter.filters:
            bound = _path(part.property_filter.value.key_value)
            above = part.property_filter.op == 3
            names = [name for name in names if (name > bound if above else name < bound)]
        single = query.filter.property_filter
        if single.property.name == "expires":
            end = single.value.timestamp_value.ToMicroseconds()
            names = [name for name in names if 0 < _expires(self.entities[name][1]) < end]
        if query.start_cursor:
            after = tuple(query.start_cursor.decode().split("\t"))
            names = [name for name in names if name > after]
        some = names[: query.limit.value]
        for name in some:
            result = answer.batch.entity_results.add(cursor="\t".join(name).encode())
            _fill(result, *self.entities[name], request)
        answer.batch.end_cursor = "\t".join(some[-1]).encode() if some else query.start_cursor
        answer.batch.more_results = 3 if len(names) <= len(some) else 2

    def _begintransaction(self, request: Any, answer: Any) -> None:
        answer.transaction = b"%d" % next(self._clock)

    def _rollback(self, request: Any, answer: Any) -> None:
        return None


def _path(key: Any) -> tuple[str, ...]:
    return tuple(element.name for element in key.path)


def _expires(entity: Any) -> int:
    if "expires" not in entity.properties:
        return 0
    end: int = entity.properties["expires"].timestamp_value.ToMicroseconds()
    return end


def _fill(result: Any, version: int, entity: Any, request: Any) -> None:
    result.version = version
    result.entity.key.CopyFrom(entity.key)
    projection = getattr(getattr(request, "query", None), "projection", ())
    if any(part.property.name == _KEY_ONLY for part in projection):
        return
    wanted = set(request.property_mask.paths) if request.HasField("property_mask") else None
    for name, value in entity.properties.items():
        if wanted is None or name in wanted:
            result.entity.properties[name].CopyFrom(value)
