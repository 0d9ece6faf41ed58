"""Where a deployment's options come from, which source wins, and what is said about one that cannot be used."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beaker.cache import cache_regions
from beaker.exceptions import ConfigError
from beaker.runtime import Platform, Runtime
from beaker.testing import Browser
from gae.app import compose
from gae.functions import configure_cache, with_session
from gae.settings import KEPT_SECRET, Settings, Tasks

APPENGINE = Runtime(platform=Platform.APPENGINE, project="demo")
KEYS = {source: f"{source}-0123456789-abcdefghijklmnopqrstuvwxyz" for source in ("variable", "file", "manager", "code")}
REFERENCE = "secret:projects/p/secrets/s/versions/1"


def secrets() -> Any:
    payload = SimpleNamespace(payload=SimpleNamespace(data=KEYS["manager"].encode()))
    return SimpleNamespace(access_secret_version=lambda name, timeout: payload)


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"x"]


def composed(environ: Mapping[str, str], **options: Any) -> Settings:
    variables = {"BEAKER_SESSION_SECRET": KEYS["variable"], "BEAKER_SESSION_TYPE": "cookie", **environ}
    settings = Settings.from_environ(variables, runtime=APPENGINE, **options)
    return compose(app, settings=settings).settings


def test_each_source_wins_over_those_before_it(tmp_path: Path) -> None:
    """Variable, mounted file, Secret Manager, argument: one more each time, and the last one is taken."""
    mounted = tmp_path / "key"
    mounted.write_text(KEYS["file"])
    sources: list[tuple[dict[str, str], dict[str, Any], object, str]] = [
        ({"BEAKER_SESSION_VALIDATE_KEY": KEYS["variable"]}, {}, KEYS["variable"], "environment"),
        ({"BEAKER_SESSION_VALIDATE_KEY_FILE": str(mounted)}, {}, f"file:{mounted}", "file"),
        ({"BEAKER_SESSION_VALIDATE_KEY": REFERENCE}, {}, KEYS["manager"], "secret manager"),
        ({}, {"validate_key": KEYS["code"]}, KEYS["code"], "argument"),
    ]
    environ: dict[str, str] = {}
    session: dict[str, Any] = {}
    for variables, argument, value, origin in sources:
        environ |= variables
        session |= argument
        found = composed(environ, session=session, secrets_client=secrets())
        assert (found.session.validate_key, found.origins["session.validate_key"]) == (value, origin)


def test_caches_and_regions_follow_the_same_order() -> None:
    """What the code says wins over variables; what it leaves open, variables say, whatever the region's spelling."""
    environ = {
        "BEAKER_CACHE_EXPIRE": "1m",
        "BEAKER_CACHE_TYPE": "memory",
        "BEAKER_CACHE_SHORT_TERM__EXPIRE": "5",
        "BEAKER_CACHE_SHORT_TERM__TYPE": "null",
    }
    found = composed(environ, cache={"expire": 7}, regions={"Short-Term": {"expire": 9}})
    assert (found.cache["expire"], found.cache["type"]) == (7, "memory")
    region = found.cache["cache_regions"]["Short-Term"]
    assert (region["expire"], region["type"]) == (9, "null")
    assert found.origins["cache.Short-Term.type"] == "environment"
    assert found.variables["cache.Short-Term.type"] == "BEAKER_CACHE_SHORT_TERM__TYPE"
    assert list(found.cache["cache_regions"]) == ["Short-Term"]


def test_one_secret_serves_sessions_and_caches() -> None:
    """Caches sign with the session's secret, and say so, unless they have their own."""
    found = composed({})
    assert (found.cache["secret"], found.origins["cache.secret"]) == (KEYS["variable"], "session.secret")
    found = composed({"BEAKER_CACHE_SECRET": KEYS["file"]})
    assert (found.cache["secret"], found.origins["cache.secret"]) == (KEYS["file"], "environment")


def test_caches_take_the_key_whatever_its_name() -> None:
    """A session that signs with validate_key passes that one on to the caches."""
    environ = {"BEAKER_SESSION_VALIDATE_KEY": KEYS["file"], "BEAKER_SESSION_TYPE": "cookie"}
    alone = Settings.from_environ(environ, runtime=Runtime(platform=Platform.CLOUD_RUN))
    assert (alone.cache["secret"], alone.origins["cache.secret"]) == (KEYS["file"], "session.validate_key")


