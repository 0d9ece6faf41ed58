# over 320 lines because both engines are held to the same tests, side by side
"""The dbm store: SQLite files by default, any dbm module on request."""

from __future__ import annotations

import contextlib
import dbm.dumb
import errno
import importlib
import logging
import multiprocessing
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from beaker.exceptions import ConfigError, InvalidCacheBackendError, StoreUnavailable, ValueTooLarge
from beaker.storage.dbm import DbmStore
from beaker.testing import (
    BulkContract,
    FakeClock,
    ListingContract,
    ProcessContract,
    PurgingContract,
    SharedContract,
    StoreContract,
    VersionedContract,
)
from tests.descriptors import open_under

FAULTS = {
    errno.ENOSPC: "no space is left.*set data_dir",
    errno.EDQUOT: "quota is used up.*set data_dir",
    errno.EIO: "device reports an input/output error.*set data_dir",
    errno.EFBIG: "largest size allowed.*ulimit -f",
    errno.ENOLCK: "no file locks.*set data_dir",
    errno.ESTALE: "set data_dir",
}
"""What the system reports, and what the error says of it after the directory."""


def child_store(directory: str, options: dict[str, Any]) -> DbmStore:
    return DbmStore(directory, **options)


class DbmHooks(
    StoreContract, VersionedContract, ListingContract, PurgingContract, BulkContract, SharedContract, ProcessContract
):
    """The suites, on a directory of its own."""

    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def store(self, clock: FakeClock, tmp_path: Path) -> Iterator[DbmStore]:
        store = DbmStore(tmp_path / "data", clock=clock, **self.options)
        yield store
        store.close()

    def footprint(self, store: DbmStore) -> int:
        rows = 0
        for path in Path(store.directory).glob("*.sqlite"):
            db = sqlite3.connect(path)
            rows += db.execute("SELECT count(*) FROM record").fetchone()[0]
            db.close()
        return rows

    def second_store(self, store: DbmStore) -> DbmStore:
        return DbmStore(store.directory, clock=store._clock, **self.options)

    def process_factory(self, store: DbmStore) -> tuple[Any, tuple[Any, ...]]:
        return child_store, (store.directory, self.options)


class TestDbm(DbmHooks):
    """The default engine."""


class TestDbmReadableNames(DbmHooks):
    """File names that can be read."""

    options: ClassVar[dict[str, Any]] = {"digest_filenames": False, "durable": True}


class TestDbmDumb(DbmHooks):
    """A dbm module by its name."""

    options: ClassVar[dict[str, Any]] = {"dbmmodule": "dbm.dumb"}
    large = 100_000
    rounds = 5
    process_rounds = 6

    def footprint(self, store: DbmStore) -> int:
        rows = 0
        for path in Path(store.directory).glob("*.dbm.dir"):
            with dbm.dumb.open(str(path.with_suffix("")), "r") as db:
                rows += len(db.keys())
        return rows


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DbmStore]:
    store = DbmStore(tmp_path / "data")
    yield store
    store.close()


def only_file(store: DbmStore) -> Path:
    (path,) = Path(store.directory).glob("*.sqlite")
    return path


@pytest.mark.parametrize("module", [None, "dbm.dumb"])
def test_reads_make_no_file(tmp_path: Path, module: str | None) -> None:
    """Neither reads nor deletes of unknown namespaces create a file, or the directory."""
    store = DbmStore(tmp_path / "data", dbmmodule=module, lock_dir=tmp_path / "locks")
    for index in range(20):
        name = f"bogus{index}"
        assert store.get(name, "k") is None
        assert store.read(name, "k") is None
        assert store.get_many(name, ["k"]) == {}
        assert not store.replace(name, "k", b"", 1, ttl=None)
        assert not store.remove(name, "k", 1)
        store.delete(name, "k")
        store.delete_many(name, ["k", "l"])
        store.clear(name)
        assert list(store.keys(name)) == []
        store.set(name, "k", b"1", ttl=0)
    assert store.purge(0.0, 100) == (0, None)
    assert list(tmp_path.iterdir()) == []


def test_only_the_owner_may_read(store: DbmStore) -> None:
    """Files and directory are created for this user alone, whatever the umask."""
    before = os.umask(0)
    try:
        store.set("ns", "k", b"1", ttl=None)
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in Path(store.directory).iterdir()] == [0o600] * 3
    assert Path(store.directory).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("module", [None, "dbm.dumb", "dumbdbm", dbm.dumb], ids=str)
