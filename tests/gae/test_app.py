"""What compose puts around an application, and in which order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from beaker.cache import CacheManager
from beaker.runtime import Platform, Runtime
from beaker.testing import Browser
from gae.app import compose
from gae.settings import Settings

KEY = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
KEYED = {"BEAKER_SESSION_SECRET": KEY, "BEAKER_SESSION_TYPE": "cookie"}
PATHS = ("/healthz", "/_ah/warmup", "/tasks/beaker/purge")


def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]


def layers(wsgi: Any) -> list[str]:
    """The classes of what stands around ``echo``, outermost first."""
    found = []
    while wsgi is not echo:
        found.append(type(wsgi).__name__)
        wsgi = next(vars(wsgi)[name] for name in ("_wsgi", "_app", "app", "wrap_app") if name in vars(wsgi))
    return found


@pytest.mark.parametrize(
    ("options", "around"),
    [
        ({}, ["Handlers"]),
        ({"ndb": True}, ["NDBContextMiddleware", "Handlers"]),
        ({"handlers": False}, []),
        ({"handlers": False, "ndb": True}, ["NDBContextMiddleware"]),
    ],
)
def test_context_handlers_session_cache_application(options: dict[str, Any], around: list[str]) -> None:
    """The context is outermost, then handlers, then sessions around the cache; on a platform a trace around all."""
    laptop = Settings.from_environ(KEYED, runtime=Runtime(), cache={"type": "memory"})
    around = ["Application", *around, "SessionMiddleware", "CacheMiddleware"]
    assert layers(compose(echo, settings=laptop, **options)) == around
    run = Settings.from_environ(KEYED, runtime=Runtime(platform=Platform.CLOUD_RUN))
    assert layers(compose(echo, settings=run, **options)) == ["Application", "RequestTrace", *around[1:]]


def test_the_application_has_session_and_cache(tmp_path: Path) -> None:
    """environ holds both; the regions given are configured."""
    seen: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        seen.append(environ["beaker.cache"])
        environ["beaker.session"]["a"] = 1
        environ["beaker.session"].save()
        return echo(environ, start_response)

    settings = Settings.from_environ(
        {"BEAKER_DATA_DIR": str(tmp_path)}, runtime=Runtime(), regions={"r": {"expire": 9}}
    )
    assert Browser(compose(app, settings=settings)).get().set_cookies
    assert isinstance(seen[0], CacheManager)
    assert seen[0].get_cache_region("mine", "r").expiretime == 9


def test_the_platform_s_addresses_never_reach_the_application() -> None:
    """Not even refused ones do; with handlers=False all of them reach it."""
    settings = Settings.from_environ(KEYED, runtime=Runtime(), cache={"type": "memory"})
    ours = Browser(compose(echo, settings=settings))
    theirs = Browser(compose(echo, settings=settings, handlers=False))
    for path in PATHS:
        assert ours.get(path).text != path
        assert theirs.get(path).text == path


def test_configured_by_the_process_s_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without settings the environment is read; arguments win over it."""
    for name, value in {**KEYED, "BEAKER_DATA_DIR": str(tmp_path), "BEAKER_SESSION_KEY": "from_environment"}.items():
        monkeypatch.setenv(name, value)
    assert compose(echo).settings.session.key == "from_environment"
    composed = compose(echo, session={"key": "argued"}, cache={"type": "memory"}, regions={"r": {}})
    assert (composed.settings.session.key, composed.settings.cache_type) == ("argued", "memory")
    assert list(composed.settings.cache["cache_regions"]) == ["r"]


class Thing:
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing)

    __hash__ = object.__hash__


@pytest.fixture(params=["memory", "file", "dbm", "ext:database", "ext:redis", "ext:memcached", "ext:google"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of a cache of each type, on a real server where the type has one."""
    kind = request.param
    if kind == "ext:redis":
        return {"type": kind, "url": request.getfixturevalue("redis_server").url}
    if kind == "ext:memcached":
        return {"type": kind, "url": request.getfixturevalue("memcached_server").address}
    if kind == "ext:google":
        running = request.getfixturevalue("datastore_emulator")
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", running.host)
        return {"type": kind, "project": "compose-objects"}
    if kind == "ext:database":
        return {"type": kind, "url": f"sqlite:///{tmp_path}/cache.db"}
    return {"type": kind, "data_dir": str(tmp_path)}


@pytest.mark.parametrize("key", ["secret", "validate_key"])
def test_objects_go_into_caches_of_every_store(place: dict[str, Any], key: str) -> None:
    """With a session's key and nothing else said, a cache keeps an object of a class and gives it back."""
    seen: list[object] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        cache = environ["beaker.cache"].get_cache("things")
        cache.put("thing", Thing())
        seen.extend((cache.get("thing"), cache.get("other", createfunc=Thing)))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    settings = Settings.from_environ({}, runtime=Runtime(), session={"type": "cookie", key: KEY}, cache=place)
    Browser(compose(app, settings=settings)).get("/")
    assert seen == [Thing(), Thing()]
