"""Values, containers and the managers of this host: ``memory``, ``file``, ``dbm``, ``null`` (manual 5.1.2)."""

from __future__ import annotations

import copy
import logging
import os
import sys
import time  # noqa: F401 (the clock's source, see below)
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar

from beaker import clock as _clock
from beaker.caching import defaults
from beaker.caching.dictionary import AbstractDictionaryNSManager
from beaker.caching.entry import Entry, stamps_of
from beaker.caching.factory import given, runtime_of, store_for
from beaker.caching.marks import Begun, Good, Mode
from beaker.caching.namespace import EntryNamespaceManager, NamespaceManager
from beaker.caching.object_pool import LivePool, clear_region
from beaker.caching.open_resource import OpenResourceNamespaceManager
from beaker.caching.stamped import LocalCreation, with_stamps
from beaker.caching.stamps import local
from beaker.caching.store_manager import StoreNamespaceManager
from beaker.caching.value import Value
from beaker.exceptions import ConfigError, ConfigWarning, warn
from beaker.locking.factories import NullLocks, ThreadLocks
from beaker.paths import private_directory

if TYPE_CHECKING:
    from beaker.locking.factories import Lock
    from beaker.storage.memory import MemoryStore

__all__ = [
    "AbstractDictionaryNSManager",
    "Container",
    "ContainerContext",
    "ContainerMeta",
    "DBMContainer",
    "DBMNamespaceManager",
    "DbmContainer",
    "Entry",
    "FileContainer",
    "FileNamespaceManager",
    "MemoryContainer",
    "MemoryNamespaceManager",
    "NamespaceManager",
    "NullNamespaceManager",
    "OpenResourceNamespaceManager",
    "Value",
]

logger = logging.getLogger("beaker.container")

# Test suites of frameworks replace this module's `time` to move the clock.
_clock.bind(sys.modules[__name__])


class ContainerMeta(type):
    """Gives each container class the ``namespace_class`` its values live in (manual 5.1.2)."""

    namespace_class: type[NamespaceManager]

    def __init__(cls, classname: str, bases: tuple[type, ...], dict_: dict[str, Any]) -> None:
        super().__init__(classname, bases, dict_)
        if not issubclass(cls.namespace_class, NamespaceManager):
            raise ConfigError(
                f"{classname}.namespace_class is no NamespaceManager",
                option="namespace_class",
                code="config.broken-backend",
            )


class Container(Value, metaclass=ContainerMeta):
    """A :class:`Value` that finds its manager itself: by ``namespace``, created once per ``context``.

    * ``key``, ``createfunc``, ``expiretime``, ``starttime``: as for :class:`Value`.
    * ``context``: a dict from namespaces to managers that the caller keeps, or ``None``.
    * ``namespace``: the namespace's name.
    * Further keyword arguments go to the manager.

    Older than Value, and kept for the programs that use it.
    """

    namespace_class: ClassVar[type[NamespaceManager]] = NamespaceManager

    def __init__(
        self,
        key: str,
        context: MutableMapping[str, NamespaceManager] | None,
        namespace: str,
        createfunc: Callable[[], Any] | None = None,
        expiretime: float | None = None,
        starttime: float | None = None,
        **kwargs: Any,
    ) -> None:
        manager = None if context is None else context.get(namespace)
        if manager is None:
            manager = self.create_namespace(namespace, **kwargs)
            if context is not None:
                manager = context.setdefault(namespace, manager)
        super().__init__(key, manager, createfunc, expiretime, starttime)

    @classmethod
    def create_namespace(cls, namespace: str, **kwargs: Any) -> NamespaceManager:
        """A manager of this container's kind."""
        return cls.namespace_class(namespace, **kwargs)