def test_modules_by_name_or_object(tmp_path: Path, module: Any) -> None:
    """A dbm module is taken by its name, its old name, or as an object."""
    store = DbmStore(tmp_path, dbmmodule=module)
    store.set("ns", "k", b"1", ttl=None)
    assert DbmStore(tmp_path, dbmmodule=module).get("ns", "k") == b"1"
    assert bool(list(tmp_path.glob("*.dbm.dat"))) == (module is not None)
    store.close()


def _built_in(name: str) -> bool:
    with contextlib.suppress(ImportError):
        return bool(importlib.import_module(name))
    return False


@pytest.mark.parametrize("name", [name for name in ("dbm.gnu", "dbm.ndbm", "dbm") if _built_in(name)])
def test_other_modules(tmp_path: Path, name: str) -> None:
    """What this Python was built with passes a round of every operation."""
    store = DbmStore(tmp_path, dbmmodule=name)
    store.set("ns", "", b"1", ttl=None)
    assert store.insert("ns", "", b"2", ttl=None) is False
    found = store.read("ns", "")
    assert found is not None
    assert store.replace("ns", "", b"3", found[1], ttl=None)
    assert list(store.keys("ns")) == [""]
    assert store.get_many("ns", ["", "no"]) == {"": b"3"}
    store.clear("ns")
    assert store.get("ns", "") is None


def test_a_missing_module_is_named() -> None:
    """A dbm module that is missing, or is not a dbm module, is an error that names it."""
    with pytest.raises(InvalidCacheBackendError, match=r"dbm\.nothing"):
        DbmStore("/nowhere", dbmmodule="dbm.nothing")
    with pytest.raises(ConfigError, match="dbmmodule"):
        DbmStore("/nowhere", dbmmodule=sys)


def test_readable_names_stay_apart(tmp_path: Path) -> None:
    """Readable file names differ even where the file system ignores case, and never leave the directory."""
    store = DbmStore(tmp_path / "data", digest_filenames=False)
    names = ["plain", "Plain", "../x", "..", "", "a/b", "\0", "é", "x" * 300]
    for name in names:
        store.set(name, "k", name.encode(), ttl=None)
    files = [path.name.lower() for path in (tmp_path / "data").glob("*.sqlite")]
    assert len(set(files)) == len(names)
    assert "n-plain.sqlite" in files
    assert [store.get(name, "k") for name in names] == [name.encode() for name in names]
    store.close()


@pytest.mark.parametrize("size", [0, 10, 99, 100, 512, 4095, 4096, 5000])
def test_a_truncated_file_is_absent_and_replaced(tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture) -> None:
    """A file cut anywhere is a miss with a log line, and the next write starts a new one beside it."""
    store = DbmStore(tmp_path)
    store.set("ns", "k", b"x" * 20_000, ttl=None)
    path = only_file(store)
    store.close()
    os.truncate(path, size)
    with caplog.at_level(logging.WARNING):
        assert store.get("ns", "k") is None
    store.set("ns", "k", b"new", ttl=None)
    assert store.get("ns", "k") == b"new"
    if size:
        assert "absent" in caplog.text
        assert [aside.stat().st_size for aside in tmp_path.glob("*.corrupt-*")] == [size]
    store.close()


@pytest.mark.parametrize("module", [None, "dbm.dumb"])
def test_a_foreign_file_is_moved_aside(tmp_path: Path, module: str | None) -> None:
    """Foreign bytes in our place are a miss, and are kept when a write needs the place."""
    store = DbmStore(tmp_path, dbmmodule=module)
    store.set("ns", "k", b"1", ttl=None)
    path = next(iter([*tmp_path.glob("*.sqlite"), *tmp_path.glob("*.dbm.dir")]))
    store.close()
    path.write_bytes(b"\xff not ours \n" * 1000)
    assert store.get("ns", "k") is None
    assert store.insert("ns", "k", b"2", ttl=None)
    assert store.get("ns", "k") == b"2"
    assert [aside.read_bytes()[:9] for aside in tmp_path.glob(f"*.corrupt-*{'.dir' if module else ''}")] == [
        b"\xff not our"
    ]
    store.close()


def test_a_new_file_is_not_moved_aside(store: DbmStore) -> None:
    """Of two processes that found a corrupt file the slower one leaves the new file of the faster alone."""
    store.set("ns", "k", b"1", ttl=None)
    path = only_file(store)
    store._engine.files._quarantine(str(path), (0, 0))  # type: ignore[attr-defined]
    assert store.get("ns", "k") == b"1"
    assert list(path.parent.glob("*.corrupt-*")) == []


