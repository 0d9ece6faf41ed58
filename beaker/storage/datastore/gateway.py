"""The Datastore gateway: lookup, commit, conditional commit, query - with our own deadline and retries."""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from beaker import clock
from beaker.counters import store_tally
from beaker.counters.tallies import StoreTally
from beaker.exceptions import StoreRefused, StoreUnavailable
from beaker.forks import ForkAware, notice_patch
from beaker.storage.breaker import Breaker
from beaker.storage.datastore.connection import BACKEND, Connection

__all__ = ["Gateway", "Refused"]

_RETRIED = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "ABORTED", "RESOURCE_EXHAUSTED", "CANCELLED"})
# After these the server may have done the work and only the response was lost.
_DOUBTFUL = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "CANCELLED", "UNKNOWN"})
_REFUSED = frozenset({"ALREADY_EXISTS", "FAILED_PRECONDITION", "NOT_FOUND"})
_FIRST_BACKOFF = 0.05
_MAX_BACKOFF = 1.0
# A try that hangs must leave time for another within the deadline.
_SHARE_OF_A_TRY = 0.6
_LOOKUP_KEYS = 1000
_PROBE_SECONDS = 300

# Numbers of the enums in google/datastore/v1/datastore.proto.
_TRANSACTIONAL = 1
_NON_TRANSACTIONAL = 2
_FAIL = 3
# And of EntityResult.ResultType in query.proto.
_KEY_ONLY = 3


class Refused(Exception):
    """The server refused a conditional write: its condition does not hold.

    ``doubtful``: an earlier try of the same write got no response, so it may itself be what changed the record.
    """

    def __init__(self, doubtful: bool) -> None:
        super().__init__("condition not met")
        self.doubtful = doubtful


class _ResponseTooLarge(Exception):
    """The response is larger than the channel accepts."""


