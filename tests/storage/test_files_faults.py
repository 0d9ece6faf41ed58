"""The file store under faults: disk errors, killed writers, forks, directories taken away."""

from __future__ import annotations

import errno
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from beaker import paths
from beaker.exceptions import ConfigError, StoreUnavailable, ValueTooLarge
from beaker.locking import stripes
from beaker.locking.files import lock_file, unlock_file
from beaker.storage.files import FileStore


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "data")


def files_in(store: FileStore) -> list[str]:
    """Every file of the store that is not a lock."""
    return [str(path) for path in Path(store.directory).rglob("*") if path.is_file() and path.suffix != ".lock"]


FAULTS = {
    errno.ENOSPC: "no space is left.*set data_dir",
    errno.EDQUOT: "quota is used up.*set data_dir",
    errno.EROFS: "read-only.*set data_dir",
    errno.EIO: "device reports an input/output error.*set data_dir",
    errno.EFBIG: "largest size allowed.*ulimit -f",
    errno.EMFILE: "too many files open.*ulimit -n",
    errno.ENFILE: "too many files open.*fs.file-max",
    errno.ENOLCK: "no file locks.*set data_dir",
    errno.ENAMETOOLONG: "set data_dir",
}
"""What the system reports, and what the error says of it after the directory."""


