"""A cookie jar whose values are signed, beside sessions (manual 5.1.4)."""

from __future__ import annotations

from collections.abc import Iterator
from http.cookies import Morsel, SimpleCookie
from typing import Any

from beaker.counters import count
from beaker.crypto.keyring import KeyRing
from beaker.crypto.tokens import BadToken, DataTokens
from beaker.session.cookies import HEADER_MAX, is_token

__all__ = ["SignedCookie"]


class SignedCookie(SimpleCookie):
    """A cookie jar whose values are signed (manual 5.1.4).

    ``SignedCookie(secret, input=None)``: ``jar[name] = text`` signs, ``load`` and ``input`` verify. A value
    that does not verify under its own name is left out. The signature is HMAC-SHA-256 over name and value;
    ``secret`` is a key of at least 16 bytes, or a list of them (first signs, all verify).
    """

    def __init__(self, secret: Any, input: str | dict[str, str] | None = None) -> None:
        self._ring = KeyRing.from_option(secret, option="secret")
        super().__init__()
        if input:
            self.load(input)

    def __repr__(self) -> str:
        return f"<SignedCookie of {len(self)} cookies>"

    def _tokens(self, name: str) -> DataTokens:
        return DataTokens(self._ring, name, encrypt=False, clock=lambda: 0.0)

    def __setitem__(self, name: str, value: Any) -> None:
        if isinstance(value, Morsel):
            super().__setitem__(name, value)
            return
        token = self._tokens(name).seal(str(value).encode(), created=0.0, issued=0.0, expires=None)
        self._keep(name, str(value), token)

    def _keep(self, name: str, value: str, token: str) -> None:
        morsel: Morsel[str] = self.get(name, Morsel())
        morsel.set(name, value, token)
        super().__setitem__(name, morsel)

    def load(self, rawdata: Any) -> None:
        """Take the cookies of a Cookie header (text) or the plain values of a dict (they are signed)."""
        if isinstance(rawdata, str):
            for name, token in _pairs(rawdata):
                try:
                    self._keep(name, self._tokens(name).open(token).payload.decode(), token)
                except BadToken as bad:
                    count("bad_token", bad.reason)
                except UnicodeDecodeError:
                    # A session's, under the same name and key.
                    count("bad_token", "version")
        else:
            for name, value in rawdata.items():
                self[name] = value


def _pairs(header: str) -> Iterator[tuple[str, str]]:
    for part in header[:HEADER_MAX].split(";"):
        name, equals, value = part.partition("=")
        name = name.strip()
        if equals and is_token(name):
            yield name, value.strip().strip('"')
