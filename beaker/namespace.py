"""The managers under their older path; see :mod:`beaker.caching.namespace` and :mod:`beaker.caching.store_manager`."""

from beaker.caching.namespace import EntryNamespaceManager as EntryNamespaceManager
from beaker.caching.namespace import NamespaceManager as NamespaceManager
from beaker.caching.open_resource import OpenResourceNamespaceManager as OpenResourceNamespaceManager
from beaker.caching.store_manager import StoreNamespaceManager as StoreNamespaceManager