class MemoryNamespaceManager(EntryNamespaceManager):
    """Live objects in this process: not copied, not pickled, lost with it, unknown to other processes.

    All managers of one namespace and the same bounds share them. The bounds are those of all namespaces
    together: the least recently used leave first, expired ones as new ones come.

    * ``max_entries``: entries kept; default 10,000.
    * ``max_bytes``: approximate bytes kept; default 64 MiB, or a quarter of what the platform gives the
      instance. ValueTooLarge for a value that alone is over it.
    * ``lock``: ``none`` for no creation lock. ``file`` and ``lease`` have no effect, which a ConfigWarning says once:
      what no other process sees is created once a process.
    * Other options as for :meth:`NamespaceManager.configure`.
    """

    blocks = False
    stamp_home = local
    names: tuple[str, ...] = ()
    """The tags on which the values of a view depend."""

    def __init__(self, namespace: str, **kwargs: Any) -> None:
        self.configure(kwargs)
        self._max_entries = defaults.max_entries(kwargs)
        self._max_bytes = defaults.max_bytes(kwargs, runtime_of(kwargs))
        bounds = {"max_entries": self._max_entries, "max_bytes": self._max_bytes, "clock": self.clock}
        self._pool = store_for("live", LivePool, bounds)
        _check_memory_lock(kwargs)
        self._locks = kwargs.get("locks") or (NullLocks() if kwargs.get("lock") == "none" else _creation)
        self._space = self._pool.space(namespace)
        super().__init__(namespace)
        self.same_data = self._space
        self.marks = self._space.marks
        if type(self).read is MemoryNamespaceManager.read:
            # A hit is so short that a call more or less is a part of it.
            self.read = self._space.get  # type: ignore[method-assign]

    @property
    def store(self) -> MemoryStore:
        """A store of bytes beside the live objects, under the same bounds, for sessions."""
        from beaker.storage.memory import MemoryStore

        bounds = {"max_entries": self._max_entries, "max_bytes": self._max_bytes, "clock": self.clock}
        return store_for("memory", MemoryStore, bounds)

    def join_region(self, region: str, stamped: bool) -> None:
        if region:
            self._space.join_region(region)

    def forget_region(self, region: str) -> None:
        clear_region(region)

    def view(self, tags: tuple[str, ...] = ()) -> MemoryNamespaceManager:
        if not tags:
            return self
        view = copy.copy(self)
        vars(view).pop("read", None)
        view.names = tags
        view.origin = self.origin or self
        return view

    def begin(self, key: str, good: Good, *, absent: bool = False, mode: Mode = "hold") -> Begun:
        if not self.names:
            return super().begin(key, good, absent=absent, mode=mode)
        stamps = local.take(self.names)
        return _stamped(super().begin(key, good, absent=absent, mode=mode), stamps)

    def restart(self, key: str) -> Begun:
        stamps = local.take(self.names)
        return _stamped(super().restart(key), stamps)

    def holds(self, entry: Entry) -> bool:
        return not any(stamp.void for _, stamp in stamps_of(entry))

    def get_creation_lock(self, key: str) -> Lock:
        lock: Lock = self._locks.creation(self.namespace, key)
        return lock

    def sharing(self, key: str, value: Any) -> Callable[[], Any]:
        return lambda: value

    def read(self, key: str) -> Entry | None:
        entry = self._space.get(key)
        if entry is None or not self.names:
            return entry
        return entry if {name for name, _ in stamps_of(entry)}.issuperset(self.names) else None

    def write(self, key: str, entry: Entry) -> None:
        if self.names and not stamps_of(entry):
            entry = with_stamps(entry, local.take(self.names))
        if self.marks.held:
            self.marks.void(key)
        self.tally.bytes_written += self._pool.put(self._space, key, entry, self.freshness.kept_until(entry))

    def prolong(self, key: str, entry: Entry, later: Entry) -> None:
        self._pool.prolong(self._space, key, entry, later, self.freshness.kept_until(later))

    def discard(self, key: str) -> None:
        self.marks.void(key)
        self._pool.discard(self._space, key)

    def do_remove(self) -> None:
        self._pool.clear(self._space)

    def keys(self) -> Iterable[str]:
        return list(self._space.slots)


class NullNamespaceManager(EntryNamespaceManager):
    """Keeps nothing: every read is a miss. For tests and for switching a cache off by its type.

    No option means anything here, and none is warned of: they can stay until the type is switched back.
    """

    blocks = False

    def __init__(self, namespace: str, **kwargs: Any) -> None:
        self.configure(kwargs)
        super().__init__(namespace)

    def join_region(self, region: str, stamped: bool) -> None:
        """Nothing is kept."""

    def forget_region(self, region: str) -> None:
        """Nothing is there."""

    def view(self, tags: tuple[str, ...] = ()) -> NullNamespaceManager:
        return self

    def get_creation_lock(self, key: str) -> Lock:
        return NullLocks().creation(self.namespace, key)

    def read(self, key: str) -> Entry | None:
        return None

    def write(self, key: str, entry: Entry) -> None:
        """Nothing is kept."""

    def discard(self, key: str) -> None:
        """Nothing is there."""

    def do_remove(self) -> None:
        """Nothing is there."""

    def keys(self) -> Iterable[str]:
        return ()


