"""The files storage backend."""

from beaker.storage.files.store import FileStore as FileStore
