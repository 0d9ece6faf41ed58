"""Where old server-side sessions lie: read one by its id, remove it, never write.

Every record is a pickle around the session's own bytes, except on memcached. It is read by
:mod:`beaker.session.legacy.unpickle`, which runs nothing.
"""

from __future__ import annotations

import errno
import importlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from typing import Any, Protocol

from beaker.exceptions import ConfigError, InvalidCacheBackendError, StoreUnavailable
from beaker.session.legacy import unpickle
from beaker.session.legacy.payload import inflated
from beaker.session.legacy.plain import LegacyDataError

__all__ = ["OldRecords", "open_records"]


class OldRecords(Protocol):
    """One old store. ``id`` has been checked to be of a session id's form."""

    def read(self, id: str) -> Any:
        """The session as stored: text, bytes or a dict; ``None`` if there is no record.

        Raises LegacyDataError for a record that cannot be read, StoreUnavailable when the store does not reply.
        """
        ...

    def remove(self, id: str) -> bool:
        """Remove the record. ``False`` when the store did not let it go."""
        ...


def open_records(type: str, location: Mapping[str, str], limit: int) -> OldRecords:
    """The old store of ``type``. ``limit`` is the longest record in bytes; the client library is imported here.

    Raises InvalidCacheBackendError when that library is missing, ConfigError for a url it cannot use.
    """
    if type == "file":
        return _Files(location.get("file_dir") or os.path.join(location["data_dir"], "container_file"), limit)
    if type == "dbm":
        return _Dbms(location.get("dbm_dir") or os.path.join(location["data_dir"], "container_dbm"), limit)
    if type == "ext:memcached":
        return _Memcached(location["url"], limit)
    if type == "ext:redis":
        return _Redis(location["url"], limit)
    return _Table(location, limit)


def _wrapped(data: bytes, limit: int) -> Any:
    record = unpickle.loads(data, limit=limit)
    if type(record) is not dict:
        raise LegacyDataError("type")
    return record.get("session")


def _path(root: str, id: str, extension: str) -> str:
    return os.path.join(root, id[:1], id[:2], id + extension)


class _Files:
    """One file a session; ``root`` is the old ``container_file``."""

    backend = "file"
    extension = ".cache"
    endings: tuple[str, ...] = ("",)

    def __init__(self, root: str, limit: int) -> None:
        self.root = root
        self.limit = limit

    def read(self, id: str) -> Any:
        failure: OSError | None = None
        try:
            found = self._read(_path(self.root, id, self.extension))
        except OSError as err:
            # The error itself names the file, and that is the session's id.
            failure = OSError(err.errno, err.strerror)
        if failure is not None:
            raise self._unavailable() from failure
        if found is None and not os.path.isdir(self.root):
            # A disk that is not mounted looks like no sessions at all.
            raise self._unavailable()
        return found

    def _read(self, path: str) -> Any:
        try:
            with open(path, "rb", opener=_open) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise LegacyDataError("file")
                data = file.read(self.limit + 1)
        except FileNotFoundError:
            return None
        except OSError as err:
            if err.errno not in _NO_FILE:
                raise
            raise LegacyDataError("file") from None
        return _wrapped(data, self.limit)

    def _unavailable(self) -> StoreUnavailable:
        return StoreUnavailable("an old record cannot be read", backend=self.backend, operation="legacy.read")

    def remove(self, id: str) -> bool:
        path = _path(self.root, id, self.extension)
        try:
            for ending in self.endings:
                with suppress(FileNotFoundError):
                    os.unlink(path + ending)
        except OSError:
            return False
        return True


class _Dbms(_Files):
    """One dbm file a session, of whatever library the old Python had."""

    backend = "dbm"
    extension = ".dbm"
    endings = ("", ".db", ".dat", ".dir", ".pag", ".bak")

    def _read(self, path: str) -> Any:
        import dbm

        existing = [path + ending for ending in self.endings if _exists(path + ending)]
        if not existing:
            return None
        if not all(map(_is_regular, existing)):
            raise LegacyDataError("file")
        try:
            with dbm.open(path, "r") as file:
                data = file.get(b"session")
        except FileNotFoundError:
            # Just being removed: a request at the same time has taken the session over.
            return None
        except Exception as err:
            if isinstance(err, OSError) and err.errno not in _DAMAGED:
                raise
            # Written by a dbm library that this Python does not have, or damaged: each library has errors of its own.
            raise LegacyDataError("dbm") from None
        return None if data is None else unpickle.loads(data, limit=self.limit)


_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.EISDIR)
_DAMAGED = (None, 0, errno.EINVAL)


