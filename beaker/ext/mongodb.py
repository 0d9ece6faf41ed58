"""``ext:mongodb``, which says that it is not here; see :mod:`beaker.compat.mongodb`."""

from beaker.compat.mongodb import MongoNamespaceManager

__all__ = ["MongoNamespaceManager"]
