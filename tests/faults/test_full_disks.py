"""Disks that take no more: by the kernel's limit of a file's size, and without an inode left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

KINDS = ("file", "dbm", "dbm module", "sqlite")

_PROGRAM = """
import contextlib, json, os, resource, signal, sys
from beaker.exceptions import StoreError
from beaker.storage.dbm import DbmStore
from beaker.storage.files import FileStore
from beaker.storage.sql import SqlStore

kind, path, how = sys.argv[1:]
store = {
    "file": lambda: FileStore(path),
    "dbm": lambda: DbmStore(path),
    "dbm module": lambda: DbmStore(path, dbmmodule="dbm.dumb"),
    "sqlite": lambda: SqlStore(f"sqlite:///{path}/x.db"),
}[kind]()
store.set("n", "k", b"old", ttl=None)
new = os.urandom(200_000)
taken = []
if how == "size":
    largest = max((os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(path) for name in names))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + 1000, hard))
else:
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.path.join(path, f"taken-{len(taken)}"))
            open(taken[-1], "x").close()
outcome = {}
try:
    # A store that needs no new file takes the value.
    store.set("n", "k" if how == "size" else "other", new, ttl=None)
    outcome["error"] = None
except StoreError as err:
    outcome["error"] = type(err).__name__
found = store.get("n", "k")
outcome["old"] = found == b"old"
if how == "size":
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
for name in taken:
    with contextlib.suppress(OSError):
        os.unlink(name)
store.set("n", "k", new, ttl=None)
outcome["new"] = store.get("n", "k") == new
outcome["left"] = [name for _, _, names in os.walk(path) for name in names if "tmp" in name]
print(json.dumps(outcome))
"""


def outcome_of(kind: str, path: Path, how: str) -> dict[str, object]:
    command = [sys.executable, "-c", _PROGRAM, kind, str(path), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_no_larger_files(kind: str, tmp_path: Path) -> None:
    """A value for which the disk is full is a StoreError; the old one stays, and the next write succeeds once there is
    room."""
    found = outcome_of(kind, tmp_path, "size")
    assert found.pop("error") in ("StoreUnavailable", "StoreRefused")
    assert found == {"old": True, "new": True, "left": []}


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own for a few files."""
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=700,mode=700", "tmpfs", str(tmp_path)], capture_output=True
    )
    if made.returncode:
        pytest.skip("this user may not mount a tmpfs")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True, capture_output=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a tmpfs")
@pytest.mark.parametrize("kind", ["file", "dbm", "sqlite"])
def test_no_inode_is_left(kind: str, few_inodes: Path) -> None:
    """A store that needs a new file raises a StoreError, others write; nothing is lost, and all is well afterwards."""
    found = outcome_of(kind, few_inodes, "inodes")
    assert found.pop("error") in (("StoreUnavailable",) if kind == "file" else (None, "StoreUnavailable"))
    assert found == {"old": True, "new": True, "left": []}
