"""The stored records as an NDB model, and what an operator wants to know of them.

Records without ``expires`` stay until they are removed; all other records may be gone any moment. The queries read
whole entities (a read operation each, data included), so they are for now and then, not for dashboards.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from beaker.clock import now as default_clock
from beaker.ext.google import record_model
from gae.ndb_context import NDBSource

__all__ = ["Counts", "count_records", "oldest_expired", "record_model"]

LOOKED_AT = 10_000


@dataclass(frozen=True)
class Counts:
    """Records of one kind: ``live``, ``expired`` ones still there, ``chunks`` of large ones.

    ``bytes`` is their data. ``oldest_expired`` (naive UTC) is the earliest end among the expired: far in the
    past means that no TTL policy and no purge removes them. ``complete``: all were looked at.
    """

    live: int = 0
    expired: int = 0
    chunks: int = 0
    bytes: int = 0
    oldest_expired: dt.datetime | None = None
    complete: bool = True


def count_records(
    kind: str = "beaker_cache",
    *,
    source: NDBSource | None = None,
    namespace: str | None = None,
    limit: int = LOOKED_AT,
    now: float | None = None,
) -> Counts:
    """Count the records of ``kind`` (the option ``table_name``), at most ``limit`` entities.

    ``namespace`` is the option ``datastore_namespace``. Uses the NDB context that is open, or one of
    ``source`` (default: the environment's project). ``now`` is seconds since the epoch.
    """
    source = source or NDBSource()
    moment = dt.datetime.fromtimestamp(default_clock() if now is None else now, dt.timezone.utc).replace(tzinfo=None)
    live = expired = chunks = size = seen = 0
    oldest: dt.datetime | None = None
    with source.context():
        model: Any = record_model(kind)
        for record in model.query(namespace=namespace or "").iter(limit=limit + 1):
            seen += 1
            if seen > limit:
                break
            size += len(record.data or b"")
            if record.key.parent() is not None:
                chunks += 1
            elif record.expires is not None and record.expires <= moment:
                expired += 1
                oldest = record.expires if oldest is None else min(oldest, record.expires)
            else:
                live += 1
    return Counts(live, expired, chunks, size, oldest, seen <= limit)


def oldest_expired(kind: str = "beaker_cache", **options: Any) -> dt.datetime | None:
    """When the longest dead record of ``kind`` ended (naive UTC), ``None`` when none is expired.

    ``options`` as for :func:`count_records`. A Datastore TTL policy may take a day; more than that means
    that there is none.
    """
    return count_records(kind, **options).oldest_expired