@pytest.mark.parametrize("number", FAULTS, ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize("call", ["write", "posix_fallocate", "replace"])
def test_full_disk(store: FileStore, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """A write that fails at any step raises, keeps the old value, and leaves no temporary file."""
    store.set("n", "k", b"old", ttl=None)

    def full(*arguments: object, **options: object) -> int:
        raise OSError(number, os.strerror(number))

    said = rf"file (set|insert): {re.escape(str(store.directory))}: .*{FAULTS[number]}"
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        for write in (store.set, store.insert):
            with pytest.raises(StoreUnavailable, match=said) as caught:
                write("n", "k" if write == store.set else "new", b"new", ttl=None)
            assert isinstance(caught.value.__cause__, OSError)
    assert store.get("n", "k") == b"old"
    assert store.get("n", "new") is None
    assert len(files_in(store)) == 1
    store.set("n", "k", b"room again", ttl=None)
    assert store.get("n", "k") == b"room again"


def test_file_system_without_preallocation(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where blocks cannot be allocated ahead, writing works all the same."""

    def unsupported(*arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "unsupported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    store.set("n", "k", b"1", ttl=None)
    assert store.get("n", "k") == b"1"


def test_short_writes(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that writes only a few bytes at a time still gets all of them."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:7])))
    data = os.urandom(1_000)
    store.set("n", "k", data, ttl=None)
    assert store.get("n", "k") == data


def test_could_not_look_is_not_absent(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An I/O error on a read is StoreUnavailable, never None."""
    store.set("n", "k", b"1", ttl=None)

    def broken(*arguments: object, **options: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "open", broken)
    for read in (store.get, store.read):
        with pytest.raises(StoreUnavailable, match="input/output error"):
            read("n", "k")


def test_read_only_file_system(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads work where nothing can be written; writes say what is wrong."""
    store.set("n", "k", b"1", ttl=None)
    real = os.open

    def read_only(path: str, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", read_only)
    assert store.get("n", "k") == b"1"
    assert list(store.keys("n")) == ["k"]
    with pytest.raises(StoreUnavailable, match=r"the file system is read-only; set data_dir"):
        store.set("n", "k", b"2", ttl=None)
    with pytest.raises(StoreUnavailable, match=r"the file system is read-only; set data_dir"):
        store.delete("n", "k")


def test_file_in_the_way(tmp_path: Path) -> None:
    """A data directory that is a file is a ConfigError at construction, StoreUnavailable when it comes later."""
    late = FileStore(tmp_path / "data")
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StoreUnavailable, match=r"data: a file is in the way; set data_dir"):
        late.set("n", "k", b"1", ttl=None)
    with pytest.raises(ConfigError, match=r"data is a file; expected a directory; set data_dir"):
        FileStore(tmp_path / "data")


def test_directory_removed_from_outside(store: FileStore) -> None:
    """After rm -r of the directory, or of the lock files alone, the store works again."""
    store.set("n", "k", b"1", ttl=None)
    shutil.rmtree(store.directory)
    assert store.get("n", "k") is None
    store.set("n", "k", b"2", ttl=None)
    shutil.rmtree(f"{store.directory}/.locks")
    store.set("n", "k", b"3", ttl=None)
    assert store.get("n", "k") == b"3"


def test_oversize_costs_nothing(tmp_path: Path) -> None:
    """A value over max_value is refused before anything is created."""
    store = FileStore(tmp_path / "data", max_value=10)
    with pytest.raises(ValueTooLarge):
        store.set("n", "k", bytes(11), ttl=None)
    assert not os.path.exists(store.directory)


def test_clear_beside_writers(store: FileStore) -> None:
    """Writers beside a thread that clears never fail, and what is written after the last clear stays."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(index: int) -> None:
        turn = 0
        try:
            while not stop.is_set():
                store.set("n", f"{index}-{turn % 20}", b"1", ttl=None)
                store.insert("n", f"{index}-i{turn % 20}", b"1", ttl=None)
                turn += 1
        except BaseException as err:
            failures.append(err)

    threads = [threading.Thread(target=write, args=(index,), daemon=True) for index in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        store.clear("n")
    stop.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    store.clear("n")
    assert files_in(store) == []
    store.set("n", "k", b"1", ttl=None)
    assert store.get("n", "k") == b"1"


def test_replace_after_a_clear_writes_nothing(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear and a fresh directory between the check and the write of replace do not revive the record."""
    store.set("n", "k", b"1", ttl=None)
    found = store.read("n", "k")
    assert found is not None
    real = paths.atomic_write

    def write(path: str, data: bytes, **options: Any) -> None:
        monkeypatch.undo()
        place = store._place("n", "k").directory
        store.clear("n")
        os.makedirs(place)
        real(path, data, **options)

    monkeypatch.setattr("beaker.storage.files.store.atomic_write", write)
    assert store.replace("n", "k", b"2", found[1], ttl=None) is False
    assert store.get("n", "k") is None


def test_writers_hold_an_exclusive_file_lock(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a record is written its lock file cannot be locked again, not even shared; afterwards it can."""
    lock = f"{store.directory}/.locks/{store._place('n', 'k').stripe:02x}.lock"
    real = paths.atomic_write
    results: list[object] = []

    def write(*arguments: Any, **options: Any) -> None:
        results.extend(lock_file(lock, exclusive=exclusive, wait=False) for exclusive in (True, False))
        real(*arguments, **options)

    monkeypatch.setattr("beaker.storage.files.store.atomic_write", write)
    store.set("n", "k", b"1", ttl=None)
    assert results == [None, None]
    held = lock_file(lock, exclusive=True, wait=False)
    assert held is not None
    unlock_file(held)


def test_fork_with_a_lock_held(store: FileStore) -> None:
    """A child forked while another thread holds every lock can write; the parent's lock stays its own."""
    store.set("n", "k", b"1", ttl=None)
    stripe = store._place("n", "k").stripe
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store._stripes(stripe):
            held.set()
            done.wait(30)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    assert held.wait(10)
    child = os.fork()
    if child == 0:
        # Its own mutexes are free; the file lock is the parent's, so it writes without one.
        signal.alarm(20)  # a child that hangs must not outlive the test
        code = 1
        try:
            with stripes.Stripes(None)(stripe):
                code = 0 if store.get("n", "k") == b"1" else 2
            done.wait(0)
            store.set("n", "other", b"child", ttl=None)
        except BaseException:
            code = 3
        finally:
            os._exit(code)
    # The child may need the very stripe that is held here, so the holder releases it meanwhile.
    done.set()
    holder.join(10)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.get("n", "other") == b"child"


WRITER = """
import itertools, os, sys
from beaker.storage.files import FileStore
store = FileStore(sys.argv[1])
for turn in itertools.count():
    data = (b"%d " % turn) * 2000
    store.set("n", f"k{turn % 5}", data, ttl=None)
    os.write(1, b"%d\\n" % turn)
"""


def test_killed_writers_lose_nothing_acknowledged(store: FileStore, tmp_path: Path) -> None:
    """After SIGKILL in the midst of writing every acknowledged value, or a later one, is there whole,
    the locks are free, and purge leaves no temporary file."""
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, store.directory], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert child.stdout is not None
        seen = b""
        output = selectors.DefaultSelector()
        output.register(child.stdout, selectors.EVENT_READ)
        while seen.count(b"\n") < 50:
            assert output.select(30), "the writer wrote nothing for 30 s"
            seen += os.read(child.stdout.fileno(), 4096)
        child.send_signal(signal.SIGKILL)
        seen += child.stdout.read()
        child.stdout.close()
        child.wait(30)
        last = int(seen.split(b"\n")[-2])
        for turn in range(last - 4, last + 1):
            data = store.get("n", f"k{turn % 5}")
            assert data is not None
            number = int(data.split()[0])
            assert data == (b"%d " % number) * 2000
            assert number in (turn, turn + 5)
        for index in range(5):
            store.set("n", f"k{index}", b"free", ttl=None)
        store.clear("n")
    for path in files_in(store):
        os.utime(path, (0, 0))
    store.purge(time.time(), 10)
    assert files_in(store) == []
