"""Who a request comes from, as far as the platform or a secret proves it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from beaker._typing import Environ
from beaker.exceptions import InvalidCacheBackendError
from beaker.runtime import Runtime
from gae.console_options import ConsoleOptions
from gae.handlers import LONGEST_TOKEN, Verify, bounded, unverified

__all__ = ["Guard", "verify_iap_assertion"]

_ISSUER = "https://cloud.google.com/iap"
_CERTIFICATES = "https://www.gstatic.com/iap/verify/public_key"

log = logging.getLogger("gae")


class Guard:
    """Lets in whom one of the ways of ``options`` admits.

    ``verify`` replaces the check of Identity-Aware Proxy's assertions. Raises ConfigError, code
    ``config.open-console``, when App Engine's administrators are all that is configured and this is not App Engine's
    standard environment.
    """

    def __init__(self, options: ConsoleOptions, runtime: Runtime, verify: Verify | None = None) -> None:
        self._options = options
        self._verify = verify or verify_iap_assertion
        self._secret = None if options.secret is None else _digest(options.secret.encode())
        self._admins = options.knows_admins(runtime)

    @property
    def challenges(self) -> bool:
        """Whether a browser should ask for a password."""
        return self._secret is not None

    def way(self, environ: Environ) -> str | None:
        """``administrator``, the user's e-mail address, or ``secret``; ``None``: this request is not let in."""
        if self._admins and environ.get("HTTP_X_APPENGINE_USER_IS_ADMIN") == "1":
            return "administrator"
        user = self._user(environ.get("HTTP_X_GOOG_IAP_JWT_ASSERTION", ""))
        if user is not None:
            return user
        return "secret" if self._knows_secret(environ.get("HTTP_AUTHORIZATION", "")) else None

    def _knows_secret(self, header: str) -> bool:
        if self._secret is None:
            return False
        # What is compared has one length, whatever was sent, and a malformed header takes the same way.
        return hmac.compare_digest(_digest(_password(header)), self._secret)

    def _user(self, assertion: str) -> str | None:
        # Checking a signature fetches certificates: only for an assertion that claims what it should.
        if not assertion or not self._options.iap_users or self._named(unverified(assertion)) is None:
            return None
        try:
            claims = self._verify(assertion, str(self._options.iap_audience))
        except InvalidCacheBackendError as error:
            log.error("console: %s", error)
            return None
        except Exception as error:
            log.warning("console: an assertion was refused (%s)", type(error).__name__)
            return None
        return self._named(claims)

    def _named(self, claims: Mapping[str, Any]) -> str | None:
        email = claims.get("email")
        ours = claims.get("iss") == _ISSUER and claims.get("aud") == self._options.iap_audience
        return email if ours and isinstance(email, str) and email in self._options.iap_users else None


def verify_iap_assertion(assertion: str, audience: str) -> Mapping[str, Any]:
    """The claims of ``X-Goog-IAP-JWT-Assertion``, signed for ``audience``. Raises what google-auth raises.

    https://cloud.google.com/iap/docs/signed-headers-howto. InvalidCacheBackendError when google-auth (extra ``google``)
    or cryptography is not installed.
    """
    try:
        id_token: Any = import_module("google.oauth2.id_token")
        requests: Any = import_module("google.auth.transport.requests")
        import_module("google.auth.crypt.es256")
    except ImportError as error:
        raise InvalidCacheBackendError(
            "assertions of Identity-Aware Proxy are checked by google-auth and cryptography",
            option="BEAKER_CONSOLE_IAP_AUDIENCE",
            hint="pip install 'beaker-gae[google,crypto]'",
            code="config.missing-package",
        ) from error
    claims: Mapping[str, Any] = id_token.verify_token(
        assertion, bounded(requests.Request()), audience=audience, certs_url=_CERTIFICATES
    )
    return claims


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _password(header: str) -> bytes:
    scheme, _, rest = header[:LONGEST_TOKEN].partition(" ")
    sent = rest.strip().encode("latin-1", "replace")
    if scheme.lower() == "bearer":
        return sent
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(sent, validate=True).partition(b":")[2]
    except ValueError:
        return b""