@pytest.mark.parametrize("operation", ["set", "delete"])
def test_a_corrupt_file_that_cannot_be_moved_is_unavailable(store: DbmStore, operation: str) -> None:
    """Where the file system refuses, a write over a corrupt file is the store's error, naming the directory."""
    store.set("ns", "k", b"1", ttl=None)
    path = only_file(store)
    store.close()
    path.write_bytes(b"\xff not ours \n" * 1000)
    (path.parent / ".quarantine.lock").mkdir()
    writes = {"set": lambda: store.set("ns", "k", b"2", ttl=None), "delete": lambda: store.delete("ns", "k")}
    with pytest.raises(StoreUnavailable, match=str(path.parent)) as caught:
        writes[operation]()
    assert caught.value.operation == operation


def test_another_sqlite_database_is_not_touched(store: DbmStore) -> None:
    """A SQLite database of another application in our place is moved aside, not written into."""
    store.set("ns", "k", b"1", ttl=None)
    path = only_file(store)
    store.close()
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE record (key BLOB, data BLOB, version INTEGER, expires REAL)")
    db.execute("INSERT INTO record VALUES (?, ?, 1, NULL)", (b"k", b"foreign"))
    db.commit()
    db.close()
    assert store.get("ns", "k") is None
    store.set("ns", "k", b"2", ttl=None)
    assert store.get("ns", "k") == b"2"
    (aside,) = path.parent.glob("*.corrupt-*")
    db = sqlite3.connect(aside)
    assert db.execute("SELECT data FROM record").fetchall() == [(b"foreign",)]
    db.close()


def test_a_removed_file_is_noticed(store: DbmStore) -> None:
    """Files that a clean-up script removes while they are open are absent, and are created again."""
    store.set("ns", "k", b"1", ttl=None)
    other = DbmStore(store.directory)
    assert other.get("ns", "k") == b"1"
    for path in Path(store.directory).iterdir():
        path.unlink()
    assert store.get("ns", "k") is None
    store.set("ns", "k", b"2", ttl=None)
    assert other.get("ns", "k") == b"2"
    other.close()


def test_a_locked_file_is_unavailable(tmp_path: Path) -> None:
    """A writer that never ends makes a write fail with the store's name, and reads go on."""
    store = DbmStore(tmp_path, timeout=0.01)
    store.set("ns", "k", b"1", ttl=None)
    blocker = sqlite3.connect(only_file(store), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"dbm set: .*locked"):
        store.set("ns", "k", b"2", ttl=None)
    assert store.get("ns", "k") == b"1"
    blocker.close()
    store.set("ns", "k", b"3", ttl=None)
    assert store.get("ns", "k") == b"3"
    store.close()


def test_a_connection_caches_half_a_mebibyte(store: DbmStore) -> None:
    """64 files of 4 connections each stay open, so SQLite's own 2 MiB would be too much, for a new file and an old."""
    store.set("ns", "k", b"v", ttl=None)
    for _ in ("new", "old"):
        (connection,) = next(iter(store._engine.files._files.values())).idle  # type: ignore[attr-defined]
        assert connection.execute("PRAGMA cache_size").fetchone() == (-512,)
        store.close()
        assert store.get("ns", "k") == b"v"


def test_a_full_disk_is_unavailable(store: DbmStore) -> None:
    """No room is an error of the write; the old value stays, and room makes the store work again."""
    store.set("ns", "k", b"old", ttl=None)
    (connection,) = next(iter(store._engine.files._files.values())).idle  # type: ignore[attr-defined]
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailable, match=r"dbm set: .*full"):
        store.set("ns", "k", bytes(100_000), ttl=None)
    assert store.get("ns", "k") == b"old"
    store.set("ns", "k", bytes(100_000), ttl=None)


@pytest.mark.parametrize("number", FAULTS, ids=lambda number: errno.errorcode[number])
def test_a_module_that_cannot_open_its_file_now_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """What the system reports at the opening is no damage: the file stays, and the error names directory and remedy."""
    store = DbmStore(tmp_path / "data", dbmmodule="dbm.dumb")
    store.set("n", "k", b"old", ttl=None)

    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(dbm.dumb, "open", fail)
        for operation in (lambda: store.set("n", "k", b"new", ttl=None), lambda: store.get("n", "k")):
            with pytest.raises(StoreUnavailable, match=rf"{re.escape(str(tmp_path))}.*{FAULTS[number]}"):
                operation()
    assert store.get("n", "k") == b"old"
    assert not list((tmp_path / "data").glob("*.corrupt-*"))
    store.close()


def test_no_directory_is_unavailable(tmp_path: Path) -> None:
    """A directory that cannot be created is the store's error, not the operating system's."""
    late = DbmStore(tmp_path / "file" / "data")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match=r"dbm set: .*a file is in the way; set data_dir"):
        late.set("ns", "k", b"1", ttl=None)
    with pytest.raises(ConfigError, match=r"file is a file; expected a directory; set data_dir"):
        DbmStore(tmp_path / "file" / "data")


