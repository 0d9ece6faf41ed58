"""Paths: names that stay inside, directories created together, writes that are all or nothing."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from beaker import paths
from beaker.testing.hooks import ODD_NAMES, run_threads
from tests.descriptors import open_under


@pytest.mark.parametrize("digest_filenames", [True, False])
def test_paths_are_unique_and_inside(tmp_path: Path, digest_filenames: bool) -> None:
    """Different identifiers have different paths, none leads out of root, all can be opened."""
    lists = [[name] for name in ODD_NAMES] + [["a", name] for name in ODD_NAMES] + [[], ["a", "a", "a"], ["a+a"]]
    found = [paths.encoded_path(tmp_path, names, digest_filenames=digest_filenames) for names in lists]
    assert len({path.casefold() for path in found}) == len(lists)
    for path in found:
        assert os.path.realpath(path) == path
        assert path.startswith(f"{tmp_path}{os.sep}")
        Path(path).write_bytes(b"")


def test_shape_of_a_path(tmp_path: Path) -> None:
    """depth - 1 directories, the name, the extension with or without its dot."""
    path = paths.encoded_path(str(tmp_path), ["x"])
    first, second, name = os.path.relpath(path, tmp_path).split(os.sep)
    assert (len(first), len(second), len(name)) == (1, 2, 64 + len(".enc"))
    assert name.startswith(second)
    assert paths.encoded_path(tmp_path, ["x"], ".lock", 1) == str(tmp_path / name.replace(".enc", ".lock"))
    assert paths.encoded_path(tmp_path, ["x"], "", 1) == str(tmp_path / name[:64])
    readable = paths.encoded_path(tmp_path, ["shop_1", "cart"], digest_filenames=False)
    assert os.path.basename(readable) == "shop_1+cart.enc"


def test_long_names_meet_no_readable_one(tmp_path: Path) -> None:
    """The digest that stands for long identifiers is not the name of an identifier that spells it."""
    long = os.path.basename(paths.encoded_path(tmp_path, ["x" * 100, "y" * 100], "", digest_filenames=False))
    assert len(long) <= 160
    for spelt in (long, long.strip("%"), long.strip("%")[:8]):
        assert os.path.basename(paths.encoded_path(tmp_path, [spelt], "", digest_filenames=False)) != long


def test_path_without_making_directories(tmp_path: Path) -> None:
    """create=False only computes."""
    made = paths.encoded_path(tmp_path / "root", ["x"], create=False)
    assert not (tmp_path / "root").exists()
    assert made == paths.encoded_path(tmp_path / "root", ["x"])
    assert (tmp_path / "root").is_dir()


@given(st.text(st.characters()), st.text(st.characters()))
@example("A", "a")
@example("", "-")
def test_safe_names(left: str, right: str) -> None:
    """Safe names are injective under case folding, short, and free of dots, slashes and NULs."""
    names = paths.safe_name(left), paths.safe_name(right)
    assert (left == right) == (names[0].casefold() == names[1].casefold())
    for name in names:
        assert 0 < len(name) <= 160
        assert not set(name) & set("./\\\0")


def test_verify_directory(tmp_path: Path) -> None:
    """Missing parents are created, private whatever the umask; an existing directory is fine; a file is not."""
    before = os.umask(0)
    try:
        paths.verify_directory(tmp_path / "a" / "b" / "c")
        paths.verify_directory(str(tmp_path / "a" / "b" / "c") + os.sep)
    finally:
        os.umask(before)
    for made in ("a", "a/b", "a/b/c"):
        assert (tmp_path / made).stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        paths.verify_directory(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        paths.verify_directory(tmp_path / "file" / "below")
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling")
    with pytest.raises(FileExistsError):
        paths.verify_directory(tmp_path / "dangling")


def test_verify_directory_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative directories work."""
    monkeypatch.chdir(tmp_path)
    paths.verify_directory("x/y")
    assert (tmp_path / "x" / "y").is_dir()


def test_many_make_one_directory(tmp_path: Path) -> None:
    """Threads that create the same directories at once all succeed."""
    for turn in range(20):
        run_threads(4, lambda index, turn=turn: paths.verify_directory(tmp_path / str(turn) / "a" / "b" / "c"))  # type: ignore[misc]


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("data", [b"", b"x", b"x" * 1_000_000], ids=len)
def test_atomic_write(tmp_path: Path, data: bytes, durable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file holds exactly the data, mode 0600, alone in its directory; bare names work too."""
    path = tmp_path / "file"
    for content in (b"before", data):
        paths.atomic_write(str(path), content, durable=durable)
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.chdir(tmp_path)
    paths.atomic_write("bare", data, durable=durable)
    assert sorted(os.listdir(tmp_path)) == ["bare", "file"]


def test_durable_flushes_file_and_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """durable flushes the file before it is renamed and its directory after; the default flushes nothing."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(fd: int) -> None:
        steps.append("directory" if os.path.isdir(f"/proc/self/fd/{fd}") else "file")
        fsync(fd)

    def watched_replace(*arguments: Any, **options: Any) -> None:
        steps.append("rename")
        replace(*arguments, **options)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    paths.atomic_write(str(tmp_path / "a"), b"x")
    assert steps == ["rename"]
    del steps[:]
    paths.atomic_write(str(tmp_path / "a"), b"x", durable=True)
    assert steps == ["file", "rename", "directory"]
    del steps[:]
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        paths.atomic_write("a", b"x", durable=True, dir_fd=fd)
    finally:
        os.close(fd)
    assert steps == ["file", "rename", "directory"]


@pytest.mark.parametrize("call", ["posix_fallocate", "write", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()], ids=["full", "interrupted"])
def test_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: BaseException) -> None:
    """Whatever interrupts the write, the old content stays and no temporary file or descriptor does."""
    path = tmp_path / "file"
    paths.atomic_write(str(path), b"old")

    def fail(*arguments: object, **options: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(type(error)):
            paths.atomic_write(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
    assert open_under(tmp_path) == []


def test_readers_see_whole_files(tmp_path: Path) -> None:
    """A reader beside writers sees one of the written contents, never a mixture or a part."""
    path = str(tmp_path / "file")
    paths.atomic_write(path, b"0" * 50_000)
    stop = threading.Event()

    def write(index: int) -> None:
        for turn in range(60):
            paths.atomic_write(path, b"%d" % ((index + turn) % 10) * 50_000)

    def read() -> None:
        while not stop.is_set():
            content = Path(path).read_bytes()
            seen.add((len(content), len(set(content))))

    seen: set[tuple[int, int]] = set()
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    run_threads(2, write)
    stop.set()
    reader.join(30)
    assert seen == {(50_000, 1)}
    assert os.listdir(tmp_path) == ["file"]
