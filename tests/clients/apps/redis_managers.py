"""Redis managers of third parties, as they are on PyPI, for sessions and caches; the server is in REDIS_ADDRESS."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import beaker_redis
import beakeredis
import pytest

import beaker.cache
from beaker.cache import CacheManager
from beaker.middleware import SessionMiddleware
from beaker.testing import Browser

KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
ADDRESS = os.environ["REDIS_ADDRESS"]
MANAGERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "beaker-redis": (beaker_redis.RedisBackend, {"dsn": f"{ADDRESS}/0"}),
    "beakeredis": (beakeredis.RedisManager, {"url": ADDRESS, "db": 0, "lock_dir": "locks"}),
}


@pytest.fixture(params=MANAGERS)
def options(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    kind, given = MANAGERS[request.param]
    monkeypatch.setitem(beaker.cache.clsmap, request.param, kind)
    return {"type": request.param, **given}


def test_sessions(options: dict[str, Any]) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        session = environ["beaker.session"]
        session["visits"] = session.get("visits", 0) + 1
        session["basket"] = {"a": (1, 2)}
        session.save()
        if environ["PATH_INFO"] == "/out":
            session.delete()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(session.get("visits")).encode()]

    settings = {f"session.{name}": value for name, value in options.items()}
    browser = Browser(SessionMiddleware(app, {**settings, "session.validate_key": KEY}))
    assert [browser.get(path).text for path in ("/", "/", "/out", "/")] == ["1", "2", "None", "1"]


def test_cached_functions(options: dict[str, Any]) -> None:
    manager = CacheManager(cache_regions={"short": {**options, "expire": 60}})
    calls: list[int] = []
    begun = threading.Event()

    @manager.region("short")
    def double(n: int) -> dict[str, Any]:
        calls.append(n)
        begun.wait(10)
        return {"n": 2 * n, "set": {1, 2}}

    threads = [threading.Thread(target=double, args=(1,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    begun.set()
    for thread in threads:
        thread.join()
    assert (double(1), calls) == ({"n": 2, "set": {1, 2}}, [1])
    double.invalidate(1)
    assert (double(1)["n"], calls) == (2, [1, 1])


def test_caches(options: dict[str, Any]) -> None:
    cache = CacheManager(**options).get_cache("words", expire=60)
    cache.put("a b", 5)
    assert (cache.get("a b"), "a b" in cache) == (5, True)
    cache.remove_value("a b")
    assert "a b" not in cache
    assert cache.get("z", createfunc=lambda: 7) == 7
    assert cache.namespace.get("absent", "default") == "default"
    cache.remove_value("absent")
    cache.clear()
    assert "z" not in cache
