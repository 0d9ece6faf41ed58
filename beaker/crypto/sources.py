"""Where secrets come from: an option's value, or a file that may change while the process runs."""

from __future__ import annotations

import logging
import os
from typing import Final, NamedTuple, Protocol, TypeVar

from beaker._typing import Clock
from beaker.exceptions import ConfigError

__all__ = ["FileSource", "Fixed", "Secret", "Source", "sources_of"]

_FILE: Final = "file:"
_CHECK_SECONDS: Final = 5.0
_MAX_FILE_BYTES: Final = 65536
_Part = TypeVar("_Part", str, bytes)
_log = logging.getLogger("beaker.crypto")


class Secret(NamedTuple):
    """A secret's bytes and the option it came by."""

    value: bytes
    option: str

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
    """A file of one secret a line, at most 64 KiB; blank lines do not count."""

    def __init__(self, path: str, option: str, clock: Clock) -> None:
        self._path = path
        self._option = option
        self._clock = clock
        self._checked = clock()
        self._mark: object = None
        self._complained = False

    def changed(self) -> bool:
        """Whether the file is another one than the one last read; looked at every 5 seconds at most."""
        now = self._clock()
        if 0 <= now - self._checked < _CHECK_SECONDS:
            return False
        self._checked = now
        try:
            return _mark(os.stat(self._path)) != self._mark
        except OSError as err:
            self.complain(err)
            return False

    def read(self) -> list[Secret]:
        """The secrets. Raises ConfigError naming the option and the path."""
        try:
            with open(self._path, "rb") as file:
                mark = _mark(os.fstat(file.fileno()))
                data = file.read(_MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as err:
            raise ConfigError(
                f"{self._option} names a file that cannot be read: {self._path}",
                option=self._option,
                code="config.unreadable-file",
            ) from err
        lines = [line.strip() for line in data.splitlines() if line.strip()]
        if not lines or len(data) > _MAX_FILE_BYTES:
            raise ConfigError(
                f"{self._option} names a file that holds no keys: {self._path}",
                option=self._option,
                expected="one key a line, at most 64 KiB",
                code="config.unreadable-file",
            )
        self._mark = mark
        self._complained = False
        return [Secret(line, self._option) for line in lines]

    def complain(self, err: Exception) -> None:
        """Log once, until the file is good again, that the old keys stay in use."""
        if not self._complained:
            self._complained = True
            _log.warning("%s: cannot use the changed file, keeping the keys read before (%s)", self._option, err)

    def __repr__(self) -> str:
        return f"<secrets in {self._path}>"


def _mark(stat: os.stat_result) -> object:
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev)


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
        return [Fixed(_not_empty([value], option), option)]
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
            sources.append(Fixed([_bytes(part)], option))
    return sources


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
    return ConfigError(f"{option} is empty", option=option, hint="make a key with `python -m beaker keys new`")
