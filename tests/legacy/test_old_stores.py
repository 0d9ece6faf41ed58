"""Old stores that are away, damaged or in the way: a session is not lost to them, and nothing is written there."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker import counters
from beaker.exceptions import StoreUnavailable
from beaker.session.proxy import SessionObject
from beaker.testing.session_harness import Tab
from tests.legacy.corpus import pick

Arrive = Callable[..., Tab]

FILE = pick(beaker="1.14.1", type="file", serializer="pickle", crypto=None, unsigned=None)


def number(session: SessionObject) -> Any:
    return session.get("number")


@pytest.mark.parametrize("place", ["memory", "cookie"])
def test_an_outage_of_the_old_store_loses_nobody(place: str, arrive: Arrive, tmp_path: Path) -> None:
    """While the old directory is away requests fail; when it is back the session is."""
    tab = arrive(FILE, place)
    os.rename(tmp_path / "old", tmp_path / "away")
    with pytest.raises(StoreUnavailable):
        tab.do(number)
    os.rename(tmp_path / "away", tmp_path / "old")
    tab.handlers.clear()
    assert tab.do(number) == FILE["number"]


@pytest.mark.parametrize("type", ["file", "dbm"])
def test_a_record_that_cannot_be_opened_is_an_outage(type: str, arrive: Arrive, tmp_path: Path) -> None:
    """A path that is not a directory, or one without permission, does not count as empty."""
    vector = pick(beaker="1.14.1", type=type, serializer="pickle", crypto=None, unsigned=None)
    tab = arrive(vector)
    (inner,) = next((tmp_path / "old").glob("container_*")).iterdir()
    inner.rename(tmp_path / "away")
    inner.write_bytes(b"")
    with pytest.raises(StoreUnavailable):
        tab.do(number)


def test_a_dbm_file_that_is_half_gone_is_gone(arrive: Arrive, tmp_path: Path) -> None:
    """A request at the same time removes its files one by one; that does not count as an outage."""
    vector = pick(beaker="1.14.1", type="dbm", serializer="pickle")
    tab = arrive(vector)
    (tmp_path / "old" / next(name for name in vector["files"] if name.endswith(".dat"))).unlink()
    assert tab.do(number) is None


@pytest.mark.parametrize("what", ["pipe", "directory", "link"])
@pytest.mark.parametrize("type", ["file", "dbm"])
def test_what_is_in_the_place_of_an_old_record(type: str, what: str, arrive: Arrive, tmp_path: Path) -> None:
    """Something else than a file is no session: it is not followed, and nothing waits for it."""
    vector = pick(beaker="1.14.1", type=type, serializer="pickle", crypto=None, unsigned=None)
    tab = arrive(vector)
    for path in [path for path in (tmp_path / "old").rglob("*") if path.is_file()]:
        path.rename(tmp_path / path.name)
        if what == "pipe":
            os.mkfifo(path)
        elif what == "directory":
            path.mkdir()
        else:
            path.symlink_to(tmp_path / path.name)
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.append(tab.do(number)), daemon=True)
    reader.start()
    reader.join(10)
    assert found == [None]


@pytest.mark.parametrize("content", [b"1\n", b"[\n", b"\xff\n", b"'session', 7\n", b"'session', (0, -1)\n"])
def test_a_dbm_index_of_any_content_is_no_error(content: bytes, arrive: Arrive, tmp_path: Path) -> None:
    """However the dbm library reads it."""
    vector = pick(beaker="1.14.1", type="dbm", serializer="pickle")
    tab = arrive(vector)
    (tmp_path / "old" / next(name for name in vector["files"] if name.endswith(".dir"))).write_bytes(content)
    assert tab.do(number) in (None, vector["number"])


@pytest.mark.parametrize("type", ["ext:redis", "ext:memcached"])
def test_a_server_that_is_down_is_an_outage(
    type: str, arrive: Arrive, memcached_server: Any, redis_server: Any
) -> None:
    """And the session is taken over when it is up again."""
    server = redis_server if type == "ext:redis" else memcached_server
    url = server.url if type == "ext:redis" else server.address
    vector = pick(beaker="1.14.1", type=type, serializer="json", client=None)
    tab = arrive(vector, at=url)
    server.stop()
    with pytest.raises(StoreUnavailable):
        tab.do(number)
    server.start()
    tab.handlers.clear()
    assert arrive(vector, at=url).do(number) == vector["number"]


def test_a_table_that_is_missing_is_an_outage(arrive: Arrive, tmp_path: Path) -> None:
    """A database without the table is not one without sessions."""
    tab = arrive(pick(beaker="1.14.1", type="ext:database", serializer="json"))
    os.truncate(tmp_path / "old" / "old.db", 0)
    with pytest.raises(StoreUnavailable):
        tab.do(number)


def test_a_record_that_cannot_be_removed_is_counted(
    arrive: Arrive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is taken over all the same."""

    def refuse(path: Any) -> None:
        raise PermissionError(13, "no")

    tab = arrive(FILE)
    monkeypatch.setattr("beaker.session.legacy.records.os.unlink", refuse)
    before = counters.snapshot().events.get("legacy_left", 0)
    assert tab.do(number) == FILE["number"]
    assert counters.snapshot().events["legacy_left"] == before + 1


def test_nothing_of_the_old_store_is_written(arrive: Arrive, tmp_path: Path) -> None:
    """Reading does not even need the right to write: the files can be on a read-only disk."""
    tab = arrive(FILE, policy={"keep": True}, key="new")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in _files(tmp_path / "old")}
    for path in before:
        path.chmod(stat.S_IRUSR)
    assert tab.do(number) == FILE["number"]
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in _files(tmp_path / "old")} == before


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]
