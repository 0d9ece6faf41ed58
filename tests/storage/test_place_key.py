"""The key of a directory: files that come from elsewhere, by whatever path, run nothing, and our own are read."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beaker.cache import Cache
from beaker.caching.entry import Entry, EntryCodec
from beaker.crypto.envelope import Envelope
from beaker.crypto.keyring import Key
from beaker.crypto.place import PlaceKey
from beaker.exceptions import StoreUnavailable, UnserializableValue
from beaker.session import Session
from beaker.storage.files import FileStore
from tests.storage.intruder import (
    FOREIGN,
    NAME,
    Thing,
    add_second_name,
    give_to_another_user,
    needs_root,
    put_directory,
    put_link,
    put_pipe,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path: Path) -> PlaceKey:
    return PlaceKey(str(tmp_path / "data"), backend="file", option="data_dir")


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "mode": (lambda path: path.chmod(0o640), "mode 640"),
    "owner": (give_to_another_user, "another user"),
    "link": (put_link, "something else than a file"),
    "second name": (add_second_name, "second name"),
    "pipe": (put_pipe, "something else than a file"),
    "directory": (put_directory, "something else than a file"),
    "cut": (lambda path: os.truncate(path, 20), "no whole key"),
    "empty": (lambda path: os.truncate(path, 0), "no whole key"),
    "open directory": (lambda path: path.parent.chmod(0o770), "mode 770"),
    "open parent": (lambda path: path.parent.parent.chmod(0o777), "every user"),
}


@pytest.mark.parametrize("damage", [pytest.param(name, marks=[needs_root] * (name == "owner")) for name in DAMAGE])
def test_a_key_that_is_not_ours_alone(damage: str, tmp_path: Path, place: PlaceKey) -> None:
    """Its file is not taken, nor is it replaced; what needs pickle is refused with what to do, the rest is kept."""
    inflict, why = DAMAGE[damage]
    os.chmod(tmp_path, 0o755)
    Cache("n", type="file", file_dir=place.directory).put("k", Thing(1))
    inflict(Path(place.directory, NAME))
    assert place.current() is None
    assert place.find(b"none") is None
    assert why in place.problem()
    # Another limit is another store, which has not read the key before.
    fresh: Any = Cache("n", type="file", file_dir=place.directory, max_value=2**20)
    for serializer in ("auto", "pickle"):
        picky = Cache("n", type="file", file_dir=place.directory, max_value=2**20, serializer=serializer)
        with pytest.raises(UnserializableValue, match=rf"(?s){why}.*secret|secret.*{why}"):
            picky.put("k", Thing(2))
    fresh.put("plain", {1, 2})
    assert fresh.get("plain") == {1, 2}
    session = Session({}, type="file", file_dir=place.directory)
    session["plain"] = 1
    session.save()
    session["thing"] = Thing(1)
    with pytest.raises(UnserializableValue, match=why):
        session.save()
    assert dict(Session({}, type="file", file_dir=place.directory, id=session.id)).get("plain") == 1


def test_directories_above(tmp_path: Path, place: PlaceKey) -> None:
    """A sticky one, as /tmp is, and a link of our own are no reason; a link is followed to where others may write."""
    os.chmod(tmp_path, 0o1777)
    assert place.current() is not None
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(real)
    linked = PlaceKey(str(tmp_path / "link" / "data"), backend="file", option="data_dir")
    assert linked.current() is not None
    real.chmod(0o777)
    again = PlaceKey(linked.directory, backend="file", option="data_dir")
    assert again.current() is None
    assert f"{real} can be written by every user" in again.problem()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StoreUnavailable):
        PlaceKey(str(tmp_path / "loop" / "data"), backend="file", option="data_dir").find(b"none")


@needs_root
def test_links_and_directories_of_other_users_above(tmp_path: Path) -> None:
    """What another user owns above the directory can be replaced by them."""
    os.chmod(tmp_path, 0o1777)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.lchown(tmp_path / "link", FOREIGN, FOREIGN)
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", FOREIGN, FOREIGN)
    for name in ("link", "theirs"):
        place = PlaceKey(str(tmp_path / name / "data"), backend="file", option="data_dir")
        assert place.current() is None
        assert str(tmp_path / name) in place.problem()


@needs_root
def test_groups_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group that has this user alone, as each user has one on many systems, is not another user; any other is."""
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(0o775)
    directory = str(above / "data")

    def problem() -> str:
        return PlaceKey(directory, backend="file", option="data_dir").problem()

    assert PlaceKey(directory, backend="file", option="data_dir").current() is not None
    os.chown(above, 0, 4242)
    assert f"{above} can be written by its group" in problem()
    user = pwd.getpwuid(0)
    for name, members, others in (
        (user.pw_name, [], False),
        (user.pw_name, [user.pw_name], False),
        (user.pw_name, ["ann"], True),
        ("staff", [], True),
    ):
        monkeypatch.setattr(grp, "getgrgid", lambda gid, n=name, m=members: SimpleNamespace(gr_name=n, gr_mem=m))
        monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name=user.pw_name, pw_gid=4242))
        assert bool(problem()) == others
        monkeypatch.undo()


