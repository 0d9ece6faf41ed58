"""What the processes of tests/processes.py have imported before they begin."""

from __future__ import annotations

import contextlib
import gc
import importlib

for name in (
    "beaker.cache",
    "beaker.container",
    "beaker.middleware",
    "beaker.session.context",
    "beaker.session.opening",
    "beaker.storage.datastore",
    "beaker.storage.dbm",
    "beaker.storage.files",
    "beaker.storage.memcached",
    "beaker.storage.redis",
    "beaker.storage.sql",
    "beaker.testing",
    "google.cloud.datastore",
    "psycopg",
    "pymemcache",
    "redis",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
):
    # A machine without a client has no test that uses it.
    with contextlib.suppress(ImportError):
        importlib.import_module(name)

# A collection would go through, and copy, all of this in each process.
gc.collect()
gc.freeze()
