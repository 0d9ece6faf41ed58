"""The session contract on every server, on a third party's manager, and on Datastore's two modes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from beaker.caching.store_manager import StoreNamespaceManager
from beaker.container import NamespaceManager
from beaker.exceptions import ConfigError
from beaker.middleware import SessionMiddleware
from beaker.testing.session import SECRET, SessionContract
from tests.storage.shared import session_options


class TestServers(SessionContract):
    @pytest.fixture(params=["memcached", "redis", "sqlite", "postgres", "google", "google on firestore"])
    def options(self, request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
        return {**session_options(request.param, request, tmp_path), "secret": SECRET}


class DictManager(NamespaceManager):
    """What a third party writes from the manual: dict operations and nothing else."""

    records: ClassVar[dict[tuple[str, str], Any]] = {}
    guard: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, namespace: str, **kwargs: Any) -> None:
        super().__init__(namespace)

    def __getitem__(self, key: str) -> Any:
        return self.records[self.namespace, key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.records[self.namespace, key] = value

    def __contains__(self, key: object) -> bool:
        return (self.namespace, key) in self.records

    def __delitem__(self, key: str) -> None:
        del self.records[self.namespace, key]

    def keys(self) -> list[str]:
        return [key for namespace, key in self.records if namespace == self.namespace]

    def do_remove(self) -> None:
        for key in self.keys():
            del self[key]


class TestThirdParty(SessionContract):
    @pytest.fixture
    def options(self) -> dict[str, Any]:
        return {"namespace_class": DictManager, "secret": SECRET}


class CacheStore:
    """A store that is enough for caches: four operations."""

    backend = "mine"
    max_value: int | None = None
    trusted = False

    def get(self, namespace: str, key: str) -> bytes | None:
        return None

    def set(self, namespace: str, key: str, data: bytes, *, ttl: float | None) -> None: ...

    def delete(self, namespace: str, key: str) -> None: ...

    def clear(self, namespace: str) -> None: ...


class CacheManager(StoreNamespaceManager):
    def __init__(self, namespace: str, **options: Any) -> None:
        super().__init__(namespace, CacheStore(), **options)


def test_a_store_for_caches_is_refused_at_start() -> None:
    """Sessions need a store that can tell whether a record has changed; the first save is too late to say so."""
    with pytest.raises(ConfigError, match=r"namespace_class.*Versioned"):
        SessionMiddleware(lambda environ, start_response: [], namespace_class=CacheManager, secret=SECRET)
