"""Files that come from elsewhere, by whatever path, run nothing; what is no file is absent."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import Cache
from beaker.caching.entry import CACHE_RECORD
from beaker.crypto.envelope import Envelope
from beaker.crypto.form import make_key
from beaker.crypto.keyring import KeyRing
from beaker.crypto.tokens import store_key
from beaker.exceptions import CorruptRecord, StoreUnavailable
from beaker.serialization.serializers import TaggedJson
from beaker.session import Session
from beaker.session.records import NAMESPACE
from beaker.session.snapshot import LIVE, Snapshot
from tests.storage.intruder import (
    KINDS,
    NAME,
    Thing,
    add_second_name,
    close,
    flipping,
    given_away,
    put_directory,
    put_link,
    put_pipe,
    store_in,
    taken_back,
)


class Bomb:
    """Creates a directory where it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return (os.makedirs, (str(self.proof), 0o700, True))


@pytest.fixture
def proof(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "executed"
    assert not (tmp_path / "executed").exists()


def rings_of(supplied: Path) -> list[KeyRing | None]:
    """What an attacker seals with: nothing, a key of his own, and one that lies in the directory he supplies."""
    supplied.mkdir(parents=True, exist_ok=True)
    own = make_key()
    rings: list[KeyRing | None] = [None, KeyRing.from_option(own)]
    if os.geteuid() == 0:
        (supplied / NAME).write_text(own)
        (supplied / NAME).chmod(0o600)
    return rings


def read_through(link: Path, good: Path, supplied: Path, look: Callable[[], Any]) -> set[str]:
    """What looks through the link find while it is flipped, and when it leads to the supplied directory."""
    found = []

    def once() -> None:
        # A database whose log is suddenly another one may be an outage; what matters is what is read.
        with contextlib.suppress(StoreUnavailable):
            found.append(repr(look()))

    with flipping(link, good, supplied):
        for _ in range(150):
            once()
    link.unlink()
    link.symlink_to(supplied)
    for _ in range(2):
        once()
    assert found
    return set(found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_flipped_under_a_cache(kind: str, tmp_path: Path, proof: Path) -> None:
    """A directory that leads now to our files, now to supplied ones: their pickles are misses, however sealed."""
    good, supplied, link = tmp_path / "good", tmp_path / "supplied", tmp_path / "link"
    where = f"{KINDS[kind]['type']}_dir"
    Cache("n", **{where: str(good)}, **KINDS[kind]).put("k", Thing(1))
    for ring in rings_of(supplied):
        store = store_in(supplied, kind)
        payload = b"\0\0\0\0" + pickle.dumps(Bomb(proof))
        envelope = Envelope(backend=store.backend, ring=ring)
        record = envelope.seal("n", "k", payload, stored=1.7e9, expires=None, kind=CACHE_RECORD)
        store.set("n", "k", record, ttl=None)
        close(store)
        given_away(supplied)
        link.unlink(missing_ok=True)
        link.symlink_to(good)
        reader: Any = Cache("n", **{where: str(link)}, **KINDS[kind]).namespace

        def look(reader: Any = reader) -> Any:
            entry = reader.read("k")
            return None if entry is None else entry.value

        assert look() == Thing(1)
        assert read_through(link, good, supplied, look) <= {"None", "Thing(number=1)"}
        close(reader.store)
        taken_back(supplied)


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_flipped_under_sessions(kind: str, tmp_path: Path, proof: Path) -> None:
    """The same for the records of sessions without a key."""
    good, supplied, link = tmp_path / "good", tmp_path / "supplied", tmp_path / "link"
    link.symlink_to(good)
    good.mkdir(mode=0o700)
    options = {f"{KINDS[kind]['type']}_dir": str(link), **KINDS[kind]}
    session = Session({}, **options)
    session["user"] = Thing(1)
    session.save()
    id = session._snapshot.id
    name = TaggedJson().dumps("user", "")
    payload = Snapshot(id, 1.7e9, 1.7e9, values={name: b"P" + pickle.dumps(Bomb(proof))}).encode()
    for ring in rings_of(supplied):
        store = store_in(supplied, kind)
        record = Envelope(backend=store.backend, ring=ring).seal(
            NAMESPACE, store_key(id), payload, stored=1.7e9, expires=None, kind=LIVE
        )
        store.set(NAMESPACE, store_key(id), record, ttl=None)
        close(store)
        given_away(supplied)

        def look() -> Any:
            try:
                return Session({}, id=session.id, **options).get("user")
            except CorruptRecord:
                return None

        assert read_through(link, good, supplied, look) <= {"None", "Thing(number=1)"}
        taken_back(supplied)


@pytest.mark.parametrize("what", ["pipe", "directory", "link", "second name"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_in_the_place_of_a_file(kind: str, what: str, tmp_path: Path) -> None:
    """A pipe, a directory or a link where a record or a database is expected is absence, and nothing waits for it."""
    cache: Any = Cache("n", **{f"{KINDS[kind]['type']}_dir": str(tmp_path / "data")}, **KINDS[kind])
    cache.put("k", 1)
    close(cache.namespace.store)
    inflict = {
        "pipe": put_pipe,
        "directory": put_directory,
        "link": put_link,
        "second name": add_second_name,
    }[what]
    tails = (".rec", ".sqlite", ".dbm.dat", ".dbm.dir")
    for path in [path for path in (tmp_path / "data").rglob("*") if path.name.endswith(tails)]:
        inflict(path)
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.append(cache.namespace.read("k")), daemon=True)
    reader.start()
    reader.join(10)
    assert len(found) == 1, "it waits for the pipe's writer"
    assert (found[0] is None) == (what != "second name")
    if kind != "file" or what != "directory":
        cache.put("k", 2)
        assert cache.get("k") == 2
    close(cache.namespace.store)
