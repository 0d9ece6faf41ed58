"""File names from any text, directories that several processes create at once, writes that are all or nothing."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from beaker.exceptions import ConfigError, MissingCacheParameter

__all__ = [
    "Exposed",
    "atomic_write",
    "encoded_path",
    "expect_directory",
    "held_path",
    "open_held",
    "private_directory",
    "read_private",
    "safe_name",
    "unusable",
    "verify_directory",
]

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-")
_LONGEST = 160
"""Characters of a readable name: room for an extension and a temporary suffix within the usual 255."""

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)
_DIRECTORY = os.O_RDONLY | os.O_CLOEXEC | _NO_FOLLOW | getattr(os, "O_DIRECTORY", 0)
_MOST_LINKS = 40
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | _NO_FOLLOW
_fallocate = getattr(os, "posix_fallocate", None)


def safe_name(text: str) -> str:
    """A readable file name for any text: different texts give different names, on file systems that
    fold case too. It holds no dot, slash or NUL, is never empty, and has at most 160 characters.

    Lower-case ASCII letters, digits, ``_`` and ``-`` stay; every other byte of the UTF-8 form becomes
    ``%`` and two hex digits. Longer names become ``%%`` and a SHA-256.
    """
    raw = text.encode("utf-8", "surrogatepass")
    if not raw:
        return "%-"
    name = "".join([chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in raw]) if len(raw) <= _LONGEST else ""
    if 0 < len(name) <= _LONGEST:
        return name
    return "%%" + hashlib.sha256(raw).hexdigest()


def encoded_path(
    root: str | os.PathLike[str],
    identifiers: Iterable[str],
    extension: str = "enc",
    depth: int = 3,
    digest_filenames: bool = True,
    *,
    create: bool = True,
) -> str:
    """A path under ``root`` that belongs to this list of identifiers alone (manual 5.1.6).

    ``depth - 1`` directories fan the files out. With ``digest_filenames`` the name is 64 hex digits;
    without, it is readable where that is safe. No identifier can lead out of ``root``. With ``create``
    the directories are created, as a caller that goes on to write expects.
    """
    parts = [str(identifier) for identifier in identifiers]
    raws = [part.encode("utf-8", "surrogatepass") for part in parts]
    digest = hashlib.sha256(b"beaker:path:1\0" + b"".join(b"%d:%b" % (len(raw), raw) for raw in raws)).hexdigest()
    name = digest
    if not digest_filenames:
        readable = "+".join(map(safe_name, parts))
        name = readable if 0 < len(readable) <= _LONGEST else "%%%" + digest
    directory = os.path.join(os.fspath(root), *(digest[:level] for level in range(1, depth)))
    if create:
        verify_directory(directory)
    extension = extension.lstrip(".")
    return os.path.join(directory, f"{name}.{extension}" if extension else name)


def verify_directory(dir: str | os.PathLike[str]) -> None:
    """Create the directory and its missing parents, mode 0700; safe when another process does the same.

    Raises the :class:`OSError` of the file system, :class:`FileExistsError` or
    :class:`NotADirectoryError` when a file is in the way.
    """
    path = os.fspath(dir)
    # A parent may be removed between two steps; losing so often is no race: /proc creates no directories at all.
    for _ in range(20):
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if os.path.isdir(path):
                return
            if os.path.lexists(path):
                raise
        except FileNotFoundError:
            parent = os.path.dirname(path.rstrip(os.sep))
            if not parent or parent == path:
                raise
            verify_directory(parent)
        else:
            return
    raise FileNotFoundError(errno.ENOENT, "the directory cannot be created there", path)


def expect_directory(path: str, option: str) -> None:
    """Raise ConfigError, naming ``option``, when ``path`` or a part of it is a file. Creates and opens nothing."""
    while True:
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            parent = os.path.dirname(path)
            if parent == path:
                return
            path = parent
        except OSError:
            # Who may not look now may be allowed to later; the first write says what is wrong.
            return
        else:
            break
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(
            f"{path} is a file", option=option, expected="a directory", hint=f"set {option} to another path"
        )


def unusable(directory: str, err: OSError, option: str) -> str:
    """What a message says of a directory in which an operation failed: where, why, and what to do about it."""
    if isinstance(err, TimeoutError):
        return (
            f"{directory}: another process has held a lock file there for too long; see whether it is stopped or hung"
        )
    user = f" (user id {os.geteuid()})" if hasattr(os, "geteuid") else ""
    another = f"set {option} to a directory that it may write"
    why, advice = {
        errno.EACCES: (f"this process{user} may not read, create or write files there", another),
        errno.EPERM: (f"this process{user} may not read, create or write files there", another),
        errno.EROFS: ("the file system is read-only", another),
        errno.ENOTDIR: ("a file is in the way", another),
        errno.EEXIST: ("a file is in the way", another),
        errno.ELOOP: ("a symbolic link is in the place of a file", "remove it, and see who may write there"),
        errno.ENOENT: ("the directory cannot be created", another),
        errno.ENOSPC: ("no space is left on the device", f"make room, or set {option} to a directory elsewhere"),
        errno.EDQUOT: ("the disk quota is used up", f"make room, or set {option} to a directory elsewhere"),
        errno.EFBIG: ("a file has reached the largest size allowed", "raise the limit (ulimit -f)"),
        errno.EIO: (
            "the device reports an input/output error",
            f"see the system's log, or set {option} to a directory elsewhere",
        ),
        errno.ENOLCK: ("no file locks are to be had", f"set {option} to a directory on a local disk"),
        errno.EMFILE: ("this process has too many files open", "raise its limit (ulimit -n)"),
        errno.ENFILE: ("the system has too many files open", "raise its limit (fs.file-max)"),
    }.get(err.errno or 0, (err.strerror or type(err).__name__, f"see to the directory, or set {option} to another"))
    return f"{directory}: {why}; {advice}"


def atomic_write(path: str, data: bytes, *, durable: bool = False, dir_fd: int | None = None) -> None:
    """Make ``data`` the whole content of ``path``, mode 0600: readers see the old bytes or the new ones.

    A temporary file of a unique name beside it is renamed over it, and removed on any error; a killed
    process may leave it (``.*.tmp``). With ``durable`` the file and its directory are flushed, so that
    the write survives a power cut. ``dir_fd`` is an open directory that ``path`` is relative to.
    Raises :class:`OSError`.
    """
    head, slash, _ = path.rpartition("/")
    temporary = f"{head}{slash}.{os.urandom(8).hex()}.tmp"
    fd = os.open(temporary, _CREATE, 0o600, dir_fd=dir_fd)
    try:
        try:
            # Blocks allocated now are not "delayed", and a rename over an old file then does not cause
            # ext4 to flush (auto_da_alloc): 24 instead of 925 microseconds.
            if data and _fallocate is not None:
                _allocate(fd, len(data))
            written = os.write(fd, data)
            while written < len(data):
                written += os.write(fd, memoryview(data)[written:])
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=dir_fd)
        raise
    if durable:
        _flush_directory(head + slash or ".", dir_fd)


def _allocate(fd: int, size: int) -> None:
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as err:
        # A file system without preallocation still writes; one that is full must say so here.
        if err.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV):
            raise


def _flush_directory(directory: str, dir_fd: int | None) -> None:
    if dir_fd is not None and directory == ".":
        os.fsync(dir_fd)
        return
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def private_directory(temp_dir: str) -> str:
    """A directory of this user's own in ``temp_dir``, created if need be, with mode 0700.

    Raises MissingCacheParameter, naming ``data_dir``, when there is something else under its name.
    """
    # Created and checked here, before anything is written: in a shared directory another user could have
    # created one of this name.
    owner = os.getuid() if hasattr(os, "getuid") else 0
    path = os.path.join(temp_dir, f"beaker-{owner}")
    hint = f"{path} cannot be used instead: it is not a directory private to this user"
    try:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
    except OSError as error:
        raise MissingCacheParameter("data_dir is missing", option="data_dir", expected="a path", hint=hint) from error
    if not stat.S_ISDIR(found.st_mode) or (os.name == "posix" and (found.st_uid != owner or found.st_mode & 0o077)):
        raise MissingCacheParameter("data_dir is missing", option="data_dir", expected="a path", hint=hint)
    return path


class Exposed(Exception):
    """Another user can put something else in a path's place. Its text says where, and what to do."""