class Gateway(ForkAware):
    """Remote calls whose every failure is a StoreUnavailable, within ``deadline`` seconds each.

    The deadline includes up to ``retries`` further tries, each after a random, doubling wait. ``calls``
    counts calls by method (their tries not counted); the self-test of conditional writes, which the first
    of them in a process does, counts as one ``SelfTest``.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        *,
        deadline: float = 5.0,
        retries: int = 3,
        sleep: Callable[[float], None] = clock.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        place: str = "the server",
    ) -> None:
        self.breaker = Breaker(BACKEND, place, timer=monotonic)
        self._tally = store_tally(BACKEND)
        self.deadline = deadline
        self.retries = retries
        self.calls: Counter[str] = Counter()
        self._connect = connect
        self._sleep = sleep
        self._monotonic = monotonic
        self._after_fork()
        self._watch_forks()

    def _after_fork(self) -> None:
        """Forget the connection and the lock: they are the parent's."""
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()
        if self._connection is not None:
            self._connection.cas_lock = threading.Lock()

    def connection(self) -> Connection:
        """The connection, built by the first call; raises what :func:`connector` says."""
        connection = self._connection
        if connection is None:
            notice_patch()
            with self._lock:
                connection = self._connection
                if connection is None:
                    connection = self._connection = self._connect()
        return connection

    def lookup(self, keys: Sequence[Any], operation: str, *, mask: Sequence[str] = ()) -> list[Any]:
        """EntityResults of those ``keys`` that exist, in no order. ``mask``: these properties suffice."""
        self._count("Lookup")
        found: list[Any] = []
        batches = [list(keys[start : start + _LOOKUP_KEYS]) for start in range(0, len(keys), _LOOKUP_KEYS)]
        while batches:
            batch = batches.pop()
            try:
                answer = self._call("Lookup", self._lookup_request(batch, mask), operation)
            except _ResponseTooLarge as err:
                if len(batch) == 1:
                    raise StoreUnavailable(
                        "a record is over the message limit", backend=BACKEND, operation=operation
                    ) from err
                half = len(batch) // 2
                batches += [batch[:half], batch[half:]]
                continue
            found.extend(answer.found)
            if answer.deferred:
                if len(answer.deferred) == len(batch):
                    raise StoreUnavailable("the server deferred every key", backend=BACKEND, operation=operation)
                batches.append(list(answer.deferred))
        return found

    def commit(self, mutations: Iterable[Any], operation: str) -> None:
        """Apply unconditional ``mutations``, each on its own; safe to repeat, so it is repeated when in doubt."""
        self._count("Commit")
        self._call("Commit", self._commit_request(mutations), operation)

    def insert(self, mutation: Any, operation: str) -> int:
        """Apply one ``insert`` and return the entity's version. Raises :class:`Refused` when the entity exists."""
        self._count("Commit")
        return _version(self._call("Commit", self._commit_request([mutation]), operation, conditional=True))

    def commit_if(
        self,
        mutations: Sequence[Any],
        keys: Sequence[Any],
        versions: Sequence[int],
        operation: str,
        *,
        also: Sequence[Any] = (),
    ) -> int:
        """Apply ``mutations`` (one for each of ``keys``) where the entity still has its version, and ``also`` others.

        Returns the version that the first of them has now, 0 when the server does not say. Raises :class:`Refused` when
        any has another one; which of several were applied is then not known.
        """
        if not self._compares_versions(keys[0], operation):
            for mutation, key, version in zip(mutations, keys, versions, strict=True):
                self._transact(mutation, key, version, operation)
            if also:
                self.commit(also, operation)
            return 0
        self._count("Commit")
        for mutation, version in zip(mutations, versions, strict=True):
            mutation.base_version = version
            # Without it one of the emulators ignores base_version without a word.
            mutation.conflict_resolution_strategy = _FAIL
        request = self._commit_request([*mutations, *also])
        return _version(self._call("Commit", request, operation, conditional=True))

    def commit_together(
        self, mutations: Sequence[Any], versions: Sequence[int | None], operation: str
    ) -> list[int] | None:
        """Apply all ``mutations`` in one transaction, each where its entity has its version, if that is not ``None``.

        Returns the versions that they have now. Raises :class:`Refused` when one cannot be applied; none is then.
        ``None``: the server has no such transactions, or compares no versions.
        """
        connection, conditional = self.connection(), any(version is not None for version in versions)
        if not connection.joins or (conditional and not self._compares_versions(_key_of(mutations[0]), operation)):
            return None
        request = self._commit_request(mutations)
        request.mode = _TRANSACTIONAL
        request.single_use_transaction.read_write.SetInParent()
        for mutation, version in zip(request.mutations, versions, strict=True):
            if version is not None:
                mutation.base_version = version
                mutation.conflict_resolution_strategy = _FAIL
        self._count("Commit")
        try:
            answer = self._call("Commit", request, operation, conditional=True)
        except StoreRefused as err:
            if _status(err.__cause__)[0] not in ("INVALID_ARGUMENT", "UNIMPLEMENTED"):
                raise
            connection.joins = False
            return None
        return [int(result.version) for result in answer.mutation_results]

    def query(self, request: Any, operation: str) -> Any:
        """The QueryResultBatch of a RunQueryRequest. Raises StoreUnavailable when it does not fit a message."""
        self._count("RunQuery")
        try:
            return self._call("RunQuery", request, operation).batch
        except _ResponseTooLarge as err:
            raise StoreUnavailable("a page is over the message limit", backend=BACKEND, operation=operation) from err

    def _count(self, method: str) -> None:
        with self._lock:
            self.calls[method] += 1

    def _lookup_request(self, keys: Sequence[Any], mask: Sequence[str] = ()) -> Any:
        request = self.connection().request("Lookup")
        request.keys.extend(keys)
        if mask:
            # An empty mask that is present means: no properties at all.
            request.property_mask.paths.extend(mask)
        return request

    def _commit_request(self, mutations: Iterable[Any]) -> Any:
        request = self.connection().request("Commit")
        request.mode = _NON_TRANSACTIONAL
        request.mutations.extend(mutations)
        return request

    def _call(
        self, method: str, request: Any, operation: str, *, conditional: bool = False, retries: int | None = None
    ) -> Any:
        with self.breaker(operation):
            try:
                answer = self._attempts(method, request, operation, conditional, retries)
            except (Refused, _ResponseTooLarge) as err:
                if isinstance(err, Refused):
                    self._tally.refuse(len(request.mutations))
                self.breaker.responded()
                raise
        _bill(self._tally, method, request, answer)
        return answer

    def _attempts(self, method: str, request: Any, operation: str, conditional: bool, retries: int | None) -> Any:
        connection = self.connection()
        stub = connection.stubs[method]
        retries = self.retries if retries is None else retries
        end = self._monotonic() + self.deadline
        doubtful = False
        attempt = 0
        while True:
            left = max(end - self._monotonic(), 0.001)
            try:
                return stub(
                    request,
                    timeout=left if attempt >= retries else left * _SHARE_OF_A_TRY,
                    metadata=connection.metadata,
                )
            except connection.rpc_error as err:
                code, details = _status(err)
                if conditional and (code in _REFUSED or (code == "INVALID_ARGUMENT" and "base version" in details)):
                    raise Refused(doubtful) from err
                if code == "RESOURCE_EXHAUSTED" and "larger than max" in details:
                    raise _ResponseTooLarge from err
                doubtful = doubtful or code in _DOUBTFUL
                wait = random.uniform(0, min(_MAX_BACKOFF, _FIRST_BACKOFF * 2**attempt))
                if code not in _RETRIED or attempt >= retries or end - self._monotonic() <= wait:
                    kind = StoreUnavailable if code in _DOUBTFUL else StoreRefused
                    raise kind(f"the server returned {code}", backend=BACKEND, operation=operation) from err
            except ValueError as err:
                # What a stub raises when the caller's client closed the channel.
                raise StoreUnavailable("the channel is closed", backend=BACKEND, operation=operation) from err
            self._sleep(wait)
            attempt += 1

    def _compares_versions(self, key: Any, operation: str) -> bool:
        connection = self.connection()
        if connection.cas is None:
            notice_patch()
            with connection.cas_lock:
                if connection.cas is None:
                    connection.cas = self._self_test(connection, key, operation)
        return connection.cas

    def _self_test(self, connection: Connection, key: Any, operation: str) -> bool:
        """Whether a write with a stale version is refused: a server that ignores it would lose updates silently."""
        self._count("SelfTest")
        probe = connection.mutation()
        entity = probe.upsert
        entity.key.partition_id.CopyFrom(key.partition_id)
        entity.key.path.add(kind=key.path[0].kind, name=f"probe:{secrets.token_hex(8)}")
        expires = entity.properties["expires"]
        expires.timestamp_value.seconds = int(clock.now()) + _PROBE_SECONDS
        expires.exclude_from_indexes = True
        answer = self._call("Commit", self._commit_request([probe]), operation)
        stale = connection.mutation(
            update=entity,
            base_version=answer.mutation_results[0].version - 1,
            conflict_resolution_strategy=_FAIL,
        )
        try:
            self._call("Commit", self._commit_request([stale]), operation, conditional=True)
        except Refused:
            return True
        finally:
            self._call("Commit", self._commit_request([connection.mutation(delete=entity.key)]), operation)
        return False

    def _transact(self, mutation: Any, key: Any, version: int, operation: str) -> None:
        """The conditional write for a server without versioned commits: read, compare and write in a transaction."""
        self._count("Transaction")
        doubtful = False
        attempt = 0
        end = self._monotonic() + self.deadline
        while True:
            begun = self._call("BeginTransaction", self.connection().request("BeginTransaction"), operation)
            try:
                return self._compare_and_commit(begun.transaction, mutation, key, version, operation, doubtful)
            except (Refused, StoreUnavailable) as err:
                self._rollback(begun.transaction, operation)
                code = _status(err.__cause__)[0]
                if isinstance(err, Refused) or code not in _RETRIED or attempt >= self.retries:
                    raise
                doubtful = doubtful or code in _DOUBTFUL
                wait = random.uniform(0, min(_MAX_BACKOFF, _FIRST_BACKOFF * 2**attempt))
                if end - self._monotonic() <= wait:
                    raise
            self._sleep(wait)
            attempt += 1

    def _compare_and_commit(
        self, transaction: bytes, mutation: Any, key: Any, version: int, operation: str, doubtful: bool
    ) -> None:
        look = self._lookup_request([key])
        look.read_options.transaction = transaction
        found = self._call("Lookup", look, operation, retries=0).found
        if not found or found[0].version != version:
            raise Refused(doubtful)
        request = self._commit_request([mutation])
        request.mode = _TRANSACTIONAL
        request.transaction = transaction
        self._call("Commit", request, operation, retries=0)

    def _rollback(self, transaction: bytes, operation: str) -> None:
        # An abandoned transaction keeps its locks on a pessimistic server until it times out.
        request = self.connection().request("Rollback")
        request.transaction = transaction
        try:
            self._call("Rollback", request, operation, retries=0)
        except StoreUnavailable:
            return


