"""What moves sessions between the application and where they live: a store, the cookie, or both by turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from beaker.session.values import Packed

if TYPE_CHECKING:
    from beaker.session.base import BaseSession

__all__ = ["Carrier"]


class Carrier(Protocol):
    """Where sessions of one configuration live. Stateless: everything is in the session given."""

    def fetch(self, session: BaseSession, header: str | None) -> None:
        """Find the session the Cookie header names and :meth:`BaseSession.adopt` it, if there is one."""
        ...

    def fetch_id(self, session: BaseSession, id: bytes) -> None:
        """The same by raw id."""
        ...

    def save(self, session: BaseSession, packed: Packed) -> None:
        """Make the store (or the cookie) hold ``packed``."""
        ...

    def touch(self, session: BaseSession) -> None:
        """Record the access, changing nothing else."""
        ...

    def refresh(self, session: BaseSession) -> None:
        """Take in what others saved since the session was loaded."""
        ...

    def kill(self, session: BaseSession) -> None:
        """End the session's identity now, so that its cookie opens nothing from here on."""
        ...

    def cookies(self, session: BaseSession) -> list[tuple[str, str]]:
        """Names and values of the cookies that lead to the session."""
        ...
