"""Where secrets come from: an option's value, or a file that may change while the process runs."""

from __future__ import annotations

import os
import stat
from typing import Final, NamedTuple, Protocol, TypeVar

from beaker._typing import Clock
from beaker.crypto.form import HINT, check_key, check_reference, file_lines
from beaker.exceptions import ConfigError

__all__ = ["FileSource", "Fixed", "Secret", "Source", "sources_of"]

_FILE: Final = "file:"
_CHECK_SECONDS: Final = 5.0
_MAX_FILE_BYTES: Final = 65536
_READS: Final = 5
_Part = TypeVar("_Part", str, bytes)


class Secret(NamedTuple):
    """A secret's bytes and the option it came by."""

    value: bytes
    option: str
    paired: bool = False

    def __repr__(self) -> str:
        return f"<Secret of {self.option}>"


class Source(Protocol):
    """Something that holds secrets."""

    def read(self) -> list[Secret]: ...


class Fixed:
    """Secrets given as values."""

    def __init__(self, values: list[bytes], option: str) -> None:
        self._secrets = [Secret(value, option) for value in values]

    def read(self) -> list[Secret]:
        return self._secrets

    def __repr__(self) -> str:
        return f"<{len(self._secrets)} secrets>"


class FileSource:
    """A file of one secret a line, at most 64 KiB; blank lines do not count.

    It is used when two reads have found it alike, and a changed one when nothing has written to it for 5 seconds, so
    that no half-written file is.
    """

    def __init__(self, path: str, option: str, clock: Clock) -> None:
        self._path = path
        self._option = option
        self._clock = clock
        self._checked = clock()
        self._mark: object = None
        self._seen: object = None
        self._owner: int | None = None
        self._complained = False

    def changed(self) -> bool:
        """Whether the file is another one than the one last read, and nothing has written to it for 5 seconds.

        It is looked at every 5 seconds at most.
        """
        now = self._clock()
        if 0 <= now - self._checked < _CHECK_SECONDS:
            return False
        self._checked = now
        try:
            status = os.stat(self._path)
        except OSError as err:
            self.complain(err)
            return False
        mark = _mark(status)
        seen, self._seen = self._seen, mark
        return mark != self._mark and (mark == seen or now - status.st_mtime >= _CHECK_SECONDS)

    def read(self) -> list[Secret]:
        """The secrets. Raises ConfigError naming the option and the path."""
        data, status = self._settled()
        self._check_owner(status)
        where = f"{self._option} ({self._path})"
        lines = file_lines(data, where)
        for line in lines:
            check_key(line, where, line=True)
        self._mark, self._owner = _mark(status), status.st_uid
        self._complained = False
        return [Secret(line, self._option) for line in lines]

    def _settled(self) -> tuple[bytes, os.stat_result]:
        data, status = self._read()
        if not stat.S_ISREG(status.st_mode):
            # A pipe can be read once.
            return data, status
        for _ in range(_READS):
            again, status = self._read()
            if again == data:
                return data, status
            data = again
        raise self._unreadable("it is being written")

    def _read(self) -> tuple[bytes, os.stat_result]:
        try:
            with open(self._path, "rb") as file:
                return file.read(_MAX_FILE_BYTES + 1), os.fstat(file.fileno())
        except (OSError, ValueError) as err:
            raise self._unreadable("it cannot be read") from err

    def _check_owner(self, status: os.stat_result) -> None:
        """Refuse a file that anybody can write, or that came to another owner while this process runs."""
        if os.name != "posix" or not stat.S_ISREG(status.st_mode):
            return
        if status.st_mode & stat.S_IWOTH:
            raise self._unreadable("every user of the machine can write it", f"chmod o-w {self._path}")
        if self._owner is not None and status.st_uid not in (0, os.geteuid(), self._owner):
            raise self._unreadable("it belongs to another user than before")

    def _unreadable(self, why: str, hint: str = "") -> ConfigError:
        return ConfigError(
            f"{self._option} names a file of keys that is not used, because {why}: {self._path}",
            option=self._option,
            hint=hint,
            code="config.unreadable-file",
        )

    def complain(self, err: Exception) -> None:
        """Log once, until the file is good again, that the old keys stay in use."""
        if not self._complained:
            self._complained = True
            import logging

            logging.getLogger("beaker.crypto").warning(
                "%s: cannot use the changed file, keeping the keys read before (%s)", self._option, err
            )

    def __repr__(self) -> str:
        return f"<secrets in {self._path}>"


def _mark(status: os.stat_result) -> object:
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev)


def sources_of(value: object, *, option: str, clock: Clock, split_from: int) -> list[Source]:
    """The sources an option's value stands for; see :meth:`beaker.crypto.keyring.KeyRing.from_option`."""
    if isinstance(value, (list, tuple)):
        sources = [source for item in value for source in _one(item, option, clock, split_from=None)]
    else:
        sources = _one(value, option, clock, split_from=split_from)
    if not sources:
        raise _empty(option)
    return sources


def _one(value: object, option: str, clock: Clock, *, split_from: int | None) -> list[Source]:
    if isinstance(value, bytes):
        (key,) = _not_empty([value], option)
        check_reference(key, option)
        return [Fixed([key], option)]
    if not isinstance(value, str):
        raise ConfigError(
            f"{option} cannot be a key",
            option=option,
            expected="str, bytes or a list of them",
            got=type(value).__name__,
        )
    sources: list[Source] = []
    for part in _not_empty(_split(value.strip(), split_from), option):
        if part.startswith(_FILE):
            sources.append(FileSource(part[len(_FILE) :].strip(), option, clock))
        else:
            sources.append(Fixed([_checked(part, option)], option))
    return sources


def _checked(text: str, option: str) -> bytes:
    if any(char < " " or char in "\x7f\ufeff" for char in text):
        raise ConfigError(
            f"a key of {option} holds a control character or a byte order mark",
            option=option,
            hint=HINT,
            code="config.not-a-key",
        )
    key = _bytes(text)
    check_key(key, option)
    return key


def _split(text: str, split_from: int | None) -> list[str]:
    if split_from is None:
        return [text]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1:
        return lines
    parts = [part.strip() for part in text.split(",")]
    files = [part.startswith(_FILE) for part in parts]
    # A comma may belong to a path or to a key: it separates only what stands by itself.
    separate = all(files) if files[0] else all(len(_bytes(part)) >= split_from for part in parts)
    return parts if separate else [text]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _not_empty(parts: list[_Part], option: str) -> list[_Part]:
    if not all(parts):
        raise _empty(option)
    return parts


def _empty(option: str) -> ConfigError:
    return ConfigError(f"{option} is empty", option=option, hint=HINT)
