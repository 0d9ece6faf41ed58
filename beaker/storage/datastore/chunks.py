"""Values larger than an entity: their chunks, written before the head that names them and read after it."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from beaker._typing import Clock
from beaker.exceptions import StoreUnavailable
from beaker.forks import ForkAware
from beaker.storage.datastore.connection import BACKEND
from beaker.storage.datastore.gateway import Gateway
from beaker.storage.datastore.record import CHUNK_BYTES, Layout, Version, generation_time, new_generation

__all__ = ["CHUNKS_A_MESSAGE", "LONGEST_CALL", "LONGEST_WRITE", "Chunks"]

CHUNKS_A_MESSAGE = 3
"""Emulators take messages of at most 4 MiB (the service 10): three chunks fit into one."""

_REMEMBERED = 1024

LONGEST_WRITE = 300.0
"""Seconds after its first chunk at which a write's head is published at the latest, by the writer's clock."""

LONGEST_CALL = LONGEST_WRITE / 2
"""Seconds of a call's deadline at most: the head's call must end in time, however long those of the chunks took."""

logger = logging.getLogger("beaker.storage.datastore")


class Chunks(ForkAware):
    """Reads, writes and drops sets of chunks; ``layout`` is asked for at each use, since a fork changes it."""

    def __init__(self, gateway: Gateway, layout: Callable[[], Layout], clock: Clock) -> None:
        self._gateway = gateway
        self._layout = layout
        self._clock = clock
        self._after_fork()
        self._watch_forks()

    def _after_fork(self) -> None:
        """The lock is the parent's; the memory goes with it."""
        self._renew_locks()
        self._known: OrderedDict[str, Version] = OrderedDict()

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()

    def write(self, head_key: Any, payload: bytes, expires: float | None, operation: str) -> tuple[str, int]:
        """Store ``payload`` as a new set of chunks; returns its generation and their number."""
        layout = self._layout()
        now = self._clock()
        generation = new_generation(now)
        pieces = [payload[start : start + CHUNK_BYTES] for start in range(0, len(payload), CHUNK_BYTES)]
        keys = layout.chunk_keys(head_key, generation, len(pieces))
        for start in range(0, len(pieces), CHUNKS_A_MESSAGE):
            some = slice(start, start + CHUNKS_A_MESSAGE)
            mutations = [
                layout.upsert(layout.entity(key, piece, now, expires))
                for key, piece in zip(keys[some], pieces[some], strict=True)
            ]
            self._gateway.commit(mutations, operation)
        return generation, len(pieces)

    def read(self, head_key: Any, version: Version, operation: str) -> bytes | None:
        """The joined chunks a head points to, ``None`` when one is missing."""
        keys = self._layout().chunk_keys(head_key, version.generation, version.parts)
        pieces: dict[str, bytes] = {}
        for start in range(0, len(keys), CHUNKS_A_MESSAGE):
            for result in self._gateway.lookup(keys[start : start + CHUNKS_A_MESSAGE], operation):
                pieces[result.entity.key.path[-1].name] = result.entity.properties["data"].blob_value
        if len(pieces) < len(keys):
            return None
        self.remember(head_key, version)
        return b"".join(pieces[name] for name in sorted(pieces))

    def drop(self, head_key: Any, generation: str, parts: int, operation: str) -> None:
        """Delete chunks that no head points to any more."""
        if not parts:
            return
        layout = self._layout()
        try:
            self._gateway.commit(
                [layout.delete(key) for key in layout.chunk_keys(head_key, generation, parts)], operation
            )
        except StoreUnavailable as err:
            # The caller's write is done; purge finds what stays behind.
            logger.debug("%d chunks of a former value were not deleted: %s", parts, err)

    def remember(self, head_key: Any, version: Version | None) -> None:
        """Keep in mind a head that has chunks, so that a write over it can drop them without a read first."""
        with self._lock:
            if version is not None and version.parts and version.number:
                self._known[head_key.path[0].name] = version
                # Each call adds one.
                if len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
            else:
                self._known.pop(head_key.path[0].name, None)

    def known(self, head_key: Any) -> Version | None:
        """The version a head with chunks was last seen with; ``None``: it had none then, or was never seen."""
        return self._known.get(head_key.path[0].name)

    def check_time(self, generation: str, operation: str) -> None:
        """Raise StoreUnavailable for chunks written so long ago that a purge may take them for orphans soon."""
        if self._clock() - generation_time(generation) + self._gateway.deadline > LONGEST_WRITE:
            raise StoreUnavailable("the write took too long", backend=BACKEND, operation=operation)
