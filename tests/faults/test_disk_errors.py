"""Disks that fail in a call of SQLite's: the kernel itself refuses to write, to sync or to open.

A seccomp filter of a forked child has the kernel return the error, so it is SQLite and the driver that meet it.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = r"""
import ctypes, errno, json, os, struct, sys, threading
from beaker.exceptions import BeakerException
from beaker.storage.dbm import DbmStore
from beaker.storage.sql import SqlStore

kind, path = sys.argv[1:]
# write, pwrite64, fsync, fdatasync, openat
numbers = {"x86_64": (1, 18, 74, 75, 257), "aarch64": (64, 68, 82, 83, 56)}[os.uname().machine]
WRITE, PWRITE, FSYNC, FDATASYNC, OPENAT = numbers
LOAD, EQUAL, GREATER, BITS, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
NUMBER, FIRST, THIRD, ALLOW = 0, 16, 32, 0x7FFF0000


def refuse(call, number):
    "From now on the kernel refuses this process such calls; opening only to write or to create."
    fail = (RETURN, 0, 0, 0x00050000 | number)
    if call == "open":
        flags = os.O_CREAT | os.O_WRONLY | os.O_RDWR
        program = [
            (LOAD, 0, 0, NUMBER), (EQUAL, 0, 3, OPENAT), (LOAD, 0, 0, THIRD), (BITS, 0, 1, flags), fail,
            (RETURN, 0, 0, ALLOW),
        ]
    else:
        one, other = (WRITE, PWRITE) if call == "write" else (FSYNC, FDATASYNC)
        # What is printed is written to descriptors up to 2.
        program = [
            (LOAD, 0, 0, NUMBER), (EQUAL, 1, 0, one), (EQUAL, 0, 3, other), (LOAD, 0, 0, FIRST), (GREATER, 0, 1, 2),
            fail, (RETURN, 0, 0, ALLOW),
        ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(header)), 0, 0) == 0, os.strerror(ctypes.get_errno())


def opened():
    return DbmStore(path, durable=True) if kind == "dbm" else SqlStore(f"sqlite:///{path}/x.db")


def tried(store, call, number):
    refuse(call, number)
    try:
        store.set("n", "k", b"new" * 1000, ttl=None)
        said = "no error"
    except BeakerException as err:
        said = f"{type(err).__name__}: {err}"
    return said


first = opened()
first.set("n", "k", b"old", ttl=None)
first.close()
outcomes = {}
for call, number in [
    ("write", errno.ENOSPC), ("write", errno.EDQUOT), ("write", errno.EIO), ("sync", errno.EIO), ("open", errno.EROFS),
]:
    for state in ("new", "used"):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            store = opened()
            if state == "used":
                store.set("n", "k", b"old", ttl=None)
            os.dup2(writing, 1)
            os.write(1, tried(store, call, number).encode())
            os._exit(0)
        os.close(writing)
        with open(reading) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        store = opened()
        kept = store.get("n", "k")
        store.set("n", "k", b"old", ttl=None)
        assert store.get("n", "k") == b"old"
        store.close()
        whole = {b"old": "old", b"new" * 1000: "new"}.get(kept, "lost")
        outcomes[f"{state}, {call}, {errno.errorcode[number]}"] = (said, whole)
aside = [name for _, _, names in os.walk(path) for name in names if "corrupt" in name]
print(json.dumps([outcomes, aside]))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="only Linux has seccomp"
)
@pytest.mark.parametrize("kind", ["dbm", "sqlite"])
def test_a_refused_call_is_unavailable_and_damages_nothing(kind: str, tmp_path: Path) -> None:
    """Whatever call fails in whatever way: StoreUnavailable or a write that is there, no file moved aside, and the
    store works when the disk does again."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, kind, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    outcomes, aside = json.loads(done.stdout)
    assert aside == []
    assert len(outcomes) == 10
    for case, (said, kept) in outcomes.items():
        if said == "no error":
            assert kept == "new", case
            assert not case.endswith(("write, ENOSPC", "write, EDQUOT", "write, EIO")), case
        else:
            assert said.startswith("StoreUnavailable: "), (case, said)
            assert kept == "old" or "sync" in case, (case, said, kept)