def test_tasks_follow_it_too(tmp_path: Path) -> None:
    """The shared secret of a mounted file wins over the variable, Secret Manager over both."""
    mounted = tmp_path / "secret"
    mounted.write_text(KEYS["file"] + "\n")
    environ = {"BEAKER_TASKS_SECRET": KEYS["variable"]}
    assert Tasks.from_environ(environ).secret == KEYS["variable"]
    environ["BEAKER_TASKS_SECRET_FILE"] = str(mounted)
    assert Tasks.from_environ(environ).secret == KEYS["file"]
    environ["BEAKER_TASKS_SECRET"] = REFERENCE
    found = Tasks.from_environ(environ, client=secrets())
    assert found.secret == KEYS["manager"]
    assert KEYS["manager"] not in repr(found)
    assert Tasks.from_environ({"BEAKER_TASKS_SECRET": " ", "BEAKER_WARMUP_REGIONS": " a, b ,"}) == Tasks(
        warmup_regions=("a", "b")
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BEAKER_SESSION_TIMEOUT", "soon"),
        ("BEAKER_SESSION_SAMESITE", "maybe"),
        ("BEAKER_SESSION_HTTPONLY", "perhaps"),
        ("BEAKER_SESSION_COOKIE_MAX", "many"),
        ("BEAKER_SESSION_REVOCATION", "{not json"),
        ("BEAKER_SESSION_SECRET", "too-short"),
        ("BEAKER_SESSION_VALIDATE_KEY", "too-short"),
        ("BEAKER_SESSION_ENCRYPT_KEY", "too-short"),
        ("BEAKER_SESSION_SECRET", "secret:no-version"),
        ("BEAKER_SESSION_SECRET_FILE", "/nonexistent/key"),
        ("BEAKER_SESSION_TYPE", "no-such-type"),
        ("BEAKER_SESSION_TYPE", "hybrid-ish"),
        ("BEAKER_CACHE_TYPE", "no-such-type"),
        ("BEAKER_CACHE_EXPIRE", "later"),
        ("BEAKER_CACHE_PAGES__TYPE", "no-such-type"),
        ("BEAKER_CACHE_PAGES__EXPIRE", "later"),
        ("BEAKER_CACHE_ENCRYPT_KEY", "too-short"),
        ("BEAKER_TASKS_SECRET", "too-short"),
        ("BEAKER_TASKS_SECRET", "secret:no-version"),
        ("BEAKER_TASKS_SECRET_FILE", "/nonexistent/secret"),
        ("BEAKER_TASKS_AUDIENCE", "https://without.accounts"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_and_not_shown(variable: str, value: str) -> None:
    """Composing stops with the variable's name in the error, though the option is judged together with others."""
    with pytest.raises(ConfigError) as caught:
        composed({"BEAKER_CACHE_TYPE": "ext:google", variable: value})
    told = str(caught.value)
    assert variable in told
    if "short" in value or "json" in value:
        assert value not in told


def test_what_the_code_gives_is_not_blamed_on_a_variable() -> None:
    """An argument that replaced a variable is named as the option that it is."""
    environ = {"BEAKER_SESSION_VALIDATE_KEY": KEYS["variable"]}
    with pytest.raises(ConfigError, match=r"session\.validate_key|validate_key") as caught:
        composed(environ, session={"validate_key": "too-short"})
    assert "BEAKER_" not in str(caught.value)


def test_an_error_of_a_function_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """with_session and configure_cache name it as compose does."""
    import flask

    settings = Settings.from_environ(
        {"BEAKER_SESSION_SECRET": "too-short", "BEAKER_SESSION_TYPE": "cookie"}, runtime=APPENGINE
    )
    with flask.Flask("x").test_request_context(), pytest.raises(ConfigError, match="set by BEAKER_SESSION_SECRET"):
        with_session(settings=settings)(lambda request: "x")(flask.request)


def test_settings_are_complete() -> None:
    """Options beside settings would be ignored: they are refused."""
    settings = Settings.from_environ({"BEAKER_SESSION_SECRET": KEYS["code"]}, runtime=APPENGINE)
    beside: list[dict[str, Any]] = [{"session": {}}, {"cache": {}}, {"regions": {"a": {}}}]
    for options in beside:
        with pytest.raises(ConfigError, match="settings are complete"):
            compose(app, settings=settings, **options)
    with pytest.raises(ConfigError, match="settings are complete"):
        configure_cache(settings=settings, regions={"a": {}})
    with pytest.raises(ConfigError, match="settings are complete"):
        with_session(settings=settings, type="cookie")
    assert "a" not in cache_regions


@pytest.mark.parametrize(
    ("environ", "runtime", "told"),
    [
        (
            {},
            Runtime(),
            "platform=local session=file (laptop default) cache=file (laptop default)"
            " session secret from laptop default",
        ),
        (
            {"BEAKER_SESSION_SECRET": KEYS["code"]},
            APPENGINE,
            "platform=appengine session=hybrid (platform) cache=memory (platform) session secret from environment",
        ),
        (
            {"BEAKER_SESSION_SECRET": KEYS["code"], "BEAKER_SESSION_TYPE": "cookie", "BEAKER_CACHE_TYPE": "null"},
            Runtime(platform=Platform.CLOUD_RUN, emulator_host="localhost:1"),
            "platform=cloudrun + Datastore emulator session=cookie (environment) cache=null (environment)"
            " session secret from environment",
        ),
    ],
)
def test_the_start_says_what_was_chosen_and_why(
    environ: dict[str, str], runtime: Runtime, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line, with the origin of each choice and no secret; serving says nothing more."""
    settings = Settings.from_environ({"BEAKER_DATA_DIR": str(tmp_path), **environ}, runtime=runtime)
    with caplog.at_level(logging.INFO):
        caplog.clear()
        made = compose(app, settings=settings)
        Browser(made).get()
    assert caplog.messages == [f"beaker: {told}"]
    assert repr(made) == f"<Application beaker: {told}>"
    assert KEYS["code"] not in caplog.text + repr(made) + repr(settings)


MAKING = "from gae.settings import Settings; Settings.from_environ({'BEAKER_DATA_DIR': 'data'})"


def test_processes_that_start_together_keep_one_secret(tmp_path: Path) -> None:
    """4 first starts on a laptop: one secret, readable by its owner alone, and nothing left beside it."""
    root = str(Path(__file__).resolve().parents[2])

    def start(_: int) -> int:
        command = [sys.executable, "-c", MAKING]
        return subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": root}, timeout=60).returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, range(4))) == [0] * 4
    [made] = (tmp_path / "data").iterdir()
    assert (made.name, made.stat().st_mode & 0o777) == (KEPT_SECRET, 0o600)
    assert len(made.read_text().strip()) == 52


def test_a_secret_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    """A data directory that cannot be created is named, with what to set instead."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="BEAKER_SESSION_SECRET") as caught:
        Settings.from_environ({"BEAKER_DATA_DIR": str(tmp_path / "file")}, runtime=Runtime())
    assert caught.value.option == "BEAKER_DATA_DIR"
