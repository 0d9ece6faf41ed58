"""The SQL storage backend."""

from beaker.storage.sql.store import SqlStore as SqlStore
from beaker.storage.sql.store import make_cache_table as make_cache_table
