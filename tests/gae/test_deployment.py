"""The kit around an application: where its settings come from, and who may call its handlers."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beaker.cache import Cache
from beaker.exceptions import ConfigError
from beaker.runtime import Platform, Runtime
from beaker.testing import Browser, FakeClock
from gae.app import Application, compose
from gae.settings import Settings

SECRET = "u7Jm2pVqX0cYw9LrTz4KbN8sEoHdGfAi3MkQ1xWvPyU"
APPENGINE = Runtime(platform=Platform.APPENGINE, project="demo")


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    session = environ["beaker.session"]
    session.increment("n")
    session.save()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(session["n"]).encode()]


def application(tmp_path: Path, environ: Mapping[str, str] | None = None, **more: Any) -> Application:
    variables = {"BEAKER_DATA_DIR": str(tmp_path), **(environ or {})}
    runtime = more.pop("runtime", Runtime())
    return compose(app, settings=Settings.from_environ(variables, runtime=runtime), **more)


def test_a_laptop_needs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Files under the data directory, a secret created once and readable by its owner only, one line that says so."""
    with caplog.at_level(logging.INFO, "gae"):
        browser = Browser(application(tmp_path))
    assert [browser.get().text, browser.get().text] == ["1", "2"]
    secret = tmp_path / "session-secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    kept = secret.read_text()
    assert "session=file" in caplog.text
    assert kept.strip() not in caplog.text
    again = Browser(application(tmp_path))
    again.cookies = dict(browser.cookies)
    assert again.get().text == "3"
    assert secret.read_text() == kept


def test_app_engine_without_a_secret_does_not_start(tmp_path: Path) -> None:
    """The error says how to create a secret; nothing is written to the instance's disk."""
    with pytest.raises(ConfigError, match=r"python -m beaker keys new.*BEAKER_SESSION_SECRET"):
        application(tmp_path, runtime=APPENGINE)
    assert list(tmp_path.iterdir()) == []


def test_on_app_engine_the_cookie_is_secure_and_the_type_fits(tmp_path: Path) -> None:
    """With a key and a project sessions are hybrid; the cookie is Secure though the request came by http."""
    composed = application(
        tmp_path, {"BEAKER_SESSION_SECRET": SECRET, "BEAKER_SESSION_STORE": "memory"}, runtime=APPENGINE
    )
    assert composed.settings.session_type == "hybrid"
    assert "; Secure" in Browser(composed).get().set_cookies[0]


def test_the_later_source_wins(tmp_path: Path) -> None:
    """Arguments over mounted files over variables."""
    mounted = tmp_path / "mounted"
    mounted.write_text(SECRET)
    environ = {
        "BEAKER_DATA_DIR": str(tmp_path),
        "BEAKER_SESSION_TIMEOUT": "60",
        "BEAKER_SESSION_KEY": "from_environment",
        "BEAKER_SESSION_SECRET": "x" * 40,
        "BEAKER_SESSION_SECRET_FILE": str(mounted),
        "BEAKER_CACHE_LOOKUP__EXPIRE": "5m",
    }
    regions = {"lookup": {"type": "memory"}}
    found = Settings.from_environ(environ, runtime=Runtime(), session={"key": "argued"}, regions=regions)
    assert (found.session.timeout, found.session.key) == (60.0, "argued")
    assert found.session.secret == f"file:{mounted}"
    assert found.cache["cache_regions"]["lookup"]["expire"] == 300.0
    assert found.cache["cache_regions"]["lookup"]["type"] == "memory"
    assert found.origins["session.secret"] == "file"
    assert found.origins["session.key"] == "argument"


def test_secret_manager_is_read_once(tmp_path: Path) -> None:
    """A reference is replaced by the version's payload; a malformed one and a refused one name the variable."""
    asked: list[str] = []

    def access(*, name: str, timeout: float) -> Any:
        asked.append(name)
        return SimpleNamespace(payload=SimpleNamespace(data=SECRET.encode() + b"\n"))

    client = SimpleNamespace(access_secret_version=access)
    environ = {"BEAKER_SESSION_SECRET": "secret:projects/p/secrets/s/versions/3", "BEAKER_SESSION_TYPE": "cookie"}
    found = Settings.from_environ(environ, runtime=APPENGINE, secrets_client=client)
    assert found.session.secret == SECRET
    assert asked == ["projects/p/secrets/s/versions/3"]
    malformed = {**environ, "BEAKER_SESSION_SECRET": "secret:nonsense"}
    with pytest.raises(ConfigError, match="BEAKER_SESSION_SECRET"):
        Settings.from_environ(malformed, runtime=APPENGINE, secrets_client=client)


