"""One request and its response, as far as the session's cookie is concerned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from beaker.config.coerce import wrong
from beaker.session.cookies import SessionCookie, part_name, read_cookie

__all__ = ["Cookie", "Exchange", "Sent", "header_of"]


class Cookie(Enum):
    """What the response has to do about the session's cookie."""

    KEEP = "keep"
    """Nothing: the browser has the right one."""
    RESEAL = "reseal"
    """The session must be saved once more, for the sake of its cookie: old key, other domain or path, taken over."""
    SEND = "send"
    """Send the cookie that leads to the session."""
    CLEAR = "clear"
    """The session was deleted: tell the browser to forget its cookie."""


class Sent(NamedTuple):
    """What a request sent of a session: a Cookie header, or instead the raw ``id`` that a caller asks for.

    ``began`` is when the request began and ``now`` when its session was first used, in seconds since the epoch.
    ``foreign`` picks the cookie values that an older Beaker wrote: those are not opened as ours.
    """

    header: str | None
    id: bytes | None
    began: float
    now: float
    foreign: Callable[[str], bool] | None = None

    def __repr__(self) -> str:
        return "<Sent>"


class Exchange:
    """What a request sent, what its response has to say, and the Set-Cookie lines that say it.

    ``request`` is a WSGI environ, or a dict whose ``cookie`` is a Cookie header. ``chunks`` is over how many cookies
    a session may be spread.
    """

    answered = False
    """Whether the headers are out, so that no cookie can be sent any more."""
    issued: float | None = None
    """When the browser's cookie was sent, in seconds since the epoch; ``None``: that is unknown."""
    old_cookies: tuple[str, ...] = ()
    """Names of the cookies of an older Beaker that the browser is to drop."""
    scope: tuple[Any, Any] | None = None
    """Domain and path of the cookie that the request brought, as its session has them; ``None``: unknown."""

    def __init__(self, request: Mapping[str, Any], sent: Sent, cookie: SessionCookie, chunks: int) -> None:
        self.request: Any = request
        self.sent = sent
        self._cookie = cookie
        self._chunks = chunks

    @property
    def presented(self) -> bool:
        """Whether the request brought a cookie that may be one of ours, or one of an older Beaker that led here."""
        return bool(self.old_cookies or self.parts)

    @property
    def parts(self) -> list[int]:
        """Which of a session's cookies the request brought, by number; a browser may drop any of several by itself."""
        header, name = self.sent.header, self._cookie.name
        return [i for i in range(self._chunks) if read_cookie(header, part_name(name, i))]

    @property
    def _secure(self) -> bool:
        return bool(self.request.get("wsgi.url_scheme") == "https")

    def is_stale(self, interval: float) -> bool:
        """Whether the browser's cookie should be sent again: it is ``interval`` seconds old."""
        if self.answered:
            return False
        # A date that lies as far ahead of this clock says nothing either.
        return self.issued is None or abs(self.sent.now - self.issued) >= interval

    def lines(
        self, cookies: Iterable[tuple[str, str]], *, domain: str | None, path: str, expires: Any = None
    ) -> list[str]:
        """The Set-Cookie values that send ``cookies``: names and values, an empty one for a spare name."""
        cookie, secure, now = self._cookie, self._secure, self.sent.now
        lines = []
        for i, (name, value) in enumerate(cookies):
            if value:
                lines.append(
                    cookie.line(value, name=name, secure=secure, now=now, domain=domain, path=path, expires=expires)
                )
            elif i in self.parts:
                # A browser that never had the further chunks need not be told to drop them.
                lines.append(cookie.clearing(name=name, secure=secure, now=now, domain=domain, path=path))
        for name in self.old_cookies:
            lines.append(cookie.clearing(name=name, secure=secure, now=now, domain=domain, path=path))
        return lines

    def clearing(self) -> list[str]:
        """The Set-Cookie values that make the browser forget what it sent: none if it sent nothing."""
        if not self.presented:
            return []
        cookie, secure, now = self._cookie, self._secure, self.sent.now
        domain, path = self.scope or (None, None)
        domain, path = cookie.domain_or_default(domain), cookie.path_or_default(path)
        names = [*(part_name(cookie.name, i) for i in self.parts or [0]), *self.old_cookies]
        return [cookie.clearing(secure=secure, now=now, name=name, domain=domain, path=path) for name in names]

    @property
    def is_own(self) -> bool:
        """Whether the request is a dict of the program's own and no WSGI environ."""
        return isinstance(self.request, dict) and "wsgi.url_scheme" not in self.request

    def note(self, lines: list[str]) -> None:
        """Leave the first line in a request that is no WSGI environ, as ``cookie_out`` (manual 5.1.4)."""
        if self.is_own:
            self.request["set_cookie"] = bool(lines)
            self.request["cookie_out"] = lines[0] if lines else None


def header_of(cookies: object) -> str:
    """A Cookie header of what a program put into a request for one: a jar of ``http.cookies``, or a mapping to texts.

    Raises ConfigError for anything else.
    """
    if not isinstance(cookies, Mapping):
        raise wrong("cookie", cookies, "a Cookie header as text, a cookie jar, or a mapping of names to texts")
    pairs = ((name, getattr(value, "coded_value", value)) for name, value in cookies.items())
    return "; ".join(f"{name}={value}" for name, value in pairs)