class FileNamespaceManager(StoreNamespaceManager):
    """One file a key; replaced atomically, read without a lock.

    * ``file_dir``: the directory of the files; default ``data_dir``/container_file.
    * ``data_dir``: the directory of all file and dbm caches. Without either, a private directory under the
      system's temporary one, with a ConfigWarning; on serverless that is the instance's own memory, which a
      ConfigWarning says once.
    * ``lock_dir``: the directory of lock files; default ``.locks`` in the directory of the files.
    * ``digest_filenames``: file names are digests of the keys; default true.
    * ``durable``: fsync each write; default false.
    * ``max_value``: bytes of the largest record.
    * Other options as for :class:`~beaker.caching.store_manager.StoreNamespaceManager`.
    """

    def __init__(
        self,
        namespace: str,
        data_dir: str | None = None,
        file_dir: str | None = None,
        lock_dir: str | None = None,
        digest_filenames: bool = True,
        **kwargs: Any,
    ) -> None:
        from beaker.storage.files import FileStore

        arguments = {
            "directory": _directory("file", file_dir, data_dir, kwargs),
            "digest_filenames": digest_filenames,
            "file_locks": runtime_of(kwargs).file_locks,
            **given({**kwargs, "lock_dir": lock_dir}, "lock_dir", "durable", "max_value", "clock"),
            **defaults.call_seconds({"store_timeout": kwargs.get("store_timeout")}),
        }
        store = store_for("file", FileStore, arguments)
        super().__init__(
            namespace, store, **{**kwargs, "lock_dir": defaults.lock_directory(arguments["directory"], arguments)}
        )


class DBMNamespaceManager(StoreNamespaceManager):
    """One dbm file a namespace, journalled unless another engine is asked for.

    * ``dbmmodule``: a dbm module, or its name, in place of the journalled default.
    * ``dbm_dir``: the directory of the files; default ``data_dir``/container_dbm.
    * ``data_dir``, ``lock_dir``, ``digest_filenames``, ``durable``, ``max_value``: as for
      :class:`FileNamespaceManager`.
    * Other options as for :class:`~beaker.caching.store_manager.StoreNamespaceManager`.
    """

    def __init__(
        self,
        namespace: str,
        dbmmodule: Any = None,
        data_dir: str | None = None,
        dbm_dir: str | None = None,
        lock_dir: str | None = None,
        digest_filenames: bool = True,
        **kwargs: Any,
    ) -> None:
        from beaker.storage.dbm import DbmStore

        arguments = {
            "directory": _directory("dbm", dbm_dir, data_dir, kwargs),
            "digest_filenames": digest_filenames,
            **given({"lock_dir": lock_dir, "dbmmodule": dbmmodule}, "lock_dir", "dbmmodule"),
            **given(kwargs, "durable", "max_value", "clock"),
            **defaults.call_seconds({"store_timeout": kwargs.get("store_timeout")}),
        }
        store = store_for("dbm", DbmStore, arguments)
        super().__init__(
            namespace, store, **{**kwargs, "lock_dir": defaults.lock_directory(arguments["directory"], arguments)}
        )


class MemoryContainer(Container):
    """A container of live objects."""

    namespace_class = MemoryNamespaceManager


class FileContainer(Container):
    """A container of files."""

    namespace_class = FileNamespaceManager


class DBMContainer(Container):
    """A container of dbm records."""

    namespace_class = DBMNamespaceManager


ContainerContext = dict
"""What :class:`Container` takes as its ``context``, by its older name."""
DbmContainer = DBMContainer

_creation = ThreadLocks()
_warned: set[str] = set()


def _stamped(begun: Begun, stamps: tuple[tuple[str, Any], ...]) -> Begun:
    if begun.creation is None or not stamps:
        return begun
    return begun._replace(creation=LocalCreation(begun.creation, stamps))


def _check_memory_lock(options: Mapping[str, Any]) -> None:
    asked = options.get("lock")
    if asked in ("file", "lease") and not options.get("locks") and f"lock {asked}" not in _warned:
        # Not an error: an option of all regions reaches those in memory, too.
        _warned.add(f"lock {asked}")
        message = f"lock = {asked} has no effect on type 'memory': each process has values of its own"
        if options.get("lock_dir"):
            message += ", and lock_dir is not used"
        hint = "leave lock out, or keep the values where processes share them: type = file, ext:redis, ..."
        warn(ConfigWarning(message, code="config.no-effect", hint=hint))


def _directory(kind: str, own: str | None, data_dir: str | None, options: dict[str, Any]) -> str:
    runtime = runtime_of(options)
    if not runtime.durable_disk and kind not in _warned:
        _warned.add(kind)
        told = "files are this instance's memory, no other instance sees them and they vanish with it; use ext:google,"
        told += " ext:memcached, ext:redis or ext:database to share"
        warn(ConfigWarning(f"type {kind!r} on {runtime.platform.value}: {told}", code="config.local-files"))
    found = defaults.store_directory(kind, {f"{kind}_dir": own, "data_dir": data_dir}, runtime)
    if found is not None:
        return found
    directory = private_directory(runtime.temp_dir)
    told = f"records go to {directory}, which the system may clean up; set data_dir"
    warn(ConfigWarning(f"type {kind!r} without data_dir: {told}", code="config.no-data-dir"))
    return os.path.join(directory, f"container_{kind}")