def test_many_start_at_once(place: PlaceKey) -> None:
    """Every process gets the one key, however many create it at the same moment."""
    places = [PlaceKey(place.directory, backend="file", option="data_dir") for _ in range(16)]
    gate = threading.Barrier(len(places))

    def start(place: PlaceKey) -> Key | None:
        gate.wait()
        return place.current()

    with ThreadPoolExecutor(len(places)) as pool:
        found = list(pool.map(start, places))
    assert None not in found
    assert len({key.kid for key in found if key is not None}) == 1
    assert stat.S_IMODE(os.stat(f"{place.directory}/{NAME}").st_mode) == 0o600


def test_a_directory_that_was_removed(tmp_path: Path) -> None:
    """Two processes understand each other again after the directory, and the key with it, was removed under them."""
    caches: list[Any] = [Cache("n", type="file", file_dir=str(tmp_path / "data")) for _ in range(2)]
    first, second = (cache.namespace for cache in caches)
    # Two stores, as two processes have them.
    second.store = FileStore(tmp_path / "data")
    second.codec = EntryCodec(Envelope(backend="file", place=second.store.place_key), "auto", second.store)
    caches[0].put("k", Thing(1))
    assert second.read("k").value == Thing(1)
    shutil.rmtree(tmp_path / "data")
    second.write("k", Entry(Thing(2), stored=1.7e9))
    assert first.read("k").value == Thing(2)
    caches[0].put("k", Thing(3))
    assert second.read("k").value == Thing(3)


def test_reading_asks_the_disk_for_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is known, a read of what it signed looks at no path but the record's."""
    cache: Any = Cache("n", type="file", file_dir=str(tmp_path / "data"))
    cache.put("k", Thing(1))

    def refuse(*args: Any, **named: Any) -> Any:
        raise AssertionError("looked at the disk")

    for name in ("stat", "lstat"):
        monkeypatch.setattr(os, name, refuse)
    found = cache.namespace.read("k").value
    monkeypatch.undo()
    assert found == Thing(1)


def test_no_descriptor_left_is_no_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that cannot be read now is an outage: nothing is lost for it."""
    Cache("n", type="file", file_dir=str(tmp_path / "data")).put("k", Thing(1))
    store = FileStore(tmp_path / "data")
    codec = EntryCodec(Envelope(backend="file", place=store.place_key), "auto", store)
    data = store.get("n", "k")
    assert data is not None
    with monkeypatch.context() as patched:
        patched.setattr("beaker.crypto.place.open_held", lambda real: (_ for _ in ()).throw(OSError(24, "too many")))
        with pytest.raises(StoreUnavailable, match="files open"):
            codec.decode("n", "k", data)
    found = codec.decode("n", "k", data)
    assert found is not None
    assert found.value == Thing(1)


AS_ANOTHER_USER = """
import os, sys, tempfile
from pathlib import PurePosixPath
from beaker.cache import Cache
from beaker.exceptions import UnserializableValue

def attempt(directory):
    for options in ({"type": "file"}, {"type": "dbm"}, {"type": "dbm", "dbmmodule": "dbm.dumb"}):
        place = os.path.join(directory, options.get("dbmmodule", options["type"]))
        options[options["type"] + "_dir"] = place
        try:
            Cache("n", **options).put("k", PurePosixPath("/x"))
            print("kept", Cache("n", **options).get("k"))
        except UnserializableValue as error:
            print(error.hint.split("; ")[1], os.path.exists(place))

# Whatever is imported late is imported now: the other user may not be able to read this Python.
with tempfile.TemporaryDirectory() as warm:
    attempt(warm)
    os.chmod(warm, 0o777)
    os.mkdir(warm + "/data", 0o700)
    attempt(warm + "/data")
print("--")
os.setgroups([]); os.setegid(65534); os.seteuid(65534)
for directory in sys.argv[1:]:
    attempt(directory)
"""


@needs_root
def test_as_a_user_who_is_not_root() -> None:
    """Below directories of root a pickle is kept, in every store; below one that anybody may write none is."""
    base = Path(tempfile.mkdtemp(prefix="beaker-place-"))
    try:
        base.chmod(0o755)
        for name, mode in (("good", 0o755), ("open", 0o777)):
            data = base / name / "data"
            data.mkdir(parents=True)
            data.chmod(0o700)
            os.chown(data, FOREIGN, FOREIGN)
            (base / name).chmod(mode)
        command = [sys.executable, "-c", AS_ANOTHER_USER, f"{base}/good/data", f"{base}/open/data"]
        environ = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
        lines = ["kept /x"] * 3 + [f"{base}/open can be written by every user True"] * 3
        assert done.stdout.partition("--\n")[2].splitlines() == lines, done.stderr
        assert not list((base / "open").rglob(NAME))
    finally:
        shutil.rmtree(base)
