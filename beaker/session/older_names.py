"""What programs ask a session for besides the manual's names: its store, its cookie, whether it has changed."""

from __future__ import annotations

from collections.abc import Iterable
from http.cookies import SimpleCookie
from typing import Any

from beaker.caching.namespace import NamespaceManager

__all__ = ["OlderNames", "SessionNamespace"]

_KEY = "session"


class OlderNames:
    """Names of Beaker up to 1.14, for sessions of every type."""

    @property
    def key(self: Any) -> str:
        """Name of the cookie."""
        return str(self._context.cookie.name)

    @property
    def cookie(self: Any) -> SimpleCookie:
        """The cookies this response needs, ready to send: ``session.cookie[session.key]``. Empty when it needs none."""
        jar = SimpleCookie()
        for line in self._cookie_lines():
            # An attribute that http.cookies does not know yet would make it drop the whole line.
            jar.load(line.replace("; Partitioned", ""))
        return jar

    @property
    def namespace(self: Any) -> SessionNamespace:
        """The session as a namespace with the one key ``session``; ``remove()`` ends it."""
        return SessionNamespace(self)

    def dirty(self: Any) -> bool:
        """Whether there are changes that were not saved."""
        return bool(self._is_changed())


class SessionNamespace(NamespaceManager):
    """One session, as programs use the manager behind it: ``["session"]`` are its values, ``remove()`` ends it.

    It is no way to another session's data: records are sealed and named by a digest.
    """

    def __init__(self, session: Any) -> None:
        super().__init__(session.id)
        self._session = session

    def __getitem__(self, key: str) -> Any:
        if key != _KEY:
            raise KeyError(key)
        return dict(self._session)

    def __setitem__(self, key: str, value: Any) -> None:
        if key != _KEY:
            raise KeyError(key)
        self._session.clear()
        self._session.update(value)
        self._session.save()

    def __contains__(self, key: object) -> bool:
        return key == _KEY and not self._session.is_new

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._session.delete()

    def keys(self) -> Iterable[str]:
        return [_KEY] if _KEY in self else []

    def do_remove(self) -> None:
        self._session.delete()
