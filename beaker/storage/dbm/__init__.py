"""The dbm storage backend."""

from beaker.storage.dbm.store import DbmStore as DbmStore
