"""Secrets in files: the session's that a laptop keeps beside its data when none is configured, and mounted ones."""

from __future__ import annotations

import logging
import os
import secrets
from contextlib import suppress
from pathlib import Path

from beaker.crypto.form import check_key, file_lines
from beaker.crypto.keyring import new_key
from beaker.exceptions import ConfigError
from beaker.paths import Exposed, held_path, open_held, read_private

__all__ = ["kept_secret", "only_line"]

log = logging.getLogger("gae")


def kept_secret(path: Path) -> str | list[str]:
    """A random secret kept at ``path``, created at the first start: a file of this user's that no other can read.

    Read here and not by its path again, which another user of a directory above could lead elsewhere.
    """
    if not os.path.lexists(path):
        try:
            _make_secret(path)
        except OSError as error:
            raise ConfigError(
                f"no session secret can be kept in {path.parent}",
                option="BEAKER_DATA_DIR",
                got=type(error).__name__,
                expected="a directory this user can write",
                hint="or set BEAKER_SESSION_SECRET",
            ) from error
    if os.name != "posix":
        return f"file:{path}"
    lines = _private_lines(path)
    log.info("beaker: session secret of this machine from %s", path)
    return lines


def _private_lines(path: Path) -> list[str]:
    """The keys in a file; ConfigError where another user has put it there, can read, write or replace it."""
    try:
        directory = open_held(held_path(os.path.abspath(path.parent)), private_group=True)
        try:
            found = read_private(path.name, directory)
        finally:
            os.close(directory)
    except (Exposed, OSError) as error:
        got, _, hint = (str(error) if isinstance(error, Exposed) else type(error).__name__).partition("; ")
        raise ConfigError(
            f"the session secret kept at {path} is not this user's alone",
            option="BEAKER_DATA_DIR",
            expected="a file of this user's with mode 600, below directories that no other user can write",
            got=got,
            hint=f"{hint}, or set BEAKER_DATA_DIR" if hint else "set BEAKER_DATA_DIR",
            code="config.unreadable-file",
        ) from error
    where = f"BEAKER_DATA_DIR ({path})"
    lines = file_lines(found[0] if found is not None else b"", where)
    for line in lines:
        check_key(line, where, line=True)
    return [line.decode("ascii") for line in lines]


def _make_secret(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        draft.touch(mode=0o600)
        draft.write_text(new_key() + "\n")
        try:
            # Several processes may start at the same moment: the link is there whole or not at all.
            with suppress(FileExistsError):
                os.link(draft, path)
        except OSError:
            # No hard links here. The last of several processes wins, and the rest read the file again.
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def only_line(path: str, variable: str) -> str:
    """The one secret in the file at ``path``. Raises ConfigError naming ``variable``."""
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{variable} names a file that cannot be read: {path}", option=variable, code="config.unreadable-file"
        ) from error
    lines = file_lines(data, f"{variable} ({path})")
    if len(lines) > 1:
        raise ConfigError(
            f"{variable} names a file of several lines: {path}",
            option=variable,
            expected="one secret",
            code="config.unreadable-file",
        )
    return lines[0].decode()
