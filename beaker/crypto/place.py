"""The key of a directory: it signs what is stored there where no other key is configured."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from beaker.crypto.form import is_made_here, make_key
from beaker.crypto.keyring import Key
from beaker.exceptions import StoreUnavailable
from beaker.locking.files import file_lock
from beaker.paths import Exposed, atomic_write, held_path, open_held, read_private, unusable, verify_directory

__all__ = ["DirectoryKey", "PlaceKey"]

_NAME: Final = ".signing-key"
_LOCK_SECONDS: Final = 10.0


class DirectoryKey(Key):
    """A key that a :class:`PlaceKey` read."""

    __slots__ = ()


class PlaceKey:
    """The key kept in ``directory``, for this user alone, that tells our own records from supplied ones.

    A path proves nothing about a file: a directory above may be replaced by a symbolic link, files may come from
    elsewhere. A record signed by this key was written by a process of this user, wherever it is found. The key is read
    through descriptors, from a directory and a file that belong to this user and that no other user can write, under
    directories that no other user can replace; once read, it is remembered.

    - ``directory``: an absolute path. It is created with the key, mode 0700, when the first record is sealed.
    - ``backend``, ``option``: what messages name.

    Nothing is opened in the constructor. Every method raises :class:`~beaker.exceptions.StoreUnavailable` where it
    cannot look, for want of a descriptor for example.
    """

    def __init__(self, directory: str, *, backend: str, option: str) -> None:
        self.directory = directory
        self.known: DirectoryKey | None = None
        """The key as last read; ``None`` before, and where there is none."""
        self._backend = backend
        self._option = option
        self._mark: object = None

    def current(self) -> DirectoryKey | None:
        """The key that seals; created when there is none. ``None`` where it could not be kept, see :meth:`problem`."""
        with self._failing():
            # One look, so that a directory that was removed, replaced or opened to other users is noticed.
            if self._mark is None or self._mark != self._look():
                with contextlib.suppress(Exposed):
                    return self._load(create=True)
                self.known = self._mark = None
        return self.known

    def find(self, kid: bytes) -> DirectoryKey | None:
        """The key if it is named ``kid`` (4 bytes). Creates nothing."""
        key = self.known
        if key is not None and key.kid == kid:
            return key
        with self._failing(), contextlib.suppress(Exposed):
            key = self._load(create=False)
        return key if key is not None and key.kid == kid else None

    def problem(self) -> str:
        """Why no key can be kept there, and what to do; empty when nothing is against it. Creates nothing."""
        try:
            with self._failing():
                self._load(create=False)
        except Exposed as err:
            return f"{err}, or set a key (secret)"
        return ""

    def _look(self) -> object:
        try:
            return _mark(os.lstat(f"{self.directory}/{_NAME}"))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _load(self, *, create: bool) -> DirectoryKey | None:
        if not hasattr(os, "geteuid"):
            raise Exposed(f"{self.directory}: this platform does not show who may write there; leave pickles out")
        if create:
            verify_directory(self.directory)
        try:
            real = held_path(self.directory)
            descriptor = open_held(real)
        except FileNotFoundError:
            return None
        try:
            found = read_private(_NAME, descriptor)
            if found is None and create:
                with file_lock(f"{real}/{_NAME}.lock", timeout=_LOCK_SECONDS):
                    found = read_private(_NAME, descriptor)
                    if found is None:
                        atomic_write(_NAME, make_key().encode() + b"\n", durable=True, dir_fd=descriptor)
                        found = read_private(_NAME, descriptor)
        finally:
            os.close(descriptor)
        if found is None:
            return None
        data, status = found
        value = data.strip()
        if not is_made_here(value):
            raise Exposed(f"{self.directory}/{_NAME} is no whole key; remove it")
        # Only what is whole is published, the key before the mark that says it is up to date.
        key = self.known = DirectoryKey(value)
        self._mark = _mark(status)
        return key

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            reason = unusable(self.directory, err, self._option)
            raise StoreUnavailable(reason, backend=self._backend, operation="sign") from err

    def __repr__(self) -> str:
        return f"<PlaceKey of {self.directory}>"


def _mark(status: os.stat_result) -> object:
    return (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_mode, status.st_uid)
