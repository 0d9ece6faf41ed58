"""The file store: the contract suites, and what can happen to files."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from beaker.storage.files import FileStore
from beaker.testing import (
    FakeClock,
    ListingContract,
    ProcessContract,
    PurgingContract,
    SharedContract,
    StoreContract,
    VersionedContract,
)


class FileSuites(StoreContract, VersionedContract, ListingContract, PurgingContract, SharedContract):
    """The suites on a directory of their own."""

    options: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def store(self, clock: FakeClock, tmp_path: Path) -> FileStore:
        return FileStore(tmp_path / "data", clock=clock, **self.options)

    def footprint(self, store: FileStore) -> int:
        return len(files_in(store))

    def second_store(self, store: FileStore) -> FileStore:
        return FileStore(store.directory, clock=store._clock, **self.options)


class TestFileStore(FileSuites, ProcessContract):
    """The default: digest names, file locks; processes too."""

    def process_factory(self, store: FileStore) -> tuple[Callable[..., FileStore], tuple[str]]:
        return FileStore, (store.directory,)


class TestReadableNames(FileSuites):
    """Readable file names keep all promises."""

    options: ClassVar[dict[str, Any]] = {"digest_filenames": False, "max_value": 100_000}


class TestThreadLocksOnly(FileSuites):
    """Without file locks threads and stores of one process still exclude each other."""

    options: ClassVar[dict[str, Any]] = {"file_locks": False, "durable": True}


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "data")


def files_in(store: FileStore) -> list[str]:
    """Every file of the store that is not a lock."""
    found = []
    for where, _, names in os.walk(store.directory):
        if not where.endswith(".locks"):
            found += [f"{where}/{name}" for name in names]
    return found


def test_nothing_before_the_first_write(store: FileStore) -> None:
    """Building the store, reading, deleting, clearing and purging create no directory."""
    assert store.get("n", "k") is None
    store.delete("n", "k")
    store.clear("n")
    assert list(store.keys("n")) == []
    assert store.purge(time.time(), 10) == (0, None)
    assert store.place_key.find(b"none") is None
    assert not os.path.exists(store.directory)


def test_nobody_else_may_read(store: FileStore) -> None:
    """Directories are 0700 and files 0600, lock files too, whatever the umask."""
    before = os.umask(0)
    try:
        store.set("n", "k", b"1", ttl=None)
    finally:
        os.umask(before)
    for where, _, names in os.walk(store.directory):
        assert os.stat(where).st_mode & 0o777 == 0o700
        assert {os.stat(f"{where}/{name}").st_mode & 0o777 for name in names} <= {0o600}


def test_every_damage_is_absence(store: FileStore) -> None:
    """A file cut at any length, lengthened, or with any header byte changed, is an absent record."""
    store.set("name", "key", b"data", ttl=1e6)
    (path,) = files_in(store)
    whole = Path(path).read_bytes()
    header = len(whole) - len(b"data")
    damaged = [whole[:length] for length in range(len(whole))] + [whole + b"x", os.urandom(len(whole))]
    damaged += [
        whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :] for at in range(header) for bit in range(8)
    ]
    for blob in damaged:
        Path(path).write_bytes(blob)
        assert store.get("name", "key") is None
    assert store.insert("name", "key", b"new", ttl=None)
    assert store.get("name", "key") == b"new"


def test_a_copied_file_is_not_the_other_record(store: FileStore) -> None:
    """One record's file over another's, in the same or another namespace, does not become it."""
    pairs = [("a", "mine"), ("a", "yours"), ("b", "mine")]
    files: dict[tuple[str, str], str] = {}
    for pair in pairs:
        store.set(*pair, b"data of %r" % (pair[1],), ttl=None)
        files[pair] = next(path for path in files_in(store) if path not in files.values())
    for source in pairs:
        for target in pairs:
            if source != target:
                kept = Path(files[target]).read_bytes()
                shutil.copyfile(files[source], files[target])
                assert store.get(*target) is None
                Path(files[target]).write_bytes(kept)


def test_link_out_of_the_directory(store: FileStore, tmp_path: Path) -> None:
    """A symbolic link in a record's place is not followed, and a write replaces the link itself."""
    store.set("n", "k", b"1", ttl=None)
    (path,) = files_in(store)
    outside = tmp_path / "outside"
    os.rename(path, outside)
    os.symlink(outside, path)
    content = outside.read_bytes()
    assert store.get("n", "k") is None
    store.set("n", "k", b"2", ttl=None)
    assert store.get("n", "k") == b"2"
    assert outside.read_bytes() == content


