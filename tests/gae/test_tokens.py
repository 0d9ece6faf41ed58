"""Google's OIDC tokens, checked by google-auth against certificates that it fetches; only the fetching is replaced."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from beaker.exceptions import InvalidCacheBackendError
from beaker.runtime import Runtime
from beaker.testing import Browser
from gae.handlers import PURGE, Handlers, verify_google_token
from gae.settings import Tasks

AUDIENCE, ACCOUNT = "https://shop.example", "purger@demo.iam.gserviceaccount.com"
TASKS = Tasks(audience=AUDIENCE, service_accounts=(ACCOUNT,))


def made_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return made_key()


@pytest.fixture
def fetched(key: rsa.RSAPrivateKey, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Google's certificates are those of ``key``; returns the addresses they are fetched from."""
    import google.auth.transport.requests

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon")])
    now = dt.datetime.now(dt.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    asked: list[str] = []

    def send(url: str, *args: Any, timeout: float, **kwargs: Any) -> Any:
        assert timeout <= 5, "a scheduler must not hold a worker for long"
        asked.append(url)
        return SimpleNamespace(status=200, headers={}, data=json.dumps({"k1": certificate}).encode())

    monkeypatch.setattr(google.auth.transport.requests, "Request", lambda: send)
    return asked


def token(key: rsa.RSAPrivateKey, **changed: Any) -> str:
    """What Cloud Scheduler sends, with ``changed`` claims."""
    from google.auth import crypt, jwt

    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    now = int(time.time())
    claims = {"iss": "https://accounts.google.com", "aud": AUDIENCE, "email": ACCOUNT, "email_verified": True}
    signer = crypt.RSASigner.from_string(pem, key_id="k1")
    signed: bytes = jwt.encode(signer, {**claims, "iat": now, "exp": now + 3600, **changed})
    return signed.decode()


def purged(sent: str) -> bool:
    browser = Browser(Handlers(lambda environ, start: [], runtime=Runtime(), tasks=TASKS, stores=list))
    return browser.post(PURGE, HTTP_AUTHORIZATION=f"Bearer {sent}").status == "200 OK"


def test_a_token_that_google_signed_starts_a_purge(key: rsa.RSAPrivateKey, fetched: list[str]) -> None:
    """Signature, audience and account are all valid."""
    assert purged(token(key))
    assert len(fetched) == 1
    assert fetched[0].startswith("https://www.googleapis.com/")


@pytest.mark.parametrize(
    "changed",
    [{"exp": int(time.time()) - 3600, "iat": int(time.time()) - 7200}, {"iss": "https://evil.example"}],
    ids=["expired", "another issuer"],
)
def test_a_signed_token_that_is_not_good_is_refused(
    key: rsa.RSAPrivateKey, fetched: list[str], changed: dict[str, Any]
) -> None:
    """It was signed by Google's key, and has expired or was issued by another issuer."""
    assert not purged(token(key, **changed))
    assert fetched


def test_a_forged_token_is_refused(key: rsa.RSAPrivateKey, fetched: list[str]) -> None:
    """Signed by another key, changed afterwards, or not signed at all."""
    head, body, signature = token(key).split(".")
    none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIiwia2lkIjoiazEifQ"
    for forged in (token(made_key()), f"{head}.{body}.{signature[:-8]}AAAAAAAA", f"{none}.{body}.", f"{head}.{body}."):
        assert not purged(forged)
    other = token(key, email="someone@demo.iam.gserviceaccount.com").split(".")[1]
    assert not purged(f"{head}.{other}.{signature}")


def test_tokens_for_others_fetch_nothing(key: rsa.RSAPrivateKey, fetched: list[str]) -> None:
    """A valid signature for another audience or of another account is refused before anything is fetched."""
    assert not purged(token(key, aud="https://other.example"))
    assert not purged(token(key, email="someone@demo.iam.gserviceaccount.com"))
    assert fetched == []


def test_without_google_auth_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """Every token is refused, and the log says what to install."""
    monkeypatch.setitem(sys.modules, "google.oauth2.id_token", None)
    with pytest.raises(InvalidCacheBackendError, match="google-auth"):
        verify_google_token("x.y.z", AUDIENCE)
    claims = "eyJhdWQiOiJodHRwczovL3Nob3AuZXhhbXBsZSIsImVtYWlsIjoicHVyZ2VyQGRlbW8uaWFtLmdzZXJ2aWNlYWNjb3VudC5jb20ifQ"
    assert not purged(f"h.{claims}.s")
    assert "pip install 'beaker-gae[google]'" in caplog.text
