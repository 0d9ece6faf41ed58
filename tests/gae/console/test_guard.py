"""Who is let in to the console, and what those who are not can learn."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from beaker.exceptions import ConfigError
from beaker.runtime import Platform, Runtime
from gae import doctor
from gae.app import compose
from gae.console import Console, ConsoleOptions
from gae.console.guard import Guard, verify_iap_assertion
from gae.settings import Settings
from tests.gae.console.sites import (
    ADMIN,
    APPENGINE,
    ASSERTION,
    AUDIENCE,
    KEY,
    LET_IN,
    SECRET,
    basic,
    inner,
    site,
)


def test_without_a_protection_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ConfigError that names every way, in code, by variables and in the doctor's report; off unless asked for."""
    for build in (lambda: ConsoleOptions(), lambda: ConsoleOptions.from_environ({"BEAKER_CONSOLE": "true"})):
        with pytest.raises(ConfigError) as caught:
            build()
        assert caught.value.code == "config.open-console"
        for way in ("BEAKER_CONSOLE_SECRET", "BEAKER_CONSOLE_IAP_AUDIENCE", "BEAKER_CONSOLE_APPENGINE_ADMIN"):
            assert way in str(caught.value)
    monkeypatch.setenv("BEAKER_SESSION_SECRET", KEY)
    assert Settings.from_environ().console is None
    monkeypatch.setenv("BEAKER_CONSOLE", "true")
    with pytest.raises(ConfigError, match="BEAKER_CONSOLE_SECRET"):
        Settings.from_environ()
    with pytest.raises(ConfigError, match="BEAKER_CONSOLE_SECRET"):
        compose(inner)
    findings = doctor.examine({"BEAKER_SESSION_SECRET": KEY, "BEAKER_CONSOLE": "true"}).findings
    assert "config.open-console" in [finding.code for finding in findings]


def test_a_price_list_that_is_not_there_is_named() -> None:
    """The error names variable, file and reason."""
    with pytest.raises(ConfigError, match=r"BEAKER_CONSOLE_PRICES .*\(FileNotFoundError\): /no/prices.json"):
        ConsoleOptions.from_environ({"BEAKER_CONSOLE_SECRET": SECRET, "BEAKER_CONSOLE_PRICES": "/no/prices.json"})


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"secret": "short"}, "config.weak-key"),
        ({"iap_audience": AUDIENCE}, "config.open-console"),
        ({"iap_users": ("a@example.com",)}, "config.open-console"),
        ({"secret": SECRET, "path": "_beaker"}, "config.invalid-option"),
        ({"secret": SECRET, "path": "/"}, "config.invalid-option"),
        ({"secret": SECRET, "path": "/a/../b"}, "config.invalid-option"),
        ({"secret": SECRET, "prices": {"ext:google": {"reads": "-1"}}}, "config.invalid-option"),
    ],
)
def test_options_that_protect_nothing_are_refused(options: dict[str, Any], code: str) -> None:
    """A short secret, an audience without users, a path that is none."""
    with pytest.raises(ConfigError) as caught:
        ConsoleOptions(**options)
    assert caught.value.code == code
    assert SECRET not in str(caught.value)
    assert "BEAKER_CONSOLE_" in str(caught.value) or "prices" in options


def test_the_secret_lets_in() -> None:
    """As the password of Basic under any name, or as a bearer; it is not in the page and not in the options' repr."""
    browser = site()
    assert SECRET not in repr(ConsoleOptions(secret=SECRET))
    for sent in (LET_IN, basic(SECRET, ""), {"HTTP_AUTHORIZATION": f"bearer {SECRET}"}):
        page = browser.get("/_beaker/", **sent)
        assert page.status == "200 OK"
        assert SECRET not in page.text


@pytest.mark.parametrize(
    "environ",
    [
        {},
        basic("wrong"),
        basic(SECRET[:-1]),
        basic(SECRET + "x"),
        basic(""),
        {"HTTP_AUTHORIZATION": f"Basic {SECRET}"},
        {"HTTP_AUTHORIZATION": "Basic " + base64.b64encode(SECRET.encode()).decode()},
        {"HTTP_AUTHORIZATION": "Basic ?"},
        {"HTTP_AUTHORIZATION": "Bearer"},
        {"HTTP_AUTHORIZATION": f"Digest {SECRET}"},
        {"HTTP_AUTHORIZATION": "Bearer " + "x" * 100_000},
        {"HTTP_AUTHORIZATION": "Bearer \xff\xfe"},
        {"QUERY_STRING": f"secret={SECRET}"},
        {"HTTP_COOKIE": f"secret={SECRET}"},
        ADMIN,
        {ASSERTION: "a.b.c"},
    ],
)
def test_whoever_is_kept_out_learns_nothing(environ: dict[str, str]) -> None:
    """One 401 for whatever is wrong, on any address and by any method, with the headers of a refusal."""
    browser = site()
    answers = [
        browser.request(method, path, b"action=purge", **environ)
        for path in ("/_beaker", "/_beaker/", "/_beaker/x", "/_beaker//x", "/_beaker/../")
        for method in ("GET", "POST", "PUT", "OPTIONS", "TRACE")
    ]
    assert {(answer.status, answer.text) for answer in answers} == {("401 Unauthorized", "unauthorized\n")}
    assert {answer.header("WWW-Authenticate") for answer in answers} == {
        'Basic realm="Beaker console", charset="UTF-8"'
    }
    assert {answer.header("Cache-Control") for answer in answers} == {"no-store"}