def _bill(tally: StoreTally, method: str, request: Any, answer: Any) -> None:
    """Count what a call that succeeded did to entities, as Datastore bills it."""
    if method == "Lookup":
        # Keys that were deferred are asked for, and billed, by the next call.
        size = sum(result.entity.ByteSize() for result in answer.found)
        tally.read_many(len(answer.found) + len(answer.missing), size)
    elif method == "RunQuery":
        results = answer.batch.entity_results
        keys_only = answer.batch.entity_result_type == _KEY_ONLY
        tally.read_many(1 if keys_only else max(1, len(results)), sum(result.entity.ByteSize() for result in results))
    elif method == "Commit":
        written = [mutation for mutation in request.mutations if mutation.WhichOneof("operation") != "delete"]
        if written:
            tally.wrote(sum(mutation.ByteSize() for mutation in written), len(written))
        if len(written) < len(request.mutations):
            tally.deleted(len(request.mutations) - len(written))


def _key_of(mutation: Any) -> Any:
    operation = mutation.WhichOneof("operation")
    target = getattr(mutation, operation)
    return target if operation == "delete" else target.key


def _version(answer: Any) -> int:
    results = answer.mutation_results
    return int(results[0].version) if results else 0


def _status(err: BaseException | None) -> tuple[str, str]:
    code = getattr(err, "code", None)
    if code is None:
        return "UNKNOWN", ""
    details: Callable[[], str | None] = getattr(err, "details", lambda: "")
    return code().name, details() or ""