def test_names_never_leave_the_directory(tmp_path: Path) -> None:
    """Names that try to climb stay inside, with readable file names too."""
    store = FileStore(tmp_path / "a" / "data", digest_filenames=False)
    for name in ("..", "../..", "../../x", "/etc/passwd", ".locks", ".trash-1", "a\0b", "CON", "x" * 10_000):
        store.set(name, name, b"1", ttl=None)
        assert store.get(name, name) == b"1"
    assert os.listdir(tmp_path) == ["a"]
    assert os.listdir(tmp_path / "a") == ["data"]


def test_lock_files_are_few(tmp_path: Path) -> None:
    """However many keys are written there are at most 256 lock files, in lock_dir when given."""
    store = FileStore(tmp_path / "data", lock_dir=tmp_path / "locks")
    for index in range(1_500):
        store.set("n", str(index), b"", ttl=None)
    assert 200 < len(os.listdir(tmp_path / "locks")) <= 256
    assert not os.path.exists(f"{store.directory}/.locks")


def test_insert_of_nothing(store: FileStore) -> None:
    """An insert with a ttl of zero is refused over a live record, and otherwise leaves no file."""
    store.set("n", "k", b"1", ttl=None)
    assert store.insert("n", "k", b"2", ttl=0) is False
    assert store.get("n", "k") == b"1"
    assert store.insert("n", "new", b"2", ttl=0)
    assert len(files_in(store)) == 1


def test_purge_sweeps_what_the_dead_left(store: FileStore) -> None:
    """Old temporary files, old unreadable records, half-removed namespaces and empty directories go;
    young and foreign files stay."""
    store.set("n", "k", b"1", ttl=None)
    (record,) = files_in(store)
    fan = os.path.dirname(record)
    old, young = f"{fan}/.{'0' * 16}.tmp", f"{fan}/.{'1' * 16}.tmp"
    torn, foreign = f"{fan}/torn.rec", f"{fan}/README"
    for path in (old, young, torn, foreign):
        Path(path).write_bytes(b"x")
    for path in (old, torn, foreign):
        os.utime(path, (time.time() - 61,) * 2)
    os.makedirs(f"{store.directory}/.trash-1/aa")
    Path(f"{store.directory}/.trash-1/aa/x.rec").write_bytes(b"x")
    os.makedirs(f"{store.directory}/{'e' * 32}/aa")
    store.purge(time.time(), 10)
    assert sorted(files_in(store)) == sorted([record, young, foreign])
    assert sorted(os.listdir(store.directory)) == sorted([".locks", os.path.basename(os.path.dirname(fan))])


def test_purge_without_time_goes_on(tmp_path: Path) -> None:
    """With no time at all each call looks at one file and the next call goes on behind it."""
    clock = FakeClock()
    store = FileStore(tmp_path / "data", clock=clock)
    for index in range(30):
        store.set(f"n{index % 2}", str(index), b"1", ttl=10 if index % 2 else None)
    clock.advance(11)
    gone, cursor, calls = 0, None, 0
    while calls == 0 or cursor is not None:
        went, cursor = store.purge(clock(), 100, cursor=cursor, deadline=0.0)
        gone, calls = gone + went, calls + 1
        assert calls <= 30
    assert (gone, calls) == (15, 30)


def test_refused_writes_make_no_directory(store: FileStore) -> None:
    """Writes that are refused, in a namespace that was never written, leave no directory for it."""
    store.set("n", "k", b"1", ttl=None)
    before = sorted(os.listdir(store.directory))
    assert store.replace("never", "k", b"2", b"version", ttl=None) is False
    assert store.remove("never", "k", b"version") is False
    assert store.insert("never", "k", b"2", ttl=0)
    assert sorted(os.listdir(store.directory)) == before


def test_purge_resumes_from_its_cursor(tmp_path: Path) -> None:
    """A cursor goes on behind the last file looked at, also when that file is gone."""
    clock = FakeClock()
    store = FileStore(tmp_path / "data", clock=clock)
    for index in range(40):
        store.set(f"n{index % 3}", str(index), b"1", ttl=10 if index % 2 else None)
    clock.advance(11)
    gone, cursor, calls = 0, None, 0
    while True:
        went, cursor = store.purge(clock(), 3, cursor=cursor)
        gone, calls = gone + went, calls + 1
        if cursor is None:
            break
    assert (gone, calls) == (20, 7)
    assert len(files_in(store)) == 20