def test_oversize_makes_no_file(store: DbmStore) -> None:
    """More than 256 MiB is refused before anything is opened."""
    with pytest.raises(ValueTooLarge):
        store.set_many("ns", {"k": bytes(256 * 2**20 + 1)}, ttl=None)
    assert not Path(store.directory).exists()


def test_open_files_are_bounded(tmp_path: Path) -> None:
    """However many namespaces are used, at most 64 files (three descriptors each) stay open."""
    store = DbmStore(tmp_path)
    for index in range(90):
        store.set(f"ns{index}", "k", b"1", ttl=None)
    assert 64 < len(open_under(tmp_path)) <= 64 * 3
    assert all(store.get(f"ns{index}", "k") == b"1" for index in range(90))
    store.close()
    assert open_under(tmp_path) == []


WRITER = """
import sys
from beaker.storage.dbm import DbmStore
store = DbmStore(sys.argv[1])
for number in range(1_000_000):
    store.set("ns", str(number), b"%d" % number * 50, ttl=None)
    print(number, flush=True)
"""


def test_a_killed_writer_loses_nothing(tmp_path: Path) -> None:
    """Every write that returned before SIGKILL is there for the next process, and the store works on."""
    acknowledged = 0
    for turn in range(4):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= 40 + turn * 7:
                break
        child.send_signal(signal.SIGKILL)
        acknowledged = max([int(line), *(int(rest) for rest in child.stdout.read().split("\n")[:-1])])
        child.stdout.close()
        child.wait()
        store = DbmStore(tmp_path)
        assert [n for n in range(acknowledged + 1) if store.get("ns", str(n)) != b"%d" % n * 50] == []
        store.set("ns", "after", b"1", ttl=None)
        store.close()


def test_processes_race_for_a_new_file(tmp_path: Path) -> None:
    """Processes that race to create a namespace's file lose no write of each other's."""
    context = multiprocessing.get_context("fork")
    for turn in range(8):
        start = context.Barrier(4)

        def work(index: int, turn: int = turn, start: Any = start) -> None:
            store = DbmStore(tmp_path)
            start.wait(30)
            for number in range(10):
                assert store.insert(f"ns{turn}", f"{index}-{number}", b"1", ttl=None)

        children = [context.Process(target=work, args=(index,)) for index in range(4)]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [0] * 4
        assert list(tmp_path.glob("*.corrupt-*")) == []
        store = DbmStore(tmp_path)
        assert len(list(store.keys(f"ns{turn}"))) == 40
        store.close()


@pytest.mark.parametrize("module", [None, "dbm.dumb"])
def test_fork_after_use(tmp_path: Path, module: str | None) -> None:
    """Parent and children go on after a fork, also one that comes while other threads write."""
    store = DbmStore(tmp_path, dbmmodule=module)
    store.set("ns", "before", b"1", ttl=None)
    stop = threading.Event()

    def busy(index: int) -> None:
        while not stop.is_set():
            store.set("ns", f"busy{index}", b"1", ttl=None)

    threads = [threading.Thread(target=busy, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()

    def work(index: int) -> None:
        assert store.get("ns", "before") == b"1"
        for number in range(10):
            store.set("ns", f"{index}-{number}", b"%d" % number, ttl=None)
            assert store.get("ns", f"{index}-{number}") == b"%d" % number

    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(index,)) for index in range(4)]
    try:
        for child in children:
            child.start()
        for child in children:
            child.join(60)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    assert store.get("ns", "before") == b"1"
    for index in range(4):
        for number in range(10):
            assert store.get("ns", f"{index}-{number}") == b"%d" % number
    store.close()


def test_a_child_inherits_no_handle(store: DbmStore) -> None:
    """A forked child has no database file open that it did not open itself."""
    store.set("ns", "k", b"1", ttl=None)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, b"%d" % sum(".sqlite" in name for name in open_under(store.directory)))
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"0"
    os.close(reader)
    assert store.get("ns", "k") == b"1"


def test_purge_goes_on_at_the_cursor(tmp_path: Path) -> None:
    """A purge in small steps reaches every namespace's file exactly once."""
    clock = FakeClock()
    store = DbmStore(tmp_path, clock=clock)
    for index in range(12):
        store.set(f"ns{index % 4}", f"k{index}", b"1", ttl=10)
    clock.advance(11)
    gone, cursor, calls = 0, None, 0
    while calls == 0 or cursor is not None:
        removed, cursor = store.purge(clock(), 5, cursor=cursor)
        gone += removed
        calls += 1
    assert (gone, calls) == (12, 3)
    store.close()
