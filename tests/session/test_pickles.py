"""Pickles an attacker put into a store, under the keys of sessions and of caches: none is ever executed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import CacheManager
from beaker.caching.entry import CACHE_RECORD
from beaker.config.parse import parse_session
from beaker.crypto.envelope import Envelope
from beaker.crypto.keyring import KeyRing
from beaker.crypto.tokens import store_key
from beaker.exceptions import BeakerException, ConfigError
from beaker.serialization.serializers import TaggedJson
from beaker.session.context import SessionContext
from beaker.session.records import NAMESPACE
from beaker.session.snapshot import LIVE, Snapshot
from beaker.testing.session_harness import OTHER_SECRET, SECRET, SessionHarness, Tab
from tests.session.places import options_of
from tests.storage.shared import SHARED, session_options

put = SessionHarness.put


class Bomb:
    """Creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    return tmp_path / "executed"


@pytest.fixture
def bombs(proof: Path) -> list[bytes]:
    """The same attack in every spelling: protocols 0 to 5."""
    found = [pickle.dumps(Bomb(proof), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    pickle.loads(found[0])
    assert proof.is_dir(), "the attack of this test must work"
    proof.rmdir()
    return found


def forged(backend: str, key: str, id: bytes, bomb: bytes, ring: KeyRing | None) -> list[bytes]:
    """What an attacker without our key can write for a session: raw, in a record with a checksum, under another key."""
    name = TaggedJson().dumps("user", "")
    records = [bomb]
    for tag in (b"P", b"X", b"J", b""):
        payload = Snapshot(id, 1.7e9, 1.7e9, values={name: tag + bomb, bomb: b"J1"}).encode()
        for maker in (None, ring):
            envelope = Envelope(backend=backend, ring=maker)
            records.append(envelope.seal(NAMESPACE, key, payload, stored=1.7e9, expires=None, kind=LIVE))
    return records


@pytest.fixture(params=[*SHARED, "memory", "encrypted file"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param in SHARED:
        return session_options(request.param, request, tmp_path)
    options = options_of(request.param, tmp_path)
    return {name: value for name, value in options.items() if name != "secret"}


@pytest.mark.parametrize("secret", [SECRET, None])
def test_no_pickle_in_a_session_store_is_executed(
    open_tab: Callable[..., Tab], shared: dict[str, Any], secret: str | None, bombs: list[bytes], proof: Path
) -> None:
    """Any bytes under a session's key, on every store: a new session or an error, never an execution."""
    if secret is None and shared["type"] == "memory":
        # Who can write this process's memory is the process itself.
        return
    options = {"secret": secret, **shared} if "validate_key" not in shared else shared
    tab = open_tab("memory", **options)
    tab.do(put(user="ann"))
    context = tab.middleware.context
    id = tab.do(lambda s: s._snapshot.id)
    key = store_key(id)
    for bomb in bombs:
        for record in forged(context.records.store.backend, key, id, bomb, KeyRing.from_option(OTHER_SECRET)):
            context.records.store.set(NAMESPACE, key, record, ttl=None)
            assert tab.copy().do(lambda s: s.get("user")) is None
            assert not proof.exists()


@pytest.mark.parametrize("kind", [*SHARED])
@pytest.mark.parametrize("secret", [SECRET, None])
def test_no_pickle_in_a_cache_store_is_executed(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, secret: str | None, bombs: list[bytes], proof: Path
) -> None:
    """Any bytes under a cache's key: a miss, never an execution."""
    options = session_options(kind, request, tmp_path)
    cache = CacheManager(**options, secret=secret).get_cache("attacked")
    cache.put("k", "good")
    manager: Any = cache.namespace
    for bomb in bombs:
        records = [bomb]
        for ring in (None, KeyRing.from_option(OTHER_SECRET)):
            for payload in (b"\0\0\0\0" + bomb, bomb):
                envelope = Envelope(backend=manager.store.backend, ring=ring)
                records.append(envelope.seal("attacked", "k", payload, stored=1.7e9, expires=None, kind=CACHE_RECORD))
        for record in records:
            manager.store.set("attacked", "k", record, ttl=None)
            assert cache.get("k", createfunc=lambda: "made") == "made"
            assert not proof.exists()


@pytest.mark.parametrize("serializer", ["pickle", pickle])
def test_cookies_never_hold_pickles(serializer: Any) -> None:
    """The pickle serializer, by name or as the module, is refused for what travels in cookies."""
    for kind in ("cookie", "hybrid"):
        with pytest.raises(ConfigError):
            SessionContext(parse_session(kwargs={"type": kind, "validate_key": SECRET, "serializer": serializer}))


def test_the_pickle_module_is_the_pickle_serializer(
    open_tab: Callable[..., Tab], tmp_path: Path, bombs: list[bytes], proof: Path
) -> None:
    """serializer = the module `pickle` escapes no check: a shared store without a key refuses it."""
    with pytest.raises(BeakerException):
        open_tab("sqlite", secret=None, serializer=pickle)
    tab = open_tab("sqlite", serializer=pickle)
    tab.do(put(user=Path("/x")))
    assert tab.do(lambda s: s["user"]) == Path("/x")