def test_a_bad_variable_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A value that cannot be used is an error with the variable's name; an unknown one is logged with a guess, and
    refused where it was meant to protect or to place something."""
    with pytest.raises(ConfigError, match="BEAKER_SESSION_TIMEOUT"):
        application(tmp_path, {"BEAKER_SESSION_TIMEOUT": "soon"})
    with caplog.at_level(logging.WARNING, "gae"):
        application(tmp_path, {"BEAKER_SESSION_COMPRES": "yes"})
    assert "BEAKER_SESSION_COMPRES " in caplog.text
    assert "BEAKER_SESSION_COMPRESS" in caplog.text
    for variable, meant in (
        ("BEAKER_SESSION_TIMOUT", "BEAKER_SESSION_TIMEOUT"),
        ("BEAKER_SESION_SECRET", "BEAKER_SESSION_SECRET"),
        ("BEAKER_CACHE_ENCRYPT_KEYS_FILE", "BEAKER_CACHE_ENCRYPT_KEY"),
        ("BEAKER_CACHE_LOOKUP__TYP", "BEAKER_CACHE_LOOKUP__TYPE"),
    ):
        with pytest.raises(ConfigError, match=f"{variable} names no option.*did you mean {meant}"):
            application(tmp_path, {variable: "60"})


def test_health_and_warmup_answer_and_leave_the_session_alone(tmp_path: Path) -> None:
    """/healthz and /_ah/warmup return 200 without a cookie; a warmup calls the prefetch functions once."""
    fetched: list[int] = []
    browser = Browser(application(tmp_path, prefetch=[lambda: fetched.append(1)]))
    for path in ("/healthz", "/_ah/warmup", "/_ah/warmup"):
        answer = browser.get(path)
        assert (answer.status, answer.set_cookies) == ("200 OK", [])
    assert fetched == [1]
    assert browser.post("/healthz").status.startswith("405")


def test_a_warmup_whose_prefetch_fails_still_answers(tmp_path: Path) -> None:
    """A cold instance serves; what failed is logged."""
    browser = Browser(application(tmp_path, prefetch=[lambda: 1 / 0]))
    assert browser.get("/_ah/warmup").status == "200 OK"


def _old_records(tmp_path: Path) -> None:
    cache = Cache("pages", type="file", data_dir=str(tmp_path / "cache"), expire=60, clock=FakeClock(1_000_000_000.0))
    for number in range(5):
        cache.put(f"old-{number}", number)


CRON = {"HTTP_X_APPENGINE_CRON": "true"}


def test_the_cron_header_counts_on_app_engine_only(tmp_path: Path) -> None:
    """Elsewhere any client can send it: 403, and nothing is purged."""
    _old_records(tmp_path)
    assert Browser(application(tmp_path)).get("/tasks/beaker/purge", **CRON).status.startswith("403")
    settings = {"BEAKER_SESSION_SECRET": SECRET, "BEAKER_SESSION_TYPE": "cookie", "BEAKER_CACHE_TYPE": "file"}
    settings["BEAKER_CACHE_DATA_DIR"] = str(tmp_path / "cache")
    on_app_engine = Browser(application(tmp_path, settings, runtime=APPENGINE))
    assert on_app_engine.get("/tasks/beaker/purge").status.startswith("403")
    answer = on_app_engine.get("/tasks/beaker/purge", **CRON)
    assert answer.status == "200 OK"
    report = json.loads(answer.text)
    assert (report["total"], report["done"]) == (5, True)


def test_a_shared_secret_starts_a_purge(tmp_path: Path) -> None:
    """The right secret purges, a wrong one does not, a short one is refused at the start."""
    _old_records(tmp_path)
    browser = Browser(application(tmp_path, {"BEAKER_TASKS_SECRET": SECRET}))
    assert browser.get("/tasks/beaker/purge", HTTP_X_BEAKER_TASKS_SECRET="x" * 40).status.startswith("403")
    report = json.loads(browser.get("/tasks/beaker/purge", HTTP_X_BEAKER_TASKS_SECRET=SECRET).text)
    assert report["total"] == 5
    with pytest.raises(ConfigError, match="shared secret"):
        application(tmp_path, {"BEAKER_TASKS_SECRET": "short"})


def test_an_oidc_token_starts_a_purge(tmp_path: Path) -> None:
    """Only a verified token of a named account for our audience counts; other tokens are not even verified."""
    claims = {"aud": "https://x", "email": "cron@p", "email_verified": True}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    seen: list[str] = []

    def verify(token: str, audience: str) -> Mapping[str, Any]:
        seen.append(token)
        if not token.endswith(".good"):
            raise ValueError("bad signature")
        return claims

    environ = {"BEAKER_TASKS_AUDIENCE": "https://x", "BEAKER_TASKS_SERVICE_ACCOUNTS": "cron@p"}
    browser = Browser(application(tmp_path, environ, verify=verify))

    def status(token: str) -> str:
        return browser.post("/tasks/beaker/purge", HTTP_AUTHORIZATION=f"Bearer {token}").status[:3]

    assert status(f"h.{body}.good") == "200"
    assert status(f"h.{body}.bad") == "403"
    assert len(seen) == 2
    assert [status("h.e30.good"), status("rubbish"), status("")] == ["403"] * 3
    assert len(seen) == 2
