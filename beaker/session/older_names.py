"""What programs ask a session for besides the manual's names: its store, its cookie, whether it has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from http.cookies import SimpleCookie

    from beaker.session.session_namespace import SessionNamespace

__all__ = ["OlderNames"]


class OlderNames:
    """Names of Beaker up to 1.14, for sessions of every type."""

    @property
    def key(self: Any) -> str:
        """Name of the cookie."""
        return str(self._context.cookie.name)

    @property
    def cookie(self: Any) -> SimpleCookie:
        """The cookies this response needs, ready to send: ``session.cookie[session.key]``. Empty when it needs none."""
        from http.cookies import SimpleCookie

        jar = SimpleCookie()
        for line in self._cookie_lines():
            # An attribute that http.cookies does not know yet would make it drop the whole line.
            jar.load(line.replace("; Partitioned", ""))
        return jar

    @property
    def namespace(self: Any) -> SessionNamespace:
        """The session as a namespace with the one key ``session``; ``remove()`` ends it."""
        from beaker.session.session_namespace import SessionNamespace

        return SessionNamespace(self)

    def dirty(self: Any) -> bool:
        """Whether there are changes that were not saved."""
        return bool(self._is_changed())
