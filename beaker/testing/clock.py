"""A clock that moves only when told."""

from __future__ import annotations

__all__ = ["FakeClock"]


class FakeClock:
    """Call it for seconds since the epoch; :meth:`advance` moves it. Pass it as any ``clock=``."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.seconds = start

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Move by ``seconds``; a negative number is a clock set back."""
        self.seconds += seconds
