"""What revocations have to say of a session."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["ALIVE", "Standing"]


class Standing(NamedTuple):
    """When a session was revoked, ``None`` if it was not, and the serial from which on its cookies carry it."""

    revoked: float | None
    serial: int = 0


ALIVE: Final = Standing(None)
"""The standing of a session that was not revoked, and that each of its cookies carries."""