def _exists(path: str) -> bool:
    # Not os.path.exists(), which takes a directory that may not be entered for an empty one.
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def _is_regular(path: str) -> bool:
    # Not stat(): nor is a link followed that another user may have put there. A library would wait for a pipe's writer.
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return True


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _client(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as err:
        raise InvalidCacheBackendError(
            f"reading old records needs {module.partition('.')[0]}: pip install 'beaker-gae[{extra}]'",
            option="session.legacy.type",
            code="config.missing-package",
        ) from err


def _bad_url(expected: str) -> ConfigError:
    # Never chained: the library's error may quote the url, and so its password.
    name = "session.legacy.url"
    return ConfigError(f"{name}: the old store's url cannot be read", option=name, expected=expected)


class _Remote:
    """A store behind a client library, whose errors all mean that nothing is known."""

    backend = ""

    def read(self, id: str) -> Any:
        try:
            data = self._get(id)
        except Exception as err:
            raise StoreUnavailable(
                "the old store did not answer", backend=self.backend, operation="legacy.read"
            ) from err
        return None if data is None else self._load(data)

    def remove(self, id: str) -> bool:
        try:
            self._delete(id)
        except Exception:
            # The caller counts what stayed; the mark in our own store is what ends the old cookie.
            return False
        return True

    def _get(self, id: str) -> bytes | None:
        raise NotImplementedError

    def _delete(self, id: str) -> None:
        raise NotImplementedError

    def _load(self, data: bytes) -> Any:
        raise NotImplementedError


class _Table(_Remote):
    backend = "ext:database"

    def __init__(self, location: Mapping[str, str], limit: int) -> None:
        sa = _client("sqlalchemy", "database")
        self.limit = limit
        self.table = sa.table(
            location.get("table_name", "beaker_cache"),
            sa.column("namespace", sa.String),
            sa.column("data", sa.LargeBinary),
            schema=location.get("schema_name"),
        )
        # A session is read once, so connections are not kept; none can then cross a fork either.
        try:
            self.engine = sa.create_engine(location["url"], poolclass=sa.pool.NullPool, hide_parameters=True)
        except (sa.exc.ArgumentError, ValueError):
            raise _bad_url("dialect+driver://user:password@host:port/name") from None
        except ImportError as err:
            raise InvalidCacheBackendError(
                f"reading old records needs the package {err.name or 'of the driver in their url'}, which is missing",
                option="session.legacy.url",
                code="config.missing-package",
            ) from err
        self.query = sa.select(self.table.c.data)

    def _get(self, id: str) -> bytes | None:
        with self.engine.connect() as connection:
            data = connection.execute(self.query.where(self.table.c.namespace == id)).scalar()
        return None if data is None else bytes(data)

    def _delete(self, id: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.table.delete().where(self.table.c.namespace == id))

    def _load(self, data: bytes) -> Any:
        return _wrapped(data, self.limit)


class _Memcached(_Remote):
    backend = "ext:memcached"

    def __init__(self, url: str, limit: int) -> None:
        self.limit = limit
        self.library = _client("pymemcache.client.base", "memcached")
        # Old clients chose a server by hashes of their own, so each is asked.
        self.servers = [server.strip() for server in url.split(";") if server.strip()]
        try:
            # Nothing connects before the first command.
            for server in self.servers:
                self.library.Client(server)
        except ValueError:
            self.servers = []
        if not self.servers:
            raise _bad_url("host:port, several with ; between them")

    def _each(self) -> Iterator[Any]:
        for server in self.servers:
            client = self.library.Client(server, connect_timeout=1.0, timeout=2.0, no_delay=True)
            with closing(client):
                yield client

    def _get(self, id: str) -> bytes | None:
        return next((data for client in self._each() if (data := client.get(f"{id}_session")) is not None), None)

    def _delete(self, id: str) -> None:
        for client in self._each():
            client.delete(f"{id}_session", noreply=False)

    def _load(self, data: bytes) -> Any:
        if data[:1] == b"\x78" and not data.isascii():
            # bmemcached compresses; base64 is all ASCII.
            data = inflated(data, self.limit)
        if len(data) > self.limit:
            raise LegacyDataError("size")
        # Text is kept as it is, anything else as a pickle of any protocol.
        return data if _TEXT.match(data) else unpickle.loads(data, limit=self.limit)


_TEXT = re.compile(rb"[0-9A-Za-z+/=]+\Z")


class _Redis(_Remote):
    backend = "ext:redis"

    def __init__(self, url: str, limit: int) -> None:
        self.limit = limit
        library = _client("redis", "redis")
        try:
            self.client: Any = library.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=1.0)
        except ValueError:
            raise _bad_url("redis://user:password@host:port/number") from None

    def _get(self, id: str) -> bytes | None:
        data: bytes | None = self.client.get(f"beaker_cache:{id}:session")
        return data

    def _delete(self, id: str) -> None:
        self.client.delete(f"beaker_cache:{id}:session")

    def _load(self, data: bytes) -> Any:
        return unpickle.loads(data, limit=self.limit)