def held_path(path: str) -> str:
    """The absolute ``path`` without symbolic links, when no user but this one and root can replace a part of it.

    Raises :class:`Exposed` for a directory on the way that another user owns or may write, unless it is sticky as
    ``/tmp`` is, and :class:`OSError`. Judged from the root down, so that what was judged cannot change any more.
    """
    own, links, real = os.geteuid(), 0, ""
    _judge("/", os.lstat("/"), own)
    pending = path.split("/")[::-1]
    while pending:
        name = pending.pop()
        if name in ("", "."):
            continue
        if name == "..":
            real = os.path.dirname(real).rstrip("/")
            continue
        place = f"{real}/{name}"
        found = os.lstat(place)
        if not stat.S_ISLNK(found.st_mode):
            _judge(place, found, own)
            real = place
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if found.st_uid not in (0, own):
            raise Exposed(f"{place} is a symbolic link of another user; remove it")
        target = os.readlink(place)
        if target.startswith("/"):
            real = ""
        pending += target.split("/")[::-1]
    return real or "/"


def _judge(place: str, found: os.stat_result, own: int) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), place)
    if found.st_uid not in (0, own):
        raise Exposed(f"{place} belongs to another user; use a directory below one of your own")
    if found.st_mode & stat.S_ISVTX:
        return
    if found.st_mode & stat.S_IWOTH:
        raise Exposed(f"{place} can be written by every user; chmod o-w {place}")
    if found.st_mode & stat.S_IWGRP and not _is_private_group(found.st_gid, own):
        raise Exposed(f"{place} can be written by its group; chmod g-w {place}")


