"""What a button of the page sends: bounded, and proved to come from the page itself."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

from beaker._typing import Environ
from beaker.crypto.keyring import lp

__all__ = ["LARGEST", "Forms", "Refused"]

LARGEST = 4_096
"""Bytes of a form."""
_SECONDS = 12 * 3600
_KIND = "application/x-www-form-urlencoded"


class Refused(Exception):
    """A form that is not carried out: a status and a sentence."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(status)
        self.status = status
        self.text = text


class Forms:
    """Gives out tokens and reads forms that bring one back.

    A token is signed with ``key()``, for whoever was let in and for 12 hours: another site can have a browser send a
    form with the password that it remembers, and cannot read the token out of the page.
    """

    def __init__(self, key: Callable[[], bytes] | None = None, clock: Callable[[], float] = time.time) -> None:
        own = secrets.token_bytes(32)
        self._key = key or (lambda: own)
        self._clock = clock

    def token(self, way: str) -> str:
        """What the forms of a page for ``way`` hold."""
        return self._signed(way, int(self._clock()))

    def read(self, environ: Environ, way: str) -> dict[str, str]:
        """The fields of the form in ``environ``. Raises Refused; nothing is read of a body that is too large."""
        _check_source(environ)
        fields = _fields(environ)
        token = fields.pop("token", "")
        issued = token.partition(".")[0]
        old = not (issued.isascii() and issued.isdigit() and len(issued) < 16)
        when = 0 if old else int(issued)
        if not hmac.compare_digest(self._signed(way, when).encode(), token.encode()):
            raise Refused("403 Forbidden", "This form did not come from this page. Load the page again, and try again.")
        if not 0 <= self._clock() - when < _SECONDS:
            raise Refused("403 Forbidden", "This form is out of date. Load the page again, and try again.")
        return fields

    def _signed(self, way: str, when: int) -> str:
        return f"{when}.{hmac.digest(self._key(), lp('gae.console', way, str(when)), 'sha256').hex()}"


def _check_source(environ: Environ) -> None:
    site, origin = environ.get("HTTP_SEC_FETCH_SITE"), environ.get("HTTP_ORIGIN")
    if site is not None and site != "same-origin":
        raise Refused("403 Forbidden", "A form of another site is not carried out.")
    # "null" is what a browser sends for a page without a referrer, as this one is; then the token alone decides.
    if origin not in (None, "null") and urlsplit(str(origin)).netloc != environ.get("HTTP_HOST"):
        raise Refused("403 Forbidden", "A form of another site is not carried out.")


def _fields(environ: Environ) -> dict[str, str]:
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != _KIND:
        raise Refused("415 Unsupported Media Type", "A form is expected.")
    length = environ.get("CONTENT_LENGTH") or ""
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        raise Refused("411 Length Required", "A form with its length is expected.")
    if int(length) > LARGEST:
        raise Refused("413 Content Too Large", f"A form has at most {LARGEST} bytes.")
    data: bytes = environ["wsgi.input"].read(int(length))
    try:
        return dict(parse_qsl(data.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=10))
    except ValueError:
        raise Refused("400 Bad Request", "That form cannot be read.") from None
