"""One session as the manager of a namespace, for programs of Beaker up to 1.14."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from beaker.caching.namespace import NamespaceManager

__all__ = ["SessionNamespace"]

_KEY = "session"


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