def _is_private_group(gid: int, own: int) -> bool:
    """Whether a group is one that has this user alone, as distributions with a umask of 002 give each user, or root."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(own), grp.getgrgid(gid)
    except KeyError:
        return False
    mine = group.gr_name == user.pw_name and gid == user.pw_gid
    return (mine or gid == 0) and {*group.gr_mem} <= {user.pw_name, "root"}


def open_held(real: str, *, private_group: bool = False) -> int:
    """A descriptor of a directory of this user's that no other user may write; ``real`` is what held_path() returned.

    With ``private_group`` the user's own group may. Raises :class:`Exposed` for another one, and :class:`OSError`.
    """
    descriptor = os.open(real, _DIRECTORY)
    try:
        found = os.fstat(descriptor)
        own = os.geteuid()
        if found.st_uid != own:
            raise Exposed(f"{real} belongs to another user; use a directory of your own")
        group = found.st_mode & stat.S_IWGRP and not (private_group and _is_private_group(found.st_gid, own))
        if group or found.st_mode & stat.S_IWOTH:
            raise Exposed(f"{real} can be written by other users (mode {found.st_mode & 0o777:o}); chmod go-w {real}")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_private(name: str, dir_fd: int, limit: int = 65_536) -> tuple[bytes, os.stat_result] | None:
    """The bytes, ``limit`` at most, and the status of a file that is this user's alone; ``None`` when it is absent.

    Raises :class:`Exposed` for a file that another user owns or can read or write, one that has a second name, a
    symbolic link, a pipe and anything else that is no file; and :class:`OSError`.
    """
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | _NO_FOLLOW | _NO_WAIT, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    except OSError as err:
        if err.errno in (errno.ELOOP, errno.ENXIO):
            raise Exposed(f"{name} is something else than a file; remove it") from err
        raise
    try:
        found = os.fstat(descriptor)
        mode = found.st_mode & 0o777
        if not stat.S_ISREG(found.st_mode):
            raise Exposed(f"{name} is something else than a file; remove it")
        if found.st_uid != os.geteuid():
            raise Exposed(f"{name} is a file of another user; remove it")
        if mode & 0o077:
            raise Exposed(f"{name} is open to other users (mode {mode:o}); remove it, or chmod 600 if none was here")
        if found.st_nlink > 1:
            raise Exposed(f"{name} has a second name somewhere; remove it")
        return os.read(descriptor, limit), found
    finally:
        os.close(descriptor)
