"""The first value that needs pickle, on a directory that is not there yet: taken where later ones are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import Cache
from beaker.exceptions import UnserializableValue
from beaker.session import Session

SECRET = "6bf2a7a1f4d94ee1a8e8b0c35d7a49f0c2f1"


@dataclasses.dataclass
class Thing:
    """A type that tagged JSON does not know."""

    number: int


KINDS: dict[str, dict[str, Any]] = {
    "file": {"type": "file"},
    "dbm": {"type": "dbm"},
    "dbm module": {"type": "dbm", "dbmmodule": "dbm.dumb"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache(kind: str, tmp_path: Path) -> None:
    """Where only this user may write, a pickled value is kept, the very first one too."""
    cache = Cache("n", data_dir=str(tmp_path / "fresh"), **KINDS[kind])
    cache.put("k", Thing(1))
    assert Cache("n", data_dir=str(tmp_path / "fresh"), **KINDS[kind]).get("k") == Thing(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_directory_others_may_write(kind: str, tmp_path: Path) -> None:
    """One that another user can write is not trusted, be it empty or not."""
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o777)
    cache = Cache("n", **{f"{KINDS[kind]['type']}_dir": str(directory)}, **KINDS[kind])
    for _ in range(2):
        with pytest.raises(UnserializableValue):
            cache.put("k", Thing(1))
        cache.put("plain", 1)


def test_sqlite(tmp_path: Path) -> None:
    """A database is never trusted by its place: without a key no pickle is taken, first or later; with one, all are."""
    url = f"sqlite:///{tmp_path}/beaker.db"
    cache = Cache("n", type="ext:database", url=url)
    for _ in range(2):
        with pytest.raises(UnserializableValue):
            cache.put("k", Thing(1))
        cache.put("plain", 1)
    signed = Cache("m", type="ext:database", url=url, secret=SECRET)
    signed.put("k", Thing(1))
    assert signed.get("k") == Thing(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_session(kind: str, tmp_path: Path) -> None:
    """A session's first save takes what its later ones take."""
    options = {"data_dir": str(tmp_path / "fresh"), "secret": SECRET, "serializer": "pickle", **KINDS[kind]}
    session = Session({}, **options)
    session["point"] = Thing(1)
    session.save()
    assert Session({}, id=session.id, **options)["point"] == Thing(1)
