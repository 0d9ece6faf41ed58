"""The datastore storage backend."""

from beaker.storage.datastore.store import DatastoreStore as DatastoreStore
