"""What programs ask a session for besides the manual's names: its store, its cookie, whether it has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from beaker.session.exchange import Cookie
from beaker.session.own_cookie import OwnCookie

if TYPE_CHECKING:
    from http.cookies import SimpleCookie

    from beaker.session.session_namespace import SessionNamespace

__all__ = ["OlderNames"]


class OlderNames(OwnCookie):
    """Names of Beaker up to 1.14, for sessions of every type."""

    @property
    def key(self: Any) -> str:
        """Name of the cookie."""
        return str(self._context.cookie.name)

    @property
    def cookie(self: Any) -> SimpleCookie:
        """The cookies that lead to the session, ready to send: ``session.cookie[session.key]``.

        Those that this response needs, else as they would be sent again. Empty for a session that was not saved yet,
        or has ended.
        """
        from http.cookies import SimpleCookie

        jar = SimpleCookie()
        lines = self._cookie_lines()
        if not lines and self._is_sendable:
            lines = self._leading()
        for line in lines:
            # An attribute that http.cookies does not know yet would make it drop the whole line.
            jar.load(line.replace("; Partitioned", ""))
        return jar

    @property
    def namespace(self: Any) -> SessionNamespace:
        """The session as a namespace with the one key ``session``; ``remove()`` ends it."""
        from beaker.session.session_namespace import SessionNamespace

        return SessionNamespace(self)

    @property
    def request(self: Any) -> Any:
        """What a Session of the program's own was given, which has ``set_cookie`` and ``cookie_out`` after a save.

        Under a middleware: a new dict that says what cookie the response needs by now.
        """
        exchange = self._exchange
        if exchange.is_own:
            return exchange.request
        lines = self._due()
        return {
            "cookie": exchange.sent.header or "",
            "set_cookie": bool(lines),
            "cookie_out": lines[0] if lines else None,
        }

    @property
    def _is_sendable(self: Any) -> bool:
        return self._place is not None and not self._ended and self._context.options.use_cookies

    def _set_cookie_expires(self: Any, expires: Any = None) -> Any:
        """Set :attr:`cookie_expires`, if ``expires`` is given, and return it."""
        if expires is not None:
            self.cookie_expires = expires
        return self.cookie_expires

    def _set_cookie_values(self: Any, expires: Any = None) -> None:
        """:meth:`_set_cookie_expires`: the cookie's value and flags are always up to date."""
        self._set_cookie_expires(expires)

    def _update_cookie_out(self: Any, set_cookie: bool = True) -> None:
        """Send the cookie with this response even if the browser has it; one of a session saved later comes anyway."""
        if set_cookie and self._cookie is Cookie.KEEP and self._is_sendable:
            self._cookie = Cookie.SEND if self._is_stored else Cookie.RESEAL
        self._exchange.note(self._due())

    def _due(self: Any) -> list[str]:
        """The Set-Cookie values of this response; those of a session that is still to be saved as they are now."""
        lines: list[str] = self._cookie_lines()
        return self._leading() if not lines and self._cookie is Cookie.RESEAL and self._is_sendable else lines

    def _set_domain(self: Any, domain: str | None) -> None:
        """Set :attr:`domain`, if there is one."""
        if domain is not None:
            self.domain = domain

    def _set_path(self: Any, path: str | None) -> None:
        """Set :attr:`path`, if there is one."""
        if path is not None:
            self.path = path

    def dirty(self: Any) -> bool:
        """Whether there are changes that were not saved."""
        return bool(self._is_changed())
