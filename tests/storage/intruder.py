"""What another user of the machine can do to files and directories."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import Cache

FOREIGN = 65_534
"""A user id that is not ours."""
NAME = ".signing-key"

KINDS: dict[str, dict[str, Any]] = {
    "file": {"type": "file"},
    "dbm": {"type": "dbm"},
    "dbm module": {"type": "dbm", "dbmmodule": "dbm.dumb"},
}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


@dataclasses.dataclass
class Thing:
    """What tagged JSON does not know."""

    number: int


@contextmanager
def flipping(path: Path, *targets: Path) -> Iterator[None]:
    """``path`` is a symbolic link that leads now to one, now to the other target."""
    done = threading.Event()

    def flip() -> None:
        while not done.is_set():
            for target in targets:
                draft = path.with_name("draft")
                draft.symlink_to(target)
                draft.replace(path)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def given_away(directory: Path) -> None:
    """All of it belongs to another user, if this process may do that."""
    if os.geteuid() == 0:
        for path in [directory, *directory.rglob("*")]:
            os.lchown(path, FOREIGN, FOREIGN)


def taken_back(directory: Path) -> None:
    if os.geteuid() == 0:
        for path in [directory, *directory.rglob("*")]:
            os.lchown(path, 0, 0)


def close(store: Any) -> None:
    if hasattr(store, "close"):
        store.close()


def give_to_another_user(path: Path) -> None:
    os.chown(path, FOREIGN, FOREIGN)


def put_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def add_second_name(path: Path) -> None:
    os.link(path, path.with_name(f"second name of {path.name}"))


def put_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def put_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def store_in(directory: Path, kind: str) -> Any:
    """The store of a cache of that kind in a directory."""
    cache: Any = Cache("n", **{f"{KINDS[kind]['type']}_dir": str(directory)}, **KINDS[kind])
    return cache.namespace.store
