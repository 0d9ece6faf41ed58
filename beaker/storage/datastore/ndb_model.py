"""The records of ``ext:google`` as NDB models: for application code, admin queries and migrations.

The store itself does not use NDB (its own calls cost a sixth of NDB's); this module is the only one that
imports it, and nothing in Beaker imports this module before it is asked for.
"""

from __future__ import annotations

import functools
from typing import Any

import google.cloud.ndb as ndb

__all__ = ["record_model"]


class _Record(ndb.Model):  # type: ignore[misc]
    """The properties of a head; a chunk (an entity with a parent) has ``data``, ``created`` and ``expires`` only.

    ``data`` is compressed with zlib when ``encoding`` is 1, and absent when ``parts`` says that chunks hold it.
    Times are naive UTC. A record whose ``expires`` has passed counts as absent, though it may still be here.
    """

    # A context that remembers a record, or the lack of one, would return for hours what other processes have changed.
    _use_cache = False
    _use_global_cache = False

    ns = ndb.TextProperty()
    name = ndb.TextProperty()
    data = ndb.BlobProperty()
    encoding = ndb.IntegerProperty(indexed=False)
    created = ndb.DateTimeProperty(indexed=False)
    expires = ndb.DateTimeProperty(indexed=False)
    wid = ndb.BlobProperty()
    generation = ndb.TextProperty()
    parts = ndb.IntegerProperty(indexed=False)


@functools.cache
def record_model(kind: str = "beaker_cache") -> Any:
    """The ``ndb.Model`` class of the records of kind ``kind`` (the store's ``table_name``).

    Read with it freely. Write with it only records that nothing else writes at the moment: ``put`` is a blind
    write that a concurrent session save cannot notice in time. A store created with ``index_expires`` keeps
    ``expires`` indexed; entities this model writes are not.
    """
    return type("Record", (_Record,), {"_get_kind": classmethod(lambda cls: kind), "__doc__": _Record.__doc__})