def test_administrators_are_known_on_app_engine_only() -> None:
    """There the front end owns the header; elsewhere a visitor can send it, and it is worth nothing."""
    browser = site(appengine_admin=True, runtime=APPENGINE)
    assert browser.get("/_beaker/", **ADMIN).status == "200 OK"
    for value in ("0", "true", "0,1", "1,1", ""):
        assert browser.get("/_beaker/", HTTP_X_APPENGINE_USER_IS_ADMIN=value).status == "403 Forbidden"
    for platform in Platform:
        if platform is not Platform.APPENGINE:
            runtime = Runtime(platform=platform)
            with pytest.raises(ConfigError, match="administrators"):
                Console(ConsoleOptions(appengine_admin=True), runtime=runtime)
            both = site(appengine_admin=True, secret=SECRET, runtime=runtime)
            assert both.get("/_beaker/", **ADMIN).status == "401 Unauthorized"


def assertion(private: Any, **changed: Any) -> str:
    from google.auth import crypt, jwt

    now = int(time.time())
    claims = {"iss": "https://cloud.google.com/iap", "aud": AUDIENCE, "email": "ann@example.com", "sub": "x"}
    signer = crypt.EsSigner(private, "kid-1")
    return str(jwt.encode(signer, {**claims, "iat": now, "exp": now + 600, **changed}).decode())


def test_assertions_of_the_proxy_are_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """google-auth checks the signature with the proxy's key; audience, issuer, user and time count, too."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from google.auth.transport import requests

    ours, foreign = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    public = ours.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    fetched: list[str] = []

    class Reply:
        status = 200
        data = json.dumps({"kid-1": public.decode()}).encode()

    class Request:
        def __call__(self, url: str, **more: Any) -> Reply:
            fetched.append(url)
            assert more["timeout"] == 5
            return Reply()

    monkeypatch.setattr(requests, "Request", Request)
    assert verify_iap_assertion(assertion(ours), AUDIENCE)["email"] == "ann@example.com"
    assert fetched == ["https://www.gstatic.com/iap/verify/public_key"]
    browser = site(iap_audience=AUDIENCE, iap_users=("ann@example.com",))
    page = browser.get("/_beaker/", **{ASSERTION: assertion(ours)})
    assert page.status == "200 OK"
    assert "ann@example.com" in page.text
    fetched.clear()
    wrong = [
        assertion(ours, email="eve@example.com"),
        assertion(ours, aud="/projects/9/apps/other"),
        assertion(ours, iss="https://accounts.google.com"),
        assertion(ours, email=["ann@example.com"]),
        "a.b.c",
        "x" * 100_000,
    ]
    for sent in wrong:
        assert browser.get("/_beaker/", **{ASSERTION: sent}).status == "403 Forbidden"
    # Nothing is fetched for an assertion that claims something else.
    assert fetched == []
    for sent in (assertion(foreign), assertion(ours, exp=int(time.time()) - 60), assertion(ours)[:-4] + "AAAA"):
        assert browser.get("/_beaker/", **{ASSERTION: sent}).status == "403 Forbidden"


def test_a_proxy_that_cannot_be_asked_lets_nobody_in(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the check raises, the visitor stays outside and the log names the kind of failure only."""

    def verify(token: str, audience: str) -> Any:
        raise OSError(token)

    claims = base64.urlsafe_b64encode(
        json.dumps({"iss": "https://cloud.google.com/iap", "aud": AUDIENCE, "email": "ann@example.com"}).encode()
    ).decode()
    guard = Guard(ConsoleOptions(iap_audience=AUDIENCE, iap_users=("ann@example.com",)), APPENGINE, verify)
    assert guard.way({ASSERTION: f"x.{claims}.y"}) is None
    assert "OSError" in caplog.text
    assert claims not in caplog.text
